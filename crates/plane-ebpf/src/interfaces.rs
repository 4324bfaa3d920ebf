//! Which interfaces the programs are attached to.

use std::collections::BTreeMap;

use crate::kernel::Kernel;
use crate::layout::LINK_XDP;
use crate::sys::hooks::{self, TcOptions, XdpMode};
use crate::sys::net::Link;
use crate::sys::{Netlink, Result};

/// Which interfaces take packets to VIPs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// TC: these; empty for all that are up and have Ethernet frames, but for ports of bridges and
    /// the like, whose packets come by their master.
    pub tc: Vec<String>,
    /// XDP, beside TC: these.
    pub xdp: Vec<String>,
}

/// Attaches the programs wherever they are wanted and not yet there. What goes wrong at one
/// interface is told, by its name, and stops no other.
pub(crate) fn attach(
    netlink: &mut Netlink,
    kernel: &Kernel,
    wanted: &Interfaces,
) -> Result<BTreeMap<String, String>> {
    let mut faults = BTreeMap::new();
    let links = netlink.links()?;
    for name in wanted.tc.iter().chain(&wanted.xdp) {
        if !links.iter().any(|link| link.name == *name) {
            faults.insert(name.clone(), "there is no such interface".to_owned());
        }
    }
    for link in &links {
        if takes_tc(link, wanted) {
            let done = hooks::attach_tc(netlink, link.index, &kernel.tc, TcOptions::default());
            if let Err(error) = done {
                faults.insert(link.name.clone(), error.to_string());
            }
        }
        if wanted.xdp.contains(&link.name) {
            let done = hooks::attach_xdp(netlink, link.index, &kernel.xdp, XdpMode::Native);
            let known = kernel.maps.get::<u32>("links", &link.index)?.is_some();
            match done {
                Ok(()) if !known => kernel.maps.put("links", &link.index, &LINK_XDP)?,
                Ok(()) => {}
                Err(error) => {
                    faults.insert(link.name.clone(), error.to_string());
                }
            }
        }
    }
    Ok(faults)
}

fn takes_tc(link: &Link, wanted: &Interfaces) -> bool {
    if !wanted.tc.is_empty() {
        return wanted.tc.contains(&link.name);
    }
    link.up && link.mac.is_some() && link.name != "lo" && link.master.is_none()
}
