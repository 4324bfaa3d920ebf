//! The program that unwraps: loaded, attached, found again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use super::{Error, PROGRAM, Result};
use crate::sys::hooks::{Attached, TcOptions, attach_tc, detach_tc, tc};
use crate::sys::net::Link;
use crate::sys::{Globals, Netlink, Object, Program};

/// Compiled from `bpf/node.c` by `scripts/bpf`.
const OBJECT: &[u8] = include_bytes!("../../objects/node.o");
/// Bytes of the header of Ethernet.
pub(super) const ETHERNET: u32 = 14;
pub(super) const ADVICE: &str = "a program in the kernel takes CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, and finding it again \
     CAP_SYS_ADMIN: run this as the host's root, or with --no-unwrap if the director forwards by direct \
     routing only";

/// What a program did, since it was attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that were unwrapped.
    pub unwrapped: u64,
    /// Packets that were dropped: congestion was told of on the way to somebody who does not know of
    /// such things (RFC 6040 §4.2).
    pub dropped_ecn: u64,
    /// Packets that were dropped: the kernel could not take the outer header away.
    pub dropped_failed: u64,
}

/// A VIP as the program looks it up.
pub(super) fn key(ip: &IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// Attaches the program, in the place of one that is there already.
pub(super) fn attach(netlink: &mut Netlink, link: &Link, vips: &BTreeSet<IpAddr>) -> Result<()> {
    let loaded = load(link, vips).map_err(Error::kernel(ADVICE))?;
    attach_tc(netlink, link.index, &loaded, TcOptions::default()).map_err(Error::kernel(ADVICE))?;
    Ok(())
}

fn load(link: &Link, vips: &BTreeSet<IpAddr>) -> crate::sys::Result<Program> {
    let mut object = Object::parse(OBJECT)?;
    let maps = object.create_maps(&BTreeMap::new())?;
    let table = maps.get("vips").ok_or_else(|| lacks("map vips"))?;
    for ip in vips {
        table.update(&key(ip), &1_u32.to_ne_bytes(), 0)?;
    }
    let header = if link.mac.is_some() { ETHERNET } else { 0 };
    let header = header.to_ne_bytes();
    let globals = Globals::from([("link_header", header.as_slice())]);
    let mut programs = object.load(&maps, &globals)?;
    programs.remove(PROGRAM).ok_or_else(|| lacks(PROGRAM))
}

pub(super) fn lacks(what: &str) -> crate::sys::Error {
    crate::sys::Error::Object(format!("it has no {what}"))
}

/// Detaches it.
pub(super) fn detach(netlink: &mut Netlink, interface: u32) -> Result<bool> {
    detach_tc(netlink, interface, PROGRAM).map_err(Error::kernel(ADVICE))
}

/// The program at the ingress of an interface, if it is there.
fn attached(netlink: &mut Netlink, interface: u32) -> Result<Option<Attached>> {
    let all = tc(netlink, interface)?;
    let ours = |one: &Attached| one.is_ours() && one.name == PROGRAM;
    Ok(all.into_iter().find(ours))
}

/// The VIPs that packets are unwrapped for at this interface; none if there is no program.
pub(super) fn vips(netlink: &mut Netlink, interface: u32) -> Result<Option<BTreeSet<IpAddr>>> {
    let Some(attached) = attached(netlink, interface)? else {
        return Ok(None);
    };
    let mut vips = BTreeSet::new();
    for map in Program::from_id(attached.id)?.maps()? {
        if map.name() == "vips" {
            map.for_each(|key, _| {
                if let Ok(bytes) = <[u8; 16]>::try_from(key) {
                    vips.insert(Ipv6Addr::from(bytes).to_canonical());
                }
            })?;
        }
    }
    Ok(Some(vips))
}

/// What the program at this interface did; none if there is no program.
pub(super) fn counts(netlink: &mut Netlink, interface: u32) -> Result<Option<Counts>> {
    let Some(attached) = attached(netlink, interface)? else {
        return Ok(None);
    };
    let maps = Program::from_id(attached.id)?.maps()?;
    let Some(map) = maps.iter().find(|map| map.name() == "counts") else {
        return Ok(None);
    };
    let mut sums = [0_u64; 3];
    for (place, sum) in (0_u32..).zip(&mut sums) {
        let values = map.lookup_per_cpu(&place.to_ne_bytes())?;
        *sum = values
            .iter()
            .flatten()
            .filter_map(|value| value.first_chunk())
            .map(|value| u64::from_ne_bytes(*value))
            .sum();
    }
    let [unwrapped, dropped_ecn, dropped_failed] = sums;
    Ok(Some(Counts {
        unwrapped,
        dropped_ecn,
        dropped_failed,
    }))
}
