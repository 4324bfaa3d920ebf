//! The way of packets to a backend, in words.

use std::net::IpAddr;

use crate::layout::{self, Method, NEXTHOP_NEIGHBOUR, NEXTHOP_VALID, RESULT_FORWARDING_OFF};
use crate::sys::net::{Mac, Neighbour, NeighbourState, RouteKind};
use crate::sys::{Netlink, Result};

/// What the kernel's tables say of the way to an address now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// What becomes of a packet.
    pub kind: RouteKind,
    /// The interface by which it leaves.
    pub interface: String,
    /// The next hop: a router, or the address itself.
    pub hop: IpAddr,
    /// The link-layer address of that, once known.
    pub mac: Option<Mac>,
    /// What is known of that; none if nobody has asked yet.
    pub neighbour: Option<NeighbourState>,
    /// Bytes of a packet at most.
    pub mtu: u32,
}

impl Path {
    /// The way of a packet of this host to an address; none if there is no route.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn to(netlink: &mut Netlink, to: IpAddr) -> Result<Option<Self>> {
        let Some(route) = netlink.route_to(to, None)? else {
            return Ok(None);
        };
        let link = netlink.link(route.interface)?;
        let hop = route.gateway.unwrap_or(to);
        let neighbours = netlink.neighbours(Some(route.interface))?;
        let neighbour: Option<&Neighbour> = neighbours.iter().find(|known| known.ip == hop);
        Ok(Some(Self {
            kind: route.kind,
            interface: link.name,
            hop,
            mac: neighbour.and_then(|known| known.mac),
            neighbour: neighbour.map(|known| known.state),
            mtu: route.mtu.unwrap_or(link.mtu),
        }))
    }
}

/// How packets are brought to a backend, by its entry in the maps.
pub(crate) fn method(value: &layout::Backend) -> &'static str {
    match value.method {
        m if m == Method::Dr as u8 => "by direct routing",
        m if m == Method::Tunnel as u8 => "in a tunnel (IPIP)",
        m if m == Method::Nat as u8 => "by NAT",
        _ => "on this host",
    }
}

/// By which way: what the programs found lately, and what the kernel's tables say now.
pub(crate) fn words(live: &layout::Live, path: Option<&Path>) -> String {
    let [first, second] = live.hops;
    let used = if live.nexthop & 1 == 1 { second } else { first };
    if used.result == RESULT_FORWARDING_OFF {
        return "packets are dropped: forwarding is off on the interface by which they came".into();
    }
    let Some(path) = path else {
        return "packets are dropped: there is no route to it".into();
    };
    let mut text = format!("next hop {} by {}", path.hop, path.interface);
    let fresh = used.flags & (NEXTHOP_VALID | NEXTHOP_NEIGHBOUR) == NEXTHOP_VALID;
    match (fresh.then_some(used.dst).or(path.mac), path.neighbour) {
        (_, Some(NeighbourState::Failed)) if !fresh => text.push_str(", which does not answer"),
        (Some(mac), _) => text.push_str(&format!(", {}", colons(mac))),
        (None, _) => text.push_str(", its link-layer address not known yet"),
    }
    let mtu = match (fresh, used.mtu) {
        (true, mtu) if mtu != 0 => u32::from(mtu),
        _ => path.mtu,
    };
    text.push_str(&format!(", MTU {mtu}"));
    text
}

/// A link-layer address as people write it.
fn colons(mac: Mac) -> String {
    let bytes: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> Path {
        Path {
            kind: RouteKind::Unicast,
            interface: "eth0".to_owned(),
            hop: "10.0.0.1".parse().unwrap(),
            mac: Some([2, 0, 0, 0, 0, 9]),
            neighbour: Some(NeighbourState::Reachable),
            mtu: 1500,
        }
    }

    #[test]
    fn the_way_of_packets_is_what_programs_found_before_what_tables_say() {
        let mut live = layout::Live::default();
        assert_eq!(
            words(&live, Some(&path())),
            "next hop 10.0.0.1 by eth0, 02:00:00:00:00:09, MTU 1500"
        );
        live.hops[0].flags = NEXTHOP_VALID;
        live.hops[0].ifindex = 2;
        live.hops[0].dst = [2, 0, 0, 0, 0, 10];
        live.hops[0].mtu = 1400;
        assert_eq!(
            words(&live, Some(&path())),
            "next hop 10.0.0.1 by eth0, 02:00:00:00:00:0a, MTU 1400"
        );
    }

    #[test]
    fn what_is_in_the_way_is_said() {
        let mut live = layout::Live::default();
        let failed = Path {
            mac: None,
            neighbour: Some(NeighbourState::Failed),
            ..path()
        };
        assert!(words(&live, Some(&failed)).contains("does not answer"));
        let unknown = Path {
            mac: None,
            neighbour: None,
            ..path()
        };
        assert!(words(&live, Some(&unknown)).contains("not known yet"));
        assert!(words(&live, None).contains("no route"));
        live.hops[0].ifindex = 2;
        live.hops[0].result = RESULT_FORWARDING_OFF;
        assert!(words(&live, Some(&path())).contains("forwarding is off"));
    }
}
