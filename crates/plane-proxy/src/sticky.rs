//! Persistence by the client's address: the clients of one service, shared by all cores.
//!
//! The table is split by a keyed hash into shards with a lock each. Only services with persistence
//! pay for it, three times per connection or request: when the client's backend is looked up, when
//! the client goes there, and when it has ended; each for the time of a look-up.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use plimsoll_balance::ClientNet;
use plimsoll_balance::persistence::{Stay, Table};
use plimsoll_model::{BackendAddr, Persistence};
use plimsoll_plane::PersistenceCounters;

/// Clients of one service that are remembered at most.
const CLIENTS: usize = 1 << 18;

/// Parts of the table, so that cores seldom meet at one.
const SHARDS: usize = 64;

#[derive(Debug)]
struct Shard {
    table: Table<BackendAddr, RandomState>,
    kept: u64,
    moved: u64,
    forgotten: u64,
}

/// The clients of a service, over all snapshots.
#[derive(Debug)]
pub(crate) struct Clients {
    /// The zero of the plane's clock.
    epoch: Instant,
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
}

impl Clients {
    pub(crate) fn new(epoch: Instant) -> Self {
        let shard = || Shard {
            table: Table::new(CLIENTS / SHARDS, RandomState::new()),
            kept: 0,
            moved: 0,
            forgotten: 0,
        };
        Self {
            epoch,
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect(),
        }
    }

    /// The shard of a client, and the time.
    fn shard(&self, client: ClientNet) -> Option<(MutexGuard<'_, Shard>, u64)> {
        // The upper bits, for the table uses the lower ones of a hash of its own.
        let at = (self.hasher.hash_one(client) >> 32) as usize % SHARDS;
        let shard = self.shards.get(at)?;
        // Under the lock, so that no one is seen before whoever came earlier.
        let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        Some((shard, self.now()))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The persistence of a service, as of one snapshot.
#[derive(Debug)]
pub(crate) struct Sticky {
    clients: Arc<Clients>,
    settings: Persistence,
    /// In milliseconds.
    timeout: u64,
}

/// What a client stays on.
#[derive(Debug)]
pub(crate) struct Stays {
    pub(crate) backend: BackendAddr,
    pub(crate) open: u32,
    /// Milliseconds until it is forgotten if it is not seen again.
    pub(crate) left: u64,
}

impl Sticky {
    pub(crate) fn new(clients: Arc<Clients>, settings: Persistence) -> Self {
        let timeout = u64::try_from(settings.timeout.as_millis()).unwrap_or(u64::MAX);
        Self {
            clients,
            settings,
            timeout: timeout.max(1),
        }
    }

    /// Whom the client counts as.
    pub(crate) fn net(&self, ip: IpAddr) -> ClientNet {
        ClientNet::of(ip, self.settings.prefix_v4, self.settings.prefix_v6)
    }

    /// What the client stays on, if it is remembered.
    pub(crate) fn find(&self, client: ClientNet) -> Option<Stays> {
        let (shard, now) = self.clients.shard(client)?;
        let known = shard.table.get(client, now, self.timeout)?;
        Some(Stays {
            backend: known.backend.clone(),
            open: known.open,
            left: known.left,
        })
    }

    /// The client begins something on `backend` and stays there, if it did not stay on another one
    /// than `instead_of` meanwhile. None if it did.
    pub(crate) fn enter(
        &self,
        client: ClientNet,
        backend: &BackendAddr,
        instead_of: Option<&BackendAddr>,
    ) -> Option<Staying> {
        let (mut shard, now) = self.clients.shard(client)?;
        let before = shard.table.get(client, now, self.timeout);
        let before = before.map(|known| known.backend == backend);
        let entered = shard
            .table
            .enter(client, backend, instead_of, now, self.timeout);
        let entered = entered.ok()?;
        shard.kept += u64::from(before == Some(true));
        shard.moved += u64::from(before == Some(false));
        shard.forgotten += u64::from(entered.evicted);
        Some(Staying {
            clients: self.clients.clone(),
            client,
            stay: entered.stay,
        })
    }

    /// The counts, once whoever was not seen for long is forgotten.
    pub(crate) fn counters(&self) -> PersistenceCounters {
        let mut sum = PersistenceCounters::default();
        let now = self.clients.now();
        for shard in &self.clients.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            sum.clients += shard.table.age(now, self.timeout) as u64;
            sum.kept += shard.kept;
            sum.moved += shard.moved;
            sum.forgotten += shard.forgotten;
        }
        sum
    }
}

/// A client that has something open, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Staying {
    clients: Arc<Clients>,
    client: ClientNet,
    stay: Stay,
}

impl Drop for Staying {
    fn drop(&mut self) {
        if let Some((mut shard, now)) = self.clients.shard(self.client) {
            shard.table.leave(self.client, self.stay, now);
        }
    }
}
