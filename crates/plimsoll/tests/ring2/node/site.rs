//! A client, a director and a node on one link, and the process under test.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use plimsoll_testkit::{Namespace, TempDir, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::lab::{BINARY, Ended, Lab, SOON, ended};

pub(super) const VIP_V4: &str = "10.77.9.1";
pub(super) const VIP_V6: &str = "fd77:9::1";
pub(super) const BOTH: &str = "10.77.9.1,fd77:9::1";

/// Addresses of client, director and node for IPv6.
const V6: [(&str, &str); 3] = [
    ("client", "fd77::1"),
    ("lb", "fd77::2"),
    ("node", "fd77::3"),
];

/// The namespaces, and where the process writes down what it changed.
pub(super) struct Site {
    pub(super) lab: Lab,
    pub(super) state: TempDir,
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

impl Site {
    pub(super) fn new(test: &str) -> Option<Self> {
        let lab = Lab::new(test, &["node"])?;
        let state = TempDir::new().unwrap();
        let site = Self { lab, state };
        for (label, own) in V6 {
            let own = format!("{own}/64");
            site.ip(label, &["address", "add", &own, "dev", "eth0", "nodad"]);
        }
        // The client finds VIPs on its link, asks for them quickly, and leaves room for a tunnel.
        for vip in [VIP_V4, VIP_V6] {
            site.ip(
                "client",
                &["route", "add", vip, "dev", "eth0", "mtu", "1400"],
            );
        }
        site.ip("client", &["link", "set", "eth0", "gso_max_segs", "1"]);
        for family in ["ipv4", "ipv6"] {
            site.set(
                "client",
                &format!("net/{family}/neigh/eth0/retrans_time_ms"),
                "100",
            );
        }
        // The kernel gives the link an address by itself, and asks first whether somebody has it.
        let settled = wait_until(SOON, || {
            let shown = site.ip("node", &["-6", "address", "show", "dev", "eth0"]);
            shown.contains("fe80::") && !shown.contains("tentative")
        });
        assert!(settled);
        Some(site)
    }

    pub(super) fn namespace(&self, label: &str) -> &Namespace {
        self.lab.net().namespace(label).unwrap()
    }

    pub(super) fn ip(&self, label: &str, args: &[&str]) -> String {
        self.namespace(label).ip(args).unwrap()
    }

    /// Sets a sysctl of a namespace.
    pub(super) fn set(&self, label: &str, name: &str, value: &str) {
        let (path, value) = (format!("/proc/sys/{name}"), value.to_owned());
        let written = self.namespace(label).run(move || fs::write(path, value));
        written.unwrap().unwrap();
    }

    /// The address of a namespace of this family.
    pub(super) fn own(&self, label: &str, v4: bool) -> IpAddr {
        if v4 {
            return self.lab.at(label, 0).ip();
        }
        ip(V6.iter().find(|(other, _)| *other == label).unwrap().1)
    }

    /// The link-layer address of a namespace.
    pub(super) fn mac(&self, label: &str) -> String {
        let shown = self.ip(label, &["-br", "link", "show", "eth0"]);
        shown.split_whitespace().nth(2).unwrap().to_owned()
    }

    /// From now on the client sends what is for a VIP to this namespace.
    pub(super) fn send_to(&self, vip: &str, label: &str) {
        let mac = self.mac(label);
        let words = [
            "neigh",
            "replace",
            vip,
            "lladdr",
            &mac,
            "dev",
            "eth0",
            "nud",
            "permanent",
        ];
        self.ip("client", &words);
    }

    /// The command under test, in the namespace of the node.
    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.namespace("node").command(BINARY);
        self.finish(&mut command, args);
        command
    }

    fn finish(&self, command: &mut Command, args: &[&str]) {
        command.arg("node").args(args);
        command.arg("--state").arg(self.state.path());
        if !args.contains(&"--undo") {
            command.args(["--interface", "eth0"]);
        }
    }

    /// Runs it to its end.
    pub(super) fn run(&self, args: &[&str]) -> Ended {
        ended(self.command(args))
    }

    /// As [`Self::run`], and it has to succeed.
    #[track_caller]
    pub(super) fn tell(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!(ended.code, Some(0), "{args:?}: {}{}", ended.out, ended.err);
        ended.out
    }

    /// What it tells in JSON.
    #[track_caller]
    pub(super) fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.tell(&[args, &["--json"]].concat())).unwrap()
    }

    /// Starts it in the node's namespace, and waits until all is set up.
    pub(super) fn start(&self, args: &[&str]) -> Running {
        Running::start(self.command(args))
    }

    /// Starts it here, with these arguments, and waits as [`Self::start`] does.
    pub(super) fn start_outside(&self, args: &[&str]) -> Running {
        let mut command = Command::new(BINARY);
        self.finish(&mut command, args);
        Running::start(command)
    }

    /// All that it could have changed: settings, addresses and programs.
    pub(super) fn snapshot(&self) -> BTreeMap<String, String> {
        let settings = self.namespace("node").run(|| {
            let mut all = BTreeMap::new();
            for folder in fs::read_dir("/proc/sys/net/ipv4/conf").unwrap() {
                for file in fs::read_dir(folder.unwrap().path()).unwrap() {
                    let path = file.unwrap().path();
                    let value = fs::read_to_string(&path).unwrap();
                    all.insert(path.display().to_string(), value);
                }
            }
            all
        });
        let mut all = settings.unwrap();
        let addresses = self.ip("node", &["-o", "address", "show"]);
        // Life times of addresses are all for ever, and counted down by nobody.
        all.insert("addresses".to_owned(), addresses);
        for interface in ["lo", "eth0"] {
            let mut command = self.namespace("node").command("tc");
            command.args(["filter", "show", "dev", interface, "ingress"]);
            all.insert(format!("filters of {interface}"), ended(command).out);
        }
        let check = ["--vip", "10.77.9.9", "--check", "--json"];
        let programs: Value = serde_json::from_str(&self.run(&check).out).unwrap();
        all.insert("programs".to_owned(), programs["tunnels"].to_string());
        all
    }

    /// All is as it was then.
    #[track_caller]
    pub(super) fn is_as(&self, before: &BTreeMap<String, String>) {
        let now = self.snapshot();
        let other: Vec<_> = now
            .iter()
            .filter(|(key, value)| before.get(*key) != Some(*value))
            .map(|(key, value)| format!("{key}: {value}, was {:?}", before.get(key)))
            .collect();
        assert!(other.is_empty() && now.len() == before.len(), "{other:#?}");
    }

    /// How many packets were unwrapped.
    pub(super) fn unwrapped(&self) -> u64 {
        let ended = self.run(&["--vip", BOTH, "--check", "--json"]);
        let found: Value = serde_json::from_str(&ended.out).unwrap();
        found["tunnels"]["eth0"]["unwrapped"].as_u64().unwrap()
    }

    /// Nothing is left, in the namespaces or on the host.
    pub(super) fn close(self) {
        let left: Vec<_> = fs::read_dir(self.state.path())
            .unwrap()
            .map(|file| file.unwrap().file_name())
            .collect();
        assert!(left.is_empty(), "{left:?}");
        self.lab.end();
    }
}

/// The process, which is killed if it is dropped while it runs.
pub(super) struct Running {
    child: Child,
    lines: Receiver<String>,
    pub(super) told: Vec<String>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let _read_no_more = sender.send(line);
            }
        });
        let mut running = Self {
            child,
            lines,
            told: Vec::new(),
        };
        let ready = wait_until(SOON, || {
            running.told.extend(running.lines.try_iter());
            running
                .told
                .iter()
                .any(|line| line.starts_with("node: serves "))
        });
        assert!(ready, "{:?}", running.told);
        running
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal and waits for the end; the exit code and all it told.
    pub(super) fn signal(mut self, signal: Signal) -> (Option<i32>, Vec<String>) {
        let id = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(id, signal).unwrap();
        self.end()
    }

    /// Waits for the end.
    pub(super) fn end(&mut self) -> (Option<i32>, Vec<String>) {
        let mut code = None;
        let done = wait_until(SOON, || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        });
        assert!(done, "it does not end");
        self.told.extend(self.lines.iter());
        (code.unwrap().code(), std::mem::take(&mut self.told))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
