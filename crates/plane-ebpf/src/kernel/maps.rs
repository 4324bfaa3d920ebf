//! The maps by their names, with types.

use std::collections::BTreeMap;
use std::net::IpAddr;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use crate::layout::{Addr, Vip};
use crate::sys::{Error, Map, Result};

/// All maps of the programs, by name.
#[derive(Debug)]
pub struct Maps(pub BTreeMap<String, Map>);

impl Maps {
    /// A map.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn map(&self, name: &str) -> Result<&Map> {
        let map = self.0.get(name);
        map.ok_or_else(|| Error::Object(format!("there is no map {name}")))
    }

    /// The value of a key; none if there is none.
    ///
    /// # Errors
    /// Another size than the map's, or what the kernel says.
    pub fn get<V>(&self, map: &str, key: &(impl IntoBytes + Immutable)) -> Result<Option<V>>
    where
        V: FromZeros + FromBytes + IntoBytes,
    {
        let mut value = V::new_zeroed();
        let found = self
            .map(map)?
            .lookup_into(key.as_bytes(), value.as_mut_bytes())?;
        Ok(found.then_some(value))
    }

    /// Writes a value.
    ///
    /// # Errors
    /// As [`Self::get`]; the map is full.
    pub fn put(
        &self,
        map: &str,
        key: &(impl IntoBytes + Immutable),
        value: &(impl IntoBytes + Immutable),
    ) -> Result<()> {
        self.map(map)?.update(key.as_bytes(), value.as_bytes(), 0)
    }

    /// Deletes an entry; whether it was there.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn remove(&self, map: &str, key: &(impl IntoBytes + Immutable)) -> Result<bool> {
        self.map(map)?.delete(key.as_bytes())
    }

    /// Writes what is known of an address that is listened on.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn put_vip(&self, ip: IpAddr, vip: &Vip) -> Result<()> {
        let key = Addr::from(ip);
        match ip {
            IpAddr::V4(_) => self.put("vips4", &key.words[0], vip),
            IpAddr::V6(_) => self.put("vips6", &key, vip),
        }
    }

    /// Nobody listens on this address; whether somebody did.
    ///
    /// # Errors
    /// As [`Self::remove`].
    pub fn remove_vip(&self, ip: IpAddr) -> Result<bool> {
        let key = Addr::from(ip);
        match ip {
            IpAddr::V4(_) => self.remove("vips4", &key.words[0]),
            IpAddr::V6(_) => self.remove("vips6", &key),
        }
    }

    /// Calls `each` with all entries.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn each<K, V>(&self, map: &str, mut each: impl FnMut(K, V)) -> Result<()>
    where
        K: FromBytes,
        V: FromBytes,
    {
        self.map(map)?.for_each(|key, value| {
            if let (Ok(key), Ok(value)) = (K::read_from_bytes(key), V::read_from_bytes(value)) {
                each(key, value);
            }
        })
    }

    /// The values of a key on all processors.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn on_each_cpu<V: FromBytes>(
        &self,
        map: &str,
        key: &(impl IntoBytes + Immutable),
    ) -> Result<Vec<V>> {
        let all = self.map(map)?.lookup_per_cpu(key.as_bytes())?;
        let all = all.unwrap_or_default();
        Ok(all
            .iter()
            .filter_map(|value| V::read_from_bytes(value).ok())
            .collect())
    }

    /// Makes the values of a key on all processors zero.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn clear_on_each_cpu(&self, map: &str, key: &(impl IntoBytes + Immutable)) -> Result<()> {
        let map = self.map(map)?;
        map.update(key.as_bytes(), &vec![0; map.stride()], 0)
    }
}
