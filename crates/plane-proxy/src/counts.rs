//! Counters: one writer each, so that counting costs no bus traffic between cores.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use plimsoll_plane::{BUCKETS, BackendCounters, Histogram, Latencies, bucket};

use crate::http::cookie::FOUND;

/// A number that one worker writes and others read.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Adds, for its only writer.
    pub(crate) fn add(&self, n: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(n),
            Ordering::Relaxed,
        );
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one worker has counted of one backend. A cache line pair of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct BackendCounts {
    pub(crate) connections: Count,
    pub(crate) requests: Count,
    pub(crate) bytes_in: Count,
    pub(crate) bytes_out: Count,
    pub(crate) responses: [Count; 5],
    pub(crate) connect_failures: Count,
    pub(crate) failures: Count,
    pub(crate) retries: Count,
    pub(crate) datagrams_in: Count,
    pub(crate) datagrams_out: Count,
}

impl BackendCounts {
    /// Counts a response of this status.
    pub(crate) fn response(&self, status: u16) {
        if let Some(count) = self
            .responses
            .get(usize::from(status / 100).wrapping_sub(1))
        {
            count.add(1);
        }
    }

    pub(crate) fn sum_into(&self, sum: &mut BackendCounters) {
        sum.connections += self.connections.get();
        sum.requests += self.requests.get();
        sum.bytes_in += self.bytes_in.get();
        sum.bytes_out += self.bytes_out.get();
        for (total, count) in sum.responses.iter_mut().zip(&self.responses) {
            *total += count.get();
        }
        sum.connect_failures += self.connect_failures.get();
        sum.failures += self.failures.get();
        sum.retries += self.retries.get();
        sum.datagrams_in += self.datagrams_in.get();
        sum.datagrams_out += self.datagrams_out.get();
    }
}

/// What one worker has counted of one service.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct ServiceCounts {
    pub(crate) total: Count,
    pub(crate) unserved: Count,
    pub(crate) failed: Count,
    /// Turned away by the lists of clients.
    pub(crate) denied: Count,
    /// Retries for which there was no budget.
    pub(crate) unretried: Count,
    /// Turned away by maintenance.
    pub(crate) maintained: Count,
    /// Answers compressed, the bytes of their bodies, and what became of them.
    pub(crate) compressed: Count,
    pub(crate) compress_in: Count,
    pub(crate) compress_out: Count,
    /// Answers that were not, for want of memory.
    pub(crate) compress_no_memory: Count,
    /// Answers by what the cookie of their requests said, in the order of [`Found`].
    pub(crate) cookies: [Count; FOUND],
    pub(crate) latency: LatencyCounts,
    /// UDP sessions put out for others.
    pub(crate) evicted: Count,
    /// Datagrams of clients for which there was no room to begin a session.
    pub(crate) no_room: Count,
    /// UDP sessions that went on at another backend.
    pub(crate) moved: Count,
}

/// A [`Histogram`] that one worker writes and others read.
#[derive(Debug, Default)]
pub(crate) struct Times {
    buckets: [Count; BUCKETS],
    sum: Count,
}

impl Times {
    /// Counts a time, for its only writer.
    pub(crate) fn record(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        if let Some(count) = self.buckets.get(bucket(micros)) {
            count.add(1);
        }
        self.sum.add(micros);
    }

    fn sum_into(&self, sum: &mut Histogram) {
        for (total, count) in sum.buckets.iter_mut().zip(&self.buckets) {
            *total += count.get();
        }
        sum.sum += self.sum.get();
    }
}

/// [`Latencies`] as one worker counts them.
#[derive(Debug, Default)]
pub(crate) struct LatencyCounts {
    pub(crate) duration: Times,
    pub(crate) first_byte: Times,
    pub(crate) connect: Times,
    pub(crate) queue: Times,
}

impl LatencyCounts {
    pub(crate) fn sum_into(&self, sum: &mut Latencies) {
        self.duration.sum_into(&mut sum.duration);
        self.first_byte.sum_into(&mut sum.first_byte);
        self.connect.sum_into(&mut sum.connect);
        self.queue.sum_into(&mut sum.queue);
    }
}

/// Statuses with which requests are refused for what they are.
pub(crate) const REFUSALS: [u16; 10] = [400, 401, 404, 408, 413, 414, 417, 431, 501, 505];

/// What one worker has counted of one listen.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct ListenCounts {
    pub(crate) accepted: Count,
    pub(crate) closed: Count,
    pub(crate) panicked: Count,
    /// Requests, what could not be read included.
    pub(crate) requests: Count,
    pub(crate) refused: [Count; REFUSALS.len()],
    /// Datagrams that could not be sent on, to either side.
    pub(crate) unsent: Count,
    /// Datagrams of clients that were not even tried to be sent on, by [`Lost`].
    pub(crate) lost: [Count; Lost::ALL.len()],
}

/// Why a datagram of a client is lost where no list and no limit says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The listen belongs to no service at the moment.
    NoService,
    /// It would begin a session, and plimsoll is about to end.
    Ending,
    /// No backend could take its session.
    NoBackend,
    /// This host had no socket left for its session.
    NoSocket,
    /// All backends that were tried turned out to be gone.
    Gone,
}

impl Lost {
    /// Each with its name.
    pub(crate) const ALL: [(Lost, &'static str); 5] = [
        (Lost::NoService, "no-service"),
        (Lost::Ending, "ending"),
        (Lost::NoBackend, "no-backend"),
        (Lost::NoSocket, "no-socket"),
        (Lost::Gone, "backend-gone"),
    ];
}

impl ListenCounts {
    /// Counts datagrams that are lost.
    pub(crate) fn lose(&self, why: Lost, datagrams: u64) {
        if let Some(count) = self.lost.get(why as usize) {
            count.add(datagrams);
        }
    }

    /// How many were lost, by the names of the reasons, as far as there were any.
    pub(crate) fn losses(counts: &[Self]) -> Vec<(&'static str, u64)> {
        let of = |why: Lost| {
            let lost = counts.iter().filter_map(|c| c.lost.get(why as usize));
            lost.map(Count::get).sum()
        };
        let all = Lost::ALL.iter().map(|(why, name)| (*name, of(*why)));
        all.filter(|(_, n)| *n > 0).collect()
    }

    /// Counts a refusal, if the status is one.
    pub(crate) fn refuse(&self, status: u16) {
        if let Some(at) = REFUSALS.iter().position(|s| *s == status)
            && let Some(count) = self.refused.get(at)
        {
            count.add(1);
        }
    }
}

/// One of these for each worker.
pub(crate) fn per_worker<T: Default>(workers: usize) -> Box<[T]> {
    (0..workers).map(|_| T::default()).collect()
}
