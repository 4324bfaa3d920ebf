//! Where a private engine lives: namespaces of its own, and nothing left of them afterwards.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use crate::{Error, Namespace, TempDir, wait_until};

/// Makes a room and takes it down again.
const KEEPER: &str = include_str!("room.sh");

/// A room has so long to be made, and to be gone: then the kernel may have many processes to end.
const BOUND: Duration = Duration::from_secs(30);

/// A network, a mount and a process namespace, with a file system in memory. Outside it has a folder
/// and a cgroup. When this is dropped everything ends that runs inside.
#[derive(Debug)]
pub(crate) struct Room {
    keeper: Child,
    /// As long as this is open the room stays.
    open: Option<ChildStdin>,
    holder: u32,
    namespace: Namespace,
    dir: TempDir,
}

impl Room {
    /// Makes one.
    pub(crate) fn new() -> Result<Self, Error> {
        let namespace = Namespace::new("engine")?;
        let dir = TempDir::new()?;
        let path = dir.path();
        fs::create_dir(path.join("own")).map_err(Error::io("a folder for the room"))?;
        let log = File::create(path.join("room.log")).map_err(Error::io("the room's log"))?;
        let copy = log.try_clone().map_err(Error::io("the room's log"))?;
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "room"])
            .env("NAME", namespace.name())
            .env("DIR", path)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(copy)
            .spawn()
            .map_err(Error::io("starting a shell"))?;
        let mut room = Self {
            open: keeper.stdin.take(),
            keeper,
            holder: 0,
            namespace,
            dir,
        };
        let made = wait_until(BOUND, || {
            room.holder = room.read("holder").trim().parse().unwrap_or_default();
            room.holder != 0 || room.ended()
        });
        if room.holder == 0 {
            let why = if made {
                "its keeper ended"
            } else {
                "it takes too long"
            };
            let log = room.read("room.log");
            return Err(Error::Failed(format!(
                "no room for an engine: {why}: {log}"
            )));
        }
        Ok(room)
    }

    /// The name of its network namespace and of its cgroup.
    pub(crate) fn name(&self) -> &str {
        self.namespace.name()
    }

    /// Its network namespace.
    pub(crate) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its folder, the same inside and outside.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A folder that only those inside see; it is gone with the room.
    pub(crate) fn own(&self, name: &str) -> PathBuf {
        self.dir().join("own").join(name)
    }

    /// A file of its folder; empty if it cannot be read.
    pub(crate) fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.dir().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A command that will run inside.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let holder = self.holder.to_string();
        command.args([
            "--target", &holder, "--net", "--mount", "--pid", "--", program,
        ]);
        command.current_dir("/");
        command
    }

    fn ended(&mut self) -> bool {
        !matches!(self.keeper.try_wait(), Ok(None))
    }

    /// Ends everything inside and removes what has a name outside.
    pub(crate) fn shut(&mut self) {
        drop(self.open.take());
        let _gone = wait_until(BOUND, || self.ended());
        self.namespace.remove();
    }

    /// As [`Self::shut`], and looks for what is left.
    ///
    /// # Errors
    /// Something is left; with what.
    pub(crate) fn close(&mut self) -> Result<(), Error> {
        self.shut();
        let mut left = leftovers(self.name(), self.dir());
        if !self.ended() {
            left.push("the room's keeper".to_owned());
        }
        if left.is_empty() {
            return Ok(());
        }
        Err(Error::Failed(format!("left of an engine: {left:?}")))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shut();
    }
}

/// What can be seen from outside of a room that should be gone: files, processes, namespaces,
/// mounts, cgroups.
fn leftovers(name: &str, dir: &Path) -> Vec<String> {
    let names = [PathBuf::from(format!("/run/netns/{name}")), dir.to_owned()];
    let there = names.into_iter().filter(|path| path.exists());
    let mut left: Vec<String> = there.map(|path| path.display().to_string()).collect();
    let dir = &dir.display().to_string();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let ours = mounts
        .lines()
        .filter(|line| mentions(line, dir) || mentions(line, name));
    left.extend(ours.map(|line| format!("the mount {line}")));
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let words = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        if mentions(&words, dir) || mentions(&words, name) {
            left.push(format!("the process {:?}: {words}", process.file_name()));
        }
    }
    let cgroups = cgroups(Path::new("/sys/fs/cgroup"), name, 3);
    left.extend(cgroups.map(|path| format!("the cgroup {}", path.display())));
    left
}

/// Whether a text has this name, and not only one that begins so: those of other tests do.
fn mentions(text: &str, name: &str) -> bool {
    let longer = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let mut rests = text.split(name).skip(1);
    rests.any(|rest| !rest.starts_with(longer))
}

/// The folders of this name, at most so deep.
fn cgroups(under: &Path, name: &str, depth: u32) -> Box<dyn Iterator<Item = PathBuf>> {
    let name = name.to_owned();
    let entries = fs::read_dir(under).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Box::new(folders.flat_map(move |entry| {
        if entry.file_name() == *name {
            Box::new(std::iter::once(entry.path()))
        } else if depth > 0 {
            cgroups(&entry.path(), &name, depth - 1)
        } else {
            Box::new(std::iter::empty()) as Box<dyn Iterator<Item = PathBuf>>
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::mentions;

    #[test]
    fn names_that_begin_alike_are_others() {
        let name = "/tmp/plimsoll-3f56-4e";
        for text in ["/tmp/plimsoll-3f56-4e", "cat /tmp/plimsoll-3f56-4e/a b"] {
            assert!(mentions(text, name), "{text}");
        }
        let both = format!("{name}1 {name}");
        assert!(mentions(&both, name));
        for text in ["", "/tmp/plimsoll-3f56-4", "run /tmp/plimsoll-3f56-4e1/a"] {
            assert!(!mentions(text, name), "{text}");
        }
    }
}
