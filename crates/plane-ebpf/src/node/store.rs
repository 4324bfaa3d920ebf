//! Where it is written down what was changed: a file for each namespace.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::{Error, Result, State};

/// What is written down of one namespace, locked as long as this lives.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    /// Beside it, with the number of this process in it, and open.
    lock: (PathBuf, File),
    cookie: u64,
}

/// The file for a namespace, by the number of its inode.
fn path(folder: &Path, inode: u64) -> PathBuf {
    folder.join(format!("node-{inode}.json"))
}

/// What is written down of a namespace; nothing, if it is of another one whose number this has now.
pub(super) fn read(folder: &Path, inode: u64, cookie: u64) -> Result<State> {
    let path = path(folder, inode);
    let fresh = State {
        cookie,
        ..State::default()
    };
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(fresh),
        Err(error) => return Err(Error::file(path)(error)),
    };
    let state: State = serde_json::from_str(&text).map_err(|error| Error::State {
        path,
        why: error.to_string(),
    })?;
    Ok(if state.cookie == cookie { state } else { fresh })
}

impl Store {
    /// Locks what is written down of a namespace, and reads it.
    pub(super) fn open(folder: &Path, inode: u64, cookie: u64) -> Result<(Self, State)> {
        fs::create_dir_all(folder).map_err(Error::file(folder))?;
        let lock = folder.join(format!("node-{inode}.lock"));
        let held = hold(&lock)?;
        let state = read(folder, inode, cookie)?;
        let store = Self {
            path: path(folder, inode),
            lock: (lock, held),
            cookie,
        };
        Ok((store, state))
    }

    /// Writes down, so that also after a crash either this is there or what was before.
    pub(super) fn write(&mut self, state: &State) -> Result<()> {
        if state.is_empty() {
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(Error::file(&self.path)(error))
                }
                _ => Ok(()),
            };
        }
        let state = State {
            cookie: self.cookie,
            ..state.clone()
        };
        let text = serde_json::to_string_pretty(&state).map_err(|error| Error::State {
            path: self.path.clone(),
            why: error.to_string(),
        })?;
        let new = self.path.with_extension("json.new");
        let written = fs::write(&new, text + "\n").and_then(|()| fs::rename(&new, &self.path));
        written.map_err(Error::file(&self.path))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // As long as it is locked it is ours to remove.
        let _best_effort = fs::remove_file(&self.lock.0);
    }
}

/// Locks a file, which is made if it is not there, and writes the number of this process into it.
fn hold(path: &Path) -> Result<File> {
    loop {
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        let mut file = opened.map_err(Error::file(path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let read = file.read_to_string(&mut text);
                return Err(Error::Held(
                    read.ok().and_then(|_| text.trim().parse().ok()),
                ));
            }
            Err(error) => return Err(Error::file(path)(error.into())),
        }
        // Whoever held it before has removed it: then what is locked is not what others will find.
        let inode = |about: io::Result<fs::Metadata>| about.map(|about| about.st_ino()).ok();
        if inode(file.metadata()) != inode(fs::metadata(path)) {
            continue;
        }
        let id = format!("{}\n", std::process::id());
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(id.as_bytes()));
        written.map_err(Error::file(path))?;
        return Ok(file);
    }
}
