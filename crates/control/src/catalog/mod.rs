//! The one place where sources meet: from what they say to what can be in force.
//!
//! What is in force follows from the entries of all sources alone, not from the order in which
//! they came. One changed entry costs the merge of one service.

mod difference;
mod listens;
mod merge;
mod routes;
mod source;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use plimsoll_model::{
    EntryKey, HostPattern, Item, Name, Origin, Precedence, Route, Service, SourceId, SourceUpdate,
    Vip,
};

pub use merge::{Refused, Vet};
pub use source::{Freshness, Source};

use crate::{Aside, Quarantine};
use merge::{Accepted, Merged};

/// What [`Catalog::resolve`] changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The services that are new, different or gone.
    pub services: BTreeSet<Name>,
    /// Whether any route is new, different or gone.
    pub routes: bool,
    /// The services that no plane could carry for a while and that one can now.
    pub awaited: BTreeSet<Name>,
}

type EntryId = (SourceId, EntryKey);
type Index = BTreeMap<Name, BTreeSet<EntryId>>;

/// All sources, and what they come to.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    sources: BTreeMap<SourceId, Source>,
    /// The entries that say something of a service.
    fragments: Index,
    /// The entries that say something of a route.
    routed: Index,
    /// The entries that their source could not make sense of.
    invalid: BTreeSet<EntryId>,
    /// Services whose fragments changed since the last [`Catalog::resolve`].
    dirty: BTreeSet<Name>,
    /// Whether routes or invalid entries changed since.
    routes_dirty: bool,
    invalid_dirty: bool,
    merged: BTreeMap<Name, Merged>,
    /// Services of which no plane carries all now, and when to ask again.
    waiting: BTreeMap<Name, Instant>,
    /// Services that cannot have their listens.
    losers: BTreeMap<Name, Aside>,
    /// Services of routes that contradict each other: whether these have backends decides.
    contested: BTreeSet<Name>,
    routes: BTreeMap<Name, (&'static str, Arc<Route>)>,
    /// Services that routes name of which none is in force, as they can be in force.
    unrouted: BTreeMap<Name, Arc<Service>>,
    route_asides: Vec<Aside>,
    quarantine: Quarantine,
}

impl Catalog {
    /// A source that will have something to say.
    pub fn expect(&mut self, now: Instant, source: SourceId) {
        let new = || Source::new(now);
        self.sources.entry(source).or_insert_with(new);
    }

    /// Takes an update in; it counts from the next [`Catalog::resolve`] on.
    pub fn update(&mut self, now: Instant, update: SourceUpdate) {
        let SourceUpdate { source: id, update } = update;
        let new = || Source::new(now);
        let source = self.sources.entry(id.clone()).or_insert_with(new);
        for change in source.update(now, update) {
            let entry = (id.clone(), change.key);
            if let Some(before) = change.before {
                self.index(&before, &entry, false);
            }
            if let Some(after) = change.after {
                self.index(&after, &entry, true);
            }
        }
    }

    fn index(&mut self, item: &Item, entry: &EntryId, there: bool) {
        let in_index = |index: &mut Index, name: &Name| {
            let entries = index.entry(name.clone()).or_default();
            if there {
                entries.insert(entry.clone());
            } else {
                entries.remove(entry);
            }
            if entries.is_empty() {
                index.remove(name);
            }
        };
        match item {
            Item::Service(service) => {
                in_index(&mut self.fragments, service.name());
                self.dirty.insert(service.name().clone());
            }
            Item::Route(route) => {
                in_index(&mut self.routed, &route.name);
                self.routes_dirty = true;
            }
            Item::Invalid { .. } => {
                if there {
                    self.invalid.insert(entry.clone());
                } else {
                    self.invalid.remove(entry);
                }
                self.invalid_dirty = true;
            }
        }
    }

    /// Whether updates wait for [`Catalog::resolve`].
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty() || self.routes_dirty || self.invalid_dirty
    }

    /// When planes are to be asked again about services that none carries now.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiting.values().min().copied()
    }

    /// Services of which no plane carries all now, though one may later without another word of their
    /// sources; and why.
    pub fn waiting(&self) -> impl Iterator<Item = (&Name, &str)> {
        self.waiting.keys().filter_map(|name| {
            let (_, why) = self.merged.get(name)?.asides.waits()?;
            Some((name, why))
        })
    }

    /// Works the updates since the last call in, and asks again about what waits for it.
    pub fn resolve(&mut self, now: Instant, vet: &dyn Vet) -> Changes {
        let due = self.waiting.iter().filter(|(_, at)| **at <= now);
        self.dirty.extend(due.map(|(name, _)| name.clone()));
        if !self.is_dirty() {
            return Changes::default();
        }
        let mut changes = Changes::default();
        let mut topology = std::mem::take(&mut self.routes_dirty);
        for name in std::mem::take(&mut self.dirty) {
            topology |= self.merge(&name, vet);
            let merged = self.merged.get(&name);
            let again = merged.and_then(|merged| merged.asides.waits());
            let waited = match again {
                Some((again, _)) => self.waiting.insert(name.clone(), now + again).is_some(),
                None => self.waiting.remove(&name).is_some(),
            };
            if waited && !self.waiting.contains_key(&name) {
                changes.awaited.insert(name.clone());
            }
            changes.services.insert(name);
        }
        if topology {
            self.bind(vet, &mut changes);
        }
        self.invalid_dirty = false;
        let mut quarantine = std::mem::take(&mut self.quarantine);
        quarantine.replace(now, self.asides());
        self.quarantine = quarantine;
        changes
    }

    /// Merges one service again. Whether listens and routes have to be looked at again.
    fn merge(&mut self, name: &Name, vet: &dyn Vet) -> bool {
        let before = self.merged.remove(name);
        let known = before.is_some();
        let (before, asides_before) = match before {
            Some(merged) => (merged.accepted, merged.asides),
            None => Default::default(),
        };
        let fragments = self.entries(self.fragments.get(name));
        let fragments = fragments.filter_map(|(source, item)| match item {
            Item::Service(service) => Some((source, service)),
            _ => None,
        });
        let mut merged = merge::merge(fragments, vet);
        if let (Some(old), Some(new)) = (&before, &mut merged.accepted) {
            new.stay(old, vet);
        }
        let same = match (&before, &mut merged.accepted) {
            (Some(old), Some(new)) => {
                if *old.service == *new.service {
                    new.service = old.service.clone();
                }
                old.precedence == new.precedence
                    && old.plane == new.plane
                    // Without losers no order of services has any.
                    && (old.has_backends() == new.has_backends() || self.losers.is_empty())
                    && (old.is_staffed() == new.is_staffed() || !self.contested.contains(name))
                    && old.service.spec.listens == new.service.spec.listens
                    && old.service.spec.origin == new.service.spec.origin
            }
            (before, after) => before.is_none() && after.is_none(),
        };
        let same = same && asides_before.fragments() == merged.asides.fragments();
        let still_known = merged.accepted.is_some() || !merged.asides.is_empty();
        if let (Some(unrouted), Some(accepted)) = (self.unrouted.get_mut(name), &merged.accepted) {
            *unrouted = listens::without_http(&accepted.service);
        }
        if still_known {
            self.merged.insert(name.clone(), merged);
        }
        !same || known != still_known
    }

    /// Decides who has which listen, and which routes are in force.
    fn bind(&mut self, vet: &dyn Vet, changes: &mut Changes) {
        let accepted = self.merged.values().filter_map(|m| m.accepted.as_ref());
        // A route that is not in force names its services all the same: that it is wrong is no
        // reason to let them have what no route decides. One that is withheld is not there.
        let routed = self.routed.values();
        let routed = routed.flat_map(|entries| self.route_entries(entries));
        let named = routes::named(routed.map(|(_, route)| &**route));
        let losers = listens::losers(accepted, &named);
        let named: BTreeSet<Name> = named.into_iter().cloned().collect();
        let (old, new) = (self.losers.keys(), losers.keys());
        changes.services.extend(
            old.filter(|name| !losers.contains_key(*name))
                .chain(new.filter(|name| !self.losers.contains_key(*name)))
                .cloned(),
        );
        self.losers = losers;

        let mut asides = Vec::new();
        let mut chosen = Vec::new();
        let mut contested = BTreeSet::new();
        let is_staffed = |name: &Name| self.accepted(name).is_some_and(Accepted::is_staffed);
        for (name, entries) in &self.routed {
            let routes = || self.route_entries(entries);
            let choice = routes::choose(routes(), &is_staffed, &mut asides);
            chosen.extend(choice.route.map(|route| (name.clone(), route)));
            if choice.contested {
                let services = routes().flat_map(|(_, route)| &route.services);
                contested.extend(services.map(|s| s.service.clone()));
            }
        }
        self.contested = contested;

        let mut bound = BTreeMap::new();
        let find = |name: &Name| self.accepted(name);
        let known = |name: &Name| self.merged.contains_key(name);
        for (name, route) in chosen {
            let Some((plane, mut route)) = routes::bind(&route, &find, &known, vet, &mut asides)
            else {
                continue;
            };
            if let Some((_, old)) = self.routes.get(&name).filter(|(_, old)| *old == route) {
                route = old.clone();
            }
            bound.insert(name, (plane, route));
        }
        changes.routes = bound != self.routes;
        self.routes = bound;
        self.route_asides = asides;
        self.unroute(named, changes);
    }

    /// Finds the services that routes name of which none is in force. They keep no HTTP listen:
    /// there they would get what no route decides.
    fn unroute(&mut self, mut named: BTreeSet<Name>, changes: &mut Changes) {
        let routes = self.routes.values().flat_map(|(_, route)| &route.services);
        for routed in routes {
            named.remove(&routed.service);
        }
        let accepted = |name: &Name| self.merged.get(name)?.accepted.as_ref();
        let service = |name: Name| {
            let service = listens::without_http(&accepted(&name)?.service);
            Some((name, service))
        };
        let unrouted: BTreeMap<Name, Arc<Service>> =
            named.into_iter().filter_map(service).collect();
        let (old, new) = (self.unrouted.keys(), unrouted.keys());
        changes.services.extend(
            old.filter(|name| !unrouted.contains_key(*name))
                .chain(new.filter(|name| !self.unrouted.contains_key(*name)))
                .cloned(),
        );
        self.unrouted = unrouted;
    }

    fn entries<'a>(
        &'a self,
        ids: Option<&'a BTreeSet<EntryId>>,
    ) -> impl Iterator<Item = (&'a SourceId, &'a Item)> {
        ids.into_iter().flatten().filter_map(|(source, key)| {
            let item = self.sources.get(source)?.entries.get(key)?;
            Some((source, item))
        })
    }

    /// The routes that these entries say, without those that are withheld.
    fn route_entries<'a>(
        &'a self,
        ids: &'a BTreeSet<EntryId>,
    ) -> impl Iterator<Item = (&'a SourceId, &'a Arc<Route>)> {
        self.entries(Some(ids)).filter_map(|(source, item)| {
            let Item::Route(route) = item else {
                return None;
            };
            (!self.is_withheld(source, route)).then_some((source, route))
        })
    }

    /// Whether what an engine's container says of a service is put aside. Then its routes to that
    /// service are not in force either, without a word of their own: they lead to what others say,
    /// who need not listen where the container wants to.
    fn is_withheld(&self, source: &SourceId, route: &Route) -> bool {
        let is_aside = |name: &Name| {
            let merged = self.merged.get(name);
            merged.is_some_and(|merged| merged.asides.fragments().contains(&route.origin))
        };
        source.precedence == Precedence::Engine
            && route.services.iter().any(|s| is_aside(&s.service))
    }

    fn asides(&self) -> impl Iterator<Item = Aside> {
        let invalid = self.entries(Some(&self.invalid)).filter_map(|(_, item)| {
            let Item::Invalid {
                subject,
                origin,
                reason,
            } = item
            else {
                return None;
            };
            Some(Aside::new(subject, origin, &**reason))
        });
        let merged = self.merged.values().flat_map(|merged| merged.asides.iter());
        merged
            .chain(self.losers.values())
            .chain(&self.route_asides)
            .cloned()
            .chain(invalid)
    }

    fn accepted(&self, name: &Name) -> Option<&Accepted> {
        let accepted = self.merged.get(name)?.accepted.as_ref()?;
        (!self.losers.contains_key(name)).then_some(accepted)
    }

    /// The addresses that services of this name bring along, in force or not.
    pub fn vips(&self, name: &Name) -> impl Iterator<Item = &Vip> {
        let fragments = self.entries(self.fragments.get(name));
        fragments.flat_map(|(_, item)| match item {
            Item::Service(service) => service.spec.vips.as_slice(),
            _ => &[],
        })
    }

    /// A service that can be in force, as its sources say it, and the plane that is to carry it. One
    /// whose routes are all put aside is without its HTTP listens.
    pub fn service(&self, name: &Name) -> Option<(&'static str, &Arc<Service>)> {
        let accepted = self.accepted(name)?;
        let service = self.unrouted.get(name).unwrap_or(&accepted.service);
        Some((accepted.plane, service))
    }

    /// The routes that can be in force, by name, and the plane that is to carry each.
    pub fn routes(&self) -> impl Iterator<Item = (&Name, &'static str, &Arc<Route>)> {
        self.routes
            .iter()
            .map(|(n, (plane, route))| (n, *plane, route))
    }

    /// What is put aside.
    pub fn quarantine(&self) -> &Quarantine {
        &self.quarantine
    }

    /// Whether a service of this name is put aside.
    pub fn is_aside(&self, name: &str) -> bool {
        self.losers.contains_key(name)
            || (self.merged.get(name)).is_some_and(|merged| merged.accepted.is_none())
    }

    /// Who says a route of this host in lower case, in force or not. One of every host is none of
    /// it.
    pub fn origins_of_host(&self, host: &str) -> impl Iterator<Item = &Origin> {
        let is_of_host = move |route: &&Arc<Route>| {
            let mut hosts = route.hosts.iter();
            hosts.any(|pattern| *pattern != HostPattern::Any && pattern.matches(host))
        };
        let entries = self.routed.values();
        let items = entries.flat_map(|entries| self.entries(Some(entries)));
        let routes = items.filter_map(|(_, item)| match item {
            Item::Route(route) => Some(route),
            _ => None,
        });
        routes.filter(is_of_host).map(|route| &route.origin)
    }

    /// The sources, in the order of precedence.
    pub fn sources(&self) -> impl Iterator<Item = (&SourceId, &Source)> {
        self.sources.iter()
    }
}
