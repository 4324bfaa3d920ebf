//! The text of a file and where its lines are.

use std::ops::Range;

/// A text with its lines.
pub(crate) struct Source<'a> {
    text: &'a str,
    /// Where each line starts, in bytes; the first after a byte order mark.
    starts: Vec<usize>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let first = if text.starts_with('\u{feff}') { 3 } else { 0 };
        let starts = std::iter::once(first)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self { text, starts }
    }

    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    /// The part of the text at a span; empty if there is none.
    pub(crate) fn slice(&self, span: &Range<usize>) -> &'a str {
        self.text.get(span.clone()).unwrap_or("")
    }

    /// Line and column of a byte, both from 1; columns count characters.
    pub(crate) fn position(&self, at: usize) -> (usize, usize) {
        let at = floor_char(self.text, at);
        let line = self.starts.partition_point(|start| *start <= at).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let column = self
            .text
            .get(start..at)
            .map_or(0, |before| before.chars().count());
        (line, column + 1)
    }

    /// The line, counted from 1, without its end.
    pub(crate) fn line(&self, line: usize) -> &'a str {
        let start = self.starts.get(line.saturating_sub(1)).copied();
        let end = self.starts.get(line).copied().unwrap_or(self.text.len());
        start
            .and_then(|start| self.text.get(start..end))
            .unwrap_or("")
            .trim_end_matches(['\n', '\r'])
    }
}

/// The start of the character that the byte is in; the end of the text at most.
fn floor_char(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters() {
        let source = Source::new("ab\nçé=1\r\n\nx");
        assert_eq!(source.position(0), (1, 1));
        assert_eq!(source.position(2), (1, 3));
        assert_eq!(source.position(3), (2, 1));
        assert_eq!(source.position(5), (2, 2));
        assert_eq!(source.position(6), (2, 2), "inside a character");
        assert_eq!(source.position(7), (2, 3));
        assert_eq!(source.position(99), (4, 2));
        assert_eq!(source.line(2), "çé=1");
        assert_eq!(source.line(3), "");
        assert_eq!(source.line(4), "x");
        assert_eq!(source.line(9), "");
    }

    #[test]
    fn a_byte_order_mark_is_no_column() {
        assert_eq!(Source::new("\u{feff}a = 1").position(3), (1, 1));
        assert_eq!(Source::new("\u{feff}a = 1").position(0), (1, 1));
        assert_eq!(Source::new("").position(0), (1, 1));
    }
}
