//! Addresses that a service brings along.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::Serialize;

use crate::{Interface, Invalid, Listen, ServiceSpec};

/// An address that clients connect to and that this host is to have while the service is there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Vip {
    /// The address and the length of its network.
    pub address: VipAddress,
    /// Where it is added and announced.
    pub interface: Interface,
}

impl fmt::Display for Vip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.address, self.interface)
    }
}

/// An address with the length of its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct VipAddress {
    /// The address.
    pub ip: IpAddr,
    /// Bits of its network, 1..=32 or 1..=128; the greatest of them is the address alone.
    pub prefix: u8,
}

impl VipAddress {
    /// The address alone, without a network.
    pub fn alone(ip: IpAddr) -> Self {
        let prefix = whole(ip);
        Self { ip, prefix }
    }
}

/// Bits of an address.
fn whole(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

impl fmt::Display for VipAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

impl FromStr for VipAddress {
    type Err = Invalid;

    /// `203.0.113.9`, `203.0.113.9/24`, `2001:db8::9` or `2001:db8::9/64`.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = |why: String| {
            let expected = "expected an address such as 203.0.113.9, with its network's length if it is to \
                 have one (203.0.113.9/24)";
            Err(Invalid(format!("VIP {text:?}: {why}; {expected}")))
        };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let Ok(ip) = address.parse::<IpAddr>() else {
            return bad("it is no IP address".to_owned());
        };
        if let Some(why) = unfit(ip) {
            return bad(why);
        }
        let most = whole(ip);
        let prefix = match prefix.map(str::parse::<u8>) {
            None => most,
            Some(Ok(prefix)) if (1..=most).contains(&prefix) => prefix,
            Some(_) => return bad(format!("a network's length is 1 to {most} here")),
        };
        Ok(Self { ip, prefix })
    }
}

/// Why no host can have an address for clients.
fn unfit(ip: IpAddr) -> Option<String> {
    let mapped = matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    if mapped {
        return Some(format!(
            "it is an IPv4 address, {}: write it so",
            ip.to_canonical()
        ));
    }
    if ip.is_unspecified() || ip.is_multicast() || broadcast {
        return Some("no host can have it".to_owned());
    }
    let loopback = ip.is_loopback();
    loopback.then(|| "every host has it, and clients cannot reach it".to_owned())
}

/// Why clients of a service do not reach an address of it: none of its listens is there.
fn unused(vip: &Vip, listens: &[Listen]) -> bool {
    let ip = vip.address.ip;
    !listens.iter().any(|listen| match listen {
        Listen::Socket { ip: None, .. } => true,
        Listen::Socket { ip: Some(at), .. } => {
            *at == ip || at.is_unspecified() && at.is_ipv6() == ip.is_ipv6()
        }
        // What the mark is given to is not ours to know.
        Listen::Mark { .. } => true,
    })
}

impl ServiceSpec {
    /// What is wrong with the addresses it brings along: the first fault, by its place among them.
    pub fn fault_of_vips(&self) -> Option<(usize, String)> {
        let mut seen = BTreeSet::new();
        for (i, vip) in self.vips.iter().enumerate() {
            let ip = vip.address.ip;
            if !seen.insert(ip) {
                return Some((i, format!("VIP {ip} is in this service twice")));
            }
            if unused(vip, &self.listens) {
                let why = format!(
                    "no listen of this service has VIP {ip}: name it in one, or a wildcard of its family"
                );
                return Some((i, why));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Origin, Proto};

    fn service(listens: &[&str], vips: &[&str]) -> ServiceSpec {
        let listens = listens.iter().map(|l| l.parse().unwrap()).collect();
        let mut spec =
            ServiceSpec::new("web".parse().unwrap(), Origin::new("test", "web"), listens);
        spec.vips = vips
            .iter()
            .map(|address| Vip {
                address: address.parse().unwrap(),
                interface: "eth0".parse().unwrap(),
            })
            .collect();
        spec
    }

    #[test]
    fn addresses_are_read() {
        for (text, shown) in [
            ("203.0.113.9", "203.0.113.9/32"),
            ("203.0.113.9/24", "203.0.113.9/24"),
            ("2001:db8::9", "2001:db8::9/128"),
            ("2001:db8::9/64", "2001:db8::9/64"),
            ("fe80::9", "fe80::9/128"),
        ] {
            assert_eq!(text.parse::<VipAddress>().unwrap().to_string(), shown);
        }
        for (text, why) in [
            ("", "no IP address"),
            ("web", "no IP address"),
            ("203.0.113.9/0", "1 to 32"),
            ("203.0.113.9/33", "1 to 32"),
            ("2001:db8::9/129", "1 to 128"),
            ("203.0.113.9/", "1 to 32"),
            ("0.0.0.0", "no host"),
            ("255.255.255.255", "no host"),
            ("224.0.0.18", "no host"),
            ("127.0.0.1", "every host"),
            ("::1", "every host"),
            ("::ffff:203.0.113.9", "203.0.113.9: write it so"),
        ] {
            let error = text.parse::<VipAddress>().unwrap_err();
            assert!(error.0.contains(why), "{text}: {}", error.0);
        }
    }

    #[test]
    fn every_address_is_listened_on() {
        let fits = |listens: &[&str], vips: &[&str]| service(listens, vips).fault_of_vips();
        assert_eq!(fits(&["203.0.113.9:80/tcp"], &["203.0.113.9"]), None);
        assert_eq!(fits(&["0.0.0.0:80/tcp"], &["203.0.113.9/24"]), None);
        assert_eq!(fits(&["*:80/tcp"], &["203.0.113.9", "2001:db8::9"]), None);
        assert_eq!(fits(&["[2001:db8::9]:80/tcp"], &["2001:db8::9/64"]), None);
        let (at, why) = fits(&["203.0.113.9:80/tcp"], &["203.0.113.9", "203.0.113.10"]).unwrap();
        assert_eq!(at, 1);
        assert!(why.contains("no listen"), "{why}");
        assert!(fits(&["0.0.0.0:80/tcp"], &["2001:db8::9"]).is_some());
        assert!(fits(&[], &["203.0.113.9"]).is_some());
        let (_, why) = fits(&["*:80/tcp"], &["203.0.113.9", "203.0.113.9/24"]).unwrap();
        assert!(why.contains("twice"), "{why}");
    }

    #[test]
    fn a_spec_says_what_is_wrong() {
        let mut spec = service(&["203.0.113.9:80/tcp"], &["203.0.113.9"]);
        assert_eq!(spec.validate(), Ok(()));
        spec.listens = vec![Listen::socket(
            IpAddr::from([203, 0, 113, 1]),
            80,
            Proto::Tcp,
        )];
        let error = spec.validate().unwrap_err();
        assert!(error.0.contains("no listen"), "{}", error.0);
    }
}
