//! Addresses of many networks, to be found quickly.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

/// The addresses of a list of networks. To look one up takes the logarithm of their number.
///
/// IPv4 addresses are kept as IPv4-mapped ones. An IPv6 network that has these in it, such as `::/0`,
/// has no IPv4 client in it all the same.
#[derive(Clone, Debug, Default)]
pub struct NetSet {
    v4: Ranges,
    v6: Ranges,
}

/// First and last addresses, in order and apart from each other.
#[derive(Clone, Debug, Default)]
struct Ranges(Box<[(u128, u128)]>);

impl Ranges {
    fn new(mut all: Vec<(u128, u128)>) -> Self {
        all.sort_unstable();
        let mut apart: Vec<(u128, u128)> = Vec::with_capacity(all.len());
        for (first, last) in all {
            match apart.last_mut() {
                Some((_, end)) if first <= *end => *end = last.max(*end),
                _ => apart.push((first, last)),
            }
        }
        Self(apart.into())
    }

    fn has(&self, bits: u128) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= bits);
        let before = after.checked_sub(1).and_then(|at| self.0.get(at));
        before.is_some_and(|(_, last)| bits <= *last)
    }
}

impl NetSet {
    /// The addresses of these networks.
    pub fn new(nets: &[IpNet]) -> Self {
        let of = |wanted: bool| {
            let nets = nets.iter().filter(|net| net.addr().is_ipv4() == wanted);
            Ranges::new(
                nets.map(|net| (bits(net.network()), bits(net.broadcast())))
                    .collect(),
            )
        };
        Self {
            v4: of(true),
            v6: of(false),
        }
    }

    /// Whether no address is in it.
    pub fn is_empty(&self) -> bool {
        self.v4.0.is_empty() && self.v6.0.is_empty()
    }

    /// Whether the address is in it. An IPv4-mapped IPv6 address is an IPv4 one.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let ranges = if ip.is_ipv4() { &self.v4 } else { &self.v6 };
        ranges.has(bits(ip))
    }
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// A network of IPv4-mapped IPv6 addresses as the IPv4 network that it is: `::ffff:10.0.0.0/104` is
/// `10.0.0.0/8`. All others as they are. Clients are known by their canonical addresses, so that the
/// mapped network would hold none of them.
pub fn canonical_net(net: IpNet) -> IpNet {
    let IpNet::V6(mapped) = net else {
        return net;
    };
    let ipv4 = mapped.addr().to_ipv4_mapped();
    let prefix = mapped.prefix_len().checked_sub(96);
    let found = ipv4
        .zip(prefix)
        .and_then(|(ip, prefix)| Ipv4Net::new(ip, prefix).ok());
    found.map_or(net, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use ipnet::{Ipv4Net, Ipv6Net};
    use proptest::prelude::*;

    use super::*;

    fn net() -> BoxedStrategy<IpNet> {
        // Few addresses, so that networks touch and hold each other.
        let v4 = (0..32_u32, 27..=32_u8).prop_map(|(host, prefix)| {
            let ip = Ipv4Addr::from_bits(0x0A00_0000 + host);
            IpNet::V4(Ipv4Net::new(ip, prefix).unwrap().trunc())
        });
        let v6 = (0..32_u128, 123..=128_u8).prop_map(|(host, prefix)| {
            let ip = Ipv6Addr::from_bits((0xFD00 << 112) + host);
            IpNet::V6(Ipv6Net::new(ip, prefix).unwrap().trunc())
        });
        let all = prop::sample::select(vec!["0.0.0.0/0", "::/0", "::ffff:0:0/96", "10.0.0.0/8"]);
        let all = all.prop_map(|net| net.parse().unwrap());
        prop_oneof![8 => v4, 8 => v6, 1 => all].boxed()
    }

    proptest! {
        #[test]
        fn what_is_in_one_of_the_networks_is_in_the_set(
            nets in prop::collection::vec(net(), 0..8),
        ) {
            let set = NetSet::new(&nets);
            prop_assert_eq!(set.is_empty(), nets.is_empty());
            for host in 0..40_u32 {
                let v4 = Ipv4Addr::from_bits(0x0A00_0000 + host);
                let v6 = Ipv6Addr::from_bits((0xFD00 << 112) + u128::from(host));
                for ip in [IpAddr::V4(v4), IpAddr::V6(v6)] {
                    let wanted = nets.iter().any(|net| net.contains(&ip));
                    prop_assert_eq!(set.contains(ip), wanted, "{} in {:?}", ip, nets);
                }
                let mapped = IpAddr::V6(v4.to_ipv6_mapped());
                prop_assert_eq!(set.contains(mapped), set.contains(v4.into()));
            }
        }
    }

    #[test]
    fn the_ends_of_the_address_spaces_are_in() {
        let set = NetSet::new(&["0.0.0.0/0".parse().unwrap()]);
        assert!(set.contains("255.255.255.255".parse().unwrap()));
        assert!(!set.contains("::1".parse().unwrap()));
        let set = NetSet::new(&["::/0".parse().unwrap()]);
        assert!(set.contains(Ipv6Addr::from_bits(u128::MAX).into()));
        assert!(!set.contains("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn a_mapped_network_is_one_of_ipv4() {
        for (said, meant) in [
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:192.0.2.7/128", "192.0.2.7/32"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            // More than the mapped ones.
            ("::ffff:0:0/95", "::ffff:0:0/95"),
            ("::/0", "::/0"),
            ("::/96", "::/96"),
            ("fd00::/104", "fd00::/104"),
            ("10.0.0.0/8", "10.0.0.0/8"),
        ] {
            let canonical = canonical_net(said.parse().unwrap());
            assert_eq!(canonical, meant.parse().unwrap(), "{said}");
        }
    }
}
