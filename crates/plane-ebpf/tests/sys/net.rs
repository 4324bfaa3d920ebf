//! Links, addresses, neighbours and routes.

use std::net::IpAddr;

use plimsoll_plane_ebpf::sys::net::{Address, Change, Monitor, NeighbourState, RouteKind};
use plimsoll_plane_ebpf::sys::{Error, Netlink};
use plimsoll_testkit::wait_until;

use crate::lab::{Cable, SOON, eth0, run};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn links_are_listed() {
    let Some(cable) = Cable::new("links_are_listed") else {
        return;
    };
    let left = &cable.left;
    left.ip(&["link", "add", "br0", "type", "bridge"]).unwrap();
    left.ip(&["link", "set", "eth0", "mtu", "1400", "master", "br0"])
        .unwrap();
    left.ip(&["link", "set", "eth0", "address", "02:00:00:00:00:07"])
        .unwrap();
    run(left, || {
        let mut netlink = Netlink::open().unwrap();
        let links = netlink.links().unwrap();
        let mut names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["br0", "eth0", "lo"]);
        let bridge = netlink.link_named("br0").unwrap();
        let port = netlink.link_named("eth0").unwrap();
        assert_eq!(
            (port.kind.as_str(), bridge.kind.as_str()),
            ("veth", "bridge")
        );
        assert_eq!((port.mtu, port.master), (1400, Some(bridge.index)));
        assert_eq!(port.mac, Some([2, 0, 0, 0, 0, 7]));
        assert!(port.up && !bridge.up);
        assert_eq!(netlink.link(port.index).unwrap(), port);
        assert!(links.contains(&port));
        let missing = netlink.link_named("eth9").unwrap_err();
        assert!(matches!(missing, Error::NoInterface(name) if name == "eth9"));
    });
}

#[test]
fn addresses_come_and_go() {
    let Some(cable) = Cable::new("addresses_come_and_go") else {
        return;
    };
    run(&cable.left, || {
        let mut netlink = Netlink::open().unwrap();
        let index = eth0(&mut netlink);
        let lo = netlink.link_named("lo").unwrap().index;
        let before = netlink.addresses(None).unwrap();
        let first = Address {
            interface: index,
            ip: ip("10.78.0.1"),
            prefix: 24,
        };
        assert!(before.contains(&first), "{before:?}");
        let added = [("172.20.10.1", 32, lo), ("2001:db8::1", 128, index)];
        for (text, prefix, interface) in added {
            let address = Address {
                interface,
                ip: ip(text),
                prefix,
            };
            assert!(netlink.add_address(&address).unwrap());
            assert!(!netlink.add_address(&address).unwrap(), "it is there");
            let there = netlink.addresses(Some(interface)).unwrap();
            assert!(there.contains(&address), "{there:?}");
            assert!(there.iter().all(|one| one.interface == interface));
            // It can be used at once: nobody is asked whether he has it.
            std::net::UdpSocket::bind((address.ip, 0)).unwrap();
            let longer = Address {
                prefix: prefix - 8,
                ..address
            };
            assert!(!netlink.delete_address(&longer).unwrap(), "another length");
            assert!(netlink.delete_address(&address).unwrap());
            assert!(!netlink.delete_address(&address).unwrap(), "it is gone");
        }
        let nowhere = Address {
            interface: 4242,
            ..first
        };
        assert!(netlink.add_address(&nowhere).is_err());
    });
}

#[test]
fn the_kernel_keeps_neighbours() {
    let Some(cable) = Cable::new("the_kernel_keeps_neighbours") else {
        return;
    };
    let right = run(&cable.right, || {
        let mut netlink = Netlink::open().unwrap();
        netlink.link_named("eth0").unwrap().mac
    });
    run(&cable.left, move || {
        let mut netlink = Netlink::open().unwrap();
        let index = eth0(&mut netlink);
        let (there, nobody) = (ip("10.78.0.2"), ip("10.78.0.99"));
        for address in [there, nobody] {
            assert!(netlink.manage_neighbour(index, address).unwrap());
        }
        let mut find = |address| {
            let all = netlink.neighbours(Some(index)).unwrap();
            all.into_iter().find(|one| one.ip == address)
        };
        let mut found = None;
        let answered = wait_until(SOON, || {
            found = find(there);
            found.is_some_and(|one| one.state.usable())
        });
        assert!(answered, "{found:?}");
        let found = found.unwrap();
        assert_eq!((found.mac, found.managed), (right, true));
        let failed = wait_until(SOON, || {
            find(nobody).is_some_and(|one| one.state == NeighbourState::Failed)
        });
        assert!(failed, "{:?}", find(nobody));
        // Said again, what is known stays known.
        assert!(netlink.manage_neighbour(index, there).unwrap());
        let all = netlink.neighbours(None).unwrap();
        let again = all.iter().find(|one| one.ip == there).unwrap();
        assert_eq!((again.mac, again.managed), (right, true));
        assert!(netlink.delete_neighbour(index, there).unwrap());
        let all = netlink.neighbours(Some(index)).unwrap();
        assert!(!all.iter().any(|one| one.ip == there && one.state.usable()));
        assert!(!netlink.delete_neighbour(index, ip("10.78.0.55")).unwrap());
    });
}

#[test]
fn routes_are_found() {
    let Some(cable) = Cable::new("routes_are_found") else {
        return;
    };
    let route = |args: &[&str]| cable.left.ip(&[&["route", "add"], args].concat());
    route(&["192.0.2.0/24", "via", "10.78.0.2", "mtu", "1300"]).unwrap();
    route(&["198.51.100.0/24", "via", "inet6", "fe80::7", "dev", "eth0"]).unwrap();
    for (kind, net) in [
        ("unreachable", "203.0.113.0/25"),
        ("blackhole", "203.0.113.128/25"),
    ] {
        route(&[kind, net]).unwrap();
    }
    cable
        .left
        .ip(&[
            "-6",
            "address",
            "add",
            "2001:db8::1/64",
            "dev",
            "eth0",
            "nodad",
        ])
        .unwrap();
    run(&cable.left, || {
        let mut netlink = Netlink::open().unwrap();
        let index = eth0(&mut netlink);
        let mut to = |text: &str| netlink.route_to(ip(text), None).unwrap();
        let link = to("10.78.0.2").unwrap();
        assert_eq!((link.kind, link.interface), (RouteKind::Unicast, index));
        assert_eq!((link.gateway, link.mtu), (None, None));
        assert_eq!(link.source, Some(ip("10.78.0.1")));
        let far = to("192.0.2.7").unwrap();
        assert_eq!((far.gateway, far.mtu), (Some(ip("10.78.0.2")), Some(1300)));
        let other_family = to("198.51.100.7").unwrap();
        assert_eq!(other_family.gateway, Some(ip("fe80::7")));
        assert_eq!(to("10.78.0.1").unwrap().kind, RouteKind::Local);
        assert_eq!(to("10.78.0.255").unwrap().kind, RouteKind::Broadcast);
        assert_eq!(to("203.0.113.1"), None);
        assert_eq!(to("203.0.113.200"), None);
        assert_eq!(to("8.8.8.8"), None);
        let six = to("2001:db8::2").unwrap();
        assert_eq!(
            (six.interface, six.source),
            (index, Some(ip("2001:db8::1")))
        );
        assert_eq!(to("2001:db9::2"), None);
        let from = netlink.route_to(ip("192.0.2.7"), Some(ip("10.78.0.1")));
        assert_eq!(from.unwrap().unwrap().gateway, Some(ip("10.78.0.2")));
    });
}

#[test]
fn changes_are_told() {
    let Some(cable) = Cable::new("changes_are_told") else {
        return;
    };
    let mut monitor = run(&cable.left, || Monitor::open().unwrap());
    assert_eq!(monitor.changes().unwrap(), []);
    let left = &cable.left;
    left.ip(&["link", "add", "br0", "type", "bridge"]).unwrap();
    left.ip(&["link", "set", "br0", "up"]).unwrap();
    left.ip(&["address", "add", "10.79.0.1/24", "dev", "br0"])
        .unwrap();
    run(left, || {
        let mut netlink = Netlink::open().unwrap();
        let index = eth0(&mut netlink);
        netlink.manage_neighbour(index, ip("10.78.0.2")).unwrap();
    });
    let mut told = Vec::new();
    let mut wait_for = |what: &str, wanted: &dyn Fn(&Change) -> bool| {
        let came = wait_until(SOON, || {
            told.extend(monitor.changes().unwrap());
            told.iter().any(wanted)
        });
        assert!(came, "{what}: {told:?}");
    };
    wait_for(
        "a link",
        &|change| matches!(change, Change::Link(link) if link.name == "br0" && link.up),
    );
    wait_for("an address", &|change| *change == Change::Addresses);
    wait_for("a route", &|change| *change == Change::Routes);
    wait_for(
        "a neighbour",
        &|change| matches!(change, Change::Neighbour(one) if one.ip == ip("10.78.0.2") && one.state.usable()),
    );
    left.ip(&["link", "del", "br0"]).unwrap();
    wait_for(
        "a link that is gone",
        &|change| matches!(change, Change::LinkGone(link) if link.name == "br0"),
    );
}
