//! Neighbours: who has which address on a link.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};

use super::{Mac, address, family, mac, octets};
use crate::sys::Result;
use crate::sys::netlink::{Message, Netlink, Request, u16_at, u32_at};

pub(super) const RTM_NEWNEIGH: u16 = 28;
pub(super) const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;
/// Bytes of `struct ndmsg`.
const HEADER: usize = 12;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_FLAGS_EXT: u16 = 15;
/// The kernel keeps the entry fresh by itself (since 5.16).
const NTF_EXT_MANAGED: u32 = 1;
/// The kernel resolves the entry now.
const NTF_USE: u8 = 1;
const NTF_PROXY: u8 = 1 << 3;
const NUD_NOARP: u16 = 0x40;
const NUD_PERMANENT: u16 = 0x80;

/// What the kernel knows of a neighbour (`NUD_…`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourState {
    /// Nothing yet.
    None,
    /// It is being asked for.
    Incomplete,
    /// It answered lately, or is there for good.
    Reachable,
    /// It answered once.
    Stale,
    /// It does not answer.
    Failed,
}

impl NeighbourState {
    fn from_bits(bits: u16) -> Self {
        match bits {
            0x01 => Self::Incomplete,
            // REACHABLE, NOARP, PERMANENT
            0x02 | 0x40 | 0x80 => Self::Reachable,
            // STALE, DELAY, PROBE
            0x04 | 0x08 | 0x10 => Self::Stale,
            0x20 => Self::Failed,
            _ => Self::None,
        }
    }

    /// Whether packets can be sent to it.
    pub fn usable(self) -> bool {
        matches!(self, Self::Reachable | Self::Stale)
    }
}

/// A neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The index of the interface.
    pub interface: u32,
    /// Its address.
    pub ip: IpAddr,
    /// Its address of the link layer, once known.
    pub mac: Option<Mac>,
    /// What is known of it.
    pub state: NeighbourState,
    /// Whether the kernel keeps it fresh by itself.
    pub managed: bool,
}

/// Reads a message about a neighbour; none if it is about what this host answers for, or about a port
/// of a bridge.
pub(super) fn read_neighbour(message: Message<'_>) -> Option<Neighbour> {
    let (mut ip, mut lladdr, mut managed) = (None, None, false);
    if !matches!(message.body.first()?, 2 | 10) || message.body.get(10)? & NTF_PROXY != 0 {
        return None;
    }
    for (kind, value) in message.attributes(HEADER) {
        match kind {
            NDA_DST => ip = address(value),
            NDA_LLADDR => lladdr = mac(value),
            NDA_FLAGS_EXT => managed = u32_at(value, 0)? & NTF_EXT_MANAGED != 0,
            _ => {}
        }
    }
    Some(Neighbour {
        interface: u32_at(message.body, 4)?,
        ip: ip?,
        mac: lladdr,
        state: NeighbourState::from_bits(u16_at(message.body, 8)?),
        managed,
    })
}

fn header(interface: u32, ip: IpAddr, flags: u8) -> Vec<u8> {
    let mut header = vec![family(ip), 0, 0, 0];
    header.extend(interface.to_ne_bytes());
    header.extend([0, 0, flags, 0]);
    header
}

impl Netlink {
    /// The neighbours on all links, or on one.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn neighbours(&mut self, interface: Option<u32>) -> Result<Vec<Neighbour>> {
        let request = Request::new(RTM_GETNEIGH, 0, &[0; HEADER]);
        let mut all = self.list("listing neighbours", &request, |message| {
            (message.kind == RTM_NEWNEIGH).then(|| read_neighbour(message))?
        })?;
        all.retain(|neighbour| interface.is_none_or(|index| index == neighbour.interface));
        Ok(all)
    }

    /// Has the kernel find a neighbour and keep it fresh by itself from now on. What is known of it stays
    /// known. False where the kernel cannot do that and only looks for it now: then this is to be said
    /// again from time to time. One that somebody has put there for good stays as it is.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn manage_neighbour(&mut self, interface: u32, ip: IpAddr) -> Result<bool> {
        let what = format!("having the kernel keep neighbour {ip}");
        if self.is_for_good(interface, ip)? {
            return Ok(true);
        }
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        let dst = octets(&ip);
        let managed = Request::new(RTM_NEWNEIGH, flags, &header(interface, ip, 0))
            .with(NDA_DST, &dst)
            .with(NDA_FLAGS_EXT, &NTF_EXT_MANAGED.to_ne_bytes());
        match self.change(&what, managed) {
            Err(error) if matches!(error.errno(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {}
            done => return done.map(|()| true),
        }
        let used =
            Request::new(RTM_NEWNEIGH, flags, &header(interface, ip, NTF_USE)).with(NDA_DST, &dst);
        self.change(&what, used).map(|()| false)
    }

    /// Whether somebody has said for good where this neighbour is.
    fn is_for_good(&mut self, interface: u32, ip: IpAddr) -> Result<bool> {
        let mut state = 0;
        let dst = octets(&ip);
        let request = Request::new(RTM_GETNEIGH, 0, &header(interface, ip, 0)).with(NDA_DST, &dst);
        let asked = self.get(&format!("looking at neighbour {ip}"), request, |message| {
            if message.kind == RTM_NEWNEIGH {
                state = u16_at(message.body, 8).unwrap_or_default();
            }
        });
        match asked {
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(false),
            done => done.map(|()| state & (NUD_NOARP | NUD_PERMANENT) != 0),
        }
    }

    /// Deletes a neighbour; false if there was none.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn delete_neighbour(&mut self, interface: u32, ip: IpAddr) -> Result<bool> {
        let request =
            Request::new(RTM_DELNEIGH, 0, &header(interface, ip, 0)).with(NDA_DST, &octets(&ip));
        match self.change(&format!("deleting neighbour {ip}"), request) {
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(false),
            done => done.map(|()| true),
        }
    }
}
