//! What is known around a container: what it does, where we run, which networks there are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use plimsoll_model::{Listen, Status};

use super::wire::{Inspect, Network};

/// What a container does, as far as traffic is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has a process. Its backends get this status.
    Serves(Status),
    /// It is there but does not run: its services are known, without a backend of its own.
    Stopped,
}

/// Where this process runs, seen from the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// In the network of the engine's host, as a process or with `network_mode: host`.
    Host,
    /// In a container of the engine with networks of its own.
    Container {
        /// Its name, for the command that connects it to another network.
        name: String,
        /// Ids of the networks it is in.
        networks: BTreeSet<String>,
    },
    /// On another machine.
    Remote {
        /// The address of the engine's host.
        host: IpAddr,
    },
}

/// What does not depend on containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The source of every origin, e.g. `docker:unix:///var/run/docker.sock`.
    pub source: Arc<str>,
    /// Where HTTP services listen that do not say it themselves; an HTTP listen.
    pub http: Listen,
}

/// All that is known around a container.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// What does not depend on containers.
    pub settings: &'a Settings,
    /// Where this process runs.
    pub whereabouts: &'a Whereabouts,
    /// The networks of the engine by their ids.
    pub networks: &'a BTreeMap<String, Network>,
    /// The container whose network another one uses by `network_mode: container:ID`, if it is
    /// known.
    pub shared: Option<&'a Inspect>,
}
