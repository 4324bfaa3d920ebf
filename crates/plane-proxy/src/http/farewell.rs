//! `connection: close` in the head of a response, put there behind hyper's back.
//!
//! hyper ends a connection whose client wants it closed, and is of no more use. So it does not get
//! to know (see [`Framing`](super::framing::Framing)), and cannot say what a response has to say
//! then: RFC 9112 §9.6.

use std::io::{self, IoSlice};
use std::task::{Poll, ready};

const FIELD: &[u8] = b"connection: close\r\n";

/// What a head begins with that the field belongs in. The status follows.
const VERSION: &[u8] = b"HTTP/1.1 ";

/// At most so many buffers are written at once when the field is one of them.
const BUFFERS: usize = 8;

/// Whether the field is still to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Farewell(Step);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    /// No.
    #[default]
    Nothing,
    /// What is written next begins with a head.
    Due,
    /// So many bytes go before it, and so many of its own have been written.
    Under { before: usize, done: usize },
}

impl Farewell {
    /// To be written into the head with which the next bytes begin.
    pub(crate) const DUE: Self = Self(Step::Due);

    /// Whether there is nothing of it to write.
    pub(crate) fn is_over(self) -> bool {
        self.0 == Step::Nothing
    }

    /// Not to be written, unless the head is on its way.
    pub(crate) fn cancel(self) -> Self {
        match self.0 {
            Step::Due => Self(Step::Nothing),
            _ => self,
        }
    }

    /// Writes `bufs` by means of `write`, and the field behind the first line where it is due. How
    /// many bytes of `bufs` were written, which is 0 only if `write` has written none.
    pub(crate) fn poll_write(
        &mut self,
        bufs: &[IoSlice<'_>],
        mut write: impl FnMut(&[IoSlice<'_>]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if self.0 == Step::Due {
            self.0 = bufs.first().map_or(Step::Due, |head| Step::of(head));
        }
        loop {
            let (Step::Under { before, done }, Some((head, others))) = (self.0, bufs.split_first())
            else {
                return write(bufs);
            };
            let Some((line, rest)) = head.split_at_checked(before) else {
                return write(bufs);
            };
            let field = FIELD.get(done..).unwrap_or_default();
            let mut all = [IoSlice::new(&[]); BUFFERS];
            let parts = [line, field, rest].into_iter();
            let parts = parts.chain(others.iter().map(|buf| &**buf));
            let mut used = 0;
            for (slot, part) in all.iter_mut().zip(parts.filter(|part| !part.is_empty())) {
                *slot = IoSlice::new(part);
                used += 1;
            }
            let written = ready!(write(all.get(..used).unwrap_or_default()))?;
            let of_line = written.min(before);
            let of_field = (written - of_line).min(field.len());
            self.0 = if of_field == field.len() {
                Step::Nothing
            } else {
                Step::Under {
                    before: before - of_line,
                    done: done + of_field,
                }
            };
            // For hyper 0 would be an error, and here it may be that it was all ours.
            if written == 0 || written > of_field {
                return Poll::Ready(Ok(written - of_field));
            }
        }
    }
}

impl Step {
    /// For a head that begins so; one that is not the last of its response does without.
    fn of(head: &[u8]) -> Self {
        let end = memchr::memchr(b'\n', head);
        match (head.strip_prefix(VERSION), end) {
            (Some([b'2'..=b'9', ..]), Some(end)) => Self::Under {
                before: end + 1,
                done: 0,
            },
            _ => Self::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Writes all as hyper does, to a socket that takes `takes` bytes at a time (0: is not ready, once).
    fn written(farewell: &mut Farewell, bufs: &[&[u8]], takes: &[usize]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut takes = takes.iter().copied().chain(std::iter::repeat(usize::MAX));
        let mut left: Vec<&[u8]> = bufs.to_vec();
        while left.iter().any(|buf| !buf.is_empty()) {
            left.retain(|buf| !buf.is_empty());
            let slices: Vec<IoSlice<'_>> = left.iter().map(|buf| IoSlice::new(buf)).collect();
            let polled = farewell.poll_write(&slices, |bufs| {
                let room = takes.next().unwrap();
                if room == 0 {
                    return Poll::Pending;
                }
                let all: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
                let taken = all.len().min(room);
                out.extend_from_slice(&all[..taken]);
                Poll::Ready(Ok(taken))
            });
            let Poll::Ready(written) = polled else {
                continue;
            };
            let mut written = written.unwrap();
            assert!(written > 0, "hyper would give up");
            for buf in &mut left {
                let n = written.min(buf.len());
                *buf = &buf[n..];
                written -= n;
            }
            assert_eq!(written, 0, "more than there was");
        }
        out
    }

    const HEAD: &[u8] = b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\n";
    const FULL: &[u8] =
        b"HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 4\r\n\r\nbody";

    #[test]
    fn the_field_comes_behind_the_first_line_and_once() {
        let mut farewell = Farewell::DUE;
        assert_eq!(written(&mut farewell, &[HEAD, b"body"], &[]), FULL);
        assert_eq!(farewell, Farewell::default());
        let plain = [HEAD, b"body"].concat();
        assert_eq!(written(&mut farewell, &[HEAD, b"body"], &[]), plain);
    }

    #[test]
    fn what_is_no_final_head_of_http_1_1_stays_as_it_is() {
        for head in [
            b"HTTP/1.1 100 Continue\r\n\r\n".as_slice(),
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
            b"HTTP/1.0 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK",
            b"body\n",
        ] {
            assert_eq!(written(&mut { Farewell::DUE }, &[head], &[]), head);
        }
        assert_eq!(written(&mut Farewell::DUE.cancel(), &[HEAD], &[]), HEAD);
    }

    #[test]
    fn a_head_that_is_on_its_way_is_not_left_half_done() {
        let mut farewell = Farewell::DUE;
        let takes = [HEAD.len() / 2, 0];
        let mut takes = takes.iter();
        let write = |_: &[IoSlice<'_>]| match takes.next() {
            Some(0) | None => Poll::Pending,
            Some(n) => Poll::Ready(Ok(*n)),
        };
        assert!(farewell.poll_write(&[IoSlice::new(HEAD)], write).is_ready());
        assert_eq!(farewell.cancel(), farewell);
    }

    #[test]
    fn a_socket_that_fails_fails() {
        let mut farewell = Farewell::DUE;
        let broken = || Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        let Poll::Ready(Err(error)) = farewell.poll_write(&[IoSlice::new(HEAD)], |_| broken())
        else {
            panic!("it has failed");
        };
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        let nothing = farewell.poll_write(&[IoSlice::new(HEAD)], |_| Poll::Ready(Ok(0)));
        assert!(matches!(nothing, Poll::Ready(Ok(0))));
    }

    proptest! {
        #[test]
        fn however_little_the_socket_takes_at_a_time(
            takes in proptest::collection::vec(0..30usize, 0..80),
            pieces in proptest::collection::vec(1..9usize, 0..24),
        ) {
            let body: Vec<Vec<u8>> = pieces.iter().map(|n| vec![b'x'; *n]).collect();
            let mut bufs = vec![HEAD];
            bufs.extend(body.iter().map(Vec::as_slice));
            let mut expected = FULL[..FULL.len() - 4].to_vec();
            expected.extend(body.concat());
            let mut farewell = Farewell::DUE;
            prop_assert_eq!(written(&mut farewell, &bufs, &takes), expected);
            prop_assert_eq!(farewell, Farewell::default());
        }
    }
}
