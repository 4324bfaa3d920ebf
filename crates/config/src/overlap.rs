//! Routes that take the same requests with the same right: same host, path and priority, and a
//! listen in common.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use plimsoll_model::{HostPattern, Listen, Name, PathPrefix};

use crate::fields::{Faults, Place};
use crate::route::ReadRoute;
use crate::service::ReadService;
use crate::source::Source;

/// What a route takes, but for its listens.
type Match<'r> = (&'r HostPattern, &'r PathPrefix, i32);

/// Reports them. Gives the numbers of the routes reported.
pub(crate) fn same_matches(
    source: &Source<'_>,
    services: &[ReadService],
    routes: &[ReadRoute],
    by_name: &BTreeMap<&Name, usize>,
    faults: &mut Faults,
) -> BTreeSet<usize> {
    let mut groups: HashMap<Match<'_>, Vec<usize>> = HashMap::new();
    for (i, read) in routes.iter().enumerate() {
        let Some(route) = &read.route else { continue };
        for host in &route.hosts {
            let key = (host, &route.path, route.priority);
            groups.entry(key).or_default().push(i);
        }
    }
    let listens = Listens::new(services, routes, by_name);
    let mut owners = Owners::new(listens.count);
    let mut found: BTreeMap<usize, (usize, &HostPattern)> = BTreeMap::new();
    for ((host, ..), group) in groups.iter().filter(|(_, group)| group.len() > 1) {
        owners.clear();
        for i in group {
            let Some(read) = routes.get(*i) else { continue };
            if let Some(first) = owners.claim(*i, &listens.of(read)) {
                let known = found.entry(*i).or_insert((first, host));
                *known = (first, *host).min(*known);
            }
        }
    }
    for (i, (first, host)) in &found {
        let (Some(read), Some(other)) = (routes.get(*i), routes.get(*first)) else {
            continue;
        };
        let path = read.route.as_ref().map_or("", |route| route.path.as_str());
        let (line, _) = source.position(other.place.span.start);
        let message = format!("host {host} and path {path} are those of the route of line {line}");
        let fault = read.place.fault(message);
        faults.push(fault.expected("another host, path, listen or priority"));
    }
    found.into_keys().collect()
}

/// The http listens of the file by number.
struct Listens<'r> {
    numbers: HashMap<&'r Listen, usize>,
    /// Those of each service.
    services: HashMap<&'r Name, Vec<usize>>,
    count: usize,
}

impl<'r> Listens<'r> {
    fn new(
        services: &'r [ReadService],
        routes: &'r [ReadRoute],
        by_name: &BTreeMap<&'r Name, usize>,
    ) -> Self {
        let mut numbers = HashMap::new();
        let mut number = |listens: &'r [(Listen, Place)]| -> Vec<usize> {
            let http = listens.iter().map(|(listen, _)| listen);
            http.filter(|listen| listen.is_http())
                .map(|listen| {
                    let next = numbers.len();
                    *numbers.entry(listen).or_insert(next)
                })
                .collect()
        };
        let of_services = by_name
            .iter()
            .filter_map(|(name, i)| Some((*name, number(&services.get(*i)?.listens))))
            .collect();
        for route in routes {
            number(&route.listens);
        }
        Self {
            count: numbers.len(),
            numbers,
            services: of_services,
        }
    }

    /// Those that a route is on; none is all.
    fn of(&self, route: &ReadRoute) -> Vec<usize> {
        if !route.listens.is_empty() {
            let listens = route.listens.iter().map(|(listen, _)| listen);
            return listens
                .filter_map(|listen| self.numbers.get(listen).copied())
                .collect();
        }
        let services = route.services.iter().flatten();
        services
            .filter_map(|(name, _)| self.services.get(name))
            .flatten()
            .copied()
            .collect()
    }
}

/// Which route of a group has which listen.
struct Owners {
    group: usize,
    /// By listen: the group it was claimed in last, and the route.
    by_listen: Vec<(usize, usize)>,
    /// The first route that is on all listens.
    on_all: Option<usize>,
    /// The first route at all.
    first: Option<usize>,
}

impl Owners {
    fn new(listens: usize) -> Self {
        Self {
            group: 0,
            by_listen: vec![(0, 0); listens],
            on_all: None,
            first: None,
        }
    }

    /// Begins a new group.
    fn clear(&mut self) {
        self.group += 1;
        (self.on_all, self.first) = (None, None);
    }

    /// Claims listens for a route, none for all; or gives the route that has one of them.
    fn claim(&mut self, route: usize, listens: &[usize]) -> Option<usize> {
        let owner = match listens.is_empty() {
            true => self.first,
            false => self.on_all.or_else(|| {
                let owners = listens.iter().filter_map(|l| self.by_listen.get(*l));
                let mut here = owners.filter(|(group, _)| *group == self.group);
                here.next().map(|(_, route)| *route)
            }),
        };
        if owner.is_some() {
            return owner;
        }
        self.first = self.first.or(Some(route));
        if listens.is_empty() {
            self.on_all = Some(route);
        }
        for listen in listens {
            if let Some(entry) = self.by_listen.get_mut(*listen) {
                *entry = (self.group, route);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listen_has_one_owner_in_a_group() {
        let mut owners = Owners::new(3);
        owners.clear();
        assert_eq!(owners.claim(10, &[0, 1, 1]), None);
        assert_eq!(owners.claim(11, &[2]), None);
        assert_eq!(owners.claim(12, &[1, 2]), Some(10));
        assert_eq!(owners.claim(13, &[]), Some(10), "all is any");
        owners.clear();
        assert_eq!(owners.claim(14, &[]), None);
        assert_eq!(owners.claim(15, &[1]), Some(14));
        owners.clear();
        assert_eq!(owners.claim(16, &[0]), None);
    }
}
