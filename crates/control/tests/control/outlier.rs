//! Backends of services that say what an outlier is.

use std::time::Duration;

use plimsoll_model::{Outlier, OutlierErrors, State};
use plimsoll_plane::Event;
use proptest::prelude::*;

use crate::world::{World, file, name, nth, service, with_spec};

/// `web` with so many backends, of which so many percent may be out.
fn world(backends: u8, max_percent: u8) -> World {
    let mut world = World::new();
    let backends: Vec<u8> = (1..=backends).collect();
    let web = service("web", "web", &["*:80/http"], &backends);
    let outlier = Outlier {
        consecutive: 2,
        time: Duration::from_secs(10),
        max_percent,
        ..Outlier::new(OutlierErrors::Server)
    };
    let web = with_spec(web, |spec| spec.outlier = Some(outlier));
    world.put(&file(), "web", web);
    world.step();
    world
}

/// A plane has counted enough errors of this backend.
fn errs(world: &mut World, n: u8) -> bool {
    let event = Event::Errors {
        service: name("web"),
        backend: nth(n),
        reason: "2 answers in a row with errors, the last with 500".into(),
    };
    world.control.event(world.now, event)
}

fn out(world: &World) -> usize {
    let states = world.states();
    states.iter().filter(|s| **s == State::Down).count()
}

#[test]
fn who_errs_is_out_for_a_growing_while_and_the_reason_is_shown() {
    let mut world = world(2, 100);
    assert!(errs(&mut world, 1));
    world.step();
    let (state, reason, _) = world.backend(1);
    assert_eq!(state, State::Down);
    let words = "2 answers in a row with errors, the last with 500: out for ";
    assert!(reason.starts_with(words), "{reason}");
    world.wait(Duration::from_secs(7));
    assert_eq!(out(&world), 1);
    world.wait(Duration::from_secs(4));
    assert_eq!(out(&world), 0);
    assert!(world.backend(1).1.starts_with("on probation after: "));
    // Longer the second time.
    errs(&mut world, 1);
    world.step();
    world.wait(Duration::from_secs(11));
    assert_eq!(out(&world), 1);
    world.wait(Duration::from_secs(10));
    assert_eq!(out(&world), 0);
    let status = world.control.status(world.now);
    assert_eq!(status.services[0].backends[0].ejections, 2);
}

#[test]
fn the_service_says_how_many_connections_have_to_fail() {
    let mut world = world(2, 100);
    assert!(!world.refuse(1));
    assert!(!world.served(1), "and they have to be in a row");
    assert!(!world.refuse(1));
    assert!(world.refuse(1));
    world.step();
    assert_eq!(world.states(), [State::Down, State::Ready]);
}

#[test]
fn no_more_are_out_than_may_be_but_one() {
    for (percent, most) in [(1, 1), (25, 1), (50, 2), (74, 2), (75, 3), (100, 3)] {
        let mut world = world(4, percent);
        for n in 1..=4 {
            errs(&mut world, n);
            world.step();
        }
        assert_eq!(out(&world), most, "{percent}%");
        let kept = match percent {
            75.. => "kept, it is the last",
            _ => "kept, enough are out",
        };
        let (_, reason, _) = world.backend(4);
        assert!(reason.ends_with(kept), "{percent}%: {reason}");
    }
}

#[derive(Clone, Debug)]
enum Happens {
    Errs(u8),
    Refused(u8),
    Served(u8),
    Wait(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    let n = 1u8..6;
    prop_oneof![
        4 => n.clone().prop_map(Happens::Errs),
        2 => n.clone().prop_map(Happens::Refused),
        1 => n.prop_map(Happens::Served),
        1 => (0u64..90_000).prop_map(Happens::Wait),
    ]
}

proptest! {
    /// Whatever happens: never more are out than the share that may be, or one, and never the last;
    /// and all are back in the end.
    #[test]
    fn the_share_holds_in_any_history(
        percent in 1u8..=100,
        history in prop::collection::vec(happens(), 0..60),
    ) {
        let mut world = world(5, percent);
        let most = (5 * usize::from(percent) / 100).clamp(1, 4);
        for event in history {
            match event {
                Happens::Errs(n) => drop(errs(&mut world, n)),
                Happens::Refused(n) => drop(world.refuse(n)),
                Happens::Served(n) => drop(world.served(n)),
                Happens::Wait(ms) => drop(world.wait(Duration::from_millis(ms))),
            }
            world.step();
            prop_assert!(out(&world) <= most, "{} of {most}", out(&world));
        }
        world.wait(Duration::from_secs(100));
        prop_assert_eq!(out(&world), 0);
    }
}
