//! Which routes are in force.

use std::collections::BTreeSet;
use std::sync::Arc;

use plimsoll_model::{Item, Name, Route, Subject};

use super::difference;
use super::merge::{Accepted, Vet};
use crate::Aside;

fn about(route: &Route, reason: impl Into<String>) -> Aside {
    Aside::new(Subject::Route(route.name.clone()), &route.origin, reason)
}

/// Of the entries of one name, in the order of their sources and keys, the first that is valid.
/// The others are the same or put aside.
pub(super) fn choose<'a>(
    entries: impl Iterator<Item = &'a Arc<Route>>,
    asides: &mut Vec<Aside>,
) -> Option<Arc<Route>> {
    let mut chosen: Option<&Arc<Route>> = None;
    for route in entries {
        if let Err(error) = route.validate() {
            asides.push(about(route, error.0));
            continue;
        }
        match chosen {
            None => chosen = Some(route),
            Some(first) => asides.extend(
                difference::of_routes(first, route).map(|d| about(route, d.reason(&first.origin))),
            ),
        }
    }
    chosen.cloned()
}

/// The services that are named by any route among these.
pub(super) fn named<'a>(items: impl Iterator<Item = &'a Item>) -> BTreeSet<&'a Name> {
    let services = items.filter_map(|item| match item {
        Item::Route(route) => Some(route.services.iter().map(|s| &s.service)),
        _ => None,
    });
    services.flatten().collect()
}

/// What of a route can be in force: the services that are left out of it are named in an aside.
/// `accepted` finds a service in force, `known` says whether there is one that was put aside.
pub(super) fn bind<'a>(
    route: &Arc<Route>,
    accepted: &dyn Fn(&Name) -> Option<&'a Accepted>,
    known: &dyn Fn(&Name) -> bool,
    vet: &dyn Vet,
    asides: &mut Vec<Aside>,
) -> Option<(&'static str, Arc<Route>)> {
    let mut plane = None;
    let mut missing = Vec::new();
    for name in route.services.iter().map(|s| &s.service) {
        match accepted(name) {
            Some(service) if plane.is_none_or(|plane| plane == service.plane) => {
                plane = Some(service.plane);
            }
            Some(service) => {
                let reason = format!(
                    "service `{name}` is on the {} plane, others of the route are not: give all \
                     of them the same `plane`",
                    service.plane
                );
                asides.push(about(route, reason));
                return None;
            }
            None if known(name) => missing.push((name, "is put aside itself")),
            None => missing.push((name, "is not known")),
        }
    }
    let texts = missing
        .iter()
        .map(|(n, why)| format!("service `{n}` {why}"));
    let text = texts.collect::<Vec<_>>().join(", ");
    let Some(plane) = plane else {
        asides.push(about(route, format!("{text}: the route leads nowhere")));
        return None;
    };
    if let Err(error) = vet.route(route, plane) {
        asides.push(about(route, error.0));
        return None;
    }
    if missing.is_empty() {
        return Some((plane, route.clone()));
    }
    asides.push(about(
        route,
        format!("{text}: its share goes to the others"),
    ));
    let mut rest = Route::clone(route);
    rest.services
        .retain(|s| !missing.iter().any(|(name, _)| *name == &s.service));
    Some((plane, rest.into()))
}
