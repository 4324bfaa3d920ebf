//! The audit: whether what the kernel holds is still what was written. What differs of a service makes it a service
//! that is not held, and it is written anew; all else is mended here, and told as an event.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::adopt::{Found, place};
use crate::compile::Place;
use crate::kernel::{Owner, Print};
use crate::layout::{self, BACKEND_USED};
use crate::plane::{EbpfPlane, Entry};
use crate::sys::Result;

impl EbpfPlane {
    /// Compares what the maps hold with what was written, and mends what differs.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn verify(&mut self) -> Result<()> {
        if self.kernel.config()? != self.config {
            self.kernel.set_config(&self.config)?;
            self.mended("the configuration of the programs");
        }
        let found = self.find()?;
        let altered = self.altered_notes()?;
        // By the numbers that addresses have with us, whatever is written elsewhere.
        let ips: BTreeMap<u32, IpAddr> = self.vips.iter().map(|(ip, id)| (id, ip)).collect();
        let places = found.places(&ips);
        let mut wrong = BTreeSet::new();
        for (name, entry) in &self.entries {
            if !self.is_as_written(entry, &found, &places)? || !is_noted(entry, &altered) {
                wrong.insert(name.clone());
            }
        }
        for (owner, found) in &altered {
            self.noted.remove(owner);
            if found.is_some() {
                self.kernel.maps.purge_note(*owner)?;
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
        self.mend_leaving(&found)?;
        self.remove_places(&found, &ips)?;
        self.remove_strangers(&found)
    }

    fn is_as_written(
        &self,
        entry: &Entry,
        found: &Found,
        places: &BTreeMap<Place, u32>,
    ) -> Result<bool> {
        let turnless = |service: &layout::Service| layout::Service {
            turn: 0,
            ..*service
        };
        let service = found.services.get(&entry.id).map(turnless);
        if service != Some(turnless(&entry.service)) {
            return Ok(false);
        }
        let mut backends = entry.backends.iter();
        let backends = backends.all(|(slot, value)| found.backends.get(slot) == Some(value));
        let mut taken = entry.places.iter();
        let taken = taken.all(|place| {
            let id = self.vips.get(place.ip);
            // The replies of NAT take the VIP's address from there.
            let addr = id.and_then(|id| self.kernel.maps.get("vip_addrs", &id).ok().flatten());
            let flags = self.vip_flags(place.ip);
            places.get(place) == Some(&entry.id)
                && found.vips.get(&place.ip).copied() == id.map(|id| layout::Vip { id, flags })
                && addr == Some(layout::Addr::from(place.ip))
        });
        if !backends || !taken {
            return Ok(false);
        }
        Ok(self.set(entry.id)?.as_ref() == Some(&entry.set))
    }

    /// The texts that are not there as they were written, with what is there. One walk through both: they are
    /// many.
    fn altered_notes(&self) -> Result<BTreeMap<Owner, Option<Print>>> {
        let mut altered = BTreeMap::new();
        let found = self.kernel.maps.prints()?;
        let mut noted = self.noted.iter().peekable();
        for (owner, print) in found {
            while let Some((missing, _)) = noted.next_if(|(noted, _)| **noted < owner) {
                altered.insert(*missing, None);
            }
            let written = noted.next_if(|(noted, _)| **noted == owner);
            if written.is_none_or(|(_, written)| *written != print) {
                altered.insert(owner, Some(print));
            }
        }
        altered.extend(noted.map(|(missing, _)| (*missing, None)));
        Ok(altered)
    }

    /// Backends that have left are no service's to write again.
    fn mend_leaving(&mut self, found: &Found) -> Result<()> {
        let left = self.entries.values().flat_map(|entry| &entry.left);
        let altered = left.filter(|(slot, value)| found.backends.get(slot) != Some(value));
        let altered: Vec<(u32, layout::Backend)> = altered.map(|(s, v)| (*s, *v)).collect();
        for (slot, value) in altered {
            self.kernel.maps.put("backends", &slot, &value)?;
            self.mended("a backend that is leaving");
        }
        Ok(())
    }

    /// Removes addresses, ports and ranges that no service of ours listens on.
    fn remove_places(&mut self, found: &Found, ips: &BTreeMap<u32, IpAddr>) -> Result<()> {
        let maps = &self.kernel.maps;
        let mut removed = 0;
        for (ip, _) in found
            .vips
            .iter()
            .filter(|(ip, _)| self.vips.get(**ip).is_none())
        {
            maps.remove_vip(*ip)?;
            removed += 1;
        }
        for (key, _) in &found.listens {
            let here = ips.get(&key.vip).map(|ip| place(*ip, key));
            if here.is_none_or(|here| !self.places.contains_key(&here)) {
                maps.remove("listens", key)?;
                removed += 1;
            }
        }
        for (key, ranges) in &found.ranges {
            let wanted = ips
                .get(&key.vip)
                .and_then(|ip| self.ranges(*ip, key.proto).ok());
            match wanted.filter(|wanted| wanted.count != 0 && key.port == [0; 2]) {
                Some(wanted) if wanted == *ranges => continue,
                Some(wanted) => maps.put("ranges", key, &wanted)?,
                None => drop(maps.remove("ranges", key)?),
            }
            removed += 1;
        }
        if removed > 0 {
            self.mended("listens that no service has");
        }
        Ok(())
    }

    /// Removes what no service of ours has: a foreign hand wrote it, or a process died over it.
    fn remove_strangers(&mut self, found: &Found) -> Result<()> {
        let maps = &self.kernel.maps;
        let ids: BTreeSet<u32> = self.entries.values().map(|entry| entry.id).collect();
        let mut strangers = 0;
        for id in found.services.keys().filter(|id| !ids.contains(id)) {
            maps.put("services", id, &layout::Service::default())?;
            strangers += 1;
        }
        let used = found
            .backends
            .iter()
            .filter(|(_, b)| b.flags & BACKEND_USED != 0);
        let strange = used.map(|(slot, _)| *slot);
        let strange: Vec<u32> = strange
            .filter(|slot| !self.owners.contains_key(slot))
            .collect();
        for slot in strange {
            self.free(slot)?;
            strangers += 1;
        }
        if strangers > 0 {
            self.mended("services and backends that nobody wants");
        }
        Ok(())
    }
}

/// Whether the next process will know this service and its backends.
fn is_noted(entry: &Entry, altered: &BTreeMap<Owner, Option<Print>>) -> bool {
    altered.is_empty()
        || (!altered.contains_key(&Owner::Service(entry.id))
            && (entry.slots.values()).all(|slot| !altered.contains_key(&Owner::Backend(*slot))))
}
