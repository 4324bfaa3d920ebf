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
use crate::interfaces::{self, Interfaces};
use crate::kernel::{Kernel, Opened, Sizes};
use crate::layout;
use crate::sys::host::{self, Task};
use crate::sys::{Netlink, Result, WriterLock};

/// Events that wait at most; more are dropped.
pub(crate) const EVENTS: usize = 1024;

/// How the plane is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// How large the tables are. Those of an earlier process stay as they are.
    pub sizes: Sizes,
    /// Where packets are taken.
    pub interfaces: Interfaces,
}

/// The packet plane of the network namespace that it is made in.
#[derive(Debug)]
pub struct EbpfPlane {
    pub(crate) kernel: Kernel,
    pub(crate) netlink: Netlink,
    _lock: WriterLock,
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
    /// Backends that no service has any more, until their flows have ended.
    pub(crate) leaving: BTreeMap<u32, Leaving>,
    /// Whose the slots are, those of backends that are leaving included.
    pub(crate) owners: BTreeMap<u32, (Name, BackendAddr)>,
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
    /// Where it takes packets.
    pub(crate) places: BTreeSet<Place>,
    /// What was written last: the service but for its turn, its backends by slot, its set.
    pub(crate) service: layout::Service,
    pub(crate) backends: BTreeMap<u32, layout::Backend>,
    pub(crate) set: Vec<u32>,
}

/// A backend that has left its service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaving {
    pub(crate) service: Name,
    pub(crate) addr: BackendAddr,
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
        let sizes = kernel.sizes;
        let mut plane = Self {
            kernel,
            netlink,
            _lock: lock,
            interfaces: options.interfaces,
            faults: BTreeMap::new(),
            held: Desired::default(),
            entries: BTreeMap::new(),
            places: BTreeMap::new(),
            ids: Numbers::new(sizes.services),
            slots: Slots::new(sizes.backends),
            vips: Vips::new(sizes.vips),
            leaving: BTreeMap::new(),
            owners: BTreeMap::new(),
            managed: BTreeSet::new(),
            drained: BTreeSet::new(),
            events: (events, None),
        };
        if opened == Opened::TakenOver {
            plane.adopt()?;
        }
        Ok(plane)
    }

    /// Takes the programs off all interfaces: packets to VIPs are the host's own again, and all flows
    /// are forgotten with the process.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn detach(mut self) -> Result<()> {
        interfaces::detach(&mut self.netlink, &self.kernel)
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
        match interfaces::attach(&mut self.netlink, &self.kernel, &self.interfaces) {
            Ok(faults) => self.faults = faults,
            Err(error) => self.faults = BTreeMap::from([("all".to_owned(), error.to_string())]),
        }
    }

    /// Frees the slots of backends that have left and whose flows have ended, and tells of those that
    /// are draining and have nothing any more.
    fn tidy(&mut self) -> Result<()> {
        let mut free = Vec::new();
        for slot in self.leaving.keys() {
            if self.flows_of(*slot)? == 0 {
                free.push(*slot);
            }
        }
        for slot in free {
            self.free(slot)?;
        }
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
        ends_well: impl FnOnce(&Name) -> bool,
    ) -> Result<Option<Name>, PlaneError> {
        if let Err(lacking) = self.check_step(op) {
            let name = match op {
                Op::SetSpec(spec) => &spec.name,
                Op::AddBackend(name, _) | Op::SetBackend(name, _) => name,
                _ => return Err(lacking.into()),
            };
            if !ends_well(name) {
                return Err(lacking.into());
            }
        }
        self.held.apply(op)?;
        Ok(match op {
            Op::AddService(service) => Some(service.name().clone()),
            Op::SetSpec(spec) => Some(spec.name.clone()),
            Op::AddBackend(name, _) | Op::SetBackend(name, _) | Op::RemoveBackend(name, _) => {
                Some(name.clone())
            }
            Op::RemoveService(name) => Some(name.clone()),
            Op::PutRoute(_) | Op::RemoveRoute(_) => None,
        })
    }

    /// Writes services that have changed; what went wrong, by service.
    fn write_all(&mut self, changed: &BTreeSet<Name>) -> BTreeMap<Name, PlaneError> {
        let mut faults = BTreeMap::new();
        let wanted = |plane: &Self, name: &Name| plane.held.services.get(name).cloned();
        // Listens that another service of this plan gives up are taken from it here.
        for name in changed {
            if let Some(service) = wanted(self, name)
                && let Err(error) = self.write(name, &service)
            {
                faults.insert(name.clone(), error);
            }
        }
        for name in changed {
            if wanted(self, name).is_none()
                && let Err(error) = self.remove(name)
            {
                faults.insert(name.clone(), PlaneError::Other(error.to_string()));
            }
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
        let before = self.held.clone();
        let mut end = None;
        let mut results: Vec<(ItemResult, Option<Name>)> = Vec::new();
        for op in &plan.ops {
            let stepped = self.step(op, |name| {
                let end = end.get_or_insert_with(|| end_of(&before, plan));
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
            match before.services.get(name) {
                Some(service) => {
                    let service: Arc<Service> = service.clone();
                    self.held.services.insert(name.clone(), service);
                }
                None => drop(self.held.services.remove(name)),
            }
            for (item, of) in &mut results {
                if of.as_ref() == Some(name) && item.result.is_ok() {
                    item.result = Err(error.clone());
                }
            }
        }
        if !changed.is_empty() {
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

/// What all of a plan leads to.
fn end_of(before: &Desired, plan: &Plan) -> Desired {
    let mut end = before.clone();
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
