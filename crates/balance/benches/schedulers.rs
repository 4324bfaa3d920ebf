//! One pick at 10, 100 and 1000 backends for each scheduler, and the building of tables.

#![allow(
    missing_docs,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "benchmark"
)]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use plimsoll_balance::{Balancer, Candidate, Client, Loads, PeakEwma, Shared, SlowStart};
use plimsoll_model::{BackendAddr, Scheduler, SchedulerKind};

/// The time of all picks, in ms.
const NOW: u64 = 1_000_000;

const DECAY: Duration = Duration::from_secs(10);

/// Loads as a proxy has them: shared counters, each on a cache line of its own.
struct Counters(Vec<Counter>);

#[repr(align(64))]
struct Counter {
    active: AtomicU32,
    limit: u32,
    latency: PeakEwma,
}

impl Loads for Counters {
    fn active(&self, index: usize) -> u32 {
        self.0
            .get(index)
            .map_or(0, |c| c.active.load(Ordering::Relaxed))
    }

    fn usable(&self, index: usize) -> bool {
        self.0
            .get(index)
            .is_some_and(|c| c.active.load(Ordering::Relaxed) < c.limit)
    }

    fn latency(&self, index: usize) -> Option<f32> {
        self.0.get(index)?.latency.estimate(NOW, DECAY)
    }
}

fn candidates(n: u32, weight: impl Fn(u32) -> u32) -> Vec<Candidate> {
    (0..n)
        .map(|i| Candidate {
            addr: BackendAddr::Ip(IpAddr::V4(Ipv4Addr::from(0x0a00_0001 + i)), Some(80)),
            weight: weight(i),
            ready_since: 0,
        })
        .collect()
}

/// An answer some time ago, so that there is something to compute.
fn answered(i: u32) -> PeakEwma {
    let latency = PeakEwma::default();
    let taken = Duration::from_micros(100 + u64::from(i.wrapping_mul(2_654_435_761) % 9000));
    latency.observe(NOW - 500, taken, DECAY);
    latency
}

/// Everyone busy and the least busy anywhere, so that `lc` has to look at all of them.
fn busy(n: u32) -> Counters {
    let one = |i: u32| Counter {
        active: AtomicU32::new(10 + i.wrapping_mul(2_654_435_761) % 50),
        limit: 1000,
        latency: answered(i),
    };
    Counters((0..n).map(one).collect())
}

fn client(address: u32) -> Client {
    Client {
        ip: IpAddr::V4(Ipv4Addr::from(address)),
        port: 40_000,
        destination: IpAddr::V4(Ipv4Addr::from(address & 0xfff)),
    }
}

fn noise() -> impl FnMut() -> u64 {
    let mut x = 0x9E37_79B9_7F4A_7C15u64;
    move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x
    }
}

fn picks(c: &mut Criterion) {
    for (name, kind) in SchedulerKind::NAMES {
        let mut group = c.benchmark_group(name);
        for n in [10, 100, 1000] {
            let scheduler = Scheduler {
                kind,
                ..Scheduler::default()
            };
            let candidates = candidates(n, |i| 1 + i * 7 % 13);
            let balancer =
                Balancer::new(&scheduler, &candidates, Arc::new(Shared::default()), None);
            let loads = busy(n);
            let mut random = noise();
            let mut address = 0u32;
            group.bench_function(BenchmarkId::from_parameter(n), |b| {
                b.iter(|| {
                    address = address.wrapping_add(0x9E37_79B9);
                    balancer.pick(black_box(&client(address)), NOW, &loads, &mut random)
                });
            });
        }
        group.finish();
    }
}

/// One of a thousand in the middle of its slow start.
fn slow_starts(c: &mut Criterion) {
    let mut group = c.benchmark_group("slow start");
    for (name, kind) in SchedulerKind::NAMES {
        let scheduler = Scheduler {
            kind,
            ..Scheduler::default()
        };
        let mut candidates = candidates(1000, |i| 1 + i * 7 % 13);
        candidates[500].ready_since = NOW - 5000;
        let slow = SlowStart {
            over: 10_000,
            now: NOW,
        };
        let shared = Arc::new(Shared::default());
        let balancer = Balancer::new(&scheduler, &candidates, shared, Some(slow));
        let loads = busy(1000);
        let mut random = noise();
        let mut address = 0u32;
        group.bench_function(name, |b| {
            b.iter(|| {
                address = address.wrapping_add(0x9E37_79B9);
                balancer.pick(black_box(&client(address)), NOW, &loads, &mut random)
            });
        });
    }
    group.finish();
}

fn builds(c: &mut Criterion) {
    let mut group = c.benchmark_group("build");
    let mut build = |name: &str, kind, n: u32, table, weight: fn(u32) -> u32| {
        let scheduler = Scheduler {
            kind,
            table,
            ..Scheduler::default()
        };
        let candidates = candidates(n, weight);
        group.bench_function(name, |b| {
            b.iter_batched(
                || Arc::new(Shared::default()),
                |shared| Balancer::new(&scheduler, black_box(&candidates), shared, None),
                BatchSize::SmallInput,
            );
        });
    };
    let equal = |_| 1;
    let mixed = |i| 1 + i * 7 % 13;
    let odd = |i: u32| i.wrapping_mul(2_654_435_761) >> 1 | 1;
    build("mh 65537x1000", SchedulerKind::Mh, 1000, 65_537, equal);
    build(
        "mh 65537x1000 weighted",
        SchedulerKind::Mh,
        1000,
        65_537,
        mixed,
    );
    build("mh 65537x100", SchedulerKind::Mh, 100, 65_537, equal);
    build("mh 65537x10", SchedulerKind::Mh, 10, 65_537, equal);
    build("mh 393241x1000", SchedulerKind::Mh, 1000, 393_241, equal);
    build("mh 655373x1000", SchedulerKind::Mh, 1000, 655_373, equal);
    build("wrr 1000 small weights", SchedulerKind::Wrr, 1000, 0, mixed);
    build("wrr 1000 odd weights", SchedulerKind::Wrr, 1000, 0, odd);
    build("sh 1000", SchedulerKind::Sh, 1000, 0, mixed);
    build("ring 1000", SchedulerKind::Ring, 1000, 0, mixed);
    build("lblc 1000", SchedulerKind::Lblc, 1000, 0, mixed);
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30);
    targets = picks, slow_starts, builds
}
criterion_main!(benches);
