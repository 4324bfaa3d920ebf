//! Checks: how it is found out whether a backend can serve.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::Invalid;

/// How the backends of a service are checked, and how often.
///
/// As text, for its kind with defaults for the rest: `tcp`, `http`, `http:/PATH`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Check {
    /// What is tried.
    pub kind: CheckKind,
    /// From the start of one check to the start of the next, within [`Check::INTERVAL`]; longer if
    /// the check itself takes longer.
    pub interval: Duration,
    /// For a whole check, within [`Check::TIMEOUT`].
    pub timeout: Duration,
    /// So many successes in a row bring a backend back that was down, within [`Check::COUNT`].
    pub rise: u32,
    /// So many failures in a row take a backend out, within [`Check::COUNT`].
    pub fall: u32,
    /// Checks go to this port (1..=65535) of the backend's address; none is the port of its
    /// traffic. Means nothing for Unix sockets.
    pub port: Option<u16>,
}

impl Check {
    /// The shortest and the longest interval.
    pub const INTERVAL: RangeInclusive<Duration> =
        Duration::from_millis(100)..=Duration::from_secs(86_400);
    /// The shortest and the longest time-out.
    pub const TIMEOUT: RangeInclusive<Duration> =
        Duration::from_millis(1)..=Duration::from_secs(60);
    /// The least and the greatest `rise` and `fall`.
    pub const COUNT: RangeInclusive<u32> = 1..=1000;

    /// A check of this kind: every 5 s, 2 s at most, `rise` 2 and `fall` 3 as in HAProxy (which
    /// checks every 2 s).
    pub fn new(kind: CheckKind) -> Self {
        Self {
            kind,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            rise: 2,
            fall: 3,
            port: None,
        }
    }

    /// Whether every value is in its range.
    ///
    /// # Errors
    /// The first that is not, by its name.
    pub fn validate(&self) -> Result<(), Invalid> {
        for (name, value, range) in [
            ("interval", self.interval, Self::INTERVAL),
            ("timeout", self.timeout, Self::TIMEOUT),
        ] {
            if !range.contains(&value) {
                return Err(Invalid(format!(
                    "the {name} of a check is {:?} to {:?}, not {value:?}",
                    range.start(),
                    range.end()
                )));
            }
        }
        for (name, value) in [("rise", self.rise), ("fall", self.fall)] {
            if !Self::COUNT.contains(&value) {
                return Err(Invalid(format!(
                    "the {name} of a check is {} to {}, not {value}",
                    Self::COUNT.start(),
                    Self::COUNT.end()
                )));
            }
        }
        if self.port == Some(0) {
            return Err(Invalid::new(
                "port 0 cannot be checked: use 1 to 65535, or none for that of the backend",
            ));
        }
        Ok(())
    }
}

impl FromStr for Check {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        text.parse().map(Self::new)
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

/// What a check tries. As text: `tcp`, `http` (which is `http:/`), `http:/PATH`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckKind {
    /// A TCP connection: to be accepted is a success.
    Tcp,
    /// `GET` over HTTP/1.1, on a connection of its own.
    Http {
        /// What is asked for.
        path: CheckPath,
        /// The `Host` header; none is the address and port that is checked.
        host: Option<CheckHost>,
        /// The status codes that are a success.
        status: StatusSet,
    },
}

impl CheckKind {
    /// `GET` of this path; any status from 200 to 399 is a success.
    pub fn http(path: CheckPath) -> Self {
        CheckKind::Http {
            path,
            host: None,
            status: StatusSet::default(),
        }
    }
}

impl FromStr for CheckKind {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.split_once(':') {
            None if text == "tcp" => Ok(CheckKind::Tcp),
            None if text == "http" => Ok(CheckKind::http(CheckPath::root())),
            Some(("http", path)) => Ok(CheckKind::http(path.parse()?)),
            _ => Err(Invalid(format!(
                "unknown check {text:?}; expected tcp, http or http:/PATH"
            ))),
        }
    }
}

/// Only the kind and the path are told.
impl fmt::Display for CheckKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CheckKind::Tcp => f.write_str("tcp"),
            CheckKind::Http { path, .. } => write!(f, "http:{path}"),
        }
    }
}

/// What an HTTP check asks for: a path with or without a query, 1 to 1024 bytes, visible ASCII
/// without `#`. It does not begin with two slashes, which nearly always is a URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct CheckPath(Arc<str>);

impl CheckPath {
    /// Longest path, in bytes.
    pub const MAX_LEN: usize = 1024;

    /// `/`.
    pub fn root() -> Self {
        Self("/".into())
    }

    /// The path as text; begins with a slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CheckPath {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = |why: &str| Err(Invalid(format!("path {text:?} of a check: {why}")));
        // What is left of `http://ADDR:PORT/PATH` behind `http:`.
        let url = text.strip_prefix("http:").or(text.strip_prefix("https:"));
        if let Some(rest) = url.unwrap_or(text).strip_prefix("//") {
            let path = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/");
            let path = path.get(..60).unwrap_or(path).escape_debug();
            return bad(&format!(
                "a path, not a URL: http:{path}; a port goes into check.port"
            ));
        }
        if !text.starts_with('/') {
            return bad("a path begins with /");
        }
        if text.len() > Self::MAX_LEN {
            return bad("it has more than 1024 bytes");
        }
        if text.bytes().any(|b| !b.is_ascii_graphic() || b == b'#') {
            return bad("a path is visible ASCII without #; write others as %XX");
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for CheckPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The `Host` header of an HTTP check: a name or an address with or without a port, 1 to 255
/// bytes of letters, digits and `-._~:[]` (RFC 9110 §7.2, without escapes).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct CheckHost(Arc<str>);

impl CheckHost {
    /// The header as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CheckHost {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._~:[]".contains(&b);
        if text.is_empty() || text.len() > 255 || !text.bytes().all(fits) {
            return Err(Invalid(format!(
                "host {text:?} of a check: not a host; expected a name or an address, such as \
                 example.com or example.com:8080"
            )));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for CheckHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A set of final HTTP status codes, 200..=599. As text: codes and ranges, `200-399` or
/// `200-299,401`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StatusSet(Arc<[(u16, u16)]>);

impl StatusSet {
    /// The status codes there can be in a set; those below are interim answers.
    pub const CODES: RangeInclusive<u16> = 200..=599;

    /// Whether a code is in the set.
    pub fn contains(&self, code: u16) -> bool {
        self.0
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&code))
    }
}

impl Default for StatusSet {
    /// 200 to 399, as HAProxy's `httpchk` without `http-check expect`.
    fn default() -> Self {
        Self([(200, 399)].into())
    }
}

impl FromStr for StatusSet {
    type Err = Invalid;

    /// Ranges that meet become one, so that equal sets are equal.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = |part: &str| {
            Invalid(format!(
                "status {part:?}: not a code or a range from 200 to 599; expected such as \
                 200-399 or 200-299,401"
            ))
        };
        let code = |part: &str| {
            let digits = part.len() == 3 && part.bytes().all(|b| b.is_ascii_digit());
            let code = part.parse().ok().filter(|_| digits);
            code.filter(|code| Self::CODES.contains(code))
        };
        let mut ranges = Vec::new();
        for part in text.split(',') {
            let part = part.trim_matches(' ');
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            match (code(first), code(last)) {
                (Some(first), Some(last)) if first <= last => ranges.push((first, last)),
                _ => return Err(bad(part)),
            }
        }
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::new();
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if first <= *end + 1 => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        Ok(Self(merged.into()))
    }
}

impl fmt::Display for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl Serialize for StatusSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_and_back() {
        for text in ["tcp", "http:/", "http:/health", "http:/a:b?c=d&e"] {
            assert_eq!(text.parse::<Check>().unwrap().to_string(), text);
        }
        assert_eq!("http".parse::<Check>(), "http:/".parse());
        for text in ["200-399", "200-299,401", "204"] {
            assert_eq!(text.parse::<StatusSet>().unwrap().to_string(), text);
        }
        assert_eq!("200-399".parse(), Ok(StatusSet::default()));
    }

    #[test]
    fn bad_text_says_what_is_wrong() {
        for (text, why) in [
            ("", "unknown check"),
            ("htp:/x", "unknown check"),
            ("tcp:80", "unknown check"),
            ("http:health", "begins with /"),
            ("http:", "begins with /"),
            ("http:/a b", "visible ASCII"),
            ("http:/a\r\nX: y", "visible ASCII"),
            ("http:/a#b", "without #"),
            ("http://host:80/health", "not a URL: http:/health; a port"),
            ("http://host", "not a URL: http:/;"),
            ("http:http://host/x?y", "not a URL: http:/x?y;"),
        ] {
            let error = text.parse::<Check>().unwrap_err().0;
            assert!(error.contains(why), "{text}: {error}");
        }
        let long = format!("http:/{}", "x".repeat(CheckPath::MAX_LEN));
        assert!(long.parse::<Check>().is_err());
        for text in ["", "a b", "a\r\nX: y", "é", "a/b", "user@host"] {
            assert!(text.parse::<CheckHost>().is_err(), "{text}");
        }
        for text in ["example.com", "example.com:80", "[fd00::1]:80"] {
            assert_eq!(text.parse::<CheckHost>().unwrap().as_str(), text);
        }
        for text in [
            "", "20", "100", "199", "600", "2xx", "300-200", "200-", "200,,300", "+20",
        ] {
            let error = text.parse::<StatusSet>().unwrap_err().0;
            assert!(error.contains("200 to 599"), "{text}: {error}");
        }
    }

    #[test]
    fn ranges() {
        let good = Check::new(CheckKind::Tcp);
        assert_eq!(good.validate(), Ok(()));
        type Change = fn(&mut Check);
        let cases: [(&str, Change); 8] = [
            ("interval", |c| c.interval = Duration::from_millis(99)),
            ("interval", |c| c.interval = Duration::from_secs(86_401)),
            ("timeout", |c| c.timeout = Duration::ZERO),
            ("timeout", |c| c.timeout = Duration::from_secs(61)),
            ("rise", |c| c.rise = 0),
            ("fall", |c| c.fall = 0),
            ("fall", |c| c.fall = 1001),
            ("port", |c| c.port = Some(0)),
        ];
        for (name, change) in cases {
            let mut check = good.clone();
            change(&mut check);
            let error = check.validate().unwrap_err().0;
            assert!(error.contains(name), "{error}");
        }
    }

    proptest! {
        /// A set holds what its parts say, and equal sets are equal whatever the words.
        #[test]
        fn a_set_is_its_parts(
            parts in prop::collection::vec((200u16..600, 0u16..60), 1..6),
            code in 200u16..600,
        ) {
            let parts = parts.into_iter().map(|(first, more)| (first, (first + more).min(599)));
            let parts: Vec<(u16, u16)> = parts.collect();
            let text = |parts: &[(u16, u16)]| {
                let parts: Vec<String> = parts.iter().map(|(a, b)| format!("{a}-{b}")).collect();
                parts.join(",")
            };
            let set: StatusSet = text(&parts).parse().unwrap();
            prop_assert_eq!(set.contains(code), parts.iter().any(|(a, b)| (*a..=*b).contains(&code)));
            prop_assert_eq!(set.to_string().parse(), Ok(set.clone()));
            let reversed: Vec<(u16, u16)> = parts.into_iter().rev().collect();
            prop_assert_eq!(text(&reversed).parse(), Ok(set));
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = text.parse::<Check>();
            let _ = text.parse::<StatusSet>();
            let _ = text.parse::<CheckHost>();
        }
    }
}
