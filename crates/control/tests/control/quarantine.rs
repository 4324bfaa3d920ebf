//! Every reason to put something aside, and that nothing else is touched by it. What parts of one
//! service can have against each other is in `fragments`.

use std::time::Duration;

use crate::world::{World, docker, entry, file, hand, name, nth, route, service, with_spec};
use plimsoll_model::{Forward, Item, Origin, PlaneChoice, Update};
use plimsoll_plane::Unsupported;

#[test]
fn a_service_of_two_sources() {
    let mut world = World::new();
    world.put(&docker(), "c1", service("c1", "web", &["*:80/tcp"], &[1]));
    world.put(&file(), "web", service("file", "web", &["*:80/tcp"], &[2]));
    world.step();
    world.assert_aside("service `web`", "c1", &["test (file)", "comes first"]);
    world.remove(&file(), "web");
    world.step();
    assert_eq!(world.aside(), []);
    assert!(
        world.held().services[&name("web")]
            .backends
            .contains_key(&nth(1))
    );
}

#[test]
fn a_listen_of_two_services() {
    for (second, words) in [
        (
            "0.0.0.0:80/tcp",
            "listen 0.0.0.0:80/tcp is taken by service `b` (b)",
        ),
        ("*:79-81/tcp", "with listen *:80/tcp"),
        ("*:80/http", "with listen *:80/tcp"),
    ] {
        let mut world = World::new();
        world.put(&file(), "b", service("b", "b", &["*:80/tcp"], &[1]));
        world.put(
            &docker(),
            "a",
            service("a", "a", &["*:81/udp", second], &[2]),
        );
        world.put(&docker(), "c", service("c", "c", &["*:8080/tcp"], &[3]));
        world.step();
        world.assert_aside("service `a`", "a", &[words]);
        assert_eq!(world.services(), ["b", "c"], "{second}");
        world.remove(&file(), "b");
        world.step();
        assert_eq!(world.aside(), []);
        assert_eq!(world.services(), ["a", "c"]);
    }
}

#[test]
fn listens_that_do_not_meet() {
    let mut world = World::new();
    let listens = [
        "0.0.0.0:80/tcp",
        "[::]:80/tcp",
        "10.0.0.1:80/http",
        "10.0.0.2:80/tcp",
        "*:80/udp",
        "10.0.0.1:81-90/tcp",
        "10.0.0.2:*/udp",
        "mark:5",
        "mark:5/ipv6",
    ];
    for (i, listen) in listens.iter().enumerate() {
        let text = format!("s{i}");
        world.put(&file(), &text, service(&text, &text, &[*listen], &[1]));
    }
    world.step();
    assert_eq!(world.aside(), []);
    assert_eq!(world.services().len(), listens.len());
}

#[test]
fn what_is_made_by_hand_has_the_listen() {
    let mut world = World::new();
    world.put(&file(), "a", service("a", "a", &["mark:5"], &[1]));
    world.put(&hand(), "b", service("b", "b", &["mark:5"], &[1]));
    world.step();
    world.assert_aside("service `a`", "a", &["mark:5", "test (b)"]);
    assert_eq!(world.services(), ["b"]);
}

#[test]
fn http_listens_are_shared_but_by_one_that_takes_all() {
    let mut world = World::new();
    for text in ["a", "b", "c"] {
        world.put(&file(), text, service(text, text, &["*:80/http"], &[1]));
    }
    world.put(&file(), "to-a", route("to-a", "to-a", &["a"]));
    world.step();
    world.assert_aside(
        "service `c`",
        "c",
        &["service `b` of test (b) takes all", "route"],
    );
    assert_eq!(world.services(), ["a", "b"]);
    world.put(&file(), "to-c", route("to-c", "to-c", &["c"]));
    world.step();
    assert_eq!(world.aside(), []);
    assert_eq!(world.services(), ["a", "b", "c"]);
    world.remove(&file(), "to-a");
    world.step();
    world.assert_aside("service `b`", "b", &["service `a`"]);
}

#[test]
fn a_route_of_unknown_services() {
    let mut world = World::new();
    world.put(&file(), "r", route("r", "r", &["web", "gone"]));
    world.step();
    world.assert_aside(
        "route `r`",
        "r",
        &["`web` is not known", "`gone`", "nowhere"],
    );
    world.put(&file(), "web", service("web", "web", &[], &[1]));
    world.step();
    world.assert_aside("route `r`", "r", &["`gone` is not known", "to the others"]);
    let held = world.held();
    assert_eq!(held.routes[&name("r")].services.len(), 1);
    world.put(&file(), "gone", service("gone", "gone", &[], &[1]));
    world.step();
    assert_eq!(world.aside(), []);
    assert_eq!(world.held().routes[&name("r")].services.len(), 2);
    world.remove(&file(), "web");
    world.remove(&file(), "gone");
    world.step();
    assert!(world.held().routes.is_empty());
}

#[test]
fn a_service_whose_route_is_aside_does_not_take_all() {
    let mut world = World::new();
    let http = ["*:80/http"];
    for (key, wanted) in [("c1", "zebra"), ("c2", "aardvark")] {
        world.put(&docker(), key, service(key, wanted, &http, &[1]));
        world.put(&docker(), &format!("{key} r"), route(key, "web", &[wanted]));
    }
    world.put(&docker(), "c3", service("c3", "middle", &http, &[3]));
    world.step();
    world.assert_aside("route `web`", "c2", &["by service `zebra` (c1)"]);
    let listens = |world: &World, text: &str| {
        let held = world.held();
        held.services[&name(text)].spec.listens.len()
    };
    // What no route decides is for the one that nobody routes.
    assert_eq!(listens(&world, "aardvark"), 0);
    assert_eq!(
        (listens(&world, "zebra"), listens(&world, "middle")),
        (1, 1)
    );
    // Its backends are followed all the same.
    world.put(&docker(), "c2", service("c2", "aardvark", &http, &[1, 2]));
    world.step();
    assert_eq!(listens(&world, "aardvark"), 0);
    let held = world.held();
    assert_eq!(held.services[&name("aardvark")].backends.len(), 2);
    // It listens when its route is in force.
    world.remove(&docker(), "c1 r");
    world.step();
    assert_eq!(listens(&world, "aardvark"), 1);
    assert_eq!(world.aside().len(), 1, "{:?}", world.aside());
}

#[test]
fn a_route_to_what_is_aside() {
    let mut world = World::new();
    let bad = with_spec(service("web", "web", &[], &[1]), |s| {
        s.timeouts.connect = Duration::ZERO;
    });
    world.put(&file(), "r", route("r", "r", &["web"]));
    world.step();
    world.put(&file(), "web", bad);
    world.step();
    let asides = world.aside();
    assert_eq!(asides.len(), 2, "{asides:?}");
    assert!(
        asides[0].2.contains("`web` is put aside itself"),
        "{asides:?}"
    );
    assert!(asides[1].2.contains("1ms"), "{asides:?}");
}

#[test]
fn two_routes_of_one_name() {
    let mut world = World::new();
    world.put(&file(), "web", service("web", "web", &[], &[1]));
    world.put(&docker(), "c1", route("c1", "r", &["web"]));
    world.put(&docker(), "c2", route("c2", "r", &["web"]));
    world.step();
    assert_eq!(world.aside(), [], "the same route twice is one");
    let mut other = route("c2", "r", &["web"]);
    other.priority = 7;
    world.put(&docker(), "c2", other);
    world.step();
    world.assert_aside(
        "route `r`",
        "c2",
        &["plimsoll.priority is `7` here but `0` in c1"],
    );
}

#[test]
fn invalid_values() {
    let mut world = World::new();
    world.put(
        &file(),
        "good",
        service("good", "good", &["*:81/tcp"], &[1]),
    );
    world.step();
    let spec = with_spec(service("web", "web", &["*:80/tcp"], &[1]), |s| {
        s.scheduler.table = 4;
    });
    world.put(&file(), "web", spec);
    world.step();
    world.assert_aside("service `web`", "web", &["table 4 is not a prime"]);
    let mut bad = route("web", "web", &["good"]);
    bad.hosts.clear();
    world.put(&file(), "web", bad);
    world.step();
    world.assert_aside("route `web`", "web", &["no host"]);
    assert_eq!(world.services(), ["good"]);
}

#[test]
fn a_wrong_backend_does_not_touch_the_others() {
    let mut world = World::new();
    let mut web = service("web", "web", &["*:80/http"], &[1, 2, 3]);
    let bad = web.backends.get_mut(&nth(2)).unwrap();
    std::sync::Arc::make_mut(bad).forward = Forward::Dr;
    world.put(&file(), "web", web);
    world.step();
    let subject = "backend 10.0.0.2:80 of service `web`";
    world.assert_aside(subject, "web", &["forward = \"proxy\""]);
    assert_eq!(world.held().services[&name("web")].backends.len(), 2);
}

#[test]
fn what_the_plane_lacks() {
    let mut world = World::new();
    let refuse = |text: &str| {
        let unsupported = Unsupported {
            plane: "proxy",
            feature: "firewall marks".into(),
            instead: "use a socket".into(),
            again: None,
        };
        world.plane.refuse(name(text), unsupported);
    };
    refuse("web");
    refuse("r");
    world.put(&file(), "web", service("web", "web", &["mark:5"], &[1]));
    world.step();
    world.assert_aside("service `web`", "web", &["firewall marks: use a socket"]);
    world.remove(&file(), "web");
    world.put(&file(), "ok", service("ok", "ok", &[], &[1]));
    world.put(&file(), "r", route("r", "r", &["ok"]));
    world.step();
    world.assert_aside("route `r`", "r", &["firewall marks: use a socket"]);
}

#[test]
fn planes_that_are_not_there() {
    for (choice, text) in [(PlaneChoice::Ebpf, "ebpf"), (PlaneChoice::Ipvs, "ipvs")] {
        let mut world = World::new();
        let web = with_spec(service("web", "web", &["*:80/tcp"], &[1]), |s| {
            s.plane = choice
        });
        world.put(&file(), "web", web);
        world.step();
        let words = [text, "not in this build", "plane = \"proxy\""];
        world.assert_aside("service `web`", "web", &words);
    }
}

#[test]
fn what_the_source_could_not_read() {
    let mut world = World::new();
    let invalid = Item::Invalid {
        subject: "container web-1".into(),
        origin: Origin::new("docker:test", "container web-1"),
        reason: "label plimsoll.port: not a number".into(),
    };
    world.put(&docker(), "c1", invalid);
    world.put(&docker(), "c2", service("c2", "web", &["*:80/tcp"], &[1]));
    world.step();
    world.assert_aside("container web-1", "container web-1", &["not a number"]);
    assert_eq!(world.services(), ["web"]);
    world.remove(&docker(), "c1");
    world.step();
    assert_eq!(world.aside(), []);
}

#[test]
fn since_is_when_it_was_put_aside_for_this_reason() {
    let mut world = World::new();
    let start = world.now;
    world.put(&file(), "r", route("r", "r", &["web"]));
    world.step();
    world.wait(Duration::from_secs(7));
    world.put(&file(), "x", service("x", "x", &[], &[1]));
    world.step();
    let since = |world: &World| world.control.quarantine().iter().next().unwrap().1;
    assert_eq!(since(&world), start);
    world.put(&file(), "r", route("r", "r", &["x", "web"]));
    world.step();
    assert_eq!(since(&world), world.now);
}

#[test]
fn a_stale_source_keeps_its_last_state() {
    let mut world = World::web(2);
    world.say(
        &file(),
        Update::Stale {
            reason: "3:1: broken".into(),
        },
    );
    world.wait(Duration::from_secs(60));
    assert_eq!(world.services(), ["web"]);
    let status = world.control.status(world.now);
    let source = &status.sources[0];
    assert_eq!(
        (source.state.as_str(), source.reason.as_str()),
        ("stale", "3:1: broken")
    );
    assert_eq!(source.since, 60.0);
    world.say(
        &file(),
        Update::Reset(vec![entry("r", route("r", "r", &["web"]))]),
    );
    world.step();
    assert!(world.services().is_empty());
    assert_eq!(world.control.status(world.now).sources[0].state, "fresh");
}
