//! What was said of each container, so that nothing is said twice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use plimsoll_model::{Name, Update};

use crate::{Entry, EntryKey, Item};

/// What a removed container said stays for so long, without a backend: whoever recreates a
/// container removes the old one first.
pub(crate) const GRACE: Duration = Duration::from_secs(60);

/// What was said, and what is still to be said.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    containers: BTreeMap<String, Vec<Entry>>,
    /// How many containers say something of a service.
    services: BTreeMap<Name, usize>,
    removed: BTreeMap<String, Removed>,
    due: Vec<Update>,
}

/// A container that was removed a short while ago.
#[derive(Debug)]
struct Removed {
    entries: Vec<Entry>,
    services: BTreeSet<Name>,
    until: Instant,
}

impl Sent {
    /// A container says this now. Whether that is another thing than before.
    pub(crate) fn put(&mut self, id: &str, entries: Vec<Entry>) -> bool {
        // An id does not come back; if it does, its own word counts.
        let removed = self.removed.remove(id).map(|removed| removed.entries);
        let before = self.exchange(id, entries).or(removed).unwrap_or_default();
        let after = self.containers.get(id).map_or(&[][..], Vec::as_slice);
        let due = difference(&before, after);
        let changed = !due.is_empty();
        self.due.extend(due);
        if changed {
            self.forget_replaced();
        }
        changed
    }

    /// A container is gone; `rest` is what stays of it for a while. Whether anything changed.
    pub(crate) fn remove(&mut self, id: &str, rest: Vec<Entry>, now: Instant) -> bool {
        let before = self.exchange(id, Vec::new()).unwrap_or_default();
        let rest: Vec<Entry> = rest
            .into_iter()
            .filter(|entry| !matches!(entry.item, Item::Invalid { .. }))
            .collect();
        let services: BTreeSet<Name> = services(&rest).cloned().collect();
        if services.is_empty() {
            self.due.extend(difference(&before, &[]));
            return !before.is_empty();
        }
        self.due.extend(difference(&before, &rest));
        let removed = Removed {
            entries: rest,
            services,
            until: now + GRACE,
        };
        self.removed.insert(id.to_owned(), removed);
        self.forget_replaced();
        true
    }

    /// Takes note of what a container says, and of the services in it; what it said before.
    fn exchange(&mut self, id: &str, entries: Vec<Entry>) -> Option<Vec<Entry>> {
        for service in services(&entries) {
            *self.services.entry(service.clone()).or_default() += 1;
        }
        let before = match entries.is_empty() {
            true => self.containers.remove(id),
            false => self.containers.insert(id.to_owned(), entries),
        };
        for service in services(before.as_deref().unwrap_or_default()) {
            if let Some(count) = self.services.get_mut(service) {
                *count -= 1;
                if *count == 0 {
                    self.services.remove(service);
                }
            }
        }
        before
    }

    /// Lets go of removed containers whose services others have.
    fn forget_replaced(&mut self) {
        let living = &self.services;
        let replaced = |removed: &Removed| removed.services.iter().all(|s| living.contains_key(s));
        let due = &mut self.due;
        self.removed.retain(|_, removed| {
            let replaced = replaced(removed);
            if replaced {
                due.extend(difference(&removed.entries, &[]));
            }
            !replaced
        });
    }

    /// Lets go of what was removed long enough ago.
    pub(crate) fn tick(&mut self, now: Instant) {
        let due = &mut self.due;
        self.removed.retain(|_, removed| {
            let stays = now < removed.until;
            if !stays {
                due.extend(difference(&removed.entries, &[]));
            }
            stays
        });
    }

    /// When to [`tick`](Self::tick) next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.removed.values().map(|removed| removed.until).min()
    }

    /// What is to be said now; it counts as said.
    pub(crate) fn take(&mut self) -> Vec<Update> {
        std::mem::take(&mut self.due)
    }

    /// All there is; it counts as said.
    pub(crate) fn reset(&mut self) -> Update {
        self.due.clear();
        let removed = self.removed.values().map(|removed| &removed.entries);
        Update::Reset(
            self.containers
                .values()
                .chain(removed)
                .flatten()
                .cloned()
                .collect(),
        )
    }
}

fn services(entries: &[Entry]) -> impl Iterator<Item = &Name> {
    entries.iter().filter_map(|entry| match &entry.item {
        Item::Service(service) => Some(service.name()),
        _ => None,
    })
}

/// What leads from one to the other, what comes before what goes.
fn difference(before: &[Entry], after: &[Entry]) -> Vec<Update> {
    let known: BTreeMap<&EntryKey, &Item> = before.iter().map(|e| (&e.key, &e.item)).collect();
    let kept: BTreeSet<&EntryKey> = after.iter().map(|e| &e.key).collect();
    let new = after.iter().filter(|e| known.get(&e.key) != Some(&&e.item));
    let gone = known.keys().filter(|key| !kept.contains(*key));
    let new = new.map(|entry| Update::Upsert(entry.clone()));
    new.chain(gone.map(|key| Update::Remove((*key).clone())))
        .collect()
}
