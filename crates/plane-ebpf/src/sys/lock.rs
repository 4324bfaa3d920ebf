//! One writer for each network namespace.

use std::fs::{self, File};
use std::os::linux::fs::MetadataExt;

use rustix::fs::{FlockOperation, flock, major, minor};

use super::{Error, Result};

/// The namespace itself is what is locked: it is the same file in every mount namespace and container,
/// and needs no folder that can be written to.
const NAMESPACE: &str = "/proc/thread-self/ns/net";

/// The right to write to the packet plane of a network namespace. It ends with the process, or when this is
/// dropped.
#[derive(Debug)]
pub struct WriterLock {
    _file: File,
}

impl WriterLock {
    /// Takes it, for the network namespace of the calling thread, without waiting.
    ///
    /// # Errors
    /// [`Error::Locked`], with the process that has it where that can be seen.
    pub fn take() -> Result<Self> {
        let what = || format!("locking {NAMESPACE}");
        let file = File::open(NAMESPACE).map_err(Error::system(what()))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Locked(holder(&file))),
            Err(error) => Err(Error::system(what())(error)),
        }
    }
}

/// The process that has locked a file.
fn holder(file: &File) -> Option<u32> {
    let about = file.metadata().ok()?;
    let (device, inode) = (about.st_dev(), about.st_ino());
    let place = format!("{:02x}:{:02x}:{inode}", major(device), minor(device));
    holder_in(&fs::read_to_string("/proc/locks").ok()?, &place)
}

/// The process that holds a lock on this place in `/proc/locks`.
fn holder_in(locks: &str, place: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let lock = words.next()? == "FLOCK";
        let process = words.nth(2)?;
        (lock && words.next()? == place)
            .then(|| process.parse().ok())
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_found() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 00:04:4026531833 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 23 00:04:4026531833 0 EOF\n\
                     3: -> FLOCK  ADVISORY  WRITE 24 fe:00:10903826 0 EOF\n\
                     4: FLOCK  ADVISORY  READ 25 fe:00:10903826 0 EOF\n";
        assert_eq!(holder_in(locks, "00:04:4026531833"), Some(23));
        assert_eq!(holder_in(locks, "fe:00:10903826"), Some(25));
        assert_eq!(holder_in(locks, "00:04:1"), None);
    }
}
