//! A private Docker engine, started and removed by a test. For root only.
//!
//! The engine lives in a network, a mount and a process namespace of its own, keeps its data in
//! memory and its containers in a cgroup of its own. It never sees another engine of the machine, nor
//! that one it.

mod api;
mod client;
mod room;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::Signal;

use self::room::Room;
use crate::finish::succeed;
use crate::netns::root_or_leave;
use crate::server::lock;
use crate::{Error, Namespace, Place, wait_until};

/// The engine has so long to answer, or to end: without live-restore it stops its containers
/// first, which have ten seconds.
const BOUND: Duration = Duration::from_secs(40);

/// The programs that are needed, with the Debian packages that bring them.
const PROGRAMS: [(&str, &str); 4] = [
    ("dockerd", "docker.io"),
    ("docker", "docker.io"),
    ("docker-compose", "docker-compose"),
    ("iptables", "iptables"),
];

/// Whether a test that needs a private engine can go on. If not it fails; it is to return, and is
/// listed on standard error, where there is no root and `PLIMSOLL_SKIP_ROOT=1` allows to skip it, and
/// where `PLIMSOLL_ENGINE_LATER=1` says that such tests run in another step.
///
/// # Panics
/// There is no root and no leave to skip, or a program is missing.
#[track_caller]
#[allow(clippy::panic, reason = "this is how a test fails")]
pub fn engine_or_skip(test: &str) -> bool {
    if std::env::var_os("PLIMSOLL_ENGINE_LATER").is_some_and(|value| value == "1") {
        // Written past the harness, which shows nothing of a test that passes when it is printed.
        let _listed = writeln!(io::stderr(), "LATER: {test}: runs with those of its ring");
        return false;
    }
    if !root_or_leave(test, "a Docker engine of its own") {
        return false;
    }
    let missing: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| client::find(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if !missing.is_empty() {
        panic!("{test} needs these packages: {}", missing.join(" "));
    }
    true
}

/// How an engine is run.
#[derive(Clone, Debug, Default)]
pub struct EnginePlan {
    /// Containers go on while the engine is away (`--live-restore`).
    pub live_restore: bool,
    /// More arguments of `dockerd`.
    pub args: Vec<String>,
}

/// A running engine. When this is dropped, or the test's process ends, everything of it is removed:
/// processes, containers, images, namespaces, mounts, cgroups. If the test is failing, what the
/// engine and its containers wrote is shown.
#[derive(Debug)]
pub struct Engine {
    plan: EnginePlan,
    /// None while it is stopped. `nsenter`, which ends as `dockerd` does.
    daemon: Mutex<Option<Child>>,
    room: Room,
}

impl Engine {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// There is no root or no `dockerd`, or it does not come up; with what it wrote.
    pub fn start(plan: EnginePlan) -> Result<Self, Error> {
        let engine = Self {
            plan,
            daemon: Mutex::new(None),
            room: Room::new()?,
        };
        engine.resume()?;
        Ok(engine)
    }

    /// The socket of its API. Inside it has the usual path, too.
    pub fn socket(&self) -> PathBuf {
        self.room.dir().join("docker.sock")
    }

    /// Its address, as in `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// A folder that is the same for the test, the engine and its containers' mounts; it is gone with
    /// the engine.
    pub fn dir(&self) -> &Path {
        self.room.dir()
    }

    /// The network namespace that is the engine's host: its bridges and published ports are there.
    pub fn namespace(&self) -> &Namespace {
        self.room.namespace()
    }

    /// Where sockets on the engine's host are opened.
    pub fn place(&self) -> Place {
        self.namespace().place()
    }

    /// A command that will run on the engine's host, as a user's would: in its namespaces, and with
    /// the engine at `/var/run/docker.sock`.
    pub fn command(&self, program: &str) -> Command {
        self.room.command(program)
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        self.room.read("dockerd.log")
    }

    /// Stops it with TERM and starts it again; back when it answers. With live-restore its
    /// containers go on, else they stop and those with a restart policy start again.
    ///
    /// # Errors
    /// It does not end, or does not come up.
    pub fn restart(&self) -> Result<(), Error> {
        self.stop()?;
        self.resume()
    }

    /// Stops the engine with TERM; back when it has ended.
    ///
    /// # Errors
    /// It does not run, or does not end.
    pub fn stop(&self) -> Result<(), Error> {
        self.end(Signal::TERM)
    }

    /// Kills the engine, as a crash does. Its containers go on.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&self) -> Result<(), Error> {
        self.end(Signal::KILL)
    }

    /// Starts the engine again after [`Self::stop`] or [`Self::kill`]; back when it answers.
    ///
    /// # Errors
    /// It runs already, or does not come up; with what it wrote.
    pub fn resume(&self) -> Result<(), Error> {
        let mut daemon = lock(&self.daemon);
        if daemon.is_some() {
            return Err(Error::Failed("the engine runs already".to_owned()));
        }
        let mut child = self.dockerd()?;
        let mut ended = None;
        let up = wait_until(BOUND, || {
            ended = child.try_wait().ok().flatten();
            ended.is_some() || api::answers(&self.socket())
        });
        *daemon = Some(child);
        match ended {
            None if up => Ok(()),
            None => Err(self.failed("the engine does not answer")),
            Some(status) => Err(self.failed(&format!("the engine ended: {status}"))),
        }
    }

    /// Starts `dockerd`. Nothing of the machine's own configuration is read.
    fn dockerd(&self) -> Result<Child, Error> {
        let log = self.room.dir().join("dockerd.log");
        let open = OpenOptions::new().create(true).append(true).open(log);
        let log = open.map_err(Error::io("the engine's log"))?;
        let copy = log.try_clone().map_err(Error::io("the engine's log"))?;
        let config = self.room.dir().join("daemon.json");
        std::fs::write(&config, "{}\n").map_err(Error::io("the engine's configuration"))?;
        let mut command = self.room.command("dockerd");
        command.arg("--config-file").arg(config);
        command.arg("--data-root").arg(self.room.own("data"));
        command.arg("--exec-root").arg(self.room.own("exec"));
        command.arg("--pidfile").arg(self.pid_file());
        command.arg("--host").arg(self.host());
        command.args(["--host", "unix:///run/docker.sock"]);
        command.args(["--cgroup-parent", &format!("/{}", self.room.name())]);
        command.args(["--exec-opt", "native.cgroupdriver=cgroupfs"]);
        command.args(["--log-level", "warn"]);
        if self.plan.live_restore {
            command.arg("--live-restore");
        }
        command.args(&self.plan.args);
        command.stdin(Stdio::null()).stdout(log).stderr(copy);
        command.spawn().map_err(Error::io("starting dockerd"))
    }

    fn end(&self, signal: Signal) -> Result<(), Error> {
        let mut daemon = lock(&self.daemon);
        let Some(mut child) = daemon.take() else {
            return Err(Error::Failed("the engine does not run".to_owned()));
        };
        // Its id is that of its own process namespace.
        let pid = self.room.read("dockerd.pid").trim().to_owned();
        let mut kill = self.room.command("sh");
        let name = if signal == Signal::KILL {
            "KILL"
        } else {
            "TERM"
        };
        kill.args(["-c", "kill -s \"$1\" \"$2\"", "kill", name, &pid]);
        succeed(kill, BOUND)?;
        let ended = wait_until(BOUND, || !matches!(child.try_wait(), Ok(None)));
        if ended {
            return Ok(());
        }
        *daemon = Some(child);
        Err(self.failed("the engine does not end"))
    }

    fn pid_file(&self) -> PathBuf {
        self.room.dir().join("dockerd.pid")
    }

    fn failed(&self, what: &str) -> Error {
        Error::Failed(format!("{what}:\n{}", self.log()))
    }

    /// Ends everything and removes it, as dropping does, and makes sure that nothing is left: no
    /// process, namespace, mount, cgroup or file.
    ///
    /// # Errors
    /// Something is left; with what.
    pub fn close(mut self) -> Result<(), Error> {
        self.room.close()
    }
}

impl Drop for Engine {
    #[allow(
        clippy::print_stderr,
        reason = "the harness shows it below the failed test"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the engine wrote:\n{}", self.log());
            eprintln!("its containers:\n{}", self.containers());
        }
        self.room.shut();
        if let Some(mut child) = lock(&self.daemon).take() {
            // It ended with the room.
            let _status = child.wait();
        }
    }
}
