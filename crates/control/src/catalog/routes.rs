//! Which routes are in force.

use std::collections::BTreeSet;
use std::sync::Arc;

use plimsoll_model::{Name, PathPrefix, Route, SourceId, Subject};

use super::difference::{self, First};
use super::merge::{Accepted, Vet};
use super::words;
use crate::Aside;

fn about(route: &Route, reason: impl Into<String>) -> Aside {
    Aside::new(Subject::Route(route.name.clone()), &route.origin, reason)
}

/// What the entries of one name come to.
#[derive(Default)]
pub(super) struct Choice {
    /// The one in force.
    pub(super) route: Option<Arc<Route>>,
    /// Whether another one is put aside for it, so that the order of the entries matters.
    pub(super) contested: bool,
}

/// Of the entries of one name, given in the order of their sources and keys, the first that is
/// valid. Those of the same precedence that lead to services without backends, or with draining
/// ones only, come last; `is_staffed` says whether a service has others. The others are the same
/// or put aside.
pub(super) fn choose<'a>(
    entries: impl Iterator<Item = (&'a SourceId, &'a Arc<Route>)>,
    is_staffed: &dyn Fn(&Name) -> bool,
    asides: &mut Vec<Aside>,
) -> Choice {
    let mut valid = Vec::new();
    for (place, (source, route)) in entries.enumerate() {
        match route.validate() {
            Ok(()) => {
                let staffed = route.services.iter().any(|s| is_staffed(&s.service));
                valid.push((source.precedence, !staffed, place, route));
            }
            Err(error) => asides.push(about(route, error.0)),
        }
    }
    valid.sort_by_key(|(precedence, left, place, _)| (*precedence, *left, *place));
    let mut valid = valid.into_iter();
    let Some((precedence, _, first_place, first)) = valid.next() else {
        return Choice::default();
    };
    let mut contested = false;
    for (other_precedence, _, place, route) in valid {
        let Some(difference) = difference::of_routes(first, route) else {
            continue;
        };
        contested = true;
        let why = match precedence == other_precedence && first_place > place {
            true => First::Staffed,
            false => First::ByOrder,
        };
        let labels = words::has_labels(other_precedence);
        let reason = match labels && leads_elsewhere(first, route) {
            true => {
                let together = precedence == other_precedence;
                of_one_host(first, route, why, together)
            }
            false => difference.reason(&first.origin, &route.origin, why, labels),
        };
        asides.push(about(route, reason));
    }
    Choice {
        route: Some(first.clone()),
        contested,
    }
}

/// Whether two routes are for the same, but lead to different services.
fn leads_elsewhere(first: &Route, route: &Route) -> bool {
    first.hosts == route.hosts && first.path == route.path && first.services != route.services
}

/// Why a container does not get a host. `together` says whether the service that has it may be
/// shared.
fn of_one_host(first: &Route, route: &Route, why: First, together: bool) -> String {
    let hosts: Vec<String> = first.hosts.iter().map(ToString::to_string).collect();
    let mut what = format!("host {}", hosts.join(", "));
    let mut another = "another host";
    if first.path != PathPrefix::root() {
        what = format!("{what} with path {}", first.path);
        another = "another host or path";
    }
    let services = first.services.iter();
    let services: Vec<String> = services.map(|s| format!("`{}`", s.service)).collect();
    let services = services.join(", ");
    let who = words::who(&first.origin, &route.origin);
    let because = match why {
        First::Staffed => ", which has backends that are not draining",
        _ => "",
    };
    let instead = match together {
        true => format!("give both the same plimsoll.service to share it, or choose {another}"),
        false => format!("choose {another}"),
    };
    format!("{what} is already served by service {services} ({who}){because}: {instead}")
}

/// The services that are named by any of these routes.
pub(super) fn named<'a>(routes: impl Iterator<Item = &'a Route>) -> BTreeSet<&'a Name> {
    let services = routes.flat_map(|route| &route.services);
    services.map(|s| &s.service).collect()
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
