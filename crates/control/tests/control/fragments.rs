//! Parts of one service from several entries: one service, unless they differ.

use std::time::Duration;

use crate::world::{World, docker, name, nth, service, with_spec};
use plimsoll_model::{
    Check, CheckKind, MidStream, Mss, Origin, PlaneChoice, SchedulerKind, ServiceSpec,
};

#[test]
fn fragments_of_one_spec_are_one_service() {
    let mut world = World::new();
    world.put(&docker(), "c1", service("c1", "web", &["*:80/tcp"], &[1]));
    world.put(&docker(), "c2", service("c2", "web", &["*:80/tcp"], &[2]));
    world.step();
    assert_eq!(world.aside(), []);
    let held = world.held();
    let web = &held.services[&name("web")];
    assert_eq!(*web.spec.origin.entry, *"c1");
    let origins = web.backends.values().map(|b| b.origin.entry.to_string());
    assert_eq!(origins.collect::<Vec<_>>(), ["c1", "c2"]);
    world.remove(&docker(), "c1");
    world.step();
    let held = world.held();
    let web = &held.services[&name("web")];
    assert_eq!((&*web.spec.origin.entry, web.backends.len()), ("c2", 1));
}

#[test]
fn a_fragment_of_another_spec() {
    let mut world = World::new();
    let one = service("c1", "web", &["*:80/tcp"], &[1]);
    let other = with_spec(service("c2", "web", &["*:80/tcp"], &[2]), |spec| {
        spec.scheduler.kind = SchedulerKind::Lc;
        spec.retries = 9;
    });
    world.put(&docker(), "c2", other.clone());
    world.step();
    assert_eq!(world.aside(), []);
    world.put(&docker(), "c1", one);
    world.step();
    let words =
        ["plimsoll.scheduler is `lc` here but `wrr` in c1, which decides because it is older:"];
    world.assert_aside("service `web`", "c2", &words);
    assert_eq!(world.held().services[&name("web")].backends.len(), 1);
    world.put(
        &docker(),
        "c2",
        with_spec(other, |s| s.scheduler.kind = SchedulerKind::Wrr),
    );
    world.step();
    world.assert_aside(
        "service `web`",
        "c2",
        &["plimsoll.retries is `9` here but `3` in c1"],
    );
}

#[test]
fn the_first_differing_setting_is_named() {
    type Change = fn(&mut ServiceSpec);
    let cases: [(&str, Change); 17] = [
        ("listen", |s| s.listens.clear()),
        ("plane", |s| s.plane = PlaneChoice::Proxy),
        ("scheduler.seed", |s| s.scheduler.seed = 1),
        ("scheduler.table", |s| s.scheduler.table = 307),
        ("drain", |s| s.timeouts.drain = Duration::ZERO),
        ("timeouts.stall", |s| s.timeouts.stall = Duration::ZERO),
        ("timeouts.idle", |s| s.timeouts.idle = Some(Duration::ZERO)),
        ("timeouts.udp", |s| s.timeouts.udp = Duration::ZERO),
        ("mid-stream", |s| {
            s.packets.mid_stream = Some(MidStream::Drop)
        }),
        ("mss", |s| s.packets.mss = Some(Mss::Fit)),
        ("sessions", |s| s.sessions.limit = 9),
        ("sessions.per-source", |s| s.sessions.per_source = 9),
        ("sessions.responses", |s| s.sessions.responses = 9),
        ("timeouts.connect", |s| {
            s.timeouts.connect = Duration::from_secs(1)
        }),
        ("queue", |s| s.queue = 1),
        ("trusted", |s| {
            s.trusted = vec!["10.0.0.0/8".parse().unwrap()]
        }),
        ("sorry", |s| {
            let origin = Origin::new("test", "sorry");
            s.sorry = Some(plimsoll_model::Backend::new(nth(9), origin));
        }),
    ];
    for (setting, change) in cases {
        let mut world = World::new();
        world.put(&docker(), "c1", service("c1", "web", &["*:80/tcp"], &[1]));
        let other = service("c2", "web", &["*:80/tcp"], &[2]);
        world.put(&docker(), "c2", with_spec(other, change));
        world.step();
        let words = format!("plimsoll.{setting} is ");
        world.assert_aside("service `web`", "c2", &[&words]);
    }
}

#[test]
fn the_first_differing_setting_of_a_check_is_named() {
    type Change = fn(&mut Option<Check>);
    fn of(check: &mut Option<Check>) -> &mut Check {
        check.as_mut().unwrap()
    }
    fn http(host: &str, status: &str) -> CheckKind {
        CheckKind::Http {
            path: "/health".parse().unwrap(),
            host: host.parse().ok(),
            status: status.parse().unwrap(),
        }
    }
    let cases: [(&str, Change); 9] = [
        ("plimsoll.check is none here but `http:/health` in", |c| {
            *c = None
        }),
        ("plimsoll.check is `tcp` here but `http:/health` in", |c| {
            of(c).kind = CheckKind::Tcp
        }),
        (
            "plimsoll.check.host is `b` here but that of the backend in",
            |c| of(c).kind = http("b", "200-399"),
        ),
        (
            "plimsoll.check.status is `204` here but `200-399` in",
            |c| of(c).kind = http("", "204"),
        ),
        ("plimsoll.check.interval is `9s` here but `5s` in", |c| {
            of(c).interval = Duration::from_secs(9)
        }),
        ("plimsoll.check.timeout is `9s` here but `2s` in", |c| {
            of(c).timeout = Duration::from_secs(9)
        }),
        ("plimsoll.check.rise is `9` here but `2` in", |c| {
            of(c).rise = 9
        }),
        ("plimsoll.check.fall is `9` here but `3` in", |c| {
            of(c).fall = 9
        }),
        (
            "plimsoll.check.port is `9` here but that of the backend in",
            |c| of(c).port = Some(9),
        ),
    ];
    for (words, change) in cases {
        let mut world = World::new();
        let check = || "http:/health".parse().ok();
        let one = service("c1", "web", &["*:80/tcp"], &[1]);
        world.put(&docker(), "c1", with_spec(one, |s| s.check = check()));
        let other = service("c2", "web", &["*:80/tcp"], &[2]);
        let other = with_spec(other, |s| {
            s.check = check();
            change(&mut s.check);
        });
        world.put(&docker(), "c2", other);
        world.step();
        world.assert_aside("service `web`", "c2", &[words]);
    }
}

#[test]
fn the_same_backend_twice() {
    let mut world = World::new();
    world.put(&docker(), "c1", service("c1", "web", &["*:80/tcp"], &[1]));
    world.put(
        &docker(),
        "c2",
        service("c2", "web", &["*:80/tcp"], &[1, 2]),
    );
    world.step();
    let subject = "backend 10.0.0.1:80 of service `web`";
    world.assert_aside(subject, "c2", &["test (c1)", "same backend"]);
    assert_eq!(world.held().services[&name("web")].backends.len(), 2);
}

#[test]
fn fragments_that_are_too_many_together() {
    let mut world = World::new();
    for n in 1..=4 {
        let part = service(&format!("c{n}"), "web", &["*:80/tcp"], &[n]);
        let part = with_spec(part, |s| s.scheduler.table = 307);
        world.put(&docker(), &format!("c{n}"), part);
    }
    world.step();
    world.assert_aside("service `web`", "c4", &["table 307 is too small for 4"]);
    assert_eq!(world.held().services[&name("web")].backends.len(), 3);
}
