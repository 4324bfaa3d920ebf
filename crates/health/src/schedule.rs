//! Which backend is checked when, and what follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use plimsoll_model::{Backend, BackendAddr, Check, Desired, Name, Service, State};

use crate::{Checkup, Verdict};

/// A check that is to be done, of one backend.
#[derive(Clone, Debug)]
pub struct Job {
    /// The service.
    pub service: Name,
    /// The backend.
    pub backend: BackendAddr,
    /// Where the check goes to: an address with a port, or a Unix socket.
    pub addr: BackendAddr,
    /// What is checked.
    pub check: Arc<Check>,
    /// When it was to begin.
    started: Instant,
    number: u64,
}

/// What checks found out about a backend that is not yet in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The service.
    pub service: Name,
    /// The backend.
    pub backend: BackendAddr,
    /// What follows for it.
    pub verdict: Verdict,
}

/// All backends under check.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    seed: u64,
    services: BTreeMap<Name, Entry>,
    due: BTreeSet<(Instant, Name, BackendAddr)>,
    /// How many checks were begun.
    begun: u64,
}

/// A service with a check.
#[derive(Clone, Debug)]
struct Entry {
    service: Arc<Service>,
    check: Arc<Check>,
    backends: BTreeMap<BackendAddr, Subject>,
}

/// A backend under check.
#[derive(Clone, Debug)]
struct Subject {
    checkup: Checkup,
    addr: BackendAddr,
    turn: Turn,
}

#[derive(Clone, Copy, Debug)]
enum Turn {
    /// The next check begins then.
    Due(Instant),
    /// The check of this number is under way.
    Running(u64),
}

impl Schedule {
    /// Nothing is checked yet. The seed decides the jitter of the intervals.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }

    /// This is desired now: what is gone, draining or without a check is forgotten; what is new is
    /// checked at once, as is what has another check now. A new backend that is ready already stays
    /// so until its checks fail.
    pub fn set(&mut self, now: Instant, desired: &Desired) {
        let Self { services, due, .. } = self;
        services.retain(|name, entry| {
            let service = desired.services.get(name);
            let stays = service.is_some_and(|service| service.spec.check.is_some());
            if !stays {
                entry.clear(name, due);
            }
            stays
        });
        for (name, service) in &desired.services {
            let Some(check) = &service.spec.check else {
                continue;
            };
            match services.get_mut(name) {
                Some(entry) if Arc::ptr_eq(&entry.service, service) => {}
                Some(entry) => entry.update(now, service, check, due),
                None => {
                    let mut entry = Entry {
                        service: service.clone(),
                        check: check.clone().into(),
                        backends: BTreeMap::new(),
                    };
                    entry.update(now, service, check, due);
                    services.insert(name.clone(), entry);
                }
            }
        }
    }

    /// The next check that is to begin by now.
    pub fn next(&mut self, now: Instant) -> Option<Job> {
        while self.due.first().is_some_and(|(at, ..)| *at <= now) {
            let (at, service, backend) = self.due.pop_first()?;
            let Some(entry) = self.services.get_mut(&service) else {
                continue;
            };
            let Some(subject) = entry.backends.get_mut(&backend) else {
                continue;
            };
            self.begun += 1;
            subject.turn = Turn::Running(self.begun);
            return Some(Job {
                addr: subject.addr.clone(),
                check: entry.check.clone(),
                started: at,
                number: self.begun,
                service,
                backend,
            });
        }
        None
    }

    /// When [`Schedule::next`] has something, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.due.first().map(|(at, ..)| *at)
    }

    /// How many backends are under check.
    pub fn len(&self) -> usize {
        self.services.values().map(|e| e.backends.len()).sum()
    }

    /// Whether nothing is under check.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// A check has ended. What is to be said of it, if that is not in force yet; nothing if the
    /// backend is not under this check any more.
    pub fn outcome(
        &mut self,
        now: Instant,
        job: Job,
        outcome: Result<(), Arc<str>>,
    ) -> Option<Finding> {
        let entry = self.services.get_mut(&job.service)?;
        let subject = entry.backends.get_mut(&job.backend)?;
        if !matches!(subject.turn, Turn::Running(number) if number == job.number) {
            return None;
        }
        subject.checkup.outcome(now, &job.check, outcome);
        let jitter = crate::jitter(self.seed, &job.service, &job.backend, job.number);
        let next = job.started + subject.checkup.pause(&job.check, jitter);
        let next = next.max(now);
        subject.turn = Turn::Due(next);
        let known = entry.service.backends.get(&job.backend);
        let verdict = subject.checkup.verdict();
        let news = verdict.filter(|verdict| !known.is_some_and(|b| is_in_force(verdict, b)));
        let (service, backend) = (job.service, job.backend);
        self.due.insert((next, service.clone(), backend.clone()));
        news.map(|verdict| Finding {
            service,
            backend,
            verdict,
        })
    }
}

/// Whether a verdict need not be said, as it shows. Where it is not the verdict that shows but a
/// word that counts before it, it is said once more for nothing.
fn is_in_force(verdict: &Verdict, backend: &Backend) -> bool {
    let status = &backend.status;
    status.state == verdict.state
        && (verdict.state == State::Ready || status.reason == verdict.reason)
}

impl Entry {
    fn update(
        &mut self,
        now: Instant,
        service: &Arc<Service>,
        check: &Check,
        due: &mut BTreeSet<(Instant, Name, BackendAddr)>,
    ) {
        let name = service.name();
        let other = *self.check != *check;
        if other {
            self.check = check.clone().into();
        }
        let addr = |backend: &Arc<Backend>| {
            let draining = backend.status.state == State::Draining;
            service.check_addr(backend).filter(|_| !draining)
        };
        self.backends.retain(|key, subject| {
            let stays = service.backends.get(key).and_then(addr).is_some();
            if !stays {
                subject.forget_turn(name, key, due);
            }
            stays
        });
        for (key, backend) in &service.backends {
            let Some(addr) = addr(backend) else {
                continue;
            };
            // One that is `starting` again, because it was away in the meantime, is new.
            let starting = |service: &Service| {
                let backend = service.backends.get(key);
                backend.is_some_and(|b| b.status.state == State::Starting)
            };
            let anew = starting(service) && !starting(&self.service);
            match self.backends.get_mut(key).filter(|_| !anew) {
                Some(subject) if !other && subject.addr == addr => continue,
                Some(subject) => {
                    subject.forget_turn(name, key, due);
                    subject.checkup.restart(now);
                    subject.addr = addr;
                    subject.turn = Turn::Due(now);
                }
                None => {
                    let checkup = match backend.status.state {
                        State::Ready => Checkup::serving(),
                        _ => Checkup::new(now),
                    };
                    let turn = Turn::Due(now);
                    let subject = Subject {
                        checkup,
                        addr,
                        turn,
                    };
                    if let Some(old) = self.backends.insert(key.clone(), subject) {
                        old.forget_turn(name, key, due);
                    }
                }
            }
            due.insert((now, name.clone(), key.clone()));
        }
        self.service = service.clone();
    }

    fn clear(&self, name: &Name, due: &mut BTreeSet<(Instant, Name, BackendAddr)>) {
        for (key, subject) in &self.backends {
            subject.forget_turn(name, key, due);
        }
    }
}

impl Subject {
    fn forget_turn(
        &self,
        name: &Name,
        key: &BackendAddr,
        due: &mut BTreeSet<(Instant, Name, BackendAddr)>,
    ) {
        if let Turn::Due(at) = self.turn {
            due.remove(&(at, name.clone(), key.clone()));
        }
    }
}
