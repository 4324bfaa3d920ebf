//! All that is looked at. Each check is a pure function from facts to findings.

mod answers;
mod backends;
mod director;
mod firewall;
mod host;
mod node;

use crate::{Facts, Finding, Space};

/// One thing that is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Its name.
    pub id: &'static str,
    /// Of what: `machine`, `director`, `node`, or `answers`, which pass this host.
    pub of: &'static str,
    /// What has to be, in a few words.
    pub about: &'static str,
    /// What it says.
    pub judge: fn(&Facts) -> Vec<Finding>,
}

const fn check(
    id: &'static str,
    of: &'static str,
    about: &'static str,
    judge: fn(&Facts) -> Vec<Finding>,
) -> Check {
    Check {
        id,
        of,
        about,
        judge,
    }
}

/// The list of all checks, in the order in which they are told.
#[rustfmt::skip]
pub const CHECKS: &[Check] = &[
    check("kernel", "machine", "Linux 6.1 or newer", host::kernel),
    check("privileges", "machine", "CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN of the host", host::privileges),
    check("mounts", "machine", "/sys is there, /proc/sys can be written to", host::mounts),
    check("jit", "machine", "programs are translated to the machine's own code", host::jit),
    check("limits", "machine", "neither lockdown nor locked memory is in the way", host::limits),
    check("role", "machine", "this machine is a director, a node, or the host of one", host::role),

    check("services", "director", "nothing is put aside or fails, and services have backends", director::services),
    check("vip", "director", "every VIP leads to the director", director::vips),
    check("programs", "director", "packets are taken at the interfaces", director::programs),
    check("other-programs", "director", "no program of somebody else is before ours", director::other_programs),
    check("forwarding", "director", "ip_forward, and its kin of IPv6", director::forwarding),
    check("router-advertisements", "director", "a default route of IPv6 stays where the host forwards", director::advertisements),
    check("redirects", "director", "send_redirects is off where packets leave as they came", director::redirects),
    check("offloads", "director", "no interface joins packets in hardware (LRO)", director::offloads),
    check("local-clients", "director", "clients on the director itself are not served", director::local_clients),
    check("route", "director", "there is a way to each backend; with direct routing, on a link", backends::routes),
    check("neighbour", "director", "each next hop answers", backends::neighbours),
    check("mtu", "director", "packets fit on the way to each backend, with the header of a tunnel", backends::mtu),

    check("node-link", "node", "interfaces are on, with IPv6 for VIPs of IPv6", node::link),
    check("node-vip", "node", "VIPs are on lo, /32 or /128, and nowhere else", node::vip),
    check("arp-ignore", "node", "arp_ignore keeps quiet about VIPs", node::arp_ignore),
    check("arp-announce", "node", "arp_announce never says a VIP", node::arp_announce),
    check("node-rp-filter", "node", "rp_filter takes packets of clients", node::rp_filter),
    check("tunnels", "node", "packets in tunnels are unwrapped", node::tunnels),
    check("listener", "node", "something listens on each VIP", node::listener),
    check("node-firewall", "node", "no rule drops packets for VIPs", node::input),

    check("accept-local", "answers", "accept_local, where a VIP is this host's own", answers::accept_local),
    check("rp-filter", "answers", "rp_filter takes answers whose sender is a VIP", answers::rp_filter),
    check("answer-forwarding", "answers", "ip_forward, for what containers answer", answers::forwarding),
    check("forward-policy", "answers", "no chain drops what no rule accepts", firewall::policy),
    check("conntrack-invalid", "answers", "no rule drops answers because their connection is not known (INVALID)", firewall::invalid),
    check("raw-table", "answers", "no rule drops packets for containers before they are forwarded (Docker 28)", firewall::raw),
    check("firewall-rule", "answers", "no other rule drops them", firewall::other),
    check("bridge-netfilter", "answers", "what passes a bridge does not pass rules that drop it", firewall::bridge),
];

/// Findings of a function for every space.
fn each(facts: &Facts, judge: impl Fn(&Space) -> Vec<Finding>) -> Vec<Finding> {
    let of = |space| judge(space).into_iter().map(|f: Finding| f.at(space));
    facts.spaces.iter().flat_map(of).collect()
}

/// If nothing is wrong, that this is so.
fn or_ok(mut found: Vec<Finding>, what: impl FnOnce() -> String) -> Vec<Finding> {
    if found.is_empty() {
        found.push(Finding::ok(what()));
    }
    found
}

/// Names with commas between them.
fn listed<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    items.join(", ")
}

/// The command that changes a setting.
fn sysctl(name: &str, value: i64) -> String {
    format!("sysctl -w {name}={value}")
}

#[cfg(test)]
mod tests;
