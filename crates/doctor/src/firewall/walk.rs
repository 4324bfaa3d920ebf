//! Packets through chains.

use std::net::IpAddr;

use super::{Chain, Firewall, Hook, Rule, Test, Verdict as Step};

/// A packet, as much as is known of it.
#[derive(Clone, Debug)]
pub struct Packet<'a> {
    /// IPv4, or IPv6.
    pub v4: bool,
    /// The interface by which it came; none if that is not known.
    pub incoming: Option<&'a str>,
    /// The interface by which it leaves; none if that is not known, or it does not.
    pub outgoing: Option<&'a str>,
    /// Its source; none is anybody.
    pub source: Option<IpAddr>,
    /// Its destination; none is anybody.
    pub destination: Option<IpAddr>,
    /// What it carries, by its number; none if that is not known.
    pub protocol: Option<u8>,
    /// What connection tracking says of it: `new`, `invalid`, ….
    pub state: &'a str,
}

/// What becomes of a packet at a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It passes.
    Passes,
    /// It is dropped.
    Dropped(Dropped<'a>),
    /// Some rule on its way asks for what is not known.
    Unknown,
}

/// Where a packet is dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped<'a> {
    /// The chain that the kernel entered.
    pub base: &'a Chain,
    /// The rule; none is the chain's policy.
    pub rule: Option<&'a Rule>,
}

/// Chains that jump to each other are followed so far.
const DEPTH: usize = 16;

enum End<'a> {
    Accept,
    Drop(Option<&'a Rule>),
    /// The end of the chain.
    Through,
}

/// Sends a packet through all chains of a hook. What could be accepted by a rule that is not understood
/// is not said to be dropped.
pub fn walk<'a>(firewall: &'a Firewall, hook: Hook, packet: &Packet<'_>) -> Verdict<'a> {
    let mut bases: Vec<&Chain> = (firewall.chains.iter())
        .filter(|chain| chain.hook == Some(hook) && chain.takes(packet.v4))
        // What translates addresses drops nothing.
        .filter(|chain| chain.table != "nat")
        .collect();
    bases.sort_by_key(|chain| chain.priority);
    let mut unknown = false;
    for base in bases {
        let mut unsure = false;
        let rule = match through(firewall, base, packet, &mut unsure, 0) {
            End::Drop(rule) => rule,
            End::Through if base.drops => None,
            End::Accept | End::Through => {
                unknown |= unsure;
                continue;
            }
        };
        if !unsure {
            return Verdict::Dropped(Dropped { base, rule });
        }
        unknown = true;
    }
    match unknown {
        true => Verdict::Unknown,
        false => Verdict::Passes,
    }
}

fn through<'a>(
    firewall: &'a Firewall,
    chain: &'a Chain,
    packet: &Packet<'_>,
    unsure: &mut bool,
    depth: usize,
) -> End<'a> {
    if depth > DEPTH {
        *unsure = true;
        return End::Through;
    }
    for rule in &chain.rules {
        let holds = holds(rule, packet);
        if holds == Some(false) {
            continue;
        }
        let sure = holds == Some(true);
        match &rule.verdict {
            Step::Continue => {}
            // What may be dropped is not said to be; what may be accepted makes the rest unsure.
            Step::Drop if sure => return End::Drop(Some(rule)),
            Step::Drop => {}
            Step::Accept if sure => return End::Accept,
            Step::Return if sure => return End::Through,
            Step::Accept | Step::Return | Step::Other => *unsure = true,
            Step::Jump(name) | Step::Goto(name) => {
                let goes = matches!(rule.verdict, Step::Goto(_));
                let other = firewall.chains.iter().find(|other| {
                    other.name == *name
                        && other.table == chain.table
                        && other.family == chain.family
                        && other.tool == chain.tool
                });
                let Some(other) = other else {
                    *unsure = true;
                    continue;
                };
                if !sure {
                    *unsure |= !other.rules.is_empty();
                    continue;
                }
                match through(firewall, other, packet, unsure, depth + 1) {
                    End::Through if goes => return End::Through,
                    End::Through => {}
                    end => return end,
                }
            }
        }
    }
    End::Through
}

/// Whether all tests of a rule hold; none if that depends on what is not known.
fn holds(rule: &Rule, packet: &Packet<'_>) -> Option<bool> {
    let mut all = Some(true);
    for test in &rule.tests {
        match one(test, packet) {
            Some(true) => {}
            Some(false) => return Some(false),
            None => all = None,
        }
    }
    all
}

fn one(test: &Test, packet: &Packet<'_>) -> Option<bool> {
    let link = |not: bool, names: &[String], is: Option<&str>| {
        let is = is?;
        Some(names.iter().any(|name| fits(name, is)) != not)
    };
    let address = |not: bool, nets: &[ipnet::IpNet], ip: Option<IpAddr>| {
        if nets.iter().any(|net| net.prefix_len() == 0) {
            return Some(!not);
        }
        let ip = ip?;
        Some(nets.iter().any(|net| net.contains(&ip)) != not)
    };
    match test {
        Test::In(not, names) => link(*not, names, packet.incoming),
        Test::Out(not, names) => link(*not, names, packet.outgoing),
        Test::Source(not, nets) => address(*not, nets, packet.source),
        Test::Destination(not, nets) => address(*not, nets, packet.destination),
        Test::Protocol(not, protocol) => Some((*protocol == packet.protocol?) != *not),
        Test::State(not, states) => Some(states.iter().any(|state| state == packet.state) != *not),
        Test::Other => None,
    }
}

/// Whether an interface has a name that may end with a wildcard of nftables (`*`) or iptables (`+`).
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix(['*', '+']) {
        Some(start) => name.starts_with(start),
        None => pattern == name,
    }
}
