//! What is noted of services and backends for the next process: what programs need not know.

use plimsoll_model::{BackendAddr, Name, Origin, Service, ServiceSpec};
use serde::{Deserialize, Serialize};

use crate::kernel::{Owner, Print};
use crate::plane::EbpfPlane;
use crate::sys::Result;

impl EbpfPlane {
    /// Writes a text, unless it is there. What others did to it an audit sees, which forgets it then.
    pub(crate) fn put_note(&mut self, owner: Owner, text: &str) -> Result<()> {
        let print = Print::of(text);
        if self.noted.get(&owner) != Some(&print) {
            self.noted.remove(&owner);
            self.kernel.maps.put_note(owner, text)?;
            self.noted.insert(owner, print);
        }
        Ok(())
    }

    /// Removes a text.
    pub(crate) fn remove_note(&mut self, owner: Owner) -> Result<()> {
        self.noted.remove(&owner);
        self.kernel.maps.remove_note(owner)
    }
}

/// Of a service.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ServiceNote {
    name: String,
    source: String,
    entry: String,
    listens: Vec<String>,
    scheduler: String,
}

impl ServiceNote {
    /// What is noted of this service, as text.
    pub(crate) fn text(spec: &ServiceSpec) -> serde_json::Result<String> {
        serde_json::to_string(&Self {
            name: spec.name.to_string(),
            source: spec.origin.source.to_string(),
            entry: spec.origin.entry.to_string(),
            listens: spec.listens.iter().map(ToString::to_string).collect(),
            scheduler: spec.scheduler.kind.to_string(),
        })
    }

    /// The service as far as the text tells it; none if it tells nothing.
    pub(crate) fn read(text: &str) -> Option<ServiceSpec> {
        let note: Self = serde_json::from_str(text).ok()?;
        let name = note.name.parse::<Name>().ok()?;
        let origin = Origin::new(note.source, note.entry);
        let listens = note.listens.iter().filter_map(|text| text.parse().ok());
        let mut spec = ServiceSpec::new(name, origin, listens.collect());
        if let Ok(kind) = note.scheduler.parse() {
            spec.scheduler.kind = kind;
        }
        Some(spec)
    }
}

/// Of a backend.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BackendNote {
    service: String,
    addr: String,
    source: String,
    entry: String,
}

impl BackendNote {
    /// What is noted of this backend of a service, as text.
    pub(crate) fn text(service: &Service, addr: &BackendAddr) -> serde_json::Result<String> {
        let origin = match service.backends.get(addr) {
            Some(backend) => &backend.origin,
            None => &service.spec.origin,
        };
        serde_json::to_string(&Self {
            service: service.name().to_string(),
            addr: addr.to_string(),
            source: origin.source.to_string(),
            entry: origin.entry.to_string(),
        })
    }

    /// The backend's address and origin; none if the text does not tell them.
    pub(crate) fn read(text: &str) -> Option<(BackendAddr, Origin)> {
        let note: Self = serde_json::from_str(text).ok()?;
        Some((
            note.addr.parse().ok()?,
            Origin::new(note.source, note.entry),
        ))
    }
}
