//! Where HTTP/1 messages begin and end on a client's connection, strictly.
//!
//! Two parsers that disagree on where a message ends are what request smuggling lives on. This one
//! reads every byte a client sends before hyper does, refuses all that is ambiguous, and so makes
//! sure that there is only one reading. Pure: bytes in, verdict out.

mod chunk;
mod head;

use self::chunk::Chunk;
use self::head::Head;

/// What is refused by its size.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a head at most, else 431.
    pub head: usize,
    /// Bytes of a request line at most, else 414.
    pub line: usize,
    /// Header fields at most, else 431.
    pub fields: usize,
    /// Bytes of a chunk's size and extensions at most.
    pub chunk_line: usize,
    /// Bytes of trailers at most.
    pub trailers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: 32 * 1024,
            line: 8 * 1024,
            fields: 100,
            chunk_line: 256,
            trailers: 8 * 1024,
        }
    }
}

/// What to do after the bytes that may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// All bytes may pass: go on with those that come next.
    More,
    /// The rest is a part of a head: keep it, and show it again with what comes after it.
    Hold,
    /// The head that follows is refused with this status; nothing after it counts.
    Reject(u16),
    /// The body of the message that is on its way is broken; nothing after it counts.
    Break,
    /// The head that has just passed asks for an upgrade: the rest waits for the answer.
    Upgrade,
    /// The head that has just passed is the last: nothing after it counts (RFC 9112 §9.6). It is one
    /// of HTTP/1.1 without a body, and its only `Connection` field is `close`, a word that
    /// [`hide_close`] can take out of it.
    Last {
        /// Where that word begins, counted from the first of the bytes that were shown.
        close: usize,
    },
}

const CLOSE: &[u8] = b"close";

/// Makes the word that [`Then::Last`] has found blank, so that the `Connection` field is there and
/// says nothing; `bytes` and `close` are those of the verdict.
pub fn hide_close(bytes: &mut [u8], close: usize) {
    let word = bytes
        .get_mut(close..)
        .and_then(|b| b.get_mut(..CLOSE.len()));
    if let Some(word) = word.filter(|word| word.eq_ignore_ascii_case(CLOSE)) {
        word.fill(b' ');
    }
}

/// The verdict on some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// So many bytes from the first on may pass.
    pub pass: usize,
    /// And then this.
    pub then: Then,
}

/// The state between two reads.
#[derive(Clone, Debug)]
pub struct Framing {
    limits: Limits,
    state: State,
    heads: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Head(Head),
    Body(u64),
    Chunk(Chunk),
    Dead,
}

impl Framing {
    /// At the beginning of a connection.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Head(Head::default()),
            heads: 0,
        }
    }

    /// How many heads have passed.
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether the next byte would begin a message or go on with a head.
    pub fn in_head(&self) -> bool {
        matches!(self.state, State::Head(_))
    }

    /// Whether a part of a message's body is still to come.
    pub fn in_body(&self) -> bool {
        matches!(self.state, State::Body(_) | State::Chunk(_))
    }

    /// Judges the bytes that come next; after [`Then::Hold`], those kept and then the new ones.
    pub fn feed(&mut self, bytes: &[u8]) -> Outcome {
        let mut pass = 0;
        while let Some(rest) = bytes.get(pass..).filter(|rest| !rest.is_empty()) {
            match &mut self.state {
                State::Head(head) => match head.read(rest, &self.limits) {
                    Ok(None) => {
                        return Outcome {
                            pass,
                            then: Then::Hold,
                        };
                    }
                    Ok(Some(length)) => {
                        let (state, then) = head.body(pass);
                        pass += length;
                        self.heads += 1;
                        self.state = state;
                        if then != Then::More {
                            return Outcome { pass, then };
                        }
                    }
                    Err(status) => {
                        self.state = State::Dead;
                        return Outcome {
                            pass,
                            then: Then::Reject(status),
                        };
                    }
                },
                State::Body(left) => {
                    let n = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    pass += n;
                    *left -= n as u64;
                    if *left == 0 {
                        self.state = State::Head(Head::default());
                    }
                }
                State::Chunk(chunk) => match chunk.read(rest, &self.limits) {
                    (n, Some(true)) => {
                        pass += n;
                        self.state = State::Head(Head::default());
                    }
                    (n, None) => pass += n,
                    (n, Some(false)) => {
                        self.state = State::Dead;
                        return Outcome {
                            pass: pass + n,
                            then: Then::Break,
                        };
                    }
                },
                State::Dead => {
                    return Outcome {
                        pass,
                        then: Then::Break,
                    };
                }
            }
        }
        Outcome {
            pass,
            then: Then::More,
        }
    }
}

#[cfg(test)]
mod tests;
