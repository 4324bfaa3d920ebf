//! Where programs are attached to an interface, and ours among them.
//!
//! Ours are attached without links and without pins: they stay when the process ends, and go with the
//! interface. They are known by their names ([`PREFIX`]). Everything here means the network namespace of
//! the calling thread, which must be that of the [`Netlink`] socket.

mod clsact;
mod tc;
mod xdp;

pub use tc::{TcOptions, TcWay, attach_tc, attach_tc_before, detach_tc, detach_tc_one, tc, tc_at};
pub use xdp::{XdpMode, attach_xdp, detach_xdp, xdp};

use std::fmt;

use super::net::Link;
use super::{Netlink, PREFIX, Program, Result};

/// How a program is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// XDP, in the driver.
    Native,
    /// XDP, in the stack, after the driver made a packet of it.
    Generic,
    /// XDP, in the network card.
    Offloaded,
    /// TC ingress, in the chain of programs (since Linux 6.6).
    Tcx,
    /// TC ingress, as a filter.
    Filter(Filter),
}

/// A filter at the ingress of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// What classifies: `bpf`, `matchall`, `flower`, …
    pub kind: String,
    /// The lowest comes first.
    pub priority: u16,
    /// Its number among those of this priority.
    pub handle: u32,
    /// The EtherType it is for; 3 is any.
    pub protocol: u16,
    /// The chain it is in; packets begin in 0.
    pub chain: u32,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Native => f.write_str("native"),
            Self::Generic => f.write_str("generic"),
            Self::Offloaded => f.write_str("offloaded"),
            Self::Tcx => f.write_str("tcx"),
            Self::Filter(filter) => write!(
                f,
                "{} filter, priority {}, handle {:#x}",
                filter.kind, filter.priority, filter.handle
            ),
        }
    }
}

/// Packets on which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Side {
    /// Those that come in.
    #[default]
    Ingress,
    /// Those that go out.
    Egress,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "TC ingress",
            Self::Egress => "TC egress",
        })
    }
}

/// What is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// How.
    pub mode: Mode,
    /// The program's id; 0 for a filter that is no program.
    pub id: u32,
    /// The program's name; empty if it has none, or CAP_SYS_ADMIN is missing to read it.
    pub name: String,
    /// The id of the link that holds it (`bpf_link`): only who has the link can replace or detach it.
    pub link: Option<u32>,
}

impl Attached {
    /// Whether it is ours: by its name, and held by no link.
    pub fn is_ours(&self) -> bool {
        self.name.starts_with(PREFIX) && self.link.is_none()
    }

    fn new(mode: Mode, id: u32, link: Option<u32>) -> Self {
        Self {
            mode,
            id,
            name: name_of(id),
            link,
        }
    }
}

/// Puts a program in the place of one of ours that is attached to this interface: that of these two which has
/// its name. Nothing is done if neither has.
///
/// # Errors
/// What the kernel says.
pub fn replace(
    netlink: &mut Netlink,
    interface: u32,
    old: &Attached,
    by: [&Program; 2],
) -> Result<()> {
    let Some(program) = by.into_iter().find(|program| program.name() == old.name) else {
        return Ok(());
    };
    let mode = match old.mode {
        Mode::Tcx | Mode::Filter(_) => {
            return attach_tc(netlink, interface, program, TcOptions::default()).map(drop);
        }
        Mode::Generic => XdpMode::Generic,
        Mode::Native | Mode::Offloaded => XdpMode::Native,
    };
    attach_xdp(netlink, interface, program, mode)
}

/// The name of a program; empty if it cannot be read.
fn name_of(id: u32) -> String {
    if id == 0 {
        return String::new();
    }
    Program::from_id(id).map_or_else(|_| String::new(), |program| program.name().to_owned())
}

/// All that is attached to XDP and TC ingress of all interfaces of the namespace and is ours.
///
/// # Errors
/// What the kernel says.
pub fn ours(netlink: &mut Netlink) -> Result<Vec<(Link, Attached)>> {
    let mut found = Vec::new();
    for link in netlink.links()? {
        let mut here = xdp(netlink, link.index)?;
        here.extend(tc(netlink, link.index)?);
        let ours = here.into_iter().filter(Attached::is_ours);
        found.extend(ours.map(|attached| (link.clone(), attached)));
    }
    Ok(found)
}
