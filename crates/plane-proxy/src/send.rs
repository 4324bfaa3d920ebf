//! Writing to sockets in the way that costs the kernel least.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

/// Up to so many bytes it costs less to copy them together than to have the kernel gather them.
const TOGETHER: usize = 4096;

/// As `poll_write_vectored` of the stream, by `send` where that will do. `scratch` is overwritten.
pub(crate) fn poll_send(
    stream: &mut TcpStream,
    cx: &mut Context<'_>,
    bufs: &[IoSlice<'_>],
    scratch: &RefCell<Box<[u8]>>,
) -> Poll<io::Result<usize>> {
    if let [one] = bufs {
        return Pin::new(stream).poll_write(cx, one);
    }
    let total: usize = bufs.iter().map(|buf| buf.len()).sum();
    let mut scratch = scratch.borrow_mut();
    let Some(together) = scratch.get_mut(..total).filter(|_| total <= TOGETHER) else {
        return Pin::new(stream).poll_write_vectored(cx, bufs);
    };
    let mut rest = &mut *together;
    for buf in bufs {
        let (to, after) = rest.split_at_mut_checked(buf.len()).unwrap_or_default();
        to.copy_from_slice(buf.get(..to.len()).unwrap_or_default());
        rest = after;
    }
    Pin::new(stream).poll_write(cx, together)
}
