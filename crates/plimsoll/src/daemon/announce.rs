//! Says in the log what changes, each thing once; nothing of single requests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use plimsoll_control::{Aside, Control, Step};
use plimsoll_model::{BackendAddr, Desired, Item, Name, Op, SourceUpdate, Subject, Update};
use plimsoll_plane::{Event, VipEvent, VipNote};
use tracing::{error, info, warn};

use super::standing::Standings;

/// What has been said.
#[derive(Default)]
pub(super) struct Announcer {
    desired: Arc<Desired>,
    standings: Standings,
    asides: BTreeSet<Aside>,
    /// What planes failed to do, and why.
    failures: Failures,
    /// Planes that could not be read.
    unread: BTreeMap<&'static str, String>,
    stepped: bool,
}

/// Says what a plane has mended by itself.
pub(super) fn event(event: &Event) {
    if let Event::Repaired { plane, what } = event {
        warn!(plane, "{what}: not as it should be, repaired");
    }
}

/// What planes failed to do, and why.
type Failures = BTreeMap<(&'static str, Subject), String>;

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

/// Failures for reasons that have not been said, each reason once: an address that cannot be
/// listened on keeps all services waiting that share it.
fn by_reason<'a>(failures: &'a Failures, said: &Failures) -> Vec<(&'static str, &'a str, String)> {
    let said: BTreeSet<(&str, &String)> = said.iter().map(|((p, _), why)| (*p, why)).collect();
    let mut reasons: BTreeMap<(&'static str, &str), Vec<&Subject>> = BTreeMap::new();
    for ((plane, subject), why) in failures {
        if !said.contains(&(*plane, why)) {
            reasons.entry((plane, why)).or_default().push(subject);
        }
    }
    let reasons = reasons.into_iter().map(|((plane, why), subjects)| {
        let subjects = match subjects.as_slice() {
            [first, rest @ ..] if !rest.is_empty() => format!("{first} and {} more", rest.len()),
            all => all.iter().map(ToString::to_string).collect(),
        };
        (plane, why, subjects)
    });
    reasons.collect()
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

/// Something happened to VIPs.
pub(super) fn vips(notes: &[VipNote]) {
    for VipNote { vip, event } in notes {
        let (address, interface) = (&vip.address, &vip.interface);
        match event {
            VipEvent::Failed(_) => error!(%interface, "VIP {address}: {event}"),
            VipEvent::Restored => warn!(%interface, "VIP {address}: {event}"),
            _ => info!(%interface, "VIP {address}: {event}"),
        }
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
        vips(&step.vips);
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
        let now: Failures = failures
            .map(|(plane, subject, failed)| ((plane, subject.clone()), failed.error.to_string()))
            .collect();
        for (plane, why, subjects) in by_reason(&now, &self.failures) {
            error!(plane, "{subjects}: {why}; tried again every few seconds");
        }
        let ended = self
            .failures
            .iter()
            .filter(|(key, _)| !now.contains_key(key));
        let ended = ended.map(|(key, why)| (key.clone(), why.clone())).collect();
        for (plane, _, subjects) in by_reason(&ended, &BTreeMap::new()) {
            info!(plane, "{subjects} does not fail any more");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_said_once() {
        let service = |name: &str| Subject::Service(name.parse().unwrap());
        let failures = |all: &[(&str, &str)]| -> Failures {
            let each = all.iter();
            each.map(|(name, why)| (("proxy", service(name)), (*why).into()))
                .collect()
        };
        let now = failures(&[("a", "port 80"), ("b", "port 81"), ("c", "port 80")]);
        let said = by_reason(&now, &Failures::new());
        let wanted = [
            ("proxy", "port 80", "service `a` and 1 more".to_owned()),
            ("proxy", "port 81", "service `b`".to_owned()),
        ];
        assert_eq!(said, wanted);
        let more = failures(&[("a", "port 80"), ("d", "port 80"), ("e", "port 82")]);
        let wanted = [("proxy", "port 82", "service `e`".to_owned())];
        assert_eq!(by_reason(&more, &now), wanted);
    }
}
