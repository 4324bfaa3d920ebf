//! `[[route]]`.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

use plimsoll_model::{
    HostPattern, Listen, MAX_WEIGHT, Name, Origin, PathPrefix, Route, WeightedService,
};

use crate::fields::{Faults, Node, Place, Table};
use crate::http;
use crate::schema;
use crate::service::{read_listens, read_name};

/// Hosts of one route at most.
const MAX_HOSTS: usize = 1024;
/// Services of one route at most.
const MAX_SERVICES: usize = 256;

const HOST: &str = "a name (example.com), *.example.com, or *";
const PATH: &str = "a path that begins with /";
const SERVICE: &str = "the name of a service, or a list of names or of tables { service, weight }";

/// What could be read of a route.
pub(crate) struct ReadRoute {
    /// Its header.
    pub(crate) place: Place,
    /// Its name, said or made, and where it is said, or else the header.
    pub(crate) name: Option<(Name, Place)>,
    /// The names of the services it leads to; none if they could not all be read.
    pub(crate) services: Option<Vec<(Name, Place)>>,
    pub(crate) listens: Vec<(Listen, Place)>,
    /// The route, if nothing is wrong with it by itself.
    pub(crate) route: Option<Route>,
}

pub(crate) fn read(source: &Arc<str>, table: &Table<'_>, faults: &mut Faults) -> ReadRoute {
    let before = faults.count();
    table.check_keys(schema::ROUTE, faults);
    let hosts = read_hosts(table, faults);
    let path = match table.get("path") {
        Some(node) => node.parsed(PATH, faults),
        None => Some(PathPrefix::root()),
    };
    let listens = read_route_listens(table, faults);
    let priority = match table.get("priority") {
        Some(node) => node.integer(i128::from(i32::MIN), i128::from(i32::MAX), faults),
        None => Some(0),
    };
    let services = read_services(table, faults);
    let http = http::route(table, path.as_ref(), faults);
    let said = table.get("name").and_then(|_| read_name(table, faults));
    let mut read = ReadRoute {
        place: table.place.clone(),
        name: said,
        services: services.as_ref().map(|list| {
            let name = |(service, place): &(WeightedService, Place)| {
                (service.service.clone(), place.clone())
            };
            list.iter().map(name).collect()
        }),
        listens,
        route: None,
    };
    let (Some(path), Some(priority), Some(services)) = (path, priority, services) else {
        return read;
    };
    if faults.count() != before {
        return read;
    }
    let listens: Vec<Listen> = read.listens.iter().map(|(listen, _)| *listen).collect();
    let name = match &read.name {
        Some((name, _)) => Some(name.clone()),
        None => derive_name(&hosts, &path, priority, &listens),
    };
    let Some(name) = name else {
        faults.push(
            table
                .place
                .fault("no name can be made")
                .expected("a `name`"),
        );
        return read;
    };
    read.name.get_or_insert((name.clone(), table.place.clone()));
    let route = Route {
        origin: Origin::new(source.clone(), format!("route {name}")),
        name,
        hosts,
        path,
        listens,
        priority,
        services: services.into_iter().map(|(service, _)| service).collect(),
        http,
    };
    match route.validate() {
        Ok(()) => read.route = Some(route),
        Err(error) => faults.push(table.place.fault(error.0)),
    }
    read
}

fn read_hosts(table: &Table<'_>, faults: &mut Faults) -> Vec<HostPattern> {
    let Some(node) = table.need(
        "host",
        "host = \"example.com\", or \"*\" for every one",
        faults,
    ) else {
        return Vec::new();
    };
    let before = faults.count();
    let mut hosts = Vec::new();
    let mut seen = BTreeSet::new();
    for node in node.one_or_many(MAX_HOSTS, faults) {
        let Some(host) = node.parsed::<HostPattern>(HOST, faults) else {
            continue;
        };
        if !seen.insert(host.clone()) {
            let fault = node.fault(format!("host {host} is in this route twice"));
            faults.push(fault.expected("every host once"));
        }
        hosts.push(host);
    }
    if hosts.is_empty() && faults.count() == before {
        let fault = node.fault("a route without hosts matches nothing");
        faults.push(fault.expected("at least one, or \"*\" for every one"));
    }
    hosts
}

fn read_route_listens(table: &Table<'_>, faults: &mut Faults) -> Vec<(Listen, Place)> {
    let listens = read_listens(table, faults);
    let mut seen = BTreeSet::new();
    for (listen, place) in &listens {
        if !listen.is_http() {
            let fault = place.fault(format!("{listen} is not an http listen"));
            faults.push(fault.expected("a listen that ends in /http"));
        } else if !seen.insert(*listen) {
            let fault = place.fault(format!("listen {listen} is in this route twice"));
            faults.push(fault.expected("every listen once"));
        }
    }
    listens
}

fn read_services(table: &Table<'_>, faults: &mut Faults) -> Option<Vec<(WeightedService, Place)>> {
    let node = table.need("service", SERVICE, faults)?;
    let before = faults.count();
    let mut services = Vec::new();
    let mut seen = BTreeSet::new();
    for item in node.one_or_many(MAX_SERVICES, faults) {
        let Some((service, place)) = read_weighted(&item, faults) else {
            continue;
        };
        if !seen.insert(service.service.clone()) {
            let message = format!("service `{}` is in this route twice", service.service);
            faults.push(place.fault(message).expected("every service once"));
        }
        services.push((service, place));
    }
    if services.is_empty() && faults.count() == before {
        faults.push(
            node.fault("it leads to no service")
                .expected("at least one"),
        );
    }
    (faults.count() == before).then_some(services)
}

fn read_weighted(node: &Node<'_>, faults: &mut Faults) -> Option<(WeightedService, Place)> {
    let weighted = |service, weight| WeightedService { service, weight };
    if node.is_string() {
        let name = node.parsed(SERVICE, faults)?;
        return Some((weighted(name, 1), node.place.clone()));
    }
    let table = node.table(SERVICE, faults)?;
    table.check_keys(schema::WEIGHTED_SERVICE, faults);
    let weight = match table.get("weight") {
        Some(node) => node.integer(0, i128::from(MAX_WEIGHT), faults),
        None => Some(1),
    };
    let name = table.need("service", "service = \"NAME\"", faults)?;
    let service = name.parsed("the name of a service", faults)?;
    Some((weighted(service, weight?), name.place))
}

/// The name of a route that says none: hosts in order, path, then `#PRIORITY` and `@LISTENS` where
/// they are said, e.g. `example.com/api`, `a.com,b.com/#10`, `*/@0.0.0.0:80/http`. What does not
/// fit a name is cut and told apart by a hash.
fn derive_name(
    hosts: &[HostPattern],
    path: &PathPrefix,
    priority: i32,
    listens: &[Listen],
) -> Option<Name> {
    let join = |items: BTreeSet<String>| items.into_iter().collect::<Vec<_>>().join(",");
    let mut text = join(hosts.iter().map(ToString::to_string).collect());
    text.push_str(path.as_str());
    // Writing to a String cannot fail.
    if priority != 0 {
        let _ = write!(text, "#{priority}");
    }
    if !listens.is_empty() {
        let listens = join(listens.iter().map(ToString::to_string).collect());
        let _ = write!(text, "@{listens}");
    }
    text.parse().ok().or_else(|| {
        let mut short: String = text
            .chars()
            .map(|c| match c {
                '"' | '\'' | '\\' => '-',
                c if c.is_ascii_graphic() => c,
                _ => '-',
            })
            .take(200)
            .collect();
        let _ = write!(short, "~{:016x}", fnv1a(text.as_bytes()));
        short.parse().ok()
    })
}

/// FNV-1a, 64 bits: short, and the same in every build.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(hosts: &[&str], path: &str, priority: i32, listens: &[&str]) -> String {
        let hosts: Vec<HostPattern> = hosts.iter().map(|h| h.parse().unwrap()).collect();
        let listens: Vec<Listen> = listens.iter().map(|l| l.parse().unwrap()).collect();
        derive_name(&hosts, &path.parse().unwrap(), priority, &listens)
            .unwrap()
            .to_string()
    }

    #[test]
    fn names_are_made_of_what_is_matched() {
        assert_eq!(name(&["example.com"], "/api", 0, &[]), "example.com/api");
        assert_eq!(name(&["b.com", "a.com"], "/", 10, &[]), "a.com,b.com/#10");
        assert_eq!(
            name(&["*"], "/", 0, &["0.0.0.0:80/http"]),
            "*/@0.0.0.0:80/http"
        );
    }

    #[test]
    fn what_does_not_fit_is_cut_and_told_apart() {
        let long = |end: &str| format!("/{}{end}", "a".repeat(400));
        let one = name(&["*"], &long("1"), 0, &[]);
        let two = name(&["*"], &long("2"), 0, &[]);
        assert_ne!(one, two);
        assert_eq!(one.len(), 217);
        assert!(one.starts_with("*/aaa") && one.contains('~'));
        assert_eq!(name(&["*"], "/it's", 0, &[]), "*/it-s~0a0260b8fde997e5");
    }
}
