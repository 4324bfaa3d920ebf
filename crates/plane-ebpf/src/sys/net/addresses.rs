//! Addresses of interfaces.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};

use super::{address, family, octets};
use crate::sys::Result;
use crate::sys::netlink::{Message, NESTED, Nested, Netlink, Request, u32_at};

pub(super) const RTM_NEWADDR: u16 = 20;
pub(super) const RTM_DELADDR: u16 = 21;
pub(super) const RTM_GETADDR: u16 = 22;
/// Bytes of `struct ifaddrmsg`.
pub(super) const HEADER: usize = 8;

const RTM_SETLINK: u16 = 19;
const IFLA_AF_SPEC: u16 = 26;
const AF_INET: u16 = 2;
const IFLA_INET_CONF: u16 = 1;
/// `IPV4_DEVCONF_PROMOTE_SECONDARIES` of linux/ip.h.
const PROMOTE_SECONDARIES: u16 = 20;

pub(super) const IFA_ADDRESS: u16 = 1;
pub(super) const IFA_LOCAL: u16 = 2;
pub(super) const IFA_FLAGS: u16 = 8;
/// Not asked whether somebody else has it (duplicate address detection): a VIP is on many hosts.
pub(super) const IFA_F_NODAD: u32 = 0x02;
pub(super) const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_HOST: u8 = 254;

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The index of the interface.
    pub interface: u32,
    /// The address.
    pub ip: IpAddr,
    /// Bits of its network: 0 to 32 or 128.
    pub prefix: u8,
}

pub(super) fn header(of: &Address, scope: u8) -> Vec<u8> {
    let mut header = vec![family(of.ip), of.prefix, 0, scope];
    header.extend(of.interface.to_ne_bytes());
    header
}

/// Reads a message about an address.
pub(super) fn read_address(message: Message<'_>) -> Option<Address> {
    let mut found = None;
    for (kind, value) in message.attributes(HEADER) {
        match kind {
            // With a peer, IFA_ADDRESS is the peer's.
            IFA_LOCAL => found = address(value),
            IFA_ADDRESS => found = found.or_else(|| address(value)),
            _ => {}
        }
    }
    Some(Address {
        interface: u32_at(message.body, 4)?,
        ip: found?,
        prefix: *message.body.get(1)?,
    })
}

impl Netlink {
    /// The addresses of all interfaces, or of one.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn addresses(&mut self, interface: Option<u32>) -> Result<Vec<Address>> {
        let request = Request::new(RTM_GETADDR, 0, &[0; HEADER]);
        let mut all = self.list("listing addresses", &request, |message| {
            (message.kind == RTM_NEWADDR).then(|| read_address(message))?
        })?;
        all.retain(|address| interface.is_none_or(|index| index == address.interface));
        Ok(all)
    }

    /// Adds an address, usable at once; false if it was there.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn add_address(&mut self, new: &Address) -> Result<bool> {
        let scope = if new.ip.is_loopback() {
            SCOPE_HOST
        } else {
            SCOPE_UNIVERSE
        };
        let ip = octets(&new.ip);
        let request = Request::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &header(new, scope))
            .with(IFA_LOCAL, &ip)
            .with(IFA_ADDRESS, &ip)
            .with(IFA_FLAGS, &IFA_F_NODAD.to_ne_bytes());
        let what = format!("adding address {}/{}", new.ip, new.prefix);
        match self.change(&what, request) {
            Err(error) if error.errno() == Some(libc::EEXIST) => Ok(false),
            done => done.map(|()| true),
        }
    }

    /// Whether the other IPv4 addresses of a network stay at an interface when the first of them is deleted
    /// (sysctl `promote_secondaries`). Needs no right to write below `/proc/sys`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn promote_secondaries(&mut self, interface: u32, on: bool) -> Result<()> {
        let value = u32::from(on).to_ne_bytes();
        let conf = Nested::default().with(PROMOTE_SECONDARIES, &value);
        let inet = Nested::default().with(IFLA_INET_CONF | NESTED, conf.bytes());
        let spec = Nested::default().with(AF_INET | NESTED, inet.bytes());
        let request = Request::new(RTM_SETLINK, 0, &super::links::link_header(interface))
            .with(IFLA_AF_SPEC | NESTED, spec.bytes());
        self.change(
            &format!("setting promote_secondaries of interface {interface}"),
            request,
        )
    }

    /// Deletes an address; false if it was not there with this length of its network.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn delete_address(&mut self, old: &Address) -> Result<bool> {
        let ip = octets(&old.ip);
        // Of IPv4 addresses the kernel compares the length with IFA_ADDRESS only (inet_rtm_deladdr).
        let request = Request::new(RTM_DELADDR, 0, &header(old, SCOPE_UNIVERSE))
            .with(IFA_LOCAL, &ip)
            .with(IFA_ADDRESS, &ip);
        let what = format!("deleting address {}/{}", old.ip, old.prefix);
        match self.change(&what, request) {
            Err(error) if error.errno() == Some(libc::EADDRNOTAVAIL) => Ok(false),
            done => done.map(|()| true),
        }
    }
}
