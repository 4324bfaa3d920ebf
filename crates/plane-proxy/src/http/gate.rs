//! The client's side of an HTTP connection: lets through to hyper what [`Framing`] finds sound.
//!
//! A head is held back until it is complete, so that a client that sends it slowly costs no more
//! than its bytes. Instead of a head that is refused hyper gets a request of our own that the
//! service answers with the refusal: so the answer comes in its turn, after those to earlier
//! requests, and passes through the same code as every other.

mod awaited;
mod inlet;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;
use tokio::net::TcpStream;

use self::awaited::Awaited;
use self::inlet::Inlet;
use super::farewell::Farewell;
use super::framing::Then;
use crate::conn::{Conn, Phase};
use crate::socket::Socket;
use crate::worker::Worker;

/// The method of the request that stands for a refused one. A client may send it too, but cannot
/// set [`Gate::refusal`].
pub(crate) const REFUSED: &str = "PLIMSOLL-REFUSED";

/// The client's socket and what is known of what comes through it. Shared by hyper, which reads and
/// writes, the service, and the connection's task.
pub(crate) struct Gate {
    worker: Rc<Worker>,
    conn: Rc<Conn>,
    socket: RefCell<Socket>,
    inlet: RefCell<Inlet>,
    refusal: Cell<Option<u16>>,
    paused: Cell<bool>,
    early: Cell<bool>,
    unread: Cell<bool>,
    uploading: Cell<bool>,
    broken: Cell<bool>,
    broken_off: Cell<bool>,
    unflushed: Cell<bool>,
    /// Requests that hyper has given to the service.
    served: Cell<u64>,
    /// A body is being received.
    in_body: Cell<bool>,
    /// The client has closed, between requests.
    ended: Cell<bool>,
    /// Nothing has been read yet.
    untouched: Cell<bool>,
    /// How many requests hyper had given to the service when it was lent to the client.
    served_before: Cell<u64>,
    last: Cell<Last>,
    farewell: Cell<Farewell>,
    /// The kernel may hold back what was written.
    corked: Cell<bool>,
    awaited: Cell<Awaited>,
    /// How long the client is waited for in the middle of a body, in ms; 0 is no limit.
    patience: Cell<u64>,
    /// Bytes on their way to the client when it was last looked whether it takes any.
    queued: Cell<Option<u32>>,
}

/// Whether the client has sent a request that is the last by its own word, and has no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    No,
    /// hyper knows, and ends the connection after it.
    Told {
        /// The client has sent more, which nobody will read.
        more: bool,
    },
    /// hyper does not know, and so can serve another client after it. Saying so in the response and
    /// ending the connection is left to us.
    Hidden,
}

impl Gate {
    /// For a fresh connection; `header` is the time for a head, in ms.
    pub(crate) fn new(
        stream: std::net::TcpStream,
        worker: Rc<Worker>,
        conn: Rc<Conn>,
        header: u64,
    ) -> Self {
        Self {
            worker,
            conn,
            socket: RefCell::new(Socket::Fresh(stream)),
            inlet: RefCell::new(Inlet::new(header)),
            refusal: Cell::new(None),
            paused: Cell::new(false),
            early: Cell::new(false),
            unread: Cell::new(false),
            uploading: Cell::new(false),
            broken: Cell::new(false),
            broken_off: Cell::new(false),
            unflushed: Cell::new(false),
            served: Cell::new(0),
            in_body: Cell::new(false),
            ended: Cell::new(false),
            untouched: Cell::new(true),
            served_before: Cell::new(0),
            last: Cell::new(Last::No),
            farewell: Cell::default(),
            corked: Cell::new(false),
            awaited: Cell::default(),
            patience: Cell::new(0),
            queued: Cell::new(None),
        }
    }

    /// Takes the socket out of HTTP.
    pub(crate) fn take_stream(&self) -> Option<TcpStream> {
        self.uncork();
        self.socket.borrow_mut().take()
    }

    /// The address that the client connected to.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.socket.borrow().local_addr()
    }

    /// Waits for the next bytes without holding any buffer. A fresh connection is likely to have
    /// sent some: it is ready.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let first = self.untouched.replace(false);
        if first {
            Poll::Ready(Ok(()))
        } else {
            self.socket.borrow_mut().poll_readable(cx)
        }
    }

    /// Whether the client has closed or reset while it is being served; else this task is woken
    /// when it does.
    pub(crate) fn is_gone(&self, cx: &mut Context<'_>) -> bool {
        let mut socket = self.socket.borrow_mut();
        if self.in_body.get() {
            // Its end is found by reading, if somebody reads: a backend that does not must not keep
            // its place busy with a client that has reset.
            if !self.conn.is_slow() {
                return false;
            }
            self.conn.look_again();
            return socket.has_failed();
        }
        // Most answers are there before it would be worth while to watch for it.
        if socket.is_fresh() && !self.conn.is_slow() {
            return false;
        }
        match socket.poll_gone(cx) {
            Poll::Ready(true) => true,
            Poll::Ready(false) => {
                // The next request, which has to wait. A reset is seen at the next look.
                self.conn.look_again();
                false
            }
            Poll::Pending => false,
        }
    }

    /// The socket has taken all that was written: hyper flushes when, and only when, that is so.
    pub(crate) fn flushed(&self) {
        self.unflushed.set(false);
    }

    /// hyper, in which nothing is left of anybody, serves this client from now on.
    pub(crate) fn lend(&self) {
        self.served_before.set(self.served.get());
    }

    /// The service has been given a request.
    pub(crate) fn serve(&self) {
        self.served.set(self.served.get() + 1);
        if self.is_last() {
            self.farewell.set(Farewell::DUE);
        }
    }

    /// Whether the connection ends after the answer to the request that is being served, of which
    /// hyper knows nothing.
    pub(crate) fn is_last(&self) -> bool {
        self.last.get() == Last::Hidden
    }

    /// Whether the client has had all its answers and hyper holds nothing of it: all that was
    /// received and given on were whole messages, each has got to the service, and the socket has
    /// taken the responses to them. (hyper pauses between messages it has, to let others work.)
    pub(crate) fn is_at_rest(&self) -> bool {
        let inlet = self.inlet.borrow();
        inlet.framing.heads() == self.served.get()
            && inlet.ready.is_empty()
            && !self.unflushed.get()
            && !self.in_body.get()
            && !self.paused.get()
            && !self.has_unread()
    }

    /// Whether the client has closed between requests.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// The status with which the client's last head was refused.
    pub(crate) fn refusal(&self) -> Option<u16> {
        self.refusal.get()
    }

    /// Lets bytes through again after an upgrade was not granted.
    pub(crate) fn resume(&self) {
        if self.paused.replace(false) {
            self.early.set(false);
        }
    }

    /// Whether the client has sent bytes after a request for an upgrade without having the answer.
    pub(crate) fn sent_early(&self) -> bool {
        self.early.get() || self.socket.borrow().has_bytes()
    }

    /// A response was given before the request had been read to its end, or without trust in what
    /// follows. It says itself that it is the last, to hyper as well.
    pub(crate) fn set_unread(&self) {
        self.unread.set(true);
        self.farewell.set(self.farewell.get().cancel());
    }

    /// What nobody reads is the rest of a good request that its backend has answered.
    pub(crate) fn set_uploading(&self) {
        self.uploading.set(true);
    }

    /// Whether that is so.
    pub(crate) fn is_uploading(&self) -> bool {
        self.uploading.get()
    }

    /// The last response is a part that the client would take for the whole.
    pub(crate) fn break_off(&self) {
        self.broken_off.set(true);
    }

    /// Whether the client is to be told by a reset that the last response is not whole.
    pub(crate) fn is_broken_off(&self) -> bool {
        self.broken_off.get()
    }

    /// Whether this is so of a response that was given: it is the last.
    pub(crate) fn is_unread(&self) -> bool {
        self.unread.get()
    }

    /// Whether the client has sent, or is likely to be sending, what nobody will read.
    pub(crate) fn has_unread(&self) -> bool {
        self.unread.get()
            || self.refusal.get().is_some()
            || self.broken.get()
            || self.last.get() == Last::Told { more: true }
    }

    /// Reads for hyper.
    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inlet = self.inlet.borrow_mut();
        loop {
            if inlet.give(buf) {
                return Poll::Ready(Ok(()));
            }
            if self.refusal.get().is_some()
                || self.paused.get()
                || self.ended.get()
                || self.last.get() != Last::No
            {
                // Nothing more counts, or not before an answer, which wakes this task.
                return Poll::Pending;
            }
            if self.broken.get() {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the request's body is not framed as it should be",
                )));
            }
            if self.conn.phase() == Phase::Head && self.conn.take_expired() {
                self.refuse(&mut inlet, 408);
                continue;
            }
            if std::mem::take(&mut inlet.unjudged) {
                self.judge(&mut inlet);
                continue;
            }
            let before = buf.filled().len();
            let mut socket = self.socket.borrow_mut();
            match socket.poll_read(cx, buf, &self.worker.scratch) {
                Poll::Ready(read) => read?,
                Poll::Pending => {
                    if inlet.framing.in_body() {
                        self.wait(|awaited| awaited.bytes = true);
                    }
                    return Poll::Pending;
                }
            }
            drop(socket);
            self.went_on(|awaited| awaited.bytes = false);
            let read = buf.filled().get(before..).unwrap_or_default();
            if read.is_empty() {
                if inlet.framing.in_body() {
                    return Poll::Ready(Ok(()));
                }
                // hyper is not told: it can serve another client.
                self.ended.set(true);
            } else if inlet.held.is_empty() {
                let outcome = inlet.framing.feed(read);
                self.in_body.set(inlet.framing.in_body());
                if outcome.then != Then::More {
                    let rest = read.get(outcome.pass..).unwrap_or_default().to_vec();
                    buf.set_filled(before + outcome.pass);
                    if let Then::Last { close } = outcome.then {
                        let passed = buf.filled_mut().get_mut(before..).unwrap_or_default();
                        self.end_after(&inlet.framing, passed, close, &rest);
                    }
                    self.settle(&mut inlet, outcome.then, rest);
                }
                if outcome.pass > 0 {
                    return Poll::Ready(Ok(()));
                }
            } else {
                inlet.held.extend_from_slice(read);
                buf.set_filled(before);
                self.judge(&mut inlet);
            }
        }
    }

    /// Writes for hyper.
    pub(crate) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.unflushed.set(true);
        let mut socket = self.socket.borrow_mut();
        // Behind the last answer comes the end, which then needs no packet of its own.
        let cork = self.last.get() != Last::No && socket.is_fresh();
        self.corked.set(self.corked.get() || cork);
        let mut write =
            |bufs: &[io::IoSlice<'_>]| socket.poll_write(cx, bufs, cork, &self.worker.scratch);
        let mut farewell = self.farewell.get();
        let written = if farewell.is_over() {
            write(bufs)
        } else {
            let written = farewell.poll_write(bufs, write);
            self.farewell.set(farewell);
            written
        };
        if written.is_pending() {
            if !self.awaited.get().room {
                self.queued.set(socket.unacknowledged());
            }
            self.wait(|awaited| awaited.room = true);
        } else {
            self.went_on(|awaited| awaited.room = false);
        }
        written
    }

    /// What was written goes out now, since there is more to wait for.
    pub(crate) fn uncork(&self) {
        if self.corked.replace(false) {
            self.socket.borrow().push();
        }
    }
}
