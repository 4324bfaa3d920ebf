//! Schedulers: how the next backend of a service is chosen.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

use crate::Invalid;

/// A scheduling algorithm. Definitions: the `balance` crate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SchedulerKind {
    /// Round robin, weights ignored but for 0.
    Rr,
    /// Smooth weighted round robin.
    #[default]
    Wrr,
    /// Least connections.
    Lc,
    /// Least connections by weight.
    Wlc,
    /// Shortest expected delay: least connections by weight, the one to come counted.
    Sed,
    /// Never queue: one that is idle at once, else as `Sed`.
    Nq,
    /// Source hashing.
    Sh,
    /// Destination hashing.
    Dh,
    /// Maglev hashing.
    Mh,
    /// Consistent hashing with bounded loads.
    Ring,
    /// Locality-based least connections: a destination stays where it is.
    Lblc,
    /// The same with several backends for a busy destination.
    Lblcr,
    /// Weighted failover: the heaviest there is.
    Fo,
    /// Weighted overflow: the heaviest that has no more connections than its weight.
    Ovf,
    /// The first that has room.
    First,
    /// Weighted random.
    Random,
    /// The less loaded of two weighted random picks.
    Twos,
    /// Least response time: of two weighted random picks the one that is expected to answer first
    /// (peak EWMA).
    Ewma,
}

impl SchedulerKind {
    /// Every kind by its name.
    pub const NAMES: [(&'static str, SchedulerKind); 18] = [
        ("rr", SchedulerKind::Rr),
        ("wrr", SchedulerKind::Wrr),
        ("lc", SchedulerKind::Lc),
        ("wlc", SchedulerKind::Wlc),
        ("sed", SchedulerKind::Sed),
        ("nq", SchedulerKind::Nq),
        ("sh", SchedulerKind::Sh),
        ("dh", SchedulerKind::Dh),
        ("mh", SchedulerKind::Mh),
        ("ring", SchedulerKind::Ring),
        ("lblc", SchedulerKind::Lblc),
        ("lblcr", SchedulerKind::Lblcr),
        ("fo", SchedulerKind::Fo),
        ("ovf", SchedulerKind::Ovf),
        ("first", SchedulerKind::First),
        ("random", SchedulerKind::Random),
        ("twos", SchedulerKind::Twos),
        ("ewma", SchedulerKind::Ewma),
    ];

    /// The name.
    pub fn as_str(self) -> &'static str {
        Self::NAMES
            .iter()
            .find(|(_, kind)| *kind == self)
            .map_or("", |(name, _)| name)
    }

    /// Whether the pick depends on the address that the client connected to.
    pub fn needs_destination(self) -> bool {
        matches!(
            self,
            SchedulerKind::Dh | SchedulerKind::Lblc | SchedulerKind::Lblcr
        )
    }

    /// Whether the pick depends on how long backends take to answer.
    pub fn needs_latency(self) -> bool {
        self == SchedulerKind::Ewma
    }
}

impl fmt::Display for SchedulerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for SchedulerKind {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::NAMES
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, kind)| *kind)
            .ok_or_else(|| {
                let names: Vec<&str> = Self::NAMES.iter().map(|(name, _)| *name).collect();
                Invalid(format!(
                    "unknown scheduler {text:?}: expected one of {}",
                    names.join(", ")
                ))
            })
    }
}

/// What a hash scheduler hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HashKey {
    /// The client's address.
    #[default]
    Source,
    /// The client's address and port (IPVS `sh-port`, `mh-port`).
    SourcePort,
}

impl HashKey {
    /// Every key by its name.
    pub const NAMES: [(&'static str, HashKey); 2] = [
        ("source", HashKey::Source),
        ("source-port", HashKey::SourcePort),
    ];
}

/// A scheduler with its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Scheduler {
    /// The algorithm.
    pub kind: SchedulerKind,
    /// What `sh`, `mh` and `ring` hash.
    pub hash: HashKey,
    /// Slots of the `mh` table, a prime of at least 100 × backends; 0 chooses one.
    pub table: u32,
    /// Seed of every hash; the same in every process that is to agree.
    pub seed: u64,
    /// What a backend of a `ring` may have in flight at most, in percent of its share by weight:
    /// 101..=[`Scheduler::MAX_BOUND`], or 0 for no bound (HAProxy's `hash-balance-factor`).
    pub bound: u32,
    /// In what time `ewma` forgets all but 1 ⁄ e of what it knew; at least 1 ms.
    pub decay: Duration,
}

impl Scheduler {
    /// The greatest `bound`, as in HAProxy.
    pub const MAX_BOUND: u32 = 65_535;

    /// Whether every value is in its range.
    ///
    /// # Errors
    /// The first that is not, by its name.
    pub fn validate(&self) -> Result<(), Invalid> {
        if self.table != 0 && !is_prime(self.table) {
            return Err(Invalid(format!(
                "table {} is not a prime number",
                self.table
            )));
        }
        if self.bound != 0 && !(101..=Self::MAX_BOUND).contains(&self.bound) {
            return Err(Invalid(format!(
                "bound {} is not 0 (none) or from 101 to {} (percent)",
                self.bound,
                Self::MAX_BOUND
            )));
        }
        if self.decay < Duration::from_millis(1) {
            return Err(Invalid::new("the decay is at least 1ms"));
        }
        Ok(())
    }
}

impl Default for Scheduler {
    /// The default kind; loads of a `ring` bounded to 125 %, response times forgotten in 10 s.
    fn default() -> Self {
        Self {
            kind: SchedulerKind::default(),
            hash: HashKey::default(),
            table: 0,
            seed: 0,
            bound: 125,
            decay: Duration::from_secs(10),
        }
    }
}

fn is_prime(n: u32) -> bool {
    n >= 2
        && (2..)
            .take_while(|d| u64::from(*d) * u64::from(*d) <= u64::from(n))
            .all(|d: u32| !n.is_multiple_of(d))
}
