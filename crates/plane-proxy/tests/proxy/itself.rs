//! Backends that are the listen their clients come by.

use std::net::{IpAddr, SocketAddr};

use plimsoll_model::{Listen, Ports, Proto};
use plimsoll_plane::{Event, Plane};
use plimsoll_testkit::{
    Client, ClientPlan, HttpBackend, Port, Raw, Reuse, TcpBackend, wait_until_async,
};
use tokio::sync::mpsc::Receiver;

use crate::common::{BOUND, Proxy, at};

const REASON: &str = "it is the listen that the request came by: plimsoll itself";

/// A plane where `web` listens there, before these backends and the address `itself`.
fn proxy(proto: Proto, listen: Listen, itself: SocketAddr, others: &[SocketAddr]) -> Proxy {
    let backends = others.iter().copied().chain([itself]).map(at).collect();
    match proto {
        Proto::Http => Proxy::http_with(backends, |spec| spec.listens = vec![listen]),
        _ => Proxy::tcp_with(backends, |spec| spec.listens = vec![listen]),
    }
}

/// What is said of backends that could not be connected to.
fn reasons(events: &mut Receiver<Event>) -> Vec<String> {
    let mut reasons = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let Event::ConnectFailed { reason, .. } = event {
            reasons.push(reason);
        }
    }
    reasons
}

fn accepted(proxy: &Proxy) -> u64 {
    let listens = proxy.plane.counters().listens;
    listens.iter().map(|listen| listen.accepted).sum()
}

/// Listens, and addresses of backends that are the same.
fn cases() -> Vec<(Option<IpAddr>, IpAddr)> {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let mut cases = vec![
        (Some(ip("127.0.0.1")), ip("127.0.0.1")),
        (Some(ip("127.0.0.1")), ip("0.0.0.0")),
        (Some(ip("0.0.0.0")), ip("127.0.0.1")),
        (Some(ip("0.0.0.0")), ip("127.0.0.9")),
        (None, ip("0.0.0.0")),
    ];
    // An address of this host by which it could reach others: no packet is sent to find it.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    if socket.connect("192.0.2.1:9").is_ok() {
        let own = socket.local_addr().unwrap().ip();
        cases.extend([(Some(own), own), (Some(ip("0.0.0.0")), own), (None, own)]);
    }
    cases
}

#[tokio::test]
async fn a_request_does_not_go_round() {
    for (listen, itself) in cases() {
        let port = Port::take().unwrap();
        let listen = Listen::Socket {
            ip: listen,
            ports: Ports::One(port.number()),
            proto: Proto::Http,
        };
        let itself = SocketAddr::new(itself, port.number());
        let mut proxy = proxy(Proto::Http, listen, itself, &[]);
        let mut events = proxy.plane.events().unwrap();
        let way_in = match itself.ip().is_unspecified() {
            true => port.address(),
            false => itself,
        };
        let mut client = Raw::connect(way_in).await.unwrap();
        for _ in 0..3 {
            let answer = client.get("a", "/", BOUND).await.unwrap();
            assert_eq!(answer.status, 503, "{listen}, {itself}: {answer:?}");
        }
        assert_eq!(reasons(&mut events), [REASON; 3], "{listen}, {itself}");
        assert_eq!(accepted(&proxy), 1, "{listen}, {itself}");
        let counters = proxy.counters();
        assert_eq!((counters.total, counters.unserved), (3, 3), "{listen}");
        assert_eq!(proxy.counters_of(itself).requests, 0);
    }
}

#[tokio::test]
async fn a_connection_does_not_go_round() {
    for (listen, itself) in cases() {
        let port = Port::take().unwrap();
        let listen = Listen::Socket {
            ip: listen,
            ports: Ports::One(port.number()),
            proto: Proto::Tcp,
        };
        let itself = SocketAddr::new(itself, port.number());
        let mut proxy = proxy(Proto::Tcp, listen, itself, &[]);
        let mut events = proxy.plane.events().unwrap();
        let way_in = match itself.ip().is_unspecified() {
            true => port.address(),
            false => itself,
        };
        // It may be reset before it is known to be made.
        if let Ok(mut client) = Raw::connect(way_in).await {
            let (bytes, _) = client.read_to_end(BOUND).await.unwrap();
            assert!(bytes.is_empty());
        }
        assert!(wait_until_async(BOUND, || proxy.counters().unserved >= 1).await);
        let found = reasons(&mut events);
        assert!(!found.is_empty() && found.iter().all(|reason| reason == REASON));
        proxy.settled().await;
        assert_eq!(accepted(&proxy), 1, "{listen}, {itself}");
    }
}

#[tokio::test]
async fn the_others_go_on_serving() {
    let (one, two) = (
        HttpBackend::start("one").unwrap(),
        HttpBackend::start("two").unwrap(),
    );
    let port = Port::take().unwrap();
    let listen = Listen::socket(port.address().ip(), port.number(), Proto::Http);
    let others = [one.address(), two.address()];
    let proxy_http = proxy(Proto::Http, listen, port.address(), &others);
    let plan = ClientPlan {
        reuse: Reuse::Never,
        post_every: 3,
        ..ClientPlan::http(port.address(), "a")
    };
    let report = Client::run(plan, 60).await;
    report.assert_clean();
    assert_eq!(report.of("one") + report.of("two"), 60, "{report}");
    assert!(proxy_http.counters_of(port.address()).connect_failures > 0);
    assert_eq!(accepted(&proxy_http), report.connections);

    let one = TcpBackend::start("one").unwrap();
    let port = Port::take().unwrap();
    let listen = Listen::socket(port.address().ip(), port.number(), Proto::Tcp);
    let proxy_tcp = proxy(Proto::Tcp, listen, port.address(), &[one.address()]);
    let plan = ClientPlan {
        reuse: Reuse::Never,
        ..ClientPlan::tcp(port.address())
    };
    let report = Client::run(plan, 30).await;
    report.assert_clean();
    assert_eq!(report.of("one"), 30, "{report}");
    assert!(proxy_tcp.counters_of(port.address()).connect_failures > 0);
    assert_eq!(accepted(&proxy_tcp), report.connections);
}

#[tokio::test]
async fn the_same_port_of_another_address_is_another_program() {
    let http = HttpBackend::start("b").unwrap();
    let other: IpAddr = "127.0.0.2".parse().unwrap();
    let there = SocketAddr::new(other, http.address().port());
    let listen = Listen::socket(other, there.port(), Proto::Http);
    let proxy_http = proxy(Proto::Http, listen, http.address(), &[]);
    let report = Client::run(ClientPlan::http(there, "a"), 20).await;
    report.assert_clean();
    assert_eq!(report.of("b"), 20, "{report}");
    assert_eq!(proxy_http.counters_of(http.address()).connect_failures, 0);

    let tcp = TcpBackend::start("b").unwrap();
    let there = SocketAddr::new(other, tcp.address().port());
    let listen = Listen::socket(other, there.port(), Proto::Tcp);
    let proxy_tcp = proxy(Proto::Tcp, listen, tcp.address(), &[]);
    let report = Client::run(ClientPlan::tcp(there), 20).await;
    report.assert_clean();
    assert_eq!(report.of("b"), 20, "{report}");
    assert_eq!(proxy_tcp.counters_of(tcp.address()).connect_failures, 0);
}
