//! What admins, checks and traffic lay over the services of the catalog: drained or down
//! backends, other weights.
//!
//! Of several reasons to give a backend nothing new the admin's counts, then the source's, then a
//! check's, then that of failures seen in traffic.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use plimsoll_health::{Counts, Failure, Leave, Passive, Verdict};
use plimsoll_model::{
    Backend, BackendAddr, Maintenance, Name, Service, ServiceSpec, State, Status,
};

use crate::Halt;

/// Something for each of some backends.
type PerBackend<T> = BTreeMap<Name, BTreeMap<BackendAddr, T>>;

/// What an admin asked of a backend.
#[derive(Clone, Debug, Default)]
struct Override {
    /// Why it is to get nothing new, and in words.
    halt: Option<(Halt, Arc<str>)>,
    weight: Option<u32>,
}

impl Override {
    fn drains(&self) -> bool {
        self.halt.is_some()
    }
}

/// What is laid over the catalog's services.
#[derive(Clone, Debug)]
pub struct Overlay {
    overrides: PerBackend<Override>,
    /// Services that an admin put into maintenance, or took out of it.
    maintained: BTreeMap<Name, bool>,
    verdicts: PerBackend<Verdict>,
    passive: Passive,
}

impl Overlay {
    /// Nothing is laid over anything yet.
    pub fn new(passive: Passive) -> Self {
        Self {
            overrides: BTreeMap::new(),
            maintained: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            passive,
        }
    }

    /// Takes a backend out, what for and `by` whom.
    pub fn halt(&mut self, service: &Name, backend: &BackendAddr, halt: Halt, by: &str) {
        let reason = match halt {
            Halt::Drain => format!("drained by {by}"),
            Halt::Maintenance => format!("put into maintenance by {by}"),
        };
        self.change(service, backend, |o| o.halt = Some((halt, reason.into())));
    }

    /// Takes a halt back, and forgets failures.
    pub fn ready(&mut self, service: &Name, backend: &BackendAddr) {
        self.change(service, backend, |o| o.halt = None);
        self.passive.clear(service, backend);
    }

    /// What an admin has taken a backend out for.
    pub fn halted(&self, service: &Name, backend: &BackendAddr) -> Option<Halt> {
        let (halt, _) = get(&self.overrides, service, backend)?.halt.as_ref()?;
        Some(*halt)
    }

    /// Overrides a weight; none takes that back.
    pub fn weight(&mut self, service: &Name, backend: &BackendAddr, weight: Option<u32>) {
        self.change(service, backend, |o| o.weight = weight);
    }

    /// Puts a whole service into maintenance, or takes it out of it; none: as its source says.
    pub fn maintain(&mut self, service: &Name, on: Option<bool>) {
        match on {
            Some(on) => drop(self.maintained.insert(service.clone(), on)),
            None => drop(self.maintained.remove(service)),
        }
    }

    /// The spec of a service with its maintenance as an admin wants it, if that is another than its
    /// source's.
    fn maintained(&self, service: &Service) -> Option<Arc<ServiceSpec>> {
        let on = *self.maintained.get(service.name())?;
        let http = service.spec.http.as_deref();
        let said = http.and_then(|http| http.maintenance.as_ref());
        if said.is_some_and(|said| said.on) == on {
            return None;
        }
        let mut http = http.cloned().unwrap_or_default();
        let before = http.maintenance.take();
        http.maintenance = Some(Maintenance {
            on,
            ..before.unwrap_or_else(|| Maintenance::new(on))
        });
        let mut spec = ServiceSpec::clone(&service.spec);
        spec.http = Some(http.into());
        Some(spec.into())
    }

    fn change(&mut self, service: &Name, backend: &BackendAddr, how: impl FnOnce(&mut Override)) {
        let all = self.overrides.entry(service.clone()).or_default();
        how(all.entry(backend.clone()).or_default());
        all.retain(|_, o| o.halt.is_some() || o.weight.is_some());
    }

    /// What a check says about a backend. Whether that is news. One that is ready after it was not
    /// is forgiven its failures in traffic, too.
    pub fn verdict(&mut self, service: &Name, backend: &BackendAddr, verdict: Verdict) -> bool {
        let all = self.verdicts.entry(service.clone()).or_default();
        if all.get(backend) == Some(&verdict) {
            return false;
        }
        let is_ready = verdict.state == State::Ready;
        let before = all.insert(backend.clone(), verdict);
        if is_ready && before.is_some_and(|before| before.state != State::Ready) {
            self.passive.clear(service, backend);
        }
        true
    }

    /// A backend of this service failed. Whether its standing has changed. It is not put out if
    /// no other backend could take its traffic, or as many are out as the service allows.
    pub fn failure(
        &mut self,
        now: Instant,
        service: &Service,
        backend: &BackendAddr,
        failure: Failure,
        reason: Arc<str>,
    ) -> bool {
        let name = service.name();
        let leave = self.may_leave(service, backend);
        let of = (name, service.spec.outlier.as_ref());
        let passive = &mut self.passive;
        passive.failure(now, of, backend, failure, reason, leave)
    }

    /// Whether a backend may be put out.
    fn may_leave(&self, service: &Service, backend: &BackendAddr) -> Leave {
        let is_out = |addr: &BackendAddr| self.passive.is_ejected(service.name(), addr);
        let others = service.backends.iter().filter(|(a, _)| *a != backend);
        let mut others = others.filter(|(_, other)| self.could_serve(service, other));
        let Some(outlier) = &service.spec.outlier else {
            return match others.any(|(addr, _)| !is_out(addr)) {
                true => Leave::Granted,
                false => Leave::Last,
            };
        };
        let (mut all, mut out) = (1, 0);
        for (addr, _) in others {
            all += 1;
            out += usize::from(is_out(addr));
        }
        match (out + 1) * 100 <= all * usize::from(outlier.max_percent) {
            _ if out + 1 == all => Leave::Last,
            // One may always be.
            false if out > 0 => Leave::Enough,
            _ => Leave::Granted,
        }
    }

    /// A backend has served. Whether its standing has changed.
    pub fn served(&mut self, now: Instant, service: &Name, backend: &BackendAddr) -> bool {
        self.passive.served(now, service, backend)
    }

    /// The backends that are out because they could not be connected to.
    pub fn unreached(&self) -> impl Iterator<Item = (&Name, &BackendAddr)> {
        self.passive.unreached()
    }

    /// A backend can be connected to. Whether its standing has changed.
    pub fn reached(&mut self, now: Instant, service: &Name, backend: &BackendAddr) -> bool {
        self.passive.reached(now, service, backend)
    }

    /// Time has passed. The services in which the standing of a backend has changed.
    pub fn tick(&mut self, now: Instant) -> BTreeSet<Name> {
        self.passive.tick(now)
    }

    /// When [`Overlay::tick`] has something to do, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.passive.next_deadline()
    }

    /// How often failures of a backend came to what.
    pub fn counts(&self, service: &Name, backend: &BackendAddr) -> Counts {
        self.passive.counts(service, backend)
    }

    /// A service is not in force: its backends are not under check.
    pub fn suspend(&mut self, service: &Name) {
        self.verdicts.remove(service);
    }

    /// Forgets all about a service.
    pub fn forget(&mut self, service: &Name) {
        self.overrides.remove(service);
        self.maintained.remove(service);
        self.verdicts.remove(service);
        self.passive.retain(service, |_| false);
    }

    /// The service with all that is laid over it; what was laid over backends that are gone is
    /// forgotten. `before` is what the last call gave: what is the same in both is shared.
    pub fn lay(
        &mut self,
        now: Instant,
        service: &Arc<Service>,
        before: Option<&Arc<Service>>,
    ) -> Arc<Service> {
        self.prune(service);
        if before.is_some_and(|before| has_ready(before)) {
            self.trust_the_unknown(service);
        }
        self.spare_the_last(now, service);
        let name = service.name();
        let laid = |backend: &Arc<Backend>| -> Option<Arc<Backend>> {
            let (status, weight) = (self.status(service, backend), self.weight_of(name, backend));
            (status != backend.status || weight != backend.weight).then(|| {
                let backend = Backend::clone(backend);
                Arc::new(Backend {
                    status,
                    weight,
                    ..backend
                })
            })
        };
        let changed = service.backends.values().filter_map(laid);
        let changed: Vec<Arc<Backend>> = changed.collect();
        let mut result = service.clone();
        if let Some(spec) = self.maintained(service) {
            Arc::make_mut(&mut result).spec = spec;
        }
        if !changed.is_empty() {
            let backends = changed.into_iter().map(|b| (b.addr.clone(), b));
            Arc::make_mut(&mut result).backends.extend(backends);
        }
        match before {
            Some(before) if *before == result => before.clone(),
            _ => result,
        }
    }

    fn prune(&mut self, service: &Service) {
        fn keep<T>(all: &mut PerBackend<T>, service: &Service) {
            if let Some(some) = all.get_mut(service.name()) {
                some.retain(|addr, _| service.backends.contains_key(addr));
                if some.is_empty() {
                    all.remove(service.name());
                }
            }
        }
        keep(&mut self.overrides, service);
        keep(&mut self.verdicts, service);
        if let Some(verdicts) = self.verdicts.get_mut(service.name()) {
            // What is not under check has no verdict.
            let overrides = &self.overrides;
            verdicts.retain(|addr, _| {
                let drained = get(overrides, service.name(), addr).is_some_and(Override::drains);
                let backend = service.backends.get(addr).filter(|_| !drained);
                let checked = backend.is_some_and(|b| b.status.state != State::Draining);
                checked && service.spec.check.is_some()
            });
        }
        let there = |addr: &BackendAddr| service.backends.contains_key(addr);
        self.passive.retain(service.name(), there);
    }

    /// A service that was served does not stop for what is only not known yet, as can be when it
    /// gets a check, or when all are replaced: if none could serve, those count as ready that no
    /// check has said anything of, until one does.
    fn trust_the_unknown(&mut self, service: &Service) {
        if service.spec.check.is_none() {
            return;
        }
        let mut backends = service.backends.values();
        if backends.any(|backend| self.could_serve(service, backend)) {
            return;
        }
        let name = service.name();
        let known = self.verdicts.entry(name.clone()).or_default();
        for (addr, backend) in &service.backends {
            let drained = get(&self.overrides, name, addr).is_some_and(Override::drains);
            if backend.status.state == State::Ready && !drained {
                known.entry(addr.clone()).or_insert_with(|| Verdict {
                    state: State::Ready,
                    reason: "".into(),
                });
            }
        }
    }

    /// Brings one backend back if all that could serve are out, as can be when the others leave.
    fn spare_the_last(&mut self, now: Instant, service: &Service) {
        let name = service.name();
        let candidates = service.backends.values();
        let mut candidates = candidates
            .filter(|b| self.could_serve(service, b))
            .peekable();
        if candidates.peek().is_none() {
            return;
        }
        let addrs: Vec<&BackendAddr> = candidates.map(|b| &b.addr).collect();
        if addrs.iter().all(|addr| self.passive.is_ejected(name, addr)) {
            self.passive.spare_one(now, name, addrs);
        }
    }

    /// Whether a backend would be given something new, failures in traffic aside.
    fn could_serve(&self, service: &Service, backend: &Backend) -> bool {
        self.status_but_passive(service, backend).state == State::Ready
            && self.weight_of(service.name(), backend) > 0
    }

    fn status_but_passive(&self, service: &Service, backend: &Backend) -> Status {
        let (name, addr) = (service.name(), &backend.addr);
        let halt = get(&self.overrides, name, addr).and_then(|o| o.halt.as_ref());
        if let Some((_, reason)) = halt {
            return Status::new(State::Draining, reason.clone());
        }
        if backend.status.state != State::Ready || service.spec.check.is_none() {
            return backend.status.clone();
        }
        match get(&self.verdicts, name, addr) {
            Some(verdict) if verdict.state == State::Ready => backend.status.clone(),
            Some(verdict) => verdict.into(),
            None => Status::new(State::Starting, "not checked yet"),
        }
    }

    fn status(&self, service: &Service, backend: &Backend) -> Status {
        let status = self.status_but_passive(service, backend);
        let tracker = self.passive.tracker(service.name(), &backend.addr);
        match tracker.map(|tracker| tracker.standing().status()) {
            Some(passive) if status.state == State::Ready && passive != Status::default() => {
                passive
            }
            _ => status,
        }
    }

    fn weight_of(&self, service: &Name, backend: &Backend) -> u32 {
        let known = get(&self.overrides, service, &backend.addr);
        known.and_then(|o| o.weight).unwrap_or(backend.weight)
    }
}

fn has_ready(service: &Service) -> bool {
    let mut backends = service.backends.values();
    backends.any(|backend| backend.takes_new())
}

fn get<'a, T>(all: &'a PerBackend<T>, service: &Name, backend: &BackendAddr) -> Option<&'a T> {
    all.get(service)?.get(backend)
}
