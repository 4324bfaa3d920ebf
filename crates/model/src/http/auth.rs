//! Basic authentication.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::Invalid;

/// The hash of a password as `htpasswd` writes it: bcrypt (`-B`), SHA-crypt (`-2`, `-5`) or apr1
/// (`-m`). It is never shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PasswordHash(Arc<str>);

/// How a password was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashKind {
    /// bcrypt, `$2y$`, `$2a$`, `$2b$`.
    Bcrypt,
    /// SHA-256-crypt or SHA-512-crypt, `$5$`, `$6$`.
    ShaCrypt,
    /// Apache's variant of MD5-crypt, `$apr1$`.
    Apr1,
}

impl PasswordHash {
    /// The greatest cost of bcrypt: about a second of a core for one password.
    pub const MAX_COST: u32 = 14;
    /// The most rounds of SHA-crypt: about a second of a core for one password.
    pub const MAX_ROUNDS: u32 = 1_000_000;

    /// How the password was hashed.
    pub fn kind(&self) -> HashKind {
        match self.0.as_bytes() {
            [b'$', b'2', ..] => HashKind::Bcrypt,
            [b'$', b'a', ..] => HashKind::Apr1,
            _ => HashKind::ShaCrypt,
        }
    }

    /// The hash, for who compares with it; not to be shown.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

fn is_base(text: &str, lengths: std::ops::RangeInclusive<usize>) -> bool {
    let is_digit = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'/';
    lengths.contains(&text.len()) && text.bytes().all(is_digit)
}

fn is_salt(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && b != b':')
}

impl FromStr for PasswordHash {
    type Err = Invalid;

    /// The text is not repeated in errors.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let parts: Vec<&str> = text.split('$').collect();
        let too_slow = |what: &str| {
            Err(Invalid(format!(
                "the hash of a password takes {what}: every wrong guess would cost seconds"
            )))
        };
        let good = match parts.as_slice() {
            ["", "2y" | "2a" | "2b", cost, rest] => match cost.parse::<u32>() {
                Ok(cost) if cost > Self::MAX_COST => {
                    return too_slow(&format!("bcrypt at more than cost {}", Self::MAX_COST));
                }
                Ok(4..) => cost.len() == 2 && is_base(rest, 53..=53),
                _ => false,
            },
            ["", "apr1", salt, rest] => is_salt(salt, 8) && is_base(rest, 22..=22),
            ["", kind @ ("5" | "6"), more @ .., salt, rest] => {
                let length = if *kind == "5" { 43 } else { 86 };
                let rounds = match more {
                    [] => Some(5000),
                    [rounds] => rounds.strip_prefix("rounds=").and_then(|n| n.parse().ok()),
                    _ => None,
                };
                match rounds {
                    Some(rounds) if rounds > Self::MAX_ROUNDS => {
                        return too_slow(&format!("more than {} rounds", Self::MAX_ROUNDS));
                    }
                    Some(1000..) => is_salt(salt, 16) && is_base(rest, length..=length),
                    _ => false,
                }
            }
            _ => false,
        };
        match good {
            true => Ok(Self(text.into())),
            false => Err(Invalid(
                "the hash of a password is not one of bcrypt ($2y$), SHA-crypt ($5$, $6$) or apr1 \
                 ($apr1$): make it with `htpasswd -nB USER`"
                    .into(),
            )),
        }
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Serialize for PasswordHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("…")
    }
}

/// Who may come in, and by which password (RFC 7617).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct BasicAuth {
    /// What it is that is protected, for people: printable ASCII without quotes and backslash.
    pub realm: Arc<str>,
    /// The users, by name.
    pub users: BTreeMap<Arc<str>, PasswordHash>,
}

impl BasicAuth {
    /// The realm where none is named.
    pub const DEFAULT_REALM: &'static str = "restricted";
    /// Users at most.
    pub const MAX_USERS: usize = 4096;
    /// The longest name, and the longest realm, in bytes.
    pub const MAX_LEN: usize = 255;

    /// `NAME:HASH`, a line of a file of `htpasswd`.
    ///
    /// # Errors
    /// It is not; the text is not repeated.
    pub fn user(text: &str) -> Result<(Arc<str>, PasswordHash), Invalid> {
        let Some((name, hash)) = text.split_once(':') else {
            return Err(Invalid(
                "a user is NAME:HASH, as `htpasswd -nB NAME` writes it".into(),
            ));
        };
        if name.is_empty() || name.len() > Self::MAX_LEN || name.chars().any(char::is_control) {
            return Err(Invalid(format!(
                "the name of a user has 1 to {} bytes without control characters",
                Self::MAX_LEN
            )));
        }
        Ok((name.into(), hash.parse()?))
    }

    /// Whether there are users, not too many, and the realm can be said.
    ///
    /// # Errors
    /// The first that is wrong.
    pub fn validate(&self) -> Result<(), Invalid> {
        let is_good = |b: u8| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\';
        if self.users.is_empty() || self.users.len() > Self::MAX_USERS {
            return Err(Invalid(format!(
                "basic-auth: {} users; 1 to {}",
                self.users.len(),
                Self::MAX_USERS
            )));
        }
        if self.realm.len() > Self::MAX_LEN || !self.realm.bytes().all(is_good) {
            return Err(Invalid(format!(
                "basic-auth: a realm is up to {} bytes of ASCII without quotes and backslash",
                Self::MAX_LEN
            )));
        }
        Ok(())
    }
}

impl fmt::Display for BasicAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.users.keys().map(|name| &**name).collect();
        f.write_str(&names.join(", "))
    }
}

/// Whether a text has what looks like the hash of a password, so that it should not be shown.
pub fn looks_secret(text: &str) -> bool {
    let marks = ["$2y$", "$2a$", "$2b$", "$apr1$", "$5$", "$6$", "{SHA}"];
    marks.iter().any(|mark| text.contains(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BCRYPT: &str = "$2y$05$vd0CCMF5Oe1BTmTrC4BiqOIGzOTmxBzkBQy0cEbGLJcXhHY/MMOk.";

    #[test]
    fn hashes_of_htpasswd_are_taken_and_never_shown() {
        let sha = format!("$5$rounds=6000$salt${}", "a".repeat(43));
        let long = format!("$6$salt${}", "a".repeat(86));
        let apr1 = format!("$apr1$r31....$ {}", "a".repeat(21)).replace(' ', ".");
        for (text, kind) in [
            (BCRYPT, HashKind::Bcrypt),
            (&sha, HashKind::ShaCrypt),
            (&long, HashKind::ShaCrypt),
            (&apr1, HashKind::Apr1),
        ] {
            let hash: PasswordHash = text.parse().unwrap();
            assert_eq!(hash.kind(), kind);
            assert!(looks_secret(text));
            assert_eq!(format!("{hash:?}"), "…");
        }
        let auth = BasicAuth {
            realm: "r".into(),
            users: [BasicAuth::user(&format!("alice:{BCRYPT}")).unwrap()].into(),
        };
        assert!(auth.validate().is_ok());
        assert_eq!(auth.to_string(), "alice");
        assert!(!format!("{auth:?}").contains('$'));
    }

    #[test]
    fn what_is_no_hash_is_refused_without_a_word_of_it() {
        let slow = BCRYPT.replace("$05$", "$15$");
        for text in [
            "secret",
            "{SHA}fEqNCco3Yq9h5ZUglD3CZJT4lBs=",
            "$2y$05$short",
            "$1$salt$aaaaaaaaaaaaaaaaaaaaaa",
            "$6$rounds=9999999$salt$aa",
            "rl5FQ.sZ1Pzq2",
            &slow,
        ] {
            let error = text.parse::<PasswordHash>().unwrap_err();
            assert!(!error.0.contains(text), "{text}");
        }
        assert!(BasicAuth::user("alice").is_err() && BasicAuth::user(":x").is_err());
    }
}
