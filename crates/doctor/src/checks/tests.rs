//! Each check, with facts made by hand.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeSet;
use std::net::IpAddr;

use plimsoll_plane_ebpf::Path;
use plimsoll_plane_ebpf::sys::hooks::{Attached, Mode};
use plimsoll_plane_ebpf::sys::net::{Address, Link, NeighbourState, RouteKind};

use super::CHECKS;
use crate::{
    Backend, Carried, Director, Facts, Forward, Host, Level, NodeRole, Space, Trouble, examine,
};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn link(index: u32, name: &str, kind: &str) -> Link {
    Link {
        index,
        name: name.to_owned(),
        mac: (name != "lo").then_some([2, 0, 0, 0, 0, index as u8]),
        mtu: 1500,
        up: true,
        carrier: true,
        kind: kind.to_owned(),
        master: None,
        lower: None,
    }
}

fn path(interface: &str, hop: &str) -> Option<Path> {
    Some(Path {
        kind: RouteKind::Unicast,
        interface: interface.to_owned(),
        hop: ip(hop),
        mac: Some([2; 6]),
        neighbour: Some(NeighbourState::Reachable),
        mtu: 1500,
    })
}

/// A director with one leg and a backend, that is as it has to be.
fn director(forward: Forward) -> Facts {
    let mut space = Space {
        links: vec![link(1, "lo", ""), link(2, "eth0", "")],
        ..Space::default()
    };
    for (text, prefix) in [("10.0.0.2", 24), ("10.0.0.200", 32)] {
        space.addresses.push(Address {
            interface: 2,
            ip: ip(text),
            prefix,
        });
    }
    for (name, value) in [
        ("net/ipv4/ip_forward", 1),
        ("net/ipv4/conf/eth0/forwarding", 1),
        ("net/ipv4/conf/all/send_redirects", 0),
        ("net/ipv4/conf/eth0/send_redirects", 0),
    ] {
        space.settings.insert(name.to_owned(), value);
    }
    space.paths.insert(ip("10.0.0.3"), path("eth0", "10.0.0.3"));
    let ours = Attached {
        mode: Mode::Tcx,
        id: 1,
        name: "plimsoll_tc".to_owned(),
        link: None,
    };
    space.programs.insert("eth0".to_owned(), vec![ours]);
    space.director = Some(Director {
        services: vec![Carried {
            name: "web".to_owned(),
            vips: BTreeSet::from([ip("10.0.0.200")]),
            backends: vec![Backend {
                ip: ip("10.0.0.3"),
                forward,
            }],
            is_fitted: false,
        }],
        ..Director::default()
    });
    Facts {
        host: Host {
            release: "6.1.0".to_owned(),
            capabilities: Some(u64::MAX),
            root: true,
            first_users: true,
            settings_writable: Some(true),
            jit: Some(true),
            ..Host::default()
        },
        spaces: vec![space],
    }
}

/// What is wrong: checks, levels, and the commands that mend.
fn wrong(facts: &Facts) -> Vec<(&'static str, Level, String)> {
    let found = examine(facts).into_iter();
    found
        .filter(|finding| finding.level > Level::Note)
        .map(|finding| (finding.check, finding.level, finding.remedy.join("; ")))
        .collect()
}

fn one(check: &'static str, level: Level, remedy: &str) -> Vec<(&'static str, Level, String)> {
    vec![(check, level, remedy.to_owned())]
}

#[test]
fn names_of_checks_are_their_own() {
    let names: BTreeSet<&str> = CHECKS.iter().map(|check| check.id).collect();
    assert_eq!(names.len(), CHECKS.len());
}

#[test]
fn a_director_that_is_as_it_has_to_be_is_left_alone() {
    assert_eq!(wrong(&director(Forward::Dr)), []);
    assert_eq!(wrong(&director(Forward::Nat)), []);
}

#[test]
fn the_machine_is_looked_at() {
    let mut facts = director(Forward::Dr);
    facts.host.too_old = Some("kernel 5.10 is too old".to_owned());
    assert_eq!(wrong(&facts), one("kernel", Level::Error, ""));
    let mut facts = director(Forward::Dr);
    facts.host.capabilities = Some(0);
    facts.host.container = true;
    let said = wrong(&facts);
    assert_eq!(said[0].0, "privileges");
    assert!(said[0].2.contains("--cap-add NET_ADMIN"), "{said:?}");
    facts.host.root = false;
    assert_eq!(
        wrong(&facts),
        one("privileges", Level::Unknown, "sudo plimsoll doctor")
    );
    facts.host.first_users = false;
    assert_eq!(wrong(&facts)[0].1, Level::Error);
    let mut facts = director(Forward::Dr);
    facts.host.jit = Some(false);
    let remedy = "sysctl -w net.core.bpf_jit_enable=1";
    assert_eq!(wrong(&facts), one("jit", Level::Warning, remedy));
    facts.host.program_jited = Some(true);
    assert_eq!(wrong(&facts), []);
    facts.host.settings_writable = Some(false);
    assert_eq!(wrong(&facts)[0].0, "mounts");
}

#[test]
fn what_a_daemon_says_is_passed_on() {
    let mut facts = director(Forward::Dr);
    let director = facts.spaces[0].director.as_mut().unwrap();
    director.troubles.push(Trouble {
        subject: "service `api` is put aside".to_owned(),
        reason: "it has persistence".to_owned(),
        is_fatal: true,
    });
    assert_eq!(
        wrong(&facts),
        one("services", Level::Error, "plimsoll status")
    );
    let said = examine(&facts);
    let said = said
        .iter()
        .find(|finding| finding.check == "services")
        .unwrap();
    assert_eq!(said.what, "service `api` is put aside: it has persistence");
}

#[test]
fn without_services_of_the_packet_plane_it_says_so() {
    let mut facts = director(Forward::Dr);
    let director = facts.spaces[0].director.as_mut().unwrap();
    director.services.clear();
    let services = examine(&facts).into_iter();
    let mut services = services.filter(|finding| finding.check == "services");
    let what = services.next().unwrap().what;
    assert_eq!(
        what,
        "nothing is put aside; the packet plane has no service"
    );
}

#[test]
fn what_only_looks_like_a_node_is_warned_of() {
    let levels = |is_guessed| {
        let mut facts = director(Forward::Dr);
        facts.spaces[0].node = Some(NodeRole {
            vips: BTreeSet::from([ip("10.0.0.9")]),
            is_guessed,
            ..NodeRole::default()
        });
        let found = wrong(&facts).into_iter();
        let found = found.filter(|(check, ..)| *check == "node-vip");
        found.map(|(_, level, _)| level).collect::<Vec<_>>()
    };
    assert_eq!(levels(false), [Level::Error]);
    assert_eq!(levels(true), [Level::Warning]);
}

#[test]
fn vips_lead_here() {
    let mut facts = director(Forward::Dr);
    facts.spaces[0].addresses.pop();
    let remedy = "ip address add 10.0.0.200/32 dev eth0";
    assert_eq!(wrong(&facts), one("vip", Level::Error, remedy));
    // Far from any network of the host a router may send it here.
    facts.spaces[0].addresses[0].ip = ip("10.9.0.2");
    let said = wrong(&facts);
    assert_eq!((said[0].0, said[0].1), ("vip", Level::Warning));
    let mut here = path("lo", "10.0.0.200").unwrap();
    here.kind = RouteKind::Local;
    facts.spaces[0].paths.insert(ip("10.0.0.200"), Some(here));
    assert_eq!(wrong(&facts).iter().find(|said| said.0 == "vip"), None);
}

#[test]
fn programs_are_there_and_first() {
    let mut facts = director(Forward::Dr);
    let here = facts.spaces[0].programs.get_mut("eth0").unwrap();
    let theirs = Attached {
        mode: Mode::Native,
        id: 7,
        name: "firewall".to_owned(),
        link: None,
    };
    here.insert(0, theirs.clone());
    let remedy = "ip link set dev eth0 xdp off";
    assert_eq!(wrong(&facts), one("other-programs", Level::Warning, remedy));
    let here = facts.spaces[0].programs.get_mut("eth0").unwrap();
    here[0].link = Some(9);
    let remedy = "bpftool link detach id 9";
    assert_eq!(wrong(&facts), one("other-programs", Level::Warning, remedy));
    let here = facts.spaces[0].programs.get_mut("eth0").unwrap();
    // Behind ours it is in nobody's way.
    here.swap(0, 1);
    assert_eq!(wrong(&facts), []);
    facts.spaces[0].programs.clear();
    assert_eq!(
        wrong(&facts),
        one("programs", Level::Error, "plimsoll status")
    );
}

#[test]
fn settings_of_a_director() {
    let mut facts = director(Forward::Dr);
    let settings = &mut facts.spaces[0].settings;
    settings.insert("net/ipv4/conf/eth0/forwarding".to_owned(), 0);
    let remedy = "sysctl -w net/ipv4/conf/eth0/forwarding=1";
    assert_eq!(wrong(&facts), one("forwarding", Level::Error, remedy));
    let settings = &mut facts.spaces[0].settings;
    settings.insert("net/ipv4/ip_forward".to_owned(), 0);
    let remedy = "sysctl -w net/ipv4/ip_forward=1";
    assert_eq!(wrong(&facts), one("forwarding", Level::Error, remedy));
    let mut facts = director(Forward::Dr);
    let settings = &mut facts.spaces[0].settings;
    settings.insert("net/ipv4/conf/all/send_redirects".to_owned(), 1);
    let remedy = "sysctl -w net/ipv4/conf/all/send_redirects=0";
    assert_eq!(wrong(&facts), one("redirects", Level::Warning, remedy));
    let mut facts = director(Forward::Dr);
    facts.spaces[0].large_receive.insert("eth0".to_owned());
    let remedy = "ethtool -K eth0 lro off";
    assert_eq!(wrong(&facts), one("offloads", Level::Error, remedy));
}

#[test]
fn routers_are_listened_to_where_a_host_forwards() {
    let mut facts = director(Forward::Dr);
    let space = &mut facts.spaces[0];
    let vip = ip("2001:db8:1::1");
    space.director.as_mut().unwrap().services[0].vips = BTreeSet::from([vip]);
    space.addresses.push(Address {
        interface: 2,
        ip: vip,
        prefix: 128,
    });
    space
        .settings
        .insert("net/ipv6/conf/eth0/forwarding".to_owned(), 1);
    space
        .settings
        .insert("net/ipv6/conf/eth0/accept_ra".to_owned(), 1);
    let remedy = "sysctl -w net/ipv6/conf/eth0/accept_ra=2";
    assert_eq!(
        wrong(&facts),
        one("router-advertisements", Level::Warning, remedy)
    );
    facts.spaces[0].default_v6 = true;
    assert_eq!(wrong(&facts), []);
}

#[test]
fn ways_to_backends() {
    let backend = ip("10.0.0.3");
    let mut facts = director(Forward::Dr);
    facts.spaces[0].paths.insert(backend, None);
    let remedy = "ip route replace 10.0.0.3 dev eth0";
    assert_eq!(wrong(&facts), one("route", Level::Error, remedy));
    let router = path("eth0", "10.0.0.254");
    facts.spaces[0].paths.insert(backend, router.clone());
    assert_eq!(wrong(&facts)[0].0, "route");
    // Only direct routing minds a router.
    let mut facts = director(Forward::Nat);
    facts.spaces[0].paths.insert(backend, router);
    assert_eq!(wrong(&facts), []);
    let mut silent = path("eth0", "10.0.0.3").unwrap();
    for state in [NeighbourState::Failed, NeighbourState::Incomplete] {
        silent.neighbour = Some(state);
        facts.spaces[0].paths.insert(backend, Some(silent.clone()));
        let remedy = "ip neigh replace 10.0.0.3 dev eth0 managed";
        assert_eq!(wrong(&facts), one("neighbour", Level::Error, remedy));
    }
    silent.neighbour = None;
    facts.spaces[0].paths.insert(backend, Some(silent));
    assert_eq!(wrong(&facts), []);
}

#[test]
fn tunnels_need_room() {
    let mut facts = director(Forward::Tunnel);
    let remedy = "plimsoll node --once --vip 10.0.0.200 --mss 1440    # on 10.0.0.3";
    assert_eq!(wrong(&facts), one("mtu", Level::Warning, remedy));
    let fitted = |facts: &mut Facts, is: bool| {
        facts.spaces[0].director.as_mut().unwrap().services[0].is_fitted = is;
    };
    fitted(&mut facts, true);
    assert_eq!(wrong(&facts), []);
    fitted(&mut facts, false);
    let mut narrow = path("eth0", "10.0.0.3").unwrap();
    narrow.mtu = 1400;
    facts.spaces[0].paths.insert(ip("10.0.0.3"), Some(narrow));
    let remedy = "plimsoll node --once --vip 10.0.0.200 --mss 1340    # on 10.0.0.3";
    assert_eq!(wrong(&facts), one("mtu", Level::Warning, remedy));
    let director = facts.spaces[0].director.as_mut().unwrap();
    director.services[0].backends[0].forward = Forward::Nat;
    assert_eq!(wrong(&facts), one("mtu", Level::Warning, "plimsoll check"));
    let director = facts.spaces[0].director.as_mut().unwrap();
    director.services[0].backends[0].forward = Forward::Tunnel;
    let mut wide = path("eth0", "10.0.0.3").unwrap();
    wide.mtu = 1520;
    facts.spaces[0].paths.insert(ip("10.0.0.3"), Some(wide));
    assert_eq!(wrong(&facts), []);
}

#[test]
fn what_containers_answer_passes_the_host() {
    let mut facts = director(Forward::Dr);
    let space = &mut facts.spaces[0];
    space.links.push(link(3, "br0", "bridge"));
    space.paths.insert(ip("10.0.0.3"), path("br0", "10.0.0.3"));
    let set = |space: &mut Space, name: &str, value: i64| {
        space
            .settings
            .insert(format!("net/ipv4/conf/{name}"), value);
    };
    for (name, value) in [
        ("br0/forwarding", 1),
        ("br0/accept_local", 0),
        ("br0/rp_filter", 0),
    ] {
        set(space, name, value);
    }
    let remedy = "sysctl -w net/ipv4/conf/br0/accept_local=1";
    assert_eq!(wrong(&facts), one("accept-local", Level::Error, remedy));
    set(&mut facts.spaces[0], "br0/accept_local", 1);
    assert_eq!(wrong(&facts), []);
    set(&mut facts.spaces[0], "all/rp_filter", 1);
    let remedy = "sysctl -w net/ipv4/conf/br0/rp_filter=2";
    assert_eq!(wrong(&facts), one("rp-filter", Level::Error, remedy));
    set(&mut facts.spaces[0], "br0/rp_filter", 2);
    assert_eq!(wrong(&facts), []);
    // Where it is not certain that answers come through here it is a warning.
    facts.spaces[0].links[2].kind = String::new();
    set(&mut facts.spaces[0], "br0/accept_local", 0);
    assert_eq!(wrong(&facts)[0].1, Level::Warning);
}
