//! Properties of the diff between two desired states.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::Arc;

use plimsoll_model::{
    Backend, BackendAddr, Desired, HostPattern, Name, Op, Origin, PathPrefix, Plan, PlanError,
    Route, SchedulerKind, Service, ServiceSpec, State, Status, Subject, WeightedService,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

fn name(n: u8) -> Name {
    format!("n{n}").parse().unwrap()
}

fn addr(n: u8) -> BackendAddr {
    format!("10.0.0.{n}:80").parse().unwrap()
}

fn backends() -> impl Strategy<Value = Vec<Backend>> {
    let state = prop_oneof![Just(State::Ready), Just(State::Draining), Just(State::Down)];
    btree_map(0u8..6, (0u32..3, state), 0..5).prop_map(|all| {
        let backend = |(n, (weight, state))| Backend {
            weight,
            status: Status::new(state, "r"),
            ..Backend::new(addr(n), Origin::new("test", "b"))
        };
        all.into_iter().map(backend).collect()
    })
}

fn desired() -> impl Strategy<Value = Desired> {
    let kind = prop_oneof![Just(SchedulerKind::Rr), Just(SchedulerKind::Lc)];
    let service = (kind, 0u32..2, backends());
    let services = btree_map(0u8..6, service, 0..6).prop_map(|all| {
        let service = |(n, (kind, retries, backends))| {
            let mut spec = ServiceSpec::new(name(n), Origin::new("test", "s"), Vec::new());
            spec.scheduler.kind = kind;
            spec.retries = retries;
            (name(n), Arc::new(Service::new(spec, backends)))
        };
        all.into_iter().map(service).collect()
    });
    let route = (-1i32..2, vec(0u8..6, 1..3));
    let routes = btree_map(0u8..6, route, 0..6).prop_map(|all| {
        let route = |(n, (priority, services)): (u8, (i32, Vec<u8>))| {
            let services: BTreeSet<u8> = services.into_iter().collect();
            let to = |n| WeightedService {
                service: name(n),
                weight: 1,
            };
            let route = Route {
                name: name(n),
                origin: Origin::new("test", "r"),
                hosts: vec![HostPattern::Any],
                path: PathPrefix::root(),
                listens: Vec::new(),
                priority,
                services: services.into_iter().map(to).collect(),
                http: None,
            };
            (name(n), Arc::new(route))
        };
        all.into_iter().map(route).collect()
    });
    (services, routes).prop_map(|(services, routes)| Desired { services, routes })
}

/// Whether a step only adds or changes, takes a route away, or takes a backend or service away.
fn phase(op: &Op) -> u8 {
    match op {
        Op::RemoveBackend(..) => 1,
        Op::RemoveService(_) => 2,
        _ => 0,
    }
}

proptest! {
    #[test]
    fn a_diff_leads_there(from in desired(), to in desired()) {
        let mut state = from.clone();
        for op in from.diff(&to).ops {
            prop_assert_eq!(state.apply(&op), Ok(()), "{:?}", op);
        }
        prop_assert_eq!(state, to);
    }

    /// What is looked at is what the whole diff says of it, however much the two states share.
    #[test]
    fn a_part_of_a_diff(
        from in desired(),
        mut to in desired(),
        shared in any::<u8>(),
        some in any::<u8>(),
        routes in any::<bool>(),
    ) {
        let is_one = |bits: u8, n: u8| bits >> n & 1 == 1;
        for n in (0..6).filter(|n| is_one(shared, *n)) {
            if let Some(service) = from.services.get(&name(n)) {
                to.services.insert(name(n), service.clone());
            }
            if let Some(route) = from.routes.get(&name(n)) {
                to.routes.insert(name(n), route.clone());
            }
        }
        let names: BTreeSet<Name> = (0..6).filter(|n| is_one(some, *n)).map(name).collect();
        let mut all = from.diff(&to);
        all.ops.retain(|op| match op.subject() {
            Subject::Service(name) | Subject::Backend(name, _) => names.contains(&name),
            Subject::Route(_) => routes,
        });
        prop_assert_eq!(from.diff_of(&to, &names, routes), all);
    }

    #[test]
    fn equal_states_need_nothing(state in desired()) {
        prop_assert_eq!(state.diff(&state), Plan::default());
        let copy = Desired {
            services: (state.services.iter())
                .map(|(n, s)| (n.clone(), Arc::new(Service::new(
                    ServiceSpec::clone(&s.spec),
                    s.backends.values().map(|b| Backend::clone(b)),
                ))))
                .collect(),
            routes: (state.routes.iter())
                .map(|(n, r)| (n.clone(), Arc::new(Route::clone(r))))
                .collect(),
        };
        prop_assert_eq!(state.diff(&copy), Plan::default());
    }

    #[test]
    fn make_before_break_and_one_step_per_subject(from in desired(), to in desired()) {
        let plan = from.diff(&to);
        let phases: Vec<u8> = plan.ops.iter().map(phase).collect();
        prop_assert!(phases.is_sorted(), "{:?}", plan);
        let subjects: BTreeSet<_> = plan.ops.iter().map(Op::subject).collect();
        prop_assert_eq!(subjects.len(), plan.ops.len());
    }

    /// Steps fail alone: whichever are left out, the others still fit, and what differs in the end
    /// is what was left out.
    #[test]
    fn steps_do_not_need_each_other(
        from in desired(),
        to in desired(),
        skip in vec(any::<bool>(), 64),
    ) {
        let mut state = from.clone();
        let mut left = BTreeSet::new();
        for (i, op) in from.diff(&to).ops.iter().enumerate() {
            if skip[i % skip.len()] {
                left.insert(op.subject());
            } else {
                prop_assert_eq!(state.apply(op), Ok(()), "{:?}", op);
            }
        }
        let differs: BTreeSet<_> = state.diff(&to).ops.iter().map(Op::subject).collect();
        prop_assert_eq!(differs, left);
    }

    /// A step that does not fit says so and changes nothing.
    #[test]
    fn a_step_that_does_not_fit_changes_nothing(from in desired(), to in desired()) {
        let mut state = to.clone();
        for op in from.diff(&to).ops {
            let before = state.clone();
            match state.apply(&op) {
                Ok(()) => prop_assert!(matches!(
                    op,
                    Op::SetSpec(_) | Op::SetBackend(..) | Op::PutRoute(_)
                )),
                Err(PlanError::Exists(subject)) => {
                    prop_assert_eq!(subject, op.subject());
                    prop_assert!(matches!(op, Op::AddService(_) | Op::AddBackend(..)));
                }
                Err(PlanError::Missing(subject)) => {
                    prop_assert_eq!(subject, op.subject());
                    prop_assert!(matches!(
                        op,
                        Op::RemoveService(_) | Op::RemoveBackend(..) | Op::RemoveRoute(_)
                    ));
                }
            }
            prop_assert_eq!(&state, &before);
        }
    }
}
