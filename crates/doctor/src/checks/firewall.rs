//! Rules that drop what containers are sent and answer, by walking such packets through them.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{answers::level, each, sysctl};
use crate::firewall::{Dropped, Hook, Packet, Walked, walk};
use crate::{Facts, Finding, Guest, Space};

/// `NF_IP_PRI_CONNTRACK`: chains before it do not know connections.
const TRACKING: i64 = -200;
const IPIP: u8 = 4;
const IPV6_IN: u8 = 41;

/// Which of the checks a drop belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Policy,
    Invalid,
    Raw,
    Other,
}

/// A packet that is dropped, and how it could pass.
struct Fall<'a> {
    guest: Guest,
    dropped: Dropped<'a>,
    kind: Kind,
    /// What the packet is.
    what: String,
    pass: (Option<IpNet>, Option<IpNet>),
}

fn kind(dropped: &Dropped<'_>, state: &str) -> Kind {
    match dropped.rule {
        None => Kind::Policy,
        Some(_) if dropped.base.priority < TRACKING => Kind::Raw,
        Some(rule) => {
            let by_state = rule.tests.iter().any(|test| {
                matches!(test, crate::firewall::Test::State(false, states)
                    if state == "invalid" && states.iter().any(|s| s == state))
            });
            if by_state { Kind::Invalid } else { Kind::Other }
        }
    }
}

/// All that is dropped of what guests of a space are sent and answer.
fn falls(space: &Space) -> Vec<Fall<'_>> {
    let mut falls: Vec<Fall<'_>> = Vec::new();
    for guest in space.all_guests() {
        let mut outs: Vec<&str> = space.outside.iter().map(String::as_str).collect();
        let clients = space.clients_come_by(&guest.vips);
        outs.extend(clients.iter().map(String::as_str));
        outs.retain(|name| *name != guest.interface);
        let out = outs.first().copied();
        for vip in &guest.vips {
            let answer = Packet {
                v4: vip.is_ipv4(),
                incoming: Some(&guest.interface),
                outgoing: out,
                source: Some(*vip),
                destination: None,
                protocol: None,
                state: "invalid",
            };
            let what = format!("answers of {} to clients", guest.ip);
            let pass = (Some(IpNet::from(*vip)), None);
            add(space, &mut falls, &guest, &answer, what, pass);
        }
        if guest.from_elsewhere {
            let inside = match guest.vips.iter().any(IpAddr::is_ipv4) {
                true => IPIP,
                false => IPV6_IN,
            };
            let request = Packet {
                v4: guest.ip.is_ipv4(),
                incoming: out,
                outgoing: Some(&guest.interface),
                source: None,
                destination: Some(guest.ip),
                protocol: Some(inside),
                state: "new",
            };
            let what = format!("packets of a director for {}", guest.ip);
            let pass = (None, Some(IpNet::from(guest.ip)));
            add(space, &mut falls, &guest, &request, what, pass);
        }
    }
    falls
}

fn add<'a>(
    space: &'a Space,
    falls: &mut Vec<Fall<'a>>,
    guest: &Guest,
    packet: &Packet<'_>,
    what: String,
    pass: (Option<IpNet>, Option<IpNet>),
) {
    for hook in [Hook::Prerouting, Hook::Forward, Hook::Postrouting] {
        let before = Packet {
            outgoing: match hook {
                Hook::Prerouting => None,
                _ => packet.outgoing,
            },
            ..packet.clone()
        };
        if let Walked::Dropped(dropped) = walk(&space.firewall, hook, &before) {
            falls.push(Fall {
                guest: guest.clone(),
                kind: kind(&dropped, packet.state),
                dropped,
                what: what.clone(),
                pass,
            });
        }
    }
}

fn tell(facts: &Facts, of: Kind) -> Vec<Finding> {
    each(facts, |space| {
        let mut found: Vec<Finding> = Vec::new();
        for fall in falls(space).into_iter().filter(|fall| fall.kind == of) {
            let title = fall.dropped.base.title();
            let text = match fall.dropped.rule {
                None => format!("{title} drops what no rule accepts: {}", fall.what),
                Some(rule) => format!("{title} drops {}: `{}`", fall.what, rule.text),
            };
            let (source, destination) = fall.pass;
            let command = fall.dropped.base.pass(source, destination);
            let finding = level(&fall.guest, text, why(of)).mend_in(space, command);
            if !found.contains(&finding) {
                found.push(finding);
            }
        }
        if found.is_empty() && !space.all_guests().is_empty() {
            found.push(match (space.firewall.untold.is_empty(), of) {
                (false, Kind::Other) => Finding::unknown(
                    "whether rules drop packets of containers",
                    space.firewall.untold.join("; "),
                ),
                (false, _) => return Vec::new(),
                (true, _) => Finding::ok(match of {
                    Kind::Policy => "no chain drops them for want of a rule",
                    Kind::Invalid => "no rule drops them as INVALID",
                    Kind::Raw => "no rule drops them before they are forwarded",
                    Kind::Other => "no other rule drops them, as far as rules can be read",
                }),
            });
        }
        found
    })
}

fn why(kind: Kind) -> &'static str {
    match kind {
        Kind::Policy => "the command puts a rule before all others that lets them pass",
        Kind::Invalid => {
            "the requests came past connection tracking, so it knows no connection to which an answer \
             belongs; the command lets answers with the VIP as sender pass before that rule"
        }
        Kind::Raw => {
            "Docker 28 and newer lets nobody reach a container but by its bridge; the command lets packets for \
             this container pass (or give its network `-o com.docker.network.bridge.gateway_mode_ipv4=routed`)"
        }
        Kind::Other => "the command puts a rule before all others that lets them pass",
    }
}

pub(super) fn policy(facts: &Facts) -> Vec<Finding> {
    tell(facts, Kind::Policy)
}

pub(super) fn invalid(facts: &Facts) -> Vec<Finding> {
    tell(facts, Kind::Invalid)
}

pub(super) fn raw(facts: &Facts) -> Vec<Finding> {
    tell(facts, Kind::Raw)
}

pub(super) fn other(facts: &Facts) -> Vec<Finding> {
    tell(facts, Kind::Other)
}

/// What goes from one port of a bridge to another is bridged, not forwarded; with `br_netfilter` it is
/// filtered as if it were forwarded.
pub(super) fn bridge(facts: &Facts) -> Vec<Finding> {
    each(facts, |space| {
        let mut found: Vec<Finding> = Vec::new();
        let guests: Vec<Guest> = (space.guests.iter())
            .filter(|guest| {
                space
                    .link(&guest.interface)
                    .is_some_and(|l| l.kind == "bridge")
            })
            .cloned()
            .collect();
        for guest in &guests {
            for vip in &guest.vips {
                let name = match vip.is_ipv4() {
                    true => "net/bridge/bridge-nf-call-iptables",
                    false => "net/bridge/bridge-nf-call-ip6tables",
                };
                if space.setting(name).unwrap_or(0) == 0 {
                    continue;
                }
                let packet = Packet {
                    v4: vip.is_ipv4(),
                    incoming: Some(&guest.interface),
                    outgoing: Some(&guest.interface),
                    source: None,
                    destination: Some(*vip),
                    protocol: None,
                    state: "new",
                };
                let Walked::Dropped(dropped) = walk(&space.firewall, Hook::Forward, &packet) else {
                    continue;
                };
                let text = format!(
                    "{} drops packets for {vip} that go from one port of {} to another",
                    dropped.base.title(),
                    guest.interface
                );
                let finding = Finding::warning(text)
                    .because(
                        "a director on that bridge does not reach the node: what a bridge carries is sent through rules \
                         that are meant for what is forwarded",
                    )
                    .mend_in(space, sysctl(name, 0));
                if !found.contains(&finding) {
                    found.push(finding);
                }
            }
        }
        match guests.is_empty() {
            true => found,
            false => super::or_ok(found, || "bridges carry what is for nodes".to_owned()),
        }
    })
}
