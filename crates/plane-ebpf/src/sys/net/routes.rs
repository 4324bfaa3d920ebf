//! Routes: which way a packet would go.

use std::net::{IpAddr, Ipv6Addr};

use super::{address, family, octets};
use crate::sys::netlink::{Netlink, Request, attributes, u16_at, u32_at};
use crate::sys::{Error, Result};

pub(super) const RTM_NEWROUTE: u16 = 24;
pub(super) const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
/// Bytes of `struct rtmsg`.
const HEADER: usize = 12;

const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_VIA: u16 = 18;
const RTAX_MTU: u16 = 2;
const AF_INET6: u16 = 10;

/// What becomes of a packet (`RTN_…`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// It leaves by an interface.
    Unicast,
    /// It is for this host.
    Local,
    /// It is for everybody on the link, or for a group.
    Broadcast,
    /// It is thrown away, with or without an answer.
    Refused,
    /// Anything else, by the kernel's number.
    Other(u8),
}

/// The way of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// What becomes of it.
    pub kind: RouteKind,
    /// The index of the interface by which it leaves.
    pub interface: u32,
    /// The next hop; none if the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The source that the host itself would take.
    pub source: Option<IpAddr>,
    /// Bytes of a packet at most, where the route has a limit of its own.
    pub mtu: Option<u32>,
}

impl Netlink {
    /// The way of a packet to this destination, from the host itself or with this source; none if there is
    /// no route, or it is thrown away.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn route_to(&mut self, to: IpAddr, from: Option<IpAddr>) -> Result<Option<Route>> {
        let (dst, src) = (octets(&to), from.as_ref().map(octets));
        let bits = |bytes: &[u8]| u8::try_from(bytes.len() * 8).unwrap_or(u8::MAX);
        let mut header = [0; HEADER];
        let lengths = [family(to), bits(&dst), src.as_deref().map_or(0, bits)];
        for (place, value) in header.iter_mut().zip(lengths) {
            *place = value;
        }
        let request = Request::new(RTM_GETROUTE, 0, &header)
            .with(RTA_DST, &dst)
            .maybe(RTA_SRC, src.as_deref());
        let mut found = None;
        let asked = self.get(
            &format!("looking for a route to {to}"),
            request,
            |message| {
                if message.kind == RTM_NEWROUTE {
                    found = read(message.body);
                }
            },
        );
        match asked {
            Ok(()) => Ok(found),
            Err(error) if none(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Whether an error says that there is no way.
fn none(error: &Error) -> bool {
    let no_way = [
        libc::ENETUNREACH,
        libc::EHOSTUNREACH,
        libc::EACCES,
        libc::EINVAL,
    ];
    // EINVAL is what a route of type `blackhole` gives.
    error.errno().is_some_and(|errno| no_way.contains(&errno))
}

fn read(body: &[u8]) -> Option<Route> {
    let mut route = Route {
        kind: match *body.get(7)? {
            1 => RouteKind::Unicast,
            2 => RouteKind::Local,
            3..=5 => RouteKind::Broadcast,
            6..=9 => RouteKind::Refused,
            other => RouteKind::Other(other),
        },
        interface: 0,
        gateway: None,
        source: None,
        mtu: None,
    };
    for (kind, value) in attributes(body.get(HEADER..)?) {
        match kind {
            RTA_OIF => route.interface = u32_at(value, 0)?,
            RTA_GATEWAY => route.gateway = address(value),
            RTA_VIA => route.gateway = via(value),
            RTA_PREFSRC => route.source = address(value),
            RTA_METRICS => {
                let mtu = attributes(value).find(|(kind, _)| *kind == RTAX_MTU);
                route.mtu = mtu
                    .and_then(|(_, mtu)| u32_at(mtu, 0))
                    .filter(|mtu| *mtu != 0);
            }
            _ => {}
        }
    }
    Some(route)
}

/// A next hop of another family than the destination: its family, then the address (`struct rtvia`).
fn via(value: &[u8]) -> Option<IpAddr> {
    let bytes = value.get(2..)?;
    if u16_at(value, 0)? == AF_INET6 {
        let bytes: [u8; 16] = *bytes.first_chunk()?;
        return Some(Ipv6Addr::from(bytes).into());
    }
    address(bytes.get(..4)?)
}
