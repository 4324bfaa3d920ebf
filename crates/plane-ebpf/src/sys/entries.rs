//! All entries of a map, many at a time where the kernel can do that.

use std::io;

use super::bpf::Batch;
use super::{Error, Map, Result};

/// Entries asked for by one call at first.
const FIRST: usize = 1024;
/// Bytes of keys and values of one call at most, unless one place of the map holds more.
const BYTES: usize = 1 << 20;
/// `ENOTSUPP`, which the kernel lets out where it means `EOPNOTSUPP`.
const ENOTSUPP: i32 = 524;

impl Map {
    /// Calls `each` with every key and its value (see [`Self::stride`] for its length).
    ///
    /// What changes meanwhile may or may not be seen; if entries are deleted meanwhile, others may come
    /// twice.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn for_each(&self, mut each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        match self.by_batch(&mut each) {
            Ok(()) => Ok(()),
            Err(error) if cannot(&error) => self.one_by_one(&mut each),
            Err(error) => Err(self.failed("reading all of")(error)),
        }
    }

    /// All keys with their values.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn entries(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut all = Vec::new();
        self.for_each(|key, value| all.push((key.to_vec(), value.to_vec())))?;
        Ok(all)
    }

    fn by_batch(&self, each: &mut impl FnMut(&[u8], &[u8])) -> io::Result<()> {
        let (key, value) = (self.handle.key().max(1), self.handle.stride().max(1));
        let mut room = per_call(key, value, self.handle.max_entries());
        let mut keys = vec![0; key * room];
        let mut values = vec![0; value * room];
        let mut place = None;
        loop {
            let entries = u32::try_from(room).map_err(io::Error::other)?;
            let before = place.clone();
            let read = self
                .handle
                .lookup_batch(&mut place, &mut keys, &mut values, entries)?;
            let (count, last) = match read {
                Batch::More(count) => (count, false),
                Batch::Last(count) => (count, true),
                Batch::NoRoom => {
                    // Nothing was read: from the same place again.
                    place = before;
                    room = room
                        .checked_mul(2)
                        .ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
                    keys.resize(key * room, 0);
                    values.resize(value * room, 0);
                    continue;
                }
            };
            let read = keys.chunks_exact(key).zip(values.chunks_exact(value));
            read.take(count as usize)
                .for_each(|(key, value)| each(key, value));
            // A call that gives nothing and no end would be repeated for ever.
            if last || count == 0 {
                return Ok(());
            }
        }
    }

    /// For maps that the kernel cannot read in batches.
    fn one_by_one(&self, each: &mut impl FnMut(&[u8], &[u8])) -> Result<()> {
        let mut value = vec![0; self.handle.stride()];
        let mut next = vec![0; self.handle.key()];
        let mut key: Option<Vec<u8>> = None;
        // A map that is written to meanwhile may lead in circles.
        let bound = u64::from(self.handle.max_entries()) * 2;
        for _ in 0..bound {
            let more = self
                .handle
                .next_key(key.as_deref(), &mut next)
                .map_err(self.failed("reading all of"))?;
            if !more {
                return Ok(());
            }
            if self.lookup_into(&next, &mut value)? {
                each(&next, &value);
            }
            key = Some(next.clone());
        }
        Ok(())
    }

    /// Writes many entries in as few calls as the kernel allows. `keys` and `values` are one after the
    /// other, without gaps; of keys that are there the values are replaced.
    ///
    /// # Errors
    /// Lengths that are no multiple of the map's or do not go together; what the kernel says. What was
    /// written before an error stays.
    pub fn update_many(&self, keys: &[u8], values: &[u8]) -> Result<()> {
        let (key, value) = (self.handle.key().max(1), self.handle.stride().max(1));
        let entries = keys.len() / key;
        let wrong = |part, wanted, given| Error::Length {
            map: self.name().to_owned(),
            part,
            wanted,
            given,
        };
        if !keys.len().is_multiple_of(key) {
            return Err(wrong("key", key, keys.len()));
        }
        if Some(values.len()) != value.checked_mul(entries) {
            return Err(wrong("value", value * entries, values.len()));
        }
        let room = per_call(key, value, u32::MAX);
        let calls = keys.chunks(key * room).zip(values.chunks(value * room));
        for (keys, values) in calls {
            let entries = u32::try_from(keys.len() / key).unwrap_or(u32::MAX);
            let (written, done) = self.handle.update_batch(keys, values, entries, 0);
            match done {
                Ok(()) => {}
                Err(error) if written == 0 && cannot(&error) => {
                    let pairs = keys.chunks_exact(key).zip(values.chunks_exact(value));
                    for (key, value) in pairs {
                        self.update(key, value, 0)?;
                    }
                }
                Err(error) => return Err(self.failed("writing to")(error)),
            }
        }
        Ok(())
    }
}

/// Entries for one call.
fn per_call(key: usize, value: usize, max_entries: u32) -> usize {
    let fit = BYTES / key.saturating_add(value).max(1);
    fit.clamp(1, FIRST).min((max_entries as usize).max(1))
}

/// Whether the kernel cannot do this in batches, with this kind of map.
fn cannot(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EOPNOTSUPP | ENOTSUPP)
    )
}
