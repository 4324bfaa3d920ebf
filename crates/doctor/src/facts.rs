//! What was looked at, as plain data.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use plimsoll_plane_ebpf::Path;
use plimsoll_plane_ebpf::node;
use plimsoll_plane_ebpf::sys::hooks::Attached;
use plimsoll_plane_ebpf::sys::net::{Address, Link, RouteKind};

use crate::firewall::Firewall;

/// All that was looked at.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The machine, and this process on it.
    pub host: Host,
    /// Network namespaces: the one this process is in first.
    pub spaces: Vec<Space>,
}

/// The machine, and this process on it.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// The kernel's release.
    pub release: String,
    /// Why that is too old, if it is.
    pub too_old: Option<String>,
    /// Capabilities of this process, a bit each (`CapEff`); none if they could not be read.
    pub capabilities: Option<u64>,
    /// Whether it is root's.
    pub root: bool,
    /// Whether its user namespace is the first one.
    pub first_users: bool,
    /// Whether it is in a container.
    pub container: bool,
    /// Why processors cannot be counted, if so: `/sys` is missing.
    pub cpus: Option<String>,
    /// Whether `/proc/sys/net` may be written to by root; none if that could not be told.
    pub settings_writable: Option<bool>,
    /// `bpf_jit_enable`; none in a network namespace that is not the first.
    pub jit: Option<bool>,
    /// Whether a program of ours that is attached was translated to the machine's own code.
    pub program_jited: Option<bool>,
    /// The kernel's lockdown mode; none if the kernel has no such thing.
    pub lockdown: Option<String>,
    /// Bytes that may be locked; none is no limit.
    pub memlock: Option<u64>,
}

/// A network namespace, and what it is to be.
#[derive(Clone, Debug, Default)]
pub struct Space {
    /// What people call it; empty for the one this process is in.
    pub name: String,
    /// The path of the namespace, if it is another than the one this process is in.
    pub path: Option<String>,
    /// It forwards to backends.
    pub director: Option<Director>,
    /// It serves VIPs behind a director.
    pub node: Option<NodeRole>,
    /// Containers that are nodes and reach their clients through it.
    pub guests: Vec<Guest>,
    /// Interfaces.
    pub links: Vec<Link>,
    /// Addresses.
    pub addresses: Vec<Address>,
    /// Settings of the kernel below `/proc/sys`, by their names with slashes.
    pub settings: BTreeMap<String, i64>,
    /// The ways to addresses that matter; none where there is no route.
    pub paths: BTreeMap<IpAddr, Option<Path>>,
    /// Interfaces of default routes, of IPv4 and IPv6.
    pub outside: BTreeSet<String>,
    /// Whether there is a default route of IPv6.
    pub default_v6: bool,
    /// XDP and TC ingress programs of each interface, in the order in which packets meet them.
    pub programs: BTreeMap<String, Vec<Attached>>,
    /// Interfaces that join packets in hardware (LRO).
    pub large_receive: BTreeSet<String>,
    /// Where TCP is listened on.
    pub listening: Vec<SocketAddr>,
    /// Rules that drop packets.
    pub firewall: Firewall,
    /// What could not be read, and why.
    pub untold: Vec<(String, String)>,
}

/// A space that forwards.
#[derive(Clone, Debug, Default)]
pub struct Director {
    /// From where it is known what it forwards.
    pub source: Source,
    /// Services of the packet plane.
    pub services: Vec<Carried>,
    /// Addresses that services of all planes listen on or bring along.
    pub addresses: BTreeSet<IpAddr>,
    /// What is put aside, or fails, of all planes.
    pub troubles: Vec<Trouble>,
}

/// From where services are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// A daemon runs and says so.
    #[default]
    Daemon,
    /// No daemon runs; programs in the kernel go on with them.
    Kernel,
    /// No daemon runs, nothing is in the kernel; this file says so.
    File(String),
}

/// Something that daemon or file say is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What.
    pub subject: String,
    /// Why, and what to do.
    pub reason: String,
    /// Whether clients are not served because of it.
    pub is_fatal: bool,
}

/// A service of the packet plane.
#[derive(Clone, Debug, Default)]
pub struct Carried {
    /// Its name.
    pub name: String,
    /// The addresses it listens on.
    pub vips: BTreeSet<IpAddr>,
    /// Its backends.
    pub backends: Vec<Backend>,
    /// Whether what clients send is made to fit: it is TCP alone, and `mss` lowers what SYNs announce.
    pub is_fitted: bool,
}

/// A backend of such a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its address.
    pub ip: IpAddr,
    /// How packets are brought to it.
    pub forward: Forward,
}

/// How packets are brought to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// Direct routing.
    Dr,
    /// IPIP.
    Tunnel,
    /// Network address translation.
    Nat,
}

/// A space that serves.
#[derive(Clone, Debug, Default)]
pub struct NodeRole {
    /// The VIPs.
    pub vips: BTreeSet<IpAddr>,
    /// What `plimsoll node` has found there.
    pub found: node::Found,
    /// Interfaces by which packets come, and whether they are to be unwrapped there.
    pub interfaces: BTreeMap<String, bool>,
    /// Whether nobody said that it is one: its VIPs are addresses of `lo`, which others have, too.
    pub is_guessed: bool,
}

/// A container that is a node, seen from its host, or a backend in one, seen from the director there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Its address.
    pub ip: IpAddr,
    /// The host's interface that leads to it.
    pub interface: String,
    /// The VIPs whose answers it sends.
    pub vips: BTreeSet<IpAddr>,
    /// Whether the director is another machine: then requests come through this host, too.
    pub from_elsewhere: bool,
    /// Whether it is certain that its answers pass this host.
    pub is_certain: bool,
}

impl Space {
    /// A command, to be run in this namespace.
    pub fn command(&self, command: &str) -> String {
        match &self.path {
            Some(path) => format!("nsenter --net={path} {command}"),
            None => command.to_owned(),
        }
    }

    /// A setting.
    pub(crate) fn setting(&self, name: &str) -> Option<i64> {
        self.settings.get(name).copied()
    }

    /// A setting of IPv4 for an interface, where the greater one of its own and that of `all` counts
    /// (the kernel's ip-sysctl.rst).
    pub(crate) fn effective(&self, interface: &str, key: &str) -> Option<i64> {
        let of = |place: &str| self.setting(&format!("net/ipv4/conf/{place}/{key}"));
        Some(of(interface)?.max(of("all").unwrap_or(0)))
    }

    /// An interface by its name.
    pub(crate) fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The name of an interface.
    pub(crate) fn name_of(&self, index: u32) -> &str {
        let link = self.links.iter().find(|link| link.index == index);
        link.map_or("?", |link| &link.name)
    }

    /// The way to an address, if it was looked for and there is one.
    pub(crate) fn path_to(&self, ip: IpAddr) -> Option<&Path> {
        self.paths.get(&ip)?.as_ref()
    }

    /// Whether an address is this space's own.
    pub(crate) fn is_own(&self, ip: IpAddr) -> bool {
        self.addresses.iter().any(|address| address.ip == ip)
            || self
                .path_to(ip)
                .is_some_and(|path| path.kind == RouteKind::Local)
    }

    /// Interfaces by which clients come, as far as can be told: those of default routes, and those in
    /// whose network a VIP is.
    pub(crate) fn clients_come_by(&self, vips: &BTreeSet<IpAddr>) -> BTreeSet<String> {
        let near = self.addresses.iter().filter(|address| {
            vips.iter()
                .any(|vip| is_in(*vip, address) || address.ip == *vip)
        });
        let near = near.map(|address| self.name_of(address.interface).to_owned());
        let near = near.filter(|name| name != node::LOOPBACK);
        near.chain(self.outside.iter().cloned()).collect()
    }

    /// Containers that are nodes and answer through this host: those of the facts, and backends of the
    /// director here that are behind an interface of their own.
    pub(crate) fn all_guests(&self) -> Vec<Guest> {
        let mut guests = self.guests.clone();
        for service in self.director.iter().flat_map(|d| &d.services) {
            let clients = self.clients_come_by(&service.vips);
            for backend in &service.backends {
                let Some(path) = self.path_to(backend.ip) else {
                    continue;
                };
                let on_link = path.kind == RouteKind::Unicast && path.hop == backend.ip;
                let bridge = self
                    .link(&path.interface)
                    .is_some_and(|l| l.kind == "bridge");
                let behind = match clients.is_empty() {
                    true => bridge,
                    false => !clients.contains(&path.interface),
                };
                // Answers to NAT are taken where they come in, before any rule sees them.
                if !on_link || !behind || backend.forward == Forward::Nat {
                    continue;
                }
                guests.push(Guest {
                    ip: backend.ip,
                    interface: path.interface.clone(),
                    vips: service.vips.clone(),
                    from_elsewhere: false,
                    is_certain: bridge,
                });
            }
        }
        guests
    }
}

/// Whether an address is in the network of another one.
pub(crate) fn is_in(ip: IpAddr, network: &Address) -> bool {
    ipnet::IpNet::new(network.ip, network.prefix)
        .is_ok_and(|net| net.prefix_len() > 0 && net.contains(&ip))
}
