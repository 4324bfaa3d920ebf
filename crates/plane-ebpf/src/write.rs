//! Writes services into the maps, new things before old ones go.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use plimsoll_model::{BackendAddr, Name, Ports, Service};
use plimsoll_plane::PlaneError;
use serde::{Deserialize, Serialize};

use crate::books::slot_name;
use crate::compile::{Compiled1, Place, compile};
use crate::kernel::Owner;
use crate::layout::{
    self, BACKEND_DEADLINE, BACKEND_GONE, BACKEND_LEFT, BACKEND_RESET, BACKEND_USED, CONFIG_NAT,
    Method, RANGES, VIP_ALL, VIP_ECHO, VIP_RANGES,
};
use crate::plane::{EbpfPlane, Entry, Leaving, drain_time};
use crate::sys::net::RouteKind;
use crate::sys::{Map, MapKind, MapSpec, Result};

/// What is noted of a service for the next process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ServiceNote {
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) entry: String,
    pub(crate) listens: Vec<String>,
    pub(crate) scheduler: String,
}

/// What is noted of a backend.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BackendNote {
    pub(crate) service: String,
    pub(crate) addr: String,
    pub(crate) source: String,
    pub(crate) entry: String,
}

/// The way to a backend.
struct Way {
    /// It is an address of this host.
    local: bool,
    /// The source that the host itself would take.
    source: Option<IpAddr>,
    /// The interface and the next hop.
    next: Option<(u32, IpAddr)>,
}

fn other(error: impl ToString) -> PlaneError {
    PlaneError::Other(error.to_string())
}

fn full(what: &str, room: u32) -> PlaneError {
    PlaneError::Other(format!(
        "the packet plane has room for {room} {what}, and all are in use"
    ))
}

impl EbpfPlane {
    /// Brings the maps to this service.
    ///
    /// # Errors
    /// A table is full, or what the kernel says. What was written before stays; the next try goes on
    /// from there.
    pub(crate) fn write(&mut self, name: &Name, service: &Service) -> Result<(), PlaneError> {
        let compiled = compile(service);
        let mut entry = match self.entries.get(name) {
            Some(entry) => entry.clone(),
            None => Entry {
                id: self
                    .ids
                    .take()
                    .ok_or_else(|| full("services", self.kernel.sizes.services))?,
                ..Entry::default()
            },
        };
        self.entries.insert(name.clone(), entry.clone());
        let mut written = BTreeMap::new();
        for backend in &compiled.backends {
            let slot = self.slot_for(name, &mut entry, &backend.addr)?;
            self.entries.insert(name.clone(), entry.clone());
            let value = self.backend_value(service, &entry, slot, backend)?;
            self.put_backend(name, service, &entry, slot, &value, &backend.addr)?;
            written.insert(slot, value);
        }
        let place_name = |place: &u32| {
            let slot = compiled.backends.get(*place as usize);
            let slot = slot.and_then(|b| entry.slots.get(&b.addr))?;
            Some(slot_name(*slot, written.get(slot)?.generation))
        };
        let set: Vec<u32> = compiled.set.iter().filter_map(place_name).collect();
        if set != entry.set || entry.service.flags == 0 {
            self.put_set(entry.id, &set).map_err(other)?;
        }
        let mut value = compiled.service;
        for (to, from) in value.timeouts.iter_mut().zip(compiled.timeouts) {
            *to = self.kernel.clock.jiffies(from);
        }
        self.put_service(name, service, entry.id, value)?;
        entry.service = value;
        entry.set = set;
        entry.backends = written;
        let places: BTreeSet<Place> = (service.spec.listens.iter().filter_map(Place::of)).collect();
        let before = std::mem::replace(&mut entry.places, places.clone());
        let gone: Vec<BackendAddr> = (entry.slots.keys())
            .filter(|addr| !compiled.backends.iter().any(|b| b.addr == **addr))
            .cloned()
            .collect();
        let left: Vec<(BackendAddr, u32)> = (gone.into_iter())
            .filter_map(|addr| entry.slots.remove_entry(&addr))
            .collect();
        self.entries.insert(name.clone(), entry);
        for place in &places {
            self.places.insert(*place, name.clone());
        }
        for place in before.difference(&places) {
            if self.places.get(place) == Some(name) {
                self.places.remove(place);
            }
        }
        self.put_places(before.union(&places))?;
        for (addr, slot) in left {
            self.leave(name, service, addr, slot).map_err(other)?;
        }
        self.put_nat().map_err(other)
    }

    /// Takes a service away; its backends leave.
    pub(crate) fn remove(&mut self, name: &Name) -> Result<(), PlaneError> {
        let Some(entry) = self.entries.remove(name) else {
            return Ok(());
        };
        self.places.retain(|_, owner| owner != name);
        self.put_places(entry.places.iter())?;
        let maps = &self.kernel.maps;
        maps.remove_note(Owner::Service(entry.id)).map_err(other)?;
        let gone = layout::Service {
            // Flows that are left have nothing to wait for.
            timeouts: entry.service.timeouts,
            ..layout::Service::default()
        };
        maps.put("services", &entry.id, &gone).map_err(other)?;
        self.put_set(entry.id, &[]).map_err(other)?;
        for slot in entry.slots.values() {
            self.free(*slot).map_err(other)?;
        }
        self.ids.give(entry.id);
        self.put_nat().map_err(other)
    }

    /// The slot of a backend: the one that it has, or had when it left, or a new one.
    fn slot_for(
        &mut self,
        name: &Name,
        entry: &mut Entry,
        addr: &BackendAddr,
    ) -> Result<u32, PlaneError> {
        if let Some(slot) = entry.slots.get(addr) {
            return Ok(*slot);
        }
        let was = (self.leaving.iter())
            .find(|(_, left)| left.service == *name && left.addr == *addr)
            .map(|(slot, _)| *slot);
        let slot = match was {
            Some(slot) => {
                self.leaving.remove(&slot);
                slot
            }
            None => {
                let room = self.kernel.sizes.backends;
                let (slot, generation) = self.slots.take().ok_or_else(|| full("backends", room))?;
                let fresh = layout::Backend {
                    generation,
                    ..layout::Backend::default()
                };
                let maps = &self.kernel.maps;
                maps.put("lives", &slot, &layout::Live::default())
                    .and_then(|()| maps.clear_on_each_cpu("traffic", &slot))
                    .and_then(|()| maps.put("backends", &slot, &fresh))
                    .map_err(other)?;
                slot
            }
        };
        entry.slots.insert(addr.clone(), slot);
        self.owners.insert(slot, (name.clone(), addr.clone()));
        Ok(slot)
    }

    /// What is to be in a slot.
    fn backend_value(
        &mut self,
        service: &Service,
        entry: &Entry,
        slot: u32,
        backend: &Compiled1,
    ) -> Result<layout::Backend, PlaneError> {
        let held: Option<layout::Backend> =
            self.kernel.maps.get("backends", &slot).map_err(other)?;
        let held = held.unwrap_or_default();
        let mut value = backend.value;
        // Ours, whatever somebody else has written there: flows go by it.
        value.generation = self.slots.generation(slot);
        value.service = entry.id;
        if backend.draining
            && let Some(drain) = drain_time(service)
        {
            value.flags |= BACKEND_DEADLINE | BACKEND_RESET;
            // It began when it was first seen to drain.
            value.until = match held.flags & (BACKEND_DEADLINE | BACKEND_LEFT) {
                BACKEND_DEADLINE => held.until,
                _ => (self.kernel.clock.now()).wrapping_add(self.kernel.clock.jiffies(drain)),
            };
        }
        let BackendAddr::Ip(ip, port) = &backend.addr else {
            return Ok(value);
        };
        let way = self.way(*ip).map_err(other)?;
        if way.local {
            let ports = service.spec.listens.iter().filter_map(Place::of);
            let mut ports = ports.map(|place| place.ports);
            if value.method == Method::Nat as u8
                && port.is_some_and(|port| ports.any(|listen| listen != Ports::One(port)))
            {
                return Err(PlaneError::Other(format!(
                    "backend {} is on this host: NAT does not lead there; leave its port out, or \
                     use forward = \"proxy\"",
                    backend.addr
                )));
            }
            value.method = Method::Local as u8;
        } else if let Some(next) = way.next
            && self.managed.insert(next)
        {
            // Without it the programs ask the kernel's neighbours anew each time: slower, not wrong.
            let _ = self.netlink.manage_neighbour(next.0, next.1);
        }
        if let Some(source) = way.source {
            value.outer = source.into();
        }
        Ok(value)
    }

    fn way(&mut self, ip: IpAddr) -> Result<Way> {
        let route = match self.netlink.route_to(ip, None) {
            Ok(route) => route,
            // No route is no fault of ours; packets are dropped for that reason, and counted.
            Err(error) if error.errno().is_some() => None,
            Err(error) => return Err(error),
        };
        Ok(Way {
            local: route.is_some_and(|route| route.kind == RouteKind::Local),
            source: route.and_then(|route| route.source),
            next: route.map(|route| (route.interface, route.gateway.unwrap_or(ip))),
        })
    }

    fn put_backend(
        &self,
        name: &Name,
        service: &Service,
        entry: &Entry,
        slot: u32,
        value: &layout::Backend,
        addr: &BackendAddr,
    ) -> Result<(), PlaneError> {
        let maps = &self.kernel.maps;
        let origin = match service.backends.get(addr) {
            Some(backend) => &backend.origin,
            None => &service.spec.origin,
        };
        let note = BackendNote {
            service: name.to_string(),
            addr: addr.to_string(),
            source: origin.source.to_string(),
            entry: origin.entry.to_string(),
        };
        let note = serde_json::to_string(&note).map_err(other)?;
        let owner = Owner::Backend(slot);
        if entry.backends.get(&slot) != Some(value) || maps.note(owner).map_err(other)?.is_none() {
            maps.put_note(owner, &note).map_err(other)?;
            maps.put("backends", &slot, value).map_err(other)?;
        }
        Ok(())
    }

    fn put_set(&self, id: u32, set: &[u32]) -> Result<()> {
        let len = u32::try_from(set.len()).unwrap_or(u32::MAX);
        let spec = MapSpec::new(
            MapKind::Array,
            "plimsoll_set",
            4,
            4,
            len.saturating_add(1).max(2),
        )
        .flags(Map::INNER_MAP);
        let map = Map::create(&spec)?;
        let values: Vec<u8> = std::iter::once(&len)
            .chain(set)
            .flat_map(|value| value.to_ne_bytes())
            .collect();
        let keys: Vec<u8> = (0..=len).flat_map(u32::to_ne_bytes).collect();
        map.update_many(&keys, &values)?;
        self.kernel
            .maps
            .map("sets")?
            .set_inner(&id.to_ne_bytes(), &map)
    }

    fn put_service(
        &self,
        name: &Name,
        service: &Service,
        id: u32,
        mut value: layout::Service,
    ) -> Result<(), PlaneError> {
        let maps = &self.kernel.maps;
        let spec = &service.spec;
        let note = ServiceNote {
            name: name.to_string(),
            source: spec.origin.source.to_string(),
            entry: spec.origin.entry.to_string(),
            listens: spec.listens.iter().map(ToString::to_string).collect(),
            scheduler: spec.scheduler.kind.to_string(),
        };
        let note = serde_json::to_string(&note).map_err(other)?;
        maps.put_note(Owner::Service(id), &note).map_err(other)?;
        let held: Option<layout::Service> = maps.get("services", &id).map_err(other)?;
        value.turn = held.unwrap_or_default().turn;
        maps.put("services", &id, &value).map_err(other)
    }

    /// Writes what is listened on at these places: by those that own them now, or by nobody.
    fn put_places<'a>(
        &mut self,
        places: impl Iterator<Item = &'a Place>,
    ) -> Result<(), PlaneError> {
        let places: BTreeSet<Place> = places.copied().collect();
        let ips: BTreeSet<IpAddr> = places.iter().map(|place| place.ip).collect();
        // Addresses first, for what listens there is known by their numbers; flags after that.
        for ip in &ips {
            let room = self.kernel.sizes.vips;
            let id = self
                .vips
                .id(*ip)
                .ok_or_else(|| full("addresses to listen on", room))?;
            let addr = layout::Addr::from(*ip);
            self.kernel
                .maps
                .put("vip_addrs", &id, &addr)
                .map_err(other)?;
        }
        for place in &places {
            self.put_place(place)?;
        }
        for ip in ips {
            self.put_vip(ip).map_err(other)?;
        }
        Ok(())
    }

    fn put_place(&self, place: &Place) -> Result<(), PlaneError> {
        let Some(vip) = self.vips.get(place.ip) else {
            return Ok(());
        };
        let maps = &self.kernel.maps;
        let mut key = layout::Listen {
            vip,
            proto: place.proto,
            ..layout::Listen::default()
        };
        let owner = |place: &Place| {
            let entry = self
                .places
                .get(place)
                .and_then(|name| self.entries.get(name));
            entry.map(|entry| entry.id)
        };
        match place.ports {
            Ports::One(port) => key.port = port.to_be_bytes(),
            Ports::All => {}
            Ports::Range(..) => {
                let (ip, proto) = (place.ip, place.proto);
                let mut ranges = layout::Ranges::default();
                let all = self
                    .places
                    .keys()
                    .filter(|p| p.ip == ip && p.proto == proto);
                for other in all {
                    let (Ports::Range(first, last), Some(service)) = (other.ports, owner(other))
                    else {
                        continue;
                    };
                    let Some(range) = ranges.range.get_mut(ranges.count as usize) else {
                        return Err(PlaneError::Other(format!(
                            "{ip} has more than {RANGES} port ranges: join some, or listen on *"
                        )));
                    };
                    *range = layout::Range {
                        first,
                        last,
                        service,
                    };
                    ranges.count += 1;
                }
                return match ranges.count {
                    0 => maps.remove("ranges", &key).map(drop).map_err(other),
                    _ => maps.put("ranges", &key, &ranges).map_err(other),
                };
            }
        }
        match owner(place) {
            Some(id) => maps.put("listens", &key, &id).map_err(other),
            None => maps.remove("listens", &key).map(drop).map_err(other),
        }
    }

    fn put_vip(&mut self, ip: IpAddr) -> Result<()> {
        let Some(id) = self.vips.get(ip) else {
            return Ok(());
        };
        let mut flags = 0;
        for place in self.places.keys().filter(|place| place.ip == ip) {
            flags |= VIP_ECHO;
            match place.ports {
                Ports::One(_) => {}
                Ports::Range(..) => flags |= VIP_RANGES,
                Ports::All => flags |= VIP_ALL,
            }
        }
        let maps = &self.kernel.maps;
        let key = layout::Addr::from(ip);
        let [first, ..] = key.words;
        let value = layout::Vip { id, flags };
        match (ip, flags) {
            (IpAddr::V4(_), 0) => drop(maps.remove("vips4", &first)?),
            (IpAddr::V6(_), 0) => drop(maps.remove("vips6", &key)?),
            (IpAddr::V4(_), _) => maps.put("vips4", &first, &value)?,
            (IpAddr::V6(_), _) => maps.put("vips6", &key, &value)?,
        }
        if flags == 0 {
            self.vips.remove(ip);
        }
        Ok(())
    }

    /// A backend has left its service: its TCP flows may go on for a while, its UDP flows move.
    fn leave(
        &mut self,
        name: &Name,
        service: &Service,
        addr: BackendAddr,
        slot: u32,
    ) -> Result<()> {
        let held: Option<layout::Backend> = self.kernel.maps.get("backends", &slot)?;
        let Some(mut value) = held else {
            return Ok(());
        };
        let since = value.flags & BACKEND_DEADLINE != 0;
        value.flags = BACKEND_USED | BACKEND_LEFT | BACKEND_GONE;
        if let Some(drain) = drain_time(service) {
            value.flags |= BACKEND_DEADLINE | BACKEND_RESET;
            if !since {
                value.until =
                    (self.kernel.clock.now()).wrapping_add(self.kernel.clock.jiffies(drain));
            }
        }
        self.kernel.maps.put("backends", &slot, &value)?;
        let service = name.clone();
        self.leaving.insert(slot, Leaving { service, addr });
        Ok(())
    }

    /// Frees a slot: flows that still name it are forgotten when they are met.
    pub(crate) fn free(&mut self, slot: u32) -> Result<()> {
        let maps = &self.kernel.maps;
        let next = layout::Backend {
            generation: self.slots.generation(slot).wrapping_add(1),
            ..layout::Backend::default()
        };
        maps.put("backends", &slot, &next)?;
        maps.remove_note(Owner::Backend(slot))?;
        self.slots.found(slot, next.generation, false);
        self.leaving.remove(&slot);
        self.owners.remove(&slot);
        Ok(())
    }

    fn put_nat(&self) -> Result<()> {
        let nat = |entry: &Entry| {
            entry
                .backends
                .values()
                .any(|b| b.method == Method::Nat as u8)
        };
        let mut config = self.kernel.config()?;
        // Replies of flows that go on still come when the last such backend has left.
        let wanted = self.entries.values().any(nat) || !self.leaving.is_empty();
        let flags = match wanted {
            true => config.flags | CONFIG_NAT,
            false => config.flags & !CONFIG_NAT,
        };
        if flags != config.flags {
            config.flags = flags;
            self.kernel.set_config(&config)?;
        }
        Ok(())
    }
}
