//! Names of services and routes.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Serialize;

use crate::Invalid;

/// The name of a service or a route: 1 to 255 bytes, visible ASCII, no quotes, no backslash. Cheap
/// to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Name(Arc<str>);

impl Name {
    /// Longest name, in bytes.
    pub const MAX_LEN: usize = 255;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Err(Invalid::new(
                "a name is empty: give it at least one character",
            ));
        }
        if text.len() > Self::MAX_LEN {
            return Err(Invalid(format!(
                "a name of {} bytes is too long: at most {}",
                text.len(),
                Self::MAX_LEN
            )));
        }
        match text
            .chars()
            .find(|c| !c.is_ascii_graphic() || matches!(c, '"' | '\'' | '\\'))
        {
            Some(bad) => Err(Invalid(format!(
                "name {text:?} has {bad:?}: use letters, digits and signs such as - _ . / @"
            ))),
            None => Ok(Self(text.into())),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}
