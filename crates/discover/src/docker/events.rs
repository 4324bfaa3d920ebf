//! The stream of events.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::connect::Connection;
use super::error::{EngineError, innermost};
use super::wire::Event;

/// Bytes of one event at most that are read.
const MAX_LINE: usize = 1 << 20;

/// Which events are wanted, as the engine's `filters`, ready for a query. With `health_status` in
/// the list the engine compares beginnings, so that `health_status: healthy` is among them.
/// Without a list it would send three events for every run of every HEALTHCHECK.
pub const EVENTS: &str = "%7B%22type%22%3A%5B%22container%22%2C%22network%22%5D%2C%22event%22%3A%5B\
    %22start%22%2C%22die%22%2C%22kill%22%2C%22pause%22%2C%22unpause%22%2C%22destroy%22%2C%22rename%22%2C\
    %22update%22%2C%22oom%22%2C%22stop%22%2C%22restart%22%2C%22health_status%22%2C\
    %22connect%22%2C%22disconnect%22%5D%7D";

/// A line of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// An event.
    Event(Box<Event>),
    /// Something happened that cannot be read.
    Unreadable,
}

/// Cuts a stream of bytes into events. JSON objects one after the other, each on a line; record
/// separators (RFC 7464) and empty lines are passed over. An event has all labels of its container,
/// so a line may be of any length: one longer than 1 MiB is [`Line::Unreadable`], and is not kept.
#[derive(Debug, Default)]
pub struct Lines {
    bytes: BytesMut,
    /// So many of the bytes have no end of a line.
    seen: usize,
    /// Whether the bytes up to the next end of a line belong to one that was too long.
    skips: bool,
}

impl Lines {
    /// Takes more of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next line that is complete, if one is. One that is too long comes as soon as it is.
    pub fn next_line(&mut self) -> Option<Line> {
        loop {
            let fresh = self.bytes.get(self.seen..).unwrap_or_default();
            let Some(end) = fresh.iter().position(|b| *b == b'\n') else {
                self.seen = self.bytes.len();
                let too_long = self.seen > MAX_LINE && !self.skips;
                self.skips |= too_long;
                if self.skips {
                    self.bytes = BytesMut::new();
                    self.seen = 0;
                }
                return too_long.then_some(Line::Unreadable);
            };
            let line = self.bytes.split_to(self.seen + end);
            self.bytes.advance(1);
            self.seen = 0;
            if std::mem::take(&mut self.skips) {
                continue;
            }
            if line.len() > MAX_LINE {
                return Some(Line::Unreadable);
            }
            if let Some(line) = read(&line) {
                return Some(line);
            }
        }
    }
}

fn read(line: &[u8]) -> Option<Line> {
    let blank = |b: &u8| b.is_ascii_whitespace() || *b == 0x1e;
    let from = line.iter().position(|b| !blank(b))?;
    let text = line.get(from..)?;
    Some(match serde_json::from_str(&String::from_utf8_lossy(text)) {
        Ok(Event { action, .. }) if action.is_empty() => Line::Unreadable,
        Ok(event) => Line::Event(Box::new(event)),
        Err(_) => Line::Unreadable,
    })
}

/// The stream of events of an engine.
#[derive(Debug)]
pub struct Events {
    host: Arc<str>,
    /// Keeps the connection open.
    _connection: Connection,
    body: Incoming,
    lines: Lines,
}

impl Events {
    pub(crate) fn new(host: Arc<str>, connection: Connection, body: Incoming) -> Self {
        Self {
            host,
            _connection: connection,
            body,
            lines: Lines::default(),
        }
    }

    /// The next event. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// The stream ended: how it did.
    pub async fn next(&mut self) -> Result<Line, EngineError> {
        loop {
            if let Some(line) = self.lines.next_line() {
                return Ok(line);
            }
            let bytes: Bytes = match self.body.frame().await {
                None => return Err(self.ended("the engine ended the stream of events".into())),
                Some(Err(error)) => {
                    return Err(
                        self.ended(format!("the stream of events broke: {}", innermost(&error)))
                    );
                }
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            };
            self.lines.push(&bytes);
        }
    }

    fn ended(&self, why: String) -> EngineError {
        EngineError::Broken {
            host: Arc::clone(&self.host),
            path: "/events".into(),
            why,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(line: Option<Line>) -> String {
        match line {
            Some(Line::Event(event)) => event.action,
            Some(Line::Unreadable) => "?".into(),
            None => "-".into(),
        }
    }

    #[test]
    fn events_come_in_any_pieces() {
        let text = "{\"Action\":\"start\"}\r\n\n\u{1e}{\"Action\":\"die\"}\n{\"Action\":7}\n[]\n{\"Action\":\"kill\"}";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let mut got = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                lines.push(piece);
                while let Some(line) = lines.next_line() {
                    got.push(action(Some(line)));
                }
            }
            lines.push(b"\n");
            got.push(action(lines.next_line()));
            assert_eq!(got, ["start", "die", "?", "?", "kill"], "{size}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over_at_any_cut() {
        let die = "{\"Action\":\"die\"}\n";
        let long = |bytes: usize| format!("{die}{}\n{die}", "x".repeat(bytes));
        for bytes in [MAX_LINE, MAX_LINE + 1, 3 * MAX_LINE + 7] {
            let text = long(bytes);
            for size in [1 << 10, MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, text.len()] {
                let mut lines = Lines::default();
                let mut got = Vec::new();
                for piece in text.as_bytes().chunks(size) {
                    lines.push(piece);
                    while let Some(line) = lines.next_line() {
                        got.push(action(Some(line)));
                    }
                    assert!(lines.bytes.len() <= MAX_LINE);
                }
                assert_eq!(got, ["die", "?", "die"], "{bytes} {size}");
            }
        }
    }

    #[test]
    fn a_line_without_end_is_told_once_and_not_kept() {
        let mut lines = Lines::default();
        lines.push(&vec![b'x'; MAX_LINE]);
        assert_eq!(lines.next_line(), None);
        lines.push(b"x");
        assert_eq!(lines.next_line(), Some(Line::Unreadable));
        for _ in 0..3 {
            lines.push(&vec![b'x'; 2 * MAX_LINE]);
            assert_eq!(lines.next_line(), None);
            assert!(lines.bytes.is_empty());
        }
    }
}
