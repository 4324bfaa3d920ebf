//! Says in the log what changes, each thing once; nothing of single requests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use plimsoll_control::{Aside, Control, Step};
use plimsoll_model::{BackendAddr, Desired, Item, Name, Op, SourceUpdate, Subject, Update};
use tracing::{error, info, warn};

use super::standing::Standings;

/// What has been said.
#[derive(Default)]
pub(super) struct Announcer {
    desired: Arc<Desired>,
    standings: Standings,
    asides: BTreeSet<Aside>,
    /// What planes failed to do, and why.
    failures: BTreeMap<(&'static str, Subject), String>,
    /// Planes that could not be read.
    unread: BTreeMap<&'static str, String>,
    stepped: bool,
}

/// How many of each kind changed.
#[derive(Default)]
struct Tally {
    added: usize,
    changed: usize,
    removed: usize,
}

impl Tally {
    fn is_empty(&self) -> bool {
        self.added + self.changed + self.removed == 0
    }

    fn text(&self) -> String {
        format!("+{} ~{} -{}", self.added, self.changed, self.removed)
    }
}

/// A source said something; `known` if it had said what there is before.
pub(super) fn source(update: &SourceUpdate, known: bool) {
    let source = &update.source;
    match &update.update {
        Update::Reset(entries) => {
            let services = entries
                .iter()
                .filter(|e| matches!(e.item, Item::Service(_)));
            let routes = entries.iter().filter(|e| matches!(e.item, Item::Route(_)));
            let (services, routes) = (services.count(), routes.count());
            info!(%source, services, routes, "read");
        }
        Update::Stale { reason } if !known => {
            warn!(%source, "cannot be used, nothing was read from it yet: {reason}");
        }
        Update::Stale { reason } => {
            warn!(%source, "cannot be used, what it said last stays in force: {reason}");
        }
        Update::Fresh => info!(%source, "can be used again, nothing has changed"),
        Update::Upsert(_) | Update::Remove(_) => {}
    }
}

impl Announcer {
    /// Whether a step was announced.
    pub(super) fn has_stepped(&self) -> bool {
        self.stepped
    }

    /// What planes fail to do, and why.
    pub(super) fn failures(&self) -> impl Iterator<Item = (&Subject, &String)> {
        self.failures
            .iter()
            .map(|((_, subject), why)| (subject, why))
    }

    /// Planes that could not be read, and why.
    pub(super) fn unread(&self) -> impl Iterator<Item = (&'static str, &String)> {
        self.unread.iter().map(|(plane, why)| (*plane, why))
    }

    /// Control took a step.
    pub(super) fn stepped(&mut self, now: Instant, control: &Control, step: &Step) {
        self.stepped = true;
        self.desired(now, control);
        let services = &self.desired.services;
        let find = |service: &Name, addr: &BackendAddr| {
            let backend = services.get(service)?.backends.get(addr)?;
            Some(&**backend)
        };
        self.standings.catch_up(now, find);
        self.asides(control);
        for plane in &step.planes {
            let name = plane.plane;
            for subject in &plane.drift {
                warn!(plane = name, "{subject} was not as it should be: repaired");
            }
            match &plane.error {
                Some(why) => {
                    let why = why.to_string();
                    if self.unread.get(name) != Some(&why) {
                        error!(plane = name, "cannot be read back: {why}");
                        self.unread.insert(name, why);
                    }
                }
                None => drop(self.unread.remove(name)),
            }
        }
        self.failed(control);
    }

    fn failed(&mut self, control: &Control) {
        let failures = control.failures();
        let now: BTreeMap<_, _> = failures
            .map(|(plane, subject, failed)| ((plane, subject.clone()), failed.error.to_string()))
            .collect();
        for ((plane, subject), why) in &now {
            if self.failures.get(&(*plane, subject.clone())) != Some(why) {
                error!(plane, "{subject}: {why}; tried again every few seconds");
            }
        }
        for (plane, subject) in self.failures.keys().filter(|key| !now.contains_key(key)) {
            info!(plane, "{subject} does not fail any more");
        }
        self.failures = now;
    }

    fn desired(&mut self, now: Instant, control: &Control) {
        let after = control.desired();
        if Arc::ptr_eq(&self.desired, after) {
            return;
        }
        let before = std::mem::replace(&mut self.desired, after.clone());
        let (mut services, mut routes) = (Tally::default(), Tally::default());
        let mut backends = Tally::default();
        for op in before.diff(after).ops {
            match op {
                Op::AddService(service) => {
                    services.added += 1;
                    backends.added += service.backends.len();
                }
                Op::SetSpec(_) => services.changed += 1,
                Op::RemoveService(name) => {
                    services.removed += 1;
                    let service = before.services.get(&name);
                    backends.removed += service.map_or(0, |s| s.backends.len());
                }
                Op::AddBackend(..) => backends.added += 1,
                Op::RemoveBackend(..) => backends.removed += 1,
                Op::SetBackend(name, new) => {
                    let service = before.services.get(&name);
                    let Some(old) = service.and_then(|s| s.backends.get(&new.addr)) else {
                        continue;
                    };
                    if old.status != new.status {
                        self.standings.changed(now, &name, old, &new);
                    }
                    if old.weight != new.weight {
                        let (service, backend) = (name.as_str(), &new.addr);
                        let (from, to) = (old.weight, new.weight);
                        info!(service, %backend, from, to, "weight changed");
                    }
                    let same = plimsoll_model::Backend {
                        status: new.status.clone(),
                        weight: new.weight,
                        ..(**old).clone()
                    };
                    backends.changed += usize::from(same != *new);
                }
                Op::PutRoute(route) => match before.routes.contains_key(&route.name) {
                    true => routes.changed += 1,
                    false => routes.added += 1,
                },
                Op::RemoveRoute(_) => routes.removed += 1,
            }
        }
        if !(services.is_empty() && backends.is_empty() && routes.is_empty()) {
            info!(
                services = services.text(),
                backends = backends.text(),
                routes = routes.text(),
                "configuration changed"
            );
        }
    }

    fn asides(&mut self, control: &Control) {
        let now: BTreeSet<Aside> = control
            .quarantine()
            .iter()
            .map(|(a, _)| a.clone())
            .collect();
        if now == self.asides {
            return;
        }
        for aside in now.difference(&self.asides) {
            warn!(origin = %aside.origin, "{} is put aside: {}", aside.subject, aside.reason);
        }
        for aside in self.asides.difference(&now) {
            info!(origin = %aside.origin, "{} is not put aside any more", aside.subject);
        }
        self.asides = now;
    }
}
