//! Pages in place of answers that say no.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::Invalid;

/// Statuses of answers that say no: one, or all of a class. Written `503` or `5xx`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorStatus {
    /// 400..=599.
    One(u16),
    /// 4 or 5: all that begin so.
    Class(u16),
}

impl ErrorStatus {
    /// How many there are.
    pub const MOST: usize = 202;

    /// Both classes.
    pub const ALL: [ErrorStatus; 2] = [ErrorStatus::Class(4), ErrorStatus::Class(5)];
}

impl FromStr for ErrorStatus {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let class = text.strip_suffix("xx").or_else(|| text.strip_suffix("XX"));
        if let Some("4" | "5") = class {
            return Ok(Self::Class(if class == Some("4") { 4 } else { 5 }));
        }
        let digits = text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse() {
            Ok(status @ 400..=599) if digits => Ok(Self::One(status)),
            _ => Err(Invalid(format!(
                "{text:?} is no status of an error; expected one from 400 to 599, or 4xx or 5xx for \
                 all of a class"
            ))),
        }
    }
}

impl fmt::Display for ErrorStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ErrorStatus::One(status) => write!(f, "{status}"),
            ErrorStatus::Class(class) => write!(f, "{class}xx"),
        }
    }
}

impl Serialize for ErrorStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Whether a status is one of these.
fn has(statuses: &BTreeSet<ErrorStatus>, status: u16) -> bool {
    statuses.contains(&ErrorStatus::One(status))
        || statuses.contains(&ErrorStatus::Class(status / 100))
}

/// What a file says that clients get to see.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Page {
    /// The file's name, as it was given.
    file: Arc<str>,
    media_type: &'static str,
    #[serde(skip)]
    text: Arc<str>,
}

impl Page {
    /// The longest page, in bytes: 256 KiB.
    pub const MAX_BYTES: usize = 256 << 10;

    /// What files that end so are, as `Content-Type` says it.
    pub const TYPES: [(&'static str, &'static str); 6] = [
        ("html", "text/html; charset=utf-8"),
        ("htm", "text/html; charset=utf-8"),
        ("txt", "text/plain; charset=utf-8"),
        ("json", "application/json"),
        ("xml", "application/xml"),
        ("xhtml", "application/xhtml+xml"),
    ];

    /// The text of a file; its name says what kind of text it is.
    ///
    /// # Errors
    /// The name does not end in one of [`Page::TYPES`], or the text is empty or too long.
    pub fn new(file: &str, text: Arc<str>) -> Result<Self, Invalid> {
        let ending = file
            .rsplit('/')
            .next()
            .and_then(|name| Some(name.rsplit_once('.')?.1));
        let is = |known: &str| ending.is_some_and(|ending| ending.eq_ignore_ascii_case(known));
        let Some((_, media_type)) = Self::TYPES.iter().find(|(known, _)| is(known)) else {
            let known = Self::TYPES.map(|(ending, _)| format!(".{ending}"));
            return Err(Invalid(format!(
                "{file:?} does not say what kind of text it is; expected a name that ends in {}",
                known.join(", ")
            )));
        };
        match text.len() {
            0 => Err(Invalid(format!("{file}: is empty"))),
            1..=Self::MAX_BYTES => Ok(Self {
                file: file.into(),
                media_type,
                text,
            }),
            n => Err(Invalid(format!(
                "{file}: is {n} bytes long; a page has at most {}",
                Self::MAX_BYTES
            ))),
        }
    }

    /// The file's name, as it was given.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Its `Content-Type`.
    pub fn media_type(&self) -> &'static str {
        self.media_type
    }

    /// What it says, 1..=[`Page::MAX_BYTES`] bytes.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)
    }
}

/// Pages by the statuses of the answers that they are for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct ErrorPages(pub BTreeMap<ErrorStatus, Page>);

impl ErrorPages {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The page for a status: one for itself goes before one for its class.
    pub fn get(&self, status: u16) -> Option<&Page> {
        let one = self.0.get(&ErrorStatus::One(status));
        one.or_else(|| self.0.get(&ErrorStatus::Class(status / 100)))
    }
}

impl fmt::Display for ErrorPages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pages = self.0.iter();
        let pages: Vec<String> = pages
            .map(|(status, page)| format!("{status} {page}"))
            .collect();
        f.write_str(&pages.join(", "))
    }
}

/// The statuses of backends' answers that get a page instead of their body, where there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Intercept(pub BTreeSet<ErrorStatus>);

impl Intercept {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a status is one of them.
    pub fn has(&self, status: u16) -> bool {
        has(&self.0, status)
    }
}

impl fmt::Display for Intercept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statuses: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&statuses.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read_as_they_are_written() {
        for text in ["400", "404", "503", "599", "4xx", "5xx"] {
            assert_eq!(text.parse::<ErrorStatus>().unwrap().to_string(), text);
        }
        assert_eq!("5XX".parse(), Ok(ErrorStatus::Class(5)));
        for bad in [
            "", "399", "600", "3xx", "xx", "5x", "05xx", "0404", "+404", "404 ", "4x4", "50",
        ] {
            assert!(bad.parse::<ErrorStatus>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_page_for_a_status_goes_before_that_of_its_class() {
        let page = |file: &str| Page::new(file, "x".into()).unwrap();
        let pages = [("503", "a.html"), ("5xx", "b.html"), ("404", "c.html")];
        let pages = pages.map(|(status, file)| (status.parse().unwrap(), page(file)));
        let pages = ErrorPages(pages.into());
        let file = |status| pages.get(status).map(Page::file);
        assert_eq!((file(503), file(500)), (Some("a.html"), Some("b.html")));
        assert_eq!((file(404), file(400)), (Some("c.html"), None));
        let some = Intercept(["404", "5xx"].map(|s| s.parse().unwrap()).into());
        let of = |status| some.has(status);
        assert_eq!(
            [404, 500, 599, 400, 200].map(of),
            [true, true, true, false, false]
        );
    }

    #[test]
    fn the_name_of_a_file_says_what_it_is() {
        let of = |file: &str| Page::new(file, "x".into()).map(|page| page.media_type());
        assert_eq!(of("/a.b/x.HTML"), Ok("text/html; charset=utf-8"));
        assert_eq!(of("x.json"), Ok("application/json"));
        for bad in ["x", "/a.html/x", "503.http", "html", "x.html/"] {
            assert!(of(bad).unwrap_err().0.contains(".html"), "{bad}");
        }
        let long = "x".repeat(Page::MAX_BYTES + 1);
        assert!(Page::new("x.txt", long.as_str().into()).is_err());
        assert!(Page::new("x.txt", long[1..].into()).is_ok());
        assert!(Page::new("x.txt", "".into()).is_err());
    }
}
