//! Schedulers with real connections.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use plimsoll_model::{Backend, Listen, Proto, SchedulerKind, ServiceSpec, State, Status};
use plimsoll_plane::{Explanation, Plane, Tuple};
use plimsoll_testkit::{
    Answer, BACKEND_HEADER, Client, ClientPlan, Ending, HttpBackend, HttpBehaviour, Phase, Port,
    Raw, TcpBackend, wait_until_async,
};

use crate::common::{BOUND, Proxy, at, limited, ms};

/// Backends of these names, in the order in which a service knows them.
pub(crate) fn https(names: &[&str]) -> Vec<HttpBackend> {
    let mut backends: Vec<HttpBackend> = names
        .iter()
        .map(|name| HttpBackend::start(name).unwrap())
        .collect();
    backends.sort_by_key(HttpBackend::address);
    backends
}

pub(crate) fn over(backends: &[HttpBackend]) -> Vec<Backend> {
    backends.iter().map(|b| at(b.address())).collect()
}

fn kind(kind: SchedulerKind) -> impl Fn(&mut ServiceSpec) {
    move |spec| spec.scheduler.kind = kind
}

pub(crate) async fn served_by(client: &mut Raw) -> String {
    let answer = client.get("a.org", "/", BOUND).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.head.get(BACKEND_HEADER).unwrap().to_owned()
}

fn explain(proxy: &Proxy, destination: SocketAddr, proto: Proto) -> Explanation {
    proxy.plane.explain(&Tuple {
        client: "127.0.0.1:4711".parse().unwrap(),
        destination,
        proto,
        host: Some("a.org".into()),
        path: Some("/".into()),
    })
}

/// The line that tells of a backend.
pub(crate) fn told_of(proxy: &Proxy, proto: Proto, backend: SocketAddr) -> String {
    let told = explain(proxy, proxy.address(), proto);
    let start = format!("backend {backend}: ");
    let mut steps = told.steps.iter();
    let step = steps.find(|step| step.starts_with(&start));
    step.unwrap_or_else(|| panic!("{told:?}")).clone()
}

#[tokio::test]
async fn every_scheduler_serves_http_and_tcp() {
    let web = https(&["b1", "b2", "b3"]);
    let tcp: Vec<TcpBackend> = (0..3).map(|_| TcpBackend::start("t").unwrap()).collect();
    let mut http = Proxy::http_with(over(&web), |_| {});
    let mut plain = Proxy::tcp(&tcp.iter().map(TcpBackend::address).collect::<Vec<_>>());
    for (name, kind) in SchedulerKind::NAMES {
        for (proxy, proto) in [(&mut http, Proto::Http), (&mut plain, Proto::Tcp)] {
            proxy.edit(|web| Arc::make_mut(&mut web.spec).scheduler.kind = kind);
            let plan = match proto {
                Proto::Http => ClientPlan::http(proxy.address(), "a.org"),
                _ => ClientPlan::tcp(proxy.address()),
            };
            Client::run(plan, 30).await.assert_clean();
            let told = explain(proxy, proxy.address(), proto);
            let scheduler = format!("scheduler {name} over 3 backends");
            assert!(
                told.steps.iter().any(|s| s.contains(&scheduler)),
                "{told:?}"
            );
        }
    }
}

#[tokio::test]
async fn dh_goes_by_the_address_the_client_connected_to() {
    let backends = https(&["b1", "b2", "b3"]);
    let any = Port::take().unwrap();
    let mut proxy = Proxy::http_with(over(&backends), kind(SchedulerKind::Dh));
    proxy.edit(|web| {
        let listens = &mut Arc::make_mut(&mut web.spec).listens;
        listens.push(Listen::socket(None, any.number(), Proto::Http));
    });
    let mut seen = BTreeSet::new();
    for n in 1..=20 {
        let ip = IpAddr::from(Ipv4Addr::new(127, 0, 0, n));
        let destination = SocketAddr::new(ip, any.number());
        let mut there = BTreeSet::new();
        for _ in 0..3 {
            there.insert(served_by(&mut Raw::connect(destination).await.unwrap()).await);
        }
        let told = explain(&proxy, destination, Proto::Http);
        let backend = backends.iter().find(|b| there.contains(b.id())).unwrap();
        assert_eq!(there.len(), 1, "{destination}: {there:?}");
        assert_eq!(told.backend, Some(backend.address().into()), "{told:?}");
        seen.extend(there);
    }
    // One of 3¹⁹ chances that all are the same; the seed makes it always the same.
    assert!(seen.len() > 1, "{seen:?}");
}

#[tokio::test]
async fn dh_knows_where_clients_are_that_were_there_before_it() {
    let backends = https(&["b1", "b2", "b3"]);
    let any = Port::take().unwrap();
    let mut proxy = Proxy::http_with(over(&backends), |_| {});
    proxy.edit(|web| {
        let listens = &mut Arc::make_mut(&mut web.spec).listens;
        listens.push(Listen::socket(None, any.number(), Proto::Http));
    });
    let mut clients = Vec::new();
    for n in 1..=20 {
        let destination = SocketAddr::from(([127, 0, 0, n], any.number()));
        let mut client = Raw::connect(destination).await.unwrap();
        served_by(&mut client).await;
        clients.push((destination, client));
    }
    proxy.edit(|web| Arc::make_mut(&mut web.spec).scheduler.kind = SchedulerKind::Dh);
    for (destination, client) in &mut clients {
        let by = served_by(client).await;
        let told = explain(&proxy, *destination, Proto::Http);
        let backend = backends.iter().find(|b| b.id() == by).unwrap();
        assert_eq!(told.backend, Some(backend.address().into()), "{told:?}");
    }
}

#[tokio::test]
async fn first_goes_on_when_the_one_before_is_full() {
    let mut backends: Vec<TcpBackend> = (0..3).map(|_| TcpBackend::start("t").unwrap()).collect();
    backends.sort_by_key(TcpBackend::address);
    let proxy = Proxy::tcp_with(
        backends.iter().map(|b| limited(b.address(), 2)).collect(),
        kind(SchedulerKind::First),
    );
    let active = || -> Vec<u64> {
        let of = |b: &TcpBackend| proxy.counters_of(b.address()).active;
        backends.iter().map(of).collect()
    };
    let mut open = Vec::new();
    for expected in [[1, 0, 0], [2, 0, 0], [2, 1, 0], [2, 2, 0], [2, 2, 1]] {
        open.push(proxy.connect().await);
        assert!(wait_until_async(BOUND, || active() == expected).await);
    }
    drop(open);
    proxy.settled().await;
    let _one = proxy.connect().await;
    assert!(wait_until_async(BOUND, || active() == [1, 0, 0]).await);
}

#[tokio::test]
async fn fo_keeps_to_the_heaviest_that_is_there() {
    let backends = https(&["b1", "b2"]);
    let mut proxy = Proxy::http_with(over(&backends), kind(SchedulerKind::Fo));
    let (spare, main) = (backends[0].address(), backends[1].address());
    proxy.edit_backend(main, |b| b.weight = 100);
    let counts = |proxy: &Proxy| [spare, main].map(|a| proxy.counters_of(a).requests);
    let plan = || ClientPlan::http(proxy.address(), "a.org");
    Client::run(plan(), 50).await.assert_clean();
    assert_eq!(counts(&proxy), [0, 50]);
    let down = Status::new(State::Down, "test");
    proxy.edit_backend(main, |b| b.status = down);
    let plan = ClientPlan::http(proxy.address(), "a.org");
    Client::run(plan, 50).await.assert_clean();
    assert_eq!(counts(&proxy), [50, 50]);
}

/// How the line of a backend ends that has not answered yet.
const UNKNOWN: &str = ", has not answered yet";

/// What is expected of a backend's time to answer, in ms.
fn expected_ms(proxy: &Proxy, proto: Proto, backend: SocketAddr) -> f64 {
    let step = told_of(proxy, proto, backend);
    let (_, rest) = step.split_once(", answers in ").unwrap();
    rest.trim_end_matches(" ms").parse().unwrap()
}

#[tokio::test]
async fn ewma_leaves_who_is_slow_alone() {
    let backends = https(&["b1", "b2"]);
    let slow = &backends[0];
    slow.behave(HttpBehaviour::slow(ms(2000)));
    let proxy = Proxy::http_with(over(&backends), kind(SchedulerKind::Ewma));
    for backend in &backends {
        let step = told_of(&proxy, Proto::Http, backend.address());
        assert!(step.ends_with(UNKNOWN), "{step}");
    }
    // Until both are known: whoever is not is tried before the other.
    let mut asked = 0;
    while (backends.iter()).any(|b| told_of(&proxy, Proto::Http, b.address()).ends_with(UNKNOWN)) {
        served_by(&mut proxy.connect().await).await;
        asked += 1;
        assert!(asked < 60, "one of them is never tried");
    }
    slow.behave(HttpBehaviour::default());
    let before = slow.stats().requests;
    for _ in 0..60 {
        served_by(&mut proxy.connect().await).await;
    }
    // By chance, where both draws are the same again and again: one of 32 times. Of 60 requests more
    // than 24 are so once in 10²⁰ runs; about 30 would be if it did not count how long they take.
    let to_slow = slow.stats().requests - before;
    assert!(to_slow <= 24, "{to_slow}");
    assert!(expected_ms(&proxy, Proto::Http, slow.address()) > 500.0);
    assert!(expected_ms(&proxy, Proto::Http, backends[1].address()) < 2000.0);
}

#[tokio::test]
async fn ewma_learns_of_waits_that_clients_give_up() {
    let backends = https(&["b1"]);
    let (hung, address) = (&backends[0], backends[0].address());
    hung.behave(HttpBehaviour::answering(Answer::Never));
    let mut proxy = Proxy::http_with(over(&backends), kind(SchedulerKind::Ewma));
    let mut give_up = async |head: &str, age| {
        let mut client = proxy.connect().await;
        client.send(head).await.unwrap();
        let waits = || {
            let flows = proxy.flows();
            (flows.iter()).any(|flow| flow.backend.is_some() && flow.age > ms(age))
        };
        assert!(wait_until_async(BOUND, waits).await);
        drop(client);
        assert!(wait_until_async(BOUND, || proxy.counters_of(address).active == 0).await);
        told_of(&proxy, Proto::Http, address)
    };
    // It need not answer before the whole request is there.
    let half = "POST / HTTP/1.1\r\nHost: a.org\r\nContent-Length: 10\r\n\r\n12345";
    let told = give_up(half, 10).await;
    assert!(told.ends_with(UNKNOWN), "{told}");
    give_up("GET / HTTP/1.1\r\nHost: a.org\r\n\r\n", 2000).await;
    assert!(expected_ms(&proxy, Proto::Http, address) > 500.0);
}

#[tokio::test]
async fn ewma_learns_of_connections_that_end_without_an_answer() {
    let backends = https(&["b1"]);
    let bad = &backends[0];
    bad.behave(HttpBehaviour::answering(Answer::Cut(
        Phase::Request,
        Ending::Close,
    )));
    let proxy = Proxy::http_with(over(&backends), kind(SchedulerKind::Ewma));
    assert_eq!(proxy.get("a.org", "/").await.status, 502);
    // Who has only failed counts as if it took a second.
    assert!(expected_ms(&proxy, Proto::Http, bad.address()) > 500.0);
}

#[tokio::test]
async fn ewma_knows_tcp_backends_by_their_time_to_connect() {
    let backend = TcpBackend::start("t").unwrap();
    let proxy = Proxy::tcp_with(vec![at(backend.address())], kind(SchedulerKind::Ewma));
    Client::run(ClientPlan::tcp(proxy.address()), 5)
        .await
        .assert_clean();
    assert!(expected_ms(&proxy, Proto::Tcp, backend.address()) < 5000.0);
}

#[tokio::test]
async fn ewma_does_not_count_the_time_a_client_takes_to_send() {
    let backends = https(&["b1"]);
    let proxy = Proxy::http_with(over(&backends), kind(SchedulerKind::Ewma));
    let mut client = proxy.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a.org\r\nContent-Length: 10\r\n\r\n12345")
        .await
        .unwrap();
    let mut proxy = proxy;
    let dawdled = || {
        let flows = proxy.flows();
        flows
            .iter()
            .any(|flow| flow.backend.is_some() && flow.age > ms(3000))
    };
    assert!(wait_until_async(BOUND, dawdled).await);
    client.send("67890").await.unwrap();
    assert_eq!(client.read_response(BOUND).await.unwrap().status, 200);
    let expected = expected_ms(&proxy, Proto::Http, backends[0].address());
    assert!(expected < 2500.0, "{expected}");
}
