//! Nodes: what `plimsoll node` does, seen as what is missing.

use std::net::{IpAddr, SocketAddr};

use plimsoll_plane_ebpf::node::{
    Change, LOOPBACK, State, Target, Trouble, commands, towards, troubles,
};

use super::{each, listed, or_ok};
use crate::firewall::{Hook, Packet, Walked, walk};
use crate::{Facts, Finding, Level, NodeRole, Space};

fn nodes(facts: &Facts, judge: impl Fn(&Space, &NodeRole) -> Vec<Finding>) -> Vec<Finding> {
    each(facts, |space| match &space.node {
        Some(node) => {
            let mut found = judge(space, node);
            for finding in found.iter_mut().filter(|_| node.is_guessed) {
                // It may be an address of another purpose, as of a router's own.
                finding.level = finding.level.min(Level::Warning);
            }
            found
        }
        None => Vec::new(),
    })
}

fn target(node: &NodeRole) -> Target {
    Target {
        vips: node.vips.iter().map(|vip| (*vip, true)).collect(),
        interfaces: node.interfaces.clone(),
        // What servers announce is for those who set it up to say.
        mss: None,
    }
}

/// What a node that fits would still have to do.
fn missing(node: &NodeRole) -> Vec<Change> {
    // Whoever set it up, what counts is what is there.
    towards(&target(node), &node.found, &State::default()).changes
}

fn command(space: &Space, change: &Change) -> String {
    let text = commands(std::slice::from_ref(change), space.path.as_deref());
    text.trim_end().to_owned()
}

pub(super) fn link(facts: &Facts) -> Vec<Finding> {
    nodes(facts, |space, node| {
        let found = troubles(&target(node), &node.found);
        let found = found.iter().filter(|trouble| trouble.is_fatal());
        let found = found.map(|trouble| {
            Finding::error(trouble.to_string())
                .because("packets for VIPs do not come in, or are not taken")
                .mend_in(space, trouble.remedy())
        });
        or_ok(found.collect(), || {
            format!("{} is on", listed(node.interfaces.keys()))
        })
    })
}

pub(super) fn vip(facts: &Facts) -> Vec<Finding> {
    nodes(facts, |space, node| {
        let mut found: Vec<Finding> = (missing(node).iter())
            .filter_map(|change| match change {
                Change::Add(ip) => Some(
                    Finding::error(format!("{LOOPBACK} has no {ip}"))
                        .because("packets for it are not taken, or sent on to somebody else")
                        .mend(command(space, change)),
                ),
                _ => None,
            })
            .collect();
        let on_wire = troubles(&target(node), &node.found);
        for trouble in &on_wire {
            let Trouble::Elsewhere { ip, interface } = trouble else {
                continue;
            };
            let prefix = space.addresses.iter().find(|address| {
                address.ip == *ip && space.name_of(address.interface) == interface.as_str()
            });
            let prefix = prefix.map_or(32, |address| address.prefix);
            found.push(
                Finding::error(trouble.to_string())
                    .because("clients may come past the director")
                    .mend_in(
                        space,
                        format!("ip address del {ip}/{prefix} dev {interface}"),
                    ),
            );
        }
        let lo = space.addresses.iter().filter(|address| {
            node.vips.contains(&address.ip) && space.name_of(address.interface) == LOOPBACK
        });
        for address in lo {
            let bits = if address.ip.is_ipv4() { 32 } else { 128 };
            if address.prefix == bits {
                continue;
            }
            let (ip, prefix) = (address.ip, address.prefix);
            found.push(
                Finding::error(format!(
                    "{ip} is on {LOOPBACK} as /{prefix}, not as /{bits}"
                ))
                .because("all of that network is this host then: nobody in it is answered")
                .mend_in(space, format!("ip address add {ip}/{bits} dev {LOOPBACK}"))
                .mend_in(
                    space,
                    format!("ip address del {ip}/{prefix} dev {LOOPBACK}"),
                ),
            );
        }
        or_ok(found, || {
            format!("{LOOPBACK} has {}, and nobody else", listed(&node.vips))
        })
    })
}

/// What is missing among settings with this key.
fn setting(facts: &Facts, key: &str, why: &str) -> Vec<Finding> {
    nodes(facts, |space, node| {
        let changes = missing(node);
        let found = changes.iter().filter_map(|change| match change {
            Change::Set { name, from, to } if name.ends_with(key) => Some(
                Finding::error(format!("{name} is {from}, has to be {to}"))
                    .because(why)
                    .mend(command(space, change)),
            ),
            _ => None,
        });
        or_ok(found.collect(), || format!("{key} fits"))
    })
}

pub(super) fn arp_ignore(facts: &Facts) -> Vec<Finding> {
    let why =
        "the kernel answers ARP for addresses of lo on every link: clients come past the director";
    setting(facts, "arp_ignore", why)
}

pub(super) fn arp_announce(facts: &Facts) -> Vec<Finding> {
    let why =
        "the node asks for its neighbours with the VIP as sender: they take it for the VIP's owner";
    setting(facts, "arp_announce", why)
}

pub(super) fn rp_filter(facts: &Facts) -> Vec<Finding> {
    let why = "a strict filter drops clients who are reached by another interface than the one by which the \
               director's packets come";
    setting(facts, "rp_filter", why)
}

pub(super) fn tunnels(facts: &Facts) -> Vec<Finding> {
    nodes(facts, |space, node| {
        let again = {
            let vips = listed(&node.vips).replace(", ", ",");
            let container = space
                .path
                .as_ref()
                .map(|path| format!(" --container {path}"));
            format!(
                "plimsoll node --once --vip {vips}{}",
                container.unwrap_or_default()
            )
        };
        let changes = missing(node);
        let found = changes.iter().filter_map(|change| match change {
            Change::Unwrap { interface, .. } => Some(
                Finding::warning(format!("{interface} does not unwrap tunnels for all VIPs"))
                    .because("packets that a director sends in a tunnel are not taken; direct routing does not need it")
                    .mend(again.clone()),
            ),
            _ => None,
        });
        let unwraps = node.interfaces.iter().filter(|(_, unwrap)| **unwrap);
        let names: Vec<&String> = unwraps.map(|(name, _)| name).collect();
        or_ok(found.collect(), || match names.as_slice() {
            [] => "tunnels are not asked for".to_owned(),
            names => format!("{} unwraps tunnels", listed(names)),
        })
    })
}

pub(super) fn listener(facts: &Facts) -> Vec<Finding> {
    nodes(facts, |space, node| {
        let takes = |vip: &IpAddr, at: &SocketAddr| {
            at.ip() == *vip
                || at.ip().is_unspecified() && (at.is_ipv6() || vip.is_ipv4())
                || at.ip().to_canonical() == *vip
        };
        let deaf: Vec<&IpAddr> = (node.vips.iter())
            .filter(|vip| !space.listening.iter().any(|at| takes(vip, at)))
            .collect();
        if deaf.is_empty() {
            return vec![Finding::ok("programs listen on the VIPs (TCP)")];
        }
        vec![
            Finding::warning(format!("nothing listens on {} (TCP)", listed(deaf)))
                .because("connections are refused, unless only UDP is served: let the server listen on the VIP, or on any address, at the port that clients use")
                .mend_in(space, "ss -ltnp"),
        ]
    })
}

pub(super) fn input(facts: &Facts) -> Vec<Finding> {
    nodes(facts, |space, node| {
        let mut found = Vec::new();
        for vip in &node.vips {
            for interface in node.interfaces.keys() {
                let packet = Packet {
                    v4: vip.is_ipv4(),
                    incoming: Some(interface),
                    outgoing: None,
                    source: None,
                    destination: Some(*vip),
                    protocol: None,
                    state: "new",
                };
                for hook in [Hook::Prerouting, Hook::Input] {
                    let Walked::Dropped(dropped) = walk(&space.firewall, hook, &packet) else {
                        continue;
                    };
                    let rule = match dropped.rule {
                        Some(rule) => format!("`{}`", rule.text),
                        None => "its policy".to_owned(),
                    };
                    found.push(
                        Finding::error(format!(
                            "{} drops packets for {vip} that come by {interface}: {rule}",
                            dropped.base.title()
                        ))
                        .because("the command lets them pass, at all ports")
                        .mend_in(space, dropped.base.pass(None, Some((*vip).into()))),
                    );
                }
            }
        }
        if found.is_empty() && !space.firewall.untold.is_empty() {
            return vec![Finding::unknown(
                "whether rules drop packets for VIPs",
                space.firewall.untold.join("; "),
            )];
        }
        or_ok(found, || "no rule drops packets for VIPs".to_owned())
    })
}
