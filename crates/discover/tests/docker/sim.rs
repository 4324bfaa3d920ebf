//! The state of the source and a world of containers, with a clock that is set by hand.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use plimsoll_discover::docker::read::{Inspected, Listed, read_inspect, read_list};
use plimsoll_discover::docker::view::{Settings, Whereabouts};
use plimsoll_discover::docker::watch::Watch;
use plimsoll_discover::docker::wire::Event;
use plimsoll_discover::{Item, Update};
use plimsoll_testkit::World;

/// What was said: entries by their keys.
pub(crate) type Said = BTreeMap<String, Item>;

pub(crate) fn settings() -> Settings {
    Settings {
        source: "docker:test".into(),
        http: "*:80/http".parse().unwrap(),
    }
}

/// Takes an update in, as the catalog does.
pub(crate) fn apply(said: &mut Said, update: Update) {
    match update {
        Update::Reset(entries) => {
            *said = entries
                .into_iter()
                .map(|e| (e.key.to_string(), e.item))
                .collect();
        }
        Update::Upsert(entry) => {
            said.insert(entry.key.to_string(), entry.item);
        }
        Update::Remove(key) => {
            said.remove(key.as_str());
        }
        Update::Stale { .. } | Update::Fresh => {}
    }
}

/// The states of all backends by their names, with the reason if there is one.
pub(crate) fn backends(said: &Said) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for item in said.values() {
        let Item::Service(service) = item else {
            continue;
        };
        for backend in service.backends.values() {
            let status = &backend.status;
            let text = match (status.state, &*status.reason) {
                (state, "") => state.to_string(),
                (state, reason) => format!("{state}: {reason}"),
            };
            found.insert(backend.name.to_string(), text);
        }
    }
    found
}

/// A world, and what the source knows and says of it.
pub(crate) struct Sim {
    pub(crate) world: World,
    pub(crate) watch: Watch,
    pub(crate) now: Instant,
    pub(crate) said: Said,
    /// All that was said, one by one.
    pub(crate) log: Vec<Update>,
    pub(crate) inspections: usize,
}

impl Sim {
    pub(crate) fn new() -> Self {
        Self {
            world: World::default(),
            watch: Watch::new(settings()),
            now: Instant::now(),
            said: Said::new(),
            log: Vec::new(),
            inspections: 0,
        }
    }

    /// A session begins: everything is listed and inspected; events are told from now on.
    pub(crate) fn begin(&mut self) {
        self.begin_as(None);
    }

    /// As [`begin`](Self::begin), in our own container, if there is one.
    pub(crate) fn begin_as(&mut self, own: Option<&str>) {
        let own = own.map(|id| match self.inspection(id) {
            Inspected::Container(own) => *own,
            other => panic!("{other:?}"),
        });
        self.events();
        self.watch.begin(None, Whereabouts::Host, own, self.now);
        self.list();
        self.settle();
        assert!(self.watch.is_settled());
        let reset = self.watch.reset();
        apply(&mut self.said, reset);
        self.log.clear();
    }

    pub(crate) fn listed(&self) -> Vec<Listed> {
        read_list(self.world.list().to_string().as_bytes()).unwrap()
    }

    pub(crate) fn list(&mut self) {
        self.watch.list_begins();
        let items = self.listed();
        self.watch.list(items, self.now);
    }

    pub(crate) fn inspection(&self, id: &str) -> Inspected {
        match self.world.inspect(id) {
            Some(found) => read_inspect(found.to_string().as_bytes()),
            None => Inspected::Gone,
        }
    }

    /// The events since the last time.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        let events = self.world.take_events().into_iter();
        events
            .map(|(_, event)| serde_json::from_value(event).unwrap())
            .collect()
    }

    /// Answers what is asked until nothing is.
    pub(crate) fn settle(&mut self) {
        loop {
            if self.watch.take_networks_due() {
                let networks = serde_json::from_value(self.world.networks()).unwrap();
                self.watch.networks(networks, self.now);
            }
            let wanted = self.watch.take_wanted(16);
            if wanted.is_empty() {
                break;
            }
            for id in wanted {
                self.inspections += 1;
                let answer = self.inspection(&id);
                self.watch.inspected(&id, Ok(answer), self.now);
            }
        }
        self.hear();
    }

    /// Takes in what is said.
    pub(crate) fn hear(&mut self) {
        for update in self.watch.take_updates() {
            self.log.push(update.clone());
            apply(&mut self.said, update);
        }
    }

    /// Tells what happened, and answers what is asked.
    pub(crate) fn tell(&mut self) {
        for event in self.events() {
            self.watch.event(&event, self.now);
        }
        self.settle();
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.watch.tick(self.now);
        self.settle();
    }

    pub(crate) fn backend(&self, name: &str) -> Option<String> {
        backends(&self.said).remove(name)
    }
}
