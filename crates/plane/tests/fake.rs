//! The fake plane passes the suite that the real ones pass, and does what tests ask of it.
#![allow(clippy::unwrap_used, reason = "tests")]

use plimsoll_model::{Desired, Name, Op, Origin, Plan, Service, ServiceSpec, Subject};
use plimsoll_plane::fake::FakePlane;
use plimsoll_plane::{Event, Plane, PlaneError, Unsupported, conformance};

fn service(text: &str) -> Service {
    let name: Name = text.parse().unwrap();
    let spec = ServiceSpec::new(name, Origin::new("test", text), Vec::new());
    Service::new(spec, [])
}

fn add(text: &str) -> Plan {
    Plan {
        ops: vec![Op::AddService(service(text).into())],
    }
}

#[test]
fn conforms() {
    let mut next = 1024;
    let mut port = || {
        next += 1;
        next
    };
    for kind in [conformance::Kind::Proxy, conformance::Kind::Packets] {
        conformance::run(kind, &mut || Box::new(FakePlane::new().0), &mut port);
    }
}

#[test]
fn conforms_when_it_refuses() {
    let mut next = 1024;
    let mut port = || {
        next += 1;
        next
    };
    let mut make = || -> Box<dyn Plane> {
        let (plane, handle) = FakePlane::new();
        for name in ["mark", "sctp"] {
            let unsupported = Unsupported {
                plane: "fake",
                feature: name.into(),
                instead: "use another plane".into(),
                again: None,
            };
            handle.refuse(name.parse().unwrap(), unsupported);
        }
        Box::new(plane)
    };
    conformance::run(conformance::Kind::Proxy, &mut make, &mut port);
}

#[test]
fn fails_and_mends_as_told() {
    let (mut plane, handle) = FakePlane::new();
    let subject = Subject::Service("a".parse().unwrap());
    let error = PlaneError::Other("broken".into());
    handle.fail(subject, error.clone());
    assert_eq!(plane.apply(&add("a"))[0].result, Err(error));
    assert_eq!(plane.apply(&add("b"))[0].result, Ok(()));
    assert_eq!(handle.take_applied(), add("b").ops);
    handle.mend();
    assert_eq!(plane.apply(&add("a"))[0].result, Ok(()));
    handle.alter(|held| *held = Desired::default());
    assert_eq!(plane.read().unwrap(), Desired::default());
    handle.unreadable(Some(PlaneError::Other("dark".into())));
    assert!(plane.read().is_err());
    assert_eq!(handle.reads(), 2);
}

#[test]
fn emits_events() {
    let (mut plane, handle) = FakePlane::new();
    let event = Event::Served {
        service: "a".parse().unwrap(),
        backend: "127.0.0.1:1".parse().unwrap(),
    };
    handle.emit(event.clone());
    assert_eq!(plane.events().unwrap().try_recv(), Ok(event));
}
