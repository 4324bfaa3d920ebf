//! The difference between two desired states, as steps that a plane can take.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::fmt;
use std::iter::Peekable;
use std::sync::Arc;

use serde::Serialize;

use crate::{Backend, BackendAddr, Desired, Name, Route, Service, ServiceSpec};

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A service that was not there, with all its backends.
    AddService(Arc<Service>),
    /// New settings for a service; its backends stay.
    SetSpec(Arc<ServiceSpec>),
    /// A backend that was not there.
    AddBackend(Name, Arc<Backend>),
    /// New settings for a backend.
    SetBackend(Name, Arc<Backend>),
    /// A route, new or changed.
    PutRoute(Arc<Route>),
    /// No such route any more.
    RemoveRoute(Name),
    /// No such backend any more.
    RemoveBackend(Name, BackendAddr),
    /// No such service any more, with all its backends.
    RemoveService(Name),
}

/// What a step is about, to name it in results, logs and `status`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// A service.
    Service(Name),
    /// A backend of a service.
    Backend(Name, BackendAddr),
    /// A route.
    Route(Name),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Service(name) => write!(f, "service `{name}`"),
            Subject::Backend(name, addr) => write!(f, "backend {addr} of service `{name}`"),
            Subject::Route(name) => write!(f, "route `{name}`"),
        }
    }
}

impl Op {
    /// What the step is about.
    pub fn subject(&self) -> Subject {
        match self {
            Op::AddService(service) => Subject::Service(service.name().clone()),
            Op::SetSpec(spec) => Subject::Service(spec.name.clone()),
            Op::RemoveService(name) => Subject::Service(name.clone()),
            Op::AddBackend(name, backend) | Op::SetBackend(name, backend) => {
                Subject::Backend(name.clone(), backend.addr.clone())
            }
            Op::RemoveBackend(name, addr) => Subject::Backend(name.clone(), addr.clone()),
            Op::PutRoute(route) => Subject::Route(route.name.clone()),
            Op::RemoveRoute(name) => Subject::Route(name.clone()),
        }
    }
}

/// Why a step does not fit the state it is applied to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// It adds what is there.
    #[error("{0} is there already")]
    Exists(Subject),
    /// It changes or removes what is not there.
    #[error("{0} is not there")]
    Missing(Subject),
}

/// Steps in the order in which they are to be taken: make before break.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps.
    pub ops: Vec<Op>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
}

impl Desired {
    /// The steps that lead from this state to `to`. Services that are the same `Arc` cost one pointer comparison
    /// each.
    pub fn diff(&self, to: &Desired) -> Plan {
        let mut steps = Steps::default();
        for (name, old, new) in Both::new(&self.services, &to.services) {
            steps.service(name, old, new);
        }
        for (name, old, new) in Both::new(&self.routes, &to.routes) {
            steps.route(name, old, new);
        }
        steps.plan()
    }

    /// Those of the steps of [`Self::diff`] that are about these services and, if `routes` says so, about
    /// routes. Other services cost nothing.
    pub fn diff_of(&self, to: &Desired, services: &BTreeSet<Name>, routes: bool) -> Plan {
        let mut steps = Steps::default();
        for name in services {
            steps.service(name, self.services.get(name), to.services.get(name));
        }
        if routes {
            for (name, old, new) in Both::new(&self.routes, &to.routes) {
                steps.route(name, old, new);
            }
        }
        steps.plan()
    }

    /// Takes one step.
    ///
    /// # Errors
    /// The step does not fit; nothing has changed then.
    pub fn apply(&mut self, op: &Op) -> Result<(), PlanError> {
        let missing = || PlanError::Missing(op.subject());
        match op {
            Op::AddService(service) => match self.services.contains_key(service.name()) {
                true => return Err(PlanError::Exists(op.subject())),
                false => drop(
                    self.services
                        .insert(service.name().clone(), service.clone()),
                ),
            },
            Op::SetSpec(spec) => {
                let service = self.services.get_mut(&spec.name).ok_or_else(missing)?;
                Arc::make_mut(service).spec = spec.clone();
            }
            Op::AddBackend(name, backend) => {
                let service = self.services.get_mut(name).ok_or_else(missing)?;
                if service.backends.contains_key(&backend.addr) {
                    return Err(PlanError::Exists(op.subject()));
                }
                Arc::make_mut(service)
                    .backends
                    .insert(backend.addr.clone(), backend.clone());
            }
            Op::SetBackend(name, backend) => {
                let service = self.services.get_mut(name).ok_or_else(missing)?;
                if !service.backends.contains_key(&backend.addr) {
                    return Err(missing());
                }
                Arc::make_mut(service)
                    .backends
                    .insert(backend.addr.clone(), backend.clone());
            }
            Op::RemoveBackend(name, addr) => {
                let service = self.services.get_mut(name).ok_or_else(missing)?;
                if !service.backends.contains_key(addr) {
                    return Err(missing());
                }
                Arc::make_mut(service).backends.remove(addr);
            }
            Op::RemoveService(name) => {
                self.services.remove(name).ok_or_else(missing)?;
            }
            Op::PutRoute(route) => drop(self.routes.insert(route.name.clone(), route.clone())),
            Op::RemoveRoute(name) => {
                self.routes.remove(name).ok_or_else(missing)?;
            }
        }
        Ok(())
    }
}

/// Steps as they are found, by when they are to be taken.
#[derive(Default)]
struct Steps {
    make: Vec<Op>,
    routes: Vec<Op>,
    routes_gone: Vec<Op>,
    backends_gone: Vec<Op>,
    services_gone: Vec<Op>,
}

impl Steps {
    fn service(&mut self, name: &Name, old: Option<&Arc<Service>>, new: Option<&Arc<Service>>) {
        match (old, new) {
            (None, Some(new)) => self.make.push(Op::AddService(new.clone())),
            (Some(old), Some(new)) if !Arc::ptr_eq(old, new) => self.changed(old, new),
            (Some(_), None) => self.services_gone.push(Op::RemoveService(name.clone())),
            (Some(_), Some(_)) | (None, None) => {}
        }
    }

    fn changed(&mut self, old: &Service, new: &Service) {
        let name = new.name();
        if !Arc::ptr_eq(&old.spec, &new.spec) && old.spec != new.spec {
            self.make.push(Op::SetSpec(new.spec.clone()));
        }
        for (addr, old, new) in Both::new(&old.backends, &new.backends) {
            match (old, new) {
                (None, Some(new)) => self.make.push(Op::AddBackend(name.clone(), new.clone())),
                (Some(old), Some(new)) if !Arc::ptr_eq(old, new) && old != new => {
                    self.make.push(Op::SetBackend(name.clone(), new.clone()));
                }
                (Some(_), None) => {
                    let gone = Op::RemoveBackend(name.clone(), addr.clone());
                    self.backends_gone.push(gone);
                }
                (Some(_), Some(_)) | (None, None) => {}
            }
        }
    }

    fn route(&mut self, name: &Name, old: Option<&Arc<Route>>, new: Option<&Arc<Route>>) {
        match (old, new) {
            (Some(old), Some(new)) if Arc::ptr_eq(old, new) || old == new => {}
            (_, Some(new)) => self.routes.push(Op::PutRoute(new.clone())),
            (Some(_), None) => self.routes_gone.push(Op::RemoveRoute(name.clone())),
            (None, None) => {}
        }
    }

    fn plan(self) -> Plan {
        let mut ops = self.make;
        ops.extend(self.routes);
        ops.extend(self.routes_gone);
        ops.extend(self.backends_gone);
        ops.extend(self.services_gone);
        Plan { ops }
    }
}

type Entries<'a, K, V> = Peekable<btree_map::Iter<'a, K, Arc<V>>>;

/// The entries of two maps side by side, in the order of their keys. A value that both share stands for its key: it
/// is under the same one in both.
struct Both<'a, K, V> {
    old: Entries<'a, K, V>,
    new: Entries<'a, K, V>,
}

impl<'a, K: Ord, V> Both<'a, K, V> {
    fn new(old: &'a BTreeMap<K, Arc<V>>, new: &'a BTreeMap<K, Arc<V>>) -> Self {
        Self {
            old: old.iter().peekable(),
            new: new.iter().peekable(),
        }
    }
}

impl<'a, K: Ord, V> Iterator for Both<'a, K, V> {
    type Item = (&'a K, Option<&'a Arc<V>>, Option<&'a Arc<V>>);

    fn next(&mut self) -> Option<Self::Item> {
        let order = match (self.old.peek(), self.new.peek()) {
            (Some((_, old)), Some((_, new))) if Arc::ptr_eq(old, new) => Ordering::Equal,
            (Some((old, _)), Some((new, _))) => old.cmp(new),
            (Some(_), None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        let old = self.old.next_if(|_| order.is_le());
        let new = self.new.next_if(|_| order.is_ge());
        let (key, _) = old.or(new)?;
        Some((key, old.map(|(_, old)| old), new.map(|(_, new)| new)))
    }
}
