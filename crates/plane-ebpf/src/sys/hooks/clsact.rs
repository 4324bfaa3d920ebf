//! Filters at the ingress and egress of an interface, and the queueing discipline they hang on (`clsact`).

use std::os::fd::AsRawFd;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};

use super::{Attached, Filter, Mode, Side};
use crate::sys::netlink::{NESTED, Nested, Netlink, Request, attributes, text, u32_at};
use crate::sys::{Program, Result};

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_GETQDISC: u16 = 38;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const RTM_GETTFILTER: u16 = 46;
/// Bytes of `struct tcmsg`.
const HEADER: usize = 20;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_CHAIN: u16 = 11;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_ID: u16 = 11;
/// What the program returns is what becomes of the packet (`direct-action`).
const ACT_DIRECT: u32 = 1;

/// `TC_H_CLSACT`, also `TC_H_INGRESS`: where `clsact` and the older `ingress` hang.
const PARENT: u32 = 0xffff_fff1;
const HANDLE: u32 = 0xffff_0000;
/// Within it, the filters of what comes in and what goes out.
const fn parent(side: Side) -> u32 {
    match side {
        Side::Ingress => 0xffff_fff2,
        Side::Egress => 0xffff_fff3,
    }
}

/// Priority of our filters: after those whose priority the kernel chose, which are below 0xc000.
pub(super) const PRIORITY: u16 = 0xc350;
/// `ETH_P_ALL`.
const ANY: u16 = 3;

fn header(interface: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    let mut header = vec![0; 4];
    for part in [interface, handle, parent, info] {
        header.extend(part.to_ne_bytes());
    }
    header
}

/// Priority and protocol, as the kernel packs them.
fn info(priority: u16, protocol: u16) -> u32 {
    (u32::from(priority) << 16) | u32::from(protocol.to_be())
}

/// The filters of one way, in their order.
pub(super) fn filters(netlink: &mut Netlink, interface: u32, side: Side) -> Result<Vec<Attached>> {
    let mut found = at(netlink, interface, parent(side))?;
    found.sort_by_key(|(filter, _)| (filter.chain, filter.priority));
    let attached = found.into_iter();
    Ok(attached
        .map(|(filter, id)| Attached::new(Mode::Filter(filter), id, None))
        .collect())
}

/// Filters with the ids of their programs.
fn at(netlink: &mut Netlink, interface: u32, parent: u32) -> Result<Vec<(Filter, u32)>> {
    let request = Request::new(RTM_GETTFILTER, 0, &header(interface, 0, parent, 0));
    netlink.list("listing filters", &request, |message| {
        let handle = u32_at(message.body, 8)?;
        // Each priority is told of once more by itself, without a handle.
        if message.kind != RTM_NEWTFILTER || handle == 0 {
            return None;
        }
        let packed = u32_at(message.body, 16)?;
        let mut id = 0;
        let mut filter = Filter {
            kind: String::new(),
            priority: u16::try_from(packed >> 16).ok()?,
            handle,
            protocol: u16::from_be(u16::try_from(packed & 0xffff).ok()?),
            chain: 0,
        };
        for (kind, value) in message.attributes(HEADER) {
            match kind {
                TCA_KIND => filter.kind = text(value),
                TCA_CHAIN => filter.chain = u32_at(value, 0)?,
                TCA_OPTIONS if filter.kind == "bpf" => {
                    let number = attributes(value).find(|(kind, _)| *kind == TCA_BPF_ID);
                    id = number.and_then(|(_, id)| u32_at(id, 0)).unwrap_or_default();
                }
                _ => {}
            }
        }
        Some((filter, id))
    })
}

/// What hangs at the ingress (`clsact`, `ingress`), if anything.
fn discipline(netlink: &mut Netlink, interface: u32) -> Result<Option<String>> {
    let request = Request::new(RTM_GETQDISC, 0, &header(interface, 0, 0, 0));
    let all = netlink.list("listing queueing disciplines", &request, |message| {
        let here = u32_at(message.body, 4)? == interface && u32_at(message.body, 12)? == PARENT;
        let mut kinds = message.attributes(HEADER);
        let (_, kind) = kinds.find(|(kind, _)| *kind == TCA_KIND)?;
        (message.kind == RTM_NEWQDISC && here).then(|| text(kind))
    })?;
    Ok(all.into_iter().next())
}

/// Adds a filter with this handle, or puts a program in the place of the one in it.
pub(super) fn put(
    netlink: &mut Netlink,
    interface: u32,
    side: Side,
    program: &Program,
    (handle, replace): (u32, bool),
) -> Result<()> {
    let what = format!(
        "attaching program {} as a filter to {side} of interface {interface}",
        program.name()
    );
    if discipline(netlink, interface)?.is_none() {
        let request = Request::new(
            RTM_NEWQDISC,
            NLM_F_CREATE | NLM_F_EXCL,
            &header(interface, HANDLE, PARENT, 0),
        )
        .with(TCA_KIND, b"clsact\0");
        match netlink.change(&what, request) {
            // Somebody was faster.
            Err(error) if error.errno() == Some(libc::EEXIST) => {}
            done => done?,
        }
    }
    let mut name = program.name().as_bytes().to_vec();
    name.push(0);
    let options = Nested::default()
        .with(TCA_BPF_FD, &program.fd().as_raw_fd().to_ne_bytes())
        .with(TCA_BPF_NAME, &name)
        .with(TCA_BPF_FLAGS, &ACT_DIRECT.to_ne_bytes());
    let flags = if replace {
        NLM_F_CREATE | NLM_F_REPLACE
    } else {
        NLM_F_CREATE | NLM_F_EXCL
    };
    let header = header(interface, handle, parent(side), info(PRIORITY, ANY));
    let request = Request::new(RTM_NEWTFILTER, flags, &header)
        .with(TCA_KIND, b"bpf\0")
        .with(TCA_OPTIONS | NESTED, options.bytes());
    netlink.change(&what, request)
}

/// Deletes a filter, and what it hangs on if that is `clsact` and nothing else hangs on it.
pub(super) fn delete(
    netlink: &mut Netlink,
    interface: u32,
    side: Side,
    filter: &Filter,
) -> Result<()> {
    let what = format!("deleting a filter of {side} of interface {interface}");
    let header_of_filter = header(
        interface,
        filter.handle,
        parent(side),
        info(filter.priority, filter.protocol),
    );
    let mut kind = filter.kind.clone().into_bytes();
    kind.push(0);
    let request = Request::new(RTM_DELTFILTER, 0, &header_of_filter)
        .with(TCA_KIND, &kind)
        .with(TCA_CHAIN, &filter.chain.to_ne_bytes());
    netlink.change(&what, request)?;
    for side in [Side::Ingress, Side::Egress] {
        if !at(netlink, interface, parent(side))?.is_empty() {
            return Ok(());
        }
    }
    if discipline(netlink, interface)?.as_deref() != Some("clsact") {
        return Ok(());
    }
    let request = Request::new(RTM_DELQDISC, 0, &header(interface, HANDLE, PARENT, 0))
        .with(TCA_KIND, b"clsact\0");
    netlink.change(&what, request)
}
