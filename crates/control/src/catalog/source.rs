//! What one source said last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use plimsoll_model::{Entry, EntryKey, Item, Update};

/// Whether what a source said is known to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// It has said nothing yet.
    Waiting,
    /// What it said holds.
    Fresh,
    /// It cannot be read; what it said last stays in force.
    Stale {
        /// Why.
        reason: Arc<str>,
    },
}

/// One source.
#[derive(Clone, Debug)]
pub struct Source {
    pub(super) entries: BTreeMap<EntryKey, Item>,
    freshness: Freshness,
    since: Instant,
    listed: bool,
}

/// An entry before and after an update; never the same.
pub(super) struct Change {
    pub(super) key: EntryKey,
    pub(super) before: Option<Item>,
    pub(super) after: Option<Item>,
}

impl Source {
    /// A source that has said nothing yet.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            entries: BTreeMap::new(),
            freshness: Freshness::Waiting,
            since: now,
            listed: false,
        }
    }

    /// Whether what it said is known to hold.
    pub fn freshness(&self) -> &Freshness {
        &self.freshness
    }

    /// Since when, for the same reason.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Whether it ever said all that it has.
    pub fn is_listed(&self) -> bool {
        self.listed
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes an update in; what it changed.
    pub(super) fn update(&mut self, now: Instant, update: Update) -> Vec<Change> {
        match update {
            Update::Reset(entries) => {
                self.set(now, Freshness::Fresh);
                self.listed = true;
                self.reset(entries)
            }
            Update::Upsert(Entry { key, item }) => self.put(key, Some(item)).into_iter().collect(),
            Update::Remove(key) => self.put(key, None).into_iter().collect(),
            Update::Stale { reason } => {
                self.set(now, Freshness::Stale { reason });
                Vec::new()
            }
            Update::Fresh => {
                self.set(now, Freshness::Fresh);
                Vec::new()
            }
        }
    }

    fn set(&mut self, now: Instant, freshness: Freshness) {
        if self.freshness != freshness {
            self.freshness = freshness;
            self.since = now;
        }
    }

    fn reset(&mut self, entries: Vec<Entry>) -> Vec<Change> {
        let new: BTreeMap<EntryKey, Item> = entries.into_iter().map(|e| (e.key, e.item)).collect();
        let gone = self.entries.keys().filter(|key| !new.contains_key(*key));
        let gone: Vec<EntryKey> = gone.cloned().collect();
        let gone = gone.into_iter().map(|key| (key, None));
        gone.chain(new.into_iter().map(|(key, item)| (key, Some(item))))
            .filter_map(|(key, item)| self.put(key, item))
            .collect()
    }

    fn put(&mut self, key: EntryKey, after: Option<Item>) -> Option<Change> {
        if self.entries.get(&key) == after.as_ref() {
            return None;
        }
        let before = match &after {
            Some(item) => self.entries.insert(key.clone(), item.clone()),
            None => self.entries.remove(&key),
        };
        Some(Change { key, before, after })
    }
}
