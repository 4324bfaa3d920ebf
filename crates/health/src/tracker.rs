//! The state machine of one backend.

use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_model::{Outlier, State, Status};

/// When a backend is put out, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The first ejection; each further one in succession is twice as long.
    pub first: Duration,
    /// The longest ejection.
    pub longest: Duration,
    /// So many failures without a success between put a backend out if the last was one to connect,
    /// at least 1.
    pub connects: u32,
    /// The same if the last was a reset, at least 1.
    pub resets: u32,
    /// So long without a failure, while in use, and the past is forgotten.
    pub quiet: Duration,
}

impl Default for Settings {
    /// 1 s, doubling up to 60 s; at once if it cannot be connected to; 3 resets; 60 s of quiet.
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(60),
            connects: 1,
            resets: 3,
            quiet: Duration::from_secs(60),
        }
    }
}

impl Settings {
    /// These, but for what a service says itself.
    #[must_use]
    pub fn of(self, outlier: Option<&Outlier>) -> Self {
        let Some(outlier) = outlier else {
            return self;
        };
        Self {
            first: outlier.time,
            longest: self.longest.max(outlier.time.saturating_mul(10)),
            connects: outlier.consecutive,
            resets: outlier.consecutive,
            ..self
        }
    }

    /// The length of the `nth` ejection in succession, from 1 on, shortened by up to a fifth by
    /// `jitter`, so that backends that fell together do not come back together.
    pub fn length(&self, nth: u32, jitter: u64) -> Duration {
        let doublings = nth.saturating_sub(1).min(31);
        let full = self.first.saturating_mul(1 << doublings).min(self.longest);
        crate::shortened(full, jitter)
    }
}

/// How a backend failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It refused a connection, could not be reached or did not accept in time: puts it out at
    /// once.
    Connect,
    /// It reset or closed a connection before it answered: puts it out after a few in a row.
    Reset,
    /// It answered with errors, as often in a row as its service takes: puts it out at once.
    Errors,
}

/// Whether a backend may be put out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// It may.
    Granted,
    /// No other backend of the service could take its traffic.
    Last,
    /// As many of the service are out already as may be.
    Enough,
}

/// Where a backend stands. Reasons are those of the failure that led there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is held against it.
    #[default]
    Good,
    /// Put out until then.
    Ejected {
        /// The end of the ejection.
        until: Instant,
        /// How long it is, for people: it does not shrink as time passes.
        length: Duration,
        /// Why.
        reason: Arc<str>,
        /// Whether it could not be connected to; then it ends as soon as it can be.
        unreached: bool,
    },
    /// Back in use; the next failure puts it out for longer.
    Probation {
        /// Why it was out.
        reason: Arc<str>,
    },
    /// It should be out but may not be; the next failure puts it out if it may by then.
    Spared {
        /// Why it should be out.
        reason: Arc<str>,
        /// Whether it may not because it is the last; else because enough are out.
        last: bool,
    },
}

impl Standing {
    /// The status this means for a backend that is ready otherwise.
    pub fn status(&self) -> Status {
        match self {
            Standing::Good => Status::default(),
            Standing::Ejected { length, reason, .. } => {
                let text = format!("{reason}: out for {:.1} s", length.as_secs_f64());
                Status::new(State::Down, text)
            }
            Standing::Probation { reason } => {
                Status::new(State::Ready, format!("on probation after: {reason}"))
            }
            Standing::Spared { reason, last: true } => {
                Status::new(State::Ready, format!("{reason}: kept, it is the last"))
            }
            Standing::Spared { reason, .. } => {
                Status::new(State::Ready, format!("{reason}: kept, enough are out"))
            }
        }
    }
}

/// How often it came to what, since the backend is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Ejections.
    pub ejections: u64,
    /// Failures that did not put it out because it was the last.
    pub spared: u64,
}

/// What traffic tells about one backend.
#[derive(Clone, Debug, Default)]
pub struct Tracker {
    standing: Standing,
    /// Failures since the last success.
    failures: u32,
    /// Ejections in succession.
    growth: u32,
    /// When the past is forgotten, unless something happens before; while in use only.
    forget: Option<Instant>,
    counts: Counts,
}

impl Tracker {
    /// Where the backend stands.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// How often it came to what.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether it is out.
    pub fn is_ejected(&self) -> bool {
        matches!(self.standing, Standing::Ejected { .. })
    }

    /// When [`Tracker::tick`] has something to do, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Instant> {
        match &self.standing {
            Standing::Ejected { until, .. } => Some(*until),
            _ => self.forget,
        }
    }

    /// Time has passed: ends an ejection, forgets the past. Whether the standing has changed.
    pub fn tick(&mut self, now: Instant, settings: &Settings) -> bool {
        let mut changed = false;
        if let Standing::Ejected { until, reason, .. } = &self.standing
            && *until <= now
        {
            self.forget = Some(*until + settings.quiet);
            self.standing = Standing::Probation {
                reason: reason.clone(),
            };
            changed = true;
        }
        if self.forget.is_some_and(|forget| forget <= now) {
            changed |= self.clear();
        }
        changed
    }

    /// The backend failed. Whether the standing has changed.
    ///
    /// Failures while it is out are late news of connections made before, and ignored.
    pub fn failure(
        &mut self,
        now: Instant,
        failure: Failure,
        reason: Arc<str>,
        leave: Leave,
        settings: &Settings,
        jitter: u64,
    ) -> bool {
        let ticked = self.tick(now, settings);
        if self.is_ejected() {
            return ticked;
        }
        if self.standing == Standing::Good {
            self.failures = self.failures.saturating_add(1);
            let enough = match failure {
                Failure::Connect => settings.connects,
                Failure::Reset => settings.resets,
                Failure::Errors => 0,
            };
            if self.failures < enough {
                self.forget = Some(now + settings.quiet);
                return ticked;
            }
        }
        let standing = if leave == Leave::Granted {
            self.counts.ejections += 1;
            self.growth = self.growth.saturating_add(1);
            self.forget = None;
            let length = settings.length(self.growth, jitter);
            Standing::Ejected {
                until: now + length,
                length,
                reason,
                unreached: failure == Failure::Connect,
            }
        } else {
            self.counts.spared += 1;
            self.forget = Some(now + settings.quiet);
            let last = leave == Leave::Last;
            Standing::Spared { reason, last }
        };
        let changed = ticked || self.standing != standing;
        self.standing = standing;
        changed
    }

    /// The backend has served. Whether the standing has changed.
    ///
    /// While it is out this is the end of something begun before, and ignored.
    pub fn served(&mut self, now: Instant, settings: &Settings) -> bool {
        let ticked = self.tick(now, settings);
        !self.is_ejected() && self.clear() || ticked
    }

    /// Whether it is out because it could not be connected to.
    pub fn is_unreached(&self) -> bool {
        matches!(
            self.standing,
            Standing::Ejected {
                unreached: true,
                ..
            }
        )
    }

    /// It can be connected to: ends an ejection early that it had because it could not. Whether the
    /// standing has changed. The next failure puts it out for longer, as after any ejection.
    pub fn reached(&mut self, now: Instant, settings: &Settings) -> bool {
        let Standing::Ejected {
            reason,
            unreached: true,
            ..
        } = &self.standing
        else {
            return false;
        };
        self.forget = Some(now + settings.quiet);
        self.standing = Standing::Probation {
            reason: reason.clone(),
        };
        true
    }

    /// Ends an ejection early because no other backend is left. Whether the standing has changed.
    pub fn spare(&mut self, now: Instant, settings: &Settings) -> bool {
        let Standing::Ejected { reason, .. } = &self.standing else {
            return false;
        };
        self.counts.spared += 1;
        self.forget = Some(now + settings.quiet);
        self.standing = Standing::Spared {
            reason: reason.clone(),
            last: true,
        };
        true
    }

    /// Forgets the past but for the counts. Whether the standing has changed.
    pub fn clear(&mut self) -> bool {
        let changed = self.standing != Standing::Good;
        *self = Self {
            counts: self.counts,
            ..Self::default()
        };
        changed
    }
}
