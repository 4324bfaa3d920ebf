//! Where the admin socket is if nobody says otherwise.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The folder, and whether it is one in `/tmp` that has to be made.
fn folder() -> (PathBuf, bool) {
    let user = rustix::process::geteuid().as_raw();
    if user == 0 {
        return ("/run".into(), false);
    }
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| Path::new(dir).is_absolute()) {
        Some(dir) => (dir.into(), false),
        None => (format!("/tmp/plimsoll-{user}").into(), true),
    }
}

/// The socket that a daemon of this user listens on.
pub(crate) fn default() -> PathBuf {
    folder().0.join("plimsoll.sock")
}

/// The same, in a folder that is there and is ours.
pub(crate) fn make_default() -> Result<PathBuf, Error> {
    let (folder, make) = folder();
    if make {
        let made = DirBuilder::new().mode(0o700).create(&folder);
        let fail = |why: &str| {
            Error::Failed(format!(
                "{}: {why}; name another admin socket with --admin",
                folder.display()
            ))
        };
        match made {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(fail(&error.to_string()));
            }
            _ => {}
        }
        // Anybody could have made it before us.
        let found = std::fs::symlink_metadata(&folder).map_err(|e| fail(&e.to_string()))?;
        let ours = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw();
        if !ours || found.mode() & 0o077 != 0 {
            return Err(fail("it is not a folder of ours alone (mode 0700)"));
        }
    }
    Ok(folder.join("plimsoll.sock"))
}
