//! `[ebpf]`: settings of the packet plane.

use crate::fields::{Faults, Node};
use crate::schema;

/// Settings of the packet plane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packets {
    /// Interfaces that packets to services are taken at; empty for all that have Ethernet frames.
    pub interfaces: Vec<String>,
    /// Those at which they are taken by XDP, before the kernel makes packets of its own of them.
    pub xdp: Vec<String>,
    /// Flows of each address family that are remembered at most, 1000..=29 000 000; none goes by the
    /// host's memory.
    pub flows: Option<u64>,
}

impl Packets {
    /// The least number of flows.
    pub const MIN_FLOWS: u64 = 1000;
    /// The greatest number of flows: 2²² buckets of 7.
    pub const MAX_FLOWS: u64 = 29_000_000;
    /// The longest name of an interface, in bytes (`IFNAMSIZ` less its closing NUL).
    pub const MAX_NAME: usize = 15;
}

pub(crate) fn read(node: &Node<'_>, faults: &mut Faults) -> Packets {
    let mut packets = Packets::default();
    let Some(table) = node.table("one table, [ebpf] in single brackets", faults) else {
        return packets;
    };
    table.check_keys(schema::EBPF, faults);
    packets.interfaces = interfaces(table.get("interfaces"), faults);
    packets.xdp = interfaces(table.get("xdp"), faults);
    packets.flows = table.get("flows").and_then(|node| {
        let (min, max) = (Packets::MIN_FLOWS, Packets::MAX_FLOWS);
        node.integer(min.into(), max.into(), faults)
    });
    packets
}

fn interfaces(node: Option<Node<'_>>, faults: &mut Faults) -> Vec<String> {
    let items = node.map(|node| node.one_or_many(64, faults));
    let mut names = Vec::new();
    for item in items.unwrap_or_default() {
        let Some(name) = item.label(faults) else {
            continue;
        };
        let bad = |c: char| c.is_whitespace() || c == '/' || c == ':';
        if name.len() > Packets::MAX_NAME || name.contains(bad) || name == "." || name == ".." {
            let fault = item.fault(format!("{name:?} is no name of an interface"));
            faults.push(fault.expected("a name as `ip link` shows it, such as \"eth0\""));
        } else if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}
