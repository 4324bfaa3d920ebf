//! The containers of an engine that is none: what it would answer, and what it would tell.

#![allow(
    clippy::indexing_slicing,
    reason = "a key of a JSON object that is not there is inserted"
)]

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::container::FakeContainer;

/// 2024-05-01T00:00:00Z, in nanoseconds since 1970.
pub(super) const DAY: i64 = 1_714_521_600_000_000_000;
/// Between two things that happen, in nanoseconds.
const STEP: i64 = 1_000_000;

#[derive(Clone, Debug)]
pub(super) struct Container {
    pub(super) made: FakeContainer,
    pub(super) created: i64,
    pub(super) started: i64,
    pub(super) status: &'static str,
    /// The state of its HEALTHCHECK, and what that printed last.
    pub(super) health: Option<(String, String)>,
    /// Its ends by the name of the network: number of the end, and of the address; 0 if it is down.
    pub(super) ends: BTreeMap<String, (u64, u64)>,
}

impl Container {
    pub(super) fn runs(&self) -> bool {
        matches!(self.status, "running" | "paused" | "restarting")
    }
}

/// Containers and networks, and what happened to them.
#[derive(Clone, Debug)]
pub struct World {
    pub(super) clock: i64,
    made: u64,
    pub(super) containers: BTreeMap<String, Container>,
    pub(super) networks: Vec<(String, &'static str)>,
    events: Vec<(i64, Value)>,
}

impl Default for World {
    fn default() -> Self {
        let networks = [("bridge", "bridge"), ("host", "host"), ("none", "null")];
        Self {
            clock: DAY,
            made: 0,
            containers: BTreeMap::new(),
            networks: networks
                .map(|(name, driver)| (name.to_owned(), driver))
                .into(),
            events: Vec::new(),
        }
    }
}

impl World {
    /// Creates a container; its id.
    pub fn create(&mut self, made: FakeContainer) -> String {
        self.made += 1;
        let id = format!("{:012x}{:052x}", self.made, self.made);
        let networks = match (&made.mode, made.networks.is_empty()) {
            (Some(mode), _) if mode.starts_with("container:") => Vec::new(),
            (Some(mode), _) => vec![mode.clone()],
            (None, true) => vec!["bridge".into()],
            (None, false) => made.networks.clone(),
        };
        for network in &networks {
            self.network(network);
        }
        let container = Container {
            created: self.tick(),
            made,
            started: 0,
            status: "created",
            health: None,
            ends: networks.into_iter().map(|name| (name, (0, 0))).collect(),
        };
        self.containers.insert(id.clone(), container);
        id
    }

    /// Creates and starts a container; its id.
    pub fn run(&mut self, made: FakeContainer) -> String {
        let id = self.create(made);
        self.start(&id);
        id
    }

    /// Makes a network, if it is not there.
    pub fn network(&mut self, name: &str) {
        if !self.networks.iter().any(|(known, _)| known == name) {
            self.networks.push((name.to_owned(), "bridge"));
        }
    }

    /// Starts it, if it does not run.
    pub fn start(&mut self, id: &str) {
        let (now, end) = (self.tick(), self.end());
        let Some(container) = self.containers.get_mut(id).filter(|c| !c.runs()) else {
            return;
        };
        (container.status, container.started) = ("running", now);
        container.health = container
            .made
            .has_health
            .then(|| ("starting".into(), String::new()));
        for at in container.ends.values_mut() {
            *at = end;
        }
        self.tell_ends(id, "connect");
        self.tell(id, "start", &[]);
    }

    /// Sends it a signal, by number; it goes on.
    pub fn signal(&mut self, id: &str, number: u8) {
        if self.containers.get(id).is_some_and(Container::runs) {
            self.tell(id, "kill", &[("signal", &number.to_string())]);
        }
    }

    /// It ends.
    pub fn die(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id).filter(|c| c.runs()) else {
            return;
        };
        (container.status, container.health) = ("exited", None);
        for at in container.ends.values_mut() {
            *at = (0, 0);
        }
        self.tell(id, "die", &[("exitCode", "0")]);
        self.tell_ends(id, "disconnect");
    }

    /// `docker stop`: TERM, and it ends.
    pub fn stop(&mut self, id: &str) {
        self.signal(id, 15);
        self.die(id);
        self.tell(id, "stop", &[]);
    }

    /// `docker restart`.
    pub fn restart(&mut self, id: &str) {
        self.stop(id);
        self.start(id);
        self.tell(id, "restart", &[]);
    }

    /// `docker rm -f`.
    pub fn remove(&mut self, id: &str) {
        self.signal(id, 9);
        self.die(id);
        self.tell(id, "destroy", &[]);
        self.containers.remove(id);
    }

    /// `docker pause`.
    pub fn pause(&mut self, id: &str) {
        self.turn(id, "running", "paused", "pause");
    }

    /// `docker unpause`.
    pub fn unpause(&mut self, id: &str) {
        self.turn(id, "paused", "running", "unpause");
    }

    /// It ended and waits to be started again.
    pub fn crash(&mut self, id: &str) {
        self.turn(id, "running", "restarting", "die");
    }

    fn turn(&mut self, id: &str, from: &str, to: &'static str, action: &str) {
        if let Some(container) = self.containers.get_mut(id).filter(|c| c.status == from) {
            container.status = to;
            self.tell(id, action, &[]);
        }
    }

    /// Its HEALTHCHECK says `healthy`, `unhealthy`, … and printed this.
    pub fn health(&mut self, id: &str, word: &str, output: &str) {
        if let Some(container) = self.containers.get_mut(id).filter(|c| c.runs()) {
            container.health = Some((word.into(), output.into()));
            self.tell(id, &format!("health_status: {word}"), &[]);
        }
    }

    /// `docker rename`.
    pub fn rename(&mut self, id: &str, name: &str) {
        if let Some(container) = self.containers.get_mut(id) {
            container.made.name = name.into();
            self.tell(id, "rename", &[]);
        }
    }

    /// `docker network connect`.
    pub fn connect(&mut self, id: &str, network: &str) {
        self.network(network);
        let end = self.end();
        if let Some(container) = self.containers.get_mut(id) {
            let at = if container.runs() { end } else { (0, 0) };
            container.ends.insert(network.into(), at);
            self.tell_end(id, network, "connect");
        }
    }

    /// `docker network disconnect`.
    pub fn disconnect(&mut self, id: &str, network: &str) {
        if let Some(container) = self.containers.get_mut(id) {
            container.ends.remove(network);
            self.tell_end(id, network, "disconnect");
        }
    }

    /// The ids of all containers.
    pub fn ids(&self) -> Vec<String> {
        self.containers.keys().cloned().collect()
    }

    /// The id of a network.
    pub fn network_id(&self, name: &str) -> String {
        let place = self.networks.iter().position(|(known, _)| known == name);
        format!(
            "{:064x}",
            0xfeed_0000_u64 + place.map_or(0, |place| place as u64 + 1)
        )
    }

    fn tick(&mut self) -> i64 {
        self.clock += STEP;
        self.clock
    }

    fn end(&mut self) -> (u64, u64) {
        self.made += 1;
        (self.made, self.made)
    }

    fn tell(&mut self, id: &str, action: &str, attributes: &[(&str, &str)]) {
        let Some(container) = self.containers.get(id) else {
            return;
        };
        let mut all = json!({"image": "web", "name": container.made.name});
        for (key, value) in attributes {
            all[*key] = json!(value);
        }
        for (key, value) in &container.made.labels {
            all[key] = json!(value);
        }
        let event = json!({"status": action, "id": id, "from": "web", "Type": "container", "Action": action,
            "Actor": {"ID": id, "Attributes": all}, "scope": "local"});
        self.push(event);
    }

    fn tell_ends(&mut self, id: &str, action: &str) {
        let ends = self
            .containers
            .get(id)
            .map(|c| c.ends.keys().cloned().collect());
        let ends: Vec<String> = ends.unwrap_or_default();
        for network in ends {
            self.tell_end(id, &network, action);
        }
    }

    fn tell_end(&mut self, id: &str, network: &str, action: &str) {
        let event = json!({"Type": "network", "Action": action, "scope": "local", "Actor": {
            "ID": self.network_id(network),
            "Attributes": {"container": id, "name": network, "type": "bridge"}}});
        self.push(event);
    }

    fn push(&mut self, mut event: Value) {
        let now = self.tick();
        event["time"] = json!(now / 1_000_000_000);
        event["timeNano"] = json!(now);
        self.events.push((now, event));
    }

    /// What happened since this was asked last: when, in nanoseconds since 1970, and the event.
    pub fn take_events(&mut self) -> Vec<(i64, Value)> {
        std::mem::take(&mut self.events)
    }
}
