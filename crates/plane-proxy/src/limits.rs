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

    /// What an entry took of rates is not used after all.
    pub(crate) fn give_back(&self, ip: IpAddr, what: What) {
        let (total, own) = (of(&self.total, what), of(&self.per_source, what));
        if let Some(pace) = total.pace {
            let order = (Ordering::AcqRel, Ordering::Relaxed);
            let back = |full_at| Some(pace.give_back(full_at));
            // It never fails: there is always something to set.
            let _ = (self.had.meter(what).full_at).fetch_update(order.0, order.1, back);
        }
        if let Some(pace) = own.pace {
            let source = self.source(ip);
            if let Some(mut shard) = self.had.shard(source) {
                shard.give_back(source, what, pace);
            }
        }
    }

    /// Has a connection of `ip` that is open hold what it would hold if it began now, also above the
    /// limits: it may have begun before there were any, or under others.
    pub(crate) fn recount(&self, ip: IpAddr, permits: &mut Vec<Permit>) {
        let what = What::Connection;
        let (total, own) = (of(&self.total, what), of(&self.per_source, what));
        let had = &self.had;
        let mut known = permits.iter_mut();
        let known = known.find(|held| Arc::ptr_eq(&held.had, had) && held.what == what);
        let (was_counted, was_source) = known
            .as_ref()
            .map_or((false, None), |held| (held.counted, held.source));
        let counts = total.at_once > 0 && !was_counted;
        if counts {
            had.meter(what).open.fetch_add(1, Ordering::AcqRel);
        }
        let source = Some(self.source(ip)).filter(|_| own.at_once > 0);
        let source = source.filter(|source| {
            was_source != Some(*source)
                && had.shard(*source).is_some_and(|mut shard| {
                    let counted = shard.count(*source, what, &self.per_source, had.now());
                    if !counted {
                        had.unknown.fetch_add(1, Ordering::Relaxed);
                    }
                    counted
                })
        });
        if let (Some(_), Some(before)) = (source, was_source)
            && let Some(mut shard) = had.shard(before)
        {
            shard.leave(before, what);
        }
        match known {
            Some(held) => {
                held.counted |= counts;
                held.source = source.or(was_source);
            }
            None if counts || source.is_some() => permits.push(Permit {
                had: had.clone(),
                what,
                counted: counts,
                source,
            }),
            None => {}
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
mod tests;
