//! Where HTTP/1 messages begin and end on a client's connection, strictly.
//!
//! Two parsers that disagree on where a message ends are what request smuggling lives on. This one
//! reads every byte a client sends before hyper does, refuses all that is ambiguous, and so makes
//! sure that there is only one reading. Pure: bytes in, verdict out.

use memchr::{memchr, memchr_iter};

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

/// A head of which a part has been seen. Offsets count from its first byte.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    /// Where the first line begins that has not been read yet.
    line: usize,
    /// Up to where there is no further end of line.
    seen: usize,
    /// Lines read.
    lines: usize,
    fields: usize,
    started: bool,
    http10: bool,
    chunked: bool,
    length: Option<u64>,
    hosts: u8,
    upgrade: bool,
    /// `Connection` fields.
    connections: u8,
    /// Where the word begins of one that is just `close`; 0 if there is none.
    close: usize,
}

#[derive(Clone, Copy, Debug)]
enum Chunk {
    Size {
        value: u64,
        bytes: usize,
        digits: u8,
        ext: bool,
        cr: bool,
    },
    Data(u64),
    DataCr,
    DataLf,
    Trailer {
        bytes: usize,
        line: usize,
        cr: bool,
    },
}

const FIRST_SIZE: Chunk = Chunk::Size {
    value: 0,
    bytes: 0,
    digits: 0,
    ext: false,
    cr: false,
};

enum Line {
    Ok,
    End,
    Bad(u16),
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

impl Head {
    /// The length of the head if it ends in these bytes, which begin with it.
    fn read(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, u16> {
        loop {
            let fresh = bytes.get(self.seen..).unwrap_or_default();
            let Some(end) = memchr(b'\n', fresh).map(|at| self.seen + at) else {
                self.seen = bytes.len();
                return match self.seen {
                    n if !self.started && n - self.line > limits.line => Err(414),
                    n if n > limits.head => Err(431),
                    _ => Ok(None),
                };
            };
            let at = self.line;
            let line = bytes.get(at..end).unwrap_or_default();
            self.line = end + 1;
            self.seen = end + 1;
            self.lines += 1;
            if self.seen > limits.head {
                return Err(431);
            }
            match self.line(line, at, limits) {
                Line::Ok => {}
                Line::End => {
                    let head = bytes.get(..=end).unwrap_or_default();
                    return self.complete(head).map(|()| Some(head.len()));
                }
                Line::Bad(status) => return Err(status),
            }
        }
    }

    /// A line that begins `at` so many bytes from the first of the head.
    fn line(&mut self, line: &[u8], at: usize, limits: &Limits) -> Line {
        // A lone LF is an end of line to some and a byte like others to some: RFC 9112 §2.2.
        let Some((b'\r', line)) = line.split_last() else {
            return Line::Bad(400);
        };
        match (line.first(), self.started) {
            // RFC 9112 §2.2: a server ignores empty lines before a request line.
            (None, false) => Line::Ok,
            (None, true) => Line::End,
            (Some(_), false) => self.request_line(line, limits),
            (Some(_), true) => self.field(line, at, limits),
        }
    }

    fn request_line(&mut self, line: &[u8], limits: &Limits) -> Line {
        self.started = true;
        if line.len() > limits.line {
            return Line::Bad(414);
        }
        // No target has a fragment (RFC 9112 §3.2); to some it is part of the path, to some not.
        let before = memchr(b'#', line).and_then(|at| line.get(..at));
        if before.is_some_and(|method| method.contains(&b' ')) {
            return Line::Bad(400);
        }
        let mut words = line.rsplitn(2, |b| *b == b' ');
        match (words.next(), words.next()) {
            (Some(b"HTTP/1.1"), Some(_)) => Line::Ok,
            (Some(b"HTTP/1.0"), Some(_)) => {
                self.http10 = true;
                Line::Ok
            }
            (Some(other), Some(_)) if other.starts_with(b"HTTP/") => Line::Bad(505),
            _ => Line::Bad(400),
        }
    }

    fn field(&mut self, line: &[u8], at: usize, limits: &Limits) -> Line {
        self.fields += 1;
        if self.fields > limits.fields {
            return Line::Bad(431);
        }
        let Some((name, value)) = memchr(b':', line).and_then(|at| line.split_at_checked(at))
        else {
            return Line::Bad(400);
        };
        // Obsolete folding, and space before the colon: RFC 9112 §5.1 and §5.2.
        let blank = |b: Option<&u8>| matches!(b, None | Some(b' ' | b'\t'));
        if blank(name.first()) || blank(name.last()) {
            return Line::Bad(400);
        }
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                self.hosts = self.hosts.saturating_add(1);
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
            10 if name.eq_ignore_ascii_case(b"connection") => {
                self.connections = self.connections.saturating_add(1);
                if value.eq_ignore_ascii_case(CLOSE) {
                    let after = line.trim_ascii_end().len();
                    self.close = at + after - CLOSE.len();
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = match value {
                    digits if digits.iter().all(u8::is_ascii_digit) => std::str::from_utf8(digits)
                        .ok()
                        .and_then(|d| d.parse::<u64>().ok()),
                    _ => None,
                };
                if length.is_none() || self.length.is_some_and(|known| Some(known) != length) {
                    return Line::Bad(400);
                }
                self.length = length;
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.chunked {
                    return Line::Bad(400);
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    // A list that ends in chunked is well-formed; we have none of its codings.
                    let ends_chunked = value
                        .rsplit(|b| *b == b',')
                        .next()
                        .is_some_and(|last| last.trim_ascii().eq_ignore_ascii_case(b"chunked"));
                    return Line::Bad(if ends_chunked { 501 } else { 400 });
                }
                self.chunked = true;
            }
            _ => {}
        }
        Line::Ok
    }

    /// Whether the fields fit each other, and lines end where they seem to.
    fn complete(&self, head: &[u8]) -> Result<(), u16> {
        // The same is true of a lone CR. There is one at the end of each line; all at once, for
        // searching every line would cost more.
        let lone = memchr_iter(b'\r', head).count() != self.lines;
        let ambiguous = self.chunked && (self.length.is_some() || self.http10);
        let host = if self.http10 {
            self.hosts <= 1
        } else {
            self.hosts == 1
        };
        if lone || ambiguous || !host {
            Err(400)
        } else {
            Ok(())
        }
    }

    /// What follows the head, which began `at` so many bytes from the first that were shown. One with
    /// a body asks for no upgrade: what is body and what is tunnel could be confused.
    fn body(&self, at: usize) -> (State, Then) {
        match self.length {
            _ if self.chunked => (State::Chunk(FIRST_SIZE), Then::More),
            Some(length) if length > 0 => (State::Body(length), Then::More),
            _ if self.http10 => (State::Head(Head::default()), Then::More),
            _ if self.upgrade => (State::Head(Head::default()), Then::Upgrade),
            _ if self.close > 0 && self.connections == 1 => {
                let close = at + self.close;
                (State::Dead, Then::Last { close })
            }
            _ => (State::Head(Head::default()), Then::More),
        }
    }
}

impl Chunk {
    /// How many bytes may pass, and whether the body has ended (`true`) or is broken (`false`).
    fn read(&mut self, bytes: &[u8], limits: &Limits) -> (usize, Option<bool>) {
        let mut at = 0;
        while let Some(byte) = bytes.get(at).copied() {
            match self {
                Chunk::Data(left) => {
                    let n = usize::try_from(*left)
                        .unwrap_or(usize::MAX)
                        .min(bytes.len() - at);
                    at += n;
                    *left -= n as u64;
                    if *left == 0 {
                        *self = Chunk::DataCr;
                    }
                    continue;
                }
                Chunk::DataCr if byte == b'\r' => *self = Chunk::DataLf,
                Chunk::DataLf if byte == b'\n' => *self = FIRST_SIZE,
                Chunk::DataCr | Chunk::DataLf => return (at, Some(false)),
                Chunk::Size { .. } => match self.size(byte, limits) {
                    true => {}
                    false => return (at, Some(false)),
                },
                Chunk::Trailer {
                    bytes: seen,
                    line,
                    cr,
                } => {
                    *seen += 1;
                    match byte {
                        _ if *seen > limits.trailers => return (at, Some(false)),
                        b'\n' if *cr && *line == 0 => return (at + 1, Some(true)),
                        b'\n' if *cr => (*line, *cr) = (0, false),
                        // A lone CR, a lone LF, obsolete folding.
                        _ if *cr || byte == b'\n' => return (at, Some(false)),
                        b' ' | b'\t' if *line == 0 => return (at, Some(false)),
                        b'\r' => *cr = true,
                        _ => *line += 1,
                    }
                }
            }
            at += 1;
        }
        (at, None)
    }

    /// One byte of the line with a chunk's size: `1*HEXDIG [ ";" extensions ] CRLF`.
    fn size(&mut self, byte: u8, limits: &Limits) -> bool {
        let Chunk::Size {
            value,
            bytes,
            digits,
            ext,
            cr,
        } = self
        else {
            return false;
        };
        *bytes += 1;
        if *bytes > limits.chunk_line {
            return false;
        }
        match byte {
            b'\n' if *cr => {
                *self = match *value {
                    0 => Chunk::Trailer {
                        bytes: 0,
                        line: 0,
                        cr: false,
                    },
                    n => Chunk::Data(n),
                };
                true
            }
            _ if *cr || byte == b'\n' => false,
            b'\r' => {
                *cr = *digits > 0;
                *cr
            }
            _ if *ext => byte == b'\t' || !byte.is_ascii_control(),
            b';' => {
                *ext = *digits > 0;
                *ext
            }
            _ => match char::from(byte).to_digit(16) {
                Some(digit) if *digits < 15 => {
                    *value = *value << 4 | u64::from(digit);
                    *digits += 1;
                    true
                }
                _ => false,
            },
        }
    }
}

#[cfg(test)]
#[path = "framing_tests.rs"]
mod tests;
