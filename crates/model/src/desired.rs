//! The desired state: everything that should be in force, as one immutable value.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::Serialize;
use xxhash_rust::xxh3::Xxh3;

use crate::{Name, Route, Service};

/// What should be in force: services and routes by name. Entries are shared: a new state made from
/// an old one holds the same `Arc`s for what did not change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Desired {
    /// The services.
    pub services: BTreeMap<Name, Arc<Service>>,
    /// The routes.
    pub routes: BTreeMap<Name, Arc<Route>>,
}

impl Service {
    /// A hash of all it holds, the same in every process of one build.
    pub fn content_hash(&self) -> u64 {
        let mut hasher = Xxh3::new();
        self.spec.hash(&mut hasher);
        for (addr, backend) in &self.backends {
            addr.hash(&mut hasher);
            backend.hash(&mut hasher);
        }
        hasher.finish()
    }
}
