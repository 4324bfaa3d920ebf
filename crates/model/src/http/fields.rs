//! Changes of header fields.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Serialize;

use super::template::Template;
use crate::Invalid;

/// The name of a header field, in lower case: a token (RFC 9110 §5.1) of at most 128 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct FieldName(Arc<str>);

impl FieldName {
    /// The longest, in bytes.
    pub const MAX_LEN: usize = 128;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FieldName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if text.is_empty() || !text.bytes().all(is_token) {
            return Err(Invalid(format!(
                "header {text:?}: a name has letters, digits and signs such as -"
            )));
        }
        if text.len() > Self::MAX_LEN {
            return Err(Invalid(format!(
                "header {text:?}: a name of {} bytes; at most {}",
                text.len(),
                Self::MAX_LEN
            )));
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Fields that say how a message is framed or what becomes of the connection (RFC 9110 §7.6.1,
/// RFC 9112 §6): only the two ends of a connection can know them.
const OF_CONNECTION: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "proxy-authenticate",
];

/// Changes of a header: first those that go, then those that are set, then those that are added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct FieldRules {
    /// Taken out, all of that name.
    pub remove: BTreeSet<FieldName>,
    /// Put in the place of all of that name.
    pub set: BTreeMap<FieldName, Template>,
    /// Added to those of that name.
    pub add: BTreeMap<FieldName, Template>,
}

impl FieldRules {
    /// What rules for requests are called in messages.
    pub const REQUEST: &'static str = "request-headers";
    /// What rules for responses are called in messages.
    pub const RESPONSE: &'static str = "response-headers";
    /// Fields of one kind of change at most.
    pub const MAX: usize = 64;

    /// Whether they change nothing.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Whether a field of this name may be changed at all, by rules called `what`; `set` says
    /// whether it is set rather than added or removed.
    ///
    /// # Errors
    /// Why it may not.
    pub fn allows(what: &str, name: &FieldName, set: bool) -> Result<(), Invalid> {
        if OF_CONNECTION.contains(&name.as_str()) {
            return Err(Invalid(format!(
                "{what}: header `{name}` says how a message is framed or what becomes of the \
                 connection, so only plimsoll itself can: leave it out"
            )));
        }
        if what == Self::REQUEST && name.as_str() == "host" && !set {
            return Err(Invalid(format!(
                "{what}: every request has exactly one `host`, which can only be set"
            )));
        }
        Ok(())
    }

    /// Whether there are not too many, of fields that may be changed; `what` names them.
    ///
    /// # Errors
    /// The first that may not.
    pub fn validate(&self, what: &str) -> Result<(), Invalid> {
        let Self { remove, set, add } = self;
        for name in remove.iter().chain(add.keys()) {
            Self::allows(what, name, false)?;
        }
        for name in set.keys() {
            Self::allows(what, name, true)?;
        }
        let most = remove.len().max(set.len()).max(add.len());
        if most > Self::MAX {
            let max = Self::MAX;
            return Err(Invalid(format!("{what}: {most} headers, at most {max}")));
        }
        Ok(())
    }
}

impl fmt::Display for FieldRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let removed = self.remove.iter().map(|name| format!("-{name}"));
        let set = self.set.iter().map(|(name, v)| format!("{name}: {v}"));
        let added = self.add.iter().map(|(name, v)| format!("+{name}: {v}"));
        let all: Vec<String> = removed.chain(set).chain(added).collect();
        match all.is_empty() {
            true => f.write_str("none"),
            false => f.write_str(&all.join(" || ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> FieldName {
        text.parse().unwrap()
    }

    #[test]
    fn names_are_tokens_in_lower_case() {
        assert_eq!(name("X-Real-IP").as_str(), "x-real-ip");
        for bad in ["", "a b", "a:", "ä", "a\r\n"] {
            assert!(bad.parse::<FieldName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_frames_a_message_is_not_touched() {
        let allowed = |what, text, set| FieldRules::allows(what, &name(text), set).is_ok();
        for framing in OF_CONNECTION {
            assert!(!allowed(FieldRules::REQUEST, framing, true), "{framing}");
            assert!(!allowed(FieldRules::RESPONSE, framing, false), "{framing}");
        }
        assert!(allowed(FieldRules::REQUEST, "Host", true));
        assert!(!allowed(FieldRules::REQUEST, "Host", false));
        assert!(allowed(FieldRules::RESPONSE, "Server", false));
        let mut rules = FieldRules::default();
        rules.remove.insert(name("te"));
        assert!(rules.validate(FieldRules::REQUEST).is_err());
    }
}
