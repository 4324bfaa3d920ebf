//! How much of a service its clients may have, over all workers.
//!
//! What all clients have together is counted in atomics. What each source has is in a table behind
//! locks, each for a part of the sources: a lock is taken where a source is limited, and nowhere else.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use plimsoll_balance::ClientNet;
use plimsoll_balance::limits::{Allowance, Entered, Limit, Pace, Refused, Sources, What};
use plimsoll_model::{Limits, Quota};
use plimsoll_plane::{LimitCounters, QuotaCounters};

/// Sources of one service that are known at once.
const SOURCES: usize = 262_144;

/// Parts of the table, each behind a lock.
const SHARDS: usize = 64;

/// So many of each part are looked at whenever the counts are asked for, which is every few seconds: a
/// table that a flood has filled is empty again a few minutes later.
const TIDIED: usize = 64;

type Allowed = [Allowance; What::COUNT];

/// By [`What`], of all together and of each source.
type Paces = [[Option<Pace>; What::COUNT]; 2];

/// Whose limit was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// The source's own.
    Source,
    /// That of all together.
    Service,
}

/// Somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMuch {
    pub(crate) whose: Whose,
    pub(crate) refused: Refused,
}

impl From<Refused> for TooMuch {
    fn from(refused: Refused) -> Self {
        Self {
            whose: Whose::Source,
            refused,
        }
    }
}

/// What all sources together have, or how often they were refused, by [`What`].
#[derive(Debug, Default)]
struct Meter {
    open: AtomicU32,
    full_at: AtomicU64,
    refused_at_once: AtomicU64,
    refused_rate: AtomicU64,
    source_at_once: AtomicU64,
    source_rate: AtomicU64,
}

impl Meter {
    fn enter(&self, allowance: &Allowance, now: u64) -> Result<(), TooMuch> {
        let refuse = |limit, wait| TooMuch {
            whose: Whose::Service,
            refused: Refused { limit, wait },
        };
        let order = (Ordering::AcqRel, Ordering::Relaxed);
        if allowance.at_once > 0 {
            let more = |open| (open < allowance.at_once).then_some(open + 1);
            let entered = self.open.fetch_update(order.0, order.1, more);
            entered.map_err(|_| refuse(Limit::AtOnce, 0))?;
        }
        let Some(pace) = allowance.pace else {
            return Ok(());
        };
        let mut wait = 0;
        let taken = self.full_at.fetch_update(order.0, order.1, |full_at| {
            let taken = pace.take(full_at, now);
            wait = taken.err().unwrap_or_default();
            taken.ok()
        });
        if taken.is_err() {
            if allowance.at_once > 0 {
                self.leave();
            }
            return Err(refuse(Limit::Rate, wait));
        }
        Ok(())
    }

    fn leave(&self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
    }

    fn count(&self, too_much: &TooMuch) {
        let count = match (too_much.whose, too_much.refused.limit) {
            (Whose::Service, Limit::AtOnce) => &self.refused_at_once,
            (Whose::Service, Limit::Rate) => &self.refused_rate,
            (Whose::Source, Limit::AtOnce) => &self.source_at_once,
            (Whose::Source, Limit::Rate) => &self.source_rate,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the clients of one service have, over all snapshots.
#[derive(Debug)]
pub(crate) struct Had {
    /// The zero of its clock, which never goes back.
    epoch: Instant,
    meters: [Meter; What::COUNT],
    hasher: RandomState,
    shards: Box<[Mutex<Sources<RandomState>>]>,
    /// Those of the newest snapshot with limits.
    paces: Mutex<Paces>,
    /// Let in uncounted, because the table was full of sources that are held back.
    unknown: AtomicU64,
}

impl Had {
    pub(crate) fn new(epoch: Instant) -> Self {
        let shard = |_| Mutex::new(Sources::new(SOURCES / SHARDS, RandomState::new()));
        Self {
            epoch,
            meters: Default::default(),
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(shard).collect(),
            paces: Mutex::default(),
            unknown: AtomicU64::new(0),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn meter(&self, what: What) -> &Meter {
        let [connections, requests] = &self.meters;
        match what {
            What::Connection => connections,
            What::Request => requests,
        }
    }

    /// A new snapshot has these limits. Where a pace is another one than before, nobody waits longer
    /// than the new one asks for.
    fn adopt(&self, total: &Allowed, per_source: &Allowed) {
        let paces = [total, per_source].map(|allowed| allowed.map(|a| a.pace));
        let mut known = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == paces {
            return;
        }
        *known = paces;
        for (meter, allowed) in self.meters.iter().zip(total) {
            if let Some(pace) = allowed.pace {
                let adopt = |full_at| Some(pace.adopt(full_at, self.now()));
                let order = (Ordering::AcqRel, Ordering::Relaxed);
                // It never fails: there is always something to set.
                let _ = meter.full_at.fetch_update(order.0, order.1, adopt);
            }
        }
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.adopt(per_source, self.now());
        }
    }

    fn shard(&self, source: ClientNet) -> Option<MutexGuard<'_, Sources<RandomState>>> {
        // The upper bits, for the table uses a hash of its own.
        let at = (self.hasher.hash_one(source) >> 32) as usize % SHARDS;
        let shard = self.shards.get(at)?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The limits of a service, as of one snapshot.
#[derive(Debug)]
pub(crate) struct Limiter {
    had: Arc<Had>,
    limits: Limits,
    total: Allowed,
    per_source: Allowed,
}

fn allowed(quota: &Quota) -> Allowed {
    [What::Connection, What::Request].map(|what| Allowance::new(quota, what))
}

fn of(allowed: &Allowed, what: What) -> &Allowance {
    let [connections, requests] = allowed;
    match what {
        What::Connection => connections,
        What::Request => requests,
    }
}

impl Limiter {
    pub(crate) fn new(had: Arc<Had>, limits: Limits) -> Self {
        let (total, per_source) = (allowed(&limits.total), allowed(&limits.per_source));
        had.adopt(&total, &per_source);
        Self {
            had,
            limits,
            total,
            per_source,
        }
    }

    /// Whether there is a limit of this.
    pub(crate) fn limits(&self, what: What) -> bool {
        !of(&self.total, what).is_open() || !of(&self.per_source, what).is_open()
    }

    /// Whom a client counts as.
    pub(crate) fn source(&self, ip: IpAddr) -> ClientNet {
        ClientNet::of(ip, self.limits.prefix_v4, self.limits.prefix_v6)
    }

    /// Something begins, if it may. What is returned is kept until it ends; none if nothing has to be
    /// given back then.
    ///
    /// # Errors
    /// Which limit was met. It is counted, and takes nothing.
    pub(crate) fn enter(&self, ip: IpAddr, what: What) -> Result<Option<Box<Permit>>, TooMuch> {
        let (total, own) = (of(&self.total, what), of(&self.per_source, what));
        let (had, meter) = (&self.had, self.had.meter(what));
        let entered = if own.is_open() {
            meter.enter(total, had.now()).map(|()| None)
        } else {
            let source = self.source(ip);
            let Some(mut shard) = had.shard(source) else {
                return Ok(None);
            };
            // Under the lock, so that no one is seen before whoever came earlier.
            let now = had.now();
            let then = || meter.enter(total, now);
            let entered = shard.enter(source, what, &self.per_source, now, then);
            if entered == Ok(Entered::Unknown) {
                had.unknown.fetch_add(1, Ordering::Relaxed);
            }
            entered.map(|entered| (entered == Entered::Counted).then_some(source))
        };
        match entered {
            Ok(source) => {
                let source = source.filter(|_| own.at_once > 0);
                let counted = total.at_once > 0;
                Ok((counted || source.is_some()).then(|| {
                    let had = had.clone();
                    Box::new(Permit {
                        had,
                        what,
                        counted,
                        source,
                    })
                }))
            }
            Err(too_much) => {
                meter.count(&too_much);
                Err(too_much)
            }
        }
    }

    /// The counts. Those who look at them have the table of sources shrink, if it may.
    pub(crate) fn counters(&self) -> LimitCounters {
        let had = &self.had;
        let [connections, requests] = &had.meters;
        let quota = |open: fn(&Meter) -> [&AtomicU64; 2]| {
            let [[c, cr], [r, rr]] = [open(connections), open(requests)];
            let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
            QuotaCounters {
                connections: get(c),
                connection_rate: get(cr),
                requests: get(r),
                request_rate: get(rr),
            }
        };
        let lengths = had.shards.iter().map(|shard| {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.tidy(TIDIED, &self.per_source, had.now());
            shard.len() as u64
        });
        LimitCounters {
            total: quota(|meter| [&meter.refused_at_once, &meter.refused_rate]),
            per_source: quota(|meter| [&meter.source_at_once, &meter.source_rate]),
            sources: lengths.sum(),
            unknown: had.unknown.load(Ordering::Relaxed),
        }
    }

    /// How much of its limits a client has used, for people; nothing where there is no limit.
    pub(crate) fn tell(&self, ip: IpAddr) -> Vec<String> {
        let source = self.source(ip);
        let now = self.had.now();
        let mut told = Vec::new();
        for (what, name) in [
            (What::Connection, "connections"),
            (What::Request, "requests"),
        ] {
            let meter = self.had.meter(what);
            let all = (
                meter.open.load(Ordering::Relaxed),
                meter.full_at.load(Ordering::Relaxed),
            );
            let own = self.had.shard(source).map(|shard| shard.get(source, what));
            for (whose, allowance, (open, full_at)) in [
                ("all clients".to_owned(), of(&self.total, what), all),
                (
                    source.to_string(),
                    of(&self.per_source, what),
                    own.unwrap_or_default(),
                ),
            ] {
                if allowance.at_once > 0 {
                    let most = allowance.at_once;
                    told.push(format!("limit: {whose}: {open} of {most} {name} at once"));
                }
                if let Some(pace) = allowance.pace {
                    let left = pace.left(full_at, now);
                    told.push(format!(
                        "limit: {whose}: {left} more {name} now by the rate"
                    ));
                }
            }
        }
        told
    }
}

/// Something that counts as long as it is there; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    had: Arc<Had>,
    what: What,
    /// With all together.
    counted: bool,
    source: Option<ClientNet>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.counted {
            self.had.meter(self.what).leave();
        }
        if let Some(source) = self.source
            && let Some(mut shard) = self.had.shard(source)
        {
            shard.leave(source, self.what);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limiter(set: impl FnOnce(&mut Limits)) -> Limiter {
        let mut limits = Limits::default();
        set(&mut limits);
        Limiter::new(Arc::new(Had::new(Instant::now())), limits)
    }

    fn ip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn what_is_refused_takes_nothing_of_anybody() {
        let limiter = limiter(|limits| {
            limits.total.requests = 2;
            limits.per_source.requests = 1;
            limits.per_source.request_rate = Some("3/h".parse().unwrap());
        });
        let enter = |last| limiter.enter(ip(last), What::Request);
        let first = enter(1).unwrap();
        assert_eq!(enter(1).unwrap_err().whose, Whose::Source);
        let _second = enter(2).unwrap();
        for _ in 0..5 {
            assert_eq!(enter(3).unwrap_err().whose, Whose::Service);
        }
        drop(first);
        // Its rate has lost nothing.
        for _ in 0..3 {
            drop(enter(3).unwrap());
        }
        let too_much = enter(3).unwrap_err();
        assert_eq!(too_much.refused.limit, Limit::Rate);
        assert!(too_much.refused.wait > 1_000_000_000);
        let counters = limiter.counters();
        assert_eq!(
            (counters.total.requests, counters.per_source.requests),
            (5, 1)
        );
        assert_eq!(counters.per_source.request_rate, 1);
        assert_eq!(counters.sources, 3);
    }

    #[test]
    fn who_has_nothing_any_more_is_forgotten_by_and_by() {
        let limiter = limiter(|limits| limits.per_source.connections = 1);
        let all: Vec<_> = (0..20_000_u32)
            .map(|n| limiter.enter(std::net::Ipv4Addr::from(n).into(), What::Connection))
            .map(|entered| entered.unwrap())
            .collect();
        assert_eq!(limiter.counters().sources, 20_000);
        drop(all);
        let kept = limiter.enter(ip(1), What::Connection).unwrap();
        assert!((0..20).any(|_| limiter.counters().sources == 1));
        let room = |shard: &Mutex<Sources<_>>| shard.lock().unwrap().room();
        let room: usize = limiter.had.shards.iter().map(room).sum();
        assert!(room < 10_000, "{room}");
        assert!(limiter.enter(ip(1), What::Connection).is_err());
        drop(kept);
    }

    #[test]
    fn a_quicker_rate_holds_at_once() {
        let had = Arc::new(Had::new(Instant::now()));
        let limited = |total: &str, own: &str| {
            let mut limits = Limits::default();
            limits.total.request_rate = Some(total.parse().unwrap());
            limits.per_source.request_rate = Some(own.parse().unwrap());
            Limiter::new(had.clone(), limits)
        };
        let wait = |limiter: &Limiter, last| {
            let refused = limiter.enter(ip(last), What::Request).err()?.refused;
            Some(Duration::from_nanos(refused.wait))
        };
        // The next is allowed after 10 or 12 minutes.
        let long = Duration::from_secs(500);
        let slow = limited("6/h", "5/h");
        assert!((0..5).all(|_| wait(&slow, 1).is_none()));
        assert!(wait(&slow, 1) > Some(long));
        assert_eq!(wait(&slow, 2), None);
        assert!(wait(&slow, 2) > Some(long), "all together have had theirs");
        // A snapshot that changes something else forgives nobody anything.
        let same = limited("6/h", "5/h");
        assert!(wait(&same, 1) > Some(long));
        // Each of the two by itself.
        let fast = limited("1000/s", "5/h");
        assert!(wait(&fast, 1) > Some(long));
        let fast = limited("1000/s", "1000/s");
        for last in [1, 2] {
            let second = Duration::from_secs(1);
            assert!(wait(&fast, last).is_none_or(|wait| wait < second));
        }
    }

    #[test]
    fn the_limits_are_exact_however_many_ask_at_once() {
        let limiter = limiter(|limits| {
            limits.total.connections = 5;
            limits.total.connection_rate = Some("40/h".parse().unwrap());
            limits.per_source.connections = 2;
        });
        let most = AtomicU32::new(0);
        let open = AtomicU32::new(0);
        let taken = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (limiter, most, open, taken) = (&limiter, &most, &open, &taken);
                scope.spawn(move || {
                    for i in 0..2000_u32 {
                        let client = ip((i % 7 + thread) as u8);
                        if let Ok(permit) = limiter.enter(client, What::Connection) {
                            taken.fetch_add(1, Ordering::SeqCst);
                            most.fetch_max(
                                open.fetch_add(1, Ordering::SeqCst) + 1,
                                Ordering::SeqCst,
                            );
                            std::thread::yield_now();
                            open.fetch_sub(1, Ordering::SeqCst);
                            drop(permit);
                        }
                    }
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= 5);
        // The hour's worth at once, and not one more.
        assert_eq!(taken.load(Ordering::SeqCst), 40);
        let [connections, _] = &limiter.had.meters;
        assert_eq!(connections.open.load(Ordering::SeqCst), 0);
        assert!((0..20).all(|last| {
            let source = limiter.source(ip(last));
            let shard = limiter.had.shard(source).unwrap();
            shard.get(source, What::Connection).0 == 0
        }));
    }
}
