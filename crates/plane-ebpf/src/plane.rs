//! The plane: brings what the programs go by to what is desired, one service at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_model::{BackendAddr, Desired, Name, Op, Plan, Route, Service};
use plimsoll_plane::{
    Counters, Event, Explanation, FlowFilter, FlowPage, ItemResult, Plane, PlaneError, Tuple,
    Unsupported,
};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::books::{Numbers, Slots, Vips};
use crate::check::{self, NAME};
use crate::compile::Place;
use crate::interfaces::{self, Hook, Interfaces};
use crate::kernel::{Kernel, Opened, Owner, Print, Sizes, TunnelSources};
use crate::layout;
use crate::sys::host::{self, Task};
use crate::sys::{Netlink, Result, WriterLock};
use crate::write::Way;

/// Events that wait at most; more are dropped.
pub(crate) const EVENTS: usize = 1024;

/// How the plane is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// How large the tables are. Those of an earlier process stay as they are.
    pub sizes: Sizes,
    /// Where packets are taken.
    pub interfaces: Interfaces,
    /// Where packets in tunnels come from.
    pub tunnels: TunnelSources,
}

/// The packet plane of the network namespace that it is made in.
#[derive(Debug)]
pub struct EbpfPlane {
    pub(crate) kernel: Kernel,
    pub(crate) netlink: Netlink,
    /// None for whoever only looks, and writes nothing.
    lock: Option<WriterLock>,
    interfaces: Interfaces,
    /// Interfaces that could not be attached to, and why.
    pub(crate) faults: BTreeMap<String, String>,
    /// What the kernel holds, as it was written or found.
    pub(crate) held: Desired,
    pub(crate) entries: BTreeMap<Name, Entry>,
    pub(crate) places: BTreeMap<Place, Name>,
    pub(crate) ids: Numbers,
    pub(crate) slots: Slots,
    pub(crate) vips: Vips,
    /// Whose the slots are, those of backends that are leaving included.
    pub(crate) owners: BTreeMap<u32, (Name, BackendAddr)>,
    /// The texts that were written or found, by whose they are.
    pub(crate) noted: BTreeMap<Owner, Print>,
    /// What the programs have to look for, by the services that need it.
    pub(crate) flags: BTreeMap<u32, u32>,
    /// Ways that were asked for in this plan.
    pub(crate) ways: BTreeMap<IpAddr, Way>,
    /// The configuration of the programs, as it was written.
    pub(crate) config: layout::Config,
    /// The programs were attached since there is something to forward.
    attached: bool,
    /// Where they were found attached, by interface; XDP or TC.
    hooked: BTreeSet<(u32, Hook)>,
    /// Next hops that the kernel keeps fresh for us.
    pub(crate) managed: BTreeSet<(u32, IpAddr)>,
    /// Draining backends of which it was said that they have nothing any more.
    drained: BTreeSet<(Name, BackendAddr)>,
    events: (Sender<Event>, Option<Receiver<Event>>),
}

/// What the kernel holds of one service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    /// Its number.
    pub(crate) id: u32,
    /// Slots of its backends.
    pub(crate) slots: BTreeMap<BackendAddr, u32>,
    /// Those of backends that have left it, until their flows have ended.
    pub(crate) leaving: BTreeMap<BackendAddr, u32>,
    /// What was written of those.
    pub(crate) left: BTreeMap<u32, layout::Backend>,
    /// Where it takes packets.
    pub(crate) places: BTreeSet<Place>,
    /// What was written last: the service but for its turn, its backends by slot, its set.
    pub(crate) service: layout::Service,
    pub(crate) backends: BTreeMap<u32, layout::Backend>,
    pub(crate) set: Vec<u32>,
}

impl EbpfPlane {
    /// The packet plane of the calling thread's network namespace. What an earlier process left is
    /// taken over, with all its flows.
    ///
    /// # Errors
    /// The kernel is too old, a privilege is missing, another process has the plane, or what the
    /// kernel refuses.
    pub fn start(options: Options) -> Result<Self> {
        let (sender, receiver) = channel(EVENTS);
        let mut plane = Self::start_with(options, sender)?;
        plane.events.1 = Some(receiver);
        Ok(plane)
    }

    /// The same, with somebody to tell of events.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(options: Options, events: Sender<Event>) -> Result<Self> {
        host::check_kernel()?;
        host::check_privileges(Task::TakeOver)?;
        let lock = WriterLock::take()?;
        let mut netlink = Netlink::open()?;
        let (kernel, opened) = Kernel::open(&mut netlink, options.sizes)?;
        let mut config = kernel.config()?;
        config.set_tunnel_sources(options.tunnels);
        kernel.set_config(&config)?;
        let mut plane = Self::of(kernel, netlink, Some(lock), options.interfaces, events)?;
        if opened == Opened::TakenOver {
            plane.adopt()?;
        }
        Ok(plane)
    }

    /// What an earlier process left in the calling thread's network namespace, or another one holds
    /// there now, to ask it what it does. Nothing may be applied to it. None if there is nothing.
    ///
    /// # Errors
    /// A privilege is missing, or what the kernel refuses.
    pub fn look() -> Result<Option<Self>> {
        host::check_privileges(Task::TakeOver)?;
        let mut netlink = Netlink::open()?;
        let Some(kernel) = Kernel::look(&mut netlink)? else {
            return Ok(None);
        };
        let mut plane = Self::of(kernel, netlink, None, Interfaces::default(), channel(1).0)?;
        plane.adopt()?;
        Ok(Some(plane))
    }

    /// What is held, as it was found or written.
    pub fn held(&self) -> &Desired {
        &self.held
    }

    /// Whether it only looks.
    pub(crate) fn only_looks(&self) -> bool {
        self.lock.is_none()
    }

    fn of(
        kernel: Kernel,
        netlink: Netlink,
        lock: Option<WriterLock>,
        interfaces: Interfaces,
        events: Sender<Event>,
    ) -> Result<Self> {
        let sizes = kernel.sizes;
        Ok(Self {
            config: kernel.config()?,
            kernel,
            netlink,
            lock,
            interfaces,
            faults: BTreeMap::new(),
            held: Desired::default(),
            entries: BTreeMap::new(),
            places: BTreeMap::new(),
            ids: Numbers::new(sizes.services),
            slots: Slots::new(sizes.backends),
            vips: Vips::new(sizes.vips),
            owners: BTreeMap::new(),
            noted: BTreeMap::new(),
            flags: BTreeMap::new(),
            ways: BTreeMap::new(),
            attached: false,
            hooked: BTreeSet::new(),
            managed: BTreeSet::new(),
            drained: BTreeSet::new(),
            events: (events, None),
        })
    }

    /// Why packets are not taken at some interfaces, by their names.
    pub fn faults(&self) -> &BTreeMap<String, String> {
        &self.faults
    }

    /// Attaches the programs wherever they are wanted, once there is something to forward.
    fn attach(&mut self) {
        if self.entries.is_empty() {
            return;
        }
        self.attached = true;
        match interfaces::attach(&mut self.netlink, &self.kernel, &self.interfaces) {
            Ok(done) => {
                for (link, hook, name) in done.anew {
                    if self.hooked.contains(&(link, hook)) {
                        self.mended(&format!("{hook} of {name}, where the program was gone"));
                    }
                }
                (self.faults, self.hooked) = (done.faults, done.hooked);
            }
            Err(error) => self.faults = BTreeMap::from([("all".to_owned(), error.to_string())]),
        }
    }

    /// Something that is no service's was not as it was written, and is again.
    pub(crate) fn mended(&self, what: &str) {
        let event = Event::Repaired {
            plane: NAME,
            what: what.to_owned(),
        };
        // Dropped if nobody reads them, as all events.
        let _ = self.events.0.try_send(event);
    }

    /// Frees the slots of backends that have left and whose flows have ended, and tells of those that
    /// are draining and have nothing any more.
    fn tidy(&mut self) -> Result<()> {
        let mut free = Vec::new();
        for slot in self.entries.values().flat_map(|e| e.leaving.values()) {
            if self.flows_of(*slot)? == 0 {
                free.push(*slot);
            }
        }
        for slot in free {
            self.free(slot)?;
        }
        self.put_flags()?;
        let mut drained = BTreeSet::new();
        for (name, service) in &self.held.services {
            let draining = service.backends.values();
            let draining = draining.filter(|b| b.status.state == plimsoll_model::State::Draining);
            for backend in draining {
                let entry = self.entries.get(name);
                let Some(slot) = entry.and_then(|entry| entry.slots.get(&backend.addr)) else {
                    continue;
                };
                if self.flows_of(*slot)? == 0 {
                    drained.insert((name.clone(), backend.addr.clone()));
                }
            }
        }
        for (service, backend) in drained.difference(&self.drained) {
            let event = Event::Drained {
                service: service.clone(),
                backend: backend.clone(),
            };
            // Dropped if nobody reads them, as all events.
            let _ = self.events.0.try_send(event);
        }
        self.drained = drained;
        Ok(())
    }

    fn flows_of(&self, slot: u32) -> Result<u64> {
        let live: Option<layout::Live> = self.kernel.maps.get("lives", &slot)?;
        Ok(live.map_or(0, |l| u64::from(l.active) + u64::from(l.inactive)))
    }

    /// Whether this plane can carry what a step leads to.
    fn check_step(&self, op: &Op) -> Result<(), Unsupported> {
        match op {
            Op::AddService(service) => check::service(service)?,
            Op::SetSpec(spec) => {
                check::spec(spec)?;
                if let Some(service) = self.held.services.get(&spec.name) {
                    let sorry = spec.sorry.as_ref();
                    let backends = service.backends.values().map(AsRef::as_ref);
                    for backend in backends.chain(sorry) {
                        check::backend(spec, backend)?;
                    }
                }
            }
            Op::AddBackend(name, backend) | Op::SetBackend(name, backend) => {
                if let Some(service) = self.held.services.get(name) {
                    check::backend(&service.spec, backend)?;
                }
            }
            Op::PutRoute(route) => self.check_route(route)?,
            Op::RemoveBackend(..) | Op::RemoveService(_) | Op::RemoveRoute(_) => {}
        }
        Ok(())
    }

    /// Takes a step in what is to be held; the service that must be written then. What lies between
    /// the beginning and the end of a plan need not be possible, as when a service goes from one
    /// address family to the other: `ends_well` says whether a service can be carried after all of it.
    fn step(
        &mut self,
        op: &Op,
        ends_well: impl FnOnce(&Desired, &Name) -> bool,
    ) -> Result<Option<Name>, PlaneError> {
        if let Err(lacking) = self.check_step(op) {
            let name = match op {
                Op::SetSpec(spec) => &spec.name,
                Op::AddBackend(name, _) | Op::SetBackend(name, _) => name,
                _ => return Err(lacking.into()),
            };
            if !ends_well(&self.held, name) {
                return Err(lacking.into());
            }
        }
        self.held.apply(op)?;
        Ok(service_of(op).cloned())
    }

    /// Writes services that have changed; what went wrong, by service.
    fn write_all(&mut self, changed: &BTreeSet<Name>) -> BTreeMap<Name, PlaneError> {
        let held = |name: &Name| self.held.services.get(name).cloned();
        let wanted = changed
            .iter()
            .filter_map(|name| Some((name.clone(), held(name)?)));
        let wanted: Vec<(Name, Arc<Service>)> = wanted.collect();
        let gone = changed
            .iter()
            .filter(|name| !self.held.services.contains_key(*name));
        let gone: Vec<&Name> = gone.collect();
        // Listens that another service of this plan gives up are taken from it here.
        let mut faults = self.write(&wanted);
        faults.extend(self.remove_all(&gone));
        let mut faults: BTreeMap<Name, PlaneError> = faults
            .into_iter()
            .map(|(name, error)| (name.clone(), error))
            .collect();
        if let Err(error) = self.put_flags() {
            // Without it replies of NAT are not seen: whoever was written has to be written again.
            let error = PlaneError::from(error);
            faults.extend(changed.iter().map(|name| (name.clone(), error.clone())));
        }
        faults
    }
}

impl Plane for EbpfPlane {
    fn name(&self) -> &'static str {
        NAME
    }

    fn check(&self, service: &Service) -> Result<(), Unsupported> {
        check::service(service)
    }

    fn check_route(&self, route: &Route) -> Result<(), Unsupported> {
        check::route(route)
    }

    fn read(&mut self) -> Result<Desired, PlaneError> {
        let verified = self.verify().and_then(|()| self.tidy());
        verified.map_err(|error| PlaneError::Other(error.to_string()))?;
        self.attach();
        Ok(self.held.clone())
    }

    fn apply(&mut self, plan: &Plan) -> Vec<ItemResult> {
        let mut changed = BTreeSet::new();
        // Services as they were before the first step about each.
        let mut before: BTreeMap<Name, Option<Arc<Service>>> = BTreeMap::new();
        let mut end = None;
        self.ways.clear();
        let mut results: Vec<(ItemResult, Option<Name>)> = Vec::new();
        for op in &plan.ops {
            if let Some(name) = service_of(op) {
                let was = || self.held.services.get(name).cloned();
                before.entry(name.clone()).or_insert_with(was);
            }
            let stepped = self.step(op, |held, name| {
                let end = end.get_or_insert_with(|| end_of(held, &before, plan));
                let service = end.services.get(name);
                service.is_some_and(|service| check::service(service).is_ok())
            });
            let name = stepped.as_ref().ok().cloned().flatten();
            changed.extend(name.clone());
            let result = ItemResult {
                subject: op.subject(),
                result: stepped.map(drop),
            };
            results.push((result, name));
        }
        let faults = self.write_all(&changed);
        for (name, error) in &faults {
            // What could not be written is as it was, for all that control is to know.
            match before.get(name).cloned().flatten() {
                Some(service) => drop(self.held.services.insert(name.clone(), service)),
                None => {
                    self.held.services.remove(name);
                    // What was written of it is of no use; what stays is removed by an audit.
                    let _ = self.remove_all(&[name]);
                }
            }
            for (item, of) in &mut results {
                if of.as_ref() == Some(name) && item.result.is_ok() {
                    item.result = Err(error.clone());
                }
            }
        }
        if !self.attached {
            self.attach();
        }
        results.into_iter().map(|(item, _)| item).collect()
    }

    fn counters(&self) -> Counters {
        self.count()
    }

    fn flows(&mut self, filter: &FlowFilter, cursor: u64) -> Result<FlowPage, PlaneError> {
        let listed = self.list_flows(filter, cursor);
        listed.map_err(|error| PlaneError::Other(error.to_string()))
    }

    fn explain(&self, tuple: &Tuple) -> Explanation {
        self.tell(tuple)
    }

    fn events(&mut self) -> Option<Receiver<Event>> {
        self.events.1.take()
    }
}

/// The service that a step is about.
fn service_of(op: &Op) -> Option<&Name> {
    match op {
        Op::AddService(service) => Some(service.name()),
        Op::SetSpec(spec) => Some(&spec.name),
        Op::AddBackend(name, _) | Op::SetBackend(name, _) | Op::RemoveBackend(name, _) => {
            Some(name)
        }
        Op::RemoveService(name) => Some(name),
        Op::PutRoute(_) | Op::RemoveRoute(_) => None,
    }
}

/// What all of a plan leads to: `held` is what a part of its steps led to, `before` how the services
/// that they were about had been.
fn end_of(held: &Desired, before: &BTreeMap<Name, Option<Arc<Service>>>, plan: &Plan) -> Desired {
    let mut end = held.clone();
    for (name, service) in before {
        match service {
            Some(service) => drop(end.services.insert(name.clone(), service.clone())),
            None => drop(end.services.remove(name)),
        }
    }
    for op in &plan.ops {
        // What cannot be applied is told where it is applied.
        let _ = end.apply(op);
    }
    end
}

/// For how long the flows of a backend that is taken away may go on; none without an end.
pub(crate) fn drain_time(service: &Service) -> Option<Duration> {
    let drain = service.spec.timeouts.drain;
    (!drain.is_zero()).then_some(drain)
}
