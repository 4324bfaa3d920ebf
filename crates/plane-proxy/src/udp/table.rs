//! The sessions of one worker: who is known, who has been quiet for how long, and who has to go when
//! there is no room. Pure: time is passed in.
//!
//! A session is *fresh* until its client goes on after an answer, which shows that the client got it:
//! it is really there. Then it is *proven*. Only fresh ones are put out for others, the quietest
//! first, so that a flood of datagrams with forged sources wears out itself and not those in use (as
//! conntrack's early drop, which spares what is "assured").

use std::collections::HashMap;
use std::hash::Hash;

use slab::Slab;

/// No session, in a list.
const NONE: usize = usize::MAX;

/// Of how many fresh sessions the quietest of one source is looked for among.
const LOOKED_AT: usize = 64;

/// What a client is to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rank {
    Fresh,
    Proven,
}

/// A session by its number. Numbers are used again, with another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Id {
    pub(crate) at: u32,
    pub(crate) generation: u32,
}

/// The sessions of one service, in the order in which they were last heard of.
#[derive(Debug)]
struct Lane {
    fresh: List,
    proven: List,
    /// How long a session may be quiet, in ms; 0 is no limit.
    idle: u64,
}

#[derive(Clone, Copy, Debug)]
struct List {
    first: usize,
    last: usize,
}

const EMPTY: List = List {
    first: NONE,
    last: NONE,
};

#[derive(Debug)]
struct Entry<K, S> {
    key: K,
    session: S,
    lane: u64,
    rank: Rank,
    generation: u32,
    /// When it was last heard of, from either side.
    heard: u64,
    /// Datagrams of the client since the last answer.
    unanswered: bool,
    answered: bool,
    before: usize,
    after: usize,
}

/// Sessions of type `S` by a key of their clients.
#[derive(Debug)]
pub(crate) struct Table<K, S> {
    entries: Slab<Entry<K, S>>,
    index: HashMap<K, usize>,
    lanes: HashMap<u64, Lane>,
    generation: u32,
}

impl<K: Copy + Eq + Hash, S> Table<K, S> {
    pub(crate) fn new() -> Self {
        Self {
            entries: Slab::new(),
            index: HashMap::new(),
            lanes: HashMap::new(),
            generation: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Sets how long sessions of a service may be quiet, in ms; 0 is no limit. Those that there are
    /// and those to come, for as long as there are any.
    pub(crate) fn set_idle(&mut self, lane: u64, idle: u64) {
        if let Some(lane) = self.lanes.get_mut(&lane) {
            lane.idle = idle;
        }
    }

    /// Begins a session with a datagram of its client. One with the same key has to be removed first.
    /// `lane` is its service, whose sessions may be quiet for `idle` ms; 0 is no limit.
    pub(crate) fn insert(&mut self, key: K, lane: u64, idle: u64, session: S, now: u64) -> Id {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let at = self.entries.insert(Entry {
            key,
            session,
            lane,
            rank: Rank::Fresh,
            generation,
            heard: now,
            unanswered: true,
            answered: false,
            before: NONE,
            after: NONE,
        });
        self.index.insert(key, at);
        self.lane(lane).idle = idle;
        self.append(at);
        let at = u32::try_from(at).unwrap_or(u32::MAX);
        Id { at, generation }
    }

    /// The session of this key.
    pub(crate) fn find(&self, key: &K) -> Option<Id> {
        let at = *self.index.get(key)?;
        self.id(at)
    }

    #[cfg(test)]
    pub(crate) fn get(&self, id: Id) -> Option<&S> {
        self.entry(id).map(|entry| &entry.session)
    }

    pub(crate) fn key(&self, id: Id) -> Option<&K> {
        self.entry(id).map(|entry| &entry.key)
    }

    pub(crate) fn get_mut(&mut self, id: Id) -> Option<&mut S> {
        self.entries
            .get_mut(id.at as usize)
            .filter(|entry| entry.generation == id.generation)
            .map(|entry| &mut entry.session)
    }

    /// All sessions.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Id, &K, &S)> {
        self.entries.iter().filter_map(|(at, entry)| {
            let (generation, at) = (entry.generation, u32::try_from(at).ok()?);
            Some((Id { at, generation }, &entry.key, &entry.session))
        })
    }

    /// Takes note of a datagram from the client.
    pub(crate) fn heard_client(&mut self, id: Id, now: u64) {
        let Some(entry) = self.entry(id) else {
            return;
        };
        let proves = entry.answered && entry.rank == Rank::Fresh;
        let moves = proves || entry.heard != now;
        let at = id.at as usize;
        if moves {
            self.unlink(at);
        }
        if let Some(entry) = self.entries.get_mut(at) {
            entry.unanswered = true;
            entry.heard = now;
            if proves {
                entry.rank = Rank::Proven;
            }
        }
        if moves {
            self.append(at);
        }
    }

    /// Takes note of a datagram from the backend.
    pub(crate) fn heard_backend(&mut self, id: Id, now: u64) {
        let Some(entry) = self.entry(id) else {
            return;
        };
        let (at, moves) = (id.at as usize, entry.heard != now);
        if moves {
            self.unlink(at);
        }
        if let Some(entry) = self.entries.get_mut(at) {
            entry.unanswered = false;
            entry.answered = true;
            entry.heard = now;
        }
        if moves {
            self.append(at);
        }
    }

    /// Whether the client waits for an answer, and since when at most.
    pub(crate) fn waits_since(&self, id: Id) -> Option<u64> {
        self.entry(id)
            .filter(|entry| entry.unanswered)
            .map(|entry| entry.heard)
    }

    /// Ends a session.
    pub(crate) fn remove(&mut self, id: Id) -> Option<(K, S)> {
        self.entry(id)?;
        let at = id.at as usize;
        self.unlink(at);
        let entry = self.entries.try_remove(at)?;
        self.index.remove(&entry.key);
        let empty = |lane: &Lane| (lane.fresh.first, lane.proven.first) == (NONE, NONE);
        if self.lanes.get(&entry.lane).is_some_and(empty) {
            self.lanes.remove(&entry.lane);
        }
        Some((entry.key, entry.session))
    }

    /// One that has been quiet for too long.
    pub(crate) fn expired(&self, now: u64) -> Option<Id> {
        self.lanes.values().find_map(|lane| {
            [lane.fresh.first, lane.proven.first]
                .into_iter()
                .find(|at| {
                    self.entries.get(*at).is_some_and(|entry| {
                        lane.idle != 0 && entry.heard.saturating_add(lane.idle) <= now
                    })
                })
                .and_then(|at| self.id(at))
        })
    }

    /// The one of a service to put out for another: the quietest that is fresh.
    pub(crate) fn spare(&self, lane: u64) -> Option<Id> {
        self.id(self.lanes.get(&lane)?.fresh.first)
    }

    /// The one of a service to put out for another of the same source, looked for among the quietest.
    pub(crate) fn spare_of(&self, lane: u64, is: impl Fn(&K) -> bool) -> Option<Id> {
        let mut at = self.lanes.get(&lane)?.fresh.first;
        for _ in 0..LOOKED_AT {
            let entry = self.entries.get(at)?;
            if is(&entry.key) {
                return self.id(at);
            }
            at = entry.after;
        }
        None
    }

    /// The one of all services to put out for another: the quietest that is fresh.
    pub(crate) fn spare_of_all(&self) -> Option<Id> {
        let firsts = self.lanes.values().map(|lane| lane.fresh.first);
        let heard = |at: &usize| self.entries.get(*at).map(|entry| entry.heard);
        let quietest = firsts.filter(|at| *at != NONE).min_by_key(heard)?;
        self.id(quietest)
    }

    fn id(&self, at: usize) -> Option<Id> {
        let generation = self.entries.get(at)?.generation;
        let at = u32::try_from(at).ok()?;
        Some(Id { at, generation })
    }

    fn entry(&self, id: Id) -> Option<&Entry<K, S>> {
        self.entries
            .get(id.at as usize)
            .filter(|entry| entry.generation == id.generation)
    }

    fn lane(&mut self, lane: u64) -> &mut Lane {
        self.lanes.entry(lane).or_insert(Lane {
            fresh: EMPTY,
            proven: EMPTY,
            idle: 0,
        })
    }

    fn list(&mut self, lane: u64, rank: Rank) -> &mut List {
        let lane = self.lane(lane);
        match rank {
            Rank::Fresh => &mut lane.fresh,
            Rank::Proven => &mut lane.proven,
        }
    }

    fn append(&mut self, at: usize) {
        let Some((lane, rank)) = self.entries.get(at).map(|e| (e.lane, e.rank)) else {
            return;
        };
        let list = self.list(lane, rank);
        let last = std::mem::replace(&mut list.last, at);
        if last == NONE {
            list.first = at;
        }
        if let Some(entry) = self.entries.get_mut(last) {
            entry.after = at;
        }
        if let Some(entry) = self.entries.get_mut(at) {
            (entry.before, entry.after) = (last, NONE);
        }
    }

    fn unlink(&mut self, at: usize) {
        let Some(entry) = self.entries.get(at) else {
            return;
        };
        let (lane, rank, before, after) = (entry.lane, entry.rank, entry.before, entry.after);
        match self.entries.get_mut(before) {
            Some(entry) => entry.after = after,
            None => self.list(lane, rank).first = after,
        }
        match self.entries.get_mut(after) {
            Some(entry) => entry.before = before,
            None => self.list(lane, rank).last = before,
        }
    }
}

#[cfg(test)]
mod tests;
