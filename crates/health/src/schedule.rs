//! Which backend is checked when, and what follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use plimsoll_model::{
    Backend, BackendAddr, Check, Desired, Name, ProxyVersion, Service, State, ToBackends,
};

use crate::{Checkup, Verdict};

/// Checks under way at most; those that are due then wait for their turn, the oldest first.
///
/// A service begins another only while more are free than it has: whatever hangs, it leaves half of
/// them to others, and with n services that hang there is one part in n + 1 left.
const AT_ONCE: usize = 256;

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
    /// What the connection begins with: a PROXY header if the service sends such to its backends,
    /// unless the check goes to a port of its own, as with HAProxy's `check-send-proxy`.
    pub header: &'static [u8],
    /// How the connection leaves, if the service says it.
    pub to: Option<Arc<ToBackends>>,
    /// Which check this is, unique in its schedule.
    pub number: u64,
    /// When it was to begin.
    started: Instant,
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
    /// When the first of each service is due that has something due.
    due: BTreeSet<(Instant, Name)>,
    /// How many checks were begun.
    begun: u64,
    /// How many of them are under way.
    running: usize,
}

/// A service with a check.
#[derive(Clone, Debug)]
struct Entry {
    service: Arc<Service>,
    check: Arc<Check>,
    backends: BTreeMap<BackendAddr, Subject>,
    due: BTreeSet<(Instant, BackendAddr)>,
    /// How many checks are under way.
    running: usize,
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
    ///
    /// The numbers of the jobs under way that nobody waits for any more: they are to be broken off.
    pub fn set(&mut self, now: Instant, desired: &Desired) -> Vec<u64> {
        let Self { services, due, .. } = self;
        let mut vain = Vec::new();
        services.retain(|name, entry| {
            let service = desired.services.get(name);
            let stays = service.is_some_and(|service| service.spec.check.is_some());
            if !stays {
                entry.edit(name, due, |entry| entry.clear(&mut vain));
            }
            stays
        });
        for (name, service) in &desired.services {
            let Some(check) = &service.spec.check else {
                continue;
            };
            match services.get_mut(name) {
                Some(entry) if Arc::ptr_eq(&entry.service, service) => {}
                Some(entry) => entry.edit(name, due, |entry| {
                    entry.update(now, service, check, &mut vain);
                }),
                None => {
                    let mut entry = Entry {
                        service: service.clone(),
                        check: check.clone().into(),
                        backends: BTreeMap::new(),
                        due: BTreeSet::new(),
                        running: 0,
                    };
                    entry.edit(name, due, |entry| {
                        entry.update(now, service, check, &mut vain);
                    });
                    services.insert(name.clone(), entry);
                }
            }
        }
        self.running = self.running.saturating_sub(vain.len());
        vain
    }

    /// The next check that is to begin by now. None is while too many are under way, of all or of
    /// the services where one is due.
    pub fn next(&mut self, now: Instant) -> Option<Job> {
        let (_, name) = self.first().filter(|(at, _)| *at <= now)?.clone();
        let entry = self.services.get_mut(&name)?;
        let number = self.begun + 1;
        let job = entry.edit(&name, &mut self.due, |entry| entry.begin(&name, number))?;
        self.begun = number;
        self.running += 1;
        Some(job)
    }

    /// When [`Schedule::next`] has something, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.first().map(|(at, _)| *at)
    }

    /// The first service, by when it is due, that may begin a check.
    fn first(&self) -> Option<&(Instant, Name)> {
        let free = AT_ONCE.saturating_sub(self.running);
        if free == 0 {
            return None;
        }
        // Those passed over have checks under way, so they are not many.
        self.due.iter().find(|(_, name)| {
            let entry = self.services.get(name);
            entry.is_some_and(|entry| entry.running < free)
        })
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
        self.running = self.running.saturating_sub(1);
        let known = entry.service.backends.get(&job.backend);
        let verdict = subject.checkup.verdict();
        let news = verdict.filter(|verdict| !known.is_some_and(|b| is_in_force(verdict, b)));
        let (service, backend) = (job.service, job.backend);
        entry.edit(&service, &mut self.due, |entry| {
            entry.running = entry.running.saturating_sub(1);
            entry.due.insert((next, backend.clone()));
        });
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
    /// Changes what is due, and keeps `due` of all services in step.
    fn edit<T>(
        &mut self,
        name: &Name,
        due: &mut BTreeSet<(Instant, Name)>,
        edit: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let first = |entry: &Self| entry.due.first().map(|(at, _)| *at);
        let before = first(self);
        let result = edit(self);
        let after = first(self);
        if before != after {
            if let Some(at) = before {
                due.remove(&(at, name.clone()));
            }
            if let Some(at) = after {
                due.insert((at, name.clone()));
            }
        }
        result
    }

    /// Begins the check that is due first.
    fn begin(&mut self, name: &Name, number: u64) -> Option<Job> {
        let (started, backend) = self.due.pop_first()?;
        let subject = self.backends.get_mut(&backend)?;
        subject.turn = Turn::Running(number);
        self.running += 1;
        let send = self.service.spec.proxy_headers.send;
        let header = send.filter(|_| self.check.port.is_none());
        Some(Job {
            header: header.map_or(&[], ProxyVersion::own_header),
            to: self.service.spec.to_backends.clone(),
            service: name.clone(),
            addr: subject.addr.clone(),
            check: self.check.clone(),
            number,
            started,
            backend,
        })
    }

    fn update(&mut self, now: Instant, service: &Arc<Service>, check: &Check, vain: &mut Vec<u64>) {
        let Self {
            backends,
            due,
            running,
            ..
        } = self;
        let mut forget = |subject: &Subject, key: &BackendAddr, due: &mut BTreeSet<_>| {
            if let Some(number) = subject.forget_turn(key, due) {
                *running = running.saturating_sub(1);
                vain.push(number);
            }
        };
        let other = *self.check != *check;
        if other {
            self.check = check.clone().into();
        }
        let addr = |backend: &Arc<Backend>| {
            let draining = backend.status.state == State::Draining;
            service.check_addr(backend).filter(|_| !draining)
        };
        backends.retain(|key, subject| {
            let stays = service.backends.get(key).and_then(addr).is_some();
            if !stays {
                forget(subject, key, due);
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
            match backends.get_mut(key).filter(|_| !anew) {
                Some(subject) if !other && subject.addr == addr => continue,
                Some(subject) => {
                    forget(subject, key, due);
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
                    if let Some(old) = backends.insert(key.clone(), subject) {
                        forget(&old, key, due);
                    }
                }
            }
            due.insert((now, key.clone()));
        }
        self.service = service.clone();
    }

    fn clear(&mut self, vain: &mut Vec<u64>) {
        for (key, subject) in &self.backends {
            vain.extend(subject.forget_turn(key, &mut self.due));
        }
        self.running = 0;
    }
}

impl Subject {
    /// It is not due any more. The number of its check that is under way, if there is one.
    fn forget_turn(
        &self,
        key: &BackendAddr,
        due: &mut BTreeSet<(Instant, BackendAddr)>,
    ) -> Option<u64> {
        match self.turn {
            Turn::Due(at) => {
                due.remove(&(at, key.clone()));
                None
            }
            Turn::Running(number) => Some(number),
        }
    }
}
