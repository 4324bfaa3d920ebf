//! The director itself.

use std::collections::BTreeSet;
use std::net::IpAddr;

use plimsoll_plane_ebpf::kernel::NAMES;
use plimsoll_plane_ebpf::node::LOOPBACK;
use plimsoll_plane_ebpf::sys::hooks::Mode;
use plimsoll_plane_ebpf::sys::net::Link;

use super::{each, listed, or_ok, sysctl};
use crate::facts::is_in;
use crate::{Director, Facts, Finding, Source, Space};

/// Findings of a function for every director.
pub(super) fn directors(
    facts: &Facts,
    judge: impl Fn(&Space, &Director) -> Vec<Finding>,
) -> Vec<Finding> {
    each(facts, |space| match &space.director {
        Some(director) => judge(space, director),
        None => Vec::new(),
    })
}

/// The same, for those that have services of the packet plane.
pub(super) fn carriers(
    facts: &Facts,
    judge: impl Fn(&Space, &Director) -> Vec<Finding>,
) -> Vec<Finding> {
    directors(facts, |space, director| {
        match director.services.as_slice() {
            [] => Vec::new(),
            _ => judge(space, director),
        }
    })
}

pub(super) fn vips_of(director: &Director) -> BTreeSet<IpAddr> {
    let vips = director.services.iter().flat_map(|service| &service.vips);
    vips.copied().collect()
}

pub(super) fn services(facts: &Facts) -> Vec<Finding> {
    directors(facts, |_, director| {
        let troubles = director.troubles.iter().map(|trouble| {
            let text = format!("{}: {}", trouble.subject, trouble.reason);
            match trouble.is_fatal {
                true => Finding::error(text).mend("plimsoll status"),
                false => Finding::warning(text).mend("plimsoll status"),
            }
        });
        let empty = director.services.iter().filter(|s| s.backends.is_empty());
        let empty = empty.map(|service| {
            Finding::error(format!("service {}: it has no backend", service.name))
                .because("its clients are refused")
                .mend("plimsoll status")
        });
        let found: Vec<Finding> = troubles.chain(empty).collect();
        or_ok(found, || match director.services.as_slice() {
            [] => "nothing is put aside; the packet plane has no service".to_owned(),
            services => {
                let names = listed(services.iter().map(|service| &service.name));
                format!("{names} of the packet plane, nothing put aside")
            }
        })
    })
}

pub(super) fn vips(facts: &Facts) -> Vec<Finding> {
    carriers(facts, |space, director| {
        let vips = vips_of(director).into_iter();
        vips.map(|vip| {
            let host = space.addresses.iter().find(|address| address.ip == vip);
            if let Some(address) = host {
                return Finding::ok(format!(
                    "{vip} is an address of {}",
                    space.name_of(address.interface)
                ));
            }
            if space.is_own(vip) {
                return Finding::ok(format!("{vip} is routed to this host"));
            }
            let bits = if vip.is_ipv4() { 32 } else { 128 };
            let near = space.addresses.iter().find(|address| is_in(vip, address));
            let add = |interface: &str| format!("ip address add {vip}/{bits} dev {interface}");
            match near {
                Some(near) => {
                    let name = space.name_of(near.interface);
                    Finding::error(format!(
                        "no interface has {vip}, which is in the network of {name}"
                    ))
                    .because("nobody answers when clients or their router ask who has it")
                    .mend_in(space, add(name))
                }
                None => {
                    let name = space.outside.first().map_or("eth0", String::as_str);
                    Finding::warning(format!("no interface has {vip}"))
                        .because("it comes here only if a router has a route for it to this host")
                        .mend_in(space, add(name))
                }
            }
        })
        .collect()
    })
}

/// Interfaces where packets can be taken.
fn takers(space: &Space) -> impl Iterator<Item = &Link> {
    let fits = |link: &&Link| {
        link.up && link.mac.is_some() && link.name != LOOPBACK && link.master.is_none()
    };
    space.links.iter().filter(fits)
}

/// Whether the director's programs are attached to an interface.
fn is_taken(space: &Space, interface: &str) -> bool {
    let here = space.programs.get(interface).into_iter().flatten();
    here.filter(|attached| attached.is_ours())
        .any(|attached| NAMES.contains(&attached.name.as_str()))
}

pub(super) fn programs(facts: &Facts) -> Vec<Finding> {
    carriers(facts, |space, director| {
        if let Source::File(_) = director.source {
            return vec![
                Finding::note("packets are not taken: no daemon runs").mend("plimsoll run"),
            ];
        }
        let taken: Vec<&str> = takers(space)
            .map(|link| link.name.as_str())
            .filter(|name| is_taken(space, name))
            .collect();
        if taken.is_empty() {
            return vec![
                Finding::error("packets are taken at no interface")
                    .because("plimsoll's programs are attached nowhere here: somebody took them off, or they could not be loaded")
                    .mend("plimsoll status"),
            ];
        }
        let mut found = Vec::new();
        for name in space.clients_come_by(&vips_of(director)) {
            let down = space.link(&name).is_some_and(|link| !link.up);
            if down {
                found.push(
                    Finding::error(format!("{name} is switched off"))
                        .because("nothing comes in by it")
                        .mend_in(space, format!("ip link set dev {name} up")),
                );
            } else if !taken.contains(&name.as_str()) {
                found.push(
                    Finding::warning(format!("packets are not taken at {name}"))
                        .because(
                            "clients come by it; `[ebpf] interfaces` leaves it out, or the program could not be attached",
                        )
                        .mend("plimsoll status"),
                );
            }
        }
        or_ok(found, || format!("packets are taken at {}", listed(&taken)))
    })
}

pub(super) fn other_programs(facts: &Facts) -> Vec<Finding> {
    carriers(facts, |space, _| {
        let mut found = Vec::new();
        for link in takers(space) {
            let here = space
                .programs
                .get(&link.name)
                .map_or(&[][..], Vec::as_slice);
            let ours = here
                .iter()
                .position(|attached| attached.is_ours() && NAMES.contains(&attached.name.as_str()));
            let before = here.get(..ours.unwrap_or(here.len())).unwrap_or_default();
            for other in before.iter().filter(|attached| !attached.is_ours()) {
                let name = match other.name.as_str() {
                    "" => "without a name".to_owned(),
                    name => format!("`{name}`"),
                };
                let xdp = matches!(other.mode, Mode::Native | Mode::Generic | Mode::Offloaded);
                let hook = if xdp { "XDP" } else { "TC ingress" };
                let text = format!(
                    "program {name} (id {}, {}) is at {hook} of {}, before plimsoll's",
                    other.id, other.mode, link.name
                );
                let off = match (&other.mode, other.link) {
                    (_, Some(link)) => format!("bpftool link detach id {link}"),
                    (Mode::Generic, _) => format!("ip link set dev {} xdpgeneric off", link.name),
                    (Mode::Offloaded, _) => format!("ip link set dev {} xdpoffload off", link.name),
                    (Mode::Native, _) => format!("ip link set dev {} xdp off", link.name),
                    (Mode::Tcx, _) => {
                        format!("bpftool net detach tcx_ingress dev {}", link.name)
                    }
                    (Mode::Filter(filter), _) => format!(
                        "tc filter del dev {} ingress prio {}",
                        link.name, filter.priority
                    ),
                };
                found.push(
                    Finding::warning(text)
                        .because("it sees packets first, and may drop them or take them elsewhere: detach it if nobody needs it")
                        .mend_in(space, off),
                );
            }
        }
        or_ok(found, || "no other program is before plimsoll's".to_owned())
    })
}

pub(super) fn forwarding(facts: &Facts) -> Vec<Finding> {
    carriers(facts, |space, director| {
        let backends = director.services.iter().flat_map(|s| &s.backends);
        let remote: Vec<IpAddr> = backends
            .map(|backend| backend.ip)
            .filter(|ip| !space.is_own(*ip))
            .collect();
        let mut found = Vec::new();
        for (v4, all, family) in [
            (true, "net/ipv4/ip_forward", "ipv4"),
            (false, "net/ipv6/conf/all/forwarding", "ipv6"),
        ] {
            if !remote.iter().any(|ip| ip.is_ipv4() == v4) {
                continue;
            }
            let name = |interface: &str| format!("net/{family}/conf/{interface}/forwarding");
            let off: Vec<&str> = takers(space)
                .map(|link| link.name.as_str())
                .filter(|interface| space.setting(&name(interface)) == Some(0))
                .collect();
            if off.is_empty() {
                continue;
            }
            let text = format!("forwarding of {} is off on {}", ip_name(v4), listed(&off));
            let mut finding = Finding::error(text).because(
                "the kernel's routing table tells nothing about packets that come by such an interface: they are \
                 dropped",
            );
            if space.setting(all) == Some(0) {
                finding = finding.mend_in(space, sysctl(all, 1));
            } else {
                for interface in off {
                    finding = finding.mend_in(space, sysctl(&name(interface), 1));
                }
            }
            found.push(finding);
        }
        or_ok(found, || "forwarding is on".to_owned())
    })
}

fn ip_name(v4: bool) -> &'static str {
    if v4 { "IPv4" } else { "IPv6" }
}

pub(super) fn advertisements(facts: &Facts) -> Vec<Finding> {
    carriers(facts, |space, director| {
        let v6 = vips_of(director).iter().any(IpAddr::is_ipv6);
        if !v6 || space.default_v6 {
            return Vec::new();
        }
        let deaf = takers(space).filter(|link| {
            let of = |key: &str| space.setting(&format!("net/ipv6/conf/{}/{key}", link.name));
            of("forwarding") == Some(1) && of("accept_ra") == Some(1)
        });
        deaf.map(|link| {
            Finding::warning(format!(
                "there is no default route of IPv6, and {} takes none from routers while it forwards",
                link.name
            ))
            .because("accept_ra 1 means: only as long as the host does not forward; 2 means always")
            .mend_in(
                space,
                sysctl(&format!("net/ipv6/conf/{}/accept_ra", link.name), 2),
            )
        })
        .collect()
    })
}

pub(super) fn redirects(facts: &Facts) -> Vec<Finding> {
    carriers(facts, |space, director| {
        let mut found = Vec::new();
        let clients = space.clients_come_by(&vips_of(director));
        let backends = director.services.iter().flat_map(|s| &s.backends);
        let leave: BTreeSet<&str> = backends
            .filter_map(|backend| space.path_to(backend.ip))
            .map(|path| path.interface.as_str())
            .filter(|interface| clients.contains(*interface))
            .collect();
        for interface in leave {
            if space.effective(interface, "send_redirects") != Some(1) {
                continue;
            }
            let mut finding = Finding::warning(format!(
                "send_redirects is on: packets leave by {interface}, by which they came"
            ))
            .because("for what the kernel forwards itself, such as fragments, it tells clients to go past the director");
            for place in ["all", interface] {
                let name = format!("net/ipv4/conf/{place}/send_redirects");
                if space.setting(&name) == Some(1) {
                    finding = finding.mend_in(space, sysctl(&name, 0));
                }
            }
            found.push(finding);
        }
        or_ok(found, || "no redirects are sent".to_owned())
    })
}

pub(super) fn offloads(facts: &Facts) -> Vec<Finding> {
    carriers(facts, |space, _| {
        let found = takers(space).filter(|link| space.large_receive.contains(&link.name));
        let found = found.map(|link| {
            Finding::error(format!("{} joins packets in hardware (LRO)", link.name))
                .because("what was joined so cannot be taken apart again: it is dropped when it is forwarded")
                .mend_in(space, format!("ethtool -K {} lro off", link.name))
        });
        or_ok(found.collect(), || {
            "no interface joins packets in hardware (LRO); GRO may be on".to_owned()
        })
    })
}

pub(super) fn local_clients(facts: &Facts) -> Vec<Finding> {
    carriers(facts, |_, director| {
        vec![
            Finding::note(format!(
                "clients on this host itself are not served at {}",
                listed(vips_of(director))
            ))
            .because("what a host sends to itself does not pass an interface's ingress, where packets are taken: try it from another host"),
        ]
    })
}
