//! What is about packets: `[ebpf]`, and keys of services.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use plimsoll_model::{MidStream, Mss, PacketRules};

use crate::fields::{Faults, Node, Table};
use crate::networks;
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
    /// The network that outer headers of tunnels over IPv4 have their source addresses from, another
    /// one for each flow; its prefix has 8 to 30 bits. None is the director's own address.
    pub tunnel_source_v4: Option<Ipv4Net>,
    /// The same over IPv6; its prefix has 8 to 96 bits, and the last 32 bits are the flow's.
    pub tunnel_source_v6: Option<Ipv6Net>,
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
    if let Some(node) = table.get("tunnel-source") {
        for item in node.one_or_many(2, faults) {
            tunnel_source(&item, &mut packets, faults);
        }
    }
    packets
}

fn tunnel_source(node: &Node<'_>, packets: &mut Packets, faults: &mut Faults) {
    let expected = "a network such as 172.16.0.0/16 or fd00:6::/64, one of each family";
    let Some(net) = networks::network(node, faults) else {
        return;
    };
    let range = match net {
        IpNet::V4(_) => 8..=30,
        IpNet::V6(_) => 8..=96,
    };
    let ip = net.network();
    let link_local = matches!(net, IpNet::V6(net) if net.network().is_unicast_link_local());
    let class_e = matches!(net, IpNet::V4(net) if net.network().octets()[0] >= 240);
    let fault = if !range.contains(&net.prefix_len()) {
        let (first, last) = (range.start(), range.end());
        format!(
            "{net} has a prefix of {} bits: {first} to {last} leave room for flows",
            net.prefix_len()
        )
    } else if ip.is_multicast() || ip.is_loopback() || ip.is_unspecified() || link_local || class_e
    {
        format!("{net} has no addresses that packets can come from")
    } else {
        match net {
            IpNet::V4(net) if packets.tunnel_source_v4.is_none() => {
                packets.tunnel_source_v4 = Some(net);
                return;
            }
            IpNet::V6(net) if packets.tunnel_source_v6.is_none() => {
                packets.tunnel_source_v6 = Some(net);
                return;
            }
            _ => format!("{net} is the second of its family"),
        }
    };
    faults.push(node.fault(fault).expected(expected));
}

/// `mid-stream` and `mss` of a service.
pub(crate) fn of_service(table: &Table<'_>, faults: &mut Faults) -> PacketRules {
    let mid_stream = table.get("mid-stream");
    PacketRules {
        mid_stream: mid_stream.and_then(|node| node.word("mid-stream", &MidStream::NAMES, faults)),
        mss: table.get("mss").and_then(|node| mss(&node, faults)),
    }
}

fn mss(node: &Node<'_>, faults: &mut Faults) -> Option<Mss> {
    if node.is_integer() {
        let bytes = node.integer(Mss::MIN.into(), Mss::MAX.into(), faults)?;
        return Some(Mss::Bytes(bytes));
    }
    let expected = "\"fit\", or a number of bytes such as 1400";
    let text = node.string(expected, faults)?;
    match text {
        "fit" => Some(Mss::Fit),
        _ => {
            let nearest = text
                .parse::<u16>()
                .ok()
                .map_or_else(|| "\"fit\"".to_owned(), |n| n.to_string());
            let fault = node.fault(format!("{text:?} is no size of segments"));
            faults.push(fault.expected(expected).nearest(Some(nearest)));
            None
        }
    }
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
