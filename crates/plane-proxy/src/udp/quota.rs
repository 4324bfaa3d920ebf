//! How many sessions there may be: of a service, of one source at a service, and in all. Exact over
//! all workers.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Locks that share the sources of a service between them.
const SHARDS: usize = 16;

/// Sockets that rest at most, per worker and family: for some 50 000 short sessions in a second.
const RESTING: usize = 512;

/// Sessions in all: each holds a file descriptor.
#[derive(Debug)]
pub(crate) struct All {
    most: u32,
    now: AtomicU32,
}

impl All {
    /// At most so many.
    pub(crate) fn new(most: u32) -> Self {
        let now = AtomicU32::new(0);
        Self { most, now }
    }

    /// How many sockets each worker may keep for sessions to come, of each family: few beside the
    /// sessions that there may be.
    pub(crate) fn resting(&self, workers: usize) -> usize {
        let share = self.most as usize / 16 / workers.max(1);
        share.min(RESTING)
    }
}

/// The sessions of one service.
#[derive(Debug, Default)]
pub(crate) struct OfService {
    now: AtomicU32,
    /// A backend has answered.
    answers: AtomicBool,
    sources: [Mutex<HashMap<IpAddr, u32>>; SHARDS],
    hasher: RandomState,
}

/// Which limit leaves no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    All,
    Service,
    Source,
}

/// A session's room, given back when dropped.
#[derive(Debug)]
pub(crate) struct Room {
    all: Arc<All>,
    service: Arc<OfService>,
    /// None if sources are not counted.
    source: Option<IpAddr>,
}

/// Who counts as one source: an IPv4 address, or the /64 that one IPv6 host commonly has for itself.
pub(crate) fn source(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => std::net::Ipv6Addr::from(u128::from(ip) >> 64 << 64).into(),
    }
}

impl OfService {
    /// Sessions now.
    pub(crate) fn now(&self) -> u32 {
        self.now.load(Ordering::Relaxed)
    }

    /// A backend has answered a client.
    pub(crate) fn has_answered(&self) {
        // Read first: all workers share it.
        if !self.answers() {
            self.answers.store(true, Ordering::Relaxed);
        }
    }

    /// Whether its backends answer at all. Where they never do, as with a log's, silence is no failure.
    pub(crate) fn answers(&self) -> bool {
        self.answers.load(Ordering::Relaxed)
    }

    fn shard(&self, source: IpAddr) -> Option<MutexGuard<'_, HashMap<IpAddr, u32>>> {
        let at = usize::try_from(self.hasher.hash_one(source)).unwrap_or(0) % SHARDS;
        let shard = self.sources.get(at)?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Takes room for a session of `client`, where there may be `most` of the service and `per_source`
/// of one source; 0 is no limit of it. The lock is one of many, and is taken only where a session
/// begins or ends and sources are limited.
pub(crate) fn enter(
    all: &Arc<All>,
    service: &Arc<OfService>,
    client: IpAddr,
    most: u32,
    per_source: u32,
) -> Result<Room, Full> {
    if !raise(&all.now, all.most) {
        return Err(Full::All);
    }
    if !raise(&service.now, most) {
        all.now.fetch_sub(1, Ordering::Relaxed);
        return Err(Full::Service);
    }
    let mut room = Room {
        all: all.clone(),
        service: service.clone(),
        source: None,
    };
    if per_source == 0 {
        return Ok(room);
    }
    let source = source(client);
    if let Some(mut shard) = service.shard(source) {
        let count = shard.entry(source).or_default();
        if *count >= per_source {
            return Err(Full::Source);
        }
        *count += 1;
        room.source = Some(source);
    }
    Ok(room)
}

fn raise(count: &AtomicU32, most: u32) -> bool {
    let raised = |n: u32| (n < most).then_some(n + 1);
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, raised)
        .is_ok()
}

impl Drop for Room {
    fn drop(&mut self) {
        self.all.now.fetch_sub(1, Ordering::Relaxed);
        self.service.now.fetch_sub(1, Ordering::Relaxed);
        let Some(source) = self.source else {
            return;
        };
        if let Some(mut shard) = self.service.shard(source)
            && let Some(count) = shard.get_mut(&source)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                shard.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_limit_holds_and_room_comes_back() {
        let all = Arc::new(All::new(4));
        let (a, b): (Arc<OfService>, Arc<OfService>) = Default::default();
        let enter = |service, client, per_source| enter(&all, service, ip(client), 3, per_source);
        let first = enter(&a, "10.0.0.1", 1).unwrap();
        assert_eq!(enter(&a, "10.0.0.1", 1).unwrap_err(), Full::Source);
        assert_eq!(enter(&a, "::ffff:10.0.0.1", 1).unwrap_err(), Full::Source);
        let more = [enter(&a, "10.0.0.2", 1), enter(&a, "10.0.0.2", 0)];
        assert_eq!(enter(&a, "10.0.0.3", 1).unwrap_err(), Full::Service);
        let last = enter(&b, "10.0.0.1", 1).unwrap();
        assert_eq!(enter(&b, "10.0.0.9", 1).unwrap_err(), Full::All);
        assert_eq!((a.now(), b.now()), (3, 1));
        drop((first, more, last));
        assert_eq!((a.now(), b.now()), (0, 0));
        assert!(
            a.sources
                .iter()
                .all(|shard| shard.lock().unwrap().is_empty())
        );
        assert_eq!(all.now.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn few_sockets_rest_beside_the_sessions_there_may_be() {
        assert_eq!(All::new(1024).resting(2), 32);
        assert_eq!(All::new(u32::MAX).resting(2), RESTING);
        assert_eq!(All::new(8).resting(0), 0);
    }

    #[test]
    fn the_hosts_of_a_v6_network_are_one_source() {
        assert_eq!(source(ip("fd00::1:2:3:4")), source(ip("fd00::9")));
        assert_ne!(source(ip("fd00:0:0:1::9")), source(ip("fd00::9")));
        assert_ne!(source(ip("10.0.0.1")), source(ip("10.0.0.2")));
    }
}
