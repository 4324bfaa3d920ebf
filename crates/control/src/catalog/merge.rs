//! From the fragments of one name to one service.

use std::collections::BTreeMap;
use std::sync::Arc;

use plimsoll_model::{Invalid, Precedence, Route, Service, SourceId, Subject};

use super::difference;
use crate::Aside;

/// Says whether planes can carry something.
pub trait Vet {
    /// The name of the plane that is to carry a service.
    ///
    /// # Errors
    /// No plane can: what is lacking and what to use instead.
    fn service(&self, service: &Service) -> Result<&'static str, Invalid>;

    /// Whether the plane of this name can carry a route.
    ///
    /// # Errors
    /// What is lacking and what to use instead.
    fn route(&self, route: &Route, plane: &'static str) -> Result<(), Invalid>;
}

/// A service that can be in force.
#[derive(Clone, Debug)]
pub(super) struct Accepted {
    pub(super) precedence: Precedence,
    pub(super) plane: &'static str,
    pub(super) service: Arc<Service>,
}

/// What the fragments of one name come to.
#[derive(Clone, Debug, Default)]
pub(super) struct Merged {
    pub(super) accepted: Option<Accepted>,
    pub(super) asides: Vec<Aside>,
}

/// Merges the fragments of one name, given in the order of their sources and keys: the first that
/// is valid decides the spec.
pub(super) fn merge<'a>(
    fragments: impl Iterator<Item = (&'a SourceId, &'a Arc<Service>)>,
    vet: &dyn Vet,
) -> Merged {
    let mut asides = Vec::new();
    let mut first: Option<(Precedence, &'static str)> = None;
    let mut parts: Vec<Arc<Service>> = Vec::new();
    for (source, fragment) in fragments {
        let Some((plane, service)) = sieve(fragment, vet, &mut asides) else {
            continue;
        };
        let (Some((precedence, _)), Some(head)) = (first, parts.first()) else {
            first = Some((source.precedence, plane));
            parts.push(service);
            continue;
        };
        let origin = &head.spec.origin;
        let reason = if precedence != source.precedence {
            Some(format!(
                "{origin} has a service of this name and comes first: rename one"
            ))
        } else {
            difference::of_specs(&head.spec, &service.spec).map(|d| d.reason(origin))
        };
        match reason {
            Some(reason) => asides.push(about(&service, reason)),
            None => parts.push(service),
        }
    }
    let accepted = first.and_then(|(precedence, plane)| {
        Some(Accepted {
            precedence,
            plane,
            service: union(parts, vet, &mut asides)?,
        })
    });
    Merged { accepted, asides }
}

fn about(service: &Service, reason: impl Into<String>) -> Aside {
    let subject = Subject::Service(service.name().clone());
    Aside::new(subject, &service.spec.origin, reason)
}

fn vetted(service: &Service, vet: &dyn Vet) -> Result<&'static str, Invalid> {
    service.validate()?;
    vet.service(service)
}

/// What of a fragment can be in force: all of it, or all but the backends that are wrong by
/// themselves.
fn sieve(
    fragment: &Arc<Service>,
    vet: &dyn Vet,
    asides: &mut Vec<Aside>,
) -> Option<(&'static str, Arc<Service>)> {
    let whole = match vetted(fragment, vet) {
        Ok(plane) => return Some((plane, fragment.clone())),
        Err(error) => error,
    };
    let with = |backends| Service {
        spec: fragment.spec.clone(),
        backends,
    };
    if let Err(error) = vetted(&with(BTreeMap::new()), vet) {
        asides.push(about(fragment, error.0));
        return None;
    }
    let mut good = BTreeMap::new();
    let mut bad = Vec::new();
    for (addr, backend) in &fragment.backends {
        let pair = (addr.clone(), backend.clone());
        match vetted(&with(BTreeMap::from([pair.clone()])), vet) {
            Ok(_) => good.extend([pair]),
            Err(error) => {
                let subject = Subject::Backend(fragment.name().clone(), addr.clone());
                bad.push(Aside::new(subject, &backend.origin, error.0));
            }
        }
    }
    let rest = with(good);
    match vetted(&rest, vet) {
        Ok(plane) => {
            asides.append(&mut bad);
            Some((plane, rest.into()))
        }
        Err(_) => {
            asides.push(about(fragment, whole.0));
            None
        }
    }
}

/// One service of parts that have the same spec.
fn union(parts: Vec<Arc<Service>>, vet: &dyn Vet, asides: &mut Vec<Aside>) -> Option<Arc<Service>> {
    let mut rest = parts.iter();
    let head = rest.next()?;
    if parts.len() == 1 {
        return Some(head.clone());
    }
    let mut all = Service::clone(head);
    let mut twins = Vec::new();
    for part in rest.clone() {
        join(&mut all, part, &mut twins);
    }
    if vetted(&all, vet).is_ok() {
        asides.append(&mut twins);
        return Some(all.into());
    }
    // Together they break a bound: leave out the parts that do.
    let mut all = Service::clone(head);
    for part in rest {
        let mut more = all.clone();
        let mut twins = Vec::new();
        join(&mut more, part, &mut twins);
        match vetted(&more, vet) {
            Ok(_) => {
                asides.append(&mut twins);
                all = more;
            }
            Err(error) => asides.push(about(part, error.0)),
        }
    }
    Some(all.into())
}

fn join(all: &mut Service, part: &Service, asides: &mut Vec<Aside>) {
    for (addr, backend) in &part.backends {
        match all.backends.get(addr) {
            None => drop(all.backends.insert(addr.clone(), backend.clone())),
            Some(twin) => {
                let subject = Subject::Backend(part.name().clone(), addr.clone());
                let reason = format!(
                    "{} has the same backend and comes first: remove one",
                    twin.origin
                );
                asides.push(Aside::new(subject, &backend.origin, reason));
            }
        }
    }
}
