//! A plane that carries no traffic: for tests of what drives planes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use plimsoll_model::{Desired, Name, Op, Plan, Route, Service, Subject};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::{
    BackendCounters, Counters, Event, Explanation, FlowFilter, FlowPage, ItemResult, Plane,
    PlaneError, ServiceCounters, Tuple, Unsupported,
};

/// Events that wait at most; more are dropped, as real planes do.
const EVENTS: usize = 1024;

/// Holds what it is told to. Its [`Handle`] makes it fail, forget or refuse.
#[derive(Debug)]
pub struct FakePlane {
    name: &'static str,
    shared: Arc<Mutex<Shared>>,
    events: Option<Receiver<Event>>,
}

/// The test's end of a [`FakePlane`].
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Mutex<Shared>>,
    events: Sender<Event>,
}

#[derive(Debug, Default)]
struct Shared {
    held: Desired,
    failing: BTreeMap<Subject, PlaneError>,
    refused: BTreeMap<Name, Unsupported>,
    unreadable: Option<PlaneError>,
    applied: Vec<Op>,
    reads: usize,
}

impl FakePlane {
    /// An empty plane called `fake`, and the handle on it.
    pub fn new() -> (Self, Handle) {
        Self::named("fake")
    }

    /// An empty plane of this name, and the handle on it.
    pub fn named(name: &'static str) -> (Self, Handle) {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let (sender, receiver) = channel(EVENTS);
        let handle = Handle {
            shared: shared.clone(),
            events: sender,
        };
        let plane = Self {
            name,
            shared,
            events: Some(receiver),
        };
        (plane, handle)
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handle {
    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the plane holds.
    pub fn held(&self) -> Desired {
        self.shared().held.clone()
    }

    /// Changes what the plane holds behind the back of whoever drives it.
    pub fn alter(&self, change: impl FnOnce(&mut Desired)) {
        change(&mut self.shared().held);
    }

    /// From now on every step about the subject fails with this error.
    pub fn fail(&self, subject: Subject, error: PlaneError) {
        self.shared().failing.insert(subject, error);
    }

    /// No step fails any more.
    pub fn mend(&self) {
        self.shared().failing.clear();
    }

    /// From now on the service or route of this name needs a feature that the plane lacks.
    pub fn refuse(&self, name: Name, unsupported: Unsupported) {
        self.shared().refused.insert(name, unsupported);
    }

    /// From now on the plane can carry the service or route of this name again.
    pub fn accept(&self, name: &Name) {
        self.shared().refused.remove(name);
    }

    /// From now on `read` fails with this error, or works again.
    pub fn unreadable(&self, error: Option<PlaneError>) {
        self.shared().unreadable = error;
    }

    /// The steps that were taken since the last call, those that failed left out.
    pub fn take_applied(&self) -> Vec<Op> {
        std::mem::take(&mut self.shared().applied)
    }

    /// How often the plane was read.
    pub fn reads(&self) -> usize {
        self.shared().reads
    }

    /// Emits an event; dropped if 1024 wait.
    pub fn emit(&self, event: Event) {
        drop(self.events.try_send(event));
    }
}

impl Shared {
    fn take(&mut self, op: &Op) -> Result<(), PlaneError> {
        if let Some(error) = self.failing.get(&op.subject()) {
            return Err(error.clone());
        }
        let refused = match op {
            Op::AddService(service) => self.refused.get(service.name()),
            Op::SetSpec(spec) => self.refused.get(&spec.name),
            Op::PutRoute(route) => self.refused.get(&route.name),
            _ => None,
        };
        if let Some(unsupported) = refused {
            return Err(unsupported.clone().into());
        }
        self.held.apply(op)?;
        self.applied.push(op.clone());
        Ok(())
    }
}

impl Plane for FakePlane {
    fn name(&self) -> &'static str {
        self.name
    }

    fn check(&self, service: &Service) -> Result<(), Unsupported> {
        match self.shared().refused.get(service.name()) {
            Some(unsupported) => Err(unsupported.clone()),
            None => Ok(()),
        }
    }

    fn check_route(&self, route: &Route) -> Result<(), Unsupported> {
        match self.shared().refused.get(&route.name) {
            Some(unsupported) => Err(unsupported.clone()),
            None => Ok(()),
        }
    }

    fn read(&mut self) -> Result<Desired, PlaneError> {
        let mut shared = self.shared();
        shared.reads += 1;
        match &shared.unreadable {
            Some(error) => Err(error.clone()),
            None => Ok(shared.held.clone()),
        }
    }

    fn apply(&mut self, plan: &Plan) -> Vec<ItemResult> {
        let mut shared = self.shared();
        let take = |op: &Op| ItemResult {
            subject: op.subject(),
            result: shared.take(op),
        };
        plan.ops.iter().map(take).collect()
    }

    fn counters(&self) -> Counters {
        let shared = self.shared();
        let services = shared.held.services.values().map(|service| {
            let addrs = service.backends.keys().cloned();
            ServiceCounters {
                name: service.name().to_string(),
                backends: addrs.map(|a| (a, BackendCounters::default())).collect(),
                ..ServiceCounters::default()
            }
        });
        Counters {
            services: services.collect(),
            ..Counters::default()
        }
    }

    fn flows(&mut self, _: &FlowFilter, _: u64) -> Result<FlowPage, PlaneError> {
        Ok(FlowPage::default())
    }

    fn explain(&self, tuple: &Tuple) -> Explanation {
        Explanation {
            steps: vec![format!(
                "{}: a fake plane carries nothing",
                tuple.destination
            )],
            ..Explanation::default()
        }
    }

    fn events(&mut self) -> Option<Receiver<Event>> {
        self.events.take()
    }
}
