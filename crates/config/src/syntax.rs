//! TOML syntax: text to a table with spans, or syntax errors.

use std::ops::Range;

use toml::Spanned;
use toml::de::DeTable;
use toml_parser::lexer::TokenKind;

use crate::MAX_BYTES;
use crate::diagnostic::quote;
use crate::fields::{Fault, Faults};
use crate::source::Source;

/// Brackets within brackets at most. The format needs four.
const MAX_DEPTH: usize = 32;
/// Dots in one key at most. The format needs three.
const MAX_DOTS: usize = 8;

/// Of longer texts, in bytes, only the first syntax error is reported: the parser keeps every one
/// until the end, however many there are.
const MAX_RECOVERED: usize = 1 << 20;

/// The table that the text is, or none and a fault.
pub(crate) fn parse<'a>(source: &Source<'a>, faults: &mut Faults) -> Option<Spanned<DeTable<'a>>> {
    if source.text().len() > MAX_BYTES {
        let message = format!("the file has {} bytes", source.text().len());
        let expected = format!("at most {} MiB", MAX_BYTES >> 20);
        faults.push(Fault::new(0..0, "", message).expected(expected));
        return None;
    }
    if let Some(fault) = too_deep(source.text()) {
        faults.push(fault);
        return None;
    }
    let (table, errors) = match source.text().len() {
        0..MAX_RECOVERED => DeTable::parse_recoverable(source.text()),
        _ => match DeTable::parse(source.text()) {
            Ok(table) => return Some(table),
            Err(error) => (Spanned::new(0..0, DeTable::new()), vec![error]),
        },
    };
    if errors.is_empty() {
        return Some(table);
    }
    report(source, errors, faults);
    None
}

/// The `toml` crate bounds brackets and dots, each at 80, but not their product, and drops what it
/// built by recursion: both together overflow a stack of 2 MiB. So both are bounded here first.
fn too_deep(text: &str) -> Option<Fault> {
    let (mut depth, mut dots) = (0usize, 0usize);
    for token in toml_parser::Source::new(text).lex() {
        match token.kind() {
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => depth += 1,
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => {
                depth = depth.saturating_sub(1);
            }
            _ => {}
        }
        dots = match token.kind() {
            TokenKind::Dot => dots + 1,
            TokenKind::Whitespace
            | TokenKind::Atom
            | TokenKind::BasicString
            | TokenKind::LiteralString => dots,
            _ => 0,
        };
        let span = token.span().start()..token.span().end();
        if depth > MAX_DEPTH {
            let message = format!("brackets nested {depth} deep");
            return Some(Fault::new(span, "", message).expected(format!("at most {MAX_DEPTH}")));
        }
        if dots > MAX_DOTS {
            let message = format!("a key with {dots} dots");
            return Some(Fault::new(span, "", message).expected(format!("at most {MAX_DOTS}")));
        }
    }
    None
}

/// Reports the first error of each line, up to the first after which the parser only guesses.
fn report(source: &Source<'_>, errors: Vec<toml::de::Error>, faults: &mut Faults) {
    let mut last_line = 0;
    let mut errors: Vec<_> = errors
        .into_iter()
        .map(|error| (error.span().unwrap_or(0..0), error))
        .collect();
    errors.sort_by_key(|(span, _)| span.start);
    for (span, error) in errors {
        let (line, _) = source.position(span.start);
        if line == last_line {
            continue;
        }
        last_line = line;
        let message = error.message();
        faults.push(explain(source, span, message));
        if ["array", "inline table", "unclosed", "string, expected"]
            .iter()
            .any(|word| message.contains(word))
        {
            return;
        }
    }
}

/// The parser's message in the words of this file.
fn explain(source: &Source<'_>, span: Range<usize>, message: &str) -> Fault {
    let (message, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    let value = source.slice(&span);
    if message == "duplicate key" {
        let message = format!("`{}` is here for the second time", quote(value));
        return Fault::new(span.clone(), quote(value), message).expected("every key once");
    }
    let key = key_of_line(source, span.start);
    let invalid = message.starts_with("invalid ") && !message.contains("string");
    let unquoted = message.starts_with("string values must be quoted");
    if unquoted && value.is_empty() {
        return Fault::new(span, key, "no value").expected("a value after the `=`");
    }
    let bare = invalid.then(|| bare_value(source, span.start)).flatten();
    if bare.is_some() || (unquoted && !value.contains(char::is_whitespace)) {
        let span = bare.unwrap_or(span);
        let meant = format!("\"{}\"", quote(source.slice(&span)));
        let fault = Fault::new(span, key, "a value without quotes");
        return fault.expected("a string in quotes").nearest(Some(meant));
    }
    let expected = if expected == "nothing" { "" } else { expected };
    Fault::new(span, key, format!("syntax error: {message}")).expected(expected)
}

/// The address or the like that stands without quotes around a byte, which the parser takes for a
/// number.
fn bare_value(source: &Source<'_>, at: usize) -> Option<Range<usize>> {
    let ends = |c: char| c.is_whitespace() || "=,[]{}\"'\\#".contains(c);
    let (before, after) = (source.text().get(..at)?, source.text().get(at..)?);
    let start = before.rfind(ends).map_or(0, |i| i + 1);
    let end = at + after.find(ends).unwrap_or(after.len());
    let value = source.slice(&(start..end));
    let signs = value.matches(['/', ':', '.']).count();
    (signs > 1 && value.len() <= 200).then_some(start..end)
}

/// The key at the start of the line that a byte is in, if there is one before the byte.
fn key_of_line(source: &Source<'_>, at: usize) -> String {
    let (line, column) = source.position(at);
    let before: String = source.line(line).chars().take(column - 1).collect();
    match before.split_once('=') {
        Some((key, _)) if key.len() <= 64 => quote(key.trim()),
        _ => String::new(),
    }
}
