//! XDP: one program for each interface.

use std::os::fd::{AsRawFd, RawFd};

use super::{Attached, Mode};
use crate::sys::bpf::links;
use crate::sys::net::{LINK_HEADER, link_header};
use crate::sys::netlink::{NESTED, Nested, Netlink, Request, attributes, u32_at};
use crate::sys::{Error, Program, Result};

const RTM_SETLINK: u16 = 19;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_FD: u16 = 1;
const IFLA_XDP_FLAGS: u16 = 3;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
const IFLA_XDP_SKB_PROG_ID: u16 = 6;
const IFLA_XDP_HW_PROG_ID: u16 = 7;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_EXPECTED_FD: u16 = 8;

const FLAG_IF_NONE: u32 = 1;
const FLAG_GENERIC: u32 = 1 << 1;
const FLAG_NATIVE: u32 = 1 << 2;
const FLAG_REPLACE: u32 = 1 << 4;

/// `BPF_LINK_TYPE_XDP`.
const LINK_XDP: u32 = 6;

/// How a program of ours is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver: the fast way. Not every driver can.
    #[default]
    Native,
    /// In the stack: works everywhere, and gains nothing over TC.
    Generic,
}

impl XdpMode {
    fn flag(self) -> u32 {
        match self {
            Self::Native => FLAG_NATIVE,
            Self::Generic => FLAG_GENERIC,
        }
    }

    fn mode(self) -> Mode {
        match self {
            Self::Native => Mode::Native,
            Self::Generic => Mode::Generic,
        }
    }
}

/// What is attached to XDP of this interface: nothing, one program, or one for each of several modes.
///
/// # Errors
/// [`Error::NoInterface`], or what the kernel says.
pub fn xdp(netlink: &mut Netlink, interface: u32) -> Result<Vec<Attached>> {
    let mut programs = Vec::new();
    netlink.about_link(interface, |message| {
        let nested = message
            .attributes(LINK_HEADER)
            .find(|(kind, _)| *kind == IFLA_XDP);
        let Some((_, nested)) = nested else {
            return;
        };
        programs = modes(nested);
    })?;
    if programs.is_empty() {
        return Ok(Vec::new());
    }
    // Who may not look at links gets no program's name either, and so takes nothing for ours.
    let links = links().unwrap_or_default();
    let attached = programs.into_iter().map(|(mode, id)| {
        let link = links.iter().find(|link| {
            link.kind == LINK_XDP && link.interface == interface && link.program == id
        });
        Attached::new(mode, id, link.map(|link| link.id))
    });
    Ok(attached.collect())
}

/// The programs in `IFLA_XDP`, by mode.
fn modes(nested: &[u8]) -> Vec<(Mode, u32)> {
    let mut only = None;
    let mut attached = 0;
    let mut programs = Vec::new();
    for (kind, value) in attributes(nested) {
        let id = u32_at(value, 0);
        match kind {
            IFLA_XDP_ATTACHED => attached = value.first().copied().unwrap_or_default(),
            IFLA_XDP_PROG_ID => only = id,
            IFLA_XDP_DRV_PROG_ID => programs.extend(id.map(|id| (Mode::Native, id))),
            IFLA_XDP_SKB_PROG_ID => programs.extend(id.map(|id| (Mode::Generic, id))),
            IFLA_XDP_HW_PROG_ID => programs.extend(id.map(|id| (Mode::Offloaded, id))),
            _ => {}
        }
    }
    if programs.is_empty() {
        let mode = match attached {
            1 => Some(Mode::Native),
            2 => Some(Mode::Generic),
            3 => Some(Mode::Offloaded),
            _ => None,
        };
        programs.extend(mode.zip(only));
    }
    programs
}

/// Attaches a program to XDP of this interface. One of ours that is there is replaced, in the same mode
/// without a packet in between that meets none; to change the mode, the old one goes first.
///
/// # Errors
/// [`Error::Foreign`] if somebody else's is there; what the kernel says, for example that the driver has
/// no native mode.
pub fn attach_xdp(
    netlink: &mut Netlink,
    interface: u32,
    program: &Program,
    mode: XdpMode,
) -> Result<()> {
    let attached = xdp(netlink, interface)?;
    if let Some(foreign) = attached.iter().find(|attached| !attached.is_ours()) {
        return Err(refused(netlink, interface, foreign)?);
    }
    let mut there = None;
    for old in &attached {
        if old.mode == mode.mode() {
            there = Some(old);
        } else {
            remove(netlink, interface, old)?;
        }
    }
    let what = format!(
        "attaching program {} to XDP of interface {interface} in {} mode",
        program.name(),
        mode.mode()
    );
    let Some(old) = there else {
        let nested = set(program.fd().as_raw_fd(), mode.flag() | FLAG_IF_NONE);
        return netlink.change(&what, request(interface, &nested));
    };
    if old.id == program.id() {
        return Ok(());
    }
    let expected = Program::from_id(old.id)?;
    let nested = set(program.fd().as_raw_fd(), mode.flag() | FLAG_REPLACE).with(
        IFLA_XDP_EXPECTED_FD,
        &expected.fd().as_raw_fd().to_ne_bytes(),
    );
    netlink.change(&what, request(interface, &nested))
}

/// Detaches what is ours from XDP of this interface; false if there was nothing.
///
/// # Errors
/// What the kernel says.
pub fn detach_xdp(netlink: &mut Netlink, interface: u32) -> Result<bool> {
    let attached = xdp(netlink, interface)?;
    let mut any = false;
    for ours in attached.iter().filter(|attached| attached.is_ours()) {
        remove(netlink, interface, ours)?;
        any = true;
    }
    Ok(any)
}

/// Detaches exactly this program.
fn remove(netlink: &mut Netlink, interface: u32, old: &Attached) -> Result<()> {
    let flag = match old.mode {
        Mode::Generic => FLAG_GENERIC,
        _ => FLAG_NATIVE,
    };
    let expected = Program::from_id(old.id)?;
    let nested = set(-1, flag | FLAG_REPLACE).with(
        IFLA_XDP_EXPECTED_FD,
        &expected.fd().as_raw_fd().to_ne_bytes(),
    );
    let what = format!(
        "detaching program {} from XDP of interface {interface}",
        old.name
    );
    netlink.change(&what, request(interface, &nested))
}

/// A program for XDP; -1 for none.
fn set(fd: RawFd, flags: u32) -> Nested {
    Nested::default()
        .with(IFLA_XDP_FD, &fd.to_ne_bytes())
        .with(IFLA_XDP_FLAGS, &flags.to_ne_bytes())
}

fn request(interface: u32, nested: &Nested) -> Request {
    Request::new(RTM_SETLINK, 0, &link_header(interface)).with(IFLA_XDP | NESTED, nested.bytes())
}

/// The error for a program that is not ours.
fn refused(netlink: &mut Netlink, interface: u32, foreign: &Attached) -> Result<Error> {
    let name = netlink.link(interface)?.name;
    let (mode, advice) = match foreign.link {
        Some(link) => (
            format!("{}, held by link {link}", foreign.mode),
            "stop the program that holds it, or let plimsoll use TC on this interface".to_owned(),
        ),
        None => (
            foreign.mode.to_string(),
            format!(
                "detach it with `ip link set dev {name} {} off`, or let plimsoll use TC on this interface",
                match foreign.mode {
                    Mode::Generic => "xdpgeneric",
                    Mode::Offloaded => "xdpoffload",
                    _ => "xdp",
                }
            ),
        ),
    };
    Ok(Error::Foreign {
        hook: "XDP",
        interface: name,
        id: foreign.id,
        name: foreign.name.clone(),
        mode,
        advice,
    })
}
