//! Commands on maps.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::{
    Command, NAME_LEN, address, address_mut, by_id, call, call_for_fd, info, kernel_name, number,
    read_name,
};

/// What a map is made of (`BPF_MAP_CREATE`).
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::sys) struct Definition<'a> {
    pub(in crate::sys) kind: u32,
    pub(in crate::sys) key_size: u32,
    pub(in crate::sys) value_size: u32,
    pub(in crate::sys) max_entries: u32,
    pub(in crate::sys) flags: u32,
    pub(in crate::sys) name: &'a str,
    pub(in crate::sys) inner: Option<BorrowedFd<'a>>,
    /// Types of key and value.
    pub(in crate::sys) types: Option<(BorrowedFd<'a>, u32, u32)>,
}

#[repr(C)]
#[derive(Default)]
struct CreateAttr {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner_fd: u32,
    numa_node: u32,
    name: [u8; NAME_LEN],
    interface: u32,
    types_fd: u32,
    key_type: u32,
    value_type: u32,
    vmlinux_value_type: u32,
    extra: u64,
}

/// The beginning of `struct bpf_map_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct RawMapInfo {
    kind: u32,
    id: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    name: [u8; NAME_LEN],
    interface: u32,
    vmlinux_value_type: u32,
    netns_device: u64,
    netns_inode: u64,
    types: u32,
    key_type: u32,
    value_type: u32,
    pad: u32,
}

/// `struct bpf_btf_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct RawTypesInfo {
    types: u64,
    size: u32,
    id: u32,
    name: u64,
    name_len: u32,
    of_kernel: u32,
}

#[repr(C)]
#[derive(Default)]
struct ElementAttr {
    fd: u32,
    pad: u32,
    key: u64,
    /// Or the next key.
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    from: u64,
    to: u64,
    keys: u64,
    values: u64,
    count: u32,
    fd: u32,
    element_flags: u64,
    flags: u64,
}

/// What one call read.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::sys) enum Batch {
    /// So many entries, and there are more.
    More(u32),
    /// So many entries, and these were the last.
    Last(u32),
    /// One place of the map holds more entries than there is room for.
    NoRoom,
}

/// A map's descriptor with the sizes that the kernel itself tells. Keys and values that are given are
/// held against them, so that the kernel never reads or writes beyond.
#[derive(Debug)]
pub(in crate::sys) struct Handle {
    fd: OwnedFd,
    kind: u32,
    id: u32,
    key: usize,
    /// Bytes the kernel reads and writes for one value: for kinds with a value for each processor, all.
    stride: usize,
    value: u32,
    max_entries: u32,
    flags: u32,
    name: String,
}

impl Handle {
    /// Makes a map.
    pub(in crate::sys) fn create(of: &Definition<'_>, processors: usize) -> io::Result<Self> {
        let (types_fd, key_type, value_type) = of
            .types
            .map_or((0, 0, 0), |(fd, key, value)| (number(fd), key, value));
        let mut attr = CreateAttr {
            kind: of.kind,
            key_size: of.key_size,
            value_size: of.value_size,
            max_entries: of.max_entries,
            flags: of.flags,
            inner_fd: of.inner.map_or(0, number),
            name: kernel_name(of.name),
            types_fd,
            key_type,
            value_type,
            ..CreateAttr::default()
        };
        // SAFETY: this is what MAP_CREATE takes, without an address.
        let fd = unsafe { call_for_fd(Command::MapCreate, &mut attr)? };
        Self::of(fd, processors)
    }

    /// The map with this id. Needs CAP_SYS_ADMIN.
    pub(in crate::sys) fn by_id(id: u32, processors: usize) -> io::Result<Self> {
        Self::of(by_id(Command::MapById, id)?, processors)
    }

    fn of(fd: OwnedFd, processors: usize) -> io::Result<Self> {
        let mut raw = RawMapInfo::default();
        // SAFETY: this is the beginning of the structure for maps, of numbers only. Were this not a
        // map, these bytes would only be read wrongly; both callers have it from the kernel.
        unsafe { info(fd.as_fd(), &mut raw)? };
        let value = raw.value_size as usize;
        // PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH, PERCPU_CGROUP_STORAGE: `bpf_map_value_size` of
        // the kernel. Maps of maps and of descriptors have values of 4 bytes.
        let stride = match raw.kind {
            5 | 6 | 10 | 21 => value.next_multiple_of(8).saturating_mul(processors),
            _ => value,
        };
        Ok(Self {
            fd,
            kind: raw.kind,
            id: raw.id,
            key: raw.key_size as usize,
            stride,
            value: raw.value_size,
            max_entries: raw.max_entries,
            flags: raw.flags,
            name: read_name(&raw.name),
        })
    }

    /// The types (BTF) that the kernel keeps with it, and the numbers of those of its key and value; none if
    /// there are none. Needs CAP_SYS_ADMIN.
    pub(in crate::sys) fn types(&self) -> io::Result<Option<(Vec<u8>, u32, u32)>> {
        let mut map = RawMapInfo::default();
        // SAFETY: as in `of`.
        unsafe { info(self.fd(), &mut map)? };
        if map.types == 0 {
            return Ok(None);
        }
        let types = by_id(Command::TypesById, map.types)?;
        let mut about = RawTypesInfo::default();
        // SAFETY: this is the structure for types, whose addresses are zero.
        unsafe { info(types.as_fd(), &mut about)? };
        let mut bytes = vec![0_u8; about.size as usize];
        let mut about = RawTypesInfo {
            types: address_mut(&mut bytes),
            size: about.size,
            ..RawTypesInfo::default()
        };
        // SAFETY: the same; its only address is that of `bytes`, which has `size` bytes.
        unsafe { info(types.as_fd(), &mut about)? };
        Ok(Some((bytes, map.key_type, map.value_type)))
    }

    pub(in crate::sys) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(in crate::sys) fn kind(&self) -> u32 {
        self.kind
    }

    pub(in crate::sys) fn id(&self) -> u32 {
        self.id
    }

    /// Bytes of a key.
    pub(in crate::sys) fn key(&self) -> usize {
        self.key
    }

    /// Bytes of one value.
    pub(in crate::sys) fn value(&self) -> u32 {
        self.value
    }

    /// Bytes of a value, on all processors.
    pub(in crate::sys) fn stride(&self) -> usize {
        self.stride
    }

    pub(in crate::sys) fn max_entries(&self) -> u32 {
        self.max_entries
    }

    pub(in crate::sys) fn flags(&self) -> u32 {
        self.flags
    }

    pub(in crate::sys) fn name(&self) -> &str {
        &self.name
    }

    /// Whether lengths are right for so many entries.
    fn fits(&self, entries: usize, keys: usize, values: usize) -> io::Result<()> {
        let right = self.key.checked_mul(entries) == Some(keys)
            && self.stride.checked_mul(entries) == Some(values);
        if right {
            Ok(())
        } else {
            Err(io::ErrorKind::InvalidInput.into())
        }
    }

    fn element(&self, key: &[u8]) -> ElementAttr {
        ElementAttr {
            fd: number(self.fd()),
            key: address(key),
            ..ElementAttr::default()
        }
    }

    /// Reads a value; false if there is no such key.
    pub(in crate::sys) fn lookup(&self, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
        self.fits(1, key.len(), value.len())?;
        let mut attr = self.element(key);
        attr.value = address_mut(value);
        // SAFETY: key and value are as long as those of this map.
        present(unsafe { call(Command::MapLookup, &mut attr) })
    }

    /// Writes a value.
    pub(in crate::sys) fn update(&self, key: &[u8], value: &[u8], flags: u64) -> io::Result<()> {
        self.fits(1, key.len(), value.len())?;
        let mut attr = self.element(key);
        attr.value = address(value);
        attr.flags = flags;
        // SAFETY: key and value are as long as those of this map, and only read.
        unsafe { call(Command::MapUpdate, &mut attr) }.map(|_| ())
    }

    /// Deletes an entry; false if there is no such key.
    pub(in crate::sys) fn delete(&self, key: &[u8]) -> io::Result<bool> {
        self.fits(1, key.len(), self.stride)?;
        let mut attr = self.element(key);
        // SAFETY: the key is as long as those of this map.
        present(unsafe { call(Command::MapDelete, &mut attr) })
    }

    /// The key after this one, or the first; false if there is none.
    pub(in crate::sys) fn next_key(
        &self,
        after: Option<&[u8]>,
        key: &mut [u8],
    ) -> io::Result<bool> {
        self.fits(1, key.len(), self.stride)?;
        self.fits(1, after.map_or(self.key, <[u8]>::len), self.stride)?;
        let mut attr = ElementAttr {
            fd: number(self.fd()),
            key: after.map_or(0, address),
            value: address_mut(key),
            ..ElementAttr::default()
        };
        // SAFETY: both keys are as long as those of this map; an address of zero asks for the first.
        present(unsafe { call(Command::MapNextKey, &mut attr) })
    }

    /// Reads entries into keys and values that have room for `entries`, from where `place` says on (none:
    /// the beginning), and moves it on.
    pub(in crate::sys) fn lookup_batch(
        &self,
        place: &mut Option<Vec<u8>>,
        keys: &mut [u8],
        values: &mut [u8],
        entries: u32,
    ) -> io::Result<Batch> {
        self.fits(entries as usize, keys.len(), values.len())?;
        // Hash maps write a number of 4 bytes here, others a key.
        let mut to = vec![0; self.key.max(8)];
        let mut attr = BatchAttr {
            from: place.as_deref().map_or(0, address),
            to: address_mut(&mut to),
            keys: address_mut(keys),
            values: address_mut(values),
            count: entries,
            fd: number(self.fd()),
            ..BatchAttr::default()
        };
        // SAFETY: there is room for `count` keys and values of this map, and places are as long as any
        // kind of map wants them; one that is given was written by a call before.
        let done = unsafe { call(Command::MapLookupBatch, &mut attr) };
        *place = Some(to);
        match done {
            Ok(_) => Ok(Batch::More(attr.count)),
            Err(end) if end.raw_os_error() == Some(libc::ENOENT) => Ok(Batch::Last(attr.count)),
            Err(full) if full.raw_os_error() == Some(libc::ENOSPC) => Ok(Batch::NoRoom),
            Err(error) => Err(error),
        }
    }

    /// Writes entries; how many were written, if not all then with the reason.
    pub(in crate::sys) fn update_batch(
        &self,
        keys: &[u8],
        values: &[u8],
        entries: u32,
        flags: u64,
    ) -> (u32, io::Result<()>) {
        if let Err(error) = self.fits(entries as usize, keys.len(), values.len()) {
            return (0, Err(error));
        }
        let mut attr = BatchAttr {
            keys: address(keys),
            values: address(values),
            count: entries,
            fd: number(self.fd()),
            element_flags: flags,
            ..BatchAttr::default()
        };
        // SAFETY: there are `count` keys and values of this map, and they are only read.
        let done = unsafe { call(Command::MapUpdateBatch, &mut attr) };
        // A kernel that refuses the whole call leaves the count as it was given.
        let written = if done.is_err() && attr.count == entries {
            0
        } else {
            attr.count
        };
        (written, done.map(|_| ()))
    }

    /// Takes from user space the right to write.
    pub(in crate::sys) fn freeze(&self) -> io::Result<()> {
        let mut attr = number(self.fd());
        // SAFETY: this command takes the descriptor and nothing else.
        unsafe { call(Command::MapFreeze, &mut attr) }.map(|_| ())
    }

    /// Bytes of the map that can be mapped into memory: values of an array, each at a multiple of 8, up
    /// to the end of a page.
    pub(in crate::sys) fn mapped(&self, page: usize) -> io::Result<usize> {
        let stride = self.stride.next_multiple_of(8);
        let bytes = stride.checked_mul(self.max_entries as usize);
        bytes
            .and_then(|bytes| bytes.checked_next_multiple_of(page))
            .ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }
}

/// Whether there was something; that there was nothing is no error.
fn present(result: io::Result<i64>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(none) if none.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}
