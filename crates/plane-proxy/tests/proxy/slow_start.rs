//! Slow start with real connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_model::{
    Cookie, CookieMode, Persistence, Proto, SchedulerKind, ServiceSpec, State, Status,
};
use plimsoll_testkit::{BACKEND_HEADER, Client, ClientPlan, HttpBackend, Raw, wait_until_async};

use crate::common::{BOUND, Proxy, at, ms};
use crate::schedulers::{https, over, told_of};

/// So long that nothing of it passes in a test.
const HOURS: Duration = Duration::from_secs(10 * 3600);

/// Waits until the backends there are have been there for some ms: ages are told apart by these.
async fn age(proxy: &mut Proxy) {
    let _client = proxy.connect().await;
    let is_old = || proxy.flows().iter().any(|flow| flow.age > ms(5));
    assert!(wait_until_async(BOUND, is_old).await);
}

/// Requests that each backend gets of so many.
async fn shares(proxy: &Proxy, backends: &[HttpBackend], requests: u64) -> Vec<u64> {
    let plan = ClientPlan::http(proxy.address(), "a.org");
    let report = Client::run(plan, requests).await;
    report.assert_clean();
    backends.iter().map(|b| report.of(b.id())).collect()
}

/// Whether no share is off by more than a few.
fn near(shares: &[u64], ideal: &[u64]) -> bool {
    let mut pairs = shares.iter().zip(ideal);
    pairs.all(|(share, ideal)| share.abs_diff(*ideal) <= 3)
}

#[tokio::test]
async fn who_comes_beside_others_starts_slowly() {
    let backends = https(&["b1", "b2", "b3"]);
    let new = backends[2].address();
    let mut proxy = Proxy::http_with(over(&backends[..2]), |spec| spec.slow_start = HOURS);
    // All that there is is new: nobody is slow.
    assert!(near(&shares(&proxy, &backends, 60).await, &[30, 30, 0]));
    age(&mut proxy).await;
    proxy.add_backend(at(new));
    let step = told_of(&proxy, Proto::Http, new);
    assert!(step.contains(", slow start: "), "{step}");
    let first = backends[0].address();
    assert!(!told_of(&proxy, Proto::Http, first).contains("slow start"));
    // It serves where the others cannot.
    let down = Status::new(State::Down, "test");
    for other in &backends[..2] {
        proxy.edit_backend(other.address(), |b| b.status = down.clone());
    }
    assert_eq!(shares(&proxy, &backends, 20).await, [0, 0, 20]);
}

#[tokio::test]
async fn who_comes_back_starts_slowly_and_ends_with_a_full_share() {
    let backends = https(&["b1", "b2"]);
    let back = backends[1].address();
    let mut proxy = Proxy::http_with(over(&backends), |spec| {
        spec.scheduler.kind = SchedulerKind::Rr
    });
    let is_slow = |proxy: &Proxy| {
        let told = told_of(proxy, Proto::Http, back).contains("slow start");
        // Its time may end between both looks.
        told && proxy.counters_of(back).slow_start.is_some()
    };
    let come_back = |proxy: &mut Proxy| {
        proxy.edit_backend(back, |b| b.status = Status::new(State::Down, "test"));
        proxy.edit_backend(back, |b| b.status = Status::default());
    };
    // Nothing is slow that is not asked to be.
    come_back(&mut proxy);
    assert!(!is_slow(&proxy));
    assert!(near(&shares(&proxy, &backends, 60).await, &[30, 30]));
    age(&mut proxy).await;
    // A change of settings alone makes nobody new.
    proxy.edit(|web| Arc::make_mut(&mut web.spec).slow_start = HOURS);
    come_back(&mut proxy);
    assert!(is_slow(&proxy));
    proxy.edit(|web| Arc::make_mut(&mut web.spec).retries = 1);
    assert!(is_slow(&proxy));
    proxy.edit(|web| Arc::make_mut(&mut web.spec).slow_start = ms(500));
    assert!(wait_until_async(BOUND, || !is_slow(&proxy)).await);
    // The workers' clock may be behind.
    let mut ends = false;
    for _ in 0..100 {
        ends = near(&shares(&proxy, &backends, 60).await, &[30, 30]);
        if ends {
            break;
        }
    }
    assert!(ends);
}

fn persistence(spec: &mut ServiceSpec) {
    spec.persistence = Some(Persistence {
        timeout: HOURS,
        prefix_v4: 32,
        prefix_v6: 128,
    });
}

#[tokio::test]
async fn who_gets_a_weight_starts_slowly_also_if_it_had_clients_of_its_own() {
    let backends = https(&["b1", "b2"]);
    let [_, resting] = [0, 1].map(|at| backends[at].address());
    for stay in [|_: &mut ServiceSpec| {}, persistence] {
        let mut proxy = Proxy::http_with(over(&backends), |spec| {
            spec.slow_start = HOURS;
            stay(spec);
        });
        proxy.edit_backend(resting, |b| b.weight = 0);
        assert_eq!(shares(&proxy, &backends, 20).await, [20, 0]);
        age(&mut proxy).await;
        proxy.edit_backend(resting, |b| b.weight = 1);
        let step = told_of(&proxy, Proto::Http, resting);
        assert!(step.contains(", slow start: "), "{step}");
        assert!(proxy.counters_of(resting).slow_start < Some(100));
        // Another weight makes nobody new.
        proxy.edit_backend(backends[0].address(), |b| b.weight = 5);
        assert_eq!(proxy.counters_of(backends[0].address()).slow_start, None);
    }
}

/// The first place at the older of two backends taken, so that whoever comes goes to the newer.
async fn occupied(proxy: &mut Proxy, old: SocketAddr, new: SocketAddr) -> Raw {
    proxy.edit_backend(old, |b| b.maxconn = 1);
    age(proxy).await;
    let other = [127, 0, 4, 1].into();
    let mut client = Raw::connect_as(other, proxy.address()).await.unwrap();
    client
        .send("POST / HTTP/1.1\r\nHost: a.org\r\nContent-Length: 10\r\n\r\n12345")
        .await
        .unwrap();
    let there = || proxy.counters_of(old).active == 1;
    assert!(wait_until_async(BOUND, there).await);
    proxy.add_backend(at(new));
    assert!(proxy.counters_of(new).slow_start.is_some());
    client
}

/// A GET with this cookie, or without; the pair that is set, if one is.
async fn visit(proxy: &Proxy, cookie: Option<&str>) -> (String, Option<String>) {
    let field = cookie.map_or(String::new(), |c| format!("Cookie: {c}\r\n"));
    let mut client = proxy.connect().await;
    let request = format!("GET / HTTP/1.1\r\nHost: a.org\r\n{field}\r\n");
    client.send(request).await.unwrap();
    let answer = client.read_response(BOUND).await.unwrap();
    assert_eq!(answer.status, 200);
    let set = answer.head.get("set-cookie").map(|set| {
        let (pair, _) = set.split_once(';').unwrap();
        pair.to_owned()
    });
    (answer.head.get(BACKEND_HEADER).unwrap().to_owned(), set)
}

#[tokio::test]
async fn who_stays_comes_back_to_one_that_starts_slowly() {
    let backends = https(&["b1", "b2"]);
    let [old, new] = [0, 1].map(|at| backends[at].address());
    let cookie = |spec: &mut ServiceSpec| {
        spec.cookie = Some(Cookie::new("SRV".into(), CookieMode::Insert));
    };
    for (name, kind) in SchedulerKind::NAMES {
        for stay in [cookie, persistence] {
            let mut proxy = Proxy::http_with(over(&backends[..1]), |spec| {
                spec.scheduler.kind = kind;
                spec.slow_start = HOURS;
                stay(spec);
            });
            let mut other = occupied(&mut proxy, old, new).await;
            let (by, cookie) = visit(&proxy, None).await;
            assert_eq!(by, backends[1].id(), "{name}");
            other.send("67890").await.unwrap();
            other.read_response(BOUND).await.unwrap();
            proxy.settled().await;
            for _ in 0..5 {
                let (by, _) = visit(&proxy, cookie.as_deref()).await;
                assert_eq!(by, backends[1].id(), "{name}");
            }
        }
    }
}
