//! Clients that are denied while they are there.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use plimsoll_model::{AccessLog as Format, ClientRules, Proto, ServiceSpec};
use plimsoll_testkit::{
    Ending, HttpBackend, Raw, TcpAnswer, TcpBackend, TcpBehaviour, wait_until_async,
};

use crate::access_log::Log;
use crate::common::{BOUND, Proxy, at, limited};
use crate::udp::{Echo, asked, client, hear};

/// A client that is denied, and one that is not.
const BAD: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 3, 1));
const GOOD: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 4, 1));

fn deny(spec: &mut ServiceSpec, net: &str) {
    spec.clients = ClientRules {
        allow: Vec::new(),
        deny: vec![net.parse().unwrap()],
    };
}

fn edit(proxy: &mut Proxy, change: impl FnOnce(&mut ServiceSpec)) {
    proxy.edit(|web| change(Arc::make_mut(&mut web.spec)));
}

async fn from(proxy: &Proxy, source: IpAddr) -> Raw {
    Raw::connect_as(source, proxy.address()).await.unwrap()
}

/// Something goes to and fro by way of the backend, which is an echo.
async fn exchange(client: &mut Raw) {
    client.send("hello\n").await.unwrap();
    assert_eq!(client.read_exact(6, BOUND).await.unwrap(), b"hello\n");
}

/// A backend that sends back whatever comes.
fn echo() -> TcpBackend {
    let backend = TcpBackend::start("b").unwrap();
    backend.behave(TcpBehaviour::answering(TcpAnswer::Echo));
    backend
}

async fn is_reset(client: &mut Raw) -> bool {
    let (_, ending) = client.read_to_end(BOUND).await.unwrap();
    ending == Ending::Reset
}

#[tokio::test]
async fn tcp_connections_of_a_client_that_is_denied_are_reset() {
    let log = Log::new(Format::Httplog, false);
    let backend = echo();
    let mut proxy = log.proxy(Proto::Tcp, backend.address());
    let (mut bad, mut good) = (from(&proxy, BAD).await, from(&proxy, GOOD).await);
    exchange(&mut bad).await;
    exchange(&mut good).await;
    // What has nothing to do with lists disturbs nobody.
    edit(&mut proxy, |spec| spec.retries += 1);
    exchange(&mut bad).await;
    edit(&mut proxy, |spec| deny(spec, "127.0.3.0/24"));
    assert!(is_reset(&mut bad).await);
    let line = &log.lines(1).await[0];
    assert!(line.contains(" PD "), "{line}");
    exchange(&mut good).await;
    assert!(
        wait_until_async(BOUND, || backend.stats().open == 1).await,
        "it is told"
    );
    assert_eq!((proxy.counters().denied, proxy.counters().unserved), (1, 0));
    // The same with a list of those who may come.
    edit(&mut proxy, |spec| {
        spec.clients = ClientRules {
            allow: vec!["127.0.3.0/24".parse().unwrap()],
            deny: Vec::new(),
        };
    });
    assert!(is_reset(&mut good).await);
    proxy.settled().await;
}

#[tokio::test]
async fn who_waits_for_a_place_is_reset_too() {
    let log = Log::new(Format::Httplog, false);
    let backend = echo();
    let mut proxy = log.proxy(Proto::Tcp, backend.address());
    proxy.edit_backend(backend.address(), |backend| backend.maxconn = 1);
    let mut good = from(&proxy, GOOD).await;
    exchange(&mut good).await;
    let mut bad = from(&proxy, BAD).await;
    let queued = || proxy.counters_of(backend.address()).queued == 1;
    assert!(wait_until_async(BOUND, queued).await);
    edit(&mut proxy, |spec| deny(spec, "127.0.3.1/32"));
    assert!(is_reset(&mut bad).await);
    let line = &log.lines(1).await[0];
    assert!(line.contains(" PQ "), "{line}");
    assert_eq!((proxy.counters().denied, proxy.counters().unserved), (1, 0));
    exchange(&mut good).await;
}

#[tokio::test]
async fn sessions_of_a_client_that_is_denied_end() {
    let a = Echo::start('a').await;
    let mut proxy = Proxy::udp(&[a.address]);
    let bad = tokio::net::UdpSocket::bind((BAD, 0)).await.unwrap();
    bad.connect(proxy.address()).await.unwrap();
    let good = client(proxy.address()).await;
    assert_eq!((asked(&bad).await, asked(&good).await), ('a', 'a'));
    assert_eq!(proxy.counters().udp.sessions, 2);
    edit(&mut proxy, |spec| deny(spec, "127.0.3.0/24"));
    let ended = || proxy.counters().udp.sessions == 1;
    assert!(wait_until_async(BOUND, ended).await);
    let heard = a.heard();
    let before = proxy.counters().denied;
    assert_eq!(before, 1, "the session");
    bad.send(b"?").await.unwrap();
    assert!(wait_until_async(BOUND, || proxy.counters().denied == before + 1).await);
    assert_eq!(a.heard(), heard);
    good.send(b"1").await.unwrap();
    assert_eq!(hear(&good).await, b"a:1");
}

/// A tunnel that is granted to whom the balancer before names, if that is anybody.
async fn tunnel(proxy: &Proxy, source: IpAddr, said: &str) -> Raw {
    let mut client = from(proxy, source).await;
    let ask = format!(
        "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{said}\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    client.send(ask).await.unwrap();
    let head = client.read_head(BOUND).await.unwrap();
    assert_eq!(head.status().unwrap(), 101, "{head:?}");
    client
}

#[tokio::test]
async fn tunnels_end_and_requests_are_answered_as_ever() {
    let backend = HttpBackend::start("b").unwrap();
    let mut proxy = Proxy::http_with(vec![at(backend.address())], |spec| {
        spec.trusted = vec!["127.0.4.0/24".parse().unwrap()];
    });
    let mut own = tunnel(&proxy, BAD, "").await;
    let mut spoken_for = tunnel(&proxy, GOOD, "X-Forwarded-For: 127.0.3.1\r\n").await;
    let mut good = tunnel(&proxy, GOOD, "X-Forwarded-For: 192.0.2.1\r\n").await;
    let mut idle = from(&proxy, BAD).await;
    assert_eq!(idle.get("a", "/", BOUND).await.unwrap().status, 200);
    edit(&mut proxy, |spec| deny(spec, "127.0.3.0/24"));
    assert!(is_reset(&mut own).await);
    assert!(is_reset(&mut spoken_for).await);
    exchange(&mut good).await;
    assert_eq!(idle.get("a", "/", BOUND).await.unwrap().status, 403);
    assert_eq!(proxy.counters().denied, 3);
}

#[tokio::test]
async fn whoever_is_introduced_later_is_judged_by_the_newest_lists() {
    let backend = echo();
    let mut proxy = Proxy::tcp_with(vec![limited(backend.address(), 10)], |spec| {
        spec.proxy_headers.accept = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let header = |ip: &str| format!("PROXY TCP4 {ip} 10.0.0.1 4711 80\r\n");
    let mut there = proxy.connect().await;
    there.send(header("192.0.2.7")).await.unwrap();
    exchange(&mut there).await;
    let (mut begun, mut other) = (proxy.connect().await, proxy.connect().await);
    for client in [&mut begun, &mut other] {
        client.send("PROXY TCP4 ").await.unwrap();
    }
    assert!(wait_until_async(BOUND, || proxy.listen().connections == 3).await);
    edit(&mut proxy, |spec| deny(spec, "192.0.2.0/24"));
    assert!(is_reset(&mut there).await);
    begun.send("192.0.2.7 10.0.0.1 4711 80\r\n").await.unwrap();
    assert!(is_reset(&mut begun).await);
    other
        .send("198.51.100.7 10.0.0.1 4711 80\r\n")
        .await
        .unwrap();
    exchange(&mut other).await;
    assert_eq!(proxy.counters().denied, 2);
}
