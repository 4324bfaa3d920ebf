//! What sources say: the seam between them and the catalog.
//!
//! A source first sends [`Update::Reset`] with all it has, then changes. The catalog reaches the
//! same state whatever was lost, doubled or out of order before the last `Reset`.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::{Origin, Route, Service};

/// Whose word counts when two sources claim the same thing; the first of these wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precedence {
    /// Made by hand, e.g. with `ipvsadm`.
    Hand,
    /// A file.
    File,
    /// An engine or a registry.
    Engine,
}

/// A source. Ordered by precedence, then by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct SourceId {
    /// Whose word counts.
    pub precedence: Precedence,
    /// The same text as [`Origin::source`] of its entries, e.g. `file:/etc/plimsoll.toml`.
    pub name: Arc<str>,
}

impl SourceId {
    /// A source of this precedence and name.
    pub fn new(precedence: Precedence, name: impl Into<Arc<str>>) -> Self {
        Self {
            precedence,
            name: name.into(),
        }
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

/// Names an entry within its source for as long as the entry lives, e.g. `service web` or
/// `container 3f2a… service web`. Unique over services, routes and invalid entries together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct EntryKey(Arc<str>);

impl EntryKey {
    /// A key of this text.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A service, or a fragment of one, e.g. one container's share. Fragments of one name with
    /// the same spec (origins aside) are one service with the backends of all.
    Service(Arc<Service>),
    /// A route. The same route said by several entries is one.
    Route(Arc<Route>),
    /// Something that the source found but could not make sense of. It is put aside and shown.
    Invalid {
        /// What it would have been, for people, e.g. ``service `web` `` or `container web-1`.
        subject: Arc<str>,
        /// Where it came from.
        origin: Origin,
        /// What is wrong and what was expected.
        reason: Arc<str>,
    },
}

/// One entry of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name within the source.
    pub key: EntryKey,
    /// What it says.
    pub item: Item,
}

/// What a source sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// All that the source has; what is not named is gone. The source is fresh.
    Reset(Vec<Entry>),
    /// An entry, new or changed.
    Upsert(Entry),
    /// An entry is gone. Unknown keys are ignored.
    Remove(EntryKey),
    /// The source cannot be read; what it said last stays in force, marked.
    Stale {
        /// Why, for people.
        reason: Arc<str>,
    },
    /// The source can be read again and nothing has changed.
    Fresh,
}

/// An update and the source it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceUpdate {
    /// The source.
    pub source: SourceId,
    /// What it sent.
    pub update: Update,
}
