//! Which interfaces the programs are attached to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

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

/// Where a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hook {
    Tc,
    Xdp,
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tc => "TC ingress",
            Self::Xdp => "XDP",
        })
    }
}

/// How attaching went.
#[derive(Debug, Default)]
pub(crate) struct Attaching {
    /// What went wrong, by interface.
    pub(crate) faults: BTreeMap<String, String>,
    /// Where the programs are attached, by the interface's number.
    pub(crate) hooked: BTreeSet<(u32, Hook)>,
    /// Where they were not before, with the interface's name.
    pub(crate) anew: Vec<(u32, Hook, String)>,
}

impl Attaching {
    fn note(&mut self, link: &Link, hook: Hook, was: bool, done: Result<()>) {
        match done {
            Ok(()) => {
                self.hooked.insert((link.index, hook));
                if !was {
                    self.anew.push((link.index, hook, link.name.clone()));
                }
            }
            Err(error) => {
                self.faults.insert(link.name.clone(), error.to_string());
            }
        }
    }
}

/// Attaches the programs wherever they are wanted and not yet there. What goes wrong at one
/// interface is told, by its name, and stops no other.
pub(crate) fn attach(
    netlink: &mut Netlink,
    kernel: &Kernel,
    wanted: &Interfaces,
) -> Result<Attaching> {
    let mut attaching = Attaching::default();
    let links = netlink.links()?;
    for name in wanted.tc.iter().chain(&wanted.xdp) {
        if !links.iter().any(|link| link.name == *name) {
            let fault = "there is no such interface".to_owned();
            attaching.faults.insert(name.clone(), fault);
        }
    }
    for link in &links {
        if takes_tc(link, wanted) {
            let was = hooks::tc(netlink, link.index)?;
            let was = was.iter().any(|there| there.id == kernel.tc.id());
            let done = hooks::attach_tc(netlink, link.index, &kernel.tc, TcOptions::default());
            attaching.note(link, Hook::Tc, was, done.map(drop));
        }
        if wanted.xdp.contains(&link.name) {
            let was = hooks::xdp(netlink, link.index)?;
            let was = was.iter().any(|there| there.id == kernel.xdp.id());
            let done = hooks::attach_xdp(netlink, link.index, &kernel.xdp, XdpMode::Native);
            if done.is_ok() && kernel.maps.get("links", &link.index)? != Some(LINK_XDP) {
                kernel.maps.put("links", &link.index, &LINK_XDP)?;
            }
            attaching.note(link, Hook::Xdp, was, done);
        }
    }
    Ok(attaching)
}

fn takes_tc(link: &Link, wanted: &Interfaces) -> bool {
    if !wanted.tc.is_empty() {
        return wanted.tc.contains(&link.name);
    }
    link.up && link.mac.is_some() && link.name != "lo" && link.master.is_none()
}
