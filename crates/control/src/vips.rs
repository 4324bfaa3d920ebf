//! Which VIPs services bring along, kept at what is desired.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use plimsoll_model::{Name, Service, Vip};
use plimsoll_plane::{Addresses, VipNote};

use crate::status::VipStatus;

/// The VIPs of services in force, and what has them.
pub(crate) struct Vips {
    addresses: Box<dyn Addresses>,
    /// Of the services that have any.
    services: BTreeMap<Name, Vec<Vip>>,
    wanted: BTreeSet<Vip>,
}

impl Vips {
    pub(crate) fn new(addresses: Box<dyn Addresses>) -> Self {
        Self {
            addresses,
            services: BTreeMap::new(),
            wanted: BTreeSet::new(),
        }
    }

    /// A service is in force as it is now, or is not any more.
    pub(crate) fn put(&mut self, name: &Name, service: Option<&Service>) {
        let vips = service.map_or(&[][..], |service| &service.spec.vips);
        let known = self.services.get(name).map_or(&[][..], Vec::as_slice);
        if vips == known {
            return;
        }
        match vips {
            [] => drop(self.services.remove(name)),
            vips => drop(self.services.insert(name.clone(), vips.to_vec())),
        }
        self.wanted = wanted(&self.services);
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
                .filter(|(_, vips)| vips.contains(&view.vip))
                .map(|(name, _)| name.to_string())
                .collect(),
        };
        views.map(status).collect()
    }
}

/// Every address once. Sources see to it that services agree about where one is; if they do not, the first
/// service by name decides.
fn wanted(services: &BTreeMap<Name, Vec<Vip>>) -> BTreeSet<Vip> {
    let mut by_ip: BTreeMap<IpAddr, &Vip> = BTreeMap::new();
    for vip in services.values().flatten() {
        by_ip.entry(vip.address.ip).or_insert(vip);
    }
    by_ip.into_values().cloned().collect()
}
