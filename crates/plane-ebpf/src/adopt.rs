//! Reads back what the kernel holds: at start, what an earlier process left; in an audit, whether it
//! is still what was written.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use plimsoll_model::{Backend, BackendAddr, Name, Ports, Service};

use crate::books::slot_of;
use crate::compile::{Place, proto_of};
use crate::kernel::Owner;
use crate::layout::{self, BACKEND_LEFT, BACKEND_USED, Method, SERVICE_USED};
use crate::notes::{BackendNote, ServiceNote};
use crate::plane::{EbpfPlane, Entry};
use crate::sys::{Map, Result};

/// All that the maps hold of services, but for their texts.
#[derive(Debug, Default)]
struct Found {
    services: BTreeMap<u32, layout::Service>,
    backends: BTreeMap<u32, layout::Backend>,
    places: BTreeMap<Place, u32>,
    vips: BTreeMap<IpAddr, layout::Vip>,
}

impl EbpfPlane {
    fn find(&self) -> Result<Found> {
        let maps = &self.kernel.maps;
        let mut found = Found::default();
        maps.each("services", |id: u32, service: layout::Service| {
            if service.flags & SERVICE_USED != 0 {
                found.services.insert(id, service);
            }
        })?;
        maps.each("backends", |slot: u32, backend: layout::Backend| {
            if backend.flags & BACKEND_USED != 0 || backend.generation != 0 {
                found.backends.insert(slot, backend);
            }
        })?;
        maps.each("vips4", |key: u32, vip: layout::Vip| {
            let addr = layout::Addr {
                words: [key, 0, 0, 0],
            };
            found.vips.insert(addr.ip(4), vip);
        })?;
        maps.each("vips6", |key: layout::Addr, vip: layout::Vip| {
            found.vips.insert(key.ip(6), vip);
        })?;
        let ips: BTreeMap<u32, IpAddr> = found.vips.iter().map(|(ip, vip)| (vip.id, *ip)).collect();
        let mut places = BTreeMap::new();
        maps.each("listens", |key: layout::Listen, service: u32| {
            if let Some(ip) = ips.get(&key.vip) {
                let ports = match u16::from_be_bytes(key.port) {
                    0 => Ports::All,
                    port => Ports::One(port),
                };
                let (ip, proto) = (*ip, key.proto);
                places.insert(Place { ip, proto, ports }, service);
            }
        })?;
        maps.each("ranges", |key: layout::Listen, ranges: layout::Ranges| {
            let Some(ip) = ips.get(&key.vip) else { return };
            for range in ranges.range.iter().take(ranges.count as usize) {
                let ports = Ports::Range(range.first, range.last);
                let (ip, proto) = (*ip, key.proto);
                places.insert(Place { ip, proto, ports }, range.service);
            }
        })?;
        found.places = places;
        Ok(found)
    }

    /// What a set holds; none if there is none, or it is not one.
    fn set(&self, id: u32) -> Result<Option<Vec<u32>>> {
        let Some(inner) = self.kernel.maps.map("sets")?.inner_id(&id.to_ne_bytes())? else {
            return Ok(None);
        };
        // Another may have been put there in between; the next audit sees that one.
        let Ok(map) = Map::from_id(inner) else {
            return Ok(None);
        };
        let mut values = Vec::new();
        map.for_each(|_, value| {
            values.extend(value.first_chunk().map(|v| u32::from_ne_bytes(*v)));
        })?;
        let Some((len, slots)) = values.split_first() else {
            return Ok(None);
        };
        Ok(slots.get(..*len as usize).map(<[u32]>::to_vec))
    }

    /// Takes on what an earlier process left. Of services that is their names, listens and backends;
    /// the rest of what is desired is written over it when it is known, and no flow notices.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn adopt(&mut self) -> Result<()> {
        let found = self.find()?;
        let mut names = BTreeMap::new();
        for (ip, vip) in &found.vips {
            self.vips.found(*ip, vip.id);
        }
        for (slot, backend) in &found.backends {
            let used = backend.flags & BACKEND_USED != 0;
            self.slots.found(*slot, backend.generation, used);
        }
        let mut places: BTreeMap<u32, BTreeSet<Place>> = BTreeMap::new();
        for (place, service) in &found.places {
            places.entry(*service).or_default().insert(*place);
        }
        for (id, value) in &found.services {
            let note = self.kernel.maps.note(Owner::Service(*id))?;
            self.ids.occupy(*id);
            let Some(spec) = note.and_then(|text| ServiceNote::read(&text)) else {
                // Nobody can say what it was: its places are taken over by whoever asks for them.
                self.ids.give(*id);
                continue;
            };
            let name = spec.name.clone();
            let entry = Entry {
                id: *id,
                service: layout::Service { turn: 0, ..*value },
                set: self.set(*id)?.unwrap_or_default(),
                places: places.remove(id).unwrap_or_default(),
                ..Entry::default()
            };
            for place in &entry.places {
                self.places.insert(*place, name.clone());
            }
            names.insert(*id, name.clone());
            self.entries.insert(name.clone(), entry);
            self.held
                .services
                .insert(name, Arc::new(Service::new(spec, [])));
        }
        for (slot, value) in &found.backends {
            if value.flags & BACKEND_USED != 0 {
                self.adopt_backend(*slot, value, &names)?;
            }
        }
        for (id, name) in &names {
            self.note_flags(name, *id);
        }
        Ok(())
    }

    fn adopt_backend(
        &mut self,
        slot: u32,
        value: &layout::Backend,
        names: &BTreeMap<u32, Name>,
    ) -> Result<()> {
        let note = self.kernel.maps.note(Owner::Backend(slot))?;
        let known = note.and_then(|text| {
            let (addr, origin) = BackendNote::read(&text)?;
            Some((names.get(&value.service)?.clone(), addr, origin))
        });
        let Some((name, addr, origin)) = known else {
            return self.free(slot);
        };
        self.owners.insert(slot, (name.clone(), addr.clone()));
        if value.flags & BACKEND_LEFT != 0 {
            if let Some(entry) = self.entries.get_mut(&name) {
                entry.leaving.insert(addr, slot);
            }
            return Ok(());
        }
        let mut backend = Backend::new(addr.clone(), origin);
        backend.weight = value.weight;
        backend.upper = value.upper;
        backend.lower = value.lower;
        backend.forward = match value.method {
            m if m == Method::Nat as u8 => plimsoll_model::Forward::Nat,
            m if m == Method::Tunnel as u8 => {
                plimsoll_model::Forward::Tunnel(plimsoll_model::Tunnel::Ipip)
            }
            _ => plimsoll_model::Forward::Dr,
        };
        if let Some(entry) = self.entries.get_mut(&name) {
            entry.slots.insert(addr.clone(), slot);
            entry.backends.insert(slot, *value);
        }
        if let Some(service) = self.held.services.get_mut(&name) {
            let service = Arc::make_mut(service);
            service.backends.insert(addr, Arc::new(backend));
        }
        Ok(())
    }

    /// Compares what the maps hold with what was written. A service of which anything differs is
    /// taken as not held, so that it is written anew; what nobody wrote is removed.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn verify(&mut self) -> Result<()> {
        let found = self.find()?;
        let mut wrong = BTreeSet::new();
        for (name, entry) in &self.entries {
            if !self.is_as_written(entry, &found)? {
                wrong.insert(name.clone());
            }
        }
        for name in wrong {
            self.held.services.remove(&name);
            if let Some(entry) = self.entries.get_mut(&name) {
                // All of it is written again, whatever it was that differed.
                entry.backends.clear();
                entry.set.clear();
                entry.service = layout::Service::default();
            }
        }
        self.remove_strangers(&found)
    }

    fn is_as_written(&self, entry: &Entry, found: &Found) -> Result<bool> {
        let service = found.services.get(&entry.id);
        let service = service.map(|service| layout::Service {
            turn: 0,
            ..*service
        });
        let written = layout::Service {
            turn: 0,
            ..entry.service
        };
        if service != Some(written) {
            return Ok(false);
        }
        let backends = entry.backends.iter();
        let all = backends.map(|(slot, value)| found.backends.get(slot) == Some(value));
        let places = entry.places.iter();
        let taken = places.map(|place| {
            let vip = found.vips.get(&place.ip).map(|vip| vip.id);
            // The replies of NAT take the VIP's address from there.
            let addr = vip.and_then(|id| self.kernel.maps.get("vip_addrs", &id).ok().flatten());
            found.places.get(place) == Some(&entry.id)
                && vip == self.vips.get(place.ip)
                && addr == Some(layout::Addr::from(place.ip))
        });
        if !all.chain(taken).all(|as_written| as_written) {
            return Ok(false);
        }
        Ok(self.set(entry.id)?.as_ref() == Some(&entry.set))
    }

    /// Removes what no service of ours has: a foreign hand wrote it, or a process died over it.
    fn remove_strangers(&mut self, found: &Found) -> Result<()> {
        let maps = &self.kernel.maps;
        let ids: BTreeSet<u32> = self.entries.values().map(|entry| entry.id).collect();
        for (place, _) in found
            .places
            .iter()
            .filter(|(p, _)| !self.places.contains_key(p))
        {
            let key = layout::Listen {
                vip: found.vips.get(&place.ip).map_or(0, |vip| vip.id),
                proto: place.proto,
                port: match place.ports {
                    Ports::One(port) => port.to_be_bytes(),
                    _ => [0; 2],
                },
                pad: 0,
            };
            if !matches!(place.ports, Ports::Range(..)) && proto_of(place.proto).is_some() {
                maps.remove("listens", &key)?;
            }
        }
        for id in found.services.keys().filter(|id| !ids.contains(id)) {
            maps.put("services", id, &layout::Service::default())?;
        }
        let strange: Vec<u32> = (found.backends.iter())
            .filter(|(slot, value)| {
                value.flags & BACKEND_USED != 0 && !self.owners.contains_key(slot)
            })
            .map(|(slot, _)| *slot)
            .collect();
        for slot in strange {
            self.free(slot)?;
        }
        Ok(())
    }

    /// The service and the backend of a slot's name in a flow or a set.
    pub(crate) fn owner_of(&self, slot_name: u32) -> Option<(&Name, &BackendAddr)> {
        let (slot, _) = slot_of(slot_name);
        self.owners.get(&slot).map(|(name, addr)| (name, addr))
    }
}
