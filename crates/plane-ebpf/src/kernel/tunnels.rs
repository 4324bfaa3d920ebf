//! Where packets in tunnels come from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::layout::{Addr, Config};

/// Networks of source addresses that outer headers get, another one for each flow. Without one it is
/// the director's own address towards the backend, which receivers share out to one core only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunnelSources {
    /// Of IPv4: a network and the length of its prefix, 0..=32.
    pub v4: Option<(Ipv4Addr, u8)>,
    /// Of IPv6: a network whose prefix has 96 bits at most; the last 32 bits are the flow's.
    pub v6: Option<Ipv6Addr>,
}

impl Config {
    /// Lets outer headers have these source addresses.
    pub fn set_tunnel_sources(&mut self, sources: TunnelSources) {
        (self.tunnel4, self.host4) = match sources.v4 {
            Some((network, prefix)) => {
                let host = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
                let network = u32::from(network) & !host;
                (network.to_be_bytes(), host.to_be_bytes())
            }
            None => Default::default(),
        };
        self.tunnel6 = sources
            .v6
            .map_or_else(Addr::default, |v6| IpAddr::from(v6).into());
    }
}
