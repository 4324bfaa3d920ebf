//! What admins, checks and traffic lay over a service.

use std::sync::Arc;
use std::time::Duration;

use plimsoll_control::{Command, CommandError, Halt};
use plimsoll_model::{Backend, MAX_WEIGHT, Maintenance, ServiceHttp, State, Status};
use proptest::prelude::*;

use crate::world::{World, checked, file, name, nth, service};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn drain_and_ready() {
    let mut world = World::web(2);
    world.command(1, Command::Drain);
    world.step();
    let drained = (State::Draining, "drained by a test".to_string(), 1);
    assert_eq!(world.backend(1), drained);
    assert_eq!(
        world.plane.take_applied().len(),
        2,
        "AddService and SetBackend"
    );
    world.put(
        &file(),
        "web",
        service("web", "web", &["*:80/http"], &[1, 2, 3]),
    );
    world.step();
    assert_eq!(world.backend(1), drained, "it outlives other changes");
    world.command(1, Command::Ready);
    world.step();
    assert_eq!(world.states(), [State::Ready; 3]);
}

#[test]
fn maintenance_is_a_drain_that_is_told_apart() {
    let mut world = World::web(2);
    let halted = |world: &World| world.control.status(world.now).services[0].backends[0].halted;
    world.command(1, Command::Maintain);
    world.step();
    let reason = "put into maintenance by a test".to_string();
    assert_eq!(world.backend(1), (State::Draining, reason, 1));
    assert_eq!(halted(&world), Some(Halt::Maintenance));
    world.command(1, Command::Drain);
    world.step();
    assert_eq!(world.backend(1).1, "drained by a test");
    assert_eq!(halted(&world), Some(Halt::Drain));
    world.command(1, Command::Ready);
    world.step();
    assert_eq!(world.states(), [State::Ready; 2]);
    assert_eq!(halted(&world), None);
}

#[test]
fn weight_and_auto() {
    let mut world = World::web(1);
    world.command(1, Command::Weight(Some(0)));
    world.command(1, Command::Drain);
    world.command(1, Command::Ready);
    world.step();
    assert_eq!(world.backend(1), (State::Ready, String::new(), 0));
    let status = world.control.status(world.now);
    let backend = &status.services[0].backends[0];
    assert_eq!((backend.weight, backend.weight_configured), (0, 1));
    world.command(1, Command::Weight(None));
    world.step();
    assert_eq!(world.backend(1).2, 1);
}

#[test]
fn an_override_goes_with_its_backend() {
    let mut world = World::web(2);
    world.command(1, Command::Drain);
    world.command(1, Command::Weight(Some(5)));
    world.step();
    world.put(&file(), "web", service("web", "web", &["*:80/http"], &[2]));
    world.step();
    world.put(
        &file(),
        "web",
        service("web", "web", &["*:80/http"], &[1, 2]),
    );
    world.step();
    assert_eq!(world.backend(1), (State::Ready, String::new(), 1));
}

#[test]
fn an_override_outlives_its_service_being_put_aside() {
    let mut world = World::web(2);
    world.command(1, Command::Drain);
    world.command(2, Command::Weight(Some(5)));
    world.step();
    let good = service("web", "web", &["*:80/http"], &[1, 2]);
    let mut bad = good.clone();
    Arc::make_mut(&mut bad.spec).scheduler.table = 4;
    world.put(&file(), "web", bad);
    world.step();
    assert!(world.held().services.is_empty(), "it is put aside");
    world.put(&file(), "web", good.clone());
    world.step();
    assert_eq!(world.states(), [State::Draining, State::Ready]);
    assert_eq!(world.backend(2).2, 5);
    // It goes with the service.
    world.remove(&file(), "web");
    world.step();
    world.put(&file(), "web", good);
    world.step();
    assert_eq!(world.states(), [State::Ready; 2]);
    assert_eq!(world.backend(2).2, 1);
}

#[test]
fn commands_that_cannot_be() {
    let mut world = World::web(2);
    let mut bad = service("xbad", "xbad", &["*:80/tcp"], &[1]);
    for n in [4, 5] {
        let origin = bad.spec.origin.clone();
        let backend = Backend {
            name: "twin".into(),
            ..Backend::new(nth(n), origin)
        };
        bad.backends.insert(nth(n), Arc::new(backend));
    }
    world.put(&file(), "xbad", bad);
    world.step();
    let mut ask = |service: &str, backend: &str, command| {
        let result = world.control.command(service, backend, command, "a test");
        result.unwrap_err().to_string()
    };
    let unknown = ask("nope", "10.0.0.1:80", Command::Drain);
    assert!(unknown.contains("no service `nope`"), "{unknown}");
    let aside = ask("xbad", "10.0.0.1:80", Command::Drain);
    assert!(aside.contains("put aside"), "{aside}");
    for text in ["10.0.0.9:80", "x", ""] {
        let unknown = ask("web", text, Command::Drain);
        assert!(
            unknown.contains("it has 10.0.0.1:80, 10.0.0.2:80"),
            "{unknown}"
        );
    }
    let heavy = ask("web", "10.0.0.1:80", Command::Weight(Some(MAX_WEIGHT + 1)));
    assert!(heavy.contains("2147483648"), "{heavy}");

    world.remove(&file(), "web");
    world.step();
    let mut ask = |backend| {
        world
            .control
            .command("xbad", backend, Command::Drain, "a test")
    };
    assert!(matches!(ask("twin"), Err(CommandError::Ambiguous { .. })));
    assert_eq!(ask("10.0.0.4:80"), Ok(nth(4)));
}

#[test]
fn a_backend_is_found_by_its_name() {
    let mut world = World::new();
    let mut web = service("web", "web", &["*:80/tcp"], &[1, 2]);
    Arc::make_mut(web.backends.get_mut(&nth(2)).unwrap()).name = "web-2".into();
    world.put(&file(), "web", web);
    world.step();
    let found = world
        .control
        .command("web", "web-2", Command::Drain, "a test");
    assert_eq!(found, Ok(nth(2)));
    world.step();
    assert_eq!(world.states(), [State::Ready, State::Draining]);
}

#[test]
fn a_refusal_puts_out_for_a_while() {
    let mut world = World::web(3);
    assert!(world.refuse(1));
    assert!(!world.refuse(1), "late news");
    let deadline = world.step().next_deadline;
    let (state, reason, _) = world.backend(1);
    assert_eq!(state, State::Down);
    assert!(reason.contains("connection refused"), "{reason}");
    assert!(deadline <= world.now + SECOND);
    world.now = deadline;
    world.step();
    let (state, reason, _) = world.backend(1);
    assert_eq!(state, State::Ready);
    assert!(reason.contains("probation"), "{reason}");
    world.refuse(1);
    world.wait(SECOND);
    assert_eq!(world.backend(1).0, State::Down, "longer than the first");
    world.wait(SECOND);
    world.served(1);
    world.step();
    assert_eq!(world.backend(1), (State::Ready, String::new(), 1));
}

#[test]
fn resets_put_out_after_three() {
    let mut world = World::web(2);
    assert!(!world.reset(1) && !world.reset(1) && world.reset(1));
    world.step();
    assert_eq!(world.states(), [State::Down, State::Ready]);
}

#[test]
fn ready_ends_an_ejection() {
    let mut world = World::web(2);
    world.refuse(1);
    world.step();
    world.command(1, Command::Ready);
    world.step();
    assert_eq!(world.backend(1), (State::Ready, String::new(), 1));
}

#[test]
fn the_last_is_kept_and_counted() {
    let mut world = World::web(2);
    world.refuse(1);
    world.refuse(2);
    world.refuse(2);
    world.step();
    assert_eq!(world.states(), [State::Down, State::Ready]);
    let reason = world.backend(2).1;
    assert!(
        reason.contains("refused") && reason.contains("last"),
        "{reason}"
    );
    let status = world.control.status(world.now);
    let backends = &status.services[0].backends;
    assert_eq!((backends[0].ejections, backends[0].spared), (1, 0));
    assert_eq!((backends[1].ejections, backends[1].spared), (0, 2));
}

#[test]
fn when_the_others_leave_one_comes_back() {
    for leave in [
        (|world| world.command(2, Command::Drain)) as fn(&mut World),
        |world| world.command(2, Command::Weight(Some(0))),
        |world| world.put(&file(), "web", service("web", "web", &["*:80/http"], &[1])),
        |world| {
            world.put(&file(), "web", checked(&[1, 2]));
            world.step();
            assert!(world.verdict(2, State::Down, "check failed"));
        },
    ] {
        let mut world = World::web(2);
        world.refuse(1);
        world.step();
        assert_eq!(world.backend(1).0, State::Down);
        leave(&mut world);
        world.step();
        assert_eq!(world.backend(1).0, State::Ready);
    }
}

#[test]
fn the_word_of_the_source_counts_before_that_of_traffic() {
    let mut world = World::new();
    let mut web = service("web", "web", &["*:80/http"], &[1, 2]);
    let starting = Status::new(State::Starting, "container is starting");
    Arc::make_mut(web.backends.get_mut(&nth(1)).unwrap()).status = starting;
    world.put(&file(), "web", web);
    world.step();
    world.refuse(1);
    world.refuse(2);
    world.step();
    assert_eq!(
        world.states(),
        [State::Starting, State::Ready],
        "2 is the last"
    );
    world.command(1, Command::Drain);
    world.step();
    assert_eq!(world.states(), [State::Draining, State::Ready]);
}

#[test]
fn events_about_the_unknown_are_ignored() {
    let mut world = World::web(1);
    assert!(!world.refuse(9) && !world.served(9) && !world.reset(9));
    world.remove(&file(), "web");
    world.step();
    assert!(!world.refuse(1));
    world.step();
    assert!(world.services().is_empty());
}

#[test]
fn since_is_when_state_or_reason_changed() {
    let mut world = World::web(2);
    let since =
        |world: &World, n: usize| world.control.status(world.now).services[0].backends[n].since;
    world.wait(MINUTE);
    assert_eq!((since(&world, 0), since(&world, 1)), (60.0, 60.0));
    world.command(1, Command::Drain);
    world.step();
    assert_eq!((since(&world, 0), since(&world, 1)), (0.0, 60.0));
    world.command(1, Command::Weight(Some(9)));
    world.wait(MINUTE);
    assert_eq!((since(&world, 0), since(&world, 1)), (60.0, 120.0));
}

#[derive(Clone, Debug)]
enum Happens {
    Refused(u8),
    Reset(u8),
    Served(u8),
    Wait(u64),
    Command(u8, Command),
    Backends(Vec<u8>),
    Step,
}

fn happens() -> impl Strategy<Value = Happens> {
    let n = 1u8..5;
    let command = prop_oneof![
        Just(Command::Drain),
        Just(Command::Ready),
        (0u32..3).prop_map(|w| Command::Weight(Some(w))),
        Just(Command::Weight(None)),
    ];
    prop_oneof![
        4 => n.clone().prop_map(Happens::Refused),
        4 => n.clone().prop_map(Happens::Reset),
        2 => n.clone().prop_map(Happens::Served),
        2 => (0u64..90_000).prop_map(Happens::Wait),
        1 => (n, command).prop_map(|(n, c)| Happens::Command(n, c)),
        1 => prop::collection::btree_set(1u8..5, 1..5)
            .prop_map(|set| Happens::Backends(set.into_iter().collect())),
        2 => Just(Happens::Step),
    ]
}

proptest! {
    /// Whatever happens, traffic alone never leaves a service without a backend: if one is not
    /// drained and has a weight, one takes new traffic.
    #[test]
    fn failures_never_take_the_last(history in prop::collection::vec(happens(), 0..60)) {
        let mut world = World::web(4);
        for event in history {
            match event {
                Happens::Refused(n) => drop(world.refuse(n)),
                Happens::Reset(n) => drop(world.reset(n)),
                Happens::Served(n) => drop(world.served(n)),
                Happens::Wait(ms) => drop(world.wait(Duration::from_millis(ms))),
                Happens::Command(n, command) => {
                    let backend = nth(n).to_string();
                    let _ = world.control.command("web", &backend, command, "a test");
                }
                Happens::Backends(all) => {
                    world.put(&file(), "web", service("web", "web", &["*:80/http"], &all));
                }
                Happens::Step => drop(world.step()),
            }
            world.step();
            let held = world.held();
            let backends = &held.services[&name("web")].backends;
            let could = backends.values().any(|b| {
                b.status.state != State::Draining && b.weight > 0
            });
            let does = backends.values().any(|b| b.takes_new());
            prop_assert_eq!(could, does, "{:?}", backends);
        }
    }
}

#[test]
fn a_service_is_in_maintenance_as_an_admin_or_else_its_source_says() {
    let mut world = World::web(1);
    let on = |world: &World| {
        let held = world.held();
        let http = held.services[&name("web")].spec.http.clone();
        http.and_then(|http| http.maintenance.clone())
            .is_some_and(|maintenance| maintenance.on)
    };
    let ask = |world: &mut World, state| {
        let taken = world.control.maintain("web", state);
        world.step();
        taken
    };
    assert_eq!(ask(&mut world, Some(true)), Ok(()));
    assert!(on(&world) && world.control.status(world.now).services[0].maintenance);
    assert_eq!(world.states(), [State::Ready], "backends are as they were");
    // The source says it, too; the admin goes before it, and what else it says holds.
    let mut web = service("web", "web", &["*:80/http"], &[1]);
    let said = Maintenance {
        retry_after: MINUTE * 9,
        ..Maintenance::new(true)
    };
    let http = ServiceHttp {
        maintenance: Some(said),
        ..ServiceHttp::default()
    };
    Arc::make_mut(&mut web.spec).http = Some(http.into());
    world.put(&file(), "web", web);
    assert_eq!(ask(&mut world, Some(false)), Ok(()));
    assert!(!on(&world));
    assert_eq!(ask(&mut world, None), Ok(()));
    assert!(on(&world));
    let held = world.held();
    let http = held.services[&name("web")].spec.http.as_ref().unwrap();
    assert_eq!(http.maintenance.as_ref().unwrap().retry_after, MINUTE * 9);
    let unknown = CommandError::UnknownService("wep".into());
    assert_eq!(world.control.maintain("wep", Some(true)), Err(unknown));
    world.put(&file(), "db", service("db", "db", &["*:5432/tcp"], &[1]));
    world.step();
    let refused = CommandError::NotHttp("db".into());
    assert_eq!(world.control.maintain("db", Some(true)), Err(refused));
}
