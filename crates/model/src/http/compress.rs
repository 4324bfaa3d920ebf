//! Compression of responses.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::Invalid;

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 7932.
    Br,
    /// RFC 8878.
    Zstd,
}

impl Coding {
    /// Every coding by its name in `Content-Encoding`.
    pub const NAMES: [(&'static str, Coding); 3] = [
        ("gzip", Coding::Gzip),
        ("br", Coding::Br),
        ("zstd", Coding::Zstd),
    ];

    /// The name.
    pub fn as_str(self) -> &'static str {
        let mut names = Self::NAMES.iter();
        let found = names.find(|(_, coding)| *coding == self);
        found.map_or("", |(name, _)| name)
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Media types that are compressed, in lower case: `text/html`, or all of a kind: `text/*`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MediaTypes(Arc<str>);

impl MediaTypes {
    /// Whether a type without its parameters is one of these; case does not matter.
    pub fn has(&self, media_type: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(kind) => media_type
                .get(..kind.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(kind)),
            None => media_type.eq_ignore_ascii_case(&self.0),
        }
    }
}

impl FromStr for MediaTypes {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let token = |part: &str| {
            let sign = |b: u8| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b);
            !part.is_empty() && part.len() <= 127 && part.bytes().all(sign)
        };
        match text.split_once('/') {
            Some((kind, rest)) if token(kind) && (rest == "*" || token(rest)) => {
                Ok(Self(text.to_ascii_lowercase().into()))
            }
            _ => Err(Invalid(format!(
                "{text:?} is no media type; expected one such as text/html, or text/* for all of a kind"
            ))),
        }
    }
}

impl fmt::Display for MediaTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for MediaTypes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Compress what backends send without, for clients that accept it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Compress {
    /// The codings; of those that a client likes best the first.
    pub algorithms: Vec<Coding>,
    /// The types of responses that are compressed.
    pub types: Vec<MediaTypes>,
    /// Responses that are known to be shorter are left alone; bytes.
    pub min_size: u64,
    /// How hard to try, in 1..=[`Compress::MAX_LEVEL`], for every coding alike.
    pub level: u8,
}

impl Compress {
    /// The highest level. Higher ones of `br` and `zstd` take more time than a proxy should.
    pub const MAX_LEVEL: u8 = 9;
    /// The level where none is said.
    pub const DEFAULT_LEVEL: u8 = 4;
    /// Bytes that the encoders of a process may hold together where no limit is said: enough for
    /// some 50 responses at once by `br`, and 100 by `zstd`.
    pub const MEMORY: u64 = 256 << 20;
    /// The shortest response where no length is said.
    pub const DEFAULT_MIN_SIZE: u64 = 1024;
    /// The types where none are said.
    pub const DEFAULT_TYPES: [&'static str; 9] = [
        "text/*",
        "application/javascript",
        "application/json",
        "application/ld+json",
        "application/manifest+json",
        "application/rss+xml",
        "application/wasm",
        "application/xml",
        "image/svg+xml",
    ];
    /// Types at most.
    pub const MAX_TYPES: usize = 64;

    /// Whether the values are in their ranges.
    ///
    /// # Errors
    /// The first that is not.
    pub fn validate(&self) -> Result<(), Invalid> {
        let bad = |what: &str| Err(Invalid(format!("compress: {what}")));
        if self.algorithms.is_empty() {
            return bad("no algorithm: name one of gzip, br and zstd");
        }
        let mut rest = self.algorithms.as_slice();
        while let Some((first, others)) = rest.split_first() {
            if others.contains(first) {
                return bad(&format!("{first} is there twice"));
            }
            rest = others;
        }
        if self.types.is_empty() || self.types.len() > Self::MAX_TYPES {
            return bad("1 to 64 `types`");
        }
        if !(1..=Self::MAX_LEVEL).contains(&self.level) {
            return bad("`level` is 1 to 9");
        }
        Ok(())
    }
}

impl Default for Compress {
    /// `zstd`, `br` and `gzip` for text and what is like it, from 1 KiB on.
    fn default() -> Self {
        let types = Self::DEFAULT_TYPES.iter();
        Self {
            algorithms: vec![Coding::Zstd, Coding::Br, Coding::Gzip],
            types: types.filter_map(|text| text.parse().ok()).collect(),
            min_size: Self::DEFAULT_MIN_SIZE,
            level: Self::DEFAULT_LEVEL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_kinds() {
        let has = |types: &str, one: &str| types.parse::<MediaTypes>().unwrap().has(one);
        assert!(has("text/*", "text/HTML") && has("Text/Html", "text/html"));
        assert!(!has("text/*", "textual/x") && !has("text/*", "text"));
        assert!(!has("text/html", "text/html5"));
        for bad in [
            "text",
            "*/*",
            "text/",
            "/html",
            "text/*x",
            "text/html; charset=x",
            "",
        ] {
            assert!(bad.parse::<MediaTypes>().is_err(), "{bad}");
        }
        assert_eq!(
            Compress::default().types.len(),
            Compress::DEFAULT_TYPES.len()
        );
        assert_eq!(Compress::default().validate(), Ok(()));
    }
}
