//! Clients and the backends they stay on, bounded and ageing. Pure: time is an argument.
//!
//! As with the templates of the kernel's IPVS, a client is remembered until it has not been seen
//! for the time-out, and one with an open connection is seen all the while. Unlike there the table
//! is bounded: where it is full, whoever has nothing open and was not seen for longest is forgotten.

use std::hash::BuildHasher;

use lru::LruCache;

use crate::ClientNet;

/// So many clients at most are looked at for one that has nothing open, before one that has is
/// forgotten.
const LOOKED_AT: usize = 16;

/// So many at most are looked at for those whose time has passed, each time somebody enters.
/// More than one, so that they become fewer.
const AGED: usize = 4;

/// What says that a client is there: given out by [`Table::enter`], to be given back to
/// [`Table::leave`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stay(u64);

/// What is known of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered<'a, V> {
    /// What it stays on.
    pub backend: &'a V,
    /// Its connections or requests at this moment.
    pub open: u32,
    /// Milliseconds until it is forgotten; starts only once nothing is open.
    pub left: u64,
}

/// How an entry went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entered {
    /// To be given back at the end.
    pub stay: Stay,
    /// Another client was forgotten for it before its time.
    pub evicted: bool,
}

#[derive(Debug)]
struct Entry<V> {
    backend: V,
    /// Tells it from earlier entries of the same client.
    stay: Stay,
    open: u32,
    /// When it was last seen, in milliseconds.
    seen: u64,
}

impl<V> Entry<V> {
    fn is_over(&self, now: u64, timeout: u64) -> bool {
        self.open == 0 && now >= self.seen.saturating_add(timeout)
    }
}

/// The clients of one service and what they stay on, the one seen last first.
///
/// Times are milliseconds of one clock. The time-out is an argument, so that a change of it holds
/// for whoever is remembered already.
#[derive(Debug)]
pub struct Table<V, S: BuildHasher> {
    clients: LruCache<ClientNet, Entry<V>, S>,
    capacity: usize,
    next: u64,
}

impl<V: Clone + PartialEq, S: BuildHasher> Table<V, S> {
    /// An empty table for at most `capacity` clients, at least 1. `hasher` must not be foreseeable:
    /// clients choose their addresses.
    pub fn new(capacity: usize, hasher: S) -> Self {
        Self {
            clients: LruCache::unbounded_with_hasher(hasher),
            capacity: capacity.max(1),
            next: 0,
        }
    }

    /// What the client stays on; none if it is not remembered, or has not been seen for `timeout`.
    pub fn get(&self, client: ClientNet, now: u64, timeout: u64) -> Option<Remembered<'_, V>> {
        let entry = self.clients.peek(&client)?;
        let until = entry.seen.saturating_add(timeout);
        (!entry.is_over(now, timeout)).then(|| Remembered {
            backend: &entry.backend,
            open: entry.open,
            left: match entry.open {
                0 => until.saturating_sub(now),
                _ => timeout,
            },
        })
    }

    /// The client begins something on `backend`, and stays there from now on.
    ///
    /// # Errors
    /// It stays on another one, which is not `instead_of` (the one that was found not to serve it):
    /// where it should go. Nothing changes.
    pub fn enter(
        &mut self,
        client: ClientNet,
        backend: &V,
        instead_of: Option<&V>,
        now: u64,
        timeout: u64,
    ) -> Result<Entered, V> {
        self.age_some(AGED, now, timeout);
        if let Some(entry) = self.clients.peek_mut(&client)
            && !entry.is_over(now, timeout)
        {
            let moves = entry.backend != *backend;
            if moves && instead_of != Some(&entry.backend) {
                return Err(entry.backend.clone());
            }
            if !moves {
                entry.open = entry.open.saturating_add(1);
                entry.seen = entry.seen.max(now);
                let stay = entry.stay;
                self.clients.promote(&client);
                return Ok(Entered {
                    stay,
                    evicted: false,
                });
            }
        }
        let stay = Stay(self.next);
        self.next = self.next.wrapping_add(1);
        let entry = Entry {
            backend: backend.clone(),
            stay,
            open: 1,
            seen: now,
        };
        let evicted = !self.clients.contains(&client) && self.clients.len() >= self.capacity;
        if evicted {
            self.make_room(now);
        }
        self.clients.put(client, entry);
        Ok(Entered { stay, evicted })
    }

    /// Forgets one client: of the [`LOOKED_AT`] that were not seen for longest, the first that has
    /// nothing open; if all of them have, the next.
    fn make_room(&mut self, now: u64) {
        for _ in 0..LOOKED_AT.min(self.clients.len()) {
            match self.clients.peek_lru() {
                // Seen right now, and so met again only after all others.
                Some((client, entry)) if entry.open > 0 => {
                    let client = *client;
                    self.see(client, now);
                }
                _ => break,
            }
        }
        self.clients.pop_lru();
    }

    /// The client is there at this moment.
    fn see(&mut self, client: ClientNet, now: u64) {
        if let Some(entry) = self.clients.get_mut(&client) {
            entry.seen = entry.seen.max(now);
        }
    }

    /// Something that the client began with [`Table::enter`] has ended. One that has moved or was
    /// forgotten meanwhile is left as it is.
    pub fn leave(&mut self, client: ClientNet, stay: Stay, now: u64) {
        if let Some(entry) = self.clients.peek_mut(&client)
            && entry.stay == stay
        {
            entry.open = entry.open.saturating_sub(1);
            entry.seen = entry.seen.max(now);
            self.clients.promote(&client);
        }
    }

    /// Forgets everybody who has not been seen for `timeout`. The number of those who are left.
    ///
    /// Takes as long as there are such, or clients that have had something open for as long.
    pub fn age(&mut self, now: u64, timeout: u64) -> usize {
        self.age_some(self.clients.len(), now, timeout);
        self.clients.len()
    }

    /// The same for so many clients at most.
    fn age_some(&mut self, most: usize, now: u64, timeout: u64) {
        // Those at the end who have something open are seen right now: each of them goes to the
        // front, and so is met once.
        for _ in 0..most.min(self.clients.len()) {
            match self.clients.peek_lru() {
                Some((_, entry)) if entry.is_over(now, timeout) => {
                    self.clients.pop_lru();
                }
                Some((client, entry)) if now >= entry.seen.saturating_add(timeout) => {
                    let client = *client;
                    self.see(client, now);
                }
                _ => break,
            }
        }
    }

    /// How many clients are remembered, as of the last change.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether nobody is remembered.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }
}
