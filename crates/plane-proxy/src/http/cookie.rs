//! Persistence by a cookie (HAProxy 2.6, `cookie`).
//!
//! A value is a keyed hash of the backend's name, or of its address if it has no name that is its
//! alone: the same in every process that has the same configuration. What is no such value, or that
//! of a backend that takes nothing, is as if it were not there, as in HAProxy without `option persist`.
//! A backend of weight 0 takes those of its clients that come back, as there.

pub(crate) mod fields;

use std::collections::HashMap;
use std::hash::Hasher;

use http::header::{self, HeaderMap, HeaderValue};
use plimsoll_model::{Backend, BackendAddr, Cookie, CookieMode, Name};
use siphasher::sip::{SipHasher13, SipHasher24};

use self::fields::{Edit, edit_cookies, edit_set_cookies};

/// Between a value and its two dates.
const DATES: u8 = b'|';

/// After a value that stands before a backend's own.
const BEFORE: u8 = b'~';

/// A date in a cookie is not older than so many seconds when it is used, or it is renewed.
const RENEWED: u64 = 4;

/// A date so many seconds ahead is not heeded: the clock it was made by was wrong.
const AHEAD: u64 = 24 * 3600;

/// A value: 64 bits in lower-case hexadecimal digits.
type Value = [u8; 16];

/// What a request's cookie said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Found {
    /// There was none.
    #[default]
    None,
    /// It names no backend of this service.
    Unknown,
    /// It was not used, or is in use, for too long.
    Expired,
    /// It names a backend that took the request.
    Kept,
    /// It names a backend that did not take the request.
    Moved,
}

/// How many there are.
pub(crate) const FOUND: usize = 5;

/// What is known of a request by its cookie.
#[derive(Debug, Default)]
pub(crate) struct Visit {
    pub(crate) found: Found,
    /// The backend it named, if it named one.
    pub(crate) wanted: Option<BackendAddr>,
    /// When it was last renewed and first set, in seconds of Unix time.
    dates: Option<(u64, u64)>,
}

/// The cookie of a service, as of one snapshot.
#[derive(Debug)]
pub(crate) struct Jar {
    settings: Cookie,
    /// By what a cookie may say: also by what it said before another backend of the same name came or
    /// went.
    backends: HashMap<Value, BackendAddr>,
    /// By what a cookie is to say.
    values: HashMap<BackendAddr, Value>,
}

impl Jar {
    /// For these backends of a service.
    pub(crate) fn new<'a>(
        settings: Cookie,
        service: &Name,
        backends: impl Iterator<Item = &'a Backend> + Clone,
    ) -> Self {
        let mut named: HashMap<&str, u32> = HashMap::new();
        for backend in backends.clone() {
            *named.entry(&backend.name).or_default() += 1;
        }
        let mut jar = Self {
            settings,
            backends: HashMap::new(),
            values: HashMap::new(),
        };
        for backend in backends {
            let value = |kind, text: &str| value(&jar.settings.key, service, kind, text);
            let by_address = value("address", &backend.addr.to_string());
            let mut of_backend = by_address;
            jar.backends.insert(by_address, backend.addr.clone());
            if !backend.name.is_empty() {
                let by_name = value("name", &backend.name);
                if named.get(&*backend.name) == Some(&1) {
                    of_backend = by_name;
                }
                // Of several the first.
                jar.backends
                    .entry(by_name)
                    .or_insert_with(|| backend.addr.clone());
            }
            jar.values.insert(backend.addr.clone(), of_backend);
        }
        jar
    }

    /// The name of the cookie.
    pub(crate) fn name(&self) -> &str {
        &self.settings.name
    }

    /// Whether the time is needed.
    pub(crate) fn is_dated(&self) -> bool {
        self.settings.maxidle.is_some() || self.settings.maxlife.is_some()
    }

    /// Reads the cookie of a request, and takes out of the request what is not for backends. `now` is
    /// the Unix time in seconds.
    pub(crate) fn read(&self, headers: &mut HeaderMap, now: u64) -> Visit {
        let mut visit = Visit::default();
        if !headers.contains_key(header::COOKIE) {
            return visit;
        }
        edit_cookies(headers, self.name().as_bytes(), |value| {
            match self.settings.mode {
                CookieMode::Insert => {
                    self.find(&mut visit, value, now);
                    match self.settings.indirect {
                        true => Edit::Remove,
                        false => Edit::Keep,
                    }
                }
                CookieMode::Rewrite => {
                    self.find(&mut visit, value, now);
                    Edit::Keep
                }
                CookieMode::Prefix => match split_once(value, BEFORE) {
                    Some((before, own)) if before.len() == size_of::<Value>() => {
                        self.find(&mut visit, before, now);
                        Edit::Replace(own.to_vec())
                    }
                    _ => Edit::Keep,
                },
            }
        });
        visit
    }

    /// Takes note of one more cookie. The first that names a backend counts, else the first: clients
    /// may have one for each path or domain that a service had.
    fn find(&self, visit: &mut Visit, text: &[u8], now: u64) {
        if visit.wanted.is_some() {
            return;
        }
        let one = self.visit(text, now);
        if visit.found == Found::None || one.wanted.is_some() {
            *visit = one;
        }
    }

    fn visit(&self, text: &[u8], now: u64) -> Visit {
        let (value, dates) = match split_once(text, DATES) {
            Some((value, dates)) => (value, read_dates(dates)),
            None => (text, None),
        };
        let over = |since: u64, limit: Option<std::time::Duration>| {
            limit.is_some_and(|limit| {
                now.saturating_sub(since) > limit.as_secs() || since > now.saturating_add(AHEAD)
            })
        };
        if dates.is_some_and(|(last, first)| {
            over(last, self.settings.maxidle) || over(first, self.settings.maxlife)
        }) {
            return Visit {
                found: Found::Expired,
                ..Visit::default()
            };
        }
        let wanted = Value::try_from(value).ok();
        let wanted = wanted.and_then(|value| self.backends.get(&value)).cloned();
        Visit {
            found: match wanted {
                Some(_) => Found::Kept,
                None => Found::Unknown,
            },
            wanted,
            dates,
        }
    }

    /// Puts the cookie into the response of a backend, if it has to be there.
    pub(crate) fn write(
        &self,
        headers: &mut HeaderMap,
        visit: &Visit,
        backend: &BackendAddr,
        now: u64,
    ) {
        // A sorry server has no value: nobody is to stay there.
        let Some(value) = self.values.get(backend) else {
            return;
        };
        let name = self.name().as_bytes();
        match self.settings.mode {
            CookieMode::Insert => {
                edit_set_cookies(headers, name, |_| Edit::Remove);
                if visit.wanted.as_ref() != Some(backend) || self.is_to_renew(visit, now) {
                    self.insert(headers, value, visit, backend, now);
                }
            }
            CookieMode::Rewrite => {
                edit_set_cookies(headers, name, |_| Edit::Replace(value.to_vec()));
            }
            CookieMode::Prefix => edit_set_cookies(headers, name, |own| {
                Edit::Replace([value, &[BEFORE][..], own].concat())
            }),
        }
    }

    /// Whether the dates of a good cookie are not what they should be.
    fn is_to_renew(&self, visit: &Visit, now: u64) -> bool {
        match visit.dates {
            None => self.is_dated(),
            Some((last, _)) => {
                let idle = self.settings.maxidle.is_some();
                !self.is_dated() || idle && now.abs_diff(last) >= RENEWED
            }
        }
    }

    fn insert(
        &self,
        headers: &mut HeaderMap,
        value: &Value,
        visit: &Visit,
        backend: &BackendAddr,
        now: u64,
    ) {
        let Cookie {
            name,
            nocache,
            httponly,
            secure,
            domain,
            ..
        } = &self.settings;
        let mut text = format!("{name}={}", String::from_utf8_lossy(value));
        if self.is_dated() {
            // Whoever is sent elsewhere begins anew.
            let stays = visit.wanted.as_ref() == Some(backend);
            let first = visit
                .dates
                .filter(|_| stays)
                .map_or(now, |(_, first)| first);
            text.push_str(&format!("|{now:x}|{first:x}"));
        }
        text.push_str("; path=/");
        if let Some(domain) = domain {
            text.push_str("; domain=");
            text.push_str(domain);
        }
        if *httponly {
            text.push_str("; HttpOnly");
        }
        if *secure {
            text.push_str("; Secure");
        }
        // The model lets nothing through that is no field.
        if let Ok(text) = HeaderValue::from_str(&text) {
            headers.append(header::SET_COOKIE, text);
        }
        if *nocache {
            headers.append(header::CACHE_CONTROL, HeaderValue::from_static("private"));
        }
    }
}

/// The value of a backend. SipHash-1-3 makes a key of the words, SipHash-2-4 the value by it: who
/// does not know the words cannot go back to the backend.
fn value(key: &str, service: &Name, kind: &str, backend: &str) -> Value {
    let of_key = |part: u64| {
        let mut hasher = SipHasher13::new_with_keys(part, 0);
        hasher.write(key.as_bytes());
        hasher.finish()
    };
    let mut hasher = SipHasher24::new_with_keys(of_key(1), of_key(2));
    for text in [service.as_str(), kind, backend] {
        hasher.write(text.as_bytes());
        hasher.write(&[0]);
    }
    let mut value = [0; 16];
    for (digit, place) in value.iter_mut().zip((0..64).step_by(4).rev()) {
        let nibble = (hasher.finish() >> place) as u32 & 0xf;
        *digit = char::from_digit(nibble, 16).map_or(b'0', |c| c as u8);
    }
    value
}

fn split_once(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = memchr::memchr(at, text)?;
    Some((text.get(..place)?, text.get(place + 1..)?))
}

/// Last and first, in hexadecimal digits.
fn read_dates(text: &[u8]) -> Option<(u64, u64)> {
    let (last, first) = std::str::from_utf8(text).ok()?.split_once('|')?;
    let seconds = |text| u64::from_str_radix(text, 16).ok();
    Some((seconds(last)?, seconds(first)?))
}

#[cfg(test)]
mod tests;
