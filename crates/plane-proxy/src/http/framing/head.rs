//! A head, line by line: what it says of the message that it begins.

use memchr::{memchr, memchr_iter};

use super::chunk::FIRST_SIZE;
use super::{CLOSE, Limits, State, Then};

/// A head of which a part has been seen. Offsets count from its first byte.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head {
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

enum Line {
    Ok,
    End,
    Bad(u16),
}

impl Head {
    /// The length of the head if it ends in these bytes, which begin with it.
    pub(super) fn read(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, u16> {
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
        // Nor has one control bytes (RFC 3986 §2); a method or a version has none either.
        if line.iter().any(u8::is_ascii_control) {
            return Line::Bad(400);
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
    pub(super) fn body(&self, at: usize) -> (State, Then) {
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
