//! Writes services into the maps, new things before old ones go.

mod places;
mod slots;

pub(crate) use slots::Way;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

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

/// Services that are written together: their sets are put into their places by one call, for which the kernel
/// waits until no packet uses the old ones. Each needs a descriptor meanwhile.
const AT_ONCE: usize = 256;

/// A service all of whose backends are written.
struct Prepared<'a> {
    service: &'a Service,
    id: u32,
    compiled: Compiled,
    backends: BTreeMap<u32, layout::Backend>,
    set: Vec<u32>,
    /// Its set, if it is another one than before.
    map: Option<Map>,
}

impl EbpfPlane {
    /// Brings the maps to these services; what went wrong, by service. What was written before an error stays; the
    /// next try goes on from there.
    pub(crate) fn write<'a>(
        &mut self,
        services: &'a [(Name, Arc<Service>)],
    ) -> BTreeMap<&'a Name, PlaneError> {
        let mut faults = BTreeMap::new();
        for services in services.chunks(AT_ONCE) {
            let mut prepared = Vec::new();
            for (name, service) in services {
                match self.prepare(service) {
                    Ok(done) => prepared.push((name, done)),
                    Err(error) => drop(faults.insert(name, error)),
                }
            }
            // What the programs look for comes before what they find: a reply of NAT that they do not know goes
            // to its client as it is, who ends the flow.
            if let Err(error) = self.add_flags(prepared.iter().map(|(_, prepared)| prepared)) {
                let failed = prepared.iter().map(|(name, _)| (*name, other(&error)));
                faults.extend(failed);
                continue;
            }
            let sets = prepared
                .iter()
                .filter_map(|(_, p)| Some((p.id, p.map.as_ref()?)));
            let put = self.put_sets(sets);
            for (name, prepared) in prepared {
                let done = match &put {
                    Err(error) if prepared.map.is_some() => Err(other(error)),
                    _ => self.complete(prepared),
                };
                if let Err(error) = done {
                    faults.insert(name, error);
                }
            }
        }
        faults
    }

    fn put_sets<'m>(&self, sets: impl Iterator<Item = (u32, &'m Map)>) -> Result<()> {
        self.kernel.maps.map("sets")?.set_inners(sets)
    }

    /// Writes the backends of a service; none is given anything yet.
    fn prepare<'a>(&mut self, service: &'a Service) -> Result<Prepared<'a>, PlaneError> {
        let compiled = compile(service);
        let name = service.name();
        let mut entry = match self.entries.remove(name) {
            Some(entry) => entry,
            None => Entry {
                id: (self.ids.take())
                    .ok_or_else(|| full("services", self.kernel.sizes.services))?,
                ..Entry::default()
            },
        };
        let backends = self.write_backends(service, &mut entry, &compiled);
        self.entries.insert(name.clone(), entry.clone());
        let backends = backends?;
        let place_name = |place: &u32| {
            let slot = compiled.backends.get(*place as usize);
            let slot = slot.and_then(|b| entry.slots.get(&b.addr))?;
            Some(slot_name(*slot, backends.get(slot)?.generation))
        };
        let set: Vec<u32> = compiled.set.iter().filter_map(place_name).collect();
        let is_new = set != entry.set || entry.service.flags == 0;
        Ok(Prepared {
            service,
            id: entry.id,
            map: is_new.then(|| new_set(&set)).transpose()?,
            compiled,
            backends,
            set,
        })
    }

    fn write_backends(
        &mut self,
        service: &Service,
        entry: &mut Entry,
        compiled: &Compiled,
    ) -> Result<BTreeMap<u32, layout::Backend>, PlaneError> {
        let mut written = BTreeMap::new();
        for backend in &compiled.backends {
            let slot = self.slot_for(service.name(), entry, &backend.addr)?;
            let value = self.backend_value(service, entry, slot, backend)?;
            self.put_backend(service, entry, slot, &value, &backend.addr)?;
            written.insert(slot, value);
        }
        Ok(written)
    }

    /// Writes what is left of a service whose set is in its place: how it is scheduled, where it listens, who
    /// has left it.
    fn complete(&mut self, prepared: Prepared<'_>) -> Result<(), PlaneError> {
        let (service, id) = (prepared.service, prepared.id);
        let name = service.name();
        let mut value = prepared.compiled.service;
        for (to, from) in value.timeouts.iter_mut().zip(prepared.compiled.timeouts) {
            *to = self.kernel.clock.jiffies(from);
        }
        self.put_service(service, id, value)?;
        let places: BTreeSet<Place> = (service.spec.listens.iter().filter_map(Place::of)).collect();
        let Some(entry) = self.entries.get_mut(name) else {
            return Ok(());
        };
        entry.service = value;
        entry.set = prepared.set;
        entry.backends = prepared.backends;
        let before = std::mem::replace(&mut entry.places, places.clone());
        let wanted = prepared.compiled.backends.iter().map(|b| &b.addr);
        let wanted: BTreeSet<&BackendAddr> = wanted.collect();
        let gone = entry.slots.keys().filter(|addr| !wanted.contains(addr));
        let gone: Vec<BackendAddr> = gone.cloned().collect();
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

    /// Takes services away; what went wrong, by service.
    pub(crate) fn remove_all<'a>(&mut self, names: &[&'a Name]) -> BTreeMap<&'a Name, PlaneError> {
        let mut faults = BTreeMap::new();
        let mut ids = Vec::new();
        for name in names {
            let id = self.entries.get(*name).map(|entry| entry.id);
            match self.remove(name) {
                Ok(()) => ids.extend(id),
                Err(error) => drop(faults.insert(*name, error)),
            }
        }
        // Nobody looks at the set of a service that is not in use, and the next one writes its own: that it is
        // emptied only frees memory.
        let _ = new_set(&[]).and_then(|none| self.put_sets(ids.iter().map(|id| (*id, &none))));
        faults
    }

    /// Takes a service away, with its backends and those that were leaving it: without a listen no
    /// packet of their flows comes here any more.
    fn remove(&mut self, name: &Name) -> Result<(), PlaneError> {
        let Some(entry) = self.entries.remove(name) else {
            return Ok(());
        };
        self.flags.remove(&entry.id);
        self.give_up(name, entry.places.iter());
        self.put_places(entry.places.iter())?;
        self.remove_note(Owner::Service(entry.id))?;
        let gone = layout::Service {
            // Flows that are left have nothing to wait for.
            timeouts: entry.service.timeouts,
            ..layout::Service::default()
        };
        self.kernel.maps.put("services", &entry.id, &gone)?;
        for slot in entry.slots.values().chain(entry.leaving.values()) {
            self.free(*slot)?;
        }
        self.ids.give(entry.id);
        Ok(())
    }

    fn put_service(
        &mut self,
        service: &Service,
        id: u32,
        mut value: layout::Service,
    ) -> Result<(), PlaneError> {
        let note = ServiceNote::text(&service.spec).map_err(other)?;
        self.put_note(Owner::Service(id), &note)?;
        let maps = &self.kernel.maps;
        let held: Option<layout::Service> = maps.get("services", &id)?;
        value.turn = held.unwrap_or_default().turn;
        Ok(maps.put("services", &id, &value)?)
    }

    /// What the programs have to look for because of this service, beside packets to VIPs. What
    /// concerns flows that go on still comes when the last such backend has left.
    pub(crate) fn note_flags(&mut self, name: &Name, id: u32) {
        let flags = self
            .entries
            .get(name)
            .map_or(0, |entry| match entry.leaving.is_empty() {
                true => flags_of(entry.backends.values()),
                false => CONFIG_NAT | CONFIG_TUNNEL,
            });
        match flags {
            0 => self.flags.remove(&id),
            _ => self.flags.insert(id, flags),
        };
    }

    /// Tells the programs what to look for, and no longer for what there is none of any more.
    pub(crate) fn put_flags(&mut self) -> Result<()> {
        let flags = self.flags.values().fold(0, |all, flags| all | flags);
        self.set_flags(self.config.flags & !(CONFIG_NAT | CONFIG_TUNNEL) | flags)
    }

    /// Tells the programs to look for what these services need, too.
    fn add_flags<'p, 'a: 'p>(
        &mut self,
        services: impl Iterator<Item = &'p Prepared<'a>>,
    ) -> Result<()> {
        let flags = services.fold(self.config.flags, |flags, prepared| {
            flags | flags_of(prepared.backends.values())
        });
        self.set_flags(flags)
    }

    fn set_flags(&mut self, flags: u32) -> Result<()> {
        if flags != self.config.flags {
            let config = layout::Config {
                flags,
                ..self.config
            };
            self.kernel.set_config(&config)?;
            self.config = config;
        }
        Ok(())
    }
}

/// What the programs have to look for because of these backends.
fn flags_of<'b>(backends: impl Iterator<Item = &'b layout::Backend>) -> u32 {
    backends.fold(0, |flags, backend| match backend.method {
        method if method == Method::Nat as u8 => flags | CONFIG_NAT,
        method if method == Method::Tunnel as u8 => flags | CONFIG_TUNNEL,
        _ => flags,
    })
}

/// A set of these slots: how many there are, then each.
fn new_set(slots: &[u32]) -> Result<Map> {
    let len = u32::try_from(slots.len()).unwrap_or(u32::MAX);
    let room = len.saturating_add(1).max(2);
    let spec = MapSpec::new(MapKind::Array, "plimsoll_set", 4, 4, room).flags(Map::INNER_MAP);
    let map = Map::create(&spec)?;
    let values = std::iter::once(&len).chain(slots);
    let values: Vec<u8> = values.flat_map(|value| value.to_ne_bytes()).collect();
    let keys: Vec<u8> = (0..=len).flat_map(u32::to_ne_bytes).collect();
    map.update_many(&keys, &values)?;
    Ok(map)
}
