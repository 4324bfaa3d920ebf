//! Writes services into the maps, new things before old ones go.

mod places;
mod slots;

pub(crate) use slots::Way;

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_model::{BackendAddr, Name, Service};
use plimsoll_plane::PlaneError;

use crate::books::slot_name;
use crate::compile::{Compiled, Place, compile};
use crate::kernel::Owner;
use crate::layout::{self, CONFIG_NAT, CONFIG_TUNNEL, Method};
use crate::notes::ServiceNote;
use crate::plane::{EbpfPlane, Entry};
use crate::sys::{Map, MapKind, MapSpec, Result};

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
        let mut entry = match self.entries.remove(name) {
            Some(entry) => entry,
            None => Entry {
                id: (self.ids.take())
                    .ok_or_else(|| full("services", self.kernel.sizes.services))?,
                ..Entry::default()
            },
        };
        let id = entry.id;
        let written = self.write_service(service, &mut entry, &compiled);
        let places: BTreeSet<Place> = (service.spec.listens.iter().filter_map(Place::of)).collect();
        let before = match written {
            Ok(()) => std::mem::replace(&mut entry.places, places.clone()),
            Err(_) => BTreeSet::new(),
        };
        let wanted: BTreeSet<&BackendAddr> = compiled.backends.iter().map(|b| &b.addr).collect();
        let gone = entry.slots.keys().filter(|addr| !wanted.contains(addr));
        let gone: Vec<BackendAddr> = gone.cloned().collect();
        self.entries.insert(name.clone(), entry);
        written?;
        for place in &places {
            self.places.insert(*place, name.clone());
        }
        self.give_up(name, before.difference(&places));
        self.put_places(before.union(&places))?;
        for addr in gone {
            self.leave(name, service, &addr)?;
        }
        self.note_flags(name, id);
        Ok(())
    }

    /// Writes all but where it listens; backends that it has no more stay.
    fn write_service(
        &mut self,
        service: &Service,
        entry: &mut Entry,
        compiled: &Compiled,
    ) -> Result<(), PlaneError> {
        let mut written = BTreeMap::new();
        for backend in &compiled.backends {
            let slot = self.slot_for(service.name(), entry, &backend.addr)?;
            let value = self.backend_value(service, entry, slot, backend)?;
            self.put_backend(service, entry, slot, &value, &backend.addr)?;
            written.insert(slot, value);
        }
        let place_name = |place: &u32| {
            let slot = compiled.backends.get(*place as usize);
            let slot = slot.and_then(|b| entry.slots.get(&b.addr))?;
            Some(slot_name(*slot, written.get(slot)?.generation))
        };
        let set: Vec<u32> = compiled.set.iter().filter_map(place_name).collect();
        if set != entry.set || entry.service.flags == 0 {
            self.put_set(entry.id, &set)?;
        }
        let mut value = compiled.service;
        for (to, from) in value.timeouts.iter_mut().zip(compiled.timeouts) {
            *to = self.kernel.clock.jiffies(from);
        }
        self.put_service(service, entry.id, value)?;
        entry.service = value;
        entry.set = set;
        entry.backends = written;
        Ok(())
    }

    /// Takes a service away, with its backends and those that were leaving it: without a listen no
    /// packet of their flows comes here any more.
    pub(crate) fn remove(&mut self, name: &Name) -> Result<(), PlaneError> {
        let Some(entry) = self.entries.remove(name) else {
            return Ok(());
        };
        self.flags.remove(&entry.id);
        self.give_up(name, entry.places.iter());
        self.put_places(entry.places.iter())?;
        let maps = &self.kernel.maps;
        maps.remove_note(Owner::Service(entry.id))?;
        let gone = layout::Service {
            // Flows that are left have nothing to wait for.
            timeouts: entry.service.timeouts,
            ..layout::Service::default()
        };
        maps.put("services", &entry.id, &gone)?;
        self.put_set(entry.id, &[])?;
        for slot in entry.slots.values().chain(entry.leaving.values()) {
            self.free(*slot)?;
        }
        self.ids.give(entry.id);
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
        service: &Service,
        id: u32,
        mut value: layout::Service,
    ) -> Result<(), PlaneError> {
        let maps = &self.kernel.maps;
        let note = ServiceNote::text(&service.spec).map_err(other)?;
        maps.put_note(Owner::Service(id), &note)?;
        let held: Option<layout::Service> = maps.get("services", &id)?;
        value.turn = held.unwrap_or_default().turn;
        Ok(maps.put("services", &id, &value)?)
    }

    /// What the programs have to look for because of this service, beside packets to VIPs. What
    /// concerns flows that go on still comes when the last such backend has left.
    pub(crate) fn note_flags(&mut self, name: &Name, id: u32) {
        let flags = self.entries.get(name).map_or(0, |entry| {
            let has = |method: Method| {
                let mut backends = entry.backends.values();
                backends.any(|b| b.method == method as u8) || !entry.leaving.is_empty()
            };
            let nat = has(Method::Nat).then_some(CONFIG_NAT);
            let tunnel = has(Method::Tunnel).then_some(CONFIG_TUNNEL);
            nat.unwrap_or(0) | tunnel.unwrap_or(0)
        });
        match flags {
            0 => self.flags.remove(&id),
            _ => self.flags.insert(id, flags),
        };
    }

    /// Tells the programs what to look for.
    pub(crate) fn put_flags(&self) -> Result<()> {
        let mut config = self.kernel.config()?;
        let flags = self.flags.values().fold(0, |all, flags| all | flags);
        let flags = config.flags & !(CONFIG_NAT | CONFIG_TUNNEL) | flags;
        if flags != config.flags {
            config.flags = flags;
            self.kernel.set_config(&config)?;
        }
        Ok(())
    }
}
