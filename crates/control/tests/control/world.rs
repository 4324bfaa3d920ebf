//! What the tests of control share: a world of one control, one fake plane and virtual time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_control::{Command, Control, Settings, Step, Verdict};
use plimsoll_model::{
    Backend, BackendAddr, Desired, Entry, EntryKey, Item, Name, Origin, PathPrefix, Precedence,
    Route, Service, ServiceSpec, SourceId, SourceUpdate, State, Update, WeightedService,
};
use plimsoll_plane::Event;
use plimsoll_plane::fake::{FakePlane, Handle};

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// The address of the `n`th backend.
pub fn nth(n: u8) -> BackendAddr {
    format!("10.0.0.{n}:80").parse().unwrap()
}

pub fn file() -> SourceId {
    SourceId::new(Precedence::File, "file:test")
}

pub fn docker() -> SourceId {
    SourceId::new(Precedence::Engine, "docker:test")
}

pub fn hand() -> SourceId {
    SourceId::new(Precedence::Hand, "ipvsadm")
}

/// A service said by an entry, with these listens and backends.
pub fn service(entry: &str, text: &str, listens: &[&str], backends: &[u8]) -> Service {
    let origin = Origin::new("test", entry);
    let listens = listens.iter().map(|l| l.parse().unwrap()).collect();
    let backends = backends.iter();
    Service::new(
        ServiceSpec::new(name(text), origin.clone(), listens),
        backends.map(|n| Backend::new(nth(*n), origin.clone())),
    )
}

/// `web` with a check.
pub fn checked(backends: &[u8]) -> Service {
    let mut web = service("web", "web", &["*:80/http"], backends);
    Arc::make_mut(&mut web.spec).check = "tcp".parse().ok();
    web
}

/// A route of `example.com` said by an entry, to these services.
pub fn route(entry: &str, text: &str, services: &[&str]) -> Route {
    let to = |service: &&str| WeightedService {
        service: name(service),
        weight: 1,
    };
    Route {
        name: name(text),
        origin: Origin::new("test", entry),
        hosts: vec!["example.com".parse().unwrap()],
        path: PathPrefix::root(),
        listens: Vec::new(),
        priority: 0,
        services: services.iter().map(to).collect(),
        http: None,
    }
}

pub fn entry(key: &str, item: impl Into<Said>) -> Entry {
    let Said(item) = item.into();
    Entry {
        key: EntryKey::new(key),
        item,
    }
}

/// So that tests can hand over services and routes as they are.
pub struct Said(Item);

impl From<Service> for Said {
    fn from(service: Service) -> Self {
        Said(Item::Service(service.into()))
    }
}

impl From<Route> for Said {
    fn from(route: Route) -> Self {
        Said(Item::Route(route.into()))
    }
}

impl From<Item> for Said {
    fn from(item: Item) -> Self {
        Said(item)
    }
}

/// One control over one fake plane.
pub struct World {
    pub control: Control,
    pub plane: Handle,
    pub now: Instant,
}

impl World {
    pub fn new() -> Self {
        let (plane, handle) = FakePlane::named("proxy");
        Self::over(plane, handle)
    }

    /// A world over this plane.
    pub fn over(plane: FakePlane, handle: Handle) -> Self {
        Self {
            control: Control::new(vec![Box::new(plane)], Settings::default()),
            plane: handle,
            now: Instant::now(),
        }
    }

    /// A world in which the file says one service `web` with the first so many backends.
    pub fn web(backends: u8) -> Self {
        let mut world = Self::new();
        let backends: Vec<u8> = (1..=backends).collect();
        world.put(
            &file(),
            "web",
            service("web", "web", &["*:80/http"], &backends),
        );
        world.step();
        world
    }

    pub fn say(&mut self, source: &SourceId, update: Update) {
        let source = source.clone();
        self.control
            .update(self.now, SourceUpdate { source, update });
    }

    pub fn put(&mut self, source: &SourceId, key: &str, item: impl Into<Said>) {
        self.say(source, Update::Upsert(entry(key, item)));
    }

    pub fn remove(&mut self, source: &SourceId, key: &str) {
        self.say(source, Update::Remove(EntryKey::new(key)));
    }

    pub fn step(&mut self) -> Step {
        self.control.step(self.now)
    }

    pub fn wait(&mut self, time: Duration) -> Step {
        self.now += time;
        self.step()
    }

    /// What the plane holds.
    pub fn held(&self) -> Desired {
        self.plane.held()
    }

    /// The names of the services that the plane holds.
    pub fn services(&self) -> Vec<String> {
        self.held()
            .services
            .keys()
            .map(ToString::to_string)
            .collect()
    }

    /// What is put aside: subject, origin's entry, reason.
    pub fn aside(&self) -> Vec<(String, String, String)> {
        let asides = self.control.quarantine().iter();
        asides
            .map(|(a, _)| {
                (
                    a.subject.clone(),
                    a.origin.entry.to_string(),
                    a.reason.clone(),
                )
            })
            .collect()
    }

    /// Asserts that just this is put aside, for a reason with all these words.
    #[track_caller]
    pub fn assert_aside(&self, subject: &str, entry: &str, words: &[&str]) {
        let asides = self.aside();
        let [(s, e, reason)] = asides.as_slice() else {
            panic!("{asides:?}");
        };
        assert_eq!((s.as_str(), e.as_str()), (subject, entry), "{reason}");
        for word in words {
            assert!(reason.contains(word), "no {word:?} in {reason:?}");
        }
    }

    pub fn refuse(&mut self, n: u8) -> bool {
        let event = Event::ConnectFailed {
            service: name("web"),
            backend: nth(n),
            reason: "connection refused".into(),
        };
        self.control.event(self.now, event)
    }

    pub fn reset(&mut self, n: u8) -> bool {
        let event = Event::Reset {
            service: name("web"),
            backend: nth(n),
            reason: "connection reset".into(),
        };
        self.control.event(self.now, event)
    }

    pub fn served(&mut self, n: u8) -> bool {
        let event = Event::Served {
            service: name("web"),
            backend: nth(n),
        };
        self.control.event(self.now, event)
    }

    /// A check says something of a backend of `web`.
    pub fn verdict(&mut self, n: u8, state: State, reason: &str) -> bool {
        let reason = reason.into();
        let verdict = Verdict { state, reason };
        self.control.verdict(&name("web"), &nth(n), verdict)
    }

    pub fn command(&mut self, n: u8, command: Command) {
        let backend = nth(n).to_string();
        self.control
            .command("web", &backend, command, "a test")
            .unwrap();
    }

    /// State, reason and weight of a backend of `web` in the plane.
    pub fn backend(&self, n: u8) -> (State, String, u32) {
        let held = self.held();
        let backend = &held.services[&name("web")].backends[&nth(n)];
        let status = &backend.status;
        (status.state, status.reason.to_string(), backend.weight)
    }

    /// The states of the backends of `web` in the plane.
    pub fn states(&self) -> Vec<State> {
        let held = self.held();
        let backends = held.services[&name("web")].backends.values();
        backends.map(|b| b.status.state).collect()
    }
}

/// The service with its spec changed.
pub fn with_spec(service: Service, change: impl FnOnce(&mut ServiceSpec)) -> Service {
    let mut spec = ServiceSpec::clone(&service.spec);
    change(&mut spec);
    let backends = service.backends.values().map(|b| (**b).clone());
    Service::new(spec, backends)
}
