//! Links, addresses, neighbours and routes of a network namespace.
//!
//! All of it asks the kernel through a [`Netlink`](super::Netlink) socket, and means the namespace of that socket.

mod addresses;
mod frames;
mod links;
mod marked;
mod monitor;
mod neighbours;
mod offloads;
mod routes;

pub use addresses::Address;
pub use frames::FrameSocket;
pub use links::Link;
pub(in crate::sys) use links::{LINK_HEADER, link_header};
pub use marked::Marked;
pub use monitor::{Change, Monitor};
pub use neighbours::{Neighbour, NeighbourState};
pub use offloads::large_receive;
pub use routes::{Route, RouteKind};

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address of the link layer.
pub type Mac = [u8; 6];

/// The kernel's number for a family of addresses (`AF_INET`, `AF_INET6`).
fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { 2 } else { 10 }
}

/// The bytes of an address.
fn octets(address: &IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// An address from its bytes; none if there are neither 4 nor 16.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).into());
    }
    let v6 = <[u8; 16]>::try_from(bytes).ok()?;
    Some(Ipv6Addr::from(v6).into())
}

/// A link-layer address of Ethernet's length.
fn mac(bytes: &[u8]) -> Option<Mac> {
    bytes.try_into().ok()
}
