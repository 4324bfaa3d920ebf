//! Scheduling algorithms and their tables, pure: which backend gets the next connection or request.
//!
//! A [`Balancer`] is immutable and built anew when the set of backends or a weight changes; what
//! must outlive that (the cursor that all cores share) is in [`Shared`]. A pick takes no lock and
//! allocates nothing.
//!
//! The definitions are those of the kernel's IPVS with these differences:
//! - IPVS compares overhead = active × 256 + inactive connections; a proxy has no inactive ones, so
//!   `lc`, `wlc` and `twos` compare what is active.
//! - `wrr` is smooth: the turns of a heavy backend are spread out, not bunched.
//! - `sh`, `dh` and `mh` hash with a settable seed and size their tables by the number of backends.
//! - `lblc` and `lblcr` remember so many destinations and no more, without a lock.
//! - Where the backend chosen cannot take the client, every scheduler goes on to another one
//!   (IPVS: only with `sh-fallback` and `mh-fallback`), `ovf` also where all have their fill.
//!
//! `first` and `ring` are as in HAProxy, `ewma` as in Finagle.

#![forbid(unsafe_code)]

mod apportion;
mod bucket;
mod client_net;
mod hash;
mod latency;
mod least;
pub mod limits;
mod locality;
mod maglev;
pub mod persistence;
mod random;
mod rank;
mod ring;
mod round;
mod spread;
mod table;
mod view;
mod warm;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};

use plimsoll_model::{BackendAddr, Scheduler, SchedulerKind};

pub use client_net::ClientNet;
pub use latency::PeakEwma;
pub use table::{Table, Use};
pub use warm::SlowStart;

use bucket::Buckets;
use hash::Part;
use least::Least;
use locality::{Locality, Places};
use random::Weighted;
use rank::Rank;
use ring::Ring;
use round::Round;
use view::{Plain, View};
use warm::{Dice, Ramped, Warming};

/// One candidate of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its address: what schedulers that hash or remember know it by.
    pub addr: BackendAddr,
    /// Its share, in proportion to the sum of all weights. 0 gets nothing.
    pub weight: u32,
    /// When it last became ready, in ms of the caller's clock. Only slow start asks.
    pub ready_since: u64,
}

/// What must be known of the candidates at the moment of a pick. An index is one into the slice
/// that was given to [`Balancer::new`].
///
/// Answers may change while a pick looks at them; a pick then rests on some answer given during it.
pub trait Loads {
    /// Connections or requests in flight and waiting.
    fn active(&self, index: usize) -> u32;

    /// Whether it can be picked; false if it is full, or left out because it was tried already.
    fn usable(&self, index: usize) -> bool;

    /// How long it is expected to take to answer, in µs; none if that is not known. Only `ewma` asks.
    fn latency(&self, index: usize) -> Option<f32> {
        let _ = index;
        None
    }
}

/// Who is to be given a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address. An IPv4-mapped IPv6 address is taken as the IPv4 address.
    pub ip: IpAddr,
    /// Its port.
    pub port: u16,
    /// The address it connected to: what `dh`, `lblc` and `lblcr` go by. IPv4-mapped as above.
    pub destination: IpAddr,
}

/// What all cores share, and what is kept when the set of backends changes.
///
/// On cache lines of its own, for every pick of every core may write to it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Shared {
    cursor: AtomicUsize,
    /// Of `lblc` and `lblcr`; none before there is one of them.
    places: OnceLock<Box<Places>>,
}

/// The scheduler of one service over one set of candidates. Used from many threads at once.
#[derive(Debug)]
pub struct Balancer {
    algorithm: Algorithm,
    /// Who is cold still; none if all had their full share from the start.
    cold: Option<Box<Cold>>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
enum Algorithm {
    Round(Round),
    Least(Least),
    Random(Weighted),
    Twos(Weighted),
    Ewma(Weighted),
    Hash(Hash),
    Locality(Locality),
    First(Rank),
    Overflow(Rank),
}

/// A table that a hash leads into.
#[derive(Debug)]
struct Hash {
    table: HashTable,
    part: Part,
    seed: u64,
}

#[derive(Debug)]
enum HashTable {
    Buckets(Buckets),
    Ring(Ring),
}

#[derive(Debug)]
struct Cold {
    warming: Warming,
    /// Of a scheduler that hashes: those without the ones that came last, each without more of them
    /// than the one before, in the end without any that is cold. So whoever does not go to a cold one
    /// yet stays where it was, be that with one that is a little less cold.
    before: Box<[Algorithm]>,
}

/// Of those who are cold the tables of a hash tell so many apart by when they came; the first of them,
/// if there are more, count as one.
const STAGES: usize = 8;

impl Balancer {
    /// A balancer over these candidates.
    ///
    /// Costs grow with the number of candidates; the dearest are `mh` (its table), `ring` (its
    /// points) and `wrr` with unequal weights (its sequence), one to several milliseconds for 1000
    /// candidates; for those that hash, as often again for each of up to 8 times at which cold ones came.
    ///
    /// A `scheduler.table` that is no prime is taken as the next greater prime, and one with fewer
    /// slots than candidates is made large enough.
    pub fn new(
        scheduler: &Scheduler,
        candidates: &[Candidate],
        shared: Arc<Shared>,
        slow_start: Option<SlowStart>,
    ) -> Self {
        let algorithm = Algorithm::new(scheduler, candidates);
        if matches!(algorithm, Algorithm::Locality(_)) {
            shared.places.get_or_init(Box::default);
        }
        let cold = slow_start.and_then(|slow| Cold::new(scheduler, candidates, &algorithm, slow));
        Self {
            algorithm,
            cold: cold.map(Box::new),
            shared,
        }
    }

    /// The index of the candidate to use; none if no candidate of a weight above 0 is usable.
    ///
    /// `now` is in ms of the caller's clock; `lblc`, `lblcr` and slow start go by it. `random`
    /// gives 64 evenly distributed bits per call; only `random`, `twos`, `ewma` and slow start call
    /// it.
    pub fn pick(
        &self,
        client: &Client,
        now: u64,
        loads: &impl Loads,
        random: &mut impl FnMut() -> u64,
    ) -> Option<usize> {
        if let Some(cold) = &self.cold
            && cold.warming.is_on(now)
            && let Some(index) = self.pick_warm(cold, client, now, loads, random)
        {
            return Some(index);
        }
        (self.algorithm).pick(&self.shared, client, now, &Plain(loads), random)
    }

    /// The same without those who are too cold for this pick; none if no others are usable.
    fn pick_warm(
        &self,
        cold: &Cold,
        client: &Client,
        now: u64,
        loads: &impl Loads,
        random: &mut impl FnMut() -> u64,
    ) -> Option<usize> {
        let hash = self.algorithm.hash_of(client);
        let dice = hash.map_or_else(|| Dice::Each(random()), Dice::of_hash);
        let view = Ramped::new(loads, &cold.warming, now, dice);
        let algorithm = cold.table(&self.algorithm, client, now, dice);
        algorithm.pick(&self.shared, client, now, &view, random)
    }

    /// The index of the candidate that the client's hash leads to at this time, whether it is
    /// usable or not; none for a scheduler that does not hash, and where every weight is 0.
    pub fn hashed(&self, client: &Client, now: u64) -> Option<usize> {
        let hash = self.algorithm.hash_of(client)?;
        let table = match &self.cold {
            Some(cold) if cold.warming.is_on(now) => {
                cold.table(&self.algorithm, client, now, Dice::of_hash(hash))
            }
            _ => &self.algorithm,
        };
        table.hashed(client)
    }

    /// What part of its share a candidate has at this time, from 0 to 1; below 1 during its slow
    /// start.
    pub fn warmth(&self, index: usize, now: u64) -> f64 {
        match &self.cold {
            Some(cold) if cold.warming.is_on(now) => {
                f64::from(cold.warming.part(index, now)) / f64::from(warm::FULL)
            }
            _ => 1.0,
        }
    }
}

impl Cold {
    fn new(
        scheduler: &Scheduler,
        candidates: &[Candidate],
        algorithm: &Algorithm,
        slow: SlowStart,
    ) -> Option<Self> {
        let heaviest = match scheduler.kind {
            SchedulerKind::Lc => 1,
            _ => candidates.iter().map(|c| c.weight).max()?,
        };
        let warming = Warming::new(slow, candidates, heaviest)?;
        let before = match algorithm {
            Algorithm::Hash(_) => Self::tables_before(scheduler, candidates, &warming, slow.now),
            _ => Box::default(),
        };
        Some(Self { warming, before })
    }

    /// The tables as they were before each of those came that are cold, the last first.
    fn tables_before(
        scheduler: &Scheduler,
        candidates: &[Candidate],
        warming: &Warming,
        now: u64,
    ) -> Box<[Algorithm]> {
        let cold = candidates.iter().enumerate();
        let cold = cold.filter(|(index, c)| c.weight > 0 && warming.part(*index, now) < warm::FULL);
        let came: BTreeSet<u64> = cold.map(|(_, candidate)| candidate.ready_since).collect();
        let first = came.first().copied();
        let last = came.into_iter().rev().take(STAGES - 1);
        // Without the first of them nobody is cold.
        let stages: BTreeSet<u64> = last.chain(first).collect();
        let without = |since: &u64| {
            let mut settled = candidates.to_vec();
            for candidate in settled.iter_mut().filter(|c| c.ready_since >= *since) {
                candidate.weight = 0;
            }
            Algorithm::new(scheduler, &settled)
        };
        stages.iter().rev().map(without).collect()
    }

    /// The table by which a client is led: the last one in which that is not to a candidate that is
    /// too cold for it.
    fn table<'a>(
        &'a self,
        all: &'a Algorithm,
        client: &Client,
        now: u64,
        dice: Dice,
    ) -> &'a Algorithm {
        let is_warm = |table: &&Algorithm| {
            let led = table.hashed(client);
            led.is_none_or(|led| !dice.fails(led, self.warming.part(led, now)))
        };
        let mut tables = std::iter::once(all).chain(&self.before);
        let table = tables.find(is_warm).or(self.before.last());
        table.unwrap_or(all)
    }
}

impl Algorithm {
    fn new(scheduler: &Scheduler, candidates: &[Candidate]) -> Self {
        let hash = |table, part| {
            let seed = scheduler.seed;
            Algorithm::Hash(Hash { table, part, seed })
        };
        let consecutive = || HashTable::Buckets(Buckets::consecutive(scheduler, candidates));
        match scheduler.kind {
            SchedulerKind::Rr => Algorithm::Round(Round::equal(candidates)),
            SchedulerKind::Wrr => Algorithm::Round(Round::weighted(candidates)),
            SchedulerKind::Lc => Algorithm::Least(Least::equal(candidates)),
            SchedulerKind::Wlc => Algorithm::Least(Least::weighted(candidates)),
            SchedulerKind::Sed => Algorithm::Least(Least::delay(candidates)),
            SchedulerKind::Nq => Algorithm::Least(Least::never_queue(candidates)),
            SchedulerKind::Random => Algorithm::Random(Weighted::new(candidates)),
            SchedulerKind::Twos => Algorithm::Twos(Weighted::new(candidates)),
            SchedulerKind::Ewma => Algorithm::Ewma(Weighted::new(candidates)),
            SchedulerKind::Sh => hash(consecutive(), scheduler.hash.into()),
            SchedulerKind::Dh => hash(consecutive(), Part::Destination),
            SchedulerKind::Mh => {
                let table = HashTable::Buckets(Buckets::maglev(scheduler, candidates));
                hash(table, scheduler.hash.into())
            }
            SchedulerKind::Ring => {
                let table = HashTable::Ring(Ring::new(scheduler, candidates));
                hash(table, scheduler.hash.into())
            }
            SchedulerKind::Lblc => Algorithm::Locality(Locality::new(candidates, false)),
            SchedulerKind::Lblcr => Algorithm::Locality(Locality::new(candidates, true)),
            SchedulerKind::First => Algorithm::First(Rank::in_order(candidates)),
            SchedulerKind::Fo => Algorithm::First(Rank::by_weight(candidates)),
            SchedulerKind::Ovf => Algorithm::Overflow(Rank::by_weight(candidates)),
        }
    }

    fn pick(
        &self,
        shared: &Shared,
        client: &Client,
        now: u64,
        view: &impl View,
        random: &mut impl FnMut() -> u64,
    ) -> Option<usize> {
        let cursor = &shared.cursor;
        match self {
            Algorithm::Round(round) => round.pick(cursor, view),
            Algorithm::Least(least) => least.pick(cursor, view),
            Algorithm::Random(weighted) => weighted.pick(view, random),
            Algorithm::Twos(weighted) => weighted.less_loaded(view, random),
            Algorithm::Ewma(weighted) => weighted.soonest(view, random),
            Algorithm::Hash(hash) => match &hash.table {
                HashTable::Buckets(buckets) => buckets.pick(hash.of(client), view),
                HashTable::Ring(ring) => ring.pick(hash.of(client), view),
            },
            Algorithm::Locality(locality) => {
                locality.pick(shared.places.get()?, cursor, client, now, view)
            }
            Algorithm::First(rank) => rank.pick(view),
            Algorithm::Overflow(rank) => rank.overflow(view),
        }
    }

    fn hash_of(&self, client: &Client) -> Option<u64> {
        match self {
            Algorithm::Hash(hash) => Some(hash.of(client)),
            _ => None,
        }
    }

    fn hashed(&self, client: &Client) -> Option<usize> {
        match self {
            Algorithm::Hash(hash) => match &hash.table {
                HashTable::Buckets(buckets) => buckets.hashed(hash.of(client)),
                HashTable::Ring(ring) => ring.hashed(hash.of(client)),
            },
            _ => None,
        }
    }
}

impl Hash {
    fn of(&self, client: &Client) -> u64 {
        hash::client(client, self.part, self.seed)
    }
}

/// One candidate of a weight above 0.
#[derive(Clone, Copy, Debug)]
struct Member {
    /// Into the slice of candidates.
    index: u32,
    /// At least 1.
    weight: u32,
}

/// The candidates that can be picked at all, in their order.
fn members(candidates: &[Candidate]) -> impl Iterator<Item = (Member, &BackendAddr)> {
    candidates
        .iter()
        .zip(0u32..)
        .filter(|(candidate, _)| candidate.weight > 0)
        .map(|(candidate, index)| {
            let weight = candidate.weight;
            (Member { index, weight }, &candidate.addr)
        })
}

/// A number below `bound`, in proportion to `bits` of 2⁶⁴. 0 for a bound of 0.
fn scale(bits: u64, bound: u64) -> u64 {
    ((u128::from(bits) * u128::from(bound)) >> 64) as u64
}
