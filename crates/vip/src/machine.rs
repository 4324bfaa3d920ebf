//! What is to be done about VIPs: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use plimsoll_model::{Vip, VipAddress};
use plimsoll_plane::{VipEvent, VipNote, VipState, VipView, Wanted};
use plimsoll_plane_ebpf::sys::net::{Address, Link, Mac, Marked};

use crate::claims::Spot;

/// Addresses with this number (`IFA_PROTO`; `ip -d address` shows it as `proto`) were added by us. So the
/// next process knows them after a kill.
pub const MARK: u8 = 80;

/// Between the announcements of an address: one may be lost, and a switch may take seconds to forward on a
/// port that has come up. As many as keepalived's `garp_master_repeat` says.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// Why it is not added.
const ASIDE: &str = "its service is put aside: added once it is in force";

/// What there is in the network namespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) links: Vec<Link>,
    pub(crate) addresses: Vec<Marked>,
}

impl Found {
    fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    fn has(&self, vip: &Vip) -> bool {
        let link = self.link(vip.interface.as_str());
        let index = link.map(|link| link.index);
        let mut all = self.addresses.iter();
        all.any(|a| Some(a.address.interface) == index && a.address.ip == vip.address.ip)
    }

    /// The name of an interface.
    pub(crate) fn name(&self, index: u32) -> Option<&str> {
        let link = self.links.iter().find(|link| link.index == index)?;
        Some(&link.name)
    }
}

/// Something to do about an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Add(Vip, Address),
    Delete(Vip, Address),
}

/// An announcement to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Announcement {
    pub(crate) vip: Vip,
    pub(crate) interface: u32,
    pub(crate) mac: Mac,
}

/// What is known of a VIP that is wanted.
#[derive(Clone, Debug)]
struct Known {
    state: VipState,
    since: Instant,
    /// Whether this process has added it or taken it over.
    ours: bool,
    /// Why it is missing.
    missing: String,
    /// Why it could not be announced last.
    unannounced: String,
    announced: u64,
    restored: u64,
    /// Where it can be announced now; none while the link is down or is not Ethernet.
    way: Option<(u32, Mac)>,
    /// The number of the next announcement of a series, and its time.
    next: Option<(usize, Instant)>,
}

impl Known {
    fn new(now: Instant) -> Self {
        Self {
            state: VipState::Missing,
            since: now,
            ours: false,
            missing: String::new(),
            unannounced: String::new(),
            announced: 0,
            restored: 0,
            way: None,
            next: None,
        }
    }

    fn is(&mut self, now: Instant, state: VipState) {
        if self.state != state {
            (self.state, self.since) = (state, now);
        }
        match state {
            VipState::Added => self.ours = true,
            VipState::WasThere => self.ours = false,
            VipState::Missing => return,
        }
        self.missing.clear();
    }

    /// Its service is put aside: nothing is done about it. One that another process left is not ours before
    /// the service is in force.
    fn stays(&mut self, now: Instant, there: bool) {
        match there {
            true if self.ours => self.is(now, VipState::Added),
            true => self.is(now, VipState::WasThere),
            false => {
                // The service itself is said to be aside: that is enough.
                let _ = self.misses(now, ASIDE.to_owned());
            }
        }
    }

    /// It is not there, and why; something to say if that is news.
    fn misses(&mut self, now: Instant, why: String) -> Option<VipEvent> {
        self.is(now, VipState::Missing);
        self.next = None;
        if self.missing == why {
            return None;
        }
        self.missing.clone_from(&why);
        Some(VipEvent::Failed(why))
    }

    fn announce(&mut self, now: Instant) {
        self.next = self.way.map(|_| (0, now));
    }
}

/// Decides.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// Whether the kernel keeps marks (since Linux 5.18).
    marks: bool,
    known: BTreeMap<Vip, Known>,
    /// Whether it was looked for what earlier processes have left behind.
    swept: bool,
}

/// The place of a VIP on a link.
fn address(vip: &Vip, link: &Link) -> Address {
    Address {
        interface: link.index,
        ip: vip.address.ip,
        prefix: vip.address.prefix,
    }
}

impl Machine {
    pub(crate) fn new(marks: bool) -> Self {
        Self {
            marks,
            known: BTreeMap::new(),
            swept: false,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// What is to be done so that all that are to be added are there. Links of `shaken` could carry nothing for a
    /// while.
    pub(crate) fn reach(
        &mut self,
        now: Instant,
        wanted: &Wanted,
        found: &Found,
        shaken: impl Fn(u32) -> bool,
    ) -> (Vec<Step>, Vec<VipNote>) {
        let (mut steps, mut notes) = (Vec::new(), Vec::new());
        for vip in &wanted.keep {
            let known = (self.known.entry(vip.clone())).or_insert_with(|| Known::new(now));
            known.stays(now, found.has(vip));
        }
        for vip in &wanted.add {
            let known = (self.known.entry(vip.clone())).or_insert_with(|| Known::new(now));
            let mut note = |event| {
                let vip = vip.clone();
                notes.push(VipNote { vip, event });
            };
            let Some(link) = found.link(vip.interface.as_str()) else {
                known.way = None;
                let why = format!(
                    "there is no interface {}: added once there is one",
                    vip.interface
                );
                if let Some(event) = known.misses(now, why) {
                    note(event);
                }
                continue;
            };
            let before = known.way;
            known.way = way(link);
            if known.way.is_none() {
                known.next = None;
            }
            let ours = |a: &&Marked| {
                a.mark == MARK || !self.marks && a.mark == 0 && known.state == VipState::Added
            };
            let here = (found.addresses.iter())
                .filter(|a| a.address.interface == link.index && a.address.ip == vip.address.ip);
            let exact = |a: &&Marked| a.address.prefix == vip.address.prefix;
            if here.clone().any(|a| !ours(&a)) {
                if known.state != VipState::WasThere {
                    note(VipEvent::WasThere);
                }
                known.is(now, VipState::WasThere);
                known.next = None;
            } else if here.clone().any(|a| exact(&a)) {
                if known.state != VipState::Added {
                    note(VipEvent::TakenOver);
                    known.is(now, VipState::Added);
                    known.announce(now);
                } else if known.way.is_some() && (before != known.way || shaken(link.index)) {
                    if known.announced > 0 {
                        note(VipEvent::Announced);
                    }
                    known.announce(now);
                }
            } else if vip.address.ip.is_ipv6() && !link.up {
                // The kernel takes IPv6 addresses away with the link.
                let why = format!("{} is down: added once it is up", vip.interface);
                if let Some(event) = known.misses(now, why) {
                    note(event);
                }
            } else {
                // The kernel has an IPv6 address once, whatever its network's length.
                if vip.address.ip.is_ipv6() {
                    let other = here.map(|a| Step::Delete(vip.clone(), a.address));
                    steps.extend(other);
                }
                steps.push(Step::Add(vip.clone(), address(vip, link)));
            }
        }
        (steps, notes)
    }

    /// A VIP is not there, and why; a note if that is news.
    pub(crate) fn missing(&mut self, now: Instant, vip: &Vip, why: String) -> Option<VipNote> {
        let known = (self.known.entry(vip.clone())).or_insert_with(|| Known::new(now));
        let event = known.misses(now, why)?;
        let vip = vip.clone();
        Some(VipNote { vip, event })
    }

    /// A VIP was added.
    pub(crate) fn added(&mut self, now: Instant, vip: &Vip) -> Option<VipNote> {
        let known = self.known.get_mut(vip)?;
        let event = match known.state {
            VipState::Added => {
                known.restored += 1;
                VipEvent::Restored
            }
            VipState::WasThere | VipState::Missing => VipEvent::Added,
        };
        known.is(now, VipState::Added);
        known.announce(now);
        let vip = vip.clone();
        Some(VipNote { vip, event })
    }

    /// The announcements whose time has come.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Announcement> {
        let mut due = Vec::new();
        for (vip, known) in &mut self.known {
            let (Some((number, at)), Some((interface, mac))) = (known.next, known.way) else {
                continue;
            };
            if at > now {
                continue;
            }
            known.next = PAUSES.get(number).map(|pause| (number + 1, now + *pause));
            due.push(Announcement {
                vip: vip.clone(),
                interface,
                mac,
            });
        }
        due
    }

    /// How an announcement went.
    pub(crate) fn announced(&mut self, vip: &Vip, done: Result<(), String>) -> Option<VipNote> {
        let known = self.known.get_mut(vip)?;
        match done {
            Ok(()) => {
                known.announced += 1;
                known.unannounced.clear();
                None
            }
            Err(why) if known.unannounced == why => None,
            Err(why) => {
                known.unannounced.clone_from(&why);
                let (vip, event) = (vip.clone(), VipEvent::Failed(why));
                Some(VipNote { vip, event })
            }
        }
    }

    /// When the next announcement is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let all = self.known.values();
        all.filter_map(|known| known.next.map(|(_, at)| at)).min()
    }

    /// What is to be removed so that only these stay of what this process has added or taken over; what
    /// others have stays. The first time also what no process has: an earlier one has left it. Later that
    /// may be of one that was killed meanwhile and comes back.
    pub(crate) fn leave(
        &mut self,
        wanted: &Wanted,
        found: &Found,
        others: impl FnOnce() -> BTreeSet<Spot>,
    ) -> (Vec<Step>, Vec<VipNote>) {
        let first = !std::mem::replace(&mut self.swept, true);
        // Those with another length of their network, too.
        let spots: BTreeSet<Spot> = wanted.add.iter().map(crate::claims::spot).collect();
        let own = |vip: &Vip, mark: u8| {
            let ours = self.known.get(vip).is_some_and(|known| known.ours);
            match mark {
                MARK => ours || first || spots.contains(&crate::claims::spot(vip)),
                mark => ours && !self.marks && mark == 0,
            }
        };
        let mut left: Vec<(Vip, Address)> = Vec::new();
        for Marked { address, mark } in &found.addresses {
            let name = found.name(address.interface);
            let Some(interface) = name.and_then(|name| name.parse().ok()) else {
                continue;
            };
            let (ip, prefix) = (address.ip, address.prefix);
            let vip = Vip {
                address: VipAddress { ip, prefix },
                interface,
            };
            if own(&vip, *mark) && !wanted.contains(&vip) {
                left.push((vip, *address));
            }
        }
        let others = if left.is_empty() {
            BTreeSet::new()
        } else {
            others()
        };
        let (mut steps, mut notes) = (Vec::new(), Vec::new());
        for (vip, address) in left {
            if !others.contains(&crate::claims::spot(&vip)) {
                steps.push(Step::Delete(vip, address));
            } else if self.known.contains_key(&vip) {
                let event = VipEvent::Left;
                notes.push(VipNote { vip, event });
            }
        }
        self.known.retain(|vip, _| wanted.contains(vip));
        (steps, notes)
    }

    /// How they are.
    pub(crate) fn views(&self) -> Vec<VipView> {
        let view = |(vip, known): (&Vip, &Known)| VipView {
            vip: vip.clone(),
            state: known.state,
            reason: match known.missing.is_empty() {
                true => known.unannounced.clone(),
                false => known.missing.clone(),
            },
            since: known.since,
            announced: known.announced,
            restored: known.restored,
        };
        self.known.iter().map(view).collect()
    }
}

/// Where something can be announced: not on links without neighbours, and not while nothing gets through.
fn way(link: &Link) -> Option<(u32, Mac)> {
    let mac = link.mac.filter(|mac| *mac != [0; 6])?;
    (link.up && link.carrier).then_some((link.index, mac))
}

#[cfg(test)]
mod tests;
