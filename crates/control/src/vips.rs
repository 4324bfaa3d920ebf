//! Which VIPs services bring along, kept at what is desired.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use plimsoll_model::{Name, Service, Vip};
use plimsoll_plane::{Addresses, VipNote, Wanted};

use crate::status::VipStatus;

/// The VIPs of services in force, and what has them.
pub(crate) struct Vips {
    addresses: Box<dyn Addresses>,
    /// Of the services in force that have any.
    services: BTreeMap<Name, Vec<Vip>>,
    /// Of the services that are put aside.
    aside: BTreeMap<Name, Vec<Vip>>,
    wanted: Wanted,
}

impl Vips {
    pub(crate) fn new(addresses: Box<dyn Addresses>) -> Self {
        Self {
            addresses,
            services: BTreeMap::new(),
            aside: BTreeMap::new(),
            wanted: Wanted::default(),
        }
    }

    /// A service is in force as it is now.
    pub(crate) fn put(&mut self, name: &Name, service: &Service) {
        let mut changed = set(&mut self.services, name, &service.spec.vips);
        changed |= set(&mut self.aside, name, &[]);
        if changed {
            self.wanted = wanted(&self.services, &self.aside);
        }
    }

    /// A service is not in force: gone, or put aside with these. Programs of another process may forward
    /// what comes to them meanwhile.
    pub(crate) fn put_aside(&mut self, name: &Name, vips: Vec<Vip>) {
        let mut changed = set(&mut self.services, name, &[]);
        changed |= set(&mut self.aside, name, &vips);
        if changed {
            self.wanted = wanted(&self.services, &self.aside);
        }
    }

    pub(crate) fn add(&mut self, now: Instant) -> Vec<VipNote> {
        self.addresses.add(now, &self.wanted)
    }

    pub(crate) fn remove(&mut self, now: Instant) -> Vec<VipNote> {
        self.addresses.remove(now, &self.wanted)
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.addresses.next_deadline()
    }

    pub(crate) fn addresses(&mut self) -> &mut dyn Addresses {
        &mut *self.addresses
    }

    pub(crate) fn statuses(&self, now: Instant) -> Vec<VipStatus> {
        let views = self.addresses.vips().into_iter();
        let status = |view: plimsoll_plane::VipView| VipStatus {
            address: view.vip.address.to_string(),
            interface: view.vip.interface.to_string(),
            state: view.state,
            reason: view.reason,
            since: now.saturating_duration_since(view.since).as_secs_f64(),
            announced: view.announced,
            restored: view.restored,
            services: (self.services.iter())
                .chain(&self.aside)
                .filter(|(_, vips)| vips.contains(&view.vip))
                .map(|(name, _)| name.to_string())
                .collect(),
        };
        views.map(status).collect()
    }
}

/// Says what a service has. Whether that is news.
fn set(all: &mut BTreeMap<Name, Vec<Vip>>, name: &Name, vips: &[Vip]) -> bool {
    let known = all.get(name).map_or(&[][..], Vec::as_slice);
    if vips == known {
        return false;
    }
    match vips {
        [] => drop(all.remove(name)),
        vips => drop(all.insert(name.clone(), vips.to_vec())),
    }
    true
}

/// Every address once. Sources see to it that services agree about where one is; if they do not, the first
/// service by name decides, and those in force come before those that are put aside.
fn wanted(services: &BTreeMap<Name, Vec<Vip>>, aside: &BTreeMap<Name, Vec<Vip>>) -> Wanted {
    let mut seen: BTreeSet<IpAddr> = BTreeSet::new();
    let mut each = |all: &BTreeMap<Name, Vec<Vip>>| {
        let vips = all.values().flatten();
        let new = vips.filter(|vip| seen.insert(vip.address.ip));
        new.cloned().collect()
    };
    Wanted {
        add: each(services),
        keep: each(aside),
    }
}
