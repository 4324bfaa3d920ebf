//! Who comes first where entries contradict each other, and that it follows who can serve.

use std::sync::Arc;

use plimsoll_model::{
    EntryKey, PlaneChoice, SchedulerKind, Service, ServiceSpec, State, Status, Update,
};
use proptest::prelude::*;

use crate::world::{World, docker, entry, file, name, nth, route, service};

/// A container of `web` with one backend in this state. Its number is its age: 1 is the oldest.
fn container(n: u8, kind: SchedulerKind, state: State) -> Service {
    let text = format!("c{n}");
    let mut container = in_state(service(&text, "web", &["*:80/tcp"], &[n]), state);
    Arc::make_mut(&mut container.spec).scheduler.kind = kind;
    container
}

/// The service with all its backends in this state.
fn in_state(mut service: Service, state: State) -> Service {
    for backend in service.backends.values_mut() {
        Arc::make_mut(backend).status = Status::new(state, "as the test says");
    }
    service
}

/// Says what a container is now: none if it is gone.
fn say(world: &mut World, n: u8, kind: SchedulerKind, state: Option<State>) {
    let key = format!("c{n}");
    match state {
        Some(state) => world.put(&docker(), &key, container(n, kind, state)),
        None => world.remove(&docker(), &key),
    }
    world.step();
}

/// The scheduler in force and the ready backends.
fn web(world: &World) -> (SchedulerKind, Vec<u8>) {
    let held = world.held();
    let web = &held.services[&name("web")];
    let is_ready = |n: &u8| {
        let backend = web.backends.get(&nth(*n));
        backend.is_some_and(|b| b.status.state == State::Ready)
    };
    let ready = (1..=9).filter(is_ready).collect();
    (web.spec.scheduler.kind, ready)
}

use SchedulerKind::{Lc, Wrr};
use State::{Draining, Ready, Starting};

type Event = (u8, SchedulerKind, Option<State>);

/// Containers 1 and 2 (`wrr`) are replaced by 3 and 4 (`lc`).
fn replace(events: &[Event]) -> Vec<(SchedulerKind, Vec<u8>)> {
    let mut world = World::new();
    say(&mut world, 1, Wrr, Some(Ready));
    say(&mut world, 2, Wrr, Some(Ready));
    let mut seen = vec![web(&world)];
    for (n, kind, state) in events {
        say(&mut world, *n, *kind, *state);
        let now = web(&world);
        assert!(!now.1.is_empty(), "nobody is ready after {n} is {state:?}");
        if seen.last() != Some(&now) {
            seen.push(now);
        }
    }
    assert_eq!(world.aside(), [], "in the end nothing is in the way");
    seen
}

#[test]
fn a_start_first_replacement_never_lacks_a_ready_backend() {
    let seen = replace(&[
        (3, Lc, Some(Starting)),
        (3, Lc, Some(Ready)),
        (1, Wrr, Some(Draining)),
        (1, Wrr, None),
        (4, Lc, Some(Starting)),
        (4, Lc, Some(Ready)),
        (2, Wrr, Some(Draining)),
        (2, Wrr, None),
    ]);
    let wanted = [
        (Wrr, vec![1, 2]),
        (Wrr, vec![2]),
        // In one step: the last of the old drains, both new ones are there.
        (Lc, vec![3, 4]),
    ];
    assert_eq!(seen, wanted);
}

#[test]
fn a_stop_first_replacement_never_lacks_a_ready_backend() {
    let seen = replace(&[
        (1, Wrr, Some(Draining)),
        (1, Wrr, None),
        (3, Lc, Some(Starting)),
        (3, Lc, Some(Ready)),
        (2, Wrr, Some(Draining)),
        (2, Wrr, None),
        (4, Lc, Some(Starting)),
        (4, Lc, Some(Ready)),
    ]);
    let wanted = [
        (Wrr, vec![1, 2]),
        (Wrr, vec![2]),
        (Lc, vec![3]),
        (Lc, vec![3, 4]),
    ];
    assert_eq!(seen, wanted);
}

#[test]
fn the_reason_says_why_the_younger_comes_first() {
    let mut world = World::new();
    say(&mut world, 1, Wrr, Some(Ready));
    say(&mut world, 2, Lc, Some(Ready));
    let by_age = [
        "plimsoll.scheduler is `lc` here but `wrr` in c1, which decides because it is older: make",
    ];
    world.assert_aside("service `web`", "c2", &by_age);
    say(&mut world, 1, Wrr, Some(Draining));
    let words = "plimsoll.scheduler is `wrr` here but `lc` in c2, which decides because it can \
                 serve: make";
    world.assert_aside("service `web`", "c1", &[words]);
    say(&mut world, 2, Lc, Some(Starting));
    world.assert_aside("service `web`", "c2", &by_age);
}

#[test]
fn a_ready_backend_does_not_outweigh_a_file() {
    let mut world = World::new();
    let web = service("file", "web", &["*:80/tcp"], &[9]);
    world.put(&file(), "web", in_state(web, Draining));
    say(&mut world, 1, Lc, Some(Ready));
    world.assert_aside(
        "service `web`",
        "c1",
        &[
            "test (file)",
            "comes first: choose another plimsoll.service",
        ],
    );
}

fn state() -> impl Strategy<Value = State> {
    prop_oneof![
        Just(Ready),
        Just(Starting),
        Just(Draining),
        Just(State::Down)
    ]
}

proptest! {
    /// Whatever its containers say and whichever of them contradict each other: if one has a
    /// ready backend, the service has one; and the oldest of those that have one decides.
    #[test]
    fn who_is_ready_serves(
        containers in prop::collection::btree_map(1u8..8, (any::<bool>(), state()), 1..7),
    ) {
        let mut world = World::new();
        let kind = |lc: &bool| if *lc { Lc } else { Wrr };
        let all = containers.iter().map(|(n, (lc, state))| {
            entry(&format!("c{n}"), container(*n, kind(lc), *state))
        });
        world.say(&docker(), Update::Reset(all.collect()));
        world.step();
        let (scheduler, ready) = web(&world);
        let oldest = containers.iter().find(|(_, (_, state))| *state == Ready);
        prop_assert_eq!(oldest.is_some(), !ready.is_empty());
        if let Some((n, (lc, _))) = oldest {
            prop_assert_eq!((scheduler, ready[0]), (kind(lc), *n));
        }
    }
}

/// Two containers that claim one host for a service of their own each; `a` is the older.
fn two_of_one_host() -> World {
    let mut world = World::new();
    for (key, text, n) in [("c1", "a", 1), ("c2", "b", 2)] {
        world.put(&docker(), key, service(key, text, &[], &[n]));
        let to = route(key, "example.com/", &[text]);
        world.put(&docker(), &format!("{key} route"), to);
    }
    world.step();
    world
}

#[track_caller]
fn assert_leads_to(world: &World, service: &str) {
    let held = world.held();
    let route = &held.routes[&name("example.com/")];
    assert_eq!(route.services[0].service.as_str(), service);
}

#[test]
fn a_route_to_what_is_leaving_comes_last() {
    let mut world = two_of_one_host();
    let by_age = [
        "host example.com is already served by service `a` (c1): give both the same plimsoll.service to share it, or choose another host",
    ];
    assert_leads_to(&world, "a");
    world.assert_aside("route `example.com/`", "c2", &by_age);
    // A bad moment is not an end: nobody else gets the host for it.
    let a = |state| in_state(service("c1", "a", &[], &[1]), state);
    for state in [State::Down, Starting] {
        world.put(&docker(), "c1", a(state));
        world.step();
        assert_leads_to(&world, "a");
    }
    world.put(&docker(), "c1", a(Draining));
    world.step();
    assert_leads_to(&world, "b");
    let words = "host example.com is already served by service `b` (c2), which has backends that are \
                 not draining: give both";
    world.assert_aside("route `example.com/`", "c1", &[words]);
    // Without any backend, or gone, it is the same.
    world.put(&docker(), "c1", service("c1", "a", &[], &[]));
    world.step();
    assert_leads_to(&world, "b");
    world.put(&docker(), "c1", a(Ready));
    world.step();
    assert_leads_to(&world, "a");
    // If both leave, age decides again.
    for (key, text, n) in [("c1", "a", 1), ("c2", "b", 2)] {
        let leaving = in_state(service(key, text, &[], &[n]), Draining);
        world.put(&docker(), key, leaving);
    }
    world.step();
    assert_leads_to(&world, "a");
    world.assert_aside("route `example.com/`", "c2", &by_age);
}

/// What a container of `web` with this listen says: itself, and its route.
fn put_routed(world: &mut World, n: u8, listen: &str, to: &str, state: State) {
    let text = format!("c{n}");
    let container = in_state(service(&text, "web", &[listen], &[n]), state);
    world.put(&docker(), &text, container);
    let mut route = route(&text, to, &["web"]);
    route.listens = vec![listen.parse().unwrap()];
    world.put(&docker(), &format!("{text} route"), route);
    world.step();
}

/// The routes that the plane holds, and who said them.
fn routes(world: &World) -> Vec<(String, String)> {
    let held = world.held();
    let routes = held.routes.values();
    let told = routes.map(|r| (r.name.to_string(), r.origin.entry.to_string()));
    told.collect()
}

#[test]
fn what_is_put_aside_has_no_route_in_force() {
    let mut world = World::new();
    let (old, new) = (("*:80/http", "a:80"), ("*:8080/http", "a:8080"));
    let in_force = |(_, to): (&str, &str), n| vec![(String::from(to), format!("c{n}"))];
    put_routed(&mut world, 1, old.0, old.1, Ready);
    put_routed(&mut world, 2, new.0, new.1, Ready);
    assert_eq!(routes(&world), in_force(old, 1));
    world.assert_aside("service `web`", "c2", &["listen"]);
    // The other decides: its route comes in the same step.
    let leaving = in_state(service("c1", "web", &[old.0], &[1]), Draining);
    world.put(&docker(), "c1", leaving);
    world.step();
    assert_eq!(routes(&world), in_force(new, 2));
    world.assert_aside("service `web`", "c1", &["listen"]);
    // And goes with it again.
    world.remove(&docker(), "c2");
    world.remove(&docker(), "c2 route");
    world.step();
    assert_eq!(routes(&world), in_force(old, 1));
    assert_eq!(world.aside(), []);
    // Where nothing contradicts any more, all of them are in force.
    put_routed(&mut world, 2, old.0, "b:80", Ready);
    assert_eq!(world.aside(), []);
    assert_eq!(routes(&world).len(), 2);
}

#[test]
fn a_container_that_is_put_aside_takes_no_catch_all_away() {
    let mut world = World::new();
    world.put(&docker(), "c1", service("c1", "web", &["*:80/http"], &[1]));
    put_routed(&mut world, 2, "*:8080/http", "a:8080", Ready);
    assert_eq!(routes(&world), []);
    let held = world.held();
    let listens = &held.services[&name("web")].spec.listens;
    assert_eq!(*listens, ["*:80/http".parse().unwrap()]);
}

#[test]
fn a_route_is_in_force_all_through_a_replacement_with_other_settings() {
    let mut world = World::new();
    let mut put = |n: u8, kind, state| {
        say(&mut world, n, kind, Some(state));
        let to = route(&format!("c{n}"), "web", &["web"]);
        world.put(&docker(), &format!("c{n} route"), to);
        world.step();
        assert_leads_to_web(&world);
    };
    put(1, Wrr, Ready);
    put(2, Lc, Starting);
    put(2, Lc, Ready);
    put(1, Wrr, Draining);
    world.remove(&docker(), "c1");
    world.step();
    assert_leads_to_web(&world);
    world.remove(&docker(), "c1 route");
    world.step();
    assert_leads_to_web(&world);
    assert_eq!(world.aside(), []);
}

#[track_caller]
fn assert_leads_to_web(world: &World) {
    let held = world.held();
    let route = &held.routes[&name("web")];
    assert_eq!(route.services[0].service.as_str(), "web");
}

#[test]
fn a_route_of_a_file_comes_before_one_of_an_engine_all_the_same() {
    let mut world = two_of_one_host();
    world.remove(&docker(), "c1 route");
    world.put(&file(), "r", route("r", "example.com/", &["a"]));
    let leaving = in_state(service("c1", "a", &[], &[1]), Draining);
    world.put(&docker(), "c1", leaving);
    world.step();
    assert_leads_to(&world, "a");
    world.assert_aside(
        "route `example.com/`",
        "c2",
        &["served by service `a` (r): choose another host"],
    );
}

#[test]
fn settings_of_a_file_are_called_by_its_keys() {
    let mut world = World::new();
    for (n, kind) in [(1, Wrr), (2, Lc)] {
        world.put(&file(), &format!("c{n}"), container(n, kind, Ready));
    }
    world.step();
    let words = ["`scheduler` is lc here but wrr in test (c1), which comes first: make"];
    world.assert_aside("service `web`", "c2", &words);
}

#[test]
fn a_path_of_a_host_may_be_served_by_another() {
    let mut world = two_of_one_host();
    for (key, text) in [("c1", "a"), ("c2", "b")] {
        let mut to = route(key, "example.com/", &[text]);
        to.path = "/api".parse().unwrap();
        world.put(&docker(), &format!("{key} route"), to);
    }
    world.step();
    let words = "host example.com with path /api is already served by service `a` (c1): give both \
                 the same plimsoll.service to share it, or choose another host or path";
    world.assert_aside("route `example.com/`", "c2", &[words]);
}

#[test]
fn a_plane_that_is_not_there_is_named_as_labels_are() {
    let mut world = World::new();
    let mut web = service("c1", "web", &["*:80/tcp"], &[1]);
    Arc::make_mut(&mut web.spec).plane = PlaneChoice::Ebpf;
    world.put(&docker(), "c1", web);
    world.step();
    world.assert_aside("service `web`", "c1", &["use plimsoll.plane=proxy"]);
    let mut web = service("c1", "web", &["*:80/tcp"], &[1]);
    Arc::make_mut(&mut web.spec).scheduler.table = 4;
    world.put(&docker(), "c1", web);
    world.step();
    let [(_, _, reason)] = &world.aside()[..] else {
        panic!("{:?}", world.aside());
    };
    assert_eq!(
        reason, "table 4 is not a prime number",
        "without its name again"
    );
}

#[test]
fn a_route_counts_the_services_that_are_in_force_only() {
    let mut world = two_of_one_host();
    let mut bad = service("c1", "a", &[], &[1]);
    Arc::make_mut(&mut bad.spec).scheduler.table = 4;
    world.put(&docker(), "c1", bad);
    world.step();
    assert_leads_to(&world, "b");
}

#[test]
fn a_listen_goes_to_who_has_backends() {
    let mut world = World::new();
    let with = |text: &str, backends: &[u8]| service(text, text, &["*:80/tcp"], backends);
    world.put(&docker(), "a", with("a", &[]));
    world.put(&docker(), "b", with("b", &[]));
    world.step();
    assert_eq!(world.services(), ["a"]);
    let by_name = ["taken by service `a` (a) with listen *:80/tcp: choose another plimsoll.listen"];
    world.assert_aside("service `b`", "b", &by_name);
    world.put(&docker(), "b", in_state(with("b", &[2]), Draining));
    world.step();
    assert_eq!(world.services(), ["b"]);
    let words = "taken by service `b` (b), which comes first because it has backends, \
                 with listen *:80/tcp: choose";
    world.assert_aside("service `a`", "a", &[words]);
    world.put(&docker(), "a", with("a", &[1]));
    world.step();
    assert_eq!(world.services(), ["a"], "by name again");
    world.assert_aside("service `b`", "b", &by_name);
    world.put(&file(), "c", with("c", &[]));
    world.step();
    assert_eq!(
        world.services(),
        ["c"],
        "a file comes first with nothing, too"
    );
}

#[test]
fn what_no_route_decides_goes_to_who_has_backends() {
    let mut world = World::new();
    let with = |text: &str, backends: &[u8]| service(text, text, &["*:80/http"], backends);
    world.put(&docker(), "a", with("a", &[]));
    world.put(&docker(), "b", with("b", &[2]));
    world.step();
    assert_eq!(world.services(), ["b"]);
    let words = "service `b` (b), which comes first because it has backends, takes all";
    world.assert_aside("service `a`", "a", &[words]);
    world.say(&docker(), Update::Remove(EntryKey::new("b")));
    world.step();
    assert_eq!(world.services(), ["a"]);
    assert_eq!(world.aside(), []);
}

/// Who comes first is looked at again only where somebody is in the way.
#[test]
fn the_undisputed_is_not_looked_at_again() {
    let mut world = World::new();
    let web = service("web", "web", &["*:80/tcp"], &[1]);
    let spec = ServiceSpec::clone(&web.spec);
    world.put(&docker(), "web", web.clone());
    world.put(&docker(), "r", route("r", "r", &["web"]));
    world.step();
    let route_before = world.control.desired().routes[&name("r")].clone();
    world.put(&docker(), "web", in_state(web, Draining));
    world.step();
    let held = world.held();
    assert_eq!(*held.services[&name("web")].spec, spec);
    let route_after = &world.control.desired().routes[&name("r")];
    assert!(Arc::ptr_eq(&route_before, route_after));
}
