//! Reads back what the kernel holds: what an earlier process left.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use plimsoll_model::{Backend, BackendAddr, Mss, Name, Ports, Service};

use crate::books::slot_of;
use crate::compile::Place;
use crate::kernel::{Owner, Print};
use crate::layout::{self, BACKEND_LEFT, BACKEND_USED, Method, SERVICE_USED};
use crate::notes::{BackendNote, ServiceNote};
use crate::plane::{EbpfPlane, Entry};
use crate::sys::{Map, Result};

/// All that the maps hold of services, but for their texts.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) services: BTreeMap<u32, layout::Service>,
    pub(crate) backends: BTreeMap<u32, layout::Backend>,
    pub(crate) vips: BTreeMap<IpAddr, layout::Vip>,
    pub(crate) listens: Vec<(layout::Listen, u32)>,
    pub(crate) ranges: Vec<(layout::Listen, layout::Ranges)>,
}

impl Found {
    /// Where services take packets, at addresses that have these numbers.
    pub(crate) fn places(&self, ips: &BTreeMap<u32, IpAddr>) -> BTreeMap<Place, u32> {
        let mut places = BTreeMap::new();
        for (key, service) in &self.listens {
            if let Some(ip) = ips.get(&key.vip) {
                places.insert(place(*ip, key), *service);
            }
        }
        for (key, ranges) in &self.ranges {
            let Some(ip) = ips.get(&key.vip) else {
                continue;
            };
            for range in ranges.range.iter().take(ranges.count as usize) {
                let ports = Ports::Range(range.first, range.last);
                let (ip, proto) = (*ip, key.proto);
                places.insert(Place { ip, proto, ports }, range.service);
            }
        }
        places
    }
}

/// The place that a key of `listens` names, at this address.
pub(crate) fn place(ip: IpAddr, key: &layout::Listen) -> Place {
    let ports = match u16::from_be_bytes(key.port) {
        0 => Ports::All,
        port => Ports::One(port),
    };
    let proto = key.proto;
    Place { ip, proto, ports }
}

impl EbpfPlane {
    pub(crate) fn find(&self) -> Result<Found> {
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
        maps.each("listens", |key, service| found.listens.push((key, service)))?;
        maps.each("ranges", |key, ranges| found.ranges.push((key, ranges)))?;
        Ok(found)
    }

    /// What a set holds; none if there is none, or it is not one.
    pub(crate) fn set(&self, id: u32) -> Result<Option<Vec<u32>>> {
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
        let ips = found.vips.iter().map(|(ip, vip)| (vip.id, *ip)).collect();
        for (place, service) in &found.places(&ips) {
            places.entry(*service).or_default().insert(*place);
        }
        for (id, value) in &found.services {
            let note = self.kernel.maps.note(Owner::Service(*id))?;
            if let Some(text) = &note {
                self.noted.insert(Owner::Service(*id), Print::of(text));
            }
            self.ids.occupy(*id);
            let Some(mut spec) = note.and_then(|text| ServiceNote::read(&text)) else {
                // Nobody can say what it was: its places are taken over by whoever asks for them.
                self.ids.give(*id);
                continue;
            };
            spec.packets.mss = match value.mss {
                0 => None,
                layout::MSS_FIT => Some(Mss::Fit),
                bytes => u16::try_from(bytes).ok().map(Mss::Bytes),
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
        if let Some(text) = &note {
            self.noted.insert(Owner::Backend(slot), Print::of(text));
        }
        let known = note.and_then(|text| {
            let (addr, origin) = BackendNote::read(&text)?;
            Some((names.get(&value.service)?.clone(), addr, origin))
        });
        let Some((name, addr, origin)) = known else {
            return match self.only_looks() {
                true => Ok(()),
                false => self.free(slot),
            };
        };
        self.owners.insert(slot, (name.clone(), addr.clone()));
        if value.flags & BACKEND_LEFT != 0 {
            if let Some(entry) = self.entries.get_mut(&name) {
                entry.leaving.insert(addr, slot);
                entry.left.insert(slot, *value);
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

    /// The service and the backend of a slot's name in a flow or a set.
    pub(crate) fn owner_of(&self, slot_name: u32) -> Option<(&Name, &BackendAddr)> {
        let (slot, _) = slot_of(slot_name);
        self.owners.get(&slot).map(|(name, addr)| (name, addr))
    }
}
