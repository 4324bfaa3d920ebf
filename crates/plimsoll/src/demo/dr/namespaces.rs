//! The demo's hosts as network namespaces, and their programs as processes in them.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use plimsoll_plane_ebpf::node::Namespace;
use rustix::process::{Pid, Signal, kill_process};

use super::book::{Book, MARK, Made, output};
use super::plan::{CLIENT, HOSTS, INTERFACE, Plan};
use super::{End, program};
use crate::error::Error;

/// The namespace that the bridge between the others is in.
const SWITCH: &str = "switch";
/// What is told to stop has so long.
const STOP: Duration = Duration::from_secs(10);

/// The hosts.
pub(super) struct Namespaces {
    prefix: String,
    folder: PathBuf,
    mark: String,
    children: Mutex<BTreeMap<String, Child>>,
}

impl Namespaces {
    /// Makes them, on one bridge.
    pub(super) fn make(plan: &Plan, name: &str, book: &mut Book) -> Result<Self, Error> {
        let all = Self {
            prefix: name.to_owned(),
            folder: book.folder().to_owned(),
            mark: book.mark().to_owned(),
            children: Mutex::default(),
        };
        all.add(SWITCH, book)?;
        // Without a tree to be found out, its ports forward at once.
        all.ip(
            SWITCH,
            "link add br0 type bridge forward_delay 0 mcast_snooping 0",
        )?;
        all.ip(SWITCH, "link set br0 up")?;
        for (host, _) in HOSTS {
            all.add(host, book)?;
            let full = all.full(host);
            all.ip(
                SWITCH,
                &format!("link add {host} type veth peer name {INTERFACE} netns {full}"),
            )?;
            all.ip(SWITCH, &format!("link set {host} master br0 up"))?;
            let (ip, prefix) = (plan.of(host), plan.prefix());
            let nodad = if ip.is_ipv6() { " nodad" } else { "" };
            all.ip(
                host,
                &format!("address add {ip}/{prefix} dev {INTERFACE}{nodad}"),
            )?;
            all.ip(host, &format!("link set {INTERFACE} up"))?;
        }
        Ok(all)
    }

    /// The name of a host's namespace.
    fn full(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }

    fn add(&self, host: &str, book: &mut Book) -> Result<(), Error> {
        let full = self.full(host);
        if Path::new("/run/netns").join(&full).exists() {
            return Err(Error::Failed(format!(
                "there is a network namespace {full} that is not the demo's: remove it (ip netns delete \
                 {full}), or choose other names with --name"
            )));
        }
        book.note(Made::Namespace(full.clone()))?;
        let added = output(Command::new("ip").args(["netns", "add", &full]));
        added.map_err(Error::Failed)?;
        self.ip(host, "link set lo up")
    }

    /// Runs `ip` in a host's namespace.
    fn ip(&self, host: &str, line: &str) -> Result<(), Error> {
        let mut command = Command::new("ip");
        command.args(["-n", &self.full(host)]);
        let done = output(command.args(line.split(' ')));
        done.map(drop).map_err(Error::Failed)
    }

    pub(super) fn namespace(&self, host: &str) -> Result<Namespace, Error> {
        let path = Path::new("/run/netns").join(self.full(host));
        Ok(Namespace::at(&path)?)
    }

    /// How people run something on a host.
    pub(super) fn shell(&self, host: &str) -> String {
        format!("ip netns exec {}", self.full(host))
    }

    /// Starts a host's program.
    pub(super) fn start(&self, host: &str) -> Result<(), Error> {
        if host == CLIENT {
            return Ok(());
        }
        let cannot = |why: std::io::Error| Error::Failed(format!("{host}: {why}"));
        let log = self.folder.join(format!("{host}.log"));
        let log = File::options().create(true).append(true).open(log);
        let log = log.map_err(cannot)?;
        // This program, also after its file has been replaced.
        let mut command = Command::new("/proc/self/exe");
        // Ctrl-C is for the demo alone.
        command.arg0("plimsoll").process_group(0);
        command
            .args(program(host, &self.folder))
            .env(MARK, &self.mark)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = self.namespace(host)?.run(|| Ok(command.spawn()))?;
        let child = child.map_err(cannot)?;
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.insert(host.to_owned(), child);
        Ok(())
    }

    /// Ends a host's program, and waits for it.
    pub(super) fn end(&self, host: &str, how: End) -> Result<(), Error> {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut child) = children.remove(host) else {
            return Ok(());
        };
        drop(children);
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        if let (End::Stop, Some(pid)) = (how, pid) {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::TERM);
            let until = Instant::now() + STOP;
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < until {
                sleep(Duration::from_millis(10));
            }
        }
        let _ = child.kill();
        let ended = child.wait();
        ended
            .map(drop)
            .map_err(|why| Error::Failed(format!("{host}: {why}")))
    }

    /// Whether a host's program has ended by itself.
    pub(super) fn has_ended(&self, host: &str) -> bool {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        let child = children.get_mut(host);
        child.is_some_and(|child| !matches!(child.try_wait(), Ok(None)))
    }
}
