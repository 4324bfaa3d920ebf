//! Checks across the whole file: names, sockets, and what leads where.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use plimsoll_model::{Listen, Name, Proto, Vip};

use crate::daemon::ReadDaemon;
use crate::fields::{Faults, Place};
use crate::nearest::nearest;
use crate::overlap;
use crate::route::ReadRoute;
use crate::service::ReadService;
use crate::sockets::Sockets;
use crate::source::Source;

/// Whose a socket is.
#[derive(Clone, Copy)]
enum Owner<'r> {
    Service(usize, &'r ReadService, &'r Place),
    Metrics(&'r Place),
}

/// Everything that was read.
struct Check<'r> {
    source: &'r Source<'r>,
    services: &'r [ReadService],
    routes: &'r [ReadRoute],
    by_name: BTreeMap<&'r Name, usize>,
    /// Services that routes lead to; none if a route could not be read that far.
    routed: Option<BTreeSet<&'r Name>>,
}

/// Reports what does not fit together.
pub(crate) fn check(
    source: &Source<'_>,
    services: &[ReadService],
    routes: &[ReadRoute],
    daemon: &ReadDaemon,
    faults: &mut Faults,
) {
    if faults.is_full() {
        return;
    }
    let routed = routes
        .iter()
        .map(|route| route.services.as_deref())
        .collect::<Option<Vec<_>>>()
        .map(|all| all.into_iter().flatten().map(|(name, _)| name).collect());
    let mut check = Check {
        source,
        services,
        routes,
        by_name: BTreeMap::new(),
        routed,
    };
    check.service_names(faults);
    let sockets = check.sockets(daemon, faults);
    check.vips(faults);
    check.route_targets(&sockets, faults);
    check.ways_in(faults);
    check.catch_alls(faults);
    let reported = overlap::same_matches(source, services, routes, &check.by_name, faults);
    check.route_names(&reported, faults);
}

impl<'r> Check<'r> {
    fn line(&self, place: &Place) -> usize {
        self.source.position(place.span.start).0
    }

    fn service_names(&mut self, faults: &mut Faults) {
        for (i, service) in self.services.iter().enumerate() {
            let Some((name, place)) = &service.name else {
                continue;
            };
            let first = *self.by_name.entry(name).or_insert(i);
            if first != i {
                let other = self.services.get(first).and_then(|s| s.name.as_ref());
                let line = other.map_or(0, |(_, place)| self.line(place));
                let message = format!("service `{name}` is there already, in line {line}");
                faults.push(place.fault(message).expected("a name of its own"));
            }
        }
    }

    /// Claims every listen of the file. Conflicts within one service were reported there.
    fn sockets(&self, daemon: &'r ReadDaemon, faults: &mut Faults) -> Sockets<Owner<'r>> {
        let mut sockets = Sockets::new();
        if let Some((addr, place)) = &daemon.metrics {
            let listen = Listen::socket(addr.ip(), addr.port(), Proto::Tcp);
            sockets.claim(listen, Owner::Metrics(place));
        }
        for (i, service) in self.services.iter().enumerate() {
            for (listen, place) in &service.listens {
                let Some(claim) = sockets.find(listen) else {
                    sockets.claim(*listen, Owner::Service(i, service, place));
                    continue;
                };
                let (whose, other) = match claim.owner {
                    Owner::Service(owner, ..) if owner == i => continue,
                    Owner::Service(_, owner, place) => (label(owner), place),
                    Owner::Metrics(place) => ("daemon.metrics".to_owned(), place),
                };
                let shared = listen.is_http() && claim.listen.is_http();
                if shared && *listen == claim.listen {
                    if let Owner::Service(_, owner, other) = claim.owner {
                        self.same_options(service, owner, other, place, faults);
                    }
                    continue;
                }
                let (line, other) = (self.line(other), claim.listen);
                let fault = place.fault(match *listen == other {
                    true => format!("{listen} is taken by {whose}, in line {line}"),
                    false => {
                        format!("{listen} is the same socket as {other} of {whose}, in line {line}")
                    }
                });
                faults.push(match shared {
                    true => fault
                        .expected("the same text, to share it")
                        .nearest(Some(other)),
                    false => fault.expected("a socket of its own"),
                });
            }
        }
        sockets
    }

    /// Services that share a VIP agree about where it is.
    fn vips(&self, faults: &mut Faults) {
        let mut seen: BTreeMap<IpAddr, (&Vip, &ReadService, &Place)> = BTreeMap::new();
        for service in self.services {
            let vips = service.service.iter().flat_map(|s| &s.spec.vips);
            for (vip, place) in vips.zip(&service.vips) {
                let known = seen.entry(vip.address.ip);
                let (first, owner, other) = *known.or_insert((vip, service, place));
                if first == vip {
                    continue;
                }
                let (whose, line) = (label(owner), self.line(other));
                let message =
                    format!("{whose} has it as {first}, in line {line}, and this is {vip}");
                faults.push(place.fault(message).expected("the same in both"));
            }
        }
    }

    /// Services that share a listen do not contradict each other in what its socket is told.
    fn same_options(
        &self,
        service: &ReadService,
        owner: &ReadService,
        other: &Place,
        place: &Place,
        faults: &mut Faults,
    ) {
        let options = |read: &ReadService| {
            let model = read.service.as_ref()?;
            model.spec.listen_options.clone()
        };
        if let (Some(here), Some(there)) = (options(service), options(owner))
            && here != there
        {
            let (whose, line) = (label(owner), self.line(other));
            let message = format!("{whose} shares it, in line {line}, with other `listen-options`");
            let expected = "the same `listen-options`, or none in one of them";
            faults.push(place.fault(message).expected(expected));
        }
    }

    fn route_names(&self, reported: &BTreeSet<usize>, faults: &mut Faults) {
        let mut seen: BTreeMap<&Name, &Place> = BTreeMap::new();
        for (i, route) in self.routes.iter().enumerate() {
            let Some((name, place)) = &route.name else {
                continue;
            };
            let Some(first) = seen.get(name) else {
                seen.insert(name, place);
                continue;
            };
            let line = self.line(first);
            let said = place.span != route.place.span;
            let message = match said {
                true => format!("route `{name}` is there already, in line {line}"),
                // Names are made of what routes match: said once is enough.
                false if reported.contains(&i) => continue,
                false => format!("this route and that of line {line} are both named `{name}`"),
            };
            faults.push(place.fault(message).expected("a `name` of its own"));
        }
    }

    fn route_targets(&self, sockets: &Sockets<Owner<'r>>, faults: &mut Faults) {
        let names_known = self.services.iter().all(|service| service.name.is_some());
        let listens_known = self
            .services
            .iter()
            .all(|service| service.service.is_some());
        let http: BTreeSet<&Listen> = sockets.listens().filter(|l| l.is_http()).collect();
        for route in self.routes {
            if faults.is_full() {
                return;
            }
            let mut reachable = listens_known && route.route.is_some();
            for (name, place) in route.services.iter().flatten() {
                if names_known && !self.by_name.contains_key(name) {
                    reachable = false;
                    let fault = place.fault(format!("there is no service `{name}`"));
                    let fault = fault.expected("the name of a [[service]] in this file");
                    let known = self.by_name.keys().map(|name| name.as_str());
                    faults.push(fault.nearest(nearest(name.as_str(), known)));
                }
            }
            if !listens_known {
                continue;
            }
            for (listen, place) in &route.listens {
                if listen.is_http() && !http.contains(listen) {
                    let known: Vec<String> =
                        http.iter().take(1000).map(ToString::to_string).collect();
                    let meant = nearest(&listen.to_string(), known.iter().map(String::as_str))
                        .map(str::to_owned);
                    let fault = place.fault(format!("no service listens on {listen}"));
                    let fault = fault.expected("an http listen of a service in this file");
                    faults.push(fault.nearest(meant));
                }
            }
            if reachable && http.is_empty() && route.listens.is_empty() {
                let fault = route.place.fault("there is no http listen for this route");
                let expected = "a service with an http listen, such as \"0.0.0.0:80/http\"";
                faults.push(fault.expected(expected));
            }
        }
    }

    /// Every service can be reached.
    fn ways_in(&self, faults: &mut Faults) {
        let Some(routed) = &self.routed else {
            return;
        };
        for service in self.services {
            let Some(model) = &service.service else {
                continue;
            };
            if model.spec.listens.is_empty() && !routed.contains(model.name()) {
                let message = format!("nothing leads to {}", label(service));
                let fault = service.place.fault(message);
                faults.push(fault.expected("a `listen`, or a [[route]] that names it"));
            }
        }
    }

    /// Of the services that no route names, each http listen has one at most.
    fn catch_alls(&self, faults: &mut Faults) {
        let Some(routed) = &self.routed else {
            return;
        };
        let mut seen: HashMap<&Listen, (usize, &Place)> = HashMap::new();
        for (i, service) in self.services.iter().enumerate() {
            let Some((name, _)) = &service.name else {
                continue;
            };
            if routed.contains(name) {
                continue;
            }
            for (listen, place) in service.listens.iter().filter(|(l, _)| l.is_http()) {
                let (first, other) = *seen.entry(listen).or_insert((i, place));
                if first == i {
                    continue;
                }
                let whose = self.services.get(first).map_or_else(String::new, label);
                let line = self.line(other);
                let message = format!(
                    "no route leads to {} nor to {whose}, which has {listen} too, in line {line}",
                    label(service)
                );
                let expected = "a [[route]] that names one of them: only one can get all requests";
                faults.push(place.fault(message).expected(expected));
            }
        }
    }
}

fn label(service: &ReadService) -> String {
    match &service.name {
        Some((name, _)) => format!("service `{name}`"),
        None => "a service".to_owned(),
    }
}
