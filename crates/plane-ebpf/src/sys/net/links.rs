//! Interfaces.

use super::{Mac, mac};
use crate::sys::netlink::{Message, Netlink, Request, attributes, text, u32_at};
use crate::sys::{Error, Result};

pub(in crate::sys) const RTM_NEWLINK: u16 = 16;
pub(in crate::sys) const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
/// Bytes of `struct ifinfomsg`.
pub(in crate::sys) const LINK_HEADER: usize = 16;
const IFF_UP: u32 = 1;
const IFF_LOWER_UP: u32 = 1 << 16;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its address of the link layer; none where that is not Ethernet's.
    pub mac: Option<Mac>,
    /// Bytes of a packet at most, without the header of the link layer.
    pub mtu: u32,
    /// Whether it is switched on.
    pub up: bool,
    /// Whether there is something at its other end.
    pub carrier: bool,
    /// What it is (`veth`, `bridge`, `vlan`, …); nothing for hardware and loopback.
    pub kind: String,
    /// The index of the bridge, bond, … that it belongs to.
    pub master: Option<u32>,
    /// The index of what it is made on: of a `veth` its other end, maybe in another namespace.
    pub lower: Option<u32>,
}

/// The header of a request about an interface (`struct ifinfomsg`); 0 means any.
pub(in crate::sys) fn link_header(index: u32) -> [u8; LINK_HEADER] {
    let mut header = [0; LINK_HEADER];
    if let Some(place) = header.get_mut(4..8) {
        place.copy_from_slice(&index.to_ne_bytes());
    }
    header
}

/// Reads a message about an interface; none if it is one about a port of a bridge.
pub(super) fn read_link(message: Message<'_>) -> Option<Link> {
    if *message.body.first()? != 0 {
        return None;
    }
    let flags = u32_at(message.body, 8)?;
    let mut link = Link {
        index: u32_at(message.body, 4)?,
        name: String::new(),
        mac: None,
        mtu: 0,
        up: flags & IFF_UP != 0,
        carrier: flags & IFF_LOWER_UP != 0,
        kind: String::new(),
        master: None,
        lower: None,
    };
    for (kind, value) in message.attributes(LINK_HEADER) {
        match kind {
            IFLA_ADDRESS => link.mac = mac(value),
            IFLA_IFNAME => link.name = text(value),
            IFLA_MTU => link.mtu = u32_at(value, 0)?,
            IFLA_MASTER => link.master = u32_at(value, 0),
            IFLA_LINK => link.lower = u32_at(value, 0),
            IFLA_LINKINFO => {
                let kind = attributes(value).find(|(kind, _)| *kind == IFLA_INFO_KIND);
                link.kind = kind.map_or_else(String::new, |(_, kind)| text(kind));
            }
            _ => {}
        }
    }
    Some(link)
}

impl Netlink {
    /// All interfaces.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        let request = Request::new(RTM_GETLINK, 0, &link_header(0));
        self.list("listing interfaces", &request, |message| {
            (message.kind == RTM_NEWLINK).then(|| read_link(message))?
        })
    }

    /// The interface with this index.
    ///
    /// # Errors
    /// [`Error::NoInterface`], or what the kernel says.
    pub fn link(&mut self, index: u32) -> Result<Link> {
        let mut found = None;
        self.about_link(index, |message| found = read_link(message))?;
        found.ok_or_else(|| Error::NoInterface(index.to_string()))
    }

    /// The interface with this name.
    ///
    /// # Errors
    /// [`Error::NoInterface`], or what the kernel says.
    pub fn link_named(&mut self, name: &str) -> Result<Link> {
        let links = self.links()?;
        let found = links.into_iter().find(|link| link.name == name);
        found.ok_or_else(|| Error::NoInterface(name.to_owned()))
    }

    /// Reads the message about one interface.
    pub(in crate::sys) fn about_link(
        &mut self,
        index: u32,
        each: impl FnMut(Message<'_>),
    ) -> Result<()> {
        let request = Request::new(RTM_GETLINK, 0, &link_header(index));
        let done = self.get("reading about an interface", request, each);
        match done {
            Err(error) if error.errno() == Some(libc::ENODEV) || index == 0 => {
                Err(Error::NoInterface(index.to_string()))
            }
            done => done,
        }
    }
}
