//! One plane kept at the desired state: failures, foreign hands, planes that cannot be read.

use std::collections::BTreeSet;
use std::time::Duration;

use plimsoll_model::{
    Backend, Desired, Op, Origin, PlanError, Service, ServiceSpec, SourceId, Subject, Update,
};
use plimsoll_plane::fake::FakePlane;
use plimsoll_plane::{Plane, PlaneError};
use proptest::prelude::*;

use plimsoll_control::{Changed, Hold, Reconciler};

use crate::world::{World, docker, entry, file, name, nth, route, service};

const AUDIT: Duration = Duration::from_secs(5);
const NONE: Hold<'_> = &|_| false;

fn broken() -> PlaneError {
    PlaneError::Other("broken".into())
}

fn web() -> Subject {
    Subject::Service(name("web"))
}

#[test]
fn many_updates_are_one_reconcile() {
    let mut world = World::new();
    for n in 1..=3 {
        world.put(&file(), "web", service("web", "web", &["*:80/http"], &[n]));
    }
    world.put(&file(), "r", route("r", "r", &["web"]));
    assert!(world.plane.take_applied().is_empty());
    world.step();
    assert_eq!(world.plane.take_applied().len(), 2);
    assert_eq!(world.held(), **world.control.desired());
    assert_eq!(world.step().planes, []);
}

#[test]
fn what_did_not_change_is_shared() {
    let mut world = World::web(1);
    world.put(&file(), "api", service("api", "api", &[], &[1]));
    world.step();
    let before = world.control.desired().clone();
    world.put(&file(), "web", service("web", "web", &["*:80/http"], &[1]));
    world.put(&file(), "api", service("api", "api", &[], &[2]));
    world.step();
    let after = world.control.desired();
    let shared = |text: &str| {
        let name = name(text);
        std::sync::Arc::ptr_eq(&before.services[&name], &after.services[&name])
    };
    assert!(shared("web") && !shared("api"));
}

#[test]
fn a_failure_is_kept_and_tried_again_at_the_audit() {
    let mut world = World::new();
    world.step();
    let since = world.now;
    world.plane.fail(web(), broken());
    world.put(&file(), "web", service("web", "web", &["*:80/http"], &[1]));
    world.put(&file(), "ok", service("ok", "ok", &[], &[1]));
    let step = world.step();
    assert_eq!(step.planes[0].results.len(), 2);
    assert_eq!(world.services(), ["ok"]);
    let status = world.control.status(world.now);
    assert_eq!(status.planes[0].failures[0].reason, "broken");
    assert_eq!(status.services[1].error.as_deref(), Some("broken"));

    world.put(&file(), "ok", service("ok", "ok", &[], &[2]));
    let step = world.step();
    let subjects: Vec<&Subject> = step.planes[0].results.iter().map(|r| &r.subject).collect();
    assert!(
        !subjects.contains(&&web()),
        "not tried again: nothing about it changed"
    );

    assert!(step.next_deadline <= since + AUDIT);
    let step = world.wait(AUDIT);
    assert_eq!(step.planes[0].results[0].result, Err(broken()));
    assert_eq!(
        world.control.status(world.now).planes[0].failures[0].since,
        5.0
    );
    world.plane.mend();
    world.wait(AUDIT);
    assert_eq!(world.services(), ["ok", "web"]);
    let status = world.control.status(world.now);
    assert_eq!(
        (status.planes[0].failures.len(), &status.services[1].error),
        (0, &None)
    );
    assert_eq!(status.planes[0].repairs, 0);
}

#[test]
fn a_failure_is_tried_again_when_anything_about_it_changes() {
    let mut world = World::new();
    world.step();
    world.plane.fail(web(), broken());
    world.put(&file(), "web", service("web", "web", &["*:80/http"], &[1]));
    world.step();
    world.plane.mend();
    world.put(
        &file(),
        "web",
        service("web", "web", &["*:80/http"], &[1, 2]),
    );
    world.step();
    assert_eq!(world.services(), ["web"]);
}

#[test]
fn a_failure_is_forgotten_with_its_cause() {
    let mut world = World::new();
    world.step();
    world.plane.fail(web(), broken());
    world.put(&file(), "web", service("web", "web", &["*:80/http"], &[1]));
    world.step();
    world.remove(&file(), "web");
    assert_eq!(world.step().planes, []);
    assert_eq!(world.control.status(world.now).planes[0].failures, []);
}

#[test]
fn a_listen_that_was_freed_is_tried_at_once() {
    let mut world = World::new();
    world.put(&file(), "old", service("old", "old", &["*:80/tcp"], &[1]));
    world.step();
    let error = PlaneError::Listen {
        listen: "*:80/tcp".parse().unwrap(),
        reason: "address in use".into(),
    };
    world.plane.fail(web(), error.clone());
    world.put(&file(), "web", service("web", "web", &["*:80/tcp"], &[1]));
    world.remove(&file(), "old");
    let step = world.step();
    let tries = step.planes[0].results.iter().filter(|r| r.subject == web());
    assert_eq!(tries.filter(|r| r.result == Err(error.clone())).count(), 2);
    let status = world.control.status(world.now);
    let listen = &status.services[0].listens[0];
    assert_eq!(listen.error.as_deref(), Some("address in use"));
}

#[test]
fn an_audit_repairs_what_a_foreign_hand_changed() {
    let mut world = World::web(2);
    world.put(&file(), "r", route("r", "r", &["web"]));
    world.step();
    world.plane.alter(|held| {
        held.routes.clear();
        let web = held.services.get_mut(&name("web")).unwrap();
        std::sync::Arc::make_mut(web).backends.remove(&nth(1));
        let mut foreign = service("foreign", "foreign", &["*:81/tcp"], &[1]);
        foreign.backends.clear();
        held.services.insert(name("foreign"), foreign.into());
    });
    let step = world.wait(AUDIT);
    assert_eq!(step.planes[0].drift.len(), 3, "{:?}", step.planes[0].drift);
    assert_eq!(world.held(), **world.control.desired());
    let status = world.control.status(world.now);
    assert_eq!(
        (status.planes[0].repairs, status.planes[0].last_audit),
        (3, Some(0.0))
    );
    assert_eq!(world.wait(AUDIT).planes, []);
}

#[test]
fn a_step_that_does_not_fit_leads_to_an_audit_at_once() {
    let mut world = World::web(2);
    world.plane.alter(|held| held.services.clear());
    world.put(
        &file(),
        "web",
        service("web", "web", &["*:80/http"], &[1, 3]),
    );
    let step = world.step();
    let misfit = Err(PlaneError::Plan(PlanError::Missing(Subject::Backend(
        name("web"),
        nth(3),
    ))));
    assert_eq!(step.planes[0].results[0].result, misfit);
    assert_eq!(world.held(), **world.control.desired());
}

#[test]
fn what_the_plane_held_before_is_taken_over() {
    let (plane, handle) = FakePlane::named("proxy");
    let web = service("web", "web", &["*:80/http"], &[1]);
    handle.alter(|held| drop(held.services.insert(name("web"), web.clone().into())));
    let mut world = World::over(plane, handle);
    world.say(&file(), Update::Reset(vec![entry("web", web)]));
    assert_eq!(
        world.step().planes,
        [],
        "nothing to do and nothing to repair"
    );
    assert!(world.control.is_ready());
}

#[test]
fn what_the_plane_held_stays_until_its_source_has_said_what_it_has() {
    let (plane, handle) = FakePlane::named("proxy");
    let from = |source: &SourceId, text: &str| {
        let origin = Origin::new(source.name.clone(), text);
        let backend = Backend::new(nth(1), origin.clone());
        Service::new(ServiceSpec::new(name(text), origin, Vec::new()), [backend])
    };
    handle.alter(|held| {
        for service in [
            from(&docker(), "a"),
            from(&docker(), "b"),
            from(&file(), "c"),
        ] {
            held.services.insert(service.name().clone(), service.into());
        }
    });
    let mut world = World::over(plane, handle);
    world.control.expect(world.now, docker());
    world.control.expect(world.now, file());
    assert_eq!(world.step().planes, []);
    let stale = Update::Stale {
        reason: "refused".into(),
    };
    world.say(&docker(), stale.clone());
    world.say(&file(), Update::Reset(vec![entry("d", from(&file(), "d"))]));
    world.step();
    assert_eq!(world.services(), ["a", "b", "d"]);
    world.wait(AUDIT);
    assert_eq!(world.services(), ["a", "b", "d"]);
    world.say(
        &docker(),
        Update::Reset(vec![entry("a", from(&docker(), "a"))]),
    );
    world.step();
    assert_eq!(world.services(), ["a", "d"]);
    world.say(&docker(), stale);
    world.say(&file(), Update::Reset(Vec::new()));
    world.step();
    assert_eq!(world.services(), ["a"]);
}

#[test]
fn a_plane_that_cannot_be_read() {
    let mut world = World::new();
    world.plane.unreadable(Some(broken()));
    world.put(&file(), "web", service("web", "web", &["*:80/http"], &[1]));
    let step = world.step();
    assert_eq!(step.planes[0].error, Some(broken()));
    assert!(
        world.services().is_empty(),
        "nothing is done to what is not known"
    );
    assert!(!world.control.is_ready());
    assert!(step.next_deadline <= world.now + Duration::from_secs(1));
    world.plane.unreadable(None);
    world.wait(Duration::from_secs(1));
    assert_eq!(world.services(), ["web"]);

    world.plane.unreadable(Some(broken()));
    world.put(&file(), "api", service("api", "api", &[], &[1]));
    world.wait(AUDIT);
    assert_eq!(world.services(), ["api", "web"], "what was known is kept");
    assert_eq!(
        world.control.status(world.now).planes[0].error.as_deref(),
        Some("broken")
    );
}

/// A small state: services by number with their backends, and routes to some of them.
fn desired() -> impl Strategy<Value = Desired> {
    let services = prop::collection::btree_map(0u8..5, (0u32..2, 0u8..16), 0..5);
    let routes = prop::collection::btree_map(0u8..4, 0u8..3, 0..4);
    (services, routes).prop_map(|(services, routes)| {
        let mut desired = Desired::default();
        for (n, (retries, backends)) in services {
            let text = format!("s{n}");
            let mut service = service(&text, &text, &[], &[]);
            std::sync::Arc::make_mut(&mut service.spec).retries = retries;
            for n in (1..5).filter(|n| backends & (1 << (n - 1)) != 0) {
                let backend = Backend::new(nth(n), Origin::new("test", "b"));
                service.backends.insert(nth(n), backend.into());
            }
            desired.services.insert(name(&text), service.into());
        }
        for (n, to) in routes {
            let route = route("r", &format!("r{n}"), &[&format!("s{to}")]);
            desired.routes.insert(route.name.clone(), route.into());
        }
        desired
    })
}

fn subjects(ops: &[Op]) -> BTreeSet<Subject> {
    ops.iter().map(Op::subject).collect()
}

/// What differs, as control knows it from whoever changed it.
fn changed(before: &Desired, after: &Desired) -> Changed {
    let mut changed = Changed::default();
    for subject in subjects(&before.diff(after).ops) {
        match subject {
            Subject::Service(name) | Subject::Backend(name, _) => changed.service(&name),
            Subject::Route(_) => changed.routes(),
        }
    }
    changed
}

proptest! {
    /// A plane altered behind our back is repaired by the next audit.
    #[test]
    fn audits_repair(first in desired(), altered in desired(), second in desired()) {
        let (mut plane, handle) = FakePlane::new();
        let mut reconciler = Reconciler::default();
        let now = std::time::Instant::now();
        reconciler.audit(now, &mut plane, &first, NONE);
        prop_assert_eq!(handle.held(), first.clone());
        handle.alter(|held| *held = altered.clone());
        reconciler.reconcile(now, &mut plane, &second, &Changed::All, NONE);
        let audit = reconciler.audit(now, &mut plane, &second, NONE);
        prop_assert_eq!(handle.held(), second.clone());
        prop_assert_eq!(reconciler.shadow(), Some(&second));
        prop_assert_eq!(reconciler.failures().count(), 0);
        prop_assert_eq!(reconciler.repairs(), audit.drift.len() as u64);
        let audit = reconciler.audit(now, &mut plane, &second, NONE);
        prop_assert!(audit.drift.is_empty() && audit.results.is_empty());
    }

    /// Never more than what failed differs, the shadow is what the plane holds, and when the
    /// plane is mended the next audit ends it.
    #[test]
    fn failures_stay_where_they_are(
        states in prop::collection::vec(desired(), 1..5),
        pick in any::<u64>(),
    ) {
        let (mut plane, handle) = FakePlane::new();
        let mut reconciler = Reconciler::default();
        let now = std::time::Instant::now();
        reconciler.audit(now, &mut plane, &Desired::default(), NONE);
        let all: BTreeSet<Subject> = (states.iter())
            .flat_map(|state| subjects(&Desired::default().diff(state).ops))
            .chain((0..5).flat_map(|n| {
                (1..5).map(move |b| Subject::Backend(name(&format!("s{n}")), nth(b)))
            }))
            .collect();
        let failing: BTreeSet<&Subject> = (all.iter().enumerate())
            .filter(|(i, _)| pick.rotate_left(*i as u32 * 7) & 3 == 0)
            .map(|(_, subject)| subject)
            .collect();
        for subject in &failing {
            handle.fail(Subject::clone(subject), broken());
        }
        let mut before = Desired::default();
        for state in &states {
            reconciler.reconcile(now, &mut plane, state, &changed(&before, state), NONE);
            before = state.clone();
            prop_assert_eq!(reconciler.shadow(), Some(&plane.read().unwrap()));
            let differs = subjects(&handle.held().diff(state).ops);
            prop_assert!(differs.iter().all(|s| failing.contains(s)), "{:?}", differs);
            let kept: BTreeSet<Subject> = reconciler.failures().map(|(s, _)| s.clone()).collect();
            prop_assert_eq!(kept, differs);
        }
        handle.mend();
        let last = states.last().unwrap();
        reconciler.audit(now, &mut plane, last, NONE);
        prop_assert_eq!(&handle.held(), last);
    }
}
