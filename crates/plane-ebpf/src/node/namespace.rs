//! Network namespaces, and work inside them.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::linux::fs::MetadataExt;
use std::path::Path;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{Error, Result};
use crate::sys::netns_cookie;

const OWN: &str = "/proc/thread-self/ns/net";

/// A network namespace. It lives at least as long as this.
#[derive(Debug)]
pub struct Namespace {
    file: File,
    /// Its path, if it is not the one that this process is in.
    path: Option<String>,
}

impl Namespace {
    /// The one of the calling thread.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub fn own() -> Result<Self> {
        let file = File::open(OWN).map_err(Error::file(OWN))?;
        Ok(Self { file, path: None })
    }

    /// The one that this file is, such as `/run/netns/NAME` or `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// There is none, or it may not be opened.
    pub fn at(path: &Path) -> Result<Self> {
        let place = path.display().to_string();
        let file = File::open(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::PermissionDenied => Error::Privilege {
                what: format!("opening {place}"),
                advice: "run this as the host's root",
            },
            _ => Error::NoNamespace {
                place: place.clone(),
                source,
            },
        })?;
        Ok(Self {
            file,
            path: Some(place),
        })
    }

    /// The one that a process is in.
    ///
    /// # Errors
    /// There is no such process, or it may not be looked at.
    pub fn of_process(process: u32) -> Result<Self> {
        Self::at(Path::new(&format!("/proc/{process}/ns/net")))
    }

    /// Its path, if it is not the one that this process is in.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// Runs something inside, on a thread of its own, and waits for it.
    ///
    /// # Errors
    /// This process may not enter it, or this is no network namespace.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let Some(path) = &self.path else {
            return work();
        };
        let what = format!("entering the network namespace {path}");
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let network = Some(LinkNameSpaceType::Network);
                match move_into_link_name_space(self.file.as_fd(), network) {
                    Ok(()) => work(),
                    Err(rustix::io::Errno::PERM) => Err(Error::Privilege {
                        what,
                        advice: "it takes CAP_SYS_ADMIN: run this as the host's root",
                    }),
                    Err(error) => Err(Error::NoNamespace {
                        place: path.clone(),
                        source: error.into(),
                    }),
                }
            });
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The number of its inode.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn inode(&self) -> Result<u64> {
        let about = self.file.metadata();
        Ok(about.map_err(Error::file(OWN))?.st_ino())
    }

    /// What no other namespace has or will have.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn cookie(&self) -> Result<u64> {
        self.run(|| Ok(netns_cookie()?))
    }
}
