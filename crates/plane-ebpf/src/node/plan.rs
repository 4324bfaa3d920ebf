//! From what is there to what is wanted: the steps, and what is to be written down.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{LOOPBACK, Record, State, Vip, sysctl};

/// What shall be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The VIPs, and whether each outlives the process.
    pub vips: BTreeMap<IpAddr, bool>,
    /// Interfaces by which packets come, and whether they are unwrapped there.
    pub interfaces: BTreeMap<String, bool>,
    /// The greatest TCP segment that VIPs announce by these interfaces, in bytes; none: what they like.
    pub mss: Option<u16>,
}

impl Target {
    /// These VIPs are served, beside those that stay from before.
    pub fn serve(
        vips: &BTreeSet<IpAddr>,
        interfaces: &[String],
        unwrap: bool,
        stays: bool,
        state: &State,
    ) -> Self {
        let mut target = Self::after(state);
        for ip in vips {
            *target.vips.entry(*ip).or_default() |= stays;
        }
        for name in interfaces {
            *target.interfaces.entry(name.clone()).or_default() |= unwrap;
        }
        target
    }

    /// Only what outlives the process that served the rest.
    pub fn after(state: &State) -> Self {
        Self::keeping(state, |_, vip| vip.stays)
    }

    /// These VIPs are not served any more, nor any if none is named.
    pub fn without(vips: &BTreeSet<IpAddr>, state: &State) -> Self {
        Self::keeping(state, |ip, _| !vips.is_empty() && !vips.contains(ip))
    }

    fn keeping(state: &State, keep: impl Fn(&IpAddr, &Vip) -> bool) -> Self {
        let vips = state.vips.iter().filter(|(ip, vip)| keep(ip, vip));
        let vips: BTreeMap<_, _> = vips.map(|(ip, vip)| (*ip, vip.stays)).collect();
        let interfaces = if vips.is_empty() {
            BTreeMap::new()
        } else {
            state.interfaces.clone()
        };
        let mss = state.mss.values().next().copied();
        Self {
            mss: mss.filter(|_| !vips.is_empty()),
            vips,
            interfaces,
        }
    }
}

/// What is there, of all that matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Interfaces.
    pub links: BTreeSet<String>,
    /// Addresses with their interfaces.
    pub addresses: BTreeSet<(IpAddr, String)>,
    /// Settings by their names with slashes; those that the kernel lacks are not there.
    pub settings: BTreeMap<String, i32>,
    /// Interfaces where packets are unwrapped, and for which VIPs.
    pub programs: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Interfaces by which VIPs announce smaller segments, and which.
    pub clamps: BTreeMap<String, BTreeMap<IpAddr, u16>>,
    /// Interfaces that are switched off.
    pub down: BTreeSet<String>,
    /// Interfaces without IPv6 (`disable_ipv6`).
    pub without_v6: BTreeSet<String>,
}

impl Found {
    fn on_loopback(&self, ip: IpAddr) -> bool {
        self.addresses.contains(&(ip, LOOPBACK.to_owned()))
    }
}

/// A step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A setting becomes otherwise.
    Set {
        /// Its name, with slashes.
        name: String,
        /// What it is.
        from: i32,
        /// What it becomes.
        to: i32,
    },
    /// Packets are unwrapped that come by an interface.
    Unwrap {
        /// The interface.
        interface: String,
        /// The VIPs it is done for.
        vips: BTreeSet<IpAddr>,
    },
    /// Packets are not unwrapped there any more.
    StopUnwrapping(String),
    /// VIPs announce no greater segments by an interface.
    Clamp {
        /// The interface.
        interface: String,
        /// What each may announce, in bytes.
        vips: BTreeMap<IpAddr, u16>,
    },
    /// They announce what they like there.
    StopClamping(String),
    /// A VIP is put on the loopback.
    Add(IpAddr),
    /// A VIP is taken from the loopback.
    Delete(IpAddr),
}

/// The way to a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Planned {
    /// The steps, in their order: nothing is said of a VIP at any time.
    pub changes: Vec<Change>,
    /// What is to be written down once they are done.
    pub state: State,
    /// What stays as it is, and why, in words.
    pub left: Vec<String>,
}

/// The way from what was found, with what earlier runs wrote down, to what shall be.
pub fn towards(target: &Target, found: &Found, state: &State) -> Planned {
    let mut planned = Planned {
        state: State {
            cookie: state.cookie,
            ..State::default()
        },
        ..Planned::default()
    };
    vips_that_go(target, found, state, &mut planned);
    let restored = settings(target, found, state, &mut planned);
    let served: BTreeSet<IpAddr> = target.vips.keys().copied().collect();
    for (name, unwrap) in &target.interfaces {
        if !found.links.contains(name) {
            planned.left.push(format!("{name} is not there any more"));
            continue;
        }
        planned.state.interfaces.insert(name.clone(), *unwrap);
        if *unwrap && found.programs.get(name) != Some(&served) {
            planned.changes.push(Change::Unwrap {
                interface: name.clone(),
                vips: served.clone(),
            });
        }
        if let Some(mss) = target.mss {
            planned.state.mss.insert(name.clone(), mss);
            let vips: BTreeMap<IpAddr, u16> = served.iter().map(|ip| (*ip, mss)).collect();
            if found.clamps.get(name) != Some(&vips) {
                let interface = name.clone();
                planned.changes.push(Change::Clamp { interface, vips });
            }
        }
    }
    for (ip, stays) in &target.vips {
        let there = found.on_loopback(*ip);
        let known = state.vips.get(ip);
        let added = known.map_or(!there, |known| known.added || !there);
        planned.state.vips.insert(
            *ip,
            Vip {
                added,
                stays: *stays,
            },
        );
        if !there {
            planned.changes.push(Change::Add(*ip));
        }
    }
    for (name, unwrapped) in &state.interfaces {
        let still = target.interfaces.get(name).copied().unwrap_or(false);
        if *unwrapped && !still && found.programs.contains_key(name) {
            planned.changes.push(Change::StopUnwrapping(name.clone()));
        }
    }
    for name in state.mss.keys() {
        if !planned.state.mss.contains_key(name) && found.clamps.contains_key(name) {
            planned.changes.push(Change::StopClamping(name.clone()));
        }
    }
    planned.changes.extend(restored);
    planned
}

fn vips_that_go(target: &Target, found: &Found, state: &State, planned: &mut Planned) {
    for (ip, vip) in &state.vips {
        if target.vips.contains_key(ip) {
            continue;
        }
        match (vip.added, found.on_loopback(*ip)) {
            (true, true) => planned.changes.push(Change::Delete(*ip)),
            (true, false) => {
                let text = format!("{ip} is not on {LOOPBACK} any more");
                planned.left.push(text);
            }
            (false, true) => {
                let text = format!("{ip} stays on {LOOPBACK}: it was there before");
                planned.left.push(text);
            }
            (false, false) => {}
        }
    }
}

/// Changes settings, and says which are to be put back once all else is done.
fn settings(target: &Target, found: &Found, state: &State, planned: &mut Planned) -> Vec<Change> {
    // As if nothing of ours were there.
    let mut without_us = found.settings.clone();
    for (name, record) in &state.settings {
        if let Some(value) = without_us.get_mut(name).filter(|is| **is == record.set) {
            *value = record.before;
        }
    }
    let receive: Vec<String> = target.interfaces.keys().cloned().collect();
    // IPv6 has no such settings, and needs none: neighbours are told of addresses of the interface only.
    let wanted = if target.vips.keys().any(IpAddr::is_ipv4) {
        sysctl::wanted(&receive, &without_us)
    } else {
        Vec::new()
    };
    for (setting, to) in wanted {
        let name = setting.name();
        let Some((is, before)) = found.settings.get(&name).zip(without_us.get(&name)) else {
            continue;
        };
        if *is != to {
            planned.changes.push(Change::Set {
                name: name.clone(),
                from: *is,
                to,
            });
        }
        let record = Record {
            before: *before,
            set: to,
        };
        planned.state.settings.insert(name, record);
    }
    let mut restored = Vec::new();
    for (name, record) in &state.settings {
        if planned.state.settings.contains_key(name) {
            continue;
        }
        match found.settings.get(name) {
            Some(is) if *is == record.set => restored.push(Change::Set {
                name: name.clone(),
                from: *is,
                to: record.before,
            }),
            Some(is) if *is != record.before => planned.left.push(format!(
                "{name} stays {is}: it was {} and was set to {}, and somebody has changed it since",
                record.before, record.set
            )),
            // It is as it was, or went with its interface.
            _ => {}
        }
    }
    restored
}

#[cfg(test)]
mod tests;
