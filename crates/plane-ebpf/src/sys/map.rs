//! Maps: what programs and this process share.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::bpf::{Definition, Handle, number};
use super::{Error, Result, host};

/// Kinds of maps (`enum bpf_map_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MapKind {
    /// A hash table.
    Hash,
    /// An array, by a number of 4 bytes.
    Array,
    /// An array of programs, for tail calls.
    ProgramArray,
    /// A hash table with a value for each processor.
    PerCpuHash,
    /// An array with a value for each processor.
    PerCpuArray,
    /// A hash table that forgets what was not used for longest.
    LruHash,
    /// Such a one with a value for each processor.
    LruPerCpuHash,
    /// Prefixes, of which the longest that fits is found.
    LpmTrie,
    /// An array of maps.
    ArrayOfMaps,
    /// A hash table of maps.
    HashOfMaps,
    /// Interfaces to redirect to, by a number.
    DevMap,
    /// Interfaces to redirect to, by their indexes.
    DevMapHash,
    /// Records from the kernel.
    RingBuffer,
    /// Any other, by the kernel's number.
    Other(u32),
}

/// Each kind with the kernel's number.
const KINDS: [(MapKind, u32); 13] = [
    (MapKind::Hash, 1),
    (MapKind::Array, 2),
    (MapKind::ProgramArray, 3),
    (MapKind::PerCpuHash, 5),
    (MapKind::PerCpuArray, 6),
    (MapKind::LruHash, 9),
    (MapKind::LruPerCpuHash, 10),
    (MapKind::LpmTrie, 11),
    (MapKind::ArrayOfMaps, 12),
    (MapKind::HashOfMaps, 13),
    (MapKind::DevMap, 14),
    (MapKind::DevMapHash, 25),
    (MapKind::RingBuffer, 27),
];

impl MapKind {
    /// By the kernel's number.
    pub fn from_number(number: u32) -> Self {
        let known = KINDS.iter().find(|(_, other)| *other == number);
        known.map_or(Self::Other(number), |(kind, _)| *kind)
    }

    /// The kernel's number.
    pub fn number(self) -> u32 {
        if let Self::Other(number) = self {
            return number;
        }
        let known = KINDS.iter().find(|(kind, _)| *kind == self);
        known.map_or(0, |(_, number)| *number)
    }

    /// Whether each processor has a value of its own.
    pub fn per_cpu(self) -> bool {
        matches!(
            self,
            Self::PerCpuHash | Self::PerCpuArray | Self::LruPerCpuHash
        )
    }

    /// Whether it has all its entries from the beginning.
    pub fn is_array(self) -> bool {
        matches!(self, Self::Array | Self::PerCpuArray)
    }

    /// Whether its values are maps.
    pub fn of_maps(self) -> bool {
        matches!(self, Self::ArrayOfMaps | Self::HashOfMaps)
    }
}

/// Types of an object in the kernel, and those of a map's key and value.
#[derive(Clone, Debug)]
pub(super) struct MapTypes {
    pub(super) object: Arc<OwnedFd>,
    pub(super) key: u32,
    pub(super) value: u32,
}

/// What a map is to be.
#[derive(Clone, Debug)]
pub struct MapSpec<'a> {
    /// Its kind.
    pub kind: MapKind,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value; for maps of maps 4.
    pub value_size: u32,
    /// Entries at most.
    pub max_entries: u32,
    /// `BPF_F_…` of `linux/bpf.h`.
    pub flags: u32,
    /// Its name: letters, digits, `_` and `.`; the kernel keeps the first 15.
    pub name: String,
    /// For maps of maps: a map of the kind that its values are.
    pub inner: Option<&'a Map>,
    pub(super) types: Option<MapTypes>,
}

impl<'a> MapSpec<'a> {
    /// A map of this kind and these sizes, without flags.
    pub fn new(
        kind: MapKind,
        name: &str,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
    ) -> Self {
        Self {
            kind,
            key_size,
            value_size,
            max_entries,
            flags: 0,
            name: name.to_owned(),
            inner: None,
            types: None,
        }
    }

    /// With these flags (`BPF_F_…`).
    #[must_use]
    pub fn flags(mut self, flags: u32) -> Self {
        self.flags = flags;
        self
    }

    /// With so many entries at most.
    #[must_use]
    pub fn max_entries(mut self, entries: u32) -> Self {
        self.max_entries = entries;
        self
    }

    /// With a map of the kind that its values are.
    #[must_use]
    pub fn inner(mut self, inner: &'a Map) -> Self {
        self.inner = Some(inner);
        self
    }
}

/// What the kernel tells of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapInfo {
    /// Its id, which nothing else has as long as it lives.
    pub id: u32,
    /// Its kind.
    pub kind: MapKind,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value (for each processor).
    pub value_size: u32,
    /// Entries at most.
    pub max_entries: u32,
    /// `BPF_F_…`.
    pub flags: u32,
    /// Its name, of which the kernel keeps 15 bytes.
    pub name: String,
}

/// A map. It lives as long as this, or a program that uses it, or a map of maps that it is in.
#[derive(Debug)]
pub struct Map {
    pub(super) handle: Handle,
}

impl Map {
    /// `BPF_F_MMAPABLE`: the array can be read through memory ([`Map::memory`]).
    pub const MMAPABLE: u32 = 1 << 10;
    /// `BPF_F_NO_PREALLOC`: a hash table takes memory as it grows.
    pub const NO_PREALLOC: u32 = 1;
    /// `BPF_F_INNER_MAP`: an array may be in a map of maps beside others of another length.
    pub const INNER_MAP: u32 = 1 << 12;

    /// Makes one.
    ///
    /// # Errors
    /// What the kernel refuses: sizes, memory, privileges.
    pub fn create(spec: &MapSpec<'_>) -> Result<Self> {
        let definition = Definition {
            kind: spec.kind.number(),
            key_size: spec.key_size,
            value_size: spec.value_size,
            max_entries: spec.max_entries,
            flags: spec.flags,
            name: &spec.name,
            inner: spec.inner.map(|inner| inner.handle.fd()),
            types: spec
                .types
                .as_ref()
                .map(|types| (types.object.as_fd(), types.key, types.value)),
        };
        let handle =
            Handle::create(&definition, host::possible_cpus()?).map_err(Error::system(format!(
                "making map {} ({:?}, {} entries of {} + {} bytes)",
                spec.name, spec.kind, spec.max_entries, spec.key_size, spec.value_size
            )))?;
        Ok(Self { handle })
    }

    /// The map with this id.
    ///
    /// # Errors
    /// There is none, or CAP_SYS_ADMIN is missing.
    pub fn from_id(id: u32) -> Result<Self> {
        let handle = Handle::by_id(id, host::possible_cpus()?)
            .map_err(Error::system(format!("opening map {id}")))?;
        Ok(Self { handle })
    }

    /// What the kernel tells of it. Costs nothing.
    pub fn info(&self) -> MapInfo {
        let handle = &self.handle;
        MapInfo {
            id: handle.id(),
            kind: MapKind::from_number(handle.kind()),
            key_size: u32::try_from(handle.key()).unwrap_or(u32::MAX),
            value_size: handle.value(),
            max_entries: handle.max_entries(),
            flags: handle.flags(),
            name: handle.name().to_owned(),
        }
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.handle.id()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.handle.name()
    }

    /// Its descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.handle.fd()
    }

    /// Bytes of a value as [`Self::lookup`] gives it: for kinds with a value for each processor those of
    /// all, each at a multiple of 8.
    pub fn stride(&self) -> usize {
        self.handle.stride()
    }

    fn check(&self, part: &'static str, wanted: usize, given: usize) -> Result<()> {
        if wanted == given {
            return Ok(());
        }
        Err(Error::Length {
            map: self.name().to_owned(),
            part,
            wanted,
            given,
        })
    }

    fn check_key(&self, key: &[u8]) -> Result<()> {
        self.check("key", self.handle.key(), key.len())
    }

    /// What failed, with the map's name.
    pub(super) fn failed(&self, doing: &str) -> impl FnOnce(std::io::Error) -> Error + use<> {
        let (what, map, room) = (
            format!("{doing} map {}", self.name()),
            self.name().to_owned(),
            self.handle.max_entries(),
        );
        move |source| match source.raw_os_error() {
            // A hash table is full (E2BIG), or an array has no such place (also E2BIG).
            Some(libc::E2BIG) => Error::Full { map, room },
            _ => Error::System { what, source },
        }
    }

    /// The value of a key; none if there is no such key. See [`Self::stride`] for its length.
    ///
    /// # Errors
    /// A key of another length, or what the kernel says.
    pub fn lookup(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut value = vec![0; self.stride()];
        Ok(self.lookup_into(key, &mut value)?.then_some(value))
    }

    /// Reads the value of a key into memory of the right length ([`Self::stride`]); false if there is no
    /// such key.
    ///
    /// # Errors
    /// Another length, or what the kernel says.
    pub fn lookup_into(&self, key: &[u8], value: &mut [u8]) -> Result<bool> {
        self.check_key(key)?;
        self.check("value", self.stride(), value.len())?;
        self.handle
            .lookup(key, value)
            .map_err(self.failed("reading"))
    }

    /// The values of a key on all processors, in their order.
    ///
    /// # Errors
    /// As [`Self::lookup`].
    pub fn lookup_per_cpu(&self, key: &[u8]) -> Result<Option<Vec<Vec<u8>>>> {
        let Some(all) = self.lookup(key)? else {
            return Ok(None);
        };
        Ok(Some(self.per_cpu(&all).map(<[u8]>::to_vec).collect()))
    }

    /// The values for each processor in what [`Self::lookup`] or [`Self::entries`] gave.
    pub fn per_cpu<'v>(&self, value: &'v [u8]) -> impl Iterator<Item = &'v [u8]> + use<'v> {
        let one = self.handle.value() as usize;
        value
            .chunks(one.next_multiple_of(8).max(1))
            .filter_map(move |chunk| chunk.get(..one))
    }

    /// Writes a value. Flags: 0 writes in any case, 1 (`BPF_NOEXIST`) only a new key, 2 (`BPF_EXIST`) only one
    /// that is there.
    ///
    /// # Errors
    /// Another length, [`Error::Full`], or what the kernel says (EEXIST, ENOENT with these flags).
    pub fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<()> {
        self.check_key(key)?;
        self.check("value", self.stride(), value.len())?;
        self.handle
            .update(key, value, flags)
            .map_err(self.failed("writing to"))
    }

    /// Deletes an entry; false if there is no such key. Entries of arrays cannot be deleted.
    ///
    /// # Errors
    /// A key of another length, or what the kernel says.
    pub fn delete(&self, key: &[u8]) -> Result<bool> {
        self.check_key(key)?;
        self.handle
            .delete(key)
            .map_err(self.failed("deleting from"))
    }

    /// Puts a map into this map of maps, in the place of another or none. Programs see the one or the
    /// other.
    ///
    /// # Errors
    /// This is no map of maps, the other is not of its kind, or what the kernel says.
    pub fn set_inner(&self, key: &[u8], inner: &Map) -> Result<()> {
        self.update(key, &number(inner.fd()).to_ne_bytes(), 0)
    }

    /// Puts maps into this map of maps, each at the key of 4 bytes that is given with it. The kernel waits once
    /// until no program uses what was there, not once for each as [`Self::set_inner`] does.
    ///
    /// # Errors
    /// As there. What was put before an error stays.
    pub fn set_inners<'m>(&self, inner: impl IntoIterator<Item = (u32, &'m Map)>) -> Result<()> {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (key, map) in inner {
            keys.extend(key.to_ne_bytes());
            values.extend(number(map.fd()).to_ne_bytes());
        }
        match keys.is_empty() {
            true => Ok(()),
            false => self.update_many(&keys, &values),
        }
    }

    /// The id of the map that is at this key; none if there is none.
    ///
    /// # Errors
    /// As [`Self::lookup`].
    pub fn inner_id(&self, key: &[u8]) -> Result<Option<u32>> {
        let Some(value) = self.lookup(key)? else {
            return Ok(None);
        };
        let id = value.first_chunk().map(|id| u32::from_ne_bytes(*id));
        Ok(id.filter(|id| *id != 0))
    }

    /// Takes from user space, ourselves included, the right to write to it, for ever.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn freeze(&self) -> Result<()> {
        self.handle.freeze().map_err(self.failed("freezing"))
    }
}
