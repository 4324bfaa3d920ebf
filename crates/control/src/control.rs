//! The whole of control, driven by the daemon's loop: hand it what happens, call
//! [`Control::step`] after each batch and at its deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_health::{Failure, Passive, Verdict};
use plimsoll_model::{
    BackendAddr, Desired, Listen, Name, Origin, Service, SourceId, SourceUpdate, Subject, Update,
};
use plimsoll_plane::{Addresses, Event, ItemResult, Plane, PlaneError, VipNote};
use tokio::sync::mpsc::Receiver;

use crate::command::{self, Command, CommandError, Halt};
use crate::lane::Lane;
use crate::vips::Vips;
use crate::{Available, Catalog, Changed, Failed, Overlay, Quarantine};

/// How control works.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How often planes are read back.
    pub audit: Duration,
    /// When failing backends are put out, and for how long.
    pub health: plimsoll_health::Settings,
    /// Decides the jitter of ejections.
    pub seed: u64,
}

impl Default for Settings {
    /// An audit every 5 s.
    fn default() -> Self {
        Self {
            audit: Duration::from_secs(5),
            health: plimsoll_health::Settings::default(),
            seed: 0,
        }
    }
}

/// A service in force, and since when each of its backends has its status.
pub(crate) struct Live {
    pub(crate) plane: &'static str,
    pub(crate) since: BTreeMap<BackendAddr, Instant>,
}

/// What a step did to one plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaneStep {
    /// The plane.
    pub plane: &'static str,
    /// How the steps went that it took.
    pub results: Vec<ItemResult>,
    /// What an audit found changed behind our back.
    pub drift: Vec<Subject>,
    /// Why it could not be read back, if it could not.
    pub error: Option<PlaneError>,
}

/// What [`Control::step`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The planes to which something was done or which could not be read, with what to log.
    pub planes: Vec<PlaneStep>,
    /// What happened to VIPs, with what to log.
    pub vips: Vec<VipNote>,
    /// When to call again if nothing happens before.
    pub next_deadline: Instant,
}

/// Catalog, overlay and planes.
pub struct Control {
    settings: Settings,
    pub(crate) catalog: Catalog,
    pub(crate) overlay: Overlay,
    pub(crate) live: BTreeMap<Name, Live>,
    pub(crate) lanes: Vec<Lane>,
    /// None where nobody gives this host addresses.
    pub(crate) vips: Option<Vips>,
    pub(crate) desired: Arc<Desired>,
    /// Services whose overlay changed since the last step.
    dirty: BTreeSet<Name>,
}

impl Control {
    /// Control over these planes, the preferred one first.
    pub fn new(planes: Vec<Box<dyn Plane>>, settings: Settings) -> Self {
        Self {
            settings,
            catalog: Catalog::default(),
            overlay: Overlay::new(Passive::new(settings.health, settings.seed)),
            live: BTreeMap::new(),
            lanes: planes.into_iter().map(Lane::new).collect(),
            vips: None,
            desired: Arc::default(),
            dirty: BTreeSet::new(),
        }
    }

    /// With something that gives this host the addresses that services bring along.
    #[must_use]
    pub fn with_addresses(mut self, addresses: Box<dyn Addresses>) -> Self {
        self.vips = Some(Vips::new(addresses));
        self
    }

    /// A source that will have something to say; [`Control::is_ready`] waits for it.
    pub fn expect(&mut self, now: Instant, source: SourceId) {
        self.catalog.expect(now, source);
    }

    /// A source said something. It counts from the next step on.
    pub fn update(&mut self, now: Instant, update: SourceUpdate) {
        if matches!(update.update, Update::Reset(_)) {
            // What was held until this source said something may go now.
            (self.lanes.iter_mut()).for_each(|lane| lane.changed = Changed::All);
        }
        self.catalog.update(now, update);
    }

    /// Something happened to traffic. It counts from the next step on. Whether there is something
    /// to do in that step.
    pub fn event(&mut self, now: Instant, event: Event) -> bool {
        let changed = match event {
            Event::ConnectFailed {
                service,
                backend,
                reason,
            } => self.failure(now, &service, &backend, Failure::Connect, reason),
            Event::Reset {
                service,
                backend,
                reason,
            } => self.failure(now, &service, &backend, Failure::Reset, reason),
            Event::Errors {
                service,
                backend,
                reason,
            } => self.failure(now, &service, &backend, Failure::Errors, reason),
            Event::Served { service, backend } => {
                (self.overlay.served(now, &service, &backend)).then_some(service)
            }
            Event::Repaired { plane, .. } => {
                let mut lanes = self.lanes.iter_mut();
                if let Some(lane) = lanes.find(|lane| lane.plane.name() == plane) {
                    lane.reconciler.repaired();
                }
                None
            }
            _ => None,
        };
        match changed {
            Some(service) => self.dirty.insert(service),
            None => false,
        }
    }

    fn failure(
        &mut self,
        now: Instant,
        name: &Name,
        backend: &BackendAddr,
        failure: Failure,
        reason: String,
    ) -> Option<Name> {
        let (_, service) = self.catalog.service(name)?;
        if !service.backends.contains_key(backend) {
            return None;
        }
        let overlay = &mut self.overlay;
        let changed = overlay.failure(now, service, backend, failure, reason.into());
        changed.then(|| name.clone())
    }

    /// The backends that are out because they could not be connected to.
    pub fn unreached(&self) -> impl Iterator<Item = (&Name, &BackendAddr)> {
        self.overlay.unreached()
    }

    /// A backend that was out because it could not be connected to can be now. It counts from the
    /// next step on. Whether there is something to do in that step.
    pub fn reached(&mut self, now: Instant, service: &Name, backend: &BackendAddr) -> bool {
        let changed = self.overlay.reached(now, service, backend);
        if changed {
            self.dirty.insert(service.clone());
        }
        changed
    }

    /// A check said something about a backend. It counts from the next step on. Whether there is
    /// something to do in that step; what is said of unknown backends, and of services that have
    /// no check any more, is ignored.
    pub fn verdict(&mut self, service: &Name, backend: &BackendAddr, verdict: Verdict) -> bool {
        let known = self.catalog.service(service).is_some_and(|(_, service)| {
            service.spec.check.is_some() && service.backends.contains_key(backend)
        });
        let news = known && self.overlay.verdict(service, backend, verdict);
        if news {
            self.dirty.insert(service.clone());
        }
        news
    }

    /// An admin asks something of a backend, named by its address or its unique name; `by` says
    /// who, for people. It counts from the next step on and lasts as long as the backend. The
    /// address of the backend.
    ///
    /// # Errors
    /// There is no such service or backend, or the weight is out of range; nothing has changed.
    pub fn command(
        &mut self,
        service: &str,
        backend: &str,
        command: Command,
        by: &str,
    ) -> Result<BackendAddr, CommandError> {
        let (name, known) = self.named(service)?;
        let addr = command::find(known, backend)?.addr.clone();
        match command {
            Command::Drain => self.overlay.halt(&name, &addr, Halt::Drain, by),
            Command::Maintain => self.overlay.halt(&name, &addr, Halt::Maintenance, by),
            Command::Ready => self.overlay.ready(&name, &addr),
            Command::Weight(Some(weight)) if weight > plimsoll_model::MAX_WEIGHT => {
                return Err(CommandError::Weight(weight));
            }
            Command::Weight(weight) => self.overlay.weight(&name, &addr, weight),
        }
        self.dirty.insert(name);
        Ok(addr)
    }

    /// The service of this name that is in force.
    fn named(&self, service: &str) -> Result<(Name, &Arc<Service>), CommandError> {
        let unknown = || match self.catalog.is_aside(service) {
            true => CommandError::ServiceAside(service.into()),
            false => CommandError::UnknownService(service.into()),
        };
        let name: Name = service.parse().map_err(|_| unknown())?;
        let (_, known) = self.catalog.service(&name).ok_or_else(unknown)?;
        Ok((name, known))
    }

    /// An admin puts a whole service into maintenance, or takes it out of it; none: as its source
    /// says. It counts from the next step on and lasts as long as the service.
    ///
    /// # Errors
    /// There is no such service, or it is not for HTTP; nothing has changed.
    pub fn maintain(&mut self, service: &str, on: Option<bool>) -> Result<(), CommandError> {
        let (name, known) = self.named(service)?;
        if !known.spec.listens.iter().all(Listen::is_http) {
            return Err(CommandError::NotHttp(service.into()));
        }
        self.overlay.maintain(&name, on);
        self.dirty.insert(name);
        Ok(())
    }

    /// Works all in that happened since the last step, brings the planes to it, and audits those
    /// whose time has come.
    pub fn step(&mut self, now: Instant) -> Step {
        self.refresh(now);
        let silent: BTreeSet<&str> = (self.catalog.sources())
            .filter(|(_, source)| !source.is_listed())
            .map(|(id, _)| &*id.name)
            .collect();
        let hold = |origin: &Origin| silent.contains(&*origin.source);
        let mut vips = Vec::new();
        if let Some(all) = &mut self.vips {
            vips = all.add(now);
            if !vips.is_empty() {
                // What could not be listened on for want of its address may be now.
                let failing = |lane: &&mut Lane| lane.reconciler.failures().next().is_some();
                let failing = self.lanes.iter_mut().filter(failing);
                failing.for_each(|lane| lane.next_audit = None);
            }
        }
        let mut planes = Vec::new();
        for lane in &mut self.lanes {
            let step = lane.step(now, self.settings.audit, &hold);
            if !step.results.is_empty() || !step.drift.is_empty() || step.error.is_some() {
                planes.push(step);
            }
        }
        // What is only not known yet is not taken away.
        if let Some(all) = &mut self.vips
            && silent.is_empty()
        {
            vips.extend(all.remove(now));
        }
        let audits = self.lanes.iter().filter_map(|lane| lane.next_audit);
        let of_vips = self.vips.as_ref().and_then(Vips::next_deadline);
        let deadlines = audits
            .chain(self.overlay.next_deadline())
            .chain(self.catalog.next_deadline())
            .chain(of_vips);
        Step {
            planes,
            vips,
            next_deadline: deadlines.min().unwrap_or(now + self.settings.audit),
        }
    }

    /// Works out what should be in force now.
    fn refresh(&mut self, now: Instant) {
        let mut changed = std::mem::take(&mut self.dirty);
        changed.extend(self.overlay.tick(now));
        let changes = {
            let planes: Vec<&dyn Plane> = self.lanes.iter().map(|l| &*l.plane).collect();
            self.catalog.resolve(now, &Available(&planes))
        };
        // Where a plane could not be had until now, it begins anew, with what an earlier process left.
        for name in &changes.awaited {
            let carrier = self.catalog.service(name).map(|(plane, _)| plane);
            let mut lanes = self.lanes.iter_mut();
            if let Some(lane) = lanes.find(|lane| Some(lane.plane.name()) == carrier) {
                lane.begin();
            }
        }
        changed.extend(changes.services);
        for name in &changed {
            self.refresh_service(now, name);
        }
        if changes.routes {
            self.refresh_routes();
        }
    }

    fn refresh_service(&mut self, now: Instant, name: &Name) {
        let Some((plane, service)) = self.catalog.service(name) else {
            // What is put aside may come back: what an admin said of it holds until it is gone.
            match self.catalog.is_aside(name.as_str()) {
                true => self.overlay.suspend(name),
                false => self.overlay.forget(name),
            }
            self.live.remove(name);
            if let Some(vips) = &mut self.vips {
                vips.put_aside(name, self.catalog.vips(name).cloned().collect());
            }
            if self.desired.services.contains_key(name) {
                Arc::make_mut(&mut self.desired).services.remove(name);
            }
            for lane in &mut self.lanes {
                if lane.desired.services.remove(name).is_some() {
                    lane.changed.service(name);
                }
            }
            return;
        };
        let before = self.desired.services.get(name);
        let after = self.overlay.lay(now, service, before);
        let moved = self.live.get(name).is_none_or(|live| live.plane != plane);
        if !moved && before.is_some_and(|before| Arc::ptr_eq(before, &after)) {
            return;
        }
        if let Some(vips) = &mut self.vips {
            vips.put(name, &after);
        }
        let old = self.live.remove(name);
        let since = after.backends.keys();
        let since = since.map(|a| (a.clone(), since_when(before, &after, old.as_ref(), a, now)));
        let since = since.collect();
        self.live.insert(name.clone(), Live { plane, since });
        for lane in &mut self.lanes {
            let services = &mut lane.desired.services;
            let before = match lane.plane.name() == plane {
                true => services.insert(name.clone(), after.clone()),
                false => services.remove(name),
            };
            if before.is_some() || lane.plane.name() == plane {
                lane.changed.service(name);
            }
        }
        let services = &mut Arc::make_mut(&mut self.desired).services;
        services.insert(name.clone(), after);
    }

    fn refresh_routes(&mut self) {
        let all = &self.catalog;
        for lane in &mut self.lanes {
            let own = all.routes().filter(|(_, p, _)| *p == lane.plane.name());
            lane.desired.routes = own.map(|(n, _, r)| (n.clone(), r.clone())).collect();
            lane.changed.routes();
        }
        let routes = all.routes().map(|(n, _, r)| (n.clone(), r.clone()));
        Arc::make_mut(&mut self.desired).routes = routes.collect();
    }

    /// What should be in force, as of the last step. What did not change since is shared with what
    /// this gave before.
    pub fn desired(&self) -> &Arc<Desired> {
        &self.desired
    }

    /// What is put aside, as of the last step.
    pub fn quarantine(&self) -> &Quarantine {
        self.catalog.quarantine()
    }

    /// Whether every source has said all that it has, be it long ago, and every plane was read.
    pub fn is_ready(&self) -> bool {
        self.catalog.sources().all(|(_, source)| source.is_listed())
            && self.lanes.iter().all(|l| l.reconciler.shadow().is_some())
    }

    /// Services that no plane carries now, though one may later without another word of their sources; and
    /// why.
    pub fn waiting(&self) -> impl Iterator<Item = (&Name, &str)> {
        self.catalog.waiting()
    }

    /// Whether this source has said all that it has, be it long ago.
    pub fn has_listed(&self, source: &SourceId) -> bool {
        let mut sources = self.catalog.sources();
        sources.any(|(id, known)| id == source && known.is_listed())
    }

    /// The streams of events of all planes; each is given out once. What comes out goes to
    /// [`Control::event`].
    pub fn events(&mut self) -> Vec<Receiver<Event>> {
        let lanes = self.lanes.iter_mut();
        lanes.filter_map(|lane| lane.plane.events()).collect()
    }

    /// What gives this host the addresses that services bring along, if anything does: to hear of changes,
    /// and to end. Steps are control's own business.
    pub fn addresses(&mut self) -> Option<&mut dyn Addresses> {
        self.vips.as_mut().map(Vips::addresses)
    }

    /// The names of the planes, the preferred one first.
    pub fn planes(&self) -> impl Iterator<Item = &'static str> {
        self.lanes.iter().map(|lane| lane.plane.name())
    }

    /// How many services each plane is to carry.
    pub fn carried(&self) -> impl Iterator<Item = (&'static str, usize)> {
        let lanes = self.lanes.iter();
        lanes.map(|lane| (lane.plane.name(), lane.desired.services.len()))
    }

    /// What planes failed to do and are asked again at every audit.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, &Subject, &Failed)> {
        self.lanes.iter().flat_map(|lane| {
            let failures = lane.reconciler.failures();
            failures.map(|(subject, failed)| (lane.plane.name(), subject, failed))
        })
    }

    /// The process is about to end: the planes take nothing new from now on. Whether all has ended
    /// that ends with the process; ask again until then. There are no steps any more after this.
    pub fn finish(&mut self) -> bool {
        // Every plane has to hear of it.
        let mut ended = true;
        for lane in &mut self.lanes {
            ended &= lane.plane.finish();
        }
        ended
    }

    /// A plane by its name, to list its flows, explain a tuple or read its counters. Steps are
    /// control's own business.
    pub fn plane_mut(&mut self, name: &str) -> Option<&mut dyn Plane> {
        let mut lanes = self.lanes.iter_mut();
        let lane = lanes.find(|lane| lane.plane.name() == name)?;
        Some(&mut *lane.plane)
    }
}

/// Since when a backend has its status.
fn since_when(
    before: Option<&Arc<Service>>,
    after: &Service,
    live: Option<&Live>,
    addr: &BackendAddr,
    now: Instant,
) -> Instant {
    let status = |s: &Service| s.backends.get(addr).map(|b| b.status.clone());
    let old = live.and_then(|live| live.since.get(addr));
    match old {
        Some(old) if before.and_then(|b| status(b)) == status(after) => *old,
        _ => now,
    }
}
