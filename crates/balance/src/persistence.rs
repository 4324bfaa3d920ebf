//! Clients and the backends they stay on, bounded and ageing. Pure: time is an argument.
//!
//! As with the templates of the kernel's IPVS, a client is remembered until it has not been seen
//! for the time-out, and one with an open connection is seen all the while. Unlike there the table
//! is bounded: where it is full, whoever was not seen for longest is forgotten.

use std::hash::BuildHasher;

use lru::LruCache;

use crate::ClientNet;

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
    /// Whoever was not seen for longest was forgotten for it.
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
        self.age(now, timeout);
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
        let known = self.clients.put(client, entry).is_some();
        let evicted = !known && self.clients.len() > self.capacity;
        if evicted {
            self.clients.pop_lru();
        }
        Ok(Entered { stay, evicted })
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
    pub fn age(&mut self, now: u64, timeout: u64) -> usize {
        // Those at the end who have something open are seen right now: each of them goes to the
        // front, and so is met once.
        for _ in 0..self.clients.len() {
            match self.clients.peek_lru() {
                Some((_, entry)) if entry.is_over(now, timeout) => {
                    self.clients.pop_lru();
                }
                Some((client, entry)) if now >= entry.seen.saturating_add(timeout) => {
                    let client = *client;
                    if let Some(entry) = self.clients.get_mut(&client) {
                        entry.seen = now;
                    }
                }
                _ => break,
            }
        }
        self.clients.len()
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
