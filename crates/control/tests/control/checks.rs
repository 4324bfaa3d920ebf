//! What checks say about backends, and what holds while they have said nothing.

use std::sync::Arc;
use std::time::Duration;

use plimsoll_control::Command;
use plimsoll_model::{State, Status};
use proptest::prelude::*;

use crate::world::{World, checked, docker, file, name, nth, service};

use State::{Down, Draining, Ready, Starting};

/// A world of a checked `web` of which the checks have said nothing yet.
fn unknown(backends: &[u8]) -> World {
    let mut world = World::new();
    world.put(&file(), "web", checked(backends));
    world.step();
    world
}

/// All of its backends have passed.
fn passed(backends: &[u8]) -> World {
    let mut world = unknown(backends);
    for n in backends {
        assert!(world.verdict(*n, Ready, ""));
    }
    world.step();
    assert!(world.states().iter().all(|state| *state == Ready));
    world
}

#[test]
fn nothing_is_ready_before_its_first_verdict() {
    let mut world = unknown(&[1, 2]);
    let waiting = (Starting, "not checked yet".to_string(), 1);
    assert_eq!(
        [world.backend(1), world.backend(2)],
        [waiting.clone(), waiting]
    );
    assert!(world.verdict(1, Ready, ""));
    world.step();
    assert_eq!(world.states(), [Ready, Starting]);
    assert!(world.verdict(2, Starting, "status 500"));
    world.step();
    assert_eq!(world.backend(2), (Starting, "status 500".into(), 1));
    // A new one beside them, too.
    world.put(&file(), "web", checked(&[1, 2, 3]));
    world.step();
    assert_eq!(world.states(), [Ready, Starting, Starting]);
}

#[test]
fn checks_are_trusted() {
    let mut world = passed(&[1, 2]);
    for n in [1, 2] {
        world.verdict(n, Down, "status 500");
    }
    world.step();
    assert_eq!(world.states(), [Down, Down], "also the last one");
    assert_eq!(world.backend(1), (Down, "status 500".into(), 1));
    world.verdict(1, Ready, "");
    world.step();
    assert_eq!(world.backend(1), (Ready, String::new(), 1));
}

#[test]
fn the_same_verdict_again_is_no_news() {
    let mut world = passed(&[1]);
    assert!(!world.verdict(1, Ready, ""));
    assert!(world.verdict(1, Down, "status 500"));
    assert!(!world.verdict(1, Down, "status 500"));
    assert!(world.verdict(1, Down, "status 503"));
    assert!(!world.verdict(9, Down, "unknown"));
}

#[test]
fn a_service_that_loses_its_check_keeps_nothing_of_it() {
    let mut world = passed(&[1, 2]);
    world.verdict(1, Down, "status 500");
    world.step();
    assert_eq!(world.states(), [Down, Ready]);
    let plain = service("web", "web", &["*:80/http"], &[1, 2]);
    world.put(&file(), "web", plain);
    world.step();
    assert_eq!(world.states(), [Ready, Ready]);
    assert!(!world.verdict(1, Down, "late news"));
    world.step();
    assert_eq!(world.states(), [Ready, Ready]);
}

#[test]
fn a_service_that_gets_a_check_goes_on_until_the_check_has_spoken() {
    let mut world = World::web(2);
    world.put(&file(), "web", checked(&[1, 2]));
    world.step();
    assert_eq!(world.states(), [Ready, Ready]);
    world.verdict(1, Ready, "");
    world.step();
    assert_eq!(world.states(), [Ready, Ready], "the other is trusted still");
    world.verdict(2, Down, "status 500");
    world.step();
    assert_eq!(world.states(), [Ready, Down]);
    // What joins later has to pass first.
    world.put(&file(), "web", checked(&[1, 2, 3]));
    world.step();
    assert_eq!(world.states(), [Ready, Down, Starting]);
}

#[test]
fn when_all_are_replaced_the_unknown_are_trusted_but_not_the_failing() {
    let mut world = passed(&[1]);
    world.put(&file(), "web", checked(&[1, 2, 3]));
    world.step();
    world.verdict(2, Starting, "connection refused");
    world.step();
    assert_eq!(world.states(), [Ready, Starting, Starting]);
    world.put(&file(), "web", checked(&[2, 3]));
    world.step();
    assert_eq!(world.states(), [Starting, Ready]);
    world.verdict(3, Down, "connection refused");
    world.step();
    assert_eq!(world.states(), [Starting, Down]);
    // There is nobody left to be spared for.
    world.put(&file(), "web", checked(&[2, 3, 4]));
    world.step();
    assert_eq!(world.states(), [Starting, Down, Starting]);
}

#[test]
fn what_was_draining_is_as_new() {
    type Change = fn(&mut World);
    let drains: [(Change, Change); 2] = [
        (
            |world| world.command(1, Command::Drain),
            |world| world.command(1, Command::Ready),
        ),
        (
            |world| {
                let mut web = checked(&[1, 2]);
                let backend = web.backends.get_mut(&nth(1)).unwrap();
                Arc::make_mut(backend).status = Status::new(Draining, "stopping");
                world.put(&file(), "web", web);
            },
            |world| world.put(&file(), "web", checked(&[1, 2])),
        ),
    ];
    for (drain, back) in drains {
        let mut world = passed(&[1, 2]);
        drain(&mut world);
        world.step();
        assert_eq!(world.states(), [Draining, Ready]);
        back(&mut world);
        world.step();
        assert_eq!(world.states(), [Starting, Ready]);
    }
}

#[test]
fn a_service_that_was_put_aside_is_as_new() {
    let mut world = passed(&[1]);
    world.verdict(1, Down, "status 500");
    world.step();
    let mut bad = checked(&[1]);
    Arc::make_mut(&mut bad.spec).scheduler.table = 4;
    world.put(&file(), "web", bad);
    world.step();
    assert!(world.services().is_empty());
    world.put(&file(), "web", checked(&[1]));
    world.step();
    assert_eq!(world.backend(1), (Starting, "not checked yet".into(), 1));
}

#[test]
fn another_check_takes_nothing_back() {
    let mut world = passed(&[1, 2]);
    world.verdict(2, Down, "status 500");
    world.step();
    let mut other = checked(&[1, 2]);
    Arc::make_mut(&mut other.spec).check = "http:/health".parse().ok();
    world.put(&file(), "web", other);
    world.step();
    assert_eq!(world.states(), [Ready, Down]);
}

#[test]
fn to_pass_again_ends_an_ejection() {
    let mut world = passed(&[1, 2]);
    world.refuse(1);
    world.step();
    assert_eq!(world.states(), [Down, Ready]);
    world.verdict(1, Ready, "");
    world.step();
    assert_eq!(world.states(), [Down, Ready], "it was ready all the time");
    world.verdict(1, Down, "connection refused");
    world.verdict(1, Ready, "");
    world.step();
    assert_eq!(world.states(), [Ready, Ready]);
}

#[test]
fn failures_in_traffic_spare_the_last_that_passes() {
    let mut world = passed(&[1, 2]);
    world.verdict(2, Down, "status 500");
    world.step();
    world.refuse(1);
    world.step();
    assert_eq!(world.states(), [Ready, Down]);
    assert!(
        world.backend(1).1.contains("last"),
        "{:?}",
        world.backend(1)
    );
}

#[test]
fn the_word_of_the_source_counts_before_that_of_a_check() {
    let mut world = passed(&[1, 2]);
    let mut web = checked(&[1, 2]);
    let unhealthy = Status::new(Down, "container is unhealthy");
    Arc::make_mut(web.backends.get_mut(&nth(1)).unwrap()).status = unhealthy;
    world.put(&file(), "web", web);
    world.step();
    assert_eq!(world.backend(1).1, "container is unhealthy");
    // What is known of it holds when the source takes its word back.
    world.put(&file(), "web", checked(&[1, 2]));
    world.step();
    assert_eq!(world.states(), [Ready, Ready]);
}

/// The containers of a rolling replacement with another setting come into force all at once, and
/// have not been checked before.
#[test]
fn a_replacement_with_another_setting_is_served_all_the_time() {
    let container = |n: u8, retries: u32, state: State| {
        let mut web = checked(&[n]);
        let spec = Arc::make_mut(&mut web.spec);
        spec.retries = retries;
        let backend = web.backends.get_mut(&nth(n)).unwrap();
        Arc::make_mut(backend).status = Status::new(state, "");
        web
    };
    let mut world = World::new();
    for n in [1, 2] {
        world.put(&docker(), &format!("c{n}"), container(n, 3, Ready));
    }
    world.step();
    for n in [1, 2] {
        world.verdict(n, Ready, "");
    }
    world.step();
    for (old, new) in [(1, 3), (2, 4)] {
        world.put(&docker(), &format!("c{new}"), container(new, 9, Ready));
        world.step();
        assert!(world.states().contains(&Ready));
        world.put(&docker(), &format!("c{old}"), container(old, 3, Draining));
        world.step();
        assert!(world.states().contains(&Ready), "{old} leaves");
    }
    let held = world.held();
    let web = &held.services[&name("web")];
    assert_eq!((web.spec.retries, web.backends.len()), (9, 2));
    world.verdict(3, Down, "status 500");
    world.step();
    assert_eq!(world.states(), [Down, Ready]);
}

#[derive(Clone, Debug)]
enum Happens {
    Verdict(u8, State),
    Refused(u8),
    Command(u8, bool),
    Backends(bool, Vec<u8>),
    Wait(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    let n = 1u8..5;
    let state = prop_oneof![Just(Starting), Just(Ready), Just(Down)];
    prop_oneof![
        4 => (n.clone(), state).prop_map(|(n, s)| Happens::Verdict(n, s)),
        1 => n.clone().prop_map(Happens::Refused),
        1 => (n, any::<bool>()).prop_map(|(n, drain)| Happens::Command(n, drain)),
        2 => (prop::bool::weighted(0.8), prop::collection::btree_set(1u8..5, 1..5))
            .prop_map(|(check, set)| Happens::Backends(check, set.into_iter().collect())),
        1 => (0u64..5000).prop_map(Happens::Wait),
    ]
}

proptest! {
    /// Whatever happens: what fails its check gets nothing; nobody is left without backends for
    /// what is not known; and what is lost is lost to checks or admins only.
    #[test]
    fn checks_are_kept(history in prop::collection::vec(happens(), 0..60)) {
        let mut world = passed(&[1, 2, 3]);
        let mut failing = std::collections::BTreeMap::new();
        let mut check = true;
        for event in history {
            let served = world.states().contains(&Ready);
            match &event {
                Happens::Verdict(n, state) => {
                    let there = world.held().services[&name("web")].backends.contains_key(&nth(*n));
                    world.verdict(*n, *state, "as the test says");
                    if there && check {
                        failing.insert(*n, *state != Ready);
                    }
                }
                Happens::Refused(n) => drop(world.refuse(*n)),
                Happens::Command(n, drain) => {
                    let command = if *drain { Command::Drain } else { Command::Ready };
                    let backend = nth(*n).to_string();
                    let _ = world.control.command("web", &backend, command, "a test");
                }
                Happens::Backends(checks, all) => {
                    check = *checks;
                    let plain = service("web", "web", &["*:80/http"], all);
                    world.put(&file(), "web", if check { checked(all) } else { plain });
                    failing.retain(|n, _| all.contains(n) && check);
                }
                Happens::Wait(ms) => drop(world.wait(Duration::from_millis(*ms))),
            }
            world.step();
            let held = world.held();
            let backends = &held.services[&name("web")].backends;
            for n in 1..5u8 {
                let Some(backend) = backends.get(&nth(n)) else { continue };
                if backend.status.state == Draining {
                    failing.remove(&n);
                }
                if failing.get(&n) == Some(&true) {
                    prop_assert_ne!(backend.status.state, Ready, "{} after {:?}", n, event);
                }
            }
            let serves = backends.values().any(|b| b.takes_new());
            let unknown = (1..5).any(|n| {
                let backend = backends.get(&nth(n));
                backend.is_some_and(|b| b.status.state != Draining) && !failing.contains_key(&n)
            });
            prop_assert!(serves || !(served && unknown), "nobody after {:?}: {:?}", event, backends);
            prop_assert!(check || serves || !backends.values().any(|b| b.status.state != Draining));
        }
    }
}
