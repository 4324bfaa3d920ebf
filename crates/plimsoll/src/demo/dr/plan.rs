//! Who is there, with which address, and what is to be done for it. Pure.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The one who asks.
pub(super) const CLIENT: &str = "client";
/// The one who forwards.
pub(super) const DIRECTOR: &str = "director";
/// Those who serve.
pub(super) const NODES: [&str; 3] = ["one", "two", "three"];
/// All of them, and the last number of their addresses; the first is left to a gateway.
pub(super) const HOSTS: [(&str, u8); 5] = [
    (CLIENT, 2),
    (DIRECTOR, 3),
    ("one", 11),
    ("two", 12),
    ("three", 13),
];
/// The interface of each.
pub(super) const INTERFACE: &str = "eth0";
/// The service.
pub(super) const SERVICE: &str = "web";
/// Its port.
pub(super) const PORT: u16 = 80;
/// There are so many networks to choose from.
pub(super) const NETWORKS: u8 = 32;

/// The VIP, and the network that all are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    vip: IpAddr,
    /// Which of the networks.
    network: u8,
}

impl Plan {
    /// The first plan from this network on, in which the VIP is not in the network.
    pub(super) fn new(vip: IpAddr, network: u8) -> Self {
        let plan = Self { vip, network };
        let inside = match (plan.address(0), vip) {
            (IpAddr::V4(a), IpAddr::V4(b)) => a.octets()[..3] == b.octets()[..3],
            (IpAddr::V6(a), IpAddr::V6(b)) => a.segments()[..4] == b.segments()[..4],
            _ => false,
        };
        match inside {
            true => Self::new(vip, network + 1),
            false => plan,
        }
    }

    pub(super) fn vip(&self) -> IpAddr {
        self.vip
    }

    pub(super) fn network(&self) -> u8 {
        self.network
    }

    /// An address in the network.
    fn address(&self, number: u8) -> IpAddr {
        match self.vip {
            IpAddr::V4(_) => Ipv4Addr::new(10, 83, self.network, number).into(),
            // RFC 4193: nobody's but who chose it.
            IpAddr::V6(_) => {
                let (network, number) = (u16::from(self.network), u16::from(number));
                Ipv6Addr::new(0xfd70, 0x6c69, 0x6d73, network, 0, 0, 0, number).into()
            }
        }
    }

    /// The address of a host; that of nobody if there is no such host.
    pub(super) fn of(&self, host: &str) -> IpAddr {
        let found = HOSTS.iter().find(|(name, _)| *name == host);
        self.address(found.map_or(0, |(_, number)| *number))
    }

    /// Bits of the network's part of an address.
    pub(super) fn prefix(&self) -> u8 {
        if self.vip.is_ipv4() { 24 } else { 64 }
    }

    /// The network, such as 10.83.0.0/24.
    pub(super) fn subnet(&self) -> String {
        format!("{}/{}", self.address(0), self.prefix())
    }

    /// The VIP alone, such as 192.0.2.1/32.
    pub(super) fn alone(&self) -> String {
        let bits = if self.vip.is_ipv4() { 32 } else { 128 };
        format!("{}/{bits}", self.vip)
    }

    /// What the client asks.
    pub(super) fn url(&self) -> String {
        match self.vip {
            IpAddr::V4(ip) => format!("http://{ip}/"),
            IpAddr::V6(ip) => format!("http://[{ip}]/"),
        }
    }

    /// What the director's settings have to be, with slashes.
    pub(super) fn director_settings(&self) -> Vec<(&'static str, u8)> {
        match self.vip {
            IpAddr::V4(_) => vec![
                ("net/ipv4/ip_forward", 1),
                ("net/ipv4/conf/all/send_redirects", 0),
                ("net/ipv4/conf/eth0/send_redirects", 0),
            ],
            IpAddr::V6(_) => vec![("net/ipv6/conf/all/forwarding", 1)],
        }
    }

    /// `ip` on the director.
    pub(super) fn director_address(&self) -> Vec<String> {
        let mut words = words("address add {} dev eth0", &self.alone());
        if self.vip.is_ipv6() {
            words.push("nodad".into());
        }
        words
    }

    /// `ip` on the client.
    pub(super) fn client_route(&self) -> Vec<String> {
        words("route add {} dev eth0", &self.alone())
    }

    /// The director's configuration.
    pub(super) fn config(&self) -> String {
        let listen = match self.vip {
            IpAddr::V4(ip) => format!("{ip}:{PORT}/tcp"),
            IpAddr::V6(ip) => format!("[{ip}]:{PORT}/tcp"),
        };
        let mut text = format!(
            "[ebpf]\nflows = 100_000\n\n[[service]]\nname = \"{SERVICE}\"\nlisten = \"{listen}\"\n\
             plane = \"ebpf\"\nscheduler = \"wrr\"\n\
             check = {{ kind = \"http\", path = \"/health\", interval = \"100ms\", timeout = \"500ms\", rise = 1, fall = 2 }}\n\
             backends = [\n"
        );
        for name in NODES {
            let ip = self.of(name);
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(
                text,
                "    {{ name = \"{name}\", address = \"{ip}\", forward = \"dr\" }},"
            );
        }
        text.push_str("]\n");
        text
    }

    /// Who is there and what makes it work, for people: `where_they_are` is a sentence, `file` the
    /// director's configuration.
    pub(super) fn explained(&self, where_they_are: &str, file: &str) -> String {
        let vip = self.vip;
        let mut text = format!("{where_they_are}\n\n");
        for (name, _) in HOSTS {
            let what = match name {
                CLIENT => format!("asks {}", self.url()),
                DIRECTOR => format!("has {vip}, forwards to the nodes"),
                _ => format!("serves {vip}, answers the client directly"),
            };
            let _ = writeln!(text, "  {name:<8}  {:<10}  {what}", self.of(name));
        }
        text.push_str("\nWhat makes it work, and would on hosts of yours:\n\n");
        for (name, value) in self.director_settings() {
            let name = name.replace('/', ".");
            let _ = writeln!(text, "  {DIRECTOR}# sysctl -w {name}={value}");
        }
        let _ = writeln!(
            text,
            "  {DIRECTOR}# ip {}",
            self.director_address().join(" ")
        );
        let _ = writeln!(text, "  {DIRECTOR}# plimsoll run --config {file}");
        for name in NODES {
            let _ = writeln!(text, "  {name}# plimsoll node --vip {vip}");
        }
        let _ = writeln!(text, "  {CLIENT}# ip {}", self.client_route().join(" "));
        let _ = writeln!(text, "\n{file}:\n");
        for line in self.config().lines() {
            let _ = writeln!(text, "  {line}");
        }
        text
    }
}

fn words(line: &str, with: &str) -> Vec<String> {
    let words = line.split(' ').map(|word| word.replace("{}", with));
    words.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(vip: &str) -> Plan {
        Plan::new(vip.parse().unwrap(), 0)
    }

    #[test]
    fn a_vip_is_never_in_the_network() {
        assert_eq!(plan("172.20.10.1").subnet(), "10.83.0.0/24");
        assert_eq!(plan("10.83.0.11").subnet(), "10.83.1.0/24");
        assert_eq!(plan("10.83.1.11").subnet(), "10.83.0.0/24");
        assert_eq!(plan("2001:db8::1").subnet(), "fd70:6c69:6d73::/64");
        assert_eq!(plan("fd70:6c69:6d73::3").subnet(), "fd70:6c69:6d73:1::/64");
    }

    #[test]
    fn configurations_are_valid() {
        for vip in ["172.20.10.1", "2001:db8::1"] {
            let config = plan(vip).config();
            let read = plimsoll_config::parse("dr.toml", &config).unwrap();
            assert_eq!(read.services.len(), 1, "{config}");
        }
    }

    #[test]
    fn what_is_explained() {
        let text = plan("172.20.10.1").explained("In network namespaces:", "/run/dr.toml");
        for part in [
            "In network namespaces:\n",
            "  one       10.83.0.11  serves 172.20.10.1",
            "  director# ip address add 172.20.10.1/32 dev eth0\n",
            "  director# sysctl -w net.ipv4.ip_forward=1\n",
            "  director# plimsoll run --config /run/dr.toml\n",
            "  two# plimsoll node --vip 172.20.10.1\n",
            "  client# ip route add 172.20.10.1/32 dev eth0\n",
            "  listen = \"172.20.10.1:80/tcp\"\n",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}
