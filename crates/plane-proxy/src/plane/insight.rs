//! What the plane tells of its workers' doings: counters and flows.

use std::time::{Duration, Instant};

use plimsoll_model::Name;
use plimsoll_plane::{
    AccessLogCounters, BackendCounters, CompressionCounters, CookieCounters, Counters, FlowFilter,
    FlowPage, Latencies, LimitCounters, ListenState, PersistenceCounters, PlaneError,
    ServiceCounters, UdpCounters,
};
use tokio::sync::oneshot;

use super::ProxyPlane;
use crate::counts::{ListenCounts, REFUSALS, ServiceCounts};
use crate::http::cookie::Found;
use crate::worker::Command;

/// Flows listed at once where the filter does not say.
const FLOWS: usize = 1000;

/// How long to wait for the workers' lists of flows.
const FLOWS_WITHIN: Duration = Duration::from_secs(1);

/// In the order of [`crate::http::cookie::Found`].
fn cookies(counts: &[ServiceCounts]) -> CookieCounters {
    let of = |found: Found| {
        let count = |c: &ServiceCounts| c.cookies.get(found as usize).map_or(0, |n| n.get());
        counts.iter().map(count).sum()
    };
    CookieCounters {
        none: of(Found::None),
        unknown: of(Found::Unknown),
        expired: of(Found::Expired),
        kept: of(Found::Kept),
        moved: of(Found::Moved),
    }
}

impl ProxyPlane {
    /// The counters of all services and listens, over all workers.
    pub(super) fn sum_up(&self) -> Counters {
        let snapshot = self.shared.snapshot.load();
        let now = self.shared.now();
        let services = self.held.services.values().map(|service| {
            let name = service.name();
            let current = snapshot.services.get(name);
            let counts = self
                .services
                .get(name)
                .map_or(&[][..], |shared| &shared.counts);
            let backends = service.backends.keys().map(|addr| {
                let live = self.live.get(&(name.clone(), addr.clone()));
                let counters = BackendCounters {
                    slow_start: current.and_then(|current| current.slow_start(addr, now)),
                    ..live.map(|live| live.counters()).unwrap_or_default()
                };
                (addr.clone(), counters)
            });
            let mut latency = Latencies::default();
            counts.iter().for_each(|c| c.latency.sum_into(&mut latency));
            ServiceCounters {
                name: name.to_string(),
                total: counts.iter().map(|c| c.total.get()).sum(),
                unserved: counts.iter().map(|c| c.unserved.get()).sum(),
                failed: counts.iter().map(|c| c.failed.get()).sum(),
                denied: counts.iter().map(|c| c.denied.get()).sum(),
                unretried: counts.iter().map(|c| c.unretried.get()).sum(),
                limits: self.limits(name),
                maintained: counts.iter().map(|c| c.maintained.get()).sum(),
                compression: CompressionCounters {
                    responses: counts.iter().map(|c| c.compressed.get()).sum(),
                    bytes_in: counts.iter().map(|c| c.compress_in.get()).sum(),
                    bytes_out: counts.iter().map(|c| c.compress_out.get()).sum(),
                    no_memory: counts.iter().map(|c| c.compress_no_memory.get()).sum(),
                },
                persistence: self.persistence(name),
                latency,
                cookie: service.spec.cookie.as_ref().map(|_| cookies(counts)),
                udp: self
                    .services
                    .get(name)
                    .map(|shared| UdpCounters {
                        sessions: shared.udp.now().into(),
                        evicted: counts.iter().map(|c| c.evicted.get()).sum(),
                        dropped: counts.iter().map(|c| c.no_room.get()).sum(),
                        moved: counts.iter().map(|c| c.moved.get()).sum(),
                    })
                    .unwrap_or_default(),
                backends: backends.collect(),
            }
        });
        let listens = self.listens.iter().map(|(listen, bound)| {
            let accepted: u64 = bound.counts.iter().map(|c| c.accepted.get()).sum();
            let closed: u64 = bound.counts.iter().map(|c| c.closed.get()).sum();
            let refused = REFUSALS.iter().enumerate().map(|(i, status)| {
                let of = |c: &ListenCounts| c.refused.get(i).map_or(0, |n| n.get());
                (*status, bound.counts.iter().map(of).sum())
            });
            ListenState {
                listen: *listen,
                connections: accepted.saturating_sub(closed),
                accepted,
                panicked: bound.counts.iter().map(|c| c.panicked.get()).sum(),
                requests: bound.counts.iter().map(|c| c.requests.get()).sum(),
                refused: refused.filter(|(_, n)| *n > 0).collect(),
                unsent: bound.counts.iter().map(|c| c.unsent.get()).sum(),
                lost: ListenCounts::losses(&bound.counts),
            }
        });
        Counters {
            packets: None,
            services: services.collect(),
            listens: listens.collect(),
            access_log: AccessLogCounters {
                lines: self.shared.access_log.lines(),
                dropped: self.shared.access_log.dropped(),
            },
            compress_memory: self.shared.compress_memory.held(),
            workers: self.shared.load.each().collect(),
        }
    }

    fn limits(&self, service: &Name) -> Option<LimitCounters> {
        let snapshot = self.shared.snapshot.load();
        let door = snapshot.services.get(service)?.door.as_ref()?;
        Some(door.limiter()?.counters())
    }

    fn persistence(&self, service: &Name) -> Option<PersistenceCounters> {
        let snapshot = self.shared.snapshot.load();
        let sticky = snapshot.services.get(service)?.sticky.as_ref()?;
        Some(sticky.counters())
    }

    /// A page of the flows of all workers, the oldest first.
    ///
    /// # Errors
    /// A worker does not answer in time.
    pub(super) fn list(&self, filter: &FlowFilter, cursor: u64) -> Result<FlowPage, PlaneError> {
        let until = Instant::now() + FLOWS_WITHIN;
        let mut all = Vec::new();
        for sender in self.shared.workers.get().into_iter().flatten() {
            let (reply, mut answer) = oneshot::channel();
            if sender.send(Command::Flows(filter.clone(), reply)).is_err() {
                continue;
            }
            loop {
                match answer.try_recv() {
                    Ok(flows) => break all.extend(flows),
                    Err(oneshot::error::TryRecvError::Closed) => break,
                    Err(oneshot::error::TryRecvError::Empty) if Instant::now() < until => {
                        std::thread::sleep(Duration::from_micros(200));
                    }
                    Err(_) => {
                        return Err(PlaneError::Other("a worker does not answer".into()));
                    }
                }
            }
        }
        all.sort_by(|a, b| b.age.cmp(&a.age).then_with(|| a.client.cmp(&b.client)));
        let limit = if filter.limit == 0 {
            FLOWS
        } else {
            filter.limit
        };
        let from = usize::try_from(cursor).unwrap_or(usize::MAX);
        let more = all.len() > from.saturating_add(limit);
        let next = more.then_some(cursor.saturating_add(limit as u64));
        Ok(FlowPage {
            flows: all.into_iter().skip(from).take(limit).collect(),
            next,
        })
    }
}
