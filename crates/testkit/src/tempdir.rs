//! A folder that is gone when it is dropped.

use std::path::{Path, PathBuf};
use std::{env, fs};

use crate::{Error, unique_id};

/// A folder of one test.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// Makes a new, empty folder. Its path is short: Unix sockets inside it may have 108 bytes.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new() -> Result<Self, Error> {
        let path = env::temp_dir().join(format!("plimsoll-{}", unique_id()));
        fs::create_dir(&path).map_err(Error::io(format!("making {}", path.display())))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // What cannot be removed is left to the system.
        let _removed = fs::remove_dir_all(&self.0);
    }
}
