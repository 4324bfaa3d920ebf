//! Reasons in the words of those who read them: what an engine says was written as labels, and
//! files have keys.

use std::fmt::Write;
use std::time::Duration;

use plimsoll_model::{Invalid, Origin, Precedence};

/// Whether what a source of this precedence says was written as labels.
pub(super) fn has_labels(precedence: Precedence) -> bool {
    precedence == Precedence::Engine
}

/// The label that says a setting, given by its key in a file.
pub(super) fn label(setting: &str) -> String {
    let setting = match setting {
        "timeouts.drain" => "drain",
        other => other,
    };
    format!("plimsoll.{setting}")
}

/// Who said something, to somebody from `reader`: just the entry where the source is the same.
pub(super) fn who<'a>(origin: &'a Origin, reader: &Origin) -> std::borrow::Cow<'a, str> {
    match origin.source == reader.source {
        true => (&*origin.entry).into(),
        false => origin.to_string().into(),
    }
}

/// What is wrong with something that a source of this precedence said.
pub(super) fn wrong(precedence: Precedence, error: Invalid) -> String {
    match has_labels(precedence) {
        true => as_labels(&error.0),
        false => error.0,
    }
}

/// Every `KEY = "VALUE"` of a text as `plimsoll.KEY=VALUE`.
fn as_labels(text: &str) -> String {
    let mut told = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(" = \"")
        && let Some((value, tail)) = after.split_once('"')
    {
        let (before, key) = match before.rsplit_once(' ') {
            Some((before, key)) => (format!("{before} "), key),
            None => (String::new(), before),
        };
        // Writing to a String cannot fail, here and below.
        let _ = write!(told, "{before}{}={value}", label(key));
        rest = tail;
    }
    told.push_str(rest);
    told
}

/// A time as it is written in labels and files: `5s`, `1m30s`, `0` for none.
pub(super) fn time(time: &Duration) -> String {
    const UNITS: [(&str, u128); 5] = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    let mut millis = time.as_millis();
    let mut text = String::new();
    for (unit, length) in UNITS {
        let count = millis / length;
        millis %= length;
        if count > 0 {
            let _ = write!(text, "{count}{unit}");
        }
    }
    match text.is_empty() {
        true => "0".into(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_files_become_labels() {
        for (text, labels) in [
            (
                "the proxy plane has no persistence: use scheduler = \"mh\", which keeps",
                "the proxy plane has no persistence: use plimsoll.scheduler=mh, which keeps",
            ),
            (
                "plane = \"proxy\" or plane = \"ipvs\"",
                "plimsoll.plane=proxy or plimsoll.plane=ipvs",
            ),
            ("plane = \"proxy", "plane = \"proxy"),
            ("nothing of it", "nothing of it"),
        ] {
            assert_eq!(as_labels(text), labels);
        }
    }

    #[test]
    fn times_are_short() {
        for (millis, text) in [
            (0, "0"),
            (5, "5ms"),
            (5_000, "5s"),
            (90_000, "1m30s"),
            (86_400_000, "1d"),
        ] {
            assert_eq!(time(&Duration::from_millis(millis)), text);
        }
    }
}
