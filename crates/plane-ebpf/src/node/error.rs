//! Why a node could not be made fit.

use std::io;
use std::path::PathBuf;

use crate::sys;

/// The text says what to do where that is known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel did not do as asked.
    #[error(transparent)]
    Kernel(#[from] sys::Error),
    /// Something may only be done with more privileges.
    #[error("{what}: not permitted: {advice}")]
    Privilege {
        /// What was tried.
        what: String,
        /// What to do.
        advice: &'static str,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Sysctls cannot be written to.
    #[error(
        "{name} is {now} and has to be {wanted}, but /proc/sys is read-only here, as in a container: \
         run this on the host with --container, or start the container with --sysctl {}={wanted}",
        .name.replace('/', ".")
    )]
    ReadOnly {
        /// The setting, with slashes.
        name: String,
        /// What it is.
        now: i32,
        /// What it has to be.
        wanted: i32,
    },
    /// There is no such namespace.
    #[error("there is no network namespace {place}: {source}")]
    NoNamespace {
        /// Where it was looked for.
        place: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Something is in the way that is not changed unasked.
    #[error("{0}")]
    Trouble(String),
    /// Another process holds this node.
    #[error("another plimsoll node{} takes care of this network namespace: stop it first, or name all addresses in one command", holder(.0))]
    Held(Option<u32>),
    /// What an earlier run wrote down cannot be read.
    #[error(
        "{path}: what an earlier run wrote down cannot be read ({why}): remove the file; what that run changed then stays as it is"
    )]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

fn holder(process: &Option<u32>) -> String {
    process.map_or_else(String::new, |id| format!(" (process {id})"))
}

impl Error {
    /// For `map_err`.
    pub(super) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    /// An error of the kernel's, with what to do where a privilege is missing.
    pub(super) fn kernel(advice: &'static str) -> impl FnOnce(sys::Error) -> Self {
        move |error| match error.errno() {
            Some(libc::EPERM | libc::EACCES) => Self::Privilege {
                what: error.to_string(),
                advice,
            },
            _ => Self::Kernel(error),
        }
    }
}
