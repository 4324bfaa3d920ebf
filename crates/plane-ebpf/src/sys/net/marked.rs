//! Addresses of interfaces that carry the mark of who added them.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};

use super::addresses::{
    HEADER, IFA_ADDRESS, IFA_F_NODAD, IFA_FLAGS, IFA_LOCAL, RTM_NEWADDR, SCOPE_UNIVERSE, header,
    read_address,
};
use super::{Address, octets};
use crate::sys::Result;
use crate::sys::netlink::{Message, Netlink, Request};

const IFA_CACHEINFO: u16 = 6;
/// Who added an address (since Linux 5.18).
const IFA_PROTO: u16 = 11;
const FOREVER: u32 = u32::MAX;

/// An address, and the number of who added it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Marked {
    /// The address.
    pub address: Address,
    /// What was said when it was added (`IFA_PROTO`); 0 where nothing was, and before Linux 5.18.
    pub mark: u8,
}

fn read_marked(message: Message<'_>) -> Option<Marked> {
    let address = read_address(message)?;
    let mut attributes = message.attributes(HEADER);
    let mark = attributes.find(|(kind, _)| *kind == IFA_PROTO);
    let mark = mark.and_then(|(_, value)| value.first().copied());
    Some(Marked {
        address,
        mark: mark.unwrap_or_default(),
    })
}

impl Netlink {
    /// The addresses of all interfaces with their marks.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn marked_addresses(&mut self) -> Result<Vec<Marked>> {
        let request = Request::new(super::addresses::RTM_GETADDR, 0, &[0; HEADER]);
        self.list("listing addresses", &request, |message| {
            (message.kind == RTM_NEWADDR).then(|| read_marked(message))?
        })
    }

    /// Adds an address for clients, usable at once, with a mark of who added it; false if it was there.
    /// An IPv6 one is never chosen as the source of what this host sends by itself, as keepalived does it:
    /// to a node with the same VIP that would be a packet from itself. Kernels before 5.18 take no note of
    /// the mark.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn add_marked_address(&mut self, new: &Marked) -> Result<bool> {
        let Marked { address, mark } = new;
        let ip = octets(&address.ip);
        let head = header(address, SCOPE_UNIVERSE);
        let mut request = Request::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &head)
            .with(IFA_LOCAL, &ip)
            .with(IFA_ADDRESS, &ip)
            .with(IFA_FLAGS, &IFA_F_NODAD.to_ne_bytes())
            .with(IFA_PROTO, &[*mark]);
        if address.ip.is_ipv6() {
            // `struct ifa_cacheinfo`: preferred for no time, valid for ever; the rest is the kernel's to say.
            let times: Vec<u8> = [0, FOREVER, 0, 0]
                .into_iter()
                .flat_map(u32::to_ne_bytes)
                .collect();
            request = request.with(IFA_CACHEINFO, &times);
        }
        let what = format!("adding address {}/{}", address.ip, address.prefix);
        match self.change(&what, request) {
            Err(error) if error.errno() == Some(libc::EEXIST) => Ok(false),
            done => done.map(|()| true),
        }
    }
}
