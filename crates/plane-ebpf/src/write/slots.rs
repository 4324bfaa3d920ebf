//! Backends and their slots: given out, written, left and freed.

use std::net::IpAddr;

use plimsoll_model::{BackendAddr, Name, Ports, Service};
use plimsoll_plane::PlaneError;

use super::{full, other};
use crate::compile::{CompiledBackend, Place};
use crate::kernel::Owner;
use crate::layout::{
    self, BACKEND_DEADLINE, BACKEND_GONE, BACKEND_LEFT, BACKEND_RESET, BACKEND_USED, Method,
};
use crate::notes::BackendNote;
use crate::plane::{EbpfPlane, Entry, drain_time};
use crate::sys::Result;
use crate::sys::net::RouteKind;

/// The way to a backend.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// It is an address of this host.
    local: bool,
    /// The source that the host itself would take.
    source: Option<IpAddr>,
    /// The interface and the next hop.
    next: Option<(u32, IpAddr)>,
}

impl EbpfPlane {
    /// The slot of a backend: the one that it has, or had when it left, or a new one.
    pub(super) fn slot_for(
        &mut self,
        name: &Name,
        entry: &mut Entry,
        addr: &BackendAddr,
    ) -> Result<u32, PlaneError> {
        if let Some(slot) = entry.slots.get(addr) {
            return Ok(*slot);
        }
        let slot = match entry.leaving.remove(addr) {
            Some(slot) => {
                entry.left.remove(&slot);
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
                maps.put("lives", &slot, &layout::Live::default())?;
                maps.clear_on_each_cpu("traffic", &slot)?;
                maps.put("backends", &slot, &fresh)?;
                slot
            }
        };
        entry.slots.insert(addr.clone(), slot);
        self.owners.insert(slot, (name.clone(), addr.clone()));
        Ok(slot)
    }

    /// What is to be in a slot.
    pub(super) fn backend_value(
        &mut self,
        service: &Service,
        entry: &Entry,
        slot: u32,
        backend: &CompiledBackend,
    ) -> Result<layout::Backend, PlaneError> {
        let mut value = backend.value;
        // Ours, whatever somebody else has written there: flows go by it.
        value.generation = self.slots.generation(slot);
        value.service = entry.id;
        if backend.draining
            && let Some(drain) = drain_time(service)
        {
            let held: Option<layout::Backend> = self.kernel.maps.get("backends", &slot)?;
            let held = held.unwrap_or_default();
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
        let way = self.way(*ip)?;
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

    /// The way to an address; asked for once in a plan.
    fn way(&mut self, ip: IpAddr) -> Result<Way> {
        if let Some(way) = self.ways.get(&ip) {
            return Ok(*way);
        }
        let route = match self.netlink.route_to(ip, None) {
            Ok(route) => route,
            // No route is no fault of ours; packets are dropped for that reason, and counted.
            Err(error) if error.errno().is_some() => None,
            Err(error) => return Err(error),
        };
        let way = Way {
            local: (route.as_ref()).is_some_and(|route| route.kind == RouteKind::Local),
            source: route.as_ref().and_then(|route| route.source),
            next: route.map(|route| (route.interface, route.gateway.unwrap_or(ip))),
        };
        self.ways.insert(ip, way);
        Ok(way)
    }

    pub(super) fn put_backend(
        &mut self,
        service: &Service,
        entry: &Entry,
        slot: u32,
        value: &layout::Backend,
        addr: &BackendAddr,
    ) -> Result<(), PlaneError> {
        let owner = Owner::Backend(slot);
        let note = BackendNote::text(service, addr).map_err(other)?;
        self.put_note(owner, &note)?;
        if entry.backends.get(&slot) != Some(value) {
            self.kernel.maps.put("backends", &slot, value)?;
        }
        Ok(())
    }

    /// A backend has left its service: its TCP flows may go on for a while, its UDP flows move.
    pub(super) fn leave(
        &mut self,
        name: &Name,
        service: &Service,
        addr: &BackendAddr,
    ) -> Result<()> {
        let Some(entry) = self.entries.get_mut(name) else {
            return Ok(());
        };
        let Some(slot) = entry.slots.get(addr).copied() else {
            return Ok(());
        };
        let held: Option<layout::Backend> = self.kernel.maps.get("backends", &slot)?;
        let mut value = held.unwrap_or_default();
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
        entry.slots.remove(addr);
        entry.leaving.insert(addr.clone(), slot);
        entry.left.insert(slot, value);
        Ok(())
    }

    /// Frees a slot: flows that still name it are forgotten when they are met.
    pub(crate) fn free(&mut self, slot: u32) -> Result<()> {
        let next = layout::Backend {
            generation: self.slots.generation(slot).wrapping_add(1),
            ..layout::Backend::default()
        };
        self.kernel.maps.put("backends", &slot, &next)?;
        self.remove_note(Owner::Backend(slot))?;
        self.slots.found(slot, next.generation, false);
        if let Some((name, addr)) = self.owners.remove(&slot)
            && let Some(entry) = self.entries.get_mut(&name)
        {
            entry.leaving.remove(&addr);
            entry.left.remove(&slot);
            let id = entry.id;
            self.note_flags(&name, id);
        }
        Ok(())
    }
}
