//! Connection thresholds: `upper` and `lower`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_model::{Backend, Persistence, SchedulerKind, ServiceSpec};
use plimsoll_testkit::{
    Client, ClientPlan, HttpBackend, HttpBehaviour, Raw, TcpBackend, wait_until_async,
};

use crate::common::{BOUND, Proxy, at, ms};

fn with(address: SocketAddr, upper: u32, lower: u32) -> Backend {
    Backend {
        upper,
        lower,
        ..at(address)
    }
}

fn tcps(count: usize) -> Vec<TcpBackend> {
    let mut backends: Vec<_> = (0..count)
        .map(|_| TcpBackend::start("t").unwrap())
        .collect();
    // In the order in which a service knows them.
    backends.sort_by_key(TcpBackend::address);
    backends
}

fn active(proxy: &Proxy, backends: &[TcpBackend]) -> Vec<u64> {
    let of = |b: &TcpBackend| proxy.counters_of(b.address()).active;
    backends.iter().map(of).collect()
}

/// A connection once it is at a backend, after which they have so many.
async fn opened(proxy: &Proxy, backends: &[TcpBackend], after: &[u64]) -> Raw {
    let raw = proxy.connect().await;
    let there = || active(proxy, backends) == after;
    let arrived = wait_until_async(BOUND, there).await;
    assert!(arrived, "{:?}, not {after:?}", active(proxy, backends));
    raw
}

#[tokio::test]
async fn who_has_upper_gets_nothing_new_until_it_is_below_lower() {
    let backends = tcps(2);
    let [first, second] = [0, 1].map(|at| backends[at].address());
    let mut proxy = Proxy::tcp_with(vec![with(first, 3, 2), at(second)], |spec| {
        spec.scheduler.kind = SchedulerKind::First;
    });
    let mut open = Vec::new();
    for after in [[1, 0], [2, 0], [3, 0], [3, 1]] {
        open.push(opened(&proxy, &backends, &after).await);
    }
    assert!(proxy.counters_of(first).overloaded);
    assert!(!proxy.counters_of(second).overloaded);
    drop(open.remove(0));
    assert!(wait_until_async(BOUND, || active(&proxy, &backends) == [2, 1]).await);
    open.push(opened(&proxy, &backends, &[2, 2]).await);
    drop(open.remove(0));
    assert!(wait_until_async(BOUND, || active(&proxy, &backends) == [1, 2]).await);
    assert!(!proxy.counters_of(first).overloaded);
    for after in [[2, 2], [3, 2], [3, 3]] {
        open.push(opened(&proxy, &backends, &after).await);
    }
    // A change of the settings holds for what is there.
    proxy.edit_backend(first, |b| b.upper = 5);
    open.push(opened(&proxy, &backends, &[4, 3]).await);
    proxy.edit_backend(first, |b| (b.upper, b.lower) = (4, 1));
    open.push(opened(&proxy, &backends, &[4, 4]).await);
    proxy.edit_backend(first, |b| (b.upper, b.lower) = (0, 0));
    open.push(opened(&proxy, &backends, &[5, 4]).await);
}

#[tokio::test]
async fn every_scheduler_keeps_to_them_and_refuses_where_all_are_at_theirs() {
    let backends = tcps(3);
    for (name, kind) in SchedulerKind::NAMES {
        let there = backends.iter().map(|b| with(b.address(), 2, 1)).collect();
        let proxy = Proxy::tcp_with(there, |spec| spec.scheduler.kind = kind);
        let mut open = Vec::new();
        for nth in 1..=6 {
            open.push(proxy.connect().await);
            let sum = || active(&proxy, &backends).iter().sum::<u64>();
            assert!(wait_until_async(BOUND, || sum() == nth).await, "{name}");
        }
        assert_eq!(active(&proxy, &backends), [2, 2, 2], "{name}");
        assert!(proxy.refuses().await, "{name}");
        drop(open);
        proxy.settled().await;
        let _one = proxy.connect().await;
        let sum = || active(&proxy, &backends).iter().sum::<u64>();
        assert!(wait_until_async(BOUND, || sum() == 1).await, "{name}");
    }
}

/// A request that is not whole yet, at the backend.
async fn half(proxy: &Proxy, backend: SocketAddr, from: [u8; 4]) -> Raw {
    let before = proxy.counters_of(backend).active;
    let mut client = Raw::connect_as(from.into(), proxy.address()).await.unwrap();
    client
        .send("POST / HTTP/1.1\r\nHost: a.org\r\nContent-Length: 10\r\n\r\n12345")
        .await
        .unwrap();
    let there = || proxy.counters_of(backend).active == before + 1;
    assert!(wait_until_async(BOUND, there).await);
    client
}

#[tokio::test]
async fn http_gets_503_at_once_or_the_sorry_server() {
    let [main, sorry] = ["main", "sorry"].map(|id| HttpBackend::start(id).unwrap());
    let mut proxy = Proxy::http_with(vec![with(main.address(), 1, 0)], |spec| {
        // Nobody is to wait for this.
        spec.timeouts.queue = Duration::from_secs(3600);
    });
    let mut first = half(&proxy, main.address(), [127, 0, 0, 1]).await;
    assert_eq!(proxy.get("a.org", "/").await.status, 503);
    proxy.edit(|web| Arc::make_mut(&mut web.spec).sorry = Some(at(sorry.address())));
    assert_eq!(proxy.get("a.org", "/").await.status, 200);
    assert_eq!((main.stats().requests, sorry.stats().requests), (1, 1));
    first.send("67890").await.unwrap();
    assert_eq!(first.read_response(BOUND).await.unwrap().status, 200);
    proxy.settled().await;
    assert_eq!(proxy.get("a.org", "/").await.status, 200);
    assert_eq!((main.stats().requests, sorry.stats().requests), (2, 1));
}

#[tokio::test]
async fn never_more_than_upper_over_all_workers() {
    let backend = HttpBackend::start("b").unwrap();
    backend.behave(HttpBehaviour::slow(ms(1)));
    let proxy = Proxy::http_with(vec![with(backend.address(), 3, 3)], |_| {});
    let plan = ClientPlan {
        tasks: 12,
        ..ClientPlan::http(proxy.address(), "a.org")
    };
    let report = Client::run(plan, 600).await;
    let stats = backend.stats();
    assert!((1..=3).contains(&stats.most_active), "{stats:?}");
    assert!(report.of("b") > 0);
    proxy.settled().await;
    assert!(!proxy.counters_of(backend.address()).overloaded);
}

fn persistence(spec: &mut ServiceSpec) {
    spec.persistence = Some(Persistence::new(Duration::from_secs(3600)));
}

#[tokio::test]
async fn clients_that_stay_come_all_the_same() {
    let mut backends = ["a", "b"].map(|id| HttpBackend::start(id).unwrap());
    backends.sort_by_key(HttpBackend::address);
    let [first, second] = [0, 1].map(|at| backends[at].address());
    let proxy = Proxy::http_with(vec![with(first, 1, 0), at(second)], |spec| {
        spec.scheduler.kind = SchedulerKind::First;
        persistence(spec);
    });
    let (own, other) = ([127, 0, 5, 1], [127, 0, 5, 2]);
    let _one = half(&proxy, first, own).await;
    assert!(proxy.counters_of(first).overloaded);
    let _two = half(&proxy, first, own).await;
    let _three = half(&proxy, second, other).await;
    assert_eq!(proxy.counters_of(first).active, 2);
}

#[tokio::test]
async fn who_waits_counts_as_well() {
    let backend = HttpBackend::start("b").unwrap();
    let address = backend.address();
    let both = Backend {
        maxconn: 1,
        ..with(address, 2, 1)
    };
    let proxy = Proxy::http_with(vec![both], |spec| {
        spec.timeouts.queue = Duration::from_secs(3600);
    });
    let mut first = half(&proxy, address, [127, 0, 0, 1]).await;
    let mut second = proxy.connect().await;
    second
        .send("GET / HTTP/1.1\r\nHost: a.org\r\n\r\n")
        .await
        .unwrap();
    let waits = || proxy.counters_of(address).queued == 1;
    assert!(wait_until_async(BOUND, waits).await);
    assert_eq!(proxy.get("a.org", "/").await.status, 503);
    first.send("67890").await.unwrap();
    for client in [&mut first, &mut second] {
        assert_eq!(client.read_response(BOUND).await.unwrap().status, 200);
    }
    proxy.settled().await;
    assert_eq!(proxy.get("a.org", "/").await.status, 200);
}
