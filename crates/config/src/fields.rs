//! A typed walk over a table with spans that collects what is wrong.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_model::Invalid;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::quote;
use crate::files::Files;
use crate::nearest::nearest;
use crate::source::Source;
use crate::{Diagnostic, MAX_DIAGNOSTICS, duration, schema};

/// The longest string of any kind, in bytes.
const MAX_TEXT: usize = 4096;

/// One thing that is wrong, before lines are counted.
#[derive(Debug)]
pub(crate) struct Fault {
    span: Range<usize>,
    key: String,
    message: String,
    expected: String,
    nearest: Option<String>,
}

impl Fault {
    pub(crate) fn new(
        span: Range<usize>,
        key: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            span,
            key: key.into(),
            message: message.into(),
            expected: String::new(),
            nearest: None,
        }
    }

    pub(crate) fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = expected.into();
        self
    }

    pub(crate) fn nearest(mut self, nearest: Option<impl Display>) -> Self {
        self.nearest = nearest.map(|n| n.to_string());
        self
    }

    pub(crate) fn at(self, source: &Source<'_>) -> Diagnostic {
        let (line, column) = source.position(self.span.start);
        Diagnostic {
            line,
            column,
            key: self.key,
            message: self.message,
            expected: self.expected,
            nearest: self.nearest,
            span: self.span,
        }
    }
}

/// What is wrong so far. The first so many are kept, the others counted.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    kept: Vec<Fault>,
    count: usize,
    /// What the files say that the text names.
    files: Files,
    named: BTreeSet<String>,
}

impl Faults {
    /// None yet, of a text that names these files.
    pub(crate) fn with_files(files: Files) -> Self {
        Self {
            files,
            ..Self::default()
        }
    }

    /// Notes that the text names a file. False if there are too many.
    pub(crate) fn name_file(&mut self, name: &str) -> bool {
        let room = self.named.len() < Files::MAX || self.named.contains(name);
        if room {
            self.named.insert(name.to_owned());
        }
        room
    }

    /// The files that the text names, each once.
    pub(crate) fn into_named(self) -> Vec<String> {
        self.named.into_iter().collect()
    }

    /// The text of a file; none if no files were read.
    pub(crate) fn file(&self, name: &str) -> Option<Result<Arc<str>, String>> {
        self.files.get(name)
    }

    pub(crate) fn push(&mut self, fault: Fault) {
        self.count += 1;
        if !self.is_full() {
            self.kept.push(fault);
        }
    }

    /// Whether no more are kept. Some more than are reported, as checks over the whole file come
    /// late and may be about its beginning.
    pub(crate) fn is_full(&self) -> bool {
        self.kept.len() >= 2 * MAX_DIAGNOSTICS
    }

    /// How many there were, kept or not.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn into_sorted(mut self) -> Vec<Fault> {
        self.kept.sort_by_key(|fault| fault.span.start);
        self.kept.truncate(MAX_DIAGNOSTICS);
        self.kept
    }
}

/// Where something stands in the file.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) span: Range<usize>,
    pub(crate) path: String,
}

impl Place {
    pub(crate) fn fault(&self, message: impl Into<String>) -> Fault {
        Fault::new(self.span.clone(), self.path.clone(), message)
    }
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node<'a> {
    value: &'a DeValue<'a>,
    pub(crate) place: Place,
}

impl<'a> Node<'a> {
    fn new(value: &'a Spanned<DeValue<'a>>, path: String) -> Self {
        Self {
            value: value.get_ref(),
            place: Place {
                span: value.span(),
                path,
            },
        }
    }

    pub(crate) fn fault(&self, message: impl Into<String>) -> Fault {
        self.place.fault(message)
    }

    /// The fault of a text that the model refuses. The model's own words for what it expected are
    /// left out where they follow.
    pub(crate) fn invalid(&self, error: &Invalid, expected: &str) -> Fault {
        let message = error
            .0
            .rsplit_once("; expected ")
            .map_or(&*error.0, |m| m.0);
        let text = self.value.as_str().unwrap_or_default();
        let short = format!("\"{}\"", quote(text));
        let message = match message.len() {
            0..400 => message.replacen(&format!("{text:?}"), &short, 1),
            _ => format!("{short} is not valid"),
        };
        self.fault(message).expected(expected)
    }

    /// The fault of a value of a wrong type.
    pub(crate) fn wrong_type(&self, expected: &str) -> Fault {
        let is = match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.fault(format!("wrong type, {is}")).expected(expected)
    }

    pub(crate) fn is_string(&self) -> bool {
        self.value.is_str()
    }

    pub(crate) fn is_integer(&self) -> bool {
        self.value.is_integer()
    }

    pub(crate) fn is_boolean(&self) -> bool {
        self.value.is_bool()
    }

    pub(crate) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    pub(crate) fn is_list(&self) -> bool {
        self.value.is_array()
    }

    /// A string of a sensible length.
    pub(crate) fn string(&self, expected: &str, faults: &mut Faults) -> Option<&'a str> {
        match self.value {
            DeValue::String(text) if text.len() > MAX_TEXT => {
                let message = format!("a string of {} bytes", text.len());
                let expected = format!("at most {MAX_TEXT} bytes");
                faults.push(self.fault(message).expected(expected));
                None
            }
            DeValue::String(text) => Some(text),
            _ => {
                faults.push(self.wrong_type(expected));
                None
            }
        }
    }

    /// A text for people, without control characters.
    pub(crate) fn label(&self, faults: &mut Faults) -> Option<&'a str> {
        let text = self.string("a string", faults)?;
        if text.chars().any(char::is_control) {
            faults.push(
                self.fault("a control character")
                    .expected("a text on one line"),
            );
            return None;
        }
        Some(text)
    }

    /// A string that the model reads.
    pub(crate) fn parsed<T: FromStr<Err = Invalid>>(
        &self,
        expected: &str,
        faults: &mut Faults,
    ) -> Option<T> {
        let text = self.string(expected, faults)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                faults.push(self.invalid(&error, expected));
                None
            }
        }
    }

    /// One of a few words.
    pub(crate) fn word<T: Copy>(
        &self,
        what: &str,
        words: &[(&'static str, T)],
        faults: &mut Faults,
    ) -> Option<T> {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        let expected = format!("one of {}", names.join(", "));
        let text = self.string(&expected, faults)?;
        let found = words.iter().find(|(name, _)| *name == text);
        if found.is_none() {
            let fault = self.fault(format!("unknown {what} `{}`", quote(text)));
            faults.push(fault.expected(expected).nearest(nearest(text, names)));
        }
        found.map(|(_, value)| *value)
    }

    /// A whole number from `min` to `max`.
    pub(crate) fn integer<T: TryFrom<i128>>(
        &self,
        min: i128,
        max: i128,
        faults: &mut Faults,
    ) -> Option<T> {
        let expected = format!("a whole number from {min} to {max}");
        let DeValue::Integer(integer) = self.value else {
            faults.push(self.wrong_type(&expected));
            return None;
        };
        let value = i128::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .filter(|value| (min..=max).contains(value))
            .and_then(|value| T::try_from(value).ok());
        if value.is_none() {
            let message = format!("{} is out of range", quote(&integer.to_string()));
            faults.push(self.fault(message).expected(expected));
        }
        value
    }

    pub(crate) fn boolean(&self, faults: &mut Faults) -> Option<bool> {
        let value = self.value.as_bool();
        if value.is_none() {
            faults.push(self.wrong_type("true or false"));
        }
        value
    }

    /// A time of at least `min`.
    pub(crate) fn duration(&self, min: Duration, faults: &mut Faults) -> Option<Duration> {
        if let DeValue::Integer(integer) = self.value {
            let meant = match integer.as_str() {
                "0" => "\"0\"".to_owned(),
                number => format!("\"{}s\"", quote(number)),
            };
            let fault = self.fault("a time needs a unit");
            faults.push(fault.expected(duration::EXPECTED).nearest(Some(meant)));
            return None;
        }
        let text = self.string(duration::EXPECTED, faults)?;
        match duration::parse_duration(text) {
            Ok(value) if value < min => {
                let least = duration::format_duration(min);
                let message = format!("`{}` is too short", quote(text));
                faults.push(self.fault(message).expected(format!("at least {least}")));
                None
            }
            Ok(value) => Some(value),
            Err(why) => {
                let number = text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty();
                let meant = number.then(|| format!("{}s", quote(text)));
                let fault = self.fault(format!("`{}`: {why}", quote(text)));
                faults.push(fault.expected(duration::EXPECTED).nearest(meant));
                None
            }
        }
    }

    /// The items of a list.
    pub(crate) fn items(&self, expected: &str, faults: &mut Faults) -> Option<Vec<Node<'a>>> {
        let Some(list) = self.value.as_array() else {
            faults.push(self.wrong_type(expected));
            return None;
        };
        let item = |(i, value)| Node::new(value, format!("{}[{i}]", self.place.path));
        Some(list.iter().enumerate().map(item).collect())
    }

    /// The items of a list of at most `max`, or a single value as a list of one.
    pub(crate) fn one_or_many(&self, max: usize, faults: &mut Faults) -> Vec<Node<'a>> {
        if !self.is_list() {
            return vec![self.clone()];
        }
        let items = self.items("a list", faults).unwrap_or_default();
        if items.len() > max {
            let message = format!("a list of {}", items.len());
            faults.push(self.fault(message).expected(format!("at most {max}")));
            return Vec::new();
        }
        items
    }

    pub(crate) fn table(&self, expected: &str, faults: &mut Faults) -> Option<Table<'a>> {
        let Some(map) = self.value.as_table() else {
            faults.push(self.wrong_type(expected));
            return None;
        };
        Some(Table {
            map,
            place: self.place.clone(),
        })
    }
}

/// A table and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Table<'a> {
    map: &'a DeTable<'a>,
    pub(crate) place: Place,
}

impl<'a> Table<'a> {
    pub(crate) fn root(map: &'a DeTable<'a>) -> Self {
        Self {
            map,
            place: Place {
                span: 0..0,
                path: String::new(),
            },
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<Node<'a>> {
        let value = self.map.get(key)?;
        Some(Node::new(value, self.path_to(key)))
    }

    /// A value that has to be there.
    pub(crate) fn need(&self, key: &str, expected: &str, faults: &mut Faults) -> Option<Node<'a>> {
        let node = self.get(key);
        if node.is_none() {
            let fault = self.place.fault(format!("the key `{key}` is missing"));
            faults.push(fault.expected(expected));
        }
        node
    }

    /// All keys with where they stand, and their values.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'a str, Range<usize>, Node<'a>)> {
        self.map.iter().map(|(key, value)| {
            let name: &'a str = key.get_ref();
            (name, key.span(), Node::new(value, self.path_to(name)))
        })
    }

    /// Reports every key that is not known.
    pub(crate) fn check_keys(&self, known: &[&str], faults: &mut Faults) {
        for (key, span, node) in self.entries() {
            if known.contains(&key) {
                continue;
            }
            if faults.is_full() {
                faults.count += 1;
                return;
            }
            let message = match elsewhere(key, known) {
                Some((place, name)) => {
                    format!(
                        "unknown key `{}` here; `{name}` belongs in {place}",
                        quote(key)
                    )
                }
                None => format!("unknown key `{}`", quote(key)),
            };
            let fault = Fault::new(span, node.place.path, message);
            let fault = fault.expected(format!("one of {}", known.join(", ")));
            faults.push(fault.nearest(nearest(key, known.iter().copied())));
        }
    }

    fn path_to(&self, key: &str) -> String {
        let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let key = match key.bytes().all(bare) && !key.is_empty() && key.len() <= 60 {
            true => key.to_owned(),
            false => format!("\"{}\"", quote(key)),
        };
        match self.place.path.is_empty() {
            true => key,
            false => format!("{}.{key}", self.place.path),
        }
    }
}

/// The table that a key belongs to, and its name there, if it is not one of those known here.
fn elsewhere(key: &str, known: &[&str]) -> Option<(&'static str, &'static str)> {
    let squash = |key: &str| key.replace(['-', '_'], "").to_lowercase();
    let wanted = squash(key);
    if known.iter().any(|name| squash(name) == wanted) {
        return None;
    }
    schema::TABLES.iter().find_map(|(place, keys)| {
        let name = keys.iter().find(|name| squash(name) == wanted)?;
        Some((*place, *name))
    })
}
