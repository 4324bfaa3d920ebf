//! Looks at what is there, in the network namespace of the calling thread.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Error, Found, LOOPBACK, Result, clamp, program, sysctl};
use crate::sys::Netlink;
use crate::sys::net::Link;

/// Nobody has them (RFC 5737, RFC 3849), so their way is the way to everybody.
const ANYBODY: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// The path of a setting by its name with slashes. What is below `net` is that of the namespace of the
/// thread that opens it.
pub(super) fn setting_path(name: &str) -> String {
    format!("/proc/sys/{name}")
}

/// Reads a setting; none if the kernel has no such thing.
pub(super) fn setting(name: &str) -> Result<Option<i32>> {
    let path = setting_path(name);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().parse().ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file(path)(error)),
    }
}

/// All that matters.
pub(super) fn found(netlink: &mut Netlink) -> Result<Found> {
    let links = netlink.links()?;
    let mut found = Found::default();
    for address in netlink.addresses(None)? {
        let link = links.iter().find(|link| link.index == address.interface);
        if let Some(link) = link {
            found.addresses.insert((address.ip, link.name.clone()));
        }
    }
    let names: Vec<String> = links.iter().map(|link| link.name.clone()).collect();
    for setting in sysctl::all(&names) {
        let name = setting.name();
        if let Some(value) = self::setting(&name)? {
            found.settings.insert(name, value);
        }
    }
    for link in &links {
        found.links.insert(link.name.clone());
        if !link.up {
            found.down.insert(link.name.clone());
        }
        if setting(&format!("net/ipv6/conf/{}/disable_ipv6", link.name))? != Some(0) {
            found.without_v6.insert(link.name.clone());
        }
        // Who may not list programs has none there either, and is told when there is one to attach.
        if let Ok(Some(vips)) = program::vips(netlink, link.index) {
            found.programs.insert(link.name.clone(), vips);
        }
        if let Ok(Some(vips)) = clamp::vips(netlink, link.index) {
            found.clamps.insert(link.name.clone(), vips);
        }
    }
    Ok(found)
}

/// The interfaces by which packets come: those that are named, else those of the default routes, else the
/// only one there is.
pub(super) fn interfaces(netlink: &mut Netlink, named: &[String]) -> Result<Vec<String>> {
    let links = netlink.links()?;
    if !named.is_empty() {
        for name in named {
            if name == LOOPBACK {
                return Err(Error::Trouble(format!(
                    "{LOOPBACK} is where VIPs are put, not where packets come in: name another interface"
                )));
            }
            if !links.iter().any(|link| link.name == *name) {
                let others = others(&links);
                return Err(Error::Trouble(format!(
                    "there is no interface {name:?} in this network namespace, only {}",
                    others.join(", ")
                )));
            }
        }
        return Ok(named.to_vec());
    }
    let mut ways = BTreeSet::new();
    for to in ANYBODY {
        let way = netlink.route_to(to, None)?.map(|route| route.interface);
        let link = links.iter().find(|link| Some(link.index) == way);
        ways.extend(
            link.map(|link| link.name.clone())
                .filter(|name| name != LOOPBACK),
        );
    }
    if !ways.is_empty() {
        return Ok(ways.into_iter().collect());
    }
    let others = others(&links);
    match others.as_slice() {
        [_] => Ok(others),
        [] => Err(Error::Trouble(
            "this network namespace has no interface but its loopback: nothing can reach it"
                .to_owned(),
        )),
        _ => Err(Error::Trouble(format!(
            "there is no default route to tell by which interface packets come: name it with --interface ({})",
            others.join(", ")
        ))),
    }
}

/// The names of interfaces that are switched on, but for the loopback.
fn others(links: &[Link]) -> Vec<String> {
    let up = links.iter().filter(|link| link.up && link.name != LOOPBACK);
    up.map(|link| link.name.clone()).collect()
}
