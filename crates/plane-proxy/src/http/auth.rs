//! Basic authentication (RFC 7617).
//!
//! To compare a password with its hash takes milliseconds by design, so workers do not do it: a
//! few threads do, and each worker remembers what they found. What is remembered is a keyed hash,
//! so that no password stays in memory, and it goes with the hash that the password was compared
//! with: a changed one is not believed.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use plimsoll_model::{BasicAuth, PasswordHash};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::failure::Failure;
use super::password;
use crate::worker::Worker;

/// Credentials remembered per worker at most.
const REMEMBERED: usize = 4096;

/// Passwords that may wait to be compared at most, beside those that are.
const WAITING: usize = 64;

/// Of these, those of one client at most: an IPv4 address, or 64 bits of an IPv6 one.
const WAITING_OF_ONE: u32 = 8;

/// A password waits so long at most.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of a credential at most.
const MAX_LEN: usize = 1024;

/// [`BasicAuth`], ready.
#[derive(Debug)]
pub(crate) struct Auth {
    challenge: HeaderValue,
    users: BTreeMap<Arc<str>, PasswordHash>,
    /// What unknown users are compared with, so that they take as long as known ones.
    decoy: Option<PasswordHash>,
}

/// Who compares passwords, for all workers: at most half of the cores, so that guessing does not
/// take the machine from those who are let in.
#[derive(Debug)]
pub(crate) struct Guards {
    free: Arc<Semaphore>,
    /// Places to wait in, those of the ones being compared included.
    places: Arc<Semaphore>,
    /// Who has how many of them. A lock: bcrypt takes a thousand times as long.
    of: Arc<Mutex<HashMap<IpAddr, u32>>>,
}

/// A place to wait in.
struct Seat {
    _place: OwnedSemaphorePermit,
    client: IpAddr,
    of: Arc<Mutex<HashMap<IpAddr, u32>>>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = of.get_mut(&self.client) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                of.remove(&self.client);
            }
        }
    }
}

impl Guards {
    /// A place to wait in for this client; none if there is none, or it has enough of them.
    fn seat(&self, client: IpAddr) -> Option<Seat> {
        let client = match client {
            IpAddr::V4(_) => client,
            IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
        };
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if of.get(&client).is_some_and(|n| *n >= WAITING_OF_ONE) {
            return None;
        }
        let place = self.places.clone().try_acquire_owned().ok()?;
        *of.entry(client).or_insert(0) += 1;
        Some(Seat {
            _place: place,
            client,
            of: self.of.clone(),
        })
    }
}

impl Default for Guards {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let guards = (cores / 2).max(1);
        Self {
            free: Arc::new(Semaphore::new(guards)),
            places: Arc::new(Semaphore::new(guards + WAITING)),
            of: Arc::default(),
        }
    }
}

/// The credentials that were found to be right.
pub(crate) struct Known {
    key: [u8; 32],
    seen: RefCell<HashSet<[u8; 32]>>,
}

impl Known {
    /// Nothing is known yet. `random` gives what nobody can guess.
    pub(crate) fn new(mut random: impl FnMut() -> u64) -> Self {
        let mut key = [0; 32];
        for part in key.chunks_mut(8) {
            part.copy_from_slice(&random().to_ne_bytes());
        }
        Self {
            key,
            seen: RefCell::default(),
        }
    }

    fn digest(&self, hash: &PasswordHash, password: &[u8]) -> [u8; 32] {
        let hash = hash.reveal().as_bytes();
        let mut digest = Sha256::new();
        digest.update(self.key);
        digest.update(hash.len().to_ne_bytes());
        digest.update(hash);
        digest.update(password);
        digest.finalize().into()
    }

    fn has(&self, digest: &[u8; 32]) -> bool {
        self.seen.borrow().contains(digest)
    }

    fn add(&self, digest: [u8; 32]) {
        let mut seen = self.seen.borrow_mut();
        if seen.len() >= REMEMBERED {
            seen.clear();
        }
        seen.insert(digest);
    }
}

impl Auth {
    pub(crate) fn new(auth: &BasicAuth) -> Self {
        let challenge = format!("Basic realm=\"{}\", charset=\"UTF-8\"", auth.realm);
        Self {
            challenge: HeaderValue::try_from(challenge)
                .unwrap_or(HeaderValue::from_static("Basic")),
            users: auth.users.clone(),
            decoy: auth.users.values().next().cloned(),
        }
    }

    fn refused(&self, why: &'static str) -> Failure {
        let challenge = self.challenge.clone();
        Failure::new(StatusCode::UNAUTHORIZED, why).with(header::WWW_AUTHENTICATE, challenge)
    }

    /// Lets a request through, or says why not.
    pub(super) async fn check(
        &self,
        worker: &Worker,
        client: IpAddr,
        headers: &HeaderMap,
    ) -> Result<(), Failure> {
        let Some(said) = credential(headers) else {
            return Err(self.refused("a user and a password are needed"));
        };
        let wrong = || self.refused("the user or the password is wrong");
        let known = self.users.get(&*said.user);
        let Some(hash) = known.or(self.decoy.as_ref()) else {
            return Err(wrong());
        };
        let digest = worker.known.digest(hash, &said.password);
        if known.is_some() && worker.known.has(&digest) {
            return Ok(());
        }
        let busy = || {
            Failure::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many passwords to check",
            )
            .ending(*b"PR")
        };
        let guards = &worker.shared.guards;
        let Some(seat) = guards.seat(client) else {
            return Err(busy());
        };
        let free = guards.free.clone().acquire_owned();
        let Ok(Ok(guard)) = tokio::time::timeout(PATIENCE, free).await else {
            return Err(busy());
        };
        // Another connection of the same client may have been first.
        if known.is_some() && worker.known.has(&digest) {
            return Ok(());
        }
        let hash = hash.clone();
        let right = tokio::task::spawn_blocking(move || {
            let right = password::is_right(&said.password, &hash);
            drop((guard, seat));
            right
        });
        if right.await.unwrap_or(false) && known.is_some() {
            worker.known.add(digest);
            return Ok(());
        }
        Err(wrong())
    }
}

struct Credential {
    user: String,
    password: Vec<u8>,
}

/// What `Authorization` says, if it is there once and of the scheme `Basic`.
fn credential(headers: &HeaderMap) -> Option<Credential> {
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else {
        return None;
    };
    let field = field.as_bytes();
    let (scheme, coded) = field.split_at_checked(field.iter().position(|b| *b == b' ')?)?;
    if !scheme.eq_ignore_ascii_case(b"basic") || coded.len() > MAX_LEN {
        return None;
    }
    let mut said = STANDARD.decode(coded.trim_ascii()).ok()?;
    let colon = said.iter().position(|b| *b == b':')?;
    let password = said.split_off(colon + 1);
    said.truncate(colon);
    Some(Credential {
        user: String::from_utf8(said).ok()?,
        password,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_says_is_read_if_it_is_said_once() {
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            }
            credential(&headers).map(|said| (said.user, said.password))
        };
        let alice = Some(("alice".to_owned(), b"a:b".to_vec()));
        assert_eq!(read(&["Basic YWxpY2U6YTpi"]), alice);
        assert_eq!(read(&["bAsIc  YWxpY2U6YTpi"]), alice);
        assert_eq!(read(&["Basic YWxpY2U6YTpi", "Basic YWxpY2U6YTpi"]), None);
        for bad in [
            "",
            "Basic",
            "Basic ",
            "Basic !",
            "Bearer YWxpY2U6YTpi",
            "Basic YWxpY2U=",
        ] {
            assert_eq!(read(&[bad]), None, "{bad}");
        }
        assert_eq!(read(&[&format!("Basic {}", "A".repeat(2000))]), None);
    }

    #[test]
    fn one_client_does_not_take_all_places() {
        let guards = Guards::default();
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        let mut seats: Vec<_> = (0..WAITING_OF_ONE)
            .map(|n| guards.seat(ip(&format!("fd00::{n:x}"))).unwrap())
            .collect();
        assert!(
            guards.seat(ip("fd00::ffff")).is_none(),
            "64 bits are one client"
        );
        assert!(guards.seat(ip("fd00:0:0:1::1")).is_some());
        assert!(guards.seat(ip("10.0.0.1")).is_some());
        seats.pop();
        seats.push(guards.seat(ip("fd00::ffff")).unwrap());
        // All places have an end.
        let more = (0..=255).map_while(|n| guards.seat(ip(&format!("10.0.0.{n}"))));
        let more: Vec<_> = more.collect();
        assert!(
            (WAITING - seats.len()..200).contains(&more.len()),
            "{}",
            more.len()
        );
        drop((seats, more));
        assert!(guards.of.lock().unwrap().is_empty());
    }

    #[test]
    fn what_is_known_goes_with_the_hash_and_has_an_end() {
        let mut n = 0;
        let known = Known::new(|| {
            n += 1;
            n
        });
        let hash = |salt: &str| -> PasswordHash {
            format!("$apr1${salt}${}", "a".repeat(22)).parse().unwrap()
        };
        let digest = known.digest(&hash("x"), b"secret");
        known.add(digest);
        assert!(known.has(&digest));
        assert!(!known.has(&known.digest(&hash("y"), b"secret")));
        assert!(!known.has(&known.digest(&hash("x"), b"secret ")));
        for i in 0..=REMEMBERED {
            known.add(known.digest(&hash("x"), &i.to_ne_bytes()));
        }
        assert!(known.seen.borrow().len() <= REMEMBERED);
    }
}
