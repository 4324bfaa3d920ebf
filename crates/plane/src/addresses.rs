//! The seam between control and what gives this host the addresses that services bring along.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use plimsoll_model::Vip;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// The VIPs that this host is to have; no address is in both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Those of services in force: added where they are not there.
    pub add: BTreeSet<Vip>,
    /// Those of services that are put aside: left where they are, and not added.
    pub keep: BTreeSet<Vip>,
}

impl Wanted {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.keep.is_empty()
    }

    /// Whether this one is among them.
    pub fn contains(&self, vip: &Vip) -> bool {
        self.add.contains(vip) || self.keep.contains(vip)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Vip> {
        self.add.iter().chain(&self.keep)
    }
}

/// What has the VIPs. Control is its only caller, from one thread; every call returns within milliseconds.
pub trait Addresses: Send {
    /// Makes sure that those to be added are there, and says so on their links when they are new. Called before the
    /// planes are brought to what is desired, for what listens on an address needs it; costs next to
    /// nothing where nothing has changed.
    fn add(&mut self, now: Instant, wanted: &Wanted) -> Vec<VipNote>;

    /// Takes away all others that were added; when first called, also those that another process has left
    /// behind. Called after the planes.
    fn remove(&mut self, now: Instant, wanted: &Wanted) -> Vec<VipNote>;

    /// When to call again if nothing happens before; none where nothing is due.
    fn next_deadline(&self) -> Option<Instant>;

    /// How they are, in their order.
    fn vips(&self) -> Vec<VipView>;

    /// Told when links or addresses have changed: then control is to step.
    fn changed(&self) -> Arc<Notify>;

    /// The process ends: takes away all that were added and that no other process has, too.
    fn finish(&mut self) -> Vec<VipNote>;
}

/// Whether this host has a VIP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VipState {
    /// It was added, and goes with the service or the process.
    Added,
    /// Somebody else had added it, or a process that forwards for a service that is put aside here; it is
    /// left to them.
    WasThere,
    /// It is not there.
    #[default]
    Missing,
}

impl VipState {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            VipState::Added => "added",
            VipState::WasThere => "was-there",
            VipState::Missing => "missing",
        }
    }
}

/// How a VIP is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipView {
    /// The VIP.
    pub vip: Vip,
    /// Whether it is there.
    pub state: VipState,
    /// Why it is missing or not announced; empty if there is nothing to say.
    pub reason: String,
    /// Since when it has this state.
    pub since: Instant,
    /// How often it was announced.
    pub announced: u64,
    /// How often it was found gone, and added again.
    pub restored: u64,
}

/// Something that happened to a VIP, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipNote {
    /// The VIP.
    pub vip: Vip,
    /// What.
    pub event: VipEvent,
}

/// What happened to a VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VipEvent {
    /// It was added.
    Added,
    /// An earlier process had added it, or another one has.
    TakenOver,
    /// It was there before, and stays when the process ends.
    WasThere,
    /// It was gone, and was added again.
    Restored,
    /// It was removed.
    Removed,
    /// It stays, because another process has it, too.
    Left,
    /// Its link has come back, and it is announced anew.
    Announced,
    /// It cannot be added, removed or announced.
    Failed(String),
}

impl fmt::Display for VipEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            VipEvent::Added => "added",
            VipEvent::TakenOver => "taken over from another process",
            VipEvent::WasThere => "was there before: it is left to whoever added it",
            VipEvent::Restored => "was gone: added again",
            VipEvent::Removed => "removed",
            VipEvent::Left => "is not removed: another process has it, too",
            VipEvent::Announced => "announced again: its link was down",
            VipEvent::Failed(why) => why,
        })
    }
}
