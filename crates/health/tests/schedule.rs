//! Which backend is checked when, in virtual time.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_health::{Job, Schedule};
use plimsoll_model::{
    Backend, BackendAddr, Check, Desired, Name, Origin, Service, ServiceSpec, State, Status,
};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn nth(n: u8) -> BackendAddr {
    format!("10.0.0.{n}:80").parse().unwrap()
}

/// What is desired, the schedule, and the time.
struct Bench {
    schedule: Schedule,
    desired: Desired,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self {
            schedule: Schedule::new(7),
            desired: Desired::default(),
            now: Instant::now(),
        }
    }

    /// A service with this check, and backends in these states.
    fn put(&mut self, text: &str, check: Option<&str>, backends: &[(u8, State)]) {
        let check = check.map(|check| check.parse().unwrap());
        self.put_with(text, check, backends);
    }

    fn put_with(&mut self, text: &str, check: Option<Check>, backends: &[(u8, State)]) {
        let origin = Origin::new("test", text);
        let mut spec = ServiceSpec::new(name(text), origin.clone(), Vec::new());
        spec.check = check;
        let backends = backends.iter().map(|(n, state)| Backend {
            status: Status::new(*state, ""),
            ..Backend::new(nth(*n), origin.clone())
        });
        let service = Service::new(spec, backends);
        self.desired.services.insert(name(text), service.into());
        self.set();
    }

    fn set(&mut self) {
        self.schedule.set(self.now, &self.desired);
    }

    /// All that is due now.
    fn due(&mut self) -> Vec<Job> {
        let mut jobs = Vec::new();
        while let Some(job) = self.schedule.next(self.now) {
            jobs.push(job);
        }
        jobs
    }

    /// The backends that are due now.
    fn due_backends(&mut self) -> Vec<BackendAddr> {
        self.due().into_iter().map(|job| job.backend).collect()
    }

    /// The check of a job ends at once; the state that is said of it, if any.
    fn end(&mut self, job: Job, good: bool) -> Option<State> {
        let outcome = if good {
            Ok(())
        } else {
            Err("it failed".into())
        };
        let finding = self.schedule.outcome(self.now, job, outcome)?;
        Some(finding.verdict.state)
    }

    /// Waits for the next that is due.
    fn wait(&mut self) -> Vec<Job> {
        self.now = self.schedule.next_deadline().unwrap();
        self.due()
    }
}

use State::{Down, Draining, Ready, Starting};

#[test]
fn only_what_has_a_check_is_checked() {
    let mut bench = Bench::new();
    bench.put(
        "web",
        Some("tcp"),
        &[(1, Starting), (2, Down), (3, Draining)],
    );
    bench.put("plain", None, &[(4, Ready)]);
    assert_eq!(bench.schedule.len(), 2);
    assert_eq!(bench.due_backends(), [nth(1), nth(2)]);
    assert_eq!(bench.due_backends(), [], "they are under way");
    assert_eq!(bench.schedule.next_deadline(), None);
}

#[test]
fn the_next_check_is_one_interval_after_the_last_began() {
    let mut bench = Bench::new();
    bench.put("web", Some("tcp"), &[(1, Ready)]);
    let start = bench.now;
    let job = bench.due().remove(0);
    bench.now += SECOND;
    assert_eq!(bench.end(job, true), None, "it is ready already");
    let next = bench.schedule.next_deadline().unwrap() - start;
    assert!(next <= 5 * SECOND && next >= 4 * SECOND, "{next:?}");
    // A check that takes longer than that is followed by the next at once.
    let job = bench.wait().remove(0);
    bench.now += 60 * SECOND;
    bench.end(job, true);
    assert_eq!(bench.schedule.next_deadline(), Some(bench.now));
}

#[test]
fn what_is_said_is_said_until_it_is_in_force() {
    let mut bench = Bench::new();
    bench.put("web", Some("tcp"), &[(1, Starting)]);
    let job = bench.due().remove(0);
    assert_eq!(bench.end(job, true), Some(Ready));
    let job = bench.wait().remove(0);
    assert_eq!(bench.end(job, true), Some(Ready), "nobody heard");
    bench.put("web", Some("tcp"), &[(1, Ready)]);
    for _ in 0..2 {
        let job = bench.wait().remove(0);
        assert_eq!(bench.end(job, false), None);
    }
    let job = bench.wait().remove(0);
    assert_eq!(bench.end(job, false), Some(Down));
}

#[test]
fn what_is_gone_draining_or_without_a_check_is_forgotten() {
    let changes: [fn(&mut Bench); 4] = [
        |b| b.put("web", Some("tcp"), &[(2, Ready)]),
        |b| b.put("web", Some("tcp"), &[(1, Draining), (2, Ready)]),
        |b| b.put("web", None, &[(1, Ready), (2, Ready)]),
        |b| {
            b.desired.services.clear();
            b.set();
        },
    ];
    for change in changes {
        let mut bench = Bench::new();
        bench.put("web", Some("tcp"), &[(1, Ready), (2, Ready)]);
        let mut jobs = bench.due();
        let first = jobs.remove(0);
        change(&mut bench);
        assert_eq!(bench.end(first, false), None, "late news");
        for job in jobs {
            bench.end(job, true);
        }
        bench.now += 60 * SECOND;
        assert!(!bench.due_backends().contains(&nth(1)));
        // When it is back it is as new.
        bench.put("web", Some("tcp"), &[(1, Starting), (2, Ready)]);
        let job = bench.due().into_iter().find(|job| job.backend == nth(1));
        assert_eq!(bench.end(job.unwrap(), true), Some(Ready));
    }
}

#[test]
fn what_has_the_same_check_keeps_its_state() {
    let mut bench = Bench::new();
    bench.put("web", Some("tcp"), &[(1, Ready)]);
    for _ in 0..2 {
        let job = bench.due().pop().unwrap_or_else(|| bench.wait().remove(0));
        assert_eq!(bench.end(job, false), None);
    }
    let before = bench.schedule.next_deadline();
    bench.put("web", Some("tcp"), &[(1, Ready), (2, Starting)]);
    assert_eq!(bench.due_backends(), [nth(2)]);
    assert_eq!(bench.schedule.next_deadline(), before);
    let job = bench.wait().remove(0);
    assert_eq!(bench.end(job, false), Some(Down), "the third in a row");
}

#[test]
fn another_check_begins_at_once() {
    let mut bench = Bench::new();
    bench.put("web", Some("tcp"), &[(1, Ready)]);
    let late = bench.due().remove(0);
    bench.put("web", Some("http:/health"), &[(1, Ready)]);
    let job = bench.due().remove(0);
    assert_eq!(job.check.to_string(), "http:/health");
    assert_eq!(bench.end(late, false), None, "of the check before");
    assert_eq!(bench.end(job, false), None, "one of three");
    // Another port is another check, too.
    let mut check: Check = "http:/health".parse().unwrap();
    check.port = Some(81);
    bench.put_with("web", Some(check), &[(1, Ready)]);
    let job = bench.due().remove(0);
    assert_eq!(job.addr, "10.0.0.1:81".parse().unwrap());
}

#[test]
fn what_is_starting_again_is_checked_at_once() {
    let mut bench = Bench::new();
    bench.put("web", Some("tcp"), &[(1, Ready)]);
    let job = bench.due().remove(0);
    bench.end(job, true);
    // It was drained and came back before anybody looked.
    bench.put("web", Some("tcp"), &[(1, Starting)]);
    let job = bench.due().remove(0);
    bench.put("web", Some("tcp"), &[(1, Starting), (2, Draining)]);
    assert_eq!(bench.due_backends(), [], "it is under way");
    assert_eq!(bench.end(job, true), Some(Ready));
}

#[test]
fn checks_that_began_together_spread_out() {
    let mut bench = Bench::new();
    let all: Vec<(u8, State)> = (1..=100).map(|n| (n, Ready)).collect();
    bench.put("web", Some("tcp"), &all);
    for job in bench.due() {
        bench.end(job, true);
    }
    let mut times = BTreeSet::new();
    for _ in 0..100 {
        for job in bench.wait() {
            times.insert(bench.now);
            bench.end(job, true);
        }
    }
    assert!(times.len() > 50, "{} times", times.len());
}

#[derive(Clone, Debug)]
enum Happens {
    Put(u8, Option<bool>, Vec<(u8, u8)>),
    Remove(u8),
    End(usize, bool),
    Wait(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    let backends = prop::collection::btree_map(0u8..5, 0u8..4, 0..5);
    let backends = backends.prop_map(|all| all.into_iter().collect());
    prop_oneof![
        3 => (0u8..3, any::<Option<bool>>(), backends)
            .prop_map(|(s, check, b)| Happens::Put(s, check, b)),
        1 => (0u8..3).prop_map(Happens::Remove),
        4 => (0usize..20, any::<bool>()).prop_map(|(i, good)| Happens::End(i, good)),
        2 => (0u64..8000).prop_map(Happens::Wait),
    ]
}

proptest! {
    /// Whatever happens, just those are checked that are to be: each is under way or due within
    /// its interval, none twice at a time, and nothing is said of others.
    #[test]
    fn just_those_and_each_of_them(history in prop::collection::vec(happens(), 0..80)) {
        let states = [Starting, Ready, Draining, Down];
        let mut bench = Bench::new();
        let mut running: Vec<Job> = Vec::new();
        for event in history {
            match event {
                Happens::Put(s, check, backends) => {
                    let check = check.map(|tcp| if tcp { "tcp" } else { "http:/" });
                    let backends = backends.into_iter().map(|(n, s)| (n, states[usize::from(s)]));
                    let backends: Vec<(u8, State)> = backends.collect();
                    bench.put(&format!("s{s}"), check, &backends);
                }
                Happens::Remove(s) => {
                    bench.desired.services.remove(&name(&format!("s{s}")));
                    bench.set();
                }
                Happens::End(i, good) if !running.is_empty() => {
                    let job = running.swap_remove(i % running.len());
                    let (service, backend) = (job.service.clone(), job.backend.clone());
                    if bench.end(job, good).is_some() {
                        let service = bench.desired.services.get(&service).unwrap();
                        prop_assert!(service.spec.check.is_some());
                        let state = service.backends[&backend].status.state;
                        prop_assert_ne!(state, Draining);
                    }
                }
                Happens::End(..) => {}
                Happens::Wait(ms) => bench.now += Duration::from_millis(ms),
            }
            running.extend(bench.due());
            let wanted: BTreeSet<(Name, BackendAddr)> = bench.desired.services.values()
                .filter(|s| s.spec.check.is_some())
                .flat_map(|s| s.backends.values().map(move |b| (s, b)))
                .filter(|(_, b)| b.status.state != Draining)
                .map(|(s, b)| (s.name().clone(), b.addr.clone()))
                .collect();
            prop_assert_eq!(bench.schedule.len(), wanted.len());
            if let Some(next) = bench.schedule.next_deadline() {
                prop_assert!(next > bench.now && next <= bench.now + 5 * SECOND);
            }
        }
        // In the end every one of them gets its turn, once those under way have ended.
        for job in std::mem::take(&mut running) {
            bench.end(job, true);
        }
        bench.now += 5 * SECOND;
        let mut seen: BTreeMap<(Name, BackendAddr), u32> = BTreeMap::new();
        for job in bench.due() {
            *seen.entry((job.service, job.backend)).or_default() += 1;
        }
        prop_assert_eq!(seen.len(), bench.schedule.len());
        prop_assert!(seen.values().all(|times| *times == 1));
    }
}

#[test]
fn unix_sockets_are_checked_where_they_are() {
    let mut bench = Bench::new();
    let origin = Origin::new("test", "web");
    let mut spec = ServiceSpec::new(name("web"), origin.clone(), Vec::new());
    spec.check = Some("tcp".parse().unwrap());
    let addr: BackendAddr = "unix:/run/web.sock".parse().unwrap();
    let service = Service::new(spec, [Backend::new(addr.clone(), origin)]);
    bench
        .desired
        .services
        .insert(name("web"), Arc::new(service));
    bench.set();
    assert_eq!(bench.due()[0].addr, addr);
}

/// A service of 200 backends; none of its checks ends by itself.
fn hangs(bench: &mut Bench, text: &str) {
    let backends: Vec<_> = (0..200).map(|n| (n, Starting)).collect();
    bench.put(text, Some("tcp"), &backends);
}

/// How many jobs each service has.
fn by_service(jobs: &[Job]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for job in jobs {
        *counts.entry(job.service.as_str()).or_default() += 1;
    }
    counts
}

#[test]
fn what_hangs_leaves_room_for_others() {
    let mut bench = Bench::new();
    hangs(&mut bench, "a");
    let mut jobs = bench.due();
    assert_eq!(by_service(&jobs), [("a", 128)].into());
    // What is due there waits, and is no reason to look again.
    assert_eq!(bench.schedule.next_deadline(), None);
    hangs(&mut bench, "b");
    jobs.extend(bench.due());
    assert_eq!(by_service(&jobs), [("a", 128), ("b", 64)].into());
    hangs(&mut bench, "c");
    jobs.extend(bench.due());
    assert_eq!(jobs.len(), 128 + 64 + 32);
    bench.put("z", Some("tcp"), &[(1, Starting)]);
    assert_eq!(bench.schedule.next_deadline(), Some(bench.now));
    let good = bench.due();
    assert_eq!(by_service(&good), [("z", 1)].into());
    for job in good {
        assert_eq!(bench.end(job, true), Some(Ready));
    }
    // Each that ends makes room for one that waited; at last all had their turn.
    let mut seen = BTreeSet::new();
    while let Some(job) = jobs.pop() {
        seen.insert((job.service.clone(), job.backend.clone()));
        bench.end(job, false);
        jobs.extend(bench.due());
        assert!(jobs.len() < 256);
    }
    assert_eq!(seen.len(), 600);
}

#[test]
fn what_nobody_waits_for_is_broken_off() {
    let mut bench = Bench::new();
    bench.put("a", Some("tcp"), &[(1, Starting), (2, Starting)]);
    bench.put("b", Some("tcp"), &[(1, Starting)]);
    let jobs = bench.due();
    let number = |text: &str, n| {
        let found = jobs
            .iter()
            .find(|job| job.service == name(text) && job.backend == nth(n));
        found.unwrap().number
    };
    let change = |bench: &mut Bench, edit: &dyn Fn(&mut Service)| {
        edit(Arc::make_mut(bench.desired.services.get_mut("a").unwrap()));
        bench.schedule.set(bench.now, &bench.desired)
    };
    assert_eq!(change(&mut bench, &|_| {}), []);
    let gone = change(&mut bench, &|a| drop(a.backends.remove(&nth(1))));
    assert_eq!(gone, [number("a", 1)]);
    // Another check is begun at once in the place of the one under way.
    let other = change(&mut bench, &|a| {
        let mut spec = ServiceSpec::clone(&a.spec);
        spec.check = Some("http".parse().unwrap());
        *a = Service::new(spec, a.backends.values().map(|b| Backend::clone(b)));
    });
    assert_eq!(other, [number("a", 2)]);
    let again = bench.due();
    assert_eq!(by_service(&again), [("a", 1)].into());
    bench.desired.services.clear();
    let mut all = bench.schedule.set(bench.now, &bench.desired);
    all.sort_unstable();
    assert_eq!(all, [number("b", 1), again[0].number]);
    // What they held is free: as many as ever may begin.
    hangs(&mut bench, "c");
    assert_eq!(bench.due().len(), 128);
    for job in jobs {
        assert_eq!(bench.end(job, true), None);
    }
}
