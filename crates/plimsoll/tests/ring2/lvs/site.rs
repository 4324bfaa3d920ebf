//! The topology, and the processes in it.
//!
//! ```text
//!   client ──┐ front                 10.77.0.0/24, fd77::/64, eth0 of everybody
//!            ├────────┬─────────┐
//!        director     s1  s2  s3
//!            ├────────┴─────────┘
//!            ┘ back                  10.88.0.0/24, fd88::/64, eth1 of all but the client
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use plimsoll_plane_ebpf::sys::hooks::{XdpMode, attach_xdp};
use plimsoll_plane_ebpf::sys::{Globals, Netlink, Object};
use plimsoll_testkit::{Namespace, TempDir, list, wait_until};
use serde_json::Value;

use crate::config::DAEMON;
use crate::lab::{BINARY, Lab, Lb, SOON, ended};

pub(super) const CLIENT: &str = "client";
pub(super) const DIRECTOR: &str = "lb";
pub(super) const SERVERS: [&str; 3] = ["s1", "s2", "s3"];

/// Programs of a test; that of XDP passes everything.
const PASSES: &[u8] = include_bytes!("../../../../plane-ebpf/tests/bpf/small.o");

const VIP_V4: &str = "192.0.2.1";
const VIP_V6: &str = "2001:db8::1";

/// Settings of the director that docs/packet-plane.md asks for.
const DIRECTORS: [(&str, &str); 5] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/eth0/send_redirects", "0"),
    ("net/ipv4/conf/eth1/send_redirects", "0"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn vip(self) -> IpAddr {
        match self {
            Self::V4 => VIP_V4.parse().unwrap(),
            Self::V6 => VIP_V6.parse().unwrap(),
        }
    }

    /// Bytes of the header of a packet.
    pub(super) fn header(self) -> u64 {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }
}

/// One of the two links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Leg {
    /// The one that the client is on: packets leave the director by the interface they came by.
    Front,
    Back,
}

/// Where the director takes packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    Tc,
    Xdp,
}

pub(super) struct Site {
    pub(super) lab: Lab,
    pub(super) hook: Hook,
    back: Namespace,
    state: TempDir,
}

impl Site {
    /// None if there is no root and leave to skip.
    pub(super) fn new(test: &str, hook: Hook) -> Option<Self> {
        let lab = Lab::new(test, &SERVERS)?;
        let back = Namespace::new("back").unwrap();
        back.ip(&["link", "add", "br0", "type", "bridge"]).unwrap();
        back.ip(&["link", "set", "br0", "up"]).unwrap();
        let site = Self {
            lab,
            hook,
            back,
            state: TempDir::new().unwrap(),
        };
        for label in hosts() {
            site.connect(label);
        }
        if hook == Hook::Xdp {
            site.prepare_for_xdp();
        }
        for (name, value) in DIRECTORS {
            site.set(DIRECTOR, name, value);
        }
        for family in [Family::V4, Family::V6] {
            let vip = family.vip().to_string();
            site.ip(DIRECTOR, &["address", "add", &vip, "dev", "eth0"]);
            let via = site.at(DIRECTOR, Leg::Front, family).to_string();
            site.ip(CLIENT, &["route", "add", &vip, "via", &via]);
        }
        site.settle();
        site.serve_vips();
        Some(site)
    }

    /// Gives a host its addresses and its second leg. What servers send from an address of their own,
    /// as after NAT, goes by the director.
    fn connect(&self, label: &str) {
        let number = number(label);
        self.ip(
            label,
            &[
                "address",
                "add",
                &format!("fd77::{number}/64"),
                "dev",
                "eth0",
                "nodad",
            ],
        );
        if label == CLIENT {
            return;
        }
        let port = format!("port{number}");
        let inside = self.namespace(label).name().to_owned();
        let words = [
            "link", "add", &port, "type", "veth", "peer", "name", "eth1", "netns", &inside,
        ];
        self.back.ip(&words).unwrap();
        self.back
            .ip(&["link", "set", &port, "master", "br0", "up"])
            .unwrap();
        let (v4, v6) = (format!("10.88.0.{number}/24"), format!("fd88::{number}/64"));
        self.ip(label, &["address", "add", &v4, "dev", "eth1"]);
        self.ip(label, &["address", "add", &v6, "dev", "eth1", "nodad"]);
        self.ip(label, &["link", "set", "eth1", "up"]);
        if label == DIRECTOR {
            return;
        }
        for (leg, table) in [(Leg::Front, "100"), (Leg::Back, "101")] {
            for family in [Family::V4, Family::V6] {
                let own = self.at(label, leg, family).to_string();
                let via = self.at(DIRECTOR, leg, family).to_string();
                let v6 = if family == Family::V6 { "-6" } else { "-4" };
                self.ip(
                    label,
                    &[v6, "route", "add", "default", "via", &via, "table", table],
                );
                self.ip(label, &[v6, "rule", "add", "from", &own, "lookup", table]);
            }
        }
    }

    /// XDP sees no checksums that a device is to finish and no large segments, and a veth sends for XDP
    /// only if there is a program of XDP at its other end, too.
    fn prepare_for_xdp(&self) {
        for label in hosts() {
            let port = format!("port{}", number(label));
            for (leg, switch) in [("eth0", self.lab.net().switch()), ("eth1", &self.back)] {
                if (label, leg) != (CLIENT, "eth1") {
                    self.ethtool(self.namespace(label), &["-K", leg, "tx", "off"]);
                    self.ethtool(switch, &["-K", &port, "tx", "off"]);
                }
            }
        }
        for switch in [self.lab.net().switch(), &self.back] {
            let port = format!("port{}", number(DIRECTOR));
            let attached = switch.run(move || {
                let mut object = Object::parse(PASSES).unwrap();
                let maps = object.create_maps(&BTreeMap::new()).unwrap();
                let programs = object.load(&maps, &Globals::new()).unwrap();
                let mut netlink = Netlink::open().unwrap();
                let port = netlink.link_named(&port).unwrap().index;
                attach_xdp(&mut netlink, port, &programs["guest_xdp"], XdpMode::Native)
            });
            attached.unwrap().unwrap();
        }
    }

    fn ethtool(&self, namespace: &Namespace, args: &[&str]) -> String {
        let mut command = namespace.command("ethtool");
        command.args(args);
        let ended = ended(command);
        assert_eq!(ended.code, Some(0), "ethtool {args:?}: {}", ended.err);
        ended.out
    }

    /// Waits until no address is being asked for any more, as those that the kernel gives by itself.
    fn settle(&self) {
        for label in hosts() {
            let settled = wait_until(SOON, || {
                let shown = self.ip(label, &["-6", "address"]);
                let links = if label == CLIENT { 1 } else { 2 };
                shown.matches("fe80::").count() == links && !shown.contains("tentative")
            });
            assert!(settled, "{label}");
        }
    }

    /// Makes nodes of the servers.
    fn serve_vips(&self) {
        for label in SERVERS {
            let mut command = self.namespace(label).command(BINARY);
            command.args(["node", "--once", "--vip", &format!("{VIP_V4},{VIP_V6}")]);
            command.args(["--interface", "eth0", "--interface", "eth1", "--state"]);
            let ended = ended({
                command.arg(self.state.path());
                command
            });
            assert_eq!(ended.code, Some(0), "{label}: {}{}", ended.out, ended.err);
        }
    }

    pub(super) fn namespace(&self, label: &str) -> &Namespace {
        self.lab.net().namespace(label).unwrap()
    }

    #[track_caller]
    pub(super) fn ip(&self, label: &str, args: &[&str]) -> String {
        self.namespace(label).ip(args).unwrap()
    }

    /// Sets a sysctl of a namespace.
    pub(super) fn set(&self, label: &str, name: &str, value: &str) {
        let (path, value) = (format!("/proc/sys/{name}"), value.to_owned());
        let written = (self.namespace(label)).run(move || std::fs::write(path, value));
        written.unwrap().unwrap();
    }

    /// The address of a host.
    pub(super) fn at(&self, label: &str, leg: Leg, family: Family) -> IpAddr {
        let number = number(label);
        let text = match (leg, family) {
            (Leg::Front, Family::V4) => format!("10.77.0.{number}"),
            (Leg::Front, Family::V6) => format!("fd77::{number}"),
            (Leg::Back, Family::V4) => format!("10.88.0.{number}"),
            (Leg::Back, Family::V6) => format!("fd88::{number}"),
        };
        text.parse().unwrap()
    }

    /// How many packets XDP has sent on by itself at the director.
    pub(super) fn sent_by_xdp(&self) -> u64 {
        let legs = ["eth0", "eth1"].iter();
        let shown = legs.map(|leg| self.ethtool(self.namespace(DIRECTOR), &["-S", leg]));
        let shown: String = shown.collect();
        let counts = shown.lines().filter_map(|line| {
            let (name, count) = line.trim().split_once(": ")?;
            let sent = name.starts_with("rx_queue")
                && (name.ends_with("xdp_tx") || name.ends_with("xdp_redirect"));
            sent.then(|| count.parse::<u64>().unwrap())
        });
        counts.sum()
    }

    /// Starts the director with these services.
    pub(super) async fn start(&self, services: &[Rule]) -> Lb {
        self.lab.start(&self.config(services)).await
    }

    /// The configuration of the director.
    pub(super) fn config(&self, services: &[Rule]) -> String {
        let mut text = format!("{DAEMON}[ebpf]\nflows = 10_000\n");
        if self.hook == Hook::Xdp {
            text.push_str("xdp = [\"eth0\", \"eth1\"]\n");
        }
        services.iter().for_each(|rule| rule.write(&mut text));
        text
    }

    /// Ends the director, and makes sure that nothing is left of the test.
    pub(super) fn close(self, lb: Lb) {
        self.lab.close(lb);
    }
}

fn hosts() -> impl Iterator<Item = &'static str> {
    [CLIENT, DIRECTOR].into_iter().chain(SERVERS)
}

/// The last part of the addresses of a host.
fn number(label: &str) -> usize {
    hosts().position(|other| other == label).unwrap() + 1
}

/// A service, as the configuration has it.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) listen: String,
    /// More keys, one a line.
    pub(super) more: String,
    /// Address, and what else is said of it.
    pub(super) backends: Vec<(String, String)>,
}

impl Rule {
    /// One for this address and protocol, whose backends all get their packets so.
    pub(super) fn new(
        name: &str,
        vip: SocketAddr,
        proto: &str,
        forward: &str,
        backends: impl IntoIterator<Item = String>,
    ) -> Self {
        let forward = format!("forward = \"{forward}\"");
        let backends = backends
            .into_iter()
            .map(|address| (address, forward.clone()));
        Self {
            name: name.to_owned(),
            listen: format!("{vip}/{proto}"),
            more: "scheduler = \"rr\"\n".to_owned(),
            backends: backends.collect(),
        }
    }

    fn write(&self, text: &mut String) {
        let Self {
            name,
            listen,
            more,
            backends,
        } = self;
        writeln!(
            text,
            "\n[[service]]\nname = \"{name}\"\nlisten = \"{listen}\""
        )
        .unwrap();
        writeln!(text, "plane = \"ebpf\"\n{more}backends = [").unwrap();
        for (address, more) in backends {
            writeln!(text, "  {{ address = \"{address}\", {more} }},").unwrap();
        }
        text.push_str("]\n");
    }
}

/// Counts of the backends of a service, in the order of their addresses.
pub(super) fn counters<'a>(status: &'a Value, service: &str) -> Vec<&'a Value> {
    let services = list(&status["services"]).iter();
    let mut found = services.filter(|s| s["name"] == service);
    let backends = found.next().map(|s| list(&s["backends"]));
    backends
        .into_iter()
        .flatten()
        .map(|b| &b["counters"])
        .collect()
}
