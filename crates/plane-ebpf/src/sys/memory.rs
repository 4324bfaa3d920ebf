//! Arrays read through memory.

#![allow(
    unsafe_code,
    reason = "memory that the kernel changes is read through addresses"
)]

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::{Error, Map, MapKind, Result};

/// An array of the kernel (`BPF_F_MMAPABLE`) in this process's memory, for reading. Programs change it
/// meanwhile: each number that is read was written whole, two numbers need not belong together.
///
/// Values lie one after the other, each at a multiple of 8 bytes.
#[derive(Debug)]
pub struct Memory {
    start: NonNull<c_void>,
    /// Of what is mapped: whole pages.
    mapped: usize,
    /// Bytes of the values.
    len: usize,
    /// From one value to the next.
    stride: usize,
}

// SAFETY: what is mapped belongs to the process, not to a thread, and is only read, atomically.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Map {
    /// Maps an array that was made with [`Map::MMAPABLE`] into memory. The map lives as long as
    /// that.
    ///
    /// # Errors
    /// It is no such array, or there is no memory.
    pub fn memory(&self) -> Result<Memory> {
        let what = || format!("mapping map {} into memory", self.name());
        if MapKind::from_number(self.handle.kind()) != MapKind::Array {
            return Err(Error::system(what())(std::io::Error::from(
                std::io::ErrorKind::Unsupported,
            )));
        }
        let mapped = self
            .handle
            .mapped(rustix::param::page_size())
            .map_err(Error::system(what()))?;
        let stride = self.handle.stride().next_multiple_of(8);
        // SAFETY: the kernel chooses the place, and the length is that of the map in pages.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                mapped,
                ProtFlags::READ,
                MapFlags::SHARED,
                self.fd(),
                0,
            )
        };
        let start = start.map_err(Error::system(what()))?;
        let start = NonNull::new(start).ok_or_else(|| {
            Error::system(what())(std::io::Error::from(std::io::ErrorKind::Other))
        })?;
        Ok(Memory {
            start,
            mapped,
            len: stride.saturating_mul(self.handle.max_entries() as usize),
            stride,
        })
    }
}

impl Memory {
    /// Bytes of all values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes from one value to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The number of 8 bytes at this offset; none if that is no multiple of 8 or beyond the end.
    pub fn u64(&self, offset: usize) -> Option<u64> {
        let place = self.place(offset, 8)?;
        // SAFETY: the place is within what is mapped, aligned, and only read and written atomically as
        // far as this process goes; an atomic load of a word needs no right to write.
        let number = unsafe { AtomicU64::from_ptr(place.cast()) };
        Some(number.load(Ordering::Acquire))
    }

    /// The number of 4 bytes at this offset; none if that is no multiple of 4 or beyond the end.
    pub fn u32(&self, offset: usize) -> Option<u32> {
        let place = self.place(offset, 4)?;
        // SAFETY: as in `u64`.
        let number = unsafe { AtomicU32::from_ptr(place.cast()) };
        Some(number.load(Ordering::Acquire))
    }

    /// Copies bytes from this offset on, in words of 8; false if offset or length is no multiple of 8 or
    /// they reach beyond the end.
    pub fn copy(&self, offset: usize, into: &mut [u8]) -> bool {
        let end = offset.checked_add(into.len());
        let words = offset.is_multiple_of(8) && into.len().is_multiple_of(8);
        if !words || end.is_none_or(|end| end > self.len) {
            return false;
        }
        for (word, at) in into.chunks_exact_mut(8).zip((offset..).step_by(8)) {
            let Some(read) = self.u64(at) else {
                return false;
            };
            word.copy_from_slice(&read.to_ne_bytes());
        }
        true
    }

    fn place(&self, offset: usize, bytes: usize) -> Option<*mut u8> {
        let fits = offset.is_multiple_of(bytes) && offset.checked_add(bytes)? <= self.len;
        // SAFETY: the offset is within what is mapped.
        fits.then(|| unsafe { self.start.as_ptr().cast::<u8>().add(offset) })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: this was mapped by `Map::memory`, and nobody can hold a place within it.
        let unmapped = unsafe { munmap(self.start.as_ptr(), self.mapped) };
        debug_assert!(unmapped.is_ok(), "what was mapped can be unmapped");
    }
}
