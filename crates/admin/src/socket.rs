//! The Unix socket of the admin API: mode 0600 from its first moment, replaced if its owner is
//! dead, removed at the end.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FlockOperation, Mode, fchmod, flock};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Why the socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A process that is alive listens there.
    #[error(
        "{path} is in use by {}: stop it, or choose another socket with --admin",
        .pid.map_or("a process that is too busy to answer".into(), |pid| format!("process {pid}"))
    )]
    InUse {
        /// The path.
        path: PathBuf,
        /// The process that listens; none if it has no room for one who asks.
        pid: Option<i32>,
    },
    /// Something else is at the path.
    #[error("{path} is there and is no socket: remove it, or choose another path with --admin")]
    NoSocket {
        /// The path.
        path: PathBuf,
    },
    /// Somebody keeps the lock on the folder.
    #[error(
        "{path}: its folder {folder} is locked by another process, and stays so: see \
         `fuser {folder}`, or choose another socket with --admin"
    )]
    Locked {
        /// The path.
        path: PathBuf,
        /// Its folder.
        folder: PathBuf,
    },
    /// The system refused something.
    #[error("{path}: {what}: {source}; choose another socket with --admin")]
    Io {
        /// The path.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Tells a file from others at the same path; inodes alone are used again.
#[derive(Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
    /// Where the file system keeps it.
    born: Option<SystemTime>,
}

impl FileId {
    fn of(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            born: file.created().ok(),
        }
    }
}

/// A listening socket; its file is removed when this is dropped, unless it is another's by then.
#[derive(Debug)]
pub struct AdminSocket {
    path: PathBuf,
    id: FileId,
    listener: Option<UnixListener>,
}

impl AdminSocket {
    /// Listens at a path.
    ///
    /// # Errors
    /// Somebody listens there, or the socket cannot be made.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let fail = |what: &'static str| {
            move |source: io::Error| SocketError::Io {
                path: path.into(),
                what,
                source,
            }
        };
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        // Whoever else wants this path waits here, so that nobody removes what is just being made.
        let folder = File::open(parent).map_err(fail("its folder cannot be opened"))?;
        lock(&folder).map_err(|errno| match errno {
            Errno::WOULDBLOCK => SocketError::Locked {
                path: path.into(),
                folder: parent.into(),
            },
            errno => fail("its folder cannot be locked")(errno.into()),
        })?;
        remove_if_dead(path)?;
        let listener = listen(path).map_err(|errno| fail("cannot be listened on")(errno.into()))?;
        let file = fs::symlink_metadata(path).map_err(fail("cannot be looked at"))?;
        Ok(Self {
            path: path.into(),
            id: FileId::of(&file),
            listener: Some(listener),
        })
    }

    /// The listener, which does not block; given out once.
    pub fn take(&mut self) -> Option<UnixListener> {
        self.listener.take()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        let ours = |file: Metadata| file.file_type().is_socket() && FileId::of(&file) == self.id;
        if fs::symlink_metadata(&self.path).is_ok_and(ours) {
            // If it is gone already, so much the better.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Others have the lock for a moment only; whoever has it for longer than this wants to keep it.
const LOCK: Duration = Duration::from_secs(2);
/// Between two tries to have it.
const RETRY: Duration = Duration::from_millis(20);

/// Anybody who can read a folder can lock it (flock(2)), so that is not waited for without end.
fn lock(folder: &File) -> Result<(), Errno> {
    let until = Instant::now() + LOCK;
    loop {
        match flock(folder, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < until => sleep(RETRY),
            result => return result,
        }
    }
}

/// Connections that may wait.
const BACKLOG: i32 = 128;

fn listen(path: &Path) -> Result<UnixListener, Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // Linux gives the file the mode that the socket has when it is bound (unix_bind, net/unix):
    // there is no moment at which others could connect.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

fn remove_if_dead(path: &Path) -> Result<(), SocketError> {
    let fail = |what: &'static str| {
        move |source: io::Error| SocketError::Io {
            path: path.into(),
            what,
            source,
        }
    };
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(fail("cannot be looked at")(error)),
    };
    if !file.file_type().is_socket() {
        return Err(SocketError::NoSocket { path: path.into() });
    }
    match owner(path) {
        Ok(Owner::Alive(pid)) => Err(SocketError::InUse {
            path: path.into(),
            pid,
        }),
        Ok(Owner::None) => {
            fs::remove_file(path).map_err(fail("the file of a dead process cannot be removed"))
        }
        Err(errno) => Err(fail("it is there and cannot be connected to")(errno.into())),
    }
}

/// Who listens.
enum Owner {
    None,
    /// The process, if it can be told.
    Alive(Option<i32>),
}

/// Who listens. Does not block.
fn owner(path: &Path) -> Result<Owner, Errno> {
    let addr = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket: OwnedFd =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &addr) {
        Ok(()) => {
            let peer = rustix::net::sockopt::socket_peercred(&socket)?;
            Ok(Owner::Alive(Some(peer.pid.as_raw_nonzero().get())))
        }
        // Its queue is full: somebody is there, only not fast enough.
        Err(Errno::AGAIN) => Ok(Owner::Alive(None)),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(Owner::None),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use plimsoll_testkit::TempDir;

    use super::*;

    #[test]
    fn private_exclusive_and_gone_at_the_end() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("admin.sock");
        let first = AdminSocket::bind(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        match AdminSocket::bind(&path) {
            Err(SocketError::InUse { pid, .. }) => {
                assert_eq!(pid, i32::try_from(std::process::id()).ok());
            }
            other => panic!("{other:?}"),
        }
        drop(first);
        assert!(!path.exists());
    }

    #[test]
    fn what_the_dead_left_is_replaced_and_other_files_are_not() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("admin.sock");
        // The file outlives its listener, as after SIGKILL.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let mut socket = AdminSocket::bind(&path).unwrap();
        assert!(socket.take().is_some());
        // Somebody else's file is left alone.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        drop(socket);
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        assert!(matches!(
            AdminSocket::bind(&path),
            Err(SocketError::NoSocket { .. })
        ));
    }

    #[test]
    fn a_folder_that_somebody_keeps_locked_is_named() {
        let dir = TempDir::new().unwrap();
        let folder = File::open(dir.path()).unwrap();
        flock(&folder, FlockOperation::LockExclusive).unwrap();
        let error = AdminSocket::bind(&dir.path().join("admin.sock")).unwrap_err();
        let named = format!("its folder {} is locked", dir.path().display());
        assert!(error.to_string().contains(&named), "{error}");
    }

    #[test]
    fn a_busy_owner_is_alive() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("admin.sock");
        let _busy = AdminSocket::bind(&path).unwrap();
        // Nobody accepts, so in the end the queue is full.
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let address = SocketAddrUnix::new(&path).unwrap();
        let mut waiting = Vec::new();
        for _ in 0..2 * BACKLOG {
            let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
            let socket = rustix::net::socket_with(family, kind, flags, None).unwrap();
            if rustix::net::connect(&socket, &address) == Err(Errno::AGAIN) {
                break;
            }
            waiting.push(socket);
        }
        let error = AdminSocket::bind(&path).unwrap_err();
        assert!(matches!(error, SocketError::InUse { pid: None, .. }));
        assert!(error.to_string().contains("too busy"), "{error}");
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = AdminSocket::bind(Path::new("/nonexistent/x.sock")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/x.sock"), "{error}");
    }
}
