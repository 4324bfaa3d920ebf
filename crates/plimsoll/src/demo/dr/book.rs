//! What was made is written down first, so that whoever comes after a crash can take it away.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::linux::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::error::Error;
use crate::out;

/// Where demos keep their folders.
const PLACE: &str = "/run/plimsoll";
/// Processes of a demo have its mark in their environment.
pub(super) const MARK: &str = "PLIMSOLL_DEMO";
/// The labels of containers and networks of a demo.
pub(super) const LABEL: &str = "plimsoll-demo";
/// Another text at each look.
const RANDOM: &str = "/proc/sys/kernel/random/uuid";
/// What is busy may be so for so long.
const BUSY: Duration = Duration::from_secs(5);
/// One that has just been killed may hold its folder for so long.
const ENDING: Duration = Duration::from_secs(1);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// Something that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// A network namespace, by its name.
    Namespace(String),
    /// Containers, networks and the image of the demo of this name, at the engine of this socket.
    Engine(PathBuf, String),
}

impl Made {
    fn line(&self) -> String {
        match self {
            Made::Namespace(name) => format!("namespace {name}\n"),
            Made::Engine(socket, name) => format!("engine {name} {}\n", socket.display()),
        }
    }

    fn read(line: &str) -> Option<Self> {
        let (kind, rest) = line.split_once(' ')?;
        match kind {
            "namespace" => Some(Made::Namespace(rest.to_owned())),
            "engine" => {
                let (name, socket) = rest.split_once(' ')?;
                Some(Made::Engine(socket.into(), name.to_owned()))
            }
            _ => None,
        }
    }

    /// Takes it away; why not, if it is still there.
    fn remove(&self) -> Result<(), String> {
        match self {
            Made::Namespace(name) => remove_namespace(name),
            Made::Engine(socket, name) => remove_containers(socket, name),
        }
    }
}

/// A demo's folder, locked as long as this lives.
#[derive(Debug)]
pub(super) struct Book {
    folder: PathBuf,
    _lock: File,
    mark: String,
    made: Vec<Made>,
}

impl Book {
    /// Takes the folder of the demo of this name, and takes away what one left that was killed.
    pub(super) fn open(name: &str) -> Result<Self, Error> {
        let folder = Path::new(PLACE).join(name);
        let lock = hold(&folder, name)?;
        let made = fs::read_to_string(folder.join("made")).unwrap_or_default();
        let made = made.lines().filter_map(Made::read).collect();
        let mark = mark(&folder)?;
        let mut book = Self {
            folder,
            _lock: lock,
            mark,
            made,
        };
        // What cannot be taken away now, as of an engine that is stopped, is tried again at the end.
        if !book.made.is_empty()
            && let Err(why) = book.clean()
        {
            out::warn(&format!(
                "plimsoll: an earlier demo left something: {why}\n"
            ));
        }
        let id = std::process::id().to_string();
        let written = fs::write(book.file("pid"), id);
        written.map_err(|why| failed(&book.file("pid"), &why))?;
        Ok(book)
    }

    /// A file in the folder.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The value of [`MARK`] for its processes.
    pub(super) fn mark(&self) -> &str {
        &self.mark
    }

    /// Writes down what is about to be made.
    pub(super) fn note(&mut self, made: Made) -> Result<(), Error> {
        self.made.push(made);
        self.write()
    }

    fn write(&self) -> Result<(), Error> {
        let text: String = self.made.iter().map(Made::line).collect();
        let (new, path) = (self.file("made.new"), self.file("made"));
        let written = fs::write(&new, text).and_then(|()| fs::rename(&new, &path));
        written.map_err(|why| failed(&path, &why))
    }

    /// Takes away all that was made: processes, containers, namespaces.
    pub(super) fn clean(&mut self) -> Result<(), String> {
        kill_marked(&self.mark);
        let mut trouble = Vec::new();
        // The last first.
        for made in std::mem::take(&mut self.made).into_iter().rev() {
            if let Err(why) = made.remove() {
                trouble.push(why);
                self.made.insert(0, made);
            }
        }
        // What is left is for the next one to take away.
        self.write().map_err(|why| why.to_string())?;
        match trouble.is_empty() {
            true => Ok(()),
            false => Err(trouble.join("; ")),
        }
    }

    /// The end: all is taken away, and the folder, too.
    pub(super) fn close(mut self) -> Result<(), String> {
        self.clean()?;
        let removed = fs::remove_dir_all(&self.folder);
        // Others may have something there.
        let _ = fs::remove_dir(PLACE);
        removed.map_err(|why| format!("{}: {why}", self.folder.display()))
    }
}

fn failed(path: &Path, why: &io::Error) -> Error {
    Error::Failed(format!("{}: {why}", path.display()))
}

/// Makes a folder if there is none, and locks it.
fn hold(folder: &Path, name: &str) -> Result<File, Error> {
    let until = Instant::now() + ENDING;
    loop {
        fs::create_dir_all(folder).map_err(|why| failed(folder, &why))?;
        let opened = match File::open(folder) {
            Err(why) if why.kind() == ErrorKind::NotFound => continue,
            opened => opened.map_err(|why| failed(folder, &why))?,
        };
        match flock(&opened, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => {
                sleep(LOOK);
                continue;
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let id = fs::read_to_string(folder.join("pid")).unwrap_or_default();
                let who = match id.is_empty() {
                    true => String::new(),
                    false => format!(" (process {id})"),
                };
                return Err(Error::Failed(format!(
                    "a demo named {name} runs already{who}: end it first, or name this one \
                     differently, such as --name {name}-2"
                )));
            }
            Err(why) => return Err(failed(folder, &why.into())),
        }
        // Whoever held it before has removed it: then this is not what others will find.
        let inode = |about: io::Result<fs::Metadata>| about.map(|about| about.st_ino()).ok();
        if inode(opened.metadata()) == inode(fs::metadata(folder)) {
            return Ok(opened);
        }
    }
}

/// The mark of the demo in this folder: another one may have a folder of the same path, as in a container.
fn mark(folder: &Path) -> Result<String, Error> {
    let path = folder.join("token");
    let mut token = fs::read_to_string(&path).unwrap_or_default();
    if token.is_empty() {
        token = fs::read_to_string(RANDOM).map_err(|why| failed(Path::new(RANDOM), &why))?;
        fs::write(&path, &token).map_err(|why| failed(&path, &why))?;
    }
    Ok(format!("{} {}", folder.display(), token.trim_end()))
}

/// Kills the processes with this mark, and waits until they are gone.
fn kill_marked(mark: &str) {
    let mark = format!("{MARK}={mark}");
    let marked = |id: i32| {
        // Those of other users, and those that have just ended, are none of ours.
        let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|v| v == mark.as_bytes())
    };
    let ids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = ids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    for id in ids.filter(|id| *id != own) {
        // Held first: then the number cannot become another's in between.
        let Some(pid) = Pid::from_raw(id) else {
            continue;
        };
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
            continue;
        };
        if marked(id) {
            // It may have ended meanwhile, which is what is wanted.
            let _ = pidfd_send_signal(&process, Signal::KILL);
            let until = Instant::now() + BUSY;
            while marked(id) && Instant::now() < until {
                sleep(LOOK);
            }
        }
    }
}

fn remove_namespace(name: &str) -> Result<(), String> {
    let path = Path::new("/run/netns").join(name);
    let until = Instant::now() + BUSY;
    // Its name is busy as long as somebody else's `ip netns exec` copies the mounts.
    loop {
        if !path.exists() {
            return Ok(());
        }
        let deleted = output(Command::new("ip").args(["netns", "delete", name]));
        if let Err(why) = deleted
            && Instant::now() >= until
        {
            return Err(why);
        }
        sleep(LOOK);
    }
}

fn remove_containers(socket: &Path, name: &str) -> Result<(), String> {
    let docker = |words: &[&str]| output(super::containers::docker(socket).args(words));
    let label = format!("label={LABEL}={name}");
    let containers = docker(&["ps", "-aq", "--no-trunc", "--filter", &label])?;
    for id in containers.split_whitespace() {
        docker(&["rm", "-f", "-v", id])?;
    }
    let networks = docker(&["network", "ls", "-q", "--no-trunc", "--filter", &label])?;
    for id in networks.split_whitespace() {
        docker(&["network", "rm", id])?;
    }
    let images = docker(&["images", "-q", "--filter", &label])?;
    for id in images.split_whitespace() {
        docker(&["rmi", "-f", id])?;
    }
    Ok(())
}

/// Runs a command to its end; what it wrote, or what it said of why not. Ctrl-C is the demo's alone: what
/// is half done is done first.
pub(super) fn output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let ended = command.stdin(Stdio::null()).process_group(0).output();
    let ended = ended.map_err(|why| match why.kind() {
        ErrorKind::NotFound if program == "ip" => {
            "`ip` is not installed (package iproute2)".to_owned()
        }
        ErrorKind::NotFound => format!("`{program}` is not installed"),
        _ => format!("{program}: {why}"),
    })?;
    if ended.status.success() {
        return Ok(String::from_utf8_lossy(&ended.stdout).into_owned());
    }
    let words: Vec<String> = command
        .get_args()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let said = String::from_utf8_lossy(&ended.stderr);
    let said = said.trim().replace('\n', " ");
    Err(format!("`{program} {}`: {said}", words.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_is_read_back() {
        for made in [
            Made::Namespace("plimsoll-demo-one".into()),
            Made::Engine("/run/a b.sock".into(), "plimsoll-demo".into()),
        ] {
            assert_eq!(Made::read(made.line().trim_end()), Some(made));
        }
        assert_eq!(Made::read("something else"), None);
    }
}
