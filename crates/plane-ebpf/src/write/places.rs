//! Where services listen: addresses, ports, ranges of ports.

use std::collections::BTreeSet;
use std::net::IpAddr;

use plimsoll_model::{Name, Ports};
use plimsoll_plane::PlaneError;

use super::full;
use crate::compile::{PROTOCOLS, Place};
use crate::layout::{self, RANGES, VIP_ALL, VIP_ECHO, VIP_RANGES};
use crate::plane::EbpfPlane;
use crate::sys::Result;

impl EbpfPlane {
    /// These places are no longer this service's, unless another has them already.
    pub(super) fn give_up<'a>(&mut self, name: &Name, places: impl Iterator<Item = &'a Place>) {
        for place in places {
            if self.places.get(place) == Some(name) {
                self.places.remove(place);
            }
        }
    }

    /// Writes what is listened on at these places: by those that own them now, or by nobody.
    pub(super) fn put_places<'a>(
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
            self.kernel.maps.put("vip_addrs", &id, &addr)?;
        }
        for place in &places {
            self.put_place(place)?;
        }
        for ip in ips {
            self.put_vip(ip)?;
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
        match place.ports {
            Ports::One(port) => key.port = port.to_be_bytes(),
            Ports::All => {}
            Ports::Range(..) => {
                let ranges = self.ranges(place.ip, place.proto)?;
                match ranges.count {
                    0 => drop(maps.remove("ranges", &key)?),
                    _ => maps.put("ranges", &key, &ranges)?,
                }
                return Ok(());
            }
        }
        match self.owner_id(place) {
            Some(id) => maps.put("listens", &key, &id)?,
            None => drop(maps.remove("listens", &key)?),
        }
        Ok(())
    }

    /// The number of the service that has this place.
    fn owner_id(&self, place: &Place) -> Option<u32> {
        let name = self.places.get(place)?;
        self.entries.get(name).map(|entry| entry.id)
    }

    /// All ranges of ports of an address and protocol.
    pub(crate) fn ranges(&self, ip: IpAddr, proto: u8) -> Result<layout::Ranges, PlaneError> {
        let mut ranges = layout::Ranges::default();
        for (place, _) in self.places.range(Place::all_ranges(ip, proto)) {
            let (Ports::Range(first, last), Some(service)) = (place.ports, self.owner_id(place))
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
        Ok(ranges)
    }

    /// What the programs are to know of an address; 0 if nobody listens there.
    pub(crate) fn vip_flags(&self, ip: IpAddr) -> u32 {
        let mut flags = 0;
        for proto in PROTOCOLS {
            if self.places.range(Place::any(ip, proto)).next().is_some() {
                flags |= VIP_ECHO;
            }
            if (self.places.range(Place::all_ranges(ip, proto)).next()).is_some() {
                flags |= VIP_RANGES;
            }
            let ports = Ports::All;
            if self.places.contains_key(&Place { ip, proto, ports }) {
                flags |= VIP_ALL;
            }
        }
        flags
    }

    fn put_vip(&mut self, ip: IpAddr) -> Result<()> {
        let Some(id) = self.vips.get(ip) else {
            return Ok(());
        };
        let flags = self.vip_flags(ip);
        let maps = &self.kernel.maps;
        match flags {
            0 => {
                maps.remove_vip(ip)?;
                self.vips.remove(ip);
            }
            _ => maps.put_vip(ip, &layout::Vip { id, flags })?,
        }
        Ok(())
    }
}
