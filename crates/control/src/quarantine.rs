//! What was put aside, and why.

use std::collections::BTreeMap;
use std::time::Instant;

use plimsoll_model::Origin;

/// Something that is not in force because it is wrong or in another's way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Aside {
    /// What, for people, e.g. ``service `web` ``.
    pub subject: String,
    /// Who said it.
    pub origin: Origin,
    /// Why it is put aside, and what to do.
    pub reason: String,
}

impl Aside {
    /// A reason that begins with the subject is shown without it: readers know it already.
    pub(crate) fn new(subject: impl ToString, origin: &Origin, reason: impl Into<String>) -> Self {
        let subject = subject.to_string();
        let reason = reason.into();
        let rest = reason.strip_prefix(&*subject);
        let reason = match rest.and_then(|rest| rest.strip_prefix(": ")) {
            Some(rest) => rest.to_owned(),
            None => reason,
        };
        Self {
            subject,
            origin: origin.clone(),
            reason,
        }
    }
}

/// All that is put aside, and since when.
#[derive(Clone, Debug, Default)]
pub struct Quarantine {
    items: BTreeMap<Aside, Instant>,
}

impl Quarantine {
    /// This is all that is put aside now; what was there before keeps its time.
    pub(crate) fn replace(&mut self, now: Instant, asides: impl Iterator<Item = Aside>) {
        let mut old = std::mem::take(&mut self.items);
        self.items = asides
            .map(|aside| {
                let since = old.remove(&aside).unwrap_or(now);
                (aside, since)
            })
            .collect();
    }

    /// What is put aside, in the order of the subjects, and since when for this reason.
    pub fn iter(&self) -> impl Iterator<Item = (&Aside, Instant)> {
        self.items.iter().map(|(aside, since)| (aside, *since))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether nothing is put aside.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}
