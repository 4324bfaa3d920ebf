//! Lists of networks.

use std::net::IpAddr;

use ipnet::IpNet;
use plimsoll_model::{ClientRules, canonical_net};

use crate::diagnostic::quote;
use crate::fields::{Faults, Node, Table};

/// The networks of one list at most.
const MAX: usize = ClientRules::MAX;

/// Which clients a service or a route serves.
pub(crate) fn clients(table: &Table<'_>, faults: &mut Faults) -> ClientRules {
    if let Some(node) = table.get("allow")
        && node.is_list()
        && node
            .items("a list", faults)
            .is_some_and(|items| items.is_empty())
    {
        // As an absent key it would let everybody in, which a template that found nobody does not mean.
        let fault = node.fault("the list is empty");
        faults.push(fault.expected("one network at least; everybody is served without `allow`"));
    }
    ClientRules {
        allow: list(table, "allow", faults),
        deny: list(table, "deny", faults),
    }
}

/// The networks that a key lists.
pub(crate) fn list(table: &Table<'_>, key: &str, faults: &mut Faults) -> Vec<IpNet> {
    let Some(node) = table.get(key) else {
        return Vec::new();
    };
    let nodes = node.one_or_many(MAX, faults);
    nodes
        .iter()
        .filter_map(|node| network(node, faults))
        .collect()
}

/// A network. One of IPv4-mapped addresses is that of IPv4.
pub(crate) fn network(node: &Node<'_>, faults: &mut Faults) -> Option<IpNet> {
    let expected = "a network (10.0.0.0/8, fd00::/8) or an address";
    let text = node.string(expected, faults)?;
    let single = || text.parse::<IpAddr>().ok().map(IpNet::from);
    let Some(net) = text.parse::<IpNet>().ok().or_else(single) else {
        let fault = node.fault(format!("`{}` is no network", quote(text)));
        faults.push(fault.expected(expected));
        return None;
    };
    if net != net.trunc() {
        let fault = node.fault(format!("{net} has bits set beyond its prefix"));
        faults.push(fault.expected(expected).nearest(Some(net.trunc())));
        return None;
    }
    Some(canonical_net(net))
}
