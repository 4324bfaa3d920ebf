//! By which address a container is reached.
//!
//! On the engine's host these are the addresses in its bridge networks, in a container those in
//! networks that it shares with the backend, from another machine the published ports. Where
//! several would do, the choice follows from names alone, and is told.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use plimsoll_config::nearest;
use plimsoll_model::{Listen, Proto};

use super::labels::reserved::overlap;
use super::labels::value::{cut, visible};
use super::view::{View, Whereabouts};
use super::wire::{Endpoint, Inspect, PortBinding};

/// The default network of an engine.
const BRIDGE: &str = "bridge";
/// Networks that a message names at most.
const NAMED: usize = 8;

/// What is to be reached of a container.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) port: u16,
    /// The transport of the port.
    pub(crate) transport: Proto,
    /// The network to use, if one is named.
    pub(crate) network: Option<&'a str>,
}

/// Where a container is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) addr: SocketAddr,
    /// Which of several possible ones this is, for people; empty if there is one.
    pub(crate) note: String,
}

/// Where a container is reached; none if it has no address yet.
///
/// # Errors
/// Why it cannot be reached, and what would mend it.
pub(crate) fn locate(
    container: &Inspect,
    target: Target<'_>,
    view: &View<'_>,
) -> Result<Option<Place>, String> {
    let mode = &*container.host_config.network_mode;
    let owner = match (mode.strip_prefix("container:"), view.shared) {
        (None, _) => container,
        (Some(_), Some(owner)) => owner,
        (Some(id), None) => {
            let id = cut(id.get(..12).unwrap_or(id));
            return Err(format!(
                "it is in the network of container {id}, which is not there: recreate it"
            ));
        }
    };
    let here = |ip: IpAddr| {
        let addr = SocketAddr::new(ip, target.port);
        let note = String::new();
        Ok(Some(Place { addr, note }))
    };
    match (&*owner.host_config.network_mode, view.whereabouts) {
        ("none", _) => Err(
            "its network_mode is none, so nothing can reach it: recreate it with a network".into(),
        ),
        ("host", Whereabouts::Host) => {
            let ip = Ipv4Addr::LOCALHOST.into();
            let there = Listen::socket(ip, target.port, target.transport);
            let default = &view.settings.http;
            if overlap(&there, default) {
                let port = target.port;
                return Err(format!(
                    "it is in the host's network, where plimsoll itself has port {port} ({default}): \
                     say the container's port with label plimsoll.port, or give plimsoll another \
                     --listen"
                ));
            }
            here(ip)
        }
        ("host", Whereabouts::Remote { host }) => here(*host),
        ("host", Whereabouts::Container { name, .. }) => Err(format!(
            "it is in the host's network, which container {name} cannot reach: run {name} with \
             network_mode host, or recreate this one in a network of {name}"
        )),
        (_, Whereabouts::Remote { host }) => published(owner, target, *host),
        _ => inside(owner, target, view),
    }
}

/// A network that a container is in.
#[derive(Clone, Copy, Debug)]
struct Candidate<'a> {
    name: &'a str,
    endpoint: &'a Endpoint,
    /// The kind of network; none if it is not known.
    driver: Option<&'a str>,
}

impl Candidate<'_> {
    /// IPv4 where there is one.
    fn ip(&self) -> Option<IpAddr> {
        let v4 = self.endpoint.ip_address.parse();
        let v6 = self.endpoint.global_ipv6_address.parse();
        let ips = [v4, v6].into_iter().flatten();
        ips.into_iter().find(|ip: &IpAddr| !ip.is_unspecified())
    }

    /// Whether this process can reach addresses in it. A network that a label names is taken at
    /// its word on the host: what else may lead there is not known here.
    fn is_near(&self, whereabouts: &Whereabouts, named: bool) -> bool {
        match whereabouts {
            Whereabouts::Host => named || self.driver == Some(BRIDGE),
            Whereabouts::Container { networks, .. } => networks.contains(&self.endpoint.network_id),
            Whereabouts::Remote { .. } => false,
        }
    }
}

/// By an address of its own.
fn inside(owner: &Inspect, target: Target<'_>, view: &View<'_>) -> Result<Option<Place>, String> {
    let endpoints = owner.network_settings.networks.iter();
    let candidates: Vec<Candidate<'_>> = endpoints
        .map(|(name, endpoint)| Candidate {
            name,
            endpoint,
            driver: view.networks.get(&endpoint.network_id).map(|n| &*n.driver),
        })
        .collect();
    let named = match target.network {
        Some(network) => Some(find(owner, network, &candidates)?),
        None => None,
    };
    let near = |candidate: &Candidate<'_>| candidate.is_near(view.whereabouts, named.is_some());
    let mut usable: Vec<Candidate<'_>> = candidates
        .iter()
        .filter(|candidate| named.is_none_or(|name| name == candidate.name))
        .filter(|candidate| near(candidate))
        .copied()
        .collect();
    if usable.is_empty() {
        return Err(unreachable(owner, named, &candidates, view));
    }
    usable.sort_by_key(|candidate| (candidate.name == BRIDGE, candidate.name));
    let chosen = usable
        .iter()
        .find_map(|candidate| Some((candidate.name, candidate.ip()?)));
    let Some((name, ip)) = chosen else {
        return Ok(None);
    };
    let others: Vec<&str> = candidates
        .iter()
        .filter(|other| other.name != name && other.is_near(view.whereabouts, false))
        .map(|other| other.name)
        .collect();
    let note = match others.is_empty() {
        true => String::new(),
        false => format!("on network {} (also in {})", cut(name), list(&others)),
    };
    let addr = SocketAddr::new(ip, target.port);
    Ok(Some(Place { addr, note }))
}

/// The network of a container that a label names, by its name or by that in its Compose file.
fn find<'a>(
    owner: &Inspect,
    network: &str,
    candidates: &[Candidate<'a>],
) -> Result<&'a str, String> {
    let project = owner.label("com.docker.compose.project");
    let in_project = project.map(|project| format!("{project}_{network}"));
    let is = |wanted: &str| candidates.iter().find(|c| c.name == wanted);
    let found = is(network).or_else(|| in_project.as_deref().and_then(is));
    if let Some(candidate) = found {
        return Ok(candidate.name);
    }
    let names: Vec<&str> = candidates.iter().map(|c| c.name).collect();
    let meant = match nearest(network, names.iter().copied()) {
        Some(meant) => format!(": did you mean `{}`?", cut(meant)),
        None => String::new(),
    };
    let network = cut(network);
    Err(match names.is_empty() {
        true => format!("label plimsoll.network={network}: the container is in no network"),
        false => format!(
            "label plimsoll.network={network}: the container is not in it, but in {}{meant}",
            list(&names)
        ),
    })
}

/// Why none of the networks will do, and the command that mends it.
fn unreachable(
    owner: &Inspect,
    named: Option<&str>,
    candidates: &[Candidate<'_>],
    view: &View<'_>,
) -> String {
    let backend = visible(owner.display_name());
    let kinds: Vec<String> = candidates
        .iter()
        .map(|candidate| match candidate.driver {
            Some(driver) => format!("{} ({})", cut(candidate.name), cut(driver)),
            None => format!("{} (not known)", cut(candidate.name)),
        })
        .collect();
    let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
    let names: Vec<&str> = candidates.iter().map(|c| c.name).collect();
    match view.whereabouts {
        Whereabouts::Container { name, networks } if names.is_empty() => {
            let ours = networks.iter().filter_map(|id| view.networks.get(id));
            let mut ours: Vec<&str> = ours.map(|network| &*network.name).collect();
            ours.sort_by_key(|name| (*name == BRIDGE, *name));
            let ours = visible(ours.first().copied().unwrap_or("NETWORK"));
            format!(
                "it is in no network, so container {name} cannot reach it: docker network \
                 connect {ours} {backend}"
            )
        }
        Whereabouts::Container { name, .. } => {
            let own = |name: &&&str| **name != BRIDGE;
            let mut sorted = names.clone();
            sorted.sort_unstable();
            let first = sorted.iter().find(own).or(sorted.first()).copied();
            let network = visible(named.or(first).unwrap_or(BRIDGE));
            format!(
                "container {name} is not in {} of its networks ({}): docker network connect \
                 {network} {name}",
                match named {
                    Some(named) => format!("{} as label plimsoll.network says, one", cut(named)),
                    None => "any".into(),
                },
                list(&names)
            )
        }
        _ if names.is_empty() => format!(
            "it is in no network, so it has no address: docker network connect {BRIDGE} {backend}"
        ),
        _ => format!(
            "none of its networks can be reached from the host, only bridge networks can: {}; \
             docker network connect {BRIDGE} {backend}",
            list(&kinds)
        ),
    }
}

/// By a port that is published on the engine's host.
fn published(owner: &Inspect, target: Target<'_>, host: IpAddr) -> Result<Option<Place>, String> {
    let key = format!("{}/{}", target.port, target.transport);
    let ports = &owner.network_settings.ports;
    if ports.is_empty() && owner.network_settings.networks.values().all(is_blank) {
        return Ok(None);
    }
    let bindings = ports.get(&key).cloned().flatten().unwrap_or_default();
    // By address, those of all addresses of the host's family first.
    let mut reached: BTreeMap<(bool, SocketAddr), ()> = BTreeMap::new();
    for PortBinding { host_ip, host_port } in &bindings {
        let Some(port) = host_port.parse().ok().filter(|port: &u16| *port > 0) else {
            continue;
        };
        let ip = match host_ip.parse::<IpAddr>() {
            Ok(ip) if ip.is_loopback() => continue,
            Ok(ip) if !ip.is_unspecified() => ip,
            Ok(ip) if ip.is_ipv4() != host.is_ipv4() => continue,
            _ => host,
        };
        reached.insert((ip != host, SocketAddr::new(ip, port)), ());
    }
    let mut addrs = reached.keys().map(|(_, addr)| *addr);
    let Some(addr) = addrs.next() else {
        let on = match bindings.is_empty() {
            true => format!("port {key} is not published"),
            false => format!("port {key} is not published on {host}"),
        };
        return Err(format!(
            "{on}, and from another machine nothing else can be reached: recreate it with \
             --publish {}",
            target.port
        ));
    };
    let others: Vec<String> = addrs.map(|addr| addr.to_string()).collect();
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    let note = match others.is_empty() {
        true => String::new(),
        false => format!("published on {addr} (also on {})", list(&others)),
    };
    Ok(Some(Place { addr, note }))
}

fn is_blank(endpoint: &Endpoint) -> bool {
    endpoint.ip_address.is_empty() && endpoint.global_ipv6_address.is_empty()
}

fn list(names: &[&str]) -> String {
    let shown: Vec<String> = names.iter().take(NAMED).map(|name| cut(name)).collect();
    match names.len() > NAMED {
        true => format!("{}, …", shown.join(", ")),
        false => shown.join(", "),
    }
}
