//! The program that lets TCP announce smaller segments: loaded, attached, found again.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use super::program::{ADVICE, ETHERNET, key, lacks};
use super::{CLAMP, Error, Result};
use crate::sys::hooks::{Side, TcOptions, attach_tc, detach_tc, tc_at};
use crate::sys::net::Link;
use crate::sys::{Globals, Netlink, Object, Program};

/// Compiled from `bpf/mss.c` by `scripts/bpf`.
const OBJECT: &[u8] = include_bytes!("../../objects/mss.o");

/// Attaches the program, in the place of one that is there already.
pub(super) fn attach(
    netlink: &mut Netlink,
    link: &Link,
    vips: &BTreeMap<IpAddr, u16>,
) -> Result<()> {
    let loaded = load(link, vips).map_err(Error::kernel(ADVICE))?;
    let out = TcOptions {
        side: Side::Egress,
        ..TcOptions::default()
    };
    let attached = attach_tc(netlink, link.index, &loaded, out);
    attached.map(drop).map_err(Error::kernel(ADVICE))
}

fn load(link: &Link, vips: &BTreeMap<IpAddr, u16>) -> crate::sys::Result<Program> {
    let mut object = Object::parse(OBJECT)?;
    let maps = object.create_maps(&BTreeMap::new())?;
    let table = maps.get("vips").ok_or_else(|| lacks("map vips"))?;
    for (ip, mss) in vips {
        table.update(&key(ip), &u32::from(*mss).to_ne_bytes(), 0)?;
    }
    let header = if link.mac.is_some() { ETHERNET } else { 0 };
    let header = header.to_ne_bytes();
    let globals = Globals::from([("link_header", header.as_slice())]);
    let mut programs = object.load(&maps, &globals)?;
    programs.remove(CLAMP).ok_or_else(|| lacks(CLAMP))
}

/// Detaches it.
pub(super) fn detach(netlink: &mut Netlink, interface: u32) -> Result<bool> {
    detach_tc(netlink, interface, CLAMP).map_err(Error::kernel(ADVICE))
}

/// What VIPs may announce at this interface; none if there is no program.
pub(super) fn vips(netlink: &mut Netlink, interface: u32) -> Result<Option<BTreeMap<IpAddr, u16>>> {
    let all = tc_at(netlink, interface, Side::Egress)?;
    let attached = all.iter().find(|one| one.is_ours() && one.name == CLAMP);
    let Some(attached) = attached else {
        return Ok(None);
    };
    let mut vips = BTreeMap::new();
    for map in Program::from_id(attached.id)?.maps()? {
        if map.name() == "vips" {
            map.for_each(|key, value| {
                if let (Ok(ip), Ok(mss)) = (<[u8; 16]>::try_from(key), <[u8; 4]>::try_from(value)) {
                    let mss = u16::try_from(u32::from_ne_bytes(mss)).unwrap_or(u16::MAX);
                    vips.insert(Ipv6Addr::from(ip).to_canonical(), mss);
                }
            })?;
        }
    }
    Ok(Some(vips))
}
