//! The values of labels, and what is wrong with them.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use plimsoll_config::{format_duration, nearest, parse_duration};
use plimsoll_model::{Invalid, looks_secret};

/// The longest value, in bytes.
pub(crate) const MAX_VALUE: usize = 64 << 10;
/// Characters of a value that messages show at most.
const SHOWN: usize = 60;
/// Faults that a reason tells at most.
const TOLD: usize = 4;

/// A text of somebody else, fit for a message: without control characters.
pub(crate) fn visible(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

/// The same, and cut.
pub(crate) fn cut(text: &str) -> String {
    if looks_secret(text) {
        return "…".into();
    }
    let end = text.char_indices().nth(SHOWN).map(|(end, _)| end);
    let mut short = visible(end.and_then(|end| text.get(..end)).unwrap_or(text));
    if end.is_some() {
        short.push('…');
    }
    short
}

/// The text of an error of the model about `text`, which is cut in it.
pub(crate) fn told(error: &Invalid, text: &str) -> String {
    let short = format!("`{}`", cut(text));
    let message = error.0.replacen(&format!("{text:?}"), &short, 1);
    match message.len() > 400 || message.chars().any(char::is_control) {
        true => format!("{short} is not valid"),
        false => message,
    }
}

/// What is wrong with what is said of one service.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<String>);

impl Faults {
    pub(crate) fn push(&mut self, fault: impl Into<String>) {
        self.0.push(fault.into());
    }

    /// All of it in one text, or the first few; none if nothing is wrong.
    pub(crate) fn reason(&self) -> Option<String> {
        let first: Vec<&str> = self.0.iter().take(TOLD).map(String::as_str).collect();
        let more = self.0.len().saturating_sub(TOLD);
        match (first.is_empty(), more) {
            (true, _) => None,
            (_, 0) => Some(first.join("; ")),
            _ => Some(format!("{}; and {more} more", first.join("; "))),
        }
    }
}

/// A label.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Value<'a> {
    /// Its whole key.
    pub(crate) label: &'a str,
    /// Its value, without blanks around it.
    pub(crate) text: &'a str,
}

impl<'a> Value<'a> {
    pub(crate) fn new(label: &'a str, text: &'a str) -> Self {
        Self {
            label,
            text: text.trim(),
        }
    }

    /// One item of a list, with the same key.
    pub(crate) fn item(&self, text: &'a str) -> Self {
        Self { text, ..*self }
    }

    /// What is wrong with it, after its name.
    pub(crate) fn fault(&self, what: impl Display) -> String {
        // Nobody's password goes into a log, nor where its key is mistyped.
        let shown = match self.label.contains("auth") || self.label.contains("basic") {
            true => "…".into(),
            false => cut(self.text),
        };
        format!("label {}={shown}: {what}", cut(self.label))
    }

    fn expected(&self, what: impl Display, meant: Option<impl Display>) -> String {
        match meant {
            Some(meant) => self.fault(format!("expected {what}: did you mean `{meant}`?")),
            None => self.fault(format!("expected {what}")),
        }
    }

    /// A whole number from `min` to `max`.
    pub(crate) fn number<T: FromStr + PartialOrd + Display>(
        &self,
        min: T,
        max: T,
        faults: &mut Faults,
    ) -> Option<T> {
        // FromStr of numbers takes a plus.
        let plain = !self.text.starts_with('+');
        let value = self.text.parse::<T>().ok().filter(|_| plain);
        let value = value.filter(|value| min <= *value && *value <= max);
        if value.is_none() {
            let what = format!("a whole number from {min} to {max}");
            faults.push(self.expected(what, None::<&str>));
        }
        value
    }

    /// A time of at least `min`.
    pub(crate) fn duration(&self, min: Duration, faults: &mut Faults) -> Option<Duration> {
        match parse_duration(self.text) {
            Ok(value) if value < min => {
                let least = format_duration(min);
                faults.push(self.expected(format!("a time of at least {least}"), None::<&str>));
                None
            }
            Ok(value) => Some(value),
            Err(why) => {
                let number = !self.text.is_empty() && self.text.bytes().all(|b| b.is_ascii_digit());
                let meant = number.then(|| format!("{}s", cut(self.text)));
                let what = "a time with units d, h, m, s or ms, such as 5s, 500ms or 1h30m";
                faults.push(match meant {
                    Some(_) => self.expected(format!("{what} ({why})"), meant),
                    None => self.expected(what, None::<&str>),
                });
                None
            }
        }
    }

    /// One of a few words.
    pub(crate) fn word<T: Copy>(
        &self,
        words: &[(&'static str, T)],
        faults: &mut Faults,
    ) -> Option<T> {
        self.word_or(words, &[], faults)
    }

    /// One of a few words; `theirs` is what others call them.
    pub(crate) fn word_or<T: Copy>(
        &self,
        words: &[(&'static str, T)],
        theirs: &[(&str, &'static str)],
        faults: &mut Faults,
    ) -> Option<T> {
        let found = words.iter().find(|(name, _)| *name == self.text);
        if found.is_none() {
            let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
            let what = format!("one of {}", names.join(", "));
            let known = theirs.iter().find(|(theirs, _)| *theirs == self.text);
            let meant = known.map(|(_, ours)| *ours);
            faults.push(self.expected(what, meant.or_else(|| nearest(self.text, names))));
        }
        found.map(|(_, value)| *value)
    }

    /// What the model reads.
    pub(crate) fn parsed<T: FromStr<Err = Invalid>>(&self, faults: &mut Faults) -> Option<T> {
        self.part(self.text, faults)
    }

    /// What the model reads in a part of it.
    pub(crate) fn part<T: FromStr<Err = Invalid>>(
        &self,
        text: &str,
        faults: &mut Faults,
    ) -> Option<T> {
        let parsed = text.parse();
        parsed
            .map_err(|error| faults.push(self.fault(told(&error, text))))
            .ok()
    }

    /// The items of a list with commas, without blanks around them; at most `max`.
    pub(crate) fn items(&self, max: usize, faults: &mut Faults) -> Vec<&'a str> {
        let items: Vec<&str> = self.text.split(',').map(str::trim).collect();
        if items.len() > max {
            let what = format!("at most {max} of them, not {}", items.len());
            faults.push(self.expected(what, None::<&str>));
            return Vec::new();
        }
        if items.iter().any(|item| item.is_empty()) {
            faults.push(self.fault("there is nothing between two commas"));
            return Vec::new();
        }
        items
    }
}
