//! Listening Unix sockets: with their mode from the first moment, replaced if their owner is dead,
//! removed at the end.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, lchown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FlockOperation, Mode, fchmod, flock};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::umask;

/// Why the socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A process that is alive listens there.
    #[error(
        "{path} is in use by {}: stop it, or choose another socket with {option}",
        .pid.map_or("a process that is too busy to answer".into(), |pid| format!("process {pid}"))
    )]
    InUse {
        /// The path.
        path: PathBuf,
        /// The process that listens; none if it has no room for one who asks.
        pid: Option<i32>,
        /// The option that names the path.
        option: &'static str,
    },
    /// Something else is at the path.
    #[error("{path} is there and is no socket: remove it, or choose another path with {option}")]
    NoSocket {
        /// The path.
        path: PathBuf,
        /// The option that names the path.
        option: &'static str,
    },
    /// Somebody keeps the lock on the folder.
    #[error(
        "{path}: its folder {folder} is locked by another process, and stays so: see \
         `fuser {folder}`, or choose another socket with {option}"
    )]
    Locked {
        /// The path.
        path: PathBuf,
        /// Its folder.
        folder: PathBuf,
        /// The option that names the path.
        option: &'static str,
    },
    /// The system refused something.
    #[error("{path}: {what}: {source}; choose another socket with {option}")]
    Io {
        /// The path.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
        /// The option that names the path.
        option: &'static str,
    },
}

/// Who may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The mode of the socket, such as 0o600.
    pub mode: u32,
    /// Its group; none is that of the process.
    pub group: Option<u32>,
    /// What names the path on the command line, for messages.
    pub option: &'static str,
}

impl Default for Access {
    /// Nobody but the user of the process, as for the admin API.
    fn default() -> Self {
        Self {
            mode: 0o600,
            group: None,
            option: "--admin",
        }
    }
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
pub struct Socket {
    path: PathBuf,
    id: FileId,
    listener: Option<UnixListener>,
}

impl Socket {
    /// Listens at a path. A mode that lets others in is for programs that have not started threads
    /// yet: what these create meanwhile would get a mode without the umask.
    ///
    /// # Errors
    /// Somebody listens there, or the socket cannot be made.
    pub fn bind(path: &Path, access: Access) -> Result<Self, SocketError> {
        let fail = failed(path, access);
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        // Whoever else wants this path waits here, so that nobody removes what is just being made.
        let folder = File::open(parent).map_err(|e| fail("its folder cannot be opened", e))?;
        lock(&folder).map_err(|errno| match errno {
            Errno::WOULDBLOCK => SocketError::Locked {
                path: path.into(),
                folder: parent.into(),
                option: access.option,
            },
            errno => fail("its folder cannot be locked", errno.into()),
        })?;
        remove_if_dead(path, access)?;
        let listener = listen(path, access.mode)
            .map_err(|errno| fail("cannot be listened on", errno.into()))?;
        let file = fs::symlink_metadata(path).map_err(|e| fail("cannot be looked at", e))?;
        let socket = Self {
            path: path.into(),
            id: FileId::of(&file),
            listener: Some(listener),
        };
        if access.group.is_some() {
            lchown(path, None, access.group)
                .map_err(|e| fail("cannot be given to its group", e))?;
        }
        Ok(socket)
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

impl Drop for Socket {
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

fn listen(path: &Path, mode: u32) -> Result<UnixListener, Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // Linux gives the file the mode that the socket has when it is bound (unix_bind, net/unix):
    // there is no moment at which others could connect.
    fchmod(&socket, Mode::from_raw_mode(mode))?;
    let address = SocketAddrUnix::new(path)?;
    // It takes away from that what the umask says, which all threads share.
    let umask = (mode & 0o077 != 0).then(|| umask(Mode::empty()));
    let bound = rustix::net::bind(&socket, &address);
    if let Some(before) = umask {
        rustix::process::umask(before);
    }
    bound?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// Makes errors about a path.
fn failed(path: &Path, access: Access) -> impl Fn(&'static str, io::Error) -> SocketError {
    move |what, source| SocketError::Io {
        path: path.into(),
        what,
        source,
        option: access.option,
    }
}

fn remove_if_dead(path: &Path, access: Access) -> Result<(), SocketError> {
    let fail = failed(path, access);
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(fail("cannot be looked at", error)),
    };
    let (path, option) = (path.to_owned(), access.option);
    if !file.file_type().is_socket() {
        return Err(SocketError::NoSocket { path, option });
    }
    match owner(&path) {
        Ok(Owner::Alive(pid)) => Err(SocketError::InUse { path, pid, option }),
        Ok(Owner::None) => fs::remove_file(&path)
            .map_err(|e| fail("the file of a dead process cannot be removed", e)),
        Err(errno) => Err(fail("it is there and cannot be connected to", errno.into())),
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

    fn bind(path: &Path) -> Result<Socket, SocketError> {
        Socket::bind(path, Access::default())
    }

    #[test]
    fn a_mode_is_there_from_the_first_moment_and_messages_name_the_option() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("proxy.sock");
        let group = rustix::process::getgid().as_raw();
        rustix::process::umask(Mode::from_raw_mode(0o027));
        let access = Access {
            mode: 0o660,
            group: Some(group),
            option: "--listen",
        };
        let _first = Socket::bind(&path, access).unwrap();
        let file = fs::metadata(&path).unwrap();
        assert_eq!((file.mode() & 0o777, file.gid()), (0o660, group));
        let error = Socket::bind(&path, access).unwrap_err();
        assert!(error.to_string().contains("with --listen"), "{error}");
    }

    #[test]
    fn private_exclusive_and_gone_at_the_end() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("admin.sock");
        let first = bind(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        match bind(&path) {
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
        let mut socket = bind(&path).unwrap();
        assert!(socket.take().is_some());
        // Somebody else's file is left alone.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        drop(socket);
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        assert!(matches!(bind(&path), Err(SocketError::NoSocket { .. })));
    }

    #[test]
    fn a_folder_that_somebody_keeps_locked_is_named() {
        let dir = TempDir::new().unwrap();
        let folder = File::open(dir.path()).unwrap();
        flock(&folder, FlockOperation::LockExclusive).unwrap();
        let error = bind(&dir.path().join("admin.sock")).unwrap_err();
        let named = format!("its folder {} is locked", dir.path().display());
        assert!(error.to_string().contains(&named), "{error}");
    }

    #[test]
    fn a_busy_owner_is_alive() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("admin.sock");
        let _busy = bind(&path).unwrap();
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
        let error = bind(&path).unwrap_err();
        assert!(matches!(error, SocketError::InUse { pid: None, .. }));
        assert!(error.to_string().contains("too busy"), "{error}");
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = bind(Path::new("/nonexistent/x.sock")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/x.sock"), "{error}");
    }
}
