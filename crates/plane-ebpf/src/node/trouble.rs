//! What is in the way of a node and is not plimsoll's to change.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use super::{Found, LOOPBACK, Target};

/// Something that keeps a node from serving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The interface is switched off.
    Down(String),
    /// IPv6 is switched off on the interface.
    WithoutV6(String),
    /// The VIP is on an interface of the link, too: it is answered for there.
    Elsewhere {
        /// The VIP.
        ip: IpAddr,
        /// The interface.
        interface: String,
    },
}

impl Trouble {
    /// Whether nothing can be done before it is mended.
    pub fn is_fatal(&self) -> bool {
        !matches!(self, Self::Elsewhere { .. })
    }

    /// The command that mends it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Down(interface) => format!("ip link set {interface} up"),
            Self::WithoutV6(interface) => {
                format!("sysctl -w net/ipv6/conf/{interface}/disable_ipv6=0")
            }
            Self::Elsewhere { ip, interface } => {
                let prefix = if ip.is_ipv4() { 32 } else { 128 };
                format!("ip address del {ip}/{prefix} dev {interface}")
            }
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down(interface) => write!(f, "{interface} is switched off"),
            Self::WithoutV6(interface) => write!(f, "IPv6 is switched off on {interface}"),
            Self::Elsewhere { ip, interface } => write!(
                f,
                "{ip} is an address of {interface}, which answers for it beside the director"
            ),
        }
    }
}

/// What is in the way of a target.
pub fn troubles(target: &Target, found: &Found) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    if target.vips.is_empty() {
        return troubles;
    }
    let needed: BTreeSet<&str> = std::iter::once(LOOPBACK)
        .chain(target.interfaces.keys().map(String::as_str))
        .collect();
    let v6 = target.vips.keys().any(IpAddr::is_ipv6);
    for name in needed {
        if found.down.contains(name) {
            troubles.push(Trouble::Down(name.to_owned()));
        }
        if v6 && found.without_v6.contains(name) {
            troubles.push(Trouble::WithoutV6(name.to_owned()));
        }
    }
    for (ip, interface) in &found.addresses {
        if interface != LOOPBACK && target.vips.contains_key(ip) {
            troubles.push(Trouble::Elsewhere {
                ip: *ip,
                interface: interface.clone(),
            });
        }
    }
    troubles
}
