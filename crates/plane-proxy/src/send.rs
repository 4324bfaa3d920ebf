//! Writing to sockets in the way that costs the kernel least.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use crate::worker::Scratch;

/// Up to so many bytes it costs less to copy them together than to have the kernel gather them.
const TOGETHER: usize = 4096;

/// Sends from several buffers as from one, if they are short; `scratch` is overwritten.
pub(crate) fn together<T>(
    bufs: &[IoSlice<'_>],
    scratch: &Scratch,
    send: impl FnOnce(&[u8]) -> T,
) -> Option<T> {
    if let [one] = bufs {
        return Some(send(one));
    }
    let total: usize = bufs.iter().map(|buf| buf.len()).sum();
    let mut scratch = scratch.borrow_mut();
    let together = scratch.get_mut(..total).filter(|_| total <= TOGETHER)?;
    let mut rest = &mut *together;
    for buf in bufs {
        let (to, after) = rest.split_at_mut_checked(buf.len()).unwrap_or_default();
        to.copy_from_slice(buf.get(..to.len()).unwrap_or_default());
        rest = after;
    }
    Some(send(together))
}

/// As `poll_write_vectored` of the stream, by `send` where that will do.
pub(crate) fn poll_send(
    stream: &mut TcpStream,
    cx: &mut Context<'_>,
    bufs: &[IoSlice<'_>],
    scratch: &Scratch,
) -> Poll<io::Result<usize>> {
    let sent = together(bufs, scratch, |bytes| {
        Pin::new(&mut *stream).poll_write(cx, bytes)
    });
    sent.unwrap_or_else(|| Pin::new(stream).poll_write_vectored(cx, bufs))
}
