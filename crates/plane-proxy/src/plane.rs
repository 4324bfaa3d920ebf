//! The plane as control sees it.

mod insight;
mod listens;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use plimsoll_model::{
    AccessLog as Format, Backend, BackendAddr, Compress, Desired, Listen, Name, Op, Plan,
    PlaneChoice, Route, SchedulerKind, Service, ServiceSpec, State,
};
use plimsoll_plane::{
    Counters, Event, Explanation, FlowFilter, FlowPage, ItemResult, Plane, PlaneError, Tuple,
    Unsupported,
};
use tokio::sync::mpsc;

use crate::access::AccessLog;
use crate::backend::{LiveBackend, UNLIMITED};
use crate::check;
use crate::explain::explain;
use crate::http::auth::Guards;
use crate::http::compress::Memory;
use crate::http::pages::CommonPages;
use crate::listener::Bound;
use crate::load::Load;
use crate::snapshot::{LiveService, SharedService, Snapshot, table_of};
use crate::udp;
use crate::way;
use crate::worker::{self, Command, Shared};

/// Events kept for control while it is busy.
const EVENTS: usize = 1024;

/// Settings of the plane.
#[derive(Clone, Debug)]
pub struct Options {
    /// Worker threads, 1..=256.
    pub workers: usize,
    /// Where requests and connections are logged, and how where services do not say it.
    pub access_log: AccessLog,
    /// Pages for all services, which may be changed at any time.
    pub pages: CommonPages,
    /// Bytes that all responses that are being compressed may hold together; 0 is no limit. Those for
    /// which there is no room are sent as they are.
    pub compress_memory: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workers: 1,
            access_log: AccessLog::default(),
            pages: CommonPages::default(),
            compress_memory: Compress::MEMORY,
        }
    }
}

/// The proxy plane with its worker threads.
pub struct ProxyPlane {
    workers: usize,
    shared: Arc<Shared>,
    threads: Vec<std::thread::JoinHandle<()>>,
    held: Desired,
    listens: BTreeMap<Listen, Bound>,
    /// Listens that workers have been told to close, while they still listen.
    closing: Vec<(Listen, Weak<()>)>,
    next_listen: usize,
    /// What the workers are told once they can see what the new listens are for, by worker.
    opened: Vec<(usize, Command)>,
    live: HashMap<(Name, BackendAddr), Arc<LiveBackend>>,
    next_backend: u64,
    services: BTreeMap<Name, Arc<SharedService>>,
    /// How often each route has led to a service: its shares go on where they were.
    turns: HashMap<Name, Arc<AtomicU64>>,
    events: mpsc::Sender<Event>,
    events_out: Option<mpsc::Receiver<Event>>,
}

impl ProxyPlane {
    /// Starts the workers, which have nothing to do yet.
    ///
    /// # Errors
    /// A thread or its runtime could not be started.
    pub fn start(options: Options) -> io::Result<Self> {
        let workers = options.workers.clamp(1, 256);
        let shared = Arc::new(Shared {
            snapshot: arc_swap::ArcSwap::default(),
            epoch: Instant::now(),
            load: Load::new(workers),
            logging: AtomicBool::new(false),
            access_log: options.access_log,
            pages: options.pages,
            compress_memory: Memory::new(options.compress_memory),
            udp: Arc::new(udp::All::new(most_sessions())),
            workers: OnceLock::new(),
            guards: Guards::default(),
        });
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..workers).map(|_| mpsc::unbounded_channel()).unzip();
        // It was made above: nobody has set it before.
        let _ = shared.workers.set(senders);
        let threads = receivers
            .into_iter()
            .enumerate()
            .map(|(id, commands)| worker::spawn(id, shared.clone(), commands))
            .collect::<io::Result<Vec<_>>>()?;
        let (events, events_out) = mpsc::channel(EVENTS);
        Ok(Self {
            workers,
            shared,
            threads,
            held: Desired::default(),
            listens: BTreeMap::new(),
            closing: Vec::new(),
            next_listen: 0,
            opened: Vec::new(),
            live: HashMap::new(),
            next_backend: 1,
            services: BTreeMap::new(),
            turns: HashMap::new(),
            events,
            events_out: Some(events_out),
        })
    }

    /// Accepts nothing more and waits until what is in flight has ended, at most for `limit`.
    /// Whether all has ended.
    pub fn drain(&mut self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        self.shared.tell_all(|| Command::Drain);
        while self.threads.iter().any(|thread| !thread.is_finished()) {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }

    fn take(&mut self, op: &Op, touched: &mut BTreeSet<Name>) -> Result<(), PlaneError> {
        let spec = match op {
            Op::AddService(service) => {
                self.check(service)?;
                Some(&service.spec)
            }
            Op::SetSpec(spec) => {
                check::spec(spec)?;
                Some(spec)
            }
            Op::AddBackend(_, backend) | Op::SetBackend(_, backend) => {
                check::backend(backend)?;
                None
            }
            Op::PutRoute(_) | Op::RemoveRoute(_) | Op::RemoveBackend(..) | Op::RemoveService(_) => {
                None
            }
        };
        // Nothing is opened for a step that does not fit.
        let fits = match op {
            Op::AddService(service) => !self.held.services.contains_key(service.name()),
            Op::SetSpec(spec) => self.held.services.contains_key(&spec.name),
            _ => false,
        };
        if let Some(spec) = spec.filter(|_| fits) {
            self.open_all(spec)?;
        }
        let to_backends = |spec: &ServiceSpec| spec.to_backends.clone();
        if let Some(spec) = spec {
            let held = self.held.services.get(&spec.name);
            if held.and_then(|held| to_backends(&held.spec)) != to_backends(spec) {
                // It may come later, as devices do.
                for reason in way::missing(spec) {
                    tracing::warn!(service = %spec.name, reason, "no backend can be reached so for now");
                }
            }
        }
        self.held.apply(op)?;
        match op {
            Op::AddService(service) => drop(touched.insert(service.name().clone())),
            Op::SetSpec(spec) => drop(touched.insert(spec.name.clone())),
            Op::AddBackend(name, _) | Op::SetBackend(name, _) | Op::RemoveBackend(name, _) => {
                touched.insert(name.clone());
            }
            Op::RemoveService(name) => drop(touched.insert(name.clone())),
            Op::PutRoute(_) | Op::RemoveRoute(_) => {}
        }
        Ok(())
    }

    /// Brings what is held into force.
    fn publish(&mut self, touched: &BTreeSet<Name>) {
        let now = self.shared.now();
        let before = self.shared.snapshot.load_full();
        let mut services = before.services.clone();
        for name in touched {
            match self.held.services.get(name).cloned() {
                Some(service) => {
                    let live = self.live_service(&service, now);
                    services.insert(name.clone(), Arc::new(live));
                }
                None => {
                    services.remove(name);
                    self.services.remove(name);
                }
            }
        }
        self.turns
            .retain(|name, _| self.held.routes.contains_key(name));
        for name in self.held.routes.keys() {
            self.turns.entry(name.clone()).or_default();
        }
        let logging = services.values().any(|service| service.log.is_some());
        if logging {
            self.shared.access_log.start();
        }
        self.shared.logging.store(logging, Ordering::Relaxed);
        let tables = self
            .listens
            .iter()
            .map(|(listen, bound)| {
                let table = table_of(listen, &self.held, &services, &self.turns);
                (bound.index, Arc::new(table))
            })
            .collect();
        let held = Arc::new(self.held.clone());
        let mut kinds = services.values().map(|s| s.spec.scheduler.kind);
        self.shared.snapshot.store(Arc::new(Snapshot {
            held,
            by_destination: kinds.any(SchedulerKind::needs_destination),
            services,
            tables,
        }));
        // Whoever is sent away from a backend looks for another in the new snapshot.
        for name in touched {
            let old = before.held.services.get(name).map(|s| &**s);
            let new = self.held.services.get(name).map(|s| &**s);
            self.retire(name, old, new, now);
            self.rest(name);
        }
        let held = &self.held;
        self.live.retain(|(service, addr), live| {
            let known = held.services.get(service).is_some_and(|s| {
                s.backends.contains_key(addr)
                    || s.spec
                        .sorry
                        .as_ref()
                        .is_some_and(|sorry| sorry.addr == *addr)
            });
            known || Arc::strong_count(live) > 1
        });
        self.shared.tell_all(|| Command::Sweep);
        let guards = |name: &Name| {
            let new = held.services.get(name).map(|service| &*service.spec);
            let old = before.held.services.get(name);
            new.is_some_and(|new| guards_anew(old.map(|service| &*service.spec), new))
        };
        if touched.iter().any(guards) {
            self.shared.tell_all(|| Command::Review);
        }
    }

    fn live_service(&mut self, service: &Service, now: u64) -> LiveService {
        let workers = self.workers;
        let shared = self
            .services
            .entry(service.name().clone())
            .or_insert_with(|| Arc::new(SharedService::new(workers)));
        let shared = shared.clone();
        // Backends that take nothing new are not members, but what they have in flight must find
        // its settings and its end.
        let epoch = self.shared.epoch;
        let mut live = LiveService::new(service, shared, epoch, now, |name, backend| {
            self.live_backend(name, backend, now)
        });
        let format = service.spec.access_log;
        let format = format.unwrap_or_else(|| self.shared.access_log.format());
        live.log = Some(format).filter(|format| *format != Format::Off);
        live
    }

    fn live_backend(&mut self, service: &Name, backend: &Backend, now: u64) -> Arc<LiveBackend> {
        let key = (service.clone(), backend.addr.clone());
        let known = self.live.get(&key).filter(|live| live.is(backend)).cloned();
        let live = known.unwrap_or_else(|| {
            let id = self.next_backend;
            self.next_backend += 1;
            let events = self.events.clone();
            let live = Arc::new(LiveBackend::new(
                id,
                service.clone(),
                backend,
                self.workers,
                now,
                events,
            ));
            self.live.insert(key, live.clone());
            live
        });
        live.admission.set_limit(backend.maxconn);
        live.admission.set_thresholds(backend.upper, backend.lower);
        live.restore(now);
        live
    }

    /// Gives backends of weight 0 nothing new. Nothing that they have is cut, as with IPVS and HAProxy;
    /// whoever waits for them looks for another, unless clients stay there.
    fn rest(&self, name: &Name) {
        let snapshot = self.shared.snapshot.load();
        let service = snapshot.services.get(name);
        for member in service.iter().flat_map(|service| &service.resting) {
            member.live.rest();
            if !service.is_some_and(|service| service.clients_stay()) {
                member.live.admission.dissolve_queue();
            }
        }
    }

    /// Takes backends out of use that were in `old` and are not any more by `new`.
    fn retire(&self, name: &Name, old: Option<&Service>, new: Option<&Service>, now: u64) {
        let drain = new
            .or(old)
            .map_or(Duration::ZERO, |s| s.spec.timeouts.drain);
        let cut_at = match u64::try_from(drain.as_millis()) {
            // No limit: it is out of use, but never cut.
            Ok(0) | Err(_) => UNLIMITED,
            Ok(ms) => now.saturating_add(ms),
        };
        let still = new.map(in_use).unwrap_or_default();
        for addr in old.map(in_use).unwrap_or_default().difference(&still) {
            let key = (name.clone(), BackendAddr::clone(addr));
            if let Some(live) = self.live.get(&key) {
                live.retire(cut_at);
            }
        }
        let old = old.into_iter().flat_map(|service| service.backends.keys());
        for addr in old {
            let now = new.and_then(|service| service.backends.get(addr));
            let gone = now.is_none_or(|backend| backend.status.state == State::Down);
            if let Some(live) = self.live.get(&(name.clone(), addr.clone())) {
                live.set_gone(gone);
            }
        }
    }
}

/// Whether a service lets in others than before, or counts them otherwise.
fn guards_anew(old: Option<&ServiceSpec>, new: &ServiceSpec) -> bool {
    let guards = |spec: &ServiceSpec| (spec.clients.clone(), spec.limits, spec.listens.clone());
    let any = !new.clients.is_empty() || new.limits.is_some();
    any && old.is_none_or(|old| guards(old) != guards(new))
}

/// UDP sessions of all services at most: each has a file descriptor, and half of all are left to others.
fn most_sessions() -> u32 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.map_or(u32::MAX, |n| u32::try_from(n / 2).unwrap_or(u32::MAX))
}

/// The backends that could serve, the sorry server among them.
fn in_use(service: &Service) -> BTreeSet<&BackendAddr> {
    let backends = service
        .backends
        .values()
        .filter(|b| b.status.state == State::Ready)
        .map(|b| &b.addr);
    backends
        .chain(service.spec.sorry.iter().map(|sorry| &sorry.addr))
        .collect()
}

impl Plane for ProxyPlane {
    fn name(&self) -> &'static str {
        "proxy"
    }

    fn check(&self, service: &Service) -> Result<(), Unsupported> {
        if matches!(service.spec.plane, PlaneChoice::Ebpf | PlaneChoice::Ipvs) {
            return Err(check::unsupported(
                "kernel forwarding",
                "set plane = \"proxy\" or leave it out",
            ));
        }
        check::spec(&service.spec)?;
        service
            .backends
            .values()
            .try_for_each(|backend| check::backend(backend))
    }

    fn check_route(&self, _route: &Route) -> Result<(), Unsupported> {
        Ok(())
    }

    fn read(&mut self) -> Result<Desired, PlaneError> {
        if let Some(dead) = self.threads.iter().position(|thread| thread.is_finished()) {
            return Err(PlaneError::Other(format!(
                "worker {dead} has ended: restart plimsoll"
            )));
        }
        let held = Desired::clone(&self.shared.snapshot.load().held);
        self.held = held.clone();
        Ok(held)
    }

    fn apply(&mut self, plan: &Plan) -> Vec<ItemResult> {
        let mut touched = BTreeSet::new();
        let results: Vec<ItemResult> = plan
            .ops
            .iter()
            .map(|op| ItemResult {
                subject: op.subject(),
                result: self.take(op, &mut touched),
            })
            .collect();
        if results.iter().any(|r| r.result.is_ok()) {
            self.publish(&touched);
        }
        // Whoever is accepted before its listen is known would be sent away.
        self.accept_from_opened();
        // After the workers know the new state, and not before: make before break. And if nothing
        // is new, what was opened for a step that failed later.
        self.close_unused();
        results
    }

    fn counters(&self) -> Counters {
        self.sum_up()
    }

    fn flows(&mut self, filter: &FlowFilter, cursor: u64) -> Result<FlowPage, PlaneError> {
        self.list(filter, cursor)
    }

    fn explain(&self, tuple: &Tuple) -> Explanation {
        explain(
            &self.shared.snapshot.load(),
            &self.listens,
            tuple,
            self.shared.now(),
        )
    }

    fn events(&mut self) -> Option<mpsc::Receiver<Event>> {
        self.events_out.take()
    }

    fn finish(&mut self) -> bool {
        self.drain(Duration::ZERO)
    }
}

impl Drop for ProxyPlane {
    fn drop(&mut self) {
        self.drain(Duration::ZERO);
    }
}
