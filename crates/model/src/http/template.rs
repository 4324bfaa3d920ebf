//! Texts with variables, for values of header fields.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::Invalid;

/// Something of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variable {
    /// The client's address, without port.
    Client,
    /// `Host`, as the client sent it, with its port.
    Host,
    /// The method.
    Method,
    /// The path as the client sent it, without query.
    Path,
    /// The query without `?`; empty if there is none.
    Query,
    /// The request's id; empty if the service gives none.
    RequestId,
    /// `http` or `https`: what the client speaks, as far as that is known.
    Scheme,
}

impl Variable {
    /// Every variable by its name.
    pub const NAMES: [(&'static str, Variable); 7] = [
        ("client", Variable::Client),
        ("host", Variable::Host),
        ("method", Variable::Method),
        ("path", Variable::Path),
        ("query", Variable::Query),
        ("request-id", Variable::RequestId),
        ("scheme", Variable::Scheme),
    ];

    /// The name.
    pub fn as_str(self) -> &'static str {
        let mut names = Self::NAMES.iter();
        let found = names.find(|(_, variable)| *variable == self);
        found.map_or("", |(name, _)| name)
    }
}

/// A piece of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// As it is.
    Text(Arc<str>),
    /// What a request says.
    Variable(Variable),
}

/// The value of a header field, with variables in it: `{client}`. `{{` is a brace. At most
/// [`Template::MAX_LEN`] bytes, all of them what a value may have (RFC 9110 §5.5, without obs-text).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Template {
    parts: Vec<Part>,
}

impl Template {
    /// The longest, in bytes.
    pub const MAX_LEN: usize = 4096;

    /// Its pieces in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }
}

impl FromStr for Template {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = |why: String| Invalid(format!("value {text:?}: {why}"));
        if text.len() > Self::MAX_LEN {
            let (is, most) = (text.len(), Self::MAX_LEN);
            return Err(Invalid(format!(
                "a value of {is} bytes: at most {most} are allowed"
            )));
        }
        if text.trim() != text {
            return Err(bad("it begins or ends with a blank".into()));
        }
        let is_good = |b: u8| matches!(b, b'\t' | b' '..=b'~');
        if !text.bytes().all(is_good) {
            return Err(bad("a value is ASCII without control characters".into()));
        }
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            plain.push_str(before);
            if let Some(after) = after.strip_prefix('{') {
                plain.push('{');
                rest = after;
                continue;
            }
            let end = after.split_once('}');
            let known = end.and_then(|(name, after)| {
                let mut names = Variable::NAMES.iter();
                let (_, variable) = names.find(|(known, _)| *known == name)?;
                Some((*variable, after))
            });
            let Some((variable, after)) = known else {
                let names = Variable::NAMES.map(|(name, _)| format!("{{{name}}}"));
                let name = end.map_or(after, |(name, _)| name);
                return Err(bad(format!(
                    "unknown variable `{{{name}}}`; expected one of {}, or {{{{ for a brace",
                    names.join(", ")
                )));
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain).into()));
            }
            parts.push(Part::Variable(variable));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain.into()));
        }
        Ok(Self { parts })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            match part {
                Part::Text(text) => f.write_str(&text.replace('{', "{{"))?,
                Part::Variable(variable) => write!(f, "{{{}}}", variable.as_str())?,
            }
        }
        Ok(())
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_as_they_were() {
        for text in ["", "a", "{client}", "a {host}{path} b", "{{\"a\": 1}", "}"] {
            assert_eq!(text.parse::<Template>().unwrap().to_string(), text);
        }
        let parts = "x{client}{{".parse::<Template>().unwrap().parts;
        let text = |text: &str| Part::Text(text.into());
        let wanted = [text("x"), Part::Variable(Variable::Client), text("{")];
        assert_eq!(parts, wanted);
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for text in ["a\r\nb", "a\0", "é", " a", "a ", "{nobody}", "{client", "{"] {
            assert!(text.parse::<Template>().is_err(), "{text:?}");
        }
        assert!("x".repeat(4097).parse::<Template>().is_err());
    }
}
