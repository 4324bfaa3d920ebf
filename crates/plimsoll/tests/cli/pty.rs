//! A terminal for a process under test.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// What is to be shown has so long.
const BOUND: Duration = Duration::from_secs(20);

/// A terminal of which this end is ours.
pub(crate) struct Pty {
    ours: File,
    pub(crate) theirs: OwnedFd,
    seen: std::sync::mpsc::Receiver<Vec<u8>>,
    pub(crate) text: String,
}

impl Pty {
    pub(crate) fn open() -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let theirs = File::options()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        let ours = File::from(ours);
        let (sender, seen) = std::sync::mpsc::channel();
        let mut reader = ours.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Fails once nobody has the other end any more.
            while let Ok(n) = reader.read(&mut bytes) {
                if n == 0 || sender.send(bytes[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            ours,
            theirs: theirs.into(),
            seen,
            text: String::new(),
        }
    }

    /// The other end, for a process.
    pub(crate) fn end(&self) -> Stdio {
        Stdio::from(self.theirs.try_clone().unwrap())
    }

    /// Presses keys; what was shown before is forgotten.
    pub(crate) fn key(&mut self, key: &str) {
        self.text.clear();
        self.ours.write_all(key.as_bytes()).unwrap();
    }

    /// Waits until this is shown, since the last key.
    pub(crate) fn until(&mut self, wanted: &str) {
        let until = Instant::now() + BOUND;
        while !self.text.contains(wanted) {
            let left = until.saturating_duration_since(Instant::now());
            match self.seen.recv_timeout(left) {
                Ok(bytes) => self.text.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("{wanted:?} is not shown:\n{}", self.text),
            }
        }
    }
}
