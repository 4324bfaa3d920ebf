//! Durations as text: `500ms`, `5s`, `1h30m`.

use std::fmt::Write;
use std::time::Duration;

/// Units from the longest to the shortest, in milliseconds.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// The longest duration, 365 days.
const MAX_MILLIS: u64 = 365 * 86_400_000;

/// What a duration looks like, for messages.
pub(crate) const EXPECTED: &str =
    "a time in quotes with units d, h, m, s or ms, such as \"5s\", \"500ms\" or \"1h30m\"";

/// Reads a duration: whole numbers with the units `d`, `h`, `m`, `s` and `ms`, each unit once and
/// longer ones first (`1h30m`), or `0`; 365 days at most.
///
/// # Errors
/// Why it is none.
pub fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.is_empty() {
        return Err("an empty time");
    }
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut millis: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_lowercase).count();
        let (unit, tail) = tail.split_at(letters);
        if number.is_empty() {
            return Err("not a time");
        }
        if unit.is_empty() && tail.is_empty() {
            return Err("a time without a unit");
        }
        if !UNITS.iter().any(|(name, _)| *name == unit) {
            return Err("not a time");
        }
        let Some((_, factor)) = units.find(|(name, _)| *name == unit) else {
            return Err("longer units come first, each once");
        };
        millis = number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(*factor))
            .and_then(|n| n.checked_add(millis))
            .filter(|n| *n <= MAX_MILLIS)
            .ok_or("a time is at most 365d")?;
        rest = tail;
    }
    Ok(Duration::from_millis(millis))
}

/// Writes a duration as [`parse_duration`] reads it; what is below a millisecond is dropped.
pub fn format_duration(duration: Duration) -> String {
    let mut millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0".into();
    }
    let mut text = String::new();
    for (name, factor) in UNITS {
        let count = millis / factor;
        millis %= factor;
        if count > 0 {
            // Writing to a String cannot fail.
            let _ = write!(text, "{count}{name}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_units() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("500ms", 500),
            ("5s", 5_000),
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("365d", MAX_MILLIS),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
    }

    #[test]
    fn says_why_it_is_none() {
        for (text, why) in [
            ("", "empty"),
            ("5", "without a unit"),
            ("1h30", "without a unit"),
            ("s", "not a time"),
            ("-5s", "not a time"),
            ("5 s", "not a time"),
            ("5S", "not a time"),
            ("1.5s", "not a time"),
            ("5sec", "not a time"),
            ("5µs", "not a time"),
            ("1m1h", "longer units come first"),
            ("1s1s", "longer units come first"),
            ("366d", "at most 365d"),
            ("99999999999999999999s", "at most 365d"),
        ] {
            let error = parse_duration(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn text_and_back(millis in 0..=MAX_MILLIS) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = parse_duration(&text);
        }
    }
}
