//! From the fragments of one name to one service.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use plimsoll_model::{
    Invalid, Origin, PlaneChoice, Precedence, Route, Service, SourceId, State, Subject,
};

use super::difference::{self, First};
use super::words;
use crate::Aside;

/// Why no plane carries a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What is lacking and what to use instead.
    pub why: Invalid,
    /// After what time the answer may be another though the service is the same; none where it stays.
    pub again: Option<Duration>,
}

impl From<Invalid> for Refused {
    fn from(why: Invalid) -> Self {
        Self { why, again: None }
    }
}

/// Says whether planes can carry something.
pub trait Vet {
    /// The name of the plane that is to carry a service.
    ///
    /// # Errors
    /// No plane can, or none can now.
    fn service(&self, service: &Service) -> Result<&'static str, Refused>;

    /// Whether the plane of this name can carry a service.
    fn can(&self, service: &Service, plane: &'static str) -> bool;

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

impl Accepted {
    /// Whether it has backends at all.
    pub(super) fn has_backends(&self) -> bool {
        !self.service.backends.is_empty()
    }

    /// Stays on the plane that carried it before, if it lets planes be chosen and has no backend any more:
    /// how it is reached says nothing then.
    pub(super) fn stay(&mut self, before: &Accepted, vet: &dyn Vet) {
        if self.plane != before.plane
            && !self.has_backends()
            && self.service.spec.plane == PlaneChoice::Auto
            && vet.can(&self.service, before.plane)
        {
            self.plane = before.plane;
        }
    }

    /// Whether it has backends that are not on their way out, as their sources see it.
    pub(super) fn is_staffed(&self) -> bool {
        let mut backends = self.service.backends.values();
        backends.any(|backend| backend.status.state != State::Draining)
    }
}

/// What the fragments of one name come to.
#[derive(Clone, Debug, Default)]
pub(super) struct Merged {
    pub(super) accepted: Option<Accepted>,
    pub(super) asides: Asides,
}

/// What is put aside of the fragments of one name.
#[derive(Clone, Debug, Default)]
pub(super) struct Asides {
    all: Vec<Aside>,
    /// Who said the fragments that are put aside as a whole.
    fragments: BTreeSet<Origin>,
    /// After what time one that no plane carries now may be carried, and why none does.
    waits: Option<(Duration, String)>,
}

impl Asides {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Aside> {
        self.all.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Who said the fragments that are put aside as a whole.
    pub(super) fn fragments(&self) -> &BTreeSet<Origin> {
        &self.fragments
    }

    /// After what time to look again at what no plane carries now, and why none does; none where only other
    /// words of its sources mend it.
    pub(super) fn waits(&self) -> Option<(Duration, &str)> {
        let (again, why) = self.waits.as_ref()?;
        Some((*again, why))
    }

    fn refused(&mut self, precedence: Precedence, fragment: &Service, error: Refused) {
        let reason = words::wrong(precedence, error.why);
        if let Some(again) = error.again
            && (self.waits.as_ref()).is_none_or(|(known, _)| again < *known)
        {
            self.waits = Some((again, reason.clone()));
        }
        self.fragment(fragment, reason);
    }

    fn fragment(&mut self, fragment: &Service, reason: impl Into<String>) {
        let subject = Subject::Service(fragment.name().clone());
        let origin = &fragment.spec.origin;
        self.all.push(Aside::new(subject, origin, reason));
        self.fragments.insert(origin.clone());
    }

    fn backends(&mut self, mut asides: Vec<Aside>) {
        self.all.append(&mut asides);
    }
}

/// A fragment that is valid, or what of it is.
struct Part {
    precedence: Precedence,
    plane: &'static str,
    /// Whether a backend of it is ready, as its source sees it.
    ready: bool,
    /// Its place in the order of sources and keys.
    place: usize,
    service: Arc<Service>,
}

impl Part {
    /// Why this one comes before another of the same precedence.
    fn first_because(&self, other: &Part) -> First {
        match self.place > other.place {
            true => First::Ready,
            false => First::ByOrder,
        }
    }
}

/// Merges the fragments of one name, given in the order of their sources and keys. Of the valid
/// ones of the highest precedence those with a ready backend come before the others; the first
/// decides the spec. So in a rolling replacement with changed settings the old containers decide
/// as long as one of them can serve, and then the new ones, without a moment in which none can.
pub(super) fn merge<'a>(
    fragments: impl Iterator<Item = (&'a SourceId, &'a Arc<Service>)>,
    vet: &dyn Vet,
) -> Merged {
    let mut asides = Asides::default();
    let mut parts: Vec<Part> = Vec::new();
    for (place, (source, fragment)) in fragments.enumerate() {
        if let Some((plane, service)) = sieve(source.precedence, fragment, vet, &mut asides) {
            parts.push(Part {
                precedence: source.precedence,
                plane,
                ready: is_ready(&service),
                place,
                service,
            });
        }
    }
    // Stable: among equals the order of sources and keys stays.
    parts.sort_by_key(|part| (part.precedence, !part.ready));
    let mut parts = parts.into_iter();
    let Some(head) = parts.next() else {
        return Merged {
            accepted: None,
            asides,
        };
    };
    let mut same = vec![head.service.clone()];
    for part in parts {
        let origin = &head.service.spec.origin;
        let reason = if head.precedence != part.precedence {
            let instead = match words::has_labels(part.precedence) {
                true => "choose another plimsoll.service",
                false => "rename one",
            };
            Some(format!(
                "{origin} has a service of this name and comes first: {instead}"
            ))
        } else {
            let (why, own) = (head.first_because(&part), &part.service.spec.origin);
            let labels = words::has_labels(part.precedence);
            difference::of_specs(&head.service.spec, &part.service.spec)
                .map(|d| d.reason(origin, own, why, labels))
        };
        match reason {
            Some(reason) => asides.fragment(&part.service, reason),
            None => same.push(part.service),
        }
    }
    let accepted = union(same, vet, &mut asides).map(|service| Accepted {
        precedence: head.precedence,
        plane: head.plane,
        service,
    });
    Merged { accepted, asides }
}

fn is_ready(service: &Service) -> bool {
    let mut backends = service.backends.values();
    backends.any(|backend| backend.status.state == State::Ready)
}

fn vetted(service: &Service, vet: &dyn Vet) -> Result<&'static str, Refused> {
    service.validate()?;
    vet.service(service)
}

/// What of a fragment can be in force: all of it, or all but the backends that are wrong by
/// themselves.
fn sieve(
    precedence: Precedence,
    fragment: &Arc<Service>,
    vet: &dyn Vet,
    asides: &mut Asides,
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
        asides.refused(precedence, fragment, error);
        return None;
    }
    let mut good = BTreeMap::new();
    let mut bad = Vec::new();
    for (addr, backend) in &fragment.backends {
        let pair = (addr.clone(), backend.clone());
        match vetted(&with(BTreeMap::from([pair.clone()])), vet) {
            Ok(_) => good.extend([pair]),
            Err(error) if error.again.is_some() => {
                // Without its backends another plane may carry it, and would refuse their clients until
                // this one can.
                asides.refused(precedence, fragment, error);
                return None;
            }
            Err(error) => {
                let subject = Subject::Backend(fragment.name().clone(), addr.clone());
                let reason = words::wrong(precedence, error.why);
                bad.push(Aside::new(subject, &backend.origin, reason));
            }
        }
    }
    let rest = with(good);
    match vetted(&rest, vet) {
        Ok(plane) => {
            asides.backends(bad);
            Some((plane, rest.into()))
        }
        Err(_) => {
            asides.refused(precedence, fragment, whole);
            None
        }
    }
}

/// One service of parts that have the same spec.
fn union(parts: Vec<Arc<Service>>, vet: &dyn Vet, asides: &mut Asides) -> Option<Arc<Service>> {
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
        asides.backends(twins);
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
                asides.backends(twins);
                all = more;
            }
            Err(error) => asides.fragment(part, error.why.0),
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
