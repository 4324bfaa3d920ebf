//! The trackers of all backends that ever failed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use plimsoll_model::{BackendAddr, Name, Outlier};

use crate::{Counts, Failure, Leave, Settings, Standing, Tracker};

/// What traffic tells about every backend.
#[derive(Clone, Debug)]
pub struct Passive {
    settings: Settings,
    seed: u64,
    services: BTreeMap<Name, BTreeMap<BackendAddr, Tracker>>,
}

impl Passive {
    /// No backend has failed yet. The seed decides the jitter of ejections.
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            seed,
            services: BTreeMap::new(),
        }
    }

    /// The tracker of a backend, if it ever failed.
    pub fn tracker(&self, service: &Name, backend: &BackendAddr) -> Option<&Tracker> {
        self.services.get(service)?.get(backend)
    }

    /// Whether a backend is out.
    pub fn is_ejected(&self, service: &Name, backend: &BackendAddr) -> bool {
        self.tracker(service, backend)
            .is_some_and(Tracker::is_ejected)
    }

    /// How often it came to what.
    pub fn counts(&self, service: &Name, backend: &BackendAddr) -> Counts {
        self.tracker(service, backend)
            .map_or(Counts::default(), Tracker::counts)
    }

    /// When [`Passive::tick`] has something to do, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.services
            .values()
            .flat_map(BTreeMap::values)
            .filter_map(Tracker::next_deadline)
            .min()
    }

    /// Time has passed. The services in which a backend's standing has changed.
    pub fn tick(&mut self, now: Instant) -> BTreeSet<Name> {
        let mut changed = BTreeSet::new();
        for (service, trackers) in &mut self.services {
            for tracker in trackers.values_mut() {
                if tracker.tick(now, &self.settings) {
                    changed.insert(service.clone());
                }
            }
        }
        changed
    }

    /// A backend failed, of a service that says this of outliers. Whether its standing has changed.
    pub fn failure(
        &mut self,
        now: Instant,
        (service, outlier): (&Name, Option<&Outlier>),
        backend: &BackendAddr,
        failure: Failure,
        reason: Arc<str>,
        leave: Leave,
    ) -> bool {
        let settings = self.settings.of(outlier);
        let tracker = self
            .services
            .entry(service.clone())
            .or_default()
            .entry(backend.clone())
            .or_default();
        let nth = tracker.counts().ejections;
        let jitter = crate::jitter(self.seed, service, backend, nth);
        tracker.failure(now, failure, reason, leave, &settings, jitter)
    }

    /// A backend has served. Whether its standing has changed.
    pub fn served(&mut self, now: Instant, service: &Name, backend: &BackendAddr) -> bool {
        let settings = self.settings;
        self.tracker_mut(service, backend)
            .is_some_and(|tracker| tracker.served(now, &settings))
    }

    /// The backends that are out because they could not be connected to.
    pub fn unreached(&self) -> impl Iterator<Item = (&Name, &BackendAddr)> {
        let all = self.services.iter();
        let all = all.flat_map(|(name, trackers)| trackers.iter().map(move |t| (name, t)));
        all.filter(|(_, (_, tracker))| tracker.is_unreached())
            .map(|(name, (addr, _))| (name, addr))
    }

    /// A backend can be connected to. Whether its standing has changed.
    pub fn reached(&mut self, now: Instant, service: &Name, backend: &BackendAddr) -> bool {
        let settings = self.settings;
        self.tracker_mut(service, backend)
            .is_some_and(|tracker| tracker.reached(now, &settings))
    }

    /// Of these backends, all of them out, brings back the one whose ejection ends first; among
    /// equals the one with the least address. It, if any of them was out.
    pub fn spare_one<'a>(
        &mut self,
        now: Instant,
        service: &Name,
        backends: impl IntoIterator<Item = &'a BackendAddr>,
    ) -> Option<&'a BackendAddr> {
        let until = |addr: &BackendAddr| match self.tracker(service, addr)?.standing() {
            Standing::Ejected { until, .. } => Some(*until),
            _ => None,
        };
        let (_, backend) = backends
            .into_iter()
            .filter_map(|addr| Some((until(addr)?, addr)))
            .min()?;
        let settings = self.settings;
        self.tracker_mut(service, backend)?.spare(now, &settings);
        Some(backend)
    }

    /// Forgets what a backend did, but for the counts. Whether its standing has changed.
    pub fn clear(&mut self, service: &Name, backend: &BackendAddr) -> bool {
        self.tracker_mut(service, backend)
            .is_some_and(Tracker::clear)
    }

    /// Keeps only these backends of a service.
    pub fn retain(&mut self, service: &Name, keep: impl Fn(&BackendAddr) -> bool) {
        if let Some(trackers) = self.services.get_mut(service) {
            trackers.retain(|addr, _| keep(addr));
            if trackers.is_empty() {
                self.services.remove(service);
            }
        }
    }

    fn tracker_mut(&mut self, service: &Name, backend: &BackendAddr) -> Option<&mut Tracker> {
        self.services.get_mut(service)?.get_mut(backend)
    }
}
