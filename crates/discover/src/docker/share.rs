//! What a container wants to be: its share of a service, before its address is known.

use std::net::IpAddr;
use std::sync::Arc;

use plimsoll_model::{
    Forward, HostPattern, Listen, Name, Origin, PathPrefix, Proto, Route, RouteHttp, ServiceSpec,
    WeightedService,
};

/// Routes of one container at most.
pub(crate) const MAX_ROUTES: usize = 1024;

/// A service that a container takes part in.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    /// The service.
    pub(crate) spec: ServiceSpec,
    /// What leads to it.
    pub(crate) routes: Vec<Route>,
    /// The container's port, or why there is none.
    pub(crate) port: Result<u16, String>,
    /// The transport of that port.
    pub(crate) transport: Proto,
    /// How packets are brought to the container.
    pub(crate) forward: Forward,
    /// It gets them at the port that they have.
    pub(crate) keeps_port: bool,
    /// The container's weight.
    pub(crate) weight: u32,
    /// The container's `maxconn`.
    pub(crate) maxconn: u32,
    /// The container's upper and lower threshold; the lower one is not above the upper one.
    pub(crate) thresholds: (u32, u32),
    /// The network to reach it by, if one is named.
    pub(crate) network: Option<Arc<str>>,
}

/// Something of a container that is put aside.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    /// What tells it from others of the container; empty for the whole container.
    pub(crate) key: String,
    /// What it would have been, for people.
    pub(crate) subject: String,
    /// What is wrong.
    pub(crate) reason: String,
}

/// What leads to a service: one route for each host and http listen. Its name says what it takes
/// (`shop.example:80/api`), so that whoever else claims the same has the same name. The priority is
/// no part of it: a greater one must not take from another what that one has. `http` is what all of
/// them do with their requests.
///
/// # Errors
/// They are too many, or too long for names.
pub(crate) fn routes(
    spec: &ServiceSpec,
    hosts: &[HostPattern],
    path: &PathPrefix,
    priority: i32,
    http: Option<Arc<RouteHttp>>,
) -> Result<Vec<Route>, String> {
    let count = hosts.len().saturating_mul(spec.listens.len());
    if count > MAX_ROUTES {
        let (hosts, listens) = (hosts.len(), spec.listens.len());
        return Err(format!(
            "{hosts} hosts on {listens} listens are too many: at most {MAX_ROUTES} together"
        ));
    }
    let pairs = spec
        .listens
        .iter()
        .flat_map(|listen| hosts.iter().map(move |host| (listen, host)));
    pairs
        .map(|(listen, host)| {
            let name = route_name(host, listen, path)?;
            Ok(Route {
                name,
                origin: Origin::clone(&spec.origin),
                hosts: vec![host.clone()],
                path: path.clone(),
                listens: vec![*listen],
                priority,
                services: vec![WeightedService {
                    service: spec.name.clone(),
                    weight: 1,
                }],
                http: http.clone(),
            })
        })
        .collect()
}

/// What a service is called after its host and path: as one of them, `shop.example/api`, if it is on
/// the `default` listen for HTTP, and else as its first route. So whoever claims the same shares.
///
/// # Errors
/// They are too long for a name.
pub(crate) fn service_name(
    host: &HostPattern,
    path: &PathPrefix,
    listens: &[Listen],
    default: &Listen,
) -> Result<Name, String> {
    match listens.iter().min() {
        Some(first) if !listens.contains(default) => route_name(host, first, path),
        _ => named(host.to_string(), path),
    }
}

fn route_name(host: &HostPattern, listen: &Listen, path: &PathPrefix) -> Result<Name, String> {
    let place = match listen {
        Listen::Socket {
            ip: None, ports, ..
        } => format!("{host}:{ports}"),
        Listen::Socket {
            ip: Some(IpAddr::V4(ip)),
            ports,
            ..
        } => format!("{host}@{ip}:{ports}"),
        Listen::Socket {
            ip: Some(IpAddr::V6(ip)),
            ports,
            ..
        } => format!("{host}@[{ip}]:{ports}"),
        Listen::Mark { .. } => format!("{host}@{listen}"),
    };
    named(place, path)
}

/// The name of a place and a path.
fn named(place: String, path: &PathPrefix) -> Result<Name, String> {
    let path = match path.as_str() {
        "/" => "",
        path => path,
    };
    // What a path may have and a name may not.
    let path = path.replace('"', "%22").replace('\'', "%27");
    let path = path.replace('\\', "%5C");
    let name = format!("{place}{path}");
    name.parse().map_err(|_| {
        format!(
            "host and path are too long: {} bytes together, at most {}",
            name.len(),
            Name::MAX_LEN
        )
    })
}
