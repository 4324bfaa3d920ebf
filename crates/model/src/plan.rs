//! The difference between two desired states, as steps that a plane can take.

use std::collections::BTreeMap;
use std::fmt;
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
    /// The steps that lead from this state to `to`. Entries that are the same `Arc` cost one
    /// pointer comparison each.
    pub fn diff(&self, to: &Desired) -> Plan {
        let mut make = Vec::new();
        let mut unmake = Vec::new();
        for (name, service) in &to.services {
            match self.services.get(name) {
                None => make.push(Op::AddService(service.clone())),
                Some(old) if Arc::ptr_eq(old, service) => {}
                Some(old) => diff_service(old, service, &mut make, &mut unmake),
            }
        }
        for (name, route) in &to.routes {
            match self.routes.get(name) {
                Some(old) if Arc::ptr_eq(old, route) || old == route => {}
                _ => make.push(Op::PutRoute(route.clone())),
            }
        }
        let gone = |name: &&Name| !to.routes.contains_key(*name);
        make.extend(
            self.routes
                .keys()
                .filter(gone)
                .cloned()
                .map(Op::RemoveRoute),
        );
        make.append(&mut unmake);
        let gone = |name: &&Name| !to.services.contains_key(*name);
        make.extend(
            self.services
                .keys()
                .filter(gone)
                .cloned()
                .map(Op::RemoveService),
        );
        Plan { ops: make }
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

fn diff_service(old: &Service, new: &Arc<Service>, make: &mut Vec<Op>, unmake: &mut Vec<Op>) {
    let name = new.name();
    if !Arc::ptr_eq(&old.spec, &new.spec) && old.spec != new.spec {
        make.push(Op::SetSpec(new.spec.clone()));
    }
    diff_backends(name, &old.backends, &new.backends, make, unmake);
}

type Backends = BTreeMap<BackendAddr, Arc<Backend>>;

fn diff_backends(
    name: &Name,
    old: &Backends,
    new: &Backends,
    make: &mut Vec<Op>,
    unmake: &mut Vec<Op>,
) {
    for (addr, backend) in new {
        match old.get(addr) {
            None => make.push(Op::AddBackend(name.clone(), backend.clone())),
            Some(before) if Arc::ptr_eq(before, backend) || before == backend => {}
            Some(_) => make.push(Op::SetBackend(name.clone(), backend.clone())),
        }
    }
    let gone = old.keys().filter(|addr| !new.contains_key(*addr));
    unmake.extend(gone.map(|addr| Op::RemoveBackend(name.clone(), addr.clone())));
}
