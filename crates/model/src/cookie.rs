//! Persistence by a cookie, as HAProxy's `cookie` keyword has it.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::Invalid;

/// Who makes the cookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CookieMode {
    /// The director.
    #[default]
    Insert,
    /// The backend; the director puts its own value into it.
    Rewrite,
    /// The backend; the director puts the name of the backend and `~` before its value, and takes
    /// them away from what the client sends back.
    Prefix,
}

impl CookieMode {
    /// Every mode by its name.
    pub const NAMES: [(&'static str, CookieMode); 3] = [
        ("insert", CookieMode::Insert),
        ("rewrite", CookieMode::Rewrite),
        ("prefix", CookieMode::Prefix),
    ];
}

/// Keep an HTTP client on its backend by a cookie.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Cookie {
    /// The name of the cookie.
    pub name: Arc<str>,
    /// Who makes it.
    pub mode: CookieMode,
    /// `insert`: backends do not get to see it.
    pub indirect: bool,
    /// `insert`: an answer that sets it is said to be for this client alone
    /// (`Cache-Control: private`).
    pub nocache: bool,
    /// `insert`: scripts do not get to see it.
    pub httponly: bool,
    /// `insert`: it is sent back over TLS only.
    pub secure: bool,
    /// `insert`: it is for all names below this one, instead of for the host asked for alone.
    pub domain: Option<Arc<str>>,
    /// `insert`: it is not heeded any more once it was not used for so long, a second or more.
    pub maxidle: Option<Duration>,
    /// `insert`: it is not heeded any more so long after it was first set, a second or more.
    pub maxlife: Option<Duration>,
    /// What the values are made with, empty or of 8 to 255 characters. Whoever does not know it cannot find out addresses from them.
    pub key: Arc<str>,
}

impl Cookie {
    /// A cookie of this name and mode, with what is usual for the rest: `insert` is indirect,
    /// nocache and httponly.
    pub fn new(name: Arc<str>, mode: CookieMode) -> Self {
        let inserted = mode == CookieMode::Insert;
        Self {
            name,
            mode,
            indirect: inserted,
            nocache: inserted,
            httponly: inserted,
            secure: false,
            domain: None,
            maxidle: None,
            maxlife: None,
            key: Arc::from(""),
        }
    }

    /// Whether every value is in its range and the values fit each other.
    ///
    /// # Errors
    /// The first that does not.
    pub fn validate(&self) -> Result<(), Invalid> {
        let bad = |why: String| Err(Invalid(why));
        if self.name.len() > 255 || !is_token(&self.name) {
            return bad(format!(
                "{:?} is not the name of a cookie: letters, digits and !#$%&'*+-.^_`|~, at most 255",
                self.name
            ));
        }
        let of_insert = [
            ("indirect", self.indirect),
            ("nocache", self.nocache),
            ("httponly", self.httponly),
            ("secure", self.secure),
            ("domain", self.domain.is_some()),
            ("maxidle", self.maxidle.is_some()),
            ("maxlife", self.maxlife.is_some()),
        ];
        let said = of_insert.iter().find(|(_, said)| *said);
        if let (false, Some((key, _))) = (self.mode == CookieMode::Insert, said) {
            return bad(format!(
                "`{key}` is for mode insert: in the others the backend makes the cookie"
            ));
        }
        let part = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'.';
        if let Some(domain) = &self.domain
            && (domain.is_empty() || domain.len() > 255 || !domain.bytes().all(part))
        {
            return bad(format!("{domain:?} is not a domain, such as example.com"));
        }
        if !self.key.is_empty() && !(8..=255).contains(&self.key.len()) {
            return bad("a key has 8 to 255 characters".into());
        }
        let short = |time: Option<Duration>| time.is_some_and(|t| t < Duration::from_secs(1));
        if short(self.maxidle) || short(self.maxlife) {
            return bad("maxidle and maxlife are at least 1s".into());
        }
        Ok(())
    }
}

/// RFC 9110 §5.6.2, which RFC 6265 §4.1.1 wants the name of a cookie to be.
fn is_token(text: &str) -> bool {
    let tchar = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(tchar)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_said() {
        let valid = |set: &dyn Fn(&mut Cookie), mode| {
            let mut cookie = Cookie::new("SRV".into(), mode);
            set(&mut cookie);
            cookie.validate().map_err(|e| e.0)
        };
        for mode in CookieMode::NAMES.map(|(_, mode)| mode) {
            assert_eq!(valid(&|_| {}, mode), Ok(()));
        }
        type Set = dyn Fn(&mut Cookie);
        let cases: [(&Set, &str); 6] = [
            (&|c| c.key = "short".into(), "8 to 255 characters"),
            (&|c| c.name = "".into(), "not the name of a cookie"),
            (&|c| c.name = "a b".into(), "not the name of a cookie"),
            (&|c| c.name = "a=b".into(), "not the name of a cookie"),
            (&|c| c.domain = Some("a;b".into()), "not a domain"),
            (
                &|c| c.maxidle = Some(Duration::from_millis(999)),
                "at least 1s",
            ),
        ];
        for (set, words) in cases {
            let error = valid(set, CookieMode::Insert).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        let error = valid(&|c| c.secure = true, CookieMode::Prefix).unwrap_err();
        assert!(error.contains("`secure` is for mode insert"), "{error}");
    }
}
