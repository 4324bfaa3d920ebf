//! The ways to backends.

use std::collections::BTreeSet;
use std::net::IpAddr;

use plimsoll_plane_ebpf::Path;
use plimsoll_plane_ebpf::sys::net::{NeighbourState, RouteKind};

use super::director::carriers;
use super::{listed, or_ok};
use crate::facts::is_in;
use crate::{Backend, Carried, Facts, Finding, Forward, Space};

/// Bytes of packets that clients send at most, where nothing else is known: Ethernet's.
const USUAL: u32 = 1500;

/// Every backend that is not the director itself, with its service.
fn remote<'a>(
    space: &'a Space,
    services: &'a [Carried],
) -> impl Iterator<Item = (&'a Carried, &'a Backend)> {
    let all = services.iter().flat_map(|service| {
        service
            .backends
            .iter()
            .map(move |backend| (service, backend))
    });
    all.filter(|(_, backend)| !space.is_own(backend.ip))
}

pub(super) fn routes(facts: &Facts) -> Vec<Finding> {
    carriers(facts, |space, director| {
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for (service, backend) in remote(space, &director.services) {
            let ip = backend.ip;
            if !seen.insert((ip, backend.forward == Forward::Dr)) {
                continue;
            }
            let path = match space.paths.get(&ip) {
                None => {
                    found.push(Finding::unknown(
                        format!("the way to {ip}"),
                        "the routing table could not be asked",
                    ));
                    continue;
                }
                Some(path) => path.as_ref().filter(|path| path.kind == RouteKind::Unicast),
            };
            match path {
                None => found.push(
                    Finding::error(format!("service {}: there is no route to {ip}", service.name))
                        .because("packets for it are dropped")
                        .mend_in(space, add_route(space, ip)),
                ),
                Some(path) if path.hop != ip && backend.forward == Forward::Dr => found.push(
                    Finding::error(format!(
                        "service {}: {ip} is behind router {}, and direct routing ends at it",
                        service.name, path.hop
                    ))
                    .because(
                        "the router gets the packet with the VIP as destination, and sends it back: set \
                         `forward = \"tunnel\"` for this backend, or put both on one link",
                    )
                    .mend("plimsoll check"),
                ),
                Some(_) => {}
            }
        }
        or_ok(found, || "there is a way to every backend".to_owned())
    })
}

/// The command that adds a route; who is not near is behind a router that only people know.
fn add_route(space: &Space, ip: IpAddr) -> String {
    match space.addresses.iter().find(|address| is_in(ip, address)) {
        Some(near) => format!(
            "ip route replace {ip} dev {}",
            space.name_of(near.interface)
        ),
        None => format!("ip route add {ip} via ROUTER"),
    }
}

pub(super) fn neighbours(facts: &Facts) -> Vec<Finding> {
    carriers(facts, |space, director| {
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for (service, backend) in remote(space, &director.services) {
            let Some(path) = space.path_to(backend.ip) else {
                continue;
            };
            if path.kind != RouteKind::Unicast || !seen.insert(path.hop) {
                continue;
            }
            found.extend(neighbour(space, service, path));
        }
        or_ok(found, || {
            "every next hop answers, or was not asked for".to_owned()
        })
    })
}

fn neighbour(space: &Space, service: &Carried, path: &Path) -> Option<Finding> {
    let (hop, interface) = (path.hop, &path.interface);
    let ask = format!("ip neigh replace {hop} dev {interface} managed");
    let down = space.link(interface).is_some_and(|link| !link.up);
    if down {
        return Some(
            Finding::error(format!(
                "{interface}, which leads to {hop}, is switched off"
            ))
            .mend_in(space, format!("ip link set dev {interface} up")),
        );
    }
    match path.neighbour? {
        NeighbourState::Failed | NeighbourState::Incomplete => Some(
            Finding::error(format!(
                "service {}: {hop} does not answer on {interface} ({})",
                service.name,
                if hop.is_ipv4() { "ARP" } else { "neighbour discovery" }
            ))
            .because(
                "is it switched on, on this link, and is that its address? Once it is, the kernel finds it by itself \
                 within a minute, or at once",
            )
            .mend_in(space, ask),
        ),
        _ => None,
    }
}

pub(super) fn mtu(facts: &Facts) -> Vec<Finding> {
    carriers(facts, |space, director| {
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for (service, backend) in remote(space, &director.services) {
            let Some(path) = space.path_to(backend.ip) else {
                continue;
            };
            let header = match (backend.forward, backend.ip) {
                (Forward::Tunnel, IpAddr::V4(_)) => 20,
                (Forward::Tunnel, IpAddr::V6(_)) => 40,
                _ => 0,
            };
            let needed = clients(space, service, &path.interface) + header;
            if service.is_fitted
                || path.mtu >= needed
                || !seen.insert((path.interface.clone(), path.hop, header))
            {
                continue;
            }
            let mtu = path.mtu;
            let text = match header {
                0 => format!(
                    "packets to {} end at {mtu} bytes, those of clients at {needed}",
                    backend.ip
                ),
                _ => format!(
                    "packets to {} end at {mtu} bytes: with the {header} bytes of the tunnel's header, those of \
                     clients at {}",
                    backend.ip,
                    mtu.saturating_sub(header)
                ),
            };
            let finding = Finding::warning(text);
            let told = "clients are told so by ICMP, which many firewalls drop: then small requests work and big ones hang";
            found.push(match backend.forward {
                // Answers pass the director, too.
                Forward::Nat => finding
                    .because(format!("{told}: set `mss = \"fit\"` for the service"))
                    .mend("plimsoll check"),
                Forward::Dr | Forward::Tunnel => finding
                    .because(format!(
                        "{told}. The command lets the node announce smaller segments (TCP), and so clients send \
                         them; `mss = \"fit\"` of the service does it for what nodes send, and says that this is \
                         seen to. Only if every link on the way carries {needed} bytes, and the node's, too, can their MTU be raised instead"
                    ))
                    .mend(announce(service, mtu.saturating_sub(header), backend.ip)),
            });
        }
        or_ok(found, || {
            "packets fit on the way to every backend".to_owned()
        })
    })
}

/// The command by which a node lets clients send packets of so many bytes at most.
fn announce(service: &Carried, most: u32, node: IpAddr) -> String {
    // Headers of IP and TCP (RFC 9293 §3.7.1).
    let headers = match service.vips.iter().all(IpAddr::is_ipv4) {
        true => 40,
        false => 60,
    };
    let mss = most.saturating_sub(headers);
    let vips = listed(&service.vips).replace(", ", ",");
    format!("plimsoll node --once --vip {vips} --mss {mss}    # on {node}")
}

/// Bytes of the packets that clients send at most, as far as can be told.
fn clients(space: &Space, service: &Carried, leaves_by: &str) -> u32 {
    let come = space.clients_come_by(&service.vips);
    // Where packets leave as they came what fits in fits out, but for a header.
    let come = come.iter().filter(|name| name.as_str() != leaves_by);
    let links = come.filter_map(|name| space.link(name));
    links
        .map(|link| link.mtu.min(USUAL))
        .max()
        .unwrap_or(match space.link(leaves_by) {
            Some(link) => link.mtu.min(USUAL),
            None => USUAL,
        })
}
