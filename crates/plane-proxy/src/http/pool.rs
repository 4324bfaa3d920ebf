//! Connections to backends, kept alive: one pool per worker.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use hyper::client::conn::http1::{Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::body::RequestBody;
use crate::backend::{LiveBackend, Open};
use crate::send::poll_send;
use crate::worker::Worker;

/// Idle connections are kept this long, in ms.
const KEEP: u64 = 60_000;

/// Idle connections per backend and worker at most.
const MOST: usize = 256;

/// The socket of a connection to a backend; notes whether anything has come back.
pub(crate) struct BackendIo {
    stream: TcpStream,
    received: Rc<Cell<bool>>,
    worker: Rc<Worker>,
}

impl BackendIo {
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }
}

impl AsyncRead for BackendIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let io = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut io.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            io.received.set(true);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for BackendIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let io = self.get_mut();
        poll_send(&mut io.stream, cx, bufs, &io.worker.scratch)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// A connection to a backend. Whoever uses it drives it: it has no task of its own, so that a
/// request and its response pass through without a wake-up between tasks.
pub(crate) struct BackendConn {
    pub(crate) send: SendRequest<RequestBody>,
    http: Connection<TokioIo<BackendIo>, RequestBody>,
    open: Open,
    received: Rc<Cell<bool>>,
    ended: bool,
    idle_since: u64,
    reused: bool,
    /// The backend takes all that comes here to be of one client.
    personal: bool,
}

impl BackendConn {
    /// Wraps a fresh connection; a `personal` one is for one client's connection alone.
    pub(crate) async fn new(
        worker: &Rc<Worker>,
        stream: TcpStream,
        open: Open,
        personal: bool,
    ) -> Result<Self, hyper::Error> {
        let received = Rc::new(Cell::new(false));
        let io = TokioIo::new(BackendIo {
            stream,
            received: received.clone(),
            worker: worker.clone(),
        });
        let (send, http) = super::client_builder().handshake(io).await?;
        Ok(Self {
            send,
            http,
            open,
            received,
            ended: false,
            idle_since: 0,
            reused: false,
            personal,
        })
    }

    /// Lets hyper read and write; ready once the connection has ended or been upgraded.
    pub(crate) fn poll_drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.ended {
            self.ended = self.http.poll_without_shutdown(cx).is_ready();
        }
        if self.ended {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// It is not used again: what it may still send would answer nobody.
    pub(crate) fn condemn(&mut self) {
        self.ended = true;
    }

    /// Whether it is for one client's connection alone.
    pub(crate) fn is_personal(&self) -> bool {
        self.personal
    }

    /// Whether it has served a request before this one.
    pub(crate) fn is_reused(&self) -> bool {
        self.reused
    }

    /// Whether any byte has come back since [`BackendConn::expect`].
    pub(crate) fn has_received(&self) -> bool {
        self.received.get()
    }

    /// From here on a byte is part of the next response.
    pub(crate) fn expect(&mut self) {
        self.received.set(false);
    }

    /// The socket, and what was read from it and belongs to no message.
    pub(crate) fn into_upgraded(self) -> (TcpStream, bytes::Bytes, Open) {
        let parts = self.http.into_parts();
        (
            parts.io.into_inner().into_stream(),
            parts.read_buf,
            self.open,
        )
    }

    fn backend(&self) -> &Arc<LiveBackend> {
        self.open.backend()
    }

    /// Whether it can take a request: open, nothing unexpected received, no message half sent.
    fn is_usable(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.poll_drive(&mut cx).is_pending() && self.send.is_ready()
    }
}

/// Idle connections, of a worker or of one client's connection, by the backend's number; the last used is used first.
#[derive(Default)]
#[allow(
    clippy::vec_box,
    reason = "connections go to and fro between pool and requests"
)]
pub(crate) struct Pool(RefCell<HashMap<u64, Vec<Box<BackendConn>>, BuildHasherDefault<Number>>>);

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connections to {} backends", self.0.borrow().len())
    }
}

/// A hash for numbers that are handed out one after the other: themselves.
#[derive(Default)]
struct Number(u64);

impl Hasher for Number {
    fn finish(&self) -> u64 {
        // The table takes its tags from the upper bits.
        self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes
            .iter()
            .for_each(|b| self.0 = self.0 << 8 | u64::from(*b));
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

impl Pool {
    /// A connection that is alive, last used less than `idle_below` ms ago.
    pub(crate) fn take(
        &self,
        backend: &LiveBackend,
        now: u64,
        idle_below: u64,
    ) -> Option<Box<BackendConn>> {
        let mut pool = self.0.borrow_mut();
        let idle = pool.get_mut(&backend.id)?;
        loop {
            if now.saturating_sub(idle.last()?.idle_since) >= idle_below {
                return None;
            }
            let mut conn = idle.pop()?;
            if conn.is_usable() {
                return Some(conn);
            }
        }
    }

    /// Keeps a connection whose response has been read to its end.
    pub(crate) fn give(&self, mut conn: Box<BackendConn>, now: u64) {
        if conn.ended || conn.backend().is_retired() {
            return;
        }
        conn.reused = true;
        conn.idle_since = now;
        let mut pool = self.0.borrow_mut();
        let idle = pool.entry(conn.backend().id).or_default();
        if idle.len() < MOST {
            idle.push(conn);
        }
    }

    /// Closes all.
    pub(crate) fn clear(&self) {
        self.0.borrow_mut().clear();
    }

    /// Closes the longest idle connection to this backend. Whether there was one.
    pub(crate) fn evict(&self, backend: u64) -> bool {
        let mut pool = self.0.borrow_mut();
        let Some(idle) = pool.get_mut(&backend).filter(|idle| !idle.is_empty()) else {
            return false;
        };
        idle.remove(0);
        true
    }

    /// Closes connections that are dead, too long idle, or to backends out of use.
    pub(crate) fn sweep(&self, now: u64) {
        self.0.borrow_mut().retain(|_, idle| {
            idle.retain_mut(|conn| {
                now.saturating_sub(conn.idle_since) < KEEP
                    && !conn.backend().is_retired()
                    && conn.is_usable()
            });
            !idle.is_empty()
        });
    }
}
