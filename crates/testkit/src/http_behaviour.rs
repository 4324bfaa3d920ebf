//! How a scripted HTTP backend behaves.

use std::time::Duration;

use crate::Ending;

/// How an HTTP backend behaves from now on. The default is what a good server does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpBehaviour {
    /// The status of its answers.
    pub status: u16,
    /// Waits so long after a request before it answers.
    pub delay: Duration,
    /// Bodies are at least so long; a request may ask for more ([`crate::WANT_HEADER`]).
    pub bytes: usize,
    /// More headers of its answers.
    pub headers: Vec<(String, String)>,
    /// What it answers.
    pub answer: Answer,
    /// What it does with `Expect: 100-continue`.
    pub expect: Continue,
    /// Closes a connection, without a word before, after so many requests.
    pub close_after: Option<u32>,
    /// Says `Connection: close` in every answer, and closes.
    pub announce_close: bool,
    /// Closes a connection that is idle for so long.
    pub idle: Option<Duration>,
    /// Agrees to upgrades, and echoes from then on.
    pub upgrade: bool,
}

impl Default for HttpBehaviour {
    fn default() -> Self {
        Self {
            status: 200,
            delay: Duration::ZERO,
            bytes: 0,
            headers: Vec::new(),
            answer: Answer::Length,
            expect: Continue::Send,
            close_after: None,
            announce_close: false,
            idle: None,
            upgrade: true,
        }
    }
}

impl HttpBehaviour {
    /// A good server but for its answer.
    pub fn answering(answer: Answer) -> Self {
        Self {
            answer,
            ..Self::default()
        }
    }

    /// A good server that takes its time.
    pub fn slow(delay: Duration) -> Self {
        Self {
            delay,
            ..Self::default()
        }
    }
}

/// What an HTTP backend answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A body with its length.
    Length,
    /// A body in chunks of so many bytes, and these trailers.
    Chunked {
        /// Bytes of a chunk, at least 1.
        chunk: usize,
        /// Names and values.
        trailers: Vec<(String, String)>,
    },
    /// A body that ends with the connection.
    UntilClose,
    /// The answer at once, before the request's body is read. The body is then read and thrown
    /// away, or else the connection ends.
    Early {
        /// Whether the request's body is read afterwards.
        read_body: bool,
    },
    /// A body in pieces of so many bytes, with a pause before each.
    Slow {
        /// Bytes of a piece, at least 1.
        piece: usize,
        /// Before each piece.
        pause: Duration,
    },
    /// The request is taken; an answer never comes.
    Never,
    /// These bytes and nothing else; the connection stays open.
    Garbage(Vec<u8>),
    /// So many bytes behind the body that was announced.
    TooMuch(usize),
    /// So many bytes fewer than announced; then the connection ends.
    TooLittle(usize),
    /// Ends the connection.
    Cut(Phase, Ending),
    /// The answer to another request: it carries this id.
    Mixed(String),
    /// The answer twice.
    Doubled,
}

/// Where a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// As soon as it is accepted.
    Accept,
    /// When the request has been read, before a byte of the answer.
    Request,
    /// In the middle of the answer's head.
    Head,
    /// In the middle of the answer's body.
    Body,
}

/// What a backend does with `Expect: 100-continue` (RFC 9110 §10.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continue {
    /// Sends 100, then reads the body.
    Send,
    /// Reads the body without a word.
    Ignore,
    /// Answers with 417 and does not read the body.
    Refuse,
}
