//! splice(2): bytes from socket to socket without passing through user space.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::{PipeFlags, SpliceFlags};

/// Pipes kept per worker for the next stream that needs one.
const KEPT: usize = 64;

/// Bytes asked for at once: what a pipe holds by default.
const CHUNK: usize = 64 * 1024;

/// An empty pipe, or one on its way through a stream.
#[derive(Debug)]
pub(crate) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    /// Bytes in the pipe.
    held: usize,
}

impl Pipe {
    /// Bytes that have come in and not yet gone out.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Moves what the socket has into the empty pipe; 0 is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` if the socket has nothing. A full pipe says the same, which is why the pipe is
    /// emptied first.
    pub(crate) fn fill(&mut self, from: impl AsFd) -> io::Result<usize> {
        debug_assert_eq!(self.held, 0);
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let n = rustix::pipe::splice(from, None, &self.write, None, CHUNK, flags)?;
        self.held += n;
        Ok(n)
    }

    /// Moves what the pipe has into the socket.
    ///
    /// # Errors
    /// `WouldBlock` if the socket takes nothing now.
    pub(crate) fn empty(&mut self, to: impl AsFd) -> io::Result<usize> {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let n = rustix::pipe::splice(&self.read, None, to, None, self.held, flags)?;
        self.held = self.held.saturating_sub(n);
        Ok(n)
    }
}

/// The pipes of a worker that are not in use.
#[derive(Debug, Default)]
pub(crate) struct Pipes(RefCell<Vec<Pipe>>);

impl Pipes {
    /// An empty pipe; none if the process has no file left, in which case bytes are copied.
    pub(crate) fn take(&self) -> Option<Pipe> {
        self.0.borrow_mut().pop().or_else(|| {
            let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
            let (read, write) = rustix::pipe::pipe_with(flags).ok()?;
            Some(Pipe {
                read,
                write,
                held: 0,
            })
        })
    }

    /// Takes a pipe back; one that is not empty is closed.
    pub(crate) fn give(&self, pipe: Pipe) {
        let mut kept = self.0.borrow_mut();
        if pipe.held == 0 && kept.len() < KEPT {
            kept.push(pipe);
        }
    }
}
