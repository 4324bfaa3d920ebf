//! Network namespaces that are gone when they are dropped. For root only.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::process::{Command, Output};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{Error, Place, unique_id, wait_until};

/// Names of namespaces begin so, followed by the process's id.
const PREFIX: &str = "plimsoll-";

/// Whether this process may make network namespaces.
pub fn have_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether a test that needs root can go on. If not it fails; only where
/// `PLIMSOLL_SKIP_ROOT=1` allows it, the test is to return, and is listed as skipped on standard
/// error.
///
/// # Panics
/// There is no root and no leave to skip.
#[track_caller]
pub fn root_or_skip(test: &str) -> bool {
    root_or_leave(test, "network namespaces")
}

/// As [`root_or_skip`], with what root is needed for.
#[track_caller]
#[allow(clippy::panic, reason = "this is how a test fails")]
pub(crate) fn root_or_leave(test: &str, what: &str) -> bool {
    if have_root() {
        return true;
    }
    if std::env::var_os("PLIMSOLL_SKIP_ROOT").is_some_and(|value| value == "1") {
        // Written past the harness, which shows nothing of a test that passes when it is printed.
        let _listed = writeln!(io::stderr(), "SKIPPED: {test}: needs root for {what}");
        return false;
    }
    panic!("{test} needs root for {what}; PLIMSOLL_SKIP_ROOT=1 skips it");
}

type Job = Box<dyn FnOnce() + Send>;

/// A way to open sockets in a namespace.
#[derive(Clone, Debug)]
pub struct Handle(Sender<Job>);

impl Handle {
    /// Runs something inside, on the namespace's own thread, and waits for it.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let (sender, result) = channel();
        let job = move || {
            // The caller waits for it.
            let _taken = sender.send(work());
        };
        let gone = || io::Error::other("the namespace is gone");
        self.0.send(Box::new(job)).map_err(|_| gone())?;
        result.recv().map_err(|_| gone())
    }
}

/// A network namespace with a thread inside. It is removed when this is dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    handle: Option<Handle>,
}

impl Namespace {
    /// Makes one, with loopback up.
    ///
    /// # Errors
    /// There is no root, or `ip` fails.
    pub fn new(label: &str) -> Result<Self, Error> {
        sweep();
        let name = format!("{PREFIX}{}-{label}-{}", std::process::id(), unique_id());
        ip(&["netns", "add", &name])?;
        let mut namespace = Self { name, handle: None };
        namespace.ip(&["link", "set", "lo", "up"])?;
        namespace.enter()?;
        Ok(namespace)
    }

    /// Starts the thread inside.
    fn enter(&mut self) -> Result<(), Error> {
        let path = format!("/run/netns/{}", self.name);
        let file = File::open(&path).map_err(Error::io(format!("opening {path}")))?;
        let (sender, jobs) = channel::<Job>();
        let (entered, has_entered) = channel();
        std::thread::spawn(move || {
            let moved = move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network));
            let inside = moved.is_ok();
            // Whoever starts this waits for it.
            let _told = entered.send(moved);
            if inside {
                jobs.into_iter().for_each(|job| job());
            }
        });
        self.handle = Some(Handle(sender));
        match has_entered.recv() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(errno)) => Err(Error::io(format!("entering {}", self.name))(errno.into())),
            Err(_) => Err(Error::Failed(format!("no thread enters {}", self.name))),
        }
    }

    /// Its name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where sockets of this namespace are opened.
    pub fn place(&self) -> Place {
        self.handle.clone().map_or(Place::Here, Place::Namespace)
    }

    /// Runs something short inside, on the namespace's own thread, and waits for it.
    ///
    /// # Errors
    /// The thread has ended: what ran on it before panicked.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let gone = || io::Error::other("the namespace is gone");
        let result = self
            .handle
            .as_ref()
            .ok_or_else(gone)
            .and_then(|handle| handle.run(work));
        result.map_err(Error::io(format!("running in {}", self.name)))
    }

    /// A command that will run inside.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs `ip` inside; what it wrote.
    ///
    /// # Errors
    /// It cannot be started, or fails; with what it wrote.
    pub fn ip(&self, args: &[&str]) -> Result<String, Error> {
        ip(&[&["-n", self.name.as_str()], args].concat())
    }

    /// Removes its name at once; the namespace itself goes with its last process and socket.
    pub(crate) fn remove(&self) {
        remove(&self.name);
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The thread ends with the last place that somebody holds: it cannot be waited for.
        self.remove();
    }
}

/// Several namespaces on one bridge, which has a namespace of its own. All are removed when this is
/// dropped.
#[derive(Debug)]
pub struct Net {
    nodes: Vec<(String, Namespace, Ipv4Addr)>,
    // After the nodes: fields are dropped in their order.
    switch: Namespace,
}

impl Net {
    /// Makes a namespace for each label, with `eth0` in 10.77.0.0/24: the first has 10.77.0.1, and so
    /// on. At most 200.
    ///
    /// # Errors
    /// There is no root, or `ip` fails; what was made is removed.
    pub fn new(labels: &[&str]) -> Result<Self, Error> {
        let switch = Namespace::new("switch")?;
        switch.ip(&["link", "add", "br0", "type", "bridge"])?;
        switch.ip(&["link", "set", "br0", "up"])?;
        let mut net = Self {
            nodes: Vec::new(),
            switch,
        };
        for label in labels {
            net.add(label)?;
        }
        Ok(net)
    }

    /// Adds a namespace, as [`Self::new`] does.
    ///
    /// # Errors
    /// As there.
    pub fn add(&mut self, label: &str) -> Result<(), Error> {
        let number = u8::try_from(self.nodes.len() + 1).unwrap_or(u8::MAX);
        if number > 200 {
            return Err(Error::Failed("a net has at most 200 nodes".to_owned()));
        }
        let node = Namespace::new(label)?;
        let address = Ipv4Addr::new(10, 77, 0, number);
        let port = format!("port{number}");
        let switch = &self.switch;
        switch.ip(&[
            "link",
            "add",
            &port,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            node.name(),
        ])?;
        switch.ip(&["link", "set", &port, "master", "br0", "up"])?;
        node.ip(&["address", "add", &format!("{address}/24"), "dev", "eth0"])?;
        node.ip(&["link", "set", "eth0", "up"])?;
        self.nodes.push((label.to_owned(), node, address));
        Ok(())
    }

    fn node(&self, label: &str) -> Result<&(String, Namespace, Ipv4Addr), Error> {
        let found = self.nodes.iter().find(|(other, ..)| other == label);
        found.ok_or_else(|| Error::Failed(format!("the net has no node {label:?}")))
    }

    /// The namespace with this label.
    ///
    /// # Errors
    /// There is none.
    pub fn namespace(&self, label: &str) -> Result<&Namespace, Error> {
        self.node(label).map(|(_, namespace, _)| namespace)
    }

    /// The namespace of the bridge, where the other end of the first label's `eth0` is `port1`, and so
    /// on.
    pub fn switch(&self) -> &Namespace {
        &self.switch
    }

    /// Where sockets of the namespace with this label are opened.
    ///
    /// # Errors
    /// There is none.
    pub fn place(&self, label: &str) -> Result<Place, Error> {
        self.namespace(label).map(Namespace::place)
    }

    /// The address of the namespace with this label, with a port.
    ///
    /// # Errors
    /// There is none.
    pub fn address(&self, label: &str, port: u16) -> Result<SocketAddr, Error> {
        self.node(label)
            .map(|(_, _, address)| (IpAddr::V4(*address), port).into())
    }

    /// Removes everything and makes sure that no name is left, here or in the list of links.
    ///
    /// # Errors
    /// Something is left after five seconds.
    pub fn close(self) -> Result<(), Error> {
        let mut names: Vec<String> = self
            .nodes
            .iter()
            .map(|(_, namespace, _)| namespace.name.clone())
            .collect();
        names.push(self.switch.name.clone());
        drop(self);
        let mut left = Vec::new();
        let gone = wait_until(Duration::from_secs(5), || {
            let listed = namespaces();
            left = names
                .iter()
                .filter(|name| listed.contains(name))
                .cloned()
                .collect();
            left.is_empty()
        });
        if gone {
            Ok(())
        } else {
            Err(Error::Failed(format!("namespaces are left: {left:?}")))
        }
    }
}

/// The names of all namespaces.
fn namespaces() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/run/netns") else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.collect()
}

/// Removes what tests left behind that were killed: namespaces of processes that are no more.
fn sweep() {
    for name in namespaces() {
        let process = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        let Some(process) = process.and_then(|id| id.parse::<u32>().ok()) else {
            continue;
        };
        if !fs::exists(format!("/proc/{process}")).unwrap_or(true) {
            remove(&name);
        }
    }
}

/// Removes a namespace's name. As long as some `ip netns exec` elsewhere is just copying the mounts
/// the name is busy, so this is tried for a while; what is left then goes with the next sweep.
fn remove(name: &str) {
    let _gone = wait_until(Duration::from_secs(5), || {
        ip(&["netns", "del", name]).is_ok() || !namespaces().iter().any(|other| other == name)
    });
}

fn ip(args: &[&str]) -> Result<String, Error> {
    let what = format!("ip {}", args.join(" "));
    let output = Command::new("ip")
        .args(args)
        .output()
        .map_err(Error::io(what.as_str()))?;
    let Output {
        status,
        stdout,
        stderr,
    } = output;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&stderr);
    Err(Error::Failed(format!("{what}: {status}: {}", said.trim())))
}
