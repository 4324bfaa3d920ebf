//! Diagnostics: what is wrong, where, and how it is shown.

use std::fmt::{self, Write};
use std::ops::Range;

use plimsoll_model::looks_secret;

use crate::source::Source;

/// One thing that is wrong with a file.
///
/// Displayed as `LINE:COLUMN: KEY: MESSAGE; expected …; did you mean …?`; the caller puts the name
/// of the file in front. Quoted parts of the file are shortened and hold no control characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Diagnostic {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// The place in the file as a dotted path, e.g. `service[0].listen`; empty if there is none.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What should be there; empty if the message says it.
    pub expected: String,
    /// What was probably meant.
    pub nearest: Option<String>,
    /// The bytes of the file that are wrong.
    pub span: Range<usize>,
}

impl Diagnostic {
    /// The text without its place in the file.
    fn describe(&self) -> String {
        let mut text = String::new();
        if !self.key.is_empty() {
            let _ = write!(text, "{}: ", self.key);
        }
        text.push_str(&self.message);
        if !self.expected.is_empty() {
            let _ = write!(text, "; expected {}", self.expected);
        }
        text
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.describe())?;
        match &self.nearest {
            Some(nearest) => write!(f, "; did you mean `{nearest}`?"),
            None => Ok(()),
        }
    }
}

/// Characters of a source line shown at most.
const SHOWN: usize = 120;
/// Characters shown before the place in a line that is longer.
const BEFORE: usize = 40;

/// Shows diagnostics for people: place and message, the source line, a caret below it, and what
/// was probably meant. `text` is what was parsed, `file` its name. Every line ends in a newline.
pub fn render(file: &str, text: &str, diagnostics: &[Diagnostic]) -> String {
    render_all("error", file, text, diagnostics)
}

/// As [`render`], for what is no error but worth knowing.
pub fn render_warnings(file: &str, text: &str, diagnostics: &[Diagnostic]) -> String {
    render_all("warning", file, text, diagnostics)
}

fn render_all(level: &str, file: &str, text: &str, diagnostics: &[Diagnostic]) -> String {
    let source = Source::new(text);
    let mut out = String::new();
    for diagnostic in diagnostics {
        // Writing to a String cannot fail.
        let _ = render_one(&mut out, level, file, &source, diagnostic);
    }
    out
}

fn render_one(
    out: &mut String,
    level: &str,
    file: &str,
    source: &Source<'_>,
    diagnostic: &Diagnostic,
) -> fmt::Result {
    let Diagnostic { line, column, .. } = diagnostic;
    writeln!(
        out,
        "{file}:{line}:{column}: {level}: {}",
        diagnostic.describe()
    )?;
    let shown = source.line(*line);
    let gutter = " ".repeat(line.to_string().len());
    // Nobody's password, or what looks like its hash, goes into a log.
    let is_secret = diagnostic.key.contains("basic-auth") || looks_secret(shown);
    if !shown.trim().is_empty() && !is_secret {
        let before = column - 1;
        let skip = if shown.chars().nth(SHOWN).is_some() {
            before.saturating_sub(BEFORE)
        } else {
            0
        };
        let excerpt: String = shown.chars().skip(skip).take(SHOWN).map(visible).collect();
        let wrong = source.slice(&diagnostic.span);
        let wrong = wrong.lines().next().unwrap_or("").chars().take(SHOWN);
        let room = (SHOWN + skip).saturating_sub(before);
        let carets = wrong.count().clamp(1, room.max(1));
        writeln!(out, " {line} | {excerpt}")?;
        let indent = " ".repeat(before.saturating_sub(skip));
        writeln!(out, " {gutter} | {indent}{}", "^".repeat(carets))?;
    }
    match &diagnostic.nearest {
        Some(nearest) => writeln!(out, " {gutter} = did you mean `{nearest}`?"),
        None => Ok(()),
    }
}

/// One column for every character, and none that moves the cursor of a terminal.
fn visible(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() || is_format(c) => '\u{fffd}',
        c => c,
    }
}

/// Invisible characters that reorder or hide others (bidirectional and zero-width ones).
fn is_format(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Characters of the file quoted in a message at most.
const QUOTED: usize = 60;

/// A part of the file as it goes into a message: short and on one line.
pub(crate) fn quote(text: &str) -> String {
    if looks_secret(text) {
        return "…".into();
    }
    let mut short: String = text.chars().take(QUOTED).map(visible).collect();
    if text.chars().nth(QUOTED).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagnostic(line: usize, column: usize, span: Range<usize>) -> Diagnostic {
        Diagnostic {
            line,
            column,
            key: "service[0].listen".into(),
            message: "port 0".into(),
            expected: "a port".into(),
            nearest: Some("80".into()),
            span,
        }
    }

    #[test]
    fn one_line() {
        assert_eq!(
            diagnostic(3, 7, 0..0).to_string(),
            "3:7: service[0].listen: port 0; expected a port; did you mean `80`?"
        );
    }

    #[test]
    fn a_caret_below_the_place() {
        let text = "x = 1\n\tlisten = \"é:0\"\n";
        let start = text.find('"').unwrap();
        let shown = render("f.toml", text, &[diagnostic(2, 11, start..text.len() - 1)]);
        assert_eq!(
            shown,
            "f.toml:2:11: error: service[0].listen: port 0; expected a port\n \
             2 |  listen = \"é:0\"\n   |           ^^^^^\n   = did you mean `80`?\n"
        );
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let text = format!("k = \"{}\"", "a".repeat(100_000));
        let shown = render("f", &text, &[diagnostic(1, 50_000, 49_999..100_006)]);
        assert!(shown.len() < 600, "{}", shown.len());
        let caret = shown.lines().nth(2).unwrap();
        assert!(caret.starts_with(&format!("   | {}^", " ".repeat(BEFORE))));
        assert!(caret.chars().count() <= SHOWN + 5);
    }

    #[test]
    fn nothing_reaches_the_terminal_as_a_command() {
        let text = "a = \"\u{1b}[2J\u{202e}\"";
        let shown = render("f", text, &[diagnostic(1, 5, 4..text.len())]);
        assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'));
        assert_eq!(quote("a\u{1b}b"), "a\u{fffd}b");
        assert_eq!(quote(&"ab".repeat(100)).chars().count(), QUOTED + 1);
    }
}
