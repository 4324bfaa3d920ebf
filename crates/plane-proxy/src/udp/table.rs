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

/// Generations go round; the top bit stays free for others who number things beside sessions.
pub(crate) const GENERATIONS: u32 = u32::MAX >> 1;

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
        self.generation = self.generation.wrapping_add(1) & GENERATIONS;
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
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn table() -> Table<u16, &'static str> {
        Table::new()
    }

    #[test]
    fn a_flood_wears_out_itself_and_not_those_in_use() {
        let mut table = table();
        let real = table.insert(1, 1, 100, "real", 0);
        table.heard_backend(real, 1);
        table.heard_client(real, 2);
        let forged: Vec<Id> = (10..20)
            .map(|k| table.insert(k, 1, 100, "forged", 3))
            .collect();
        // An answer to a forged source is nothing the client has shown to have got.
        table.heard_backend(forged[0], 4);
        for expected in forged.iter().skip(1).chain([&forged[0]]) {
            assert_eq!(table.spare(1), Some(*expected));
            table.remove(*expected);
        }
        assert_eq!((table.spare(1), table.spare_of_all()), (None, None));
        assert_eq!(table.find(&1), Some(real));
    }

    #[test]
    fn the_quietest_of_a_source_or_of_all_is_found() {
        let mut table = table();
        let (a, b) = (
            table.insert(10, 1, 100, "a", 5),
            table.insert(21, 1, 100, "b", 6),
        );
        let other = table.insert(30, 2, 100, "c", 4);
        assert_eq!(table.spare_of(1, |key| key / 10 == 2), Some(b));
        assert_eq!(table.spare_of(1, |key| key / 10 == 3), None);
        assert_eq!(table.spare_of_all(), Some(other));
        table.heard_client(a, 9);
        assert_eq!(table.spare(1), Some(b));
    }

    #[test]
    fn a_new_time_out_holds_for_those_that_are_there() {
        let mut table = table();
        let id = table.insert(1, 1, 100, "a", 0);
        assert_eq!(table.expired(99), None);
        table.set_idle(1, 10);
        table.set_idle(2, 10);
        assert_eq!((table.expired(9), table.expired(10)), (None, Some(id)));
        table.set_idle(1, 0);
        assert_eq!((table.expired(u64::MAX), table.lanes.len()), (None, 1));
    }

    #[test]
    fn a_number_used_again_is_another_session() {
        let mut table = table();
        let old = table.insert(1, 1, 100, "old", 0);
        assert_eq!(table.remove(old), Some((1, "old")));
        let new = table.insert(2, 1, 100, "new", 0);
        assert_eq!(old.at, new.at);
        assert_eq!(table.get(old), None);
        assert_eq!(table.remove(old), None);
        assert_eq!(table.get(new), Some(&"new"));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Client(u16),
        Backend(u16),
        Remove(u16),
        Spare(u64),
        Expire,
        Pass(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let key = || 0..8u16;
        let step = prop_oneof![
            4 => key().prop_map(Step::Client),
            3 => key().prop_map(Step::Backend),
            1 => key().prop_map(Step::Remove),
            1 => (0..2u64).prop_map(Step::Spare),
            1 => Just(Step::Expire),
            2 => (1..60u64).prop_map(Step::Pass),
        ];
        prop::collection::vec(step, 0..200)
    }

    /// The same, without lists: (key, heard, fresh, answered, order of being heard).
    #[derive(Clone, Debug)]
    struct Plain {
        key: u16,
        heard: u64,
        fresh: bool,
        answered: bool,
    }

    proptest! {
        #[test]
        fn it_does_what_a_plain_list_does(steps in steps()) {
            let mut table: Table<u16, u16> = Table::new();
            let mut plain: Vec<Plain> = Vec::new();
            let mut now = 0;
            let idle = [100, 0];
            for step in steps {
                // Heard of last is last; within one tick the order stays.
                let touch = |plain: &mut Vec<Plain>, key: u16, client: bool, now: u64| {
                    let Some(at) = plain.iter().position(|p| p.key == key) else { return };
                    let mut one = plain[at].clone();
                    let proves = client && one.answered && one.fresh;
                    let moves = proves || one.heard != now;
                    one.fresh &= !proves;
                    one.answered |= !client;
                    one.heard = now;
                    plain[at] = one.clone();
                    if moves {
                        plain.remove(at);
                        plain.push(one);
                    }
                };
                let lane = |key: u16| u64::from(key % 2);
                match step {
                    Step::Client(key) => match table.find(&key) {
                        Some(id) => {
                            table.heard_client(id, now);
                            touch(&mut plain, key, true, now);
                        }
                        None => {
                            table.insert(key, lane(key), idle[lane(key) as usize], key, now);
                            plain.push(Plain { key, heard: now, fresh: true, answered: false });
                        }
                    },
                    Step::Backend(key) => if let Some(id) = table.find(&key) {
                        table.heard_backend(id, now);
                        touch(&mut plain, key, false, now);
                    },
                    Step::Remove(key) => {
                        let removed = table.find(&key).and_then(|id| table.remove(id));
                        let known = plain.iter().position(|p| p.key == key);
                        prop_assert_eq!(removed.is_some(), known.is_some());
                        known.map(|at| plain.remove(at));
                    }
                    Step::Spare(of) => {
                        let spare = table.spare(of).and_then(|id| table.remove(id));
                        let expected = plain.iter().position(|p| p.fresh && lane(p.key) == of);
                        let expected = expected.map(|at| plain.remove(at).key);
                        prop_assert_eq!(spare.map(|(key, _)| key), expected);
                    }
                    Step::Expire => {
                        let mut gone = Vec::new();
                        while let Some(id) = table.expired(now) {
                            gone.push(table.remove(id).unwrap().0);
                        }
                        gone.sort_unstable();
                        let over = |p: &Plain| match idle[lane(p.key) as usize] {
                            0 => false,
                            idle => p.heard + idle <= now,
                        };
                        let mut expected: Vec<u16> = (plain.iter().filter(|p| over(p)))
                            .map(|p| p.key).collect();
                        expected.sort_unstable();
                        plain.retain(|p| !over(p));
                        prop_assert_eq!(gone, expected);
                    }
                    Step::Pass(time) => now += time,
                }
                prop_assert_eq!(table.len(), plain.len());
                for p in &plain {
                    prop_assert!(table.find(&p.key).is_some());
                }
            }
            let lanes: std::collections::BTreeSet<u64> = plain.iter().map(|p| u64::from(p.key % 2)).collect();
            for key in 0..8 {
                table.find(&key).and_then(|id| table.remove(id));
            }
            prop_assert_eq!((table.len(), table.index.len()), (0, 0));
            // A service without sessions leaves nothing behind.
            prop_assert!(lanes.iter().all(|lane| !table.lanes.contains_key(lane)));
        }
    }
}
