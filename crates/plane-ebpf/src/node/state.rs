//! What was changed, to be taken back later, also by another process.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// All that plimsoll changed in a network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The namespace's cookie (`SO_NETNS_COOKIE`): inode numbers are used again, cookies are not.
    pub cookie: u64,
    /// The VIPs that are served.
    pub vips: BTreeMap<IpAddr, Vip>,
    /// Settings that are otherwise than they were, by their names with slashes.
    pub settings: BTreeMap<String, Record>,
    /// Interfaces by which packets come, and whether they are unwrapped there.
    pub interfaces: BTreeMap<String, bool>,
    /// Interfaces by which VIPs announce segments of so many bytes at most.
    #[serde(default)]
    pub mss: BTreeMap<String, u16>,
}

/// A VIP that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vip {
    /// Whether it was put on the loopback, where it had not been before.
    pub added: bool,
    /// Whether it outlives the process (`--once`).
    pub stays: bool,
}

/// A setting that was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What it was.
    pub before: i32,
    /// What it was set to.
    pub set: i32,
}

impl State {
    /// This and another one together; where they differ the other one counts.
    pub(super) fn and(&self, other: &Self) -> Self {
        let mut both = self.clone();
        both.cookie = other.cookie;
        both.vips
            .extend(other.vips.iter().map(|(ip, vip)| (*ip, *vip)));
        for (name, record) in &other.settings {
            both.settings.insert(name.clone(), *record);
        }
        for (name, unwrap) in &other.interfaces {
            *both.interfaces.entry(name.clone()).or_default() |= unwrap;
        }
        both.mss.extend(other.mss.clone());
        both
    }

    /// Whether there is nothing to take back.
    pub fn is_empty(&self) -> bool {
        self.vips.is_empty()
            && self.settings.is_empty()
            && self.interfaces.is_empty()
            && self.mss.is_empty()
    }
}
