//! Bytes both ways between two sockets until both have ended.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::access::End;
use crate::backend::LiveBackend;
use crate::conn::Conn;
use crate::splice::Pipe;
use crate::worker::Worker;

/// Reads that fill the whole buffer in a row before bytes are spliced.
const BULK_AFTER: u8 = 2;

/// A spliced read below this many bytes counts as small; as many in a row as [`BULK_AFTER`] and
/// bytes are copied again, which costs less for them.
const SMALL: usize = 16 * 1024;

/// Once a backend has closed, a client that says and takes nothing is given this long, in ms.
const LINGER: u64 = 30_000;

/// How a relay ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Both sides closed.
    Closed,
    /// The client's side broke: the backend is to be told by a reset, or it would take a part for the
    /// whole.
    ClientBroke,
    /// The backend's side broke: the client is to be told in the same way.
    BackendBroke,
    /// Nothing passed for the idle time-out.
    Idle,
    /// The backend's drain time-out passed.
    Cut,
    /// The lists of the service let the client in no more.
    Denied,
}

impl Ended {
    /// How the access log has it.
    pub(crate) fn code(&self) -> End {
        End::new(match self {
            Ended::Closed => *b"--",
            Ended::ClientBroke => *b"CD",
            Ended::BackendBroke => *b"SD",
            Ended::Idle => *b"sD",
            Ended::Cut => *b"KD",
            Ended::Denied => *b"PD",
        })
    }
}

/// Relays until the end. `first` goes to the client before all else; `idle` is in milliseconds.
pub(crate) async fn relay(
    worker: &Worker,
    conn: &Conn,
    backend: &LiveBackend,
    client: &mut TcpStream,
    server: &mut TcpStream,
    first: Bytes,
    idle: u64,
) -> Ended {
    let counts = backend.count(worker.id);
    let (mut client_read, mut client_write) = client.split();
    let (mut server_read, mut server_write) = server.split();
    let mut up = Way::new(Bytes::new());
    let mut down = Way::new(first);
    conn.set_deadline(worker.now(), idle);
    let ended = std::future::poll_fn(|cx| {
        conn.set_waker(cx.waker());
        if conn.is_cut() {
            return Poll::Ready(Ended::Cut);
        }
        if conn.is_denied() {
            return Poll::Ready(Ended::Denied);
        }
        if conn.take_expired() {
            return Poll::Ready(Ended::Idle);
        }
        let before = (up.moved, down.moved);
        let sent = up.poll(cx, worker, &mut client_read, &mut server_write);
        let received = down.poll(cx, worker, &mut server_read, &mut client_write);
        if before != (up.moved, down.moved) {
            counts.bytes_in.add(up.moved - before.0);
            counts.bytes_out.add(down.moved - before.1);
            conn.add_received(up.moved - before.0);
            conn.add_sent(down.moved - before.1);
            let limit = match (down.ended, idle) {
                (true, 0) => LINGER,
                (true, idle) => idle.min(LINGER),
                (false, idle) => idle,
            };
            conn.set_deadline(worker.now(), limit);
        }
        match (sent, received) {
            (Poll::Ready(Err(_)), _) if up.writing => Poll::Ready(Ended::BackendBroke),
            (Poll::Ready(Err(_)), _) => Poll::Ready(Ended::ClientBroke),
            (_, Poll::Ready(Err(_))) if down.writing => Poll::Ready(Ended::ClientBroke),
            (_, Poll::Ready(Err(_))) => Poll::Ready(Ended::BackendBroke),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Ended::Closed),
            (_, Poll::Ready(Ok(()))) => {
                if !down.told {
                    down.told = true;
                    conn.set_deadline(
                        worker.now(),
                        if idle == 0 { LINGER } else { idle.min(LINGER) },
                    );
                }
                Poll::Pending
            }
            _ => Poll::Pending,
        }
    })
    .await;
    up.finish(worker);
    down.finish(worker);
    ended
}

/// One direction.
struct Way {
    /// Read and not yet written.
    pending: Bytes,
    pipe: Option<Pipe>,
    /// Reads in a row that speak for the other way of moving bytes.
    streak: u8,
    moved: u64,
    ended: bool,
    done: bool,
    told: bool,
    /// What is being done is a write, so that an error is one of the side that is written to.
    writing: bool,
}

impl Way {
    fn new(pending: Bytes) -> Self {
        Self {
            pending,
            pipe: None,
            streak: 0,
            moved: 0,
            ended: false,
            done: false,
            told: false,
            writing: false,
        }
    }

    /// Moves what can be moved; ready when the reader has ended and the writer has been told.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        from: &mut ReadHalf<'_>,
        to: &mut WriteHalf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.done {
            return Poll::Ready(Ok(()));
        }
        loop {
            self.writing = true;
            while !self.pending.is_empty() {
                let n = ready!(Pin::new(&mut *to).poll_write(cx, &self.pending))?;
                drop(self.pending.split_to(n));
            }
            if let Some(pipe) = &mut self.pipe {
                while pipe.held() > 0 {
                    ready!(to.as_ref().poll_write_ready(cx))?;
                    would_block(
                        to.as_ref()
                            .try_io(Interest::WRITABLE, || pipe.empty(to.as_ref())),
                    )?;
                }
            }
            if self.ended {
                // The other side may be gone already, which is no news.
                let _ = ready!(Pin::new(&mut *to).poll_shutdown(cx));
                self.done = true;
                return Poll::Ready(Ok(()));
            }
            self.writing = false;
            match self.pipe {
                Some(_) => ready!(self.splice(cx, worker, from))?,
                None => ready!(self.copy(cx, worker, from, to))?,
            }
        }
    }

    fn splice(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        from: &mut ReadHalf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(pipe) = &mut self.pipe else {
            return Poll::Ready(Ok(()));
        };
        ready!(from.as_ref().poll_read_ready(cx))?;
        let filled = from
            .as_ref()
            .try_io(Interest::READABLE, || pipe.fill(from.as_ref()));
        match would_block(filled)? {
            None => {}
            Some(0) => self.ended = true,
            Some(n) => {
                self.moved += n as u64;
                self.streak = if n < SMALL {
                    self.streak.saturating_add(1)
                } else {
                    0
                };
            }
        }
        if self.streak >= BULK_AFTER && pipe.held() == 0 {
            self.finish(worker);
        }
        Poll::Ready(Ok(()))
    }

    fn copy(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        from: &mut ReadHalf<'_>,
        to: &mut WriteHalf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut scratch = worker.scratch.borrow_mut();
        let size = scratch.len();
        let mut buf = ReadBuf::new(&mut scratch);
        ready!(Pin::new(from).poll_read(cx, &mut buf))?;
        let read = buf.filled();
        if read.is_empty() {
            self.ended = true;
            return Poll::Ready(Ok(()));
        }
        self.moved += read.len() as u64;
        self.writing = true;
        let written = match Pin::new(to).poll_write(cx, read) {
            Poll::Ready(written) => written?,
            Poll::Pending => 0,
        };
        if let Some(rest) = read.get(written..).filter(|rest| !rest.is_empty()) {
            self.pending = Bytes::copy_from_slice(rest);
        }
        self.streak = if read.len() == size {
            self.streak.saturating_add(1)
        } else {
            0
        };
        if self.streak >= BULK_AFTER {
            self.streak = 0;
            self.pipe = worker.pipes.take();
        }
        Poll::Ready(Ok(()))
    }

    fn finish(&mut self, worker: &Worker) {
        self.streak = 0;
        if let Some(pipe) = self.pipe.take() {
            worker.pipes.give(pipe);
        }
    }
}

fn would_block<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(e) => Err(e),
    }
}
