//! What admins may ask of a backend.

use std::sync::Arc;

use plimsoll_model::{Backend, MAX_WEIGHT, Service};
use serde::{Deserialize, Serialize};

/// A wish about one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Give it nothing new; what it has may end.
    Drain,
    /// The same, because it is in maintenance: it is shown so.
    Maintain,
    /// Take `Drain` or `Maintain` back, and bring it back at once if it is out after failures.
    Ready,
    /// Use this weight, 0..=[`MAX_WEIGHT`], whatever its source says; none: what its source says.
    Weight(Option<u32>),
}

/// What an admin takes a backend out for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Halt {
    /// [`Command::Drain`].
    Drain,
    /// [`Command::Maintain`].
    Maintenance,
}

/// Why a command was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// No service of this name is in force.
    #[error("no service `{0}`: `plimsoll status` lists them")]
    UnknownService(String),
    /// The service is put aside.
    #[error("service `{0}` is put aside: `plimsoll status` says why")]
    ServiceAside(String),
    /// The service has no such backend.
    #[error("service `{service}` has no backend {backend:?}: it has {known}")]
    UnknownBackend {
        /// The service.
        service: String,
        /// What was asked for.
        backend: String,
        /// The backends it has.
        known: String,
    },
    /// More than one backend has this name.
    #[error("service `{service}` has several backends named {backend:?}: use the address of one")]
    Ambiguous {
        /// The service.
        service: String,
        /// What was asked for.
        backend: String,
    },
    /// Only HTTP can say that it is in maintenance.
    #[error("service `{0}` is not for http: `plimsoll drain` takes its backends out")]
    NotHttp(String),
    /// The weight is out of range.
    #[error("weight {0} is above the greatest, {MAX_WEIGHT}")]
    Weight(u32),
}

/// The backend of a service by its address, or by its name where only one has it.
pub(crate) fn find<'a>(service: &'a Service, text: &str) -> Result<&'a Arc<Backend>, CommandError> {
    let by_addr = text
        .parse()
        .ok()
        .and_then(|addr| service.backends.get(&addr));
    if let Some(backend) = by_addr {
        return Ok(backend);
    }
    let mut named = service.backends.values().filter(|b| *b.name == *text);
    match (named.next(), named.next()) {
        (Some(backend), None) if !text.is_empty() => Ok(backend),
        (Some(_), Some(_)) if !text.is_empty() => Err(CommandError::Ambiguous {
            service: service.name().to_string(),
            backend: text.into(),
        }),
        _ => Err(CommandError::UnknownBackend {
            service: service.name().to_string(),
            backend: text.into(),
            known: known(service),
        }),
    }
}

/// The addresses of the first few backends.
fn known(service: &Service) -> String {
    const SHOWN: usize = 8;
    let addrs = service.backends.keys().take(SHOWN).map(ToString::to_string);
    let text = addrs.collect::<Vec<_>>().join(", ");
    match service.backends.len() {
        0 => "none".into(),
        n if n > SHOWN => format!("{text} and {} more", n - SHOWN),
        _ => text,
    }
}
