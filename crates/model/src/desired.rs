//! The desired state: everything that should be in force, as one immutable value.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

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
