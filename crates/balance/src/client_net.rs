//! Clients that count as one: those that share the leading bits of their address.

use std::net::{IpAddr, Ipv6Addr};

use std::fmt;

/// The network of a client: its address with all bits beyond a prefix cleared.
///
/// IPv4 addresses are kept as IPv4-mapped ones, so that no IPv6 client can be taken for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientNet {
    bits: u128,
    prefix: u8,
}

/// Leading bits of an IPv4-mapped address.
const MAPPED: u8 = 96;

impl ClientNet {
    /// The network of `ip`: of `v4` leading bits (0..=32) for an IPv4 client, of `v6` (0..=128) for
    /// an IPv6 one. Longer prefixes are taken as whole addresses. An IPv4-mapped IPv6 address is an
    /// IPv4 client.
    pub fn of(ip: IpAddr, v4: u8, v6: u8) -> Self {
        let (bits, prefix) = match ip.to_canonical() {
            IpAddr::V4(ip) => (ip.to_ipv6_mapped().to_bits(), v4.min(32) + MAPPED),
            IpAddr::V6(ip) => (ip.to_bits(), v6.min(128)),
        };
        let cleared = u32::from(128 - prefix);
        let mask = u128::MAX.checked_shl(cleared).unwrap_or(0);
        Self {
            bits: bits & mask,
            prefix,
        }
    }
}

impl fmt::Display for ClientNet {
    /// An address, or a network such as `10.0.0.0/8` where the prefix is shorter.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = Ipv6Addr::from_bits(self.bits);
        match (ip.to_ipv4_mapped(), self.prefix) {
            (Some(v4), 128) => write!(f, "{v4}"),
            (Some(v4), prefix) if prefix >= MAPPED => write!(f, "{v4}/{}", prefix - MAPPED),
            (_, 128) => write!(f, "{ip}"),
            (_, prefix) => write!(f, "{ip}/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(ip: &str, v4: u8, v6: u8) -> String {
        ClientNet::of(ip.parse().unwrap(), v4, v6).to_string()
    }

    #[test]
    fn the_bits_beyond_the_prefix_do_not_count() {
        for (ip, v4, v6, wanted) in [
            ("10.1.2.3", 32, 64, "10.1.2.3"),
            ("10.1.2.3", 24, 64, "10.1.2.0/24"),
            ("10.1.2.3", 0, 64, "0.0.0.0/0"),
            ("::ffff:10.1.2.3", 16, 64, "10.1.0.0/16"),
            ("2001:db8:1:2:3::4", 32, 64, "2001:db8:1:2::/64"),
            ("2001:db8:1:2:3::4", 32, 128, "2001:db8:1:2:3::4"),
            ("2001:db8::1", 32, 0, "::/0"),
        ] {
            assert_eq!(net(ip, v4, v6), wanted);
        }
    }

    #[test]
    fn no_ipv6_client_is_taken_for_an_ipv4_one() {
        let v4 = ClientNet::of("0.0.0.0".parse().unwrap(), 0, 0);
        for prefix in 0..=128 {
            let v6 = ClientNet::of("::fffe:0:0".parse().unwrap(), 0, prefix);
            assert_ne!(v4, v6);
        }
    }
}
