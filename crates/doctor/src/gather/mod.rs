//! Reads what there is. Nothing is changed; what cannot be read is told.

mod firewall;
mod places;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path as FilePath;

use plimsoll_plane_ebpf::Path;
use plimsoll_plane_ebpf::node::{Error, LOOPBACK, Namespace, Result};
use plimsoll_plane_ebpf::sys::hooks::{self, Attached};
use plimsoll_plane_ebpf::sys::net::{Link, RouteKind, large_receive};
use plimsoll_plane_ebpf::sys::{Netlink, Program, host};

use crate::{Director, Facts, Guest, Host, NodeRole, Space};

pub use places::{Found, left};

/// Nobody has them (RFC 5737, RFC 3849), so their way is the way to everybody.
const ANYBODY: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// A network namespace that is to be looked at.
#[derive(Debug)]
pub struct Place {
    /// What people call it; empty for the one this process is in.
    pub name: String,
    /// The namespace.
    pub namespace: Namespace,
    /// What it forwards, if it is a director.
    pub director: Option<Director>,
    /// What it serves, if it is a node.
    pub node: Option<Wish>,
    /// What could not be told of it so far, and why.
    pub untold: Vec<(String, String)>,
}

/// What a node is to serve.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The VIPs.
    pub vips: BTreeSet<IpAddr>,
    /// Interfaces by which packets come; empty for those of the default routes.
    pub interfaces: Vec<String>,
    /// Whether packets in tunnels are to be unwrapped.
    pub unwrap: bool,
    /// Whether nobody said that it is a node: its VIPs are addresses of `lo`.
    pub is_guessed: bool,
}

/// All there is to know of these places, the own one first.
///
/// # Errors
/// A namespace cannot be entered.
pub fn facts(places: Vec<Place>) -> Result<Facts> {
    let mut facts = Facts {
        host: machine(),
        spaces: Vec::new(),
    };
    for place in places {
        facts.spaces.push(space(place)?);
    }
    let ours = facts
        .spaces
        .iter()
        .flat_map(|space| space.programs.values());
    let mut ours = ours.flatten().filter(|attached| attached.is_ours());
    facts.host.program_jited = ours.find_map(|attached| {
        let program = Program::from_id(attached.id).ok()?;
        Some(program.info().ok()?.jited)
    });
    guests(&mut facts.spaces)?;
    Ok(facts)
}

/// The VIPs that somebody has put on the loopback of a namespace: all of its addresses that are a host's
/// own and not the loopback's.
///
/// # Errors
/// The namespace cannot be entered.
pub fn on_loopback(namespace: &Namespace) -> Result<BTreeSet<IpAddr>> {
    let addresses = namespace.found()?.addresses.into_iter();
    let own = addresses.filter(|(ip, interface)| interface == LOOPBACK && !ip.is_loopback());
    Ok(own.map(|(ip, _)| ip).collect())
}

fn machine() -> Host {
    let read = |path: &str| fs::read_to_string(path).ok();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock);
    Host {
        release: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
        too_old: host::check_kernel().err().map(|error| error.to_string()),
        capabilities: host::capabilities().ok(),
        root: rustix::process::geteuid().is_root(),
        first_users: host::in_first_users(),
        container: host::in_container(),
        cpus: host::possible_cpus().err().map(|error| error.to_string()),
        settings_writable: settings::writable(),
        jit: host::jit(),
        program_jited: None,
        lockdown: read("/sys/kernel/security/lockdown").and_then(|text| settings::chosen(&text)),
        memlock: limit.current,
    }
}

fn space(place: Place) -> Result<Space> {
    let node = place.node.as_ref().map(|wish| role(&place.namespace, wish));
    let Place {
        name,
        namespace,
        director,
        untold,
        ..
    } = place;
    let mut space = Space {
        name,
        path: namespace.path().map(str::to_owned),
        director,
        untold,
        ..Space::default()
    };
    if let Some((node, untold)) = node.transpose()? {
        space.node = Some(node);
        space.untold.extend(untold);
    }
    namespace.run(|| {
        look(&mut space)?;
        Ok(space)
    })
}

fn role(namespace: &Namespace, wish: &Wish) -> Result<(NodeRole, Option<(String, String)>)> {
    let (interfaces, untold) = match namespace.interfaces(&wish.interfaces) {
        Ok(interfaces) => (interfaces, None),
        Err(error) => {
            let what = "the interfaces by which packets come".to_owned();
            (Vec::new(), Some((what, error.to_string())))
        }
    };
    let role = NodeRole {
        vips: wish.vips.clone(),
        found: namespace.found()?,
        interfaces: interfaces
            .into_iter()
            .map(|name| (name, wish.unwrap))
            .collect(),
        is_guessed: wish.is_guessed,
    };
    Ok((role, untold))
}

/// Looks at all that matters in the namespace of the calling thread.
fn look(space: &mut Space) -> Result<()> {
    let mut netlink = Netlink::open()?;
    space.links = netlink.links()?;
    space.addresses = netlink.addresses(None)?;
    let names: Vec<&str> = space.links.iter().map(|link| link.name.as_str()).collect();
    space.settings = settings::all(&names);
    let mut asked: BTreeSet<IpAddr> = BTreeSet::new();
    for service in space.director.iter().flat_map(|d| &d.services) {
        asked.extend(&service.vips);
        asked.extend(service.backends.iter().map(|backend| backend.ip));
    }
    asked.extend(space.node.iter().flat_map(|node| &node.vips));
    space.paths = paths(&mut netlink, asked);
    for to in ANYBODY {
        let Ok(Some(path)) = Path::to(&mut netlink, to) else {
            continue;
        };
        if path.kind == RouteKind::Unicast {
            space.default_v6 |= to.is_ipv6();
            space.outside.insert(path.interface);
        }
    }
    for link in &space.links {
        match programs(&mut netlink, link) {
            Ok(here) => drop(space.programs.insert(link.name.clone(), here)),
            Err(why) if space.untold.iter().any(|(_, other)| *other == why) => {}
            Err(why) => space
                .untold
                .push(("programs at interfaces".to_owned(), why)),
        }
        if large_receive(&link.name).unwrap_or(false) {
            space.large_receive.insert(link.name.clone());
        }
    }
    space.listening = listening();
    space.firewall = firewall::read();
    Ok(())
}

fn paths(
    netlink: &mut Netlink,
    to: impl IntoIterator<Item = IpAddr>,
) -> BTreeMap<IpAddr, Option<Path>> {
    let found = to
        .into_iter()
        .map(|ip| Some((ip, Path::to(netlink, ip).ok()?)));
    found.flatten().collect()
}

fn programs(netlink: &mut Netlink, link: &Link) -> std::result::Result<Vec<Attached>, String> {
    let mut here = hooks::xdp(netlink, link.index).map_err(|error| error.to_string())?;
    // The text must not name the interface: it is told once.
    let tc = hooks::tc(netlink, link.index).map_err(|error| match error.errno() {
        Some(number) => format!("TC ingress: {}", std::io::Error::from_raw_os_error(number)),
        None => error.to_string(),
    })?;
    here.extend(tc);
    Ok(here)
}

/// Where TCP is listened on (proc_net_tcp(5)).
fn listening() -> Vec<SocketAddr> {
    let tables = ["tcp", "tcp6"].map(|name| {
        let text = fs::read_to_string(FilePath::new("/proc/thread-self/net").join(name));
        settings::listening(&text.unwrap_or_default())
    });
    tables.concat()
}

/// Containers among the spaces that reach the outside through the first one.
fn guests(spaces: &mut [Space]) -> Result<()> {
    let Some((host, others)) = spaces.split_first_mut() else {
        return Ok(());
    };
    let mut candidates = Vec::new();
    for other in others.iter() {
        let Some(node) = &other.node else { continue };
        for address in &other.addresses {
            let link = other
                .links
                .iter()
                .find(|link| link.index == address.interface);
            let Some(link) = link.filter(|link| link.name != LOOPBACK) else {
                continue;
            };
            if !node.vips.contains(&address.ip) && !is_link_local(address.ip) {
                candidates.push((address.ip, link.clone(), node.vips.clone()));
            }
        }
    }
    if candidates.is_empty() {
        return Ok(());
    }
    let mut netlink = Netlink::open().map_err(Error::from)?;
    let ways = paths(&mut netlink, candidates.iter().map(|(ip, ..)| *ip));
    for (ip, link, vips) in candidates {
        let routed = ways.get(&ip).cloned().flatten();
        let routed = routed.filter(|path| path.kind == RouteKind::Unicast && path.hop == ip);
        let routed = routed.map(|path| path.interface);
        let leads = routed.or_else(|| port(&host.links, &link));
        let Some(interface) = leads else { continue };
        // On a link of this host's own (macvlan), it answers past this host.
        let inside = host
            .link(&interface)
            .is_some_and(|l| matches!(l.kind.as_str(), "bridge" | "veth"));
        // What the director of this host sends there does not come from elsewhere.
        let mut vips = vips;
        for service in host.director.iter().flat_map(|director| &director.services) {
            if service.backends.iter().any(|backend| backend.ip == ip) {
                vips.retain(|vip| !service.vips.contains(vip));
            }
        }
        if inside && !vips.is_empty() {
            host.guests.push(Guest {
                ip,
                interface,
                vips,
                from_elsewhere: true,
                is_certain: true,
            });
        }
    }
    host.paths.extend(ways);
    Ok(())
}

/// The bridge at whose port the other end of a `veth` is.
fn port(links: &[Link], inside: &Link) -> Option<String> {
    let outer = links.iter().find(|link| {
        Some(link.index) == inside.lower && link.lower == Some(inside.index) && link.kind == "veth"
    })?;
    let master = links.iter().find(|link| Some(link.index) == outer.master);
    Some(master.unwrap_or(outer).name.clone())
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}
