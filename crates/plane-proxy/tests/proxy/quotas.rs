//! How much of a service its clients may have.

use std::net::Ipv4Addr;

use plimsoll_model::{Limits, Rate, ServiceSpec};
use plimsoll_plane::{LimitCounters, Plane, Tuple};
use plimsoll_testkit::{
    Answer, Ending, HttpBackend, HttpBehaviour, Raw, TcpBackend, wait_until_async,
};

use crate::common::{BOUND, Proxy, at, put, put_route, route, service};

/// None comes back within a test.
fn slow(burst: u32) -> Option<Rate> {
    let rate: Rate = "1/h".parse().unwrap();
    Some(Rate { burst, ..rate })
}

fn limited(set: impl FnOnce(&mut Limits)) -> impl FnOnce(&mut ServiceSpec) {
    |spec| set(spec.limits.insert(Limits::default()))
}

fn counts(proxy: &Proxy) -> LimitCounters {
    proxy.counters().limits.unwrap()
}

async fn is_reset(client: &mut Raw) -> bool {
    let (_, ending) = client.read_to_end(BOUND).await.unwrap();
    ending == Ending::Reset
}

/// A connection that the backend of a TCP service has.
async fn held(proxy: &Proxy, from: [u8; 4], wanted: u64) -> std::net::TcpStream {
    let client = from_there(proxy, from).await;
    let active = || {
        proxy
            .counters()
            .backends
            .iter()
            .map(|(_, b)| b.active)
            .sum::<u64>()
    };
    assert!(wait_until_async(BOUND, || active() == wanted).await);
    client
}

/// A connection from that address of this host.
async fn from_there(proxy: &Proxy, from: [u8; 4]) -> std::net::TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let own = std::net::SocketAddr::from((Ipv4Addr::from(from), 0));
    socket.bind(&own.into()).unwrap();
    socket.connect(&proxy.address().into()).unwrap();
    socket.into()
}

#[tokio::test]
async fn connections_at_once_of_a_source_and_of_a_service() {
    let backend = TcpBackend::start("b").unwrap();
    let set = limited(|limits| {
        limits.total.connections = 3;
        limits.per_source.connections = 2;
    });
    let proxy = Proxy::tcp_with(vec![at(backend.address())], set);
    let first = held(&proxy, [127, 0, 0, 1], 1).await;
    let _second = held(&proxy, [127, 0, 0, 1], 2).await;
    for _ in 0..5 {
        assert!(proxy.refuses().await);
    }
    let _other = held(&proxy, [127, 0, 0, 2], 3).await;
    let another = from_there(&proxy, [127, 0, 0, 3]).await;
    let met = || counts(&proxy).total.connections == 1;
    assert!(wait_until_async(BOUND, met).await);
    drop(another);
    assert_eq!(counts(&proxy).per_source.connections, 5);
    // Who leaves makes room.
    drop(first);
    assert!(wait_until_async(BOUND, || proxy.listen().connections == 2).await);
    let _again = held(&proxy, [127, 0, 0, 1], 3).await;
    assert_eq!(proxy.counters_of(backend.address()).connections, 4);
}

#[tokio::test]
async fn new_connections_of_a_source_and_of_a_service() {
    let backend = TcpBackend::start("b").unwrap();
    let set = limited(|limits| {
        limits.total.connection_rate = slow(5);
        limits.per_source.connection_rate = slow(3);
    });
    let proxy = Proxy::tcp_with(vec![at(backend.address())], set);
    let mut kept = Vec::new();
    for n in 1..=3 {
        kept.push(held(&proxy, [127, 0, 0, 1], n).await);
    }
    // Ending does not help.
    kept.clear();
    proxy.settled().await;
    assert!(proxy.refuses().await);
    for n in 1..=2 {
        kept.push(held(&proxy, [127, 0, 0, 2], n).await);
    }
    let _more = from_there(&proxy, [127, 0, 0, 3]).await;
    let met = || counts(&proxy).total.connection_rate == 1;
    assert!(wait_until_async(BOUND, met).await);
    assert_eq!(counts(&proxy).per_source.connection_rate, 1);
}

#[tokio::test]
async fn connections_of_http_are_counted_where_they_are_accepted() {
    let backend = HttpBackend::start("b").unwrap();
    let set = limited(|limits| limits.per_source.connections = 2);
    let proxy = Proxy::http_with(vec![at(backend.address())], set);
    let mut first = proxy.connect().await;
    let mut second = proxy.connect().await;
    for client in [&mut first, &mut second] {
        assert_eq!(client.get("a", "/", BOUND).await.unwrap().status, 200);
    }
    assert!(proxy.refuses().await);
    assert_eq!(counts(&proxy).per_source.connections, 1);
    drop(first);
    assert!(wait_until_async(BOUND, || proxy.listen().connections == 1).await);
    proxy.serves().await;
}

#[tokio::test]
async fn who_a_proxy_header_names_is_the_source() {
    let backend = TcpBackend::start("b").unwrap();
    let set = limited(|limits| limits.per_source.connection_rate = slow(1));
    let proxy = Proxy::tcp_with(vec![at(backend.address())], |spec| {
        spec.proxy_headers.accept = vec!["127.0.0.0/8".parse().unwrap()];
        set(spec);
    });
    let from = async |ip: &str| {
        let mut client = proxy.connect().await;
        let header = format!("PROXY TCP4 {ip} 10.0.0.1 4711 80\r\n");
        client.send(header).await.unwrap();
        client
    };
    let _first = from("192.0.2.1").await;
    let _other = from("192.0.2.2").await;
    let took = || proxy.counters_of(backend.address()).connections == 2;
    assert!(wait_until_async(BOUND, took).await);
    assert!(is_reset(&mut from("192.0.2.1").await).await);
}

#[tokio::test]
async fn too_many_requests_of_a_source_get_429() {
    let backend = HttpBackend::start("b").unwrap();
    let set = limited(|limits| limits.per_source.request_rate = slow(3));
    let proxy = Proxy::http_with(vec![at(backend.address())], |spec| {
        spec.trusted = vec!["127.0.0.0/8".parse().unwrap()];
        set(spec);
    });
    let mut client = proxy.connect().await;
    for n in 0..5 {
        let answer = client.get("a", "/", BOUND).await.unwrap();
        if n < 3 {
            assert_eq!(answer.status, 200);
            continue;
        }
        assert_eq!(answer.status, 429);
        let wait: u64 = answer.head.get("retry-after").unwrap().parse().unwrap();
        assert!((3500..=3600).contains(&wait), "{wait}");
        assert_ne!(answer.head.get("connection"), Some("close"));
    }
    // Another one behind the same proxy.
    let head = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n";
    client.send(head).await.unwrap();
    assert_eq!(client.read_response(BOUND).await.unwrap().status, 200);
    assert_eq!(backend.stats().requests, 4);
    assert_eq!(counts(&proxy).per_source.request_rate, 2);
    assert_eq!(counts(&proxy).sources, 2);
}

#[tokio::test]
async fn too_many_requests_for_a_service_get_503() {
    let backend = HttpBackend::start("b").unwrap();
    let set = limited(|limits| limits.total.request_rate = slow(2));
    let proxy = Proxy::http_with(vec![at(backend.address())], set);
    for wanted in [200, 200, 503, 503] {
        let answer = proxy.get("a", "/").await;
        assert_eq!(answer.status, wanted);
        assert_eq!(answer.head.get("retry-after").is_some(), wanted == 503);
    }
    let counters = proxy.counters();
    assert_eq!(
        (counters.unserved, counts(&proxy).total.request_rate),
        (0, 2)
    );
}

#[tokio::test]
async fn requests_at_once_count_until_their_answer_has_ended() {
    let backend = HttpBackend::start("b").unwrap();
    let set = limited(|limits| {
        limits.total.requests = 3;
        limits.per_source.requests = 2;
    });
    let proxy = Proxy::http_with(vec![at(backend.address())], |spec| {
        spec.trusted = vec!["127.0.0.0/8".parse().unwrap()];
        set(spec);
    });
    let ask = async |from: &str| {
        let mut client = proxy.connect().await;
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {from}\r\n\r\n");
        client.send(head).await.unwrap();
        client
    };
    backend.behave(HttpBehaviour::answering(Answer::Never));
    let first = ask("192.0.2.1").await;
    let _second = ask("192.0.2.1").await;
    assert!(wait_until_async(BOUND, || backend.stats().active == 2).await);
    let status = async |mut client: Raw| client.read_response(BOUND).await.unwrap().status;
    assert_eq!(status(ask("192.0.2.1").await).await, 429);
    let _third = ask("192.0.2.2").await;
    assert!(wait_until_async(BOUND, || backend.stats().active == 3).await);
    assert_eq!(status(ask("192.0.2.3").await).await, 503);
    // Who leaves in the middle makes room.
    drop(first);
    let active = || proxy.counters_of(backend.address()).active;
    assert!(wait_until_async(BOUND, || active() == 2).await);
    backend.behave(HttpBehaviour::default());
    for _ in 0..5 {
        assert_eq!(status(ask("192.0.2.1").await).await, 200);
    }
    let counters = counts(&proxy);
    assert_eq!(
        (counters.total.requests, counters.per_source.requests),
        (1, 1)
    );
}

#[tokio::test]
async fn limits_change_while_all_goes_on() {
    let backend = HttpBackend::start("b").unwrap();
    let set = limited(|limits| limits.per_source.request_rate = slow(1));
    let mut proxy = Proxy::http_with(vec![at(backend.address())], set);
    let mut client = proxy.connect().await;
    let mut get = async || client.get("a", "/", BOUND).await.unwrap().status;
    assert_eq!((get().await, get().await), (200, 429));
    let change = |proxy: &mut Proxy, rate: Option<Rate>| {
        proxy.edit(|web| {
            let spec = std::sync::Arc::make_mut(&mut web.spec);
            spec.limits = rate.map(|_| Limits::default());
            if let Some(limits) = &mut spec.limits {
                limits.per_source.request_rate = rate;
            }
        });
    };
    // What was had is not forgotten.
    change(&mut proxy, slow(2));
    assert_eq!((get().await, get().await), (200, 429));
    change(&mut proxy, None);
    assert_eq!(get().await, 200);
    assert_eq!(proxy.counters().limits, None);
    change(&mut proxy, slow(2));
    assert_eq!(get().await, 429);
}

#[tokio::test]
async fn a_service_that_steps_in_has_limits_of_its_own() {
    let backend = HttpBackend::start("b").unwrap();
    let mut proxy = Proxy::http(&[]);
    proxy.change(|desired| {
        let mut other = service("other", vec![at(backend.address())]);
        limited(|limits| limits.total.request_rate = slow(3))(std::sync::Arc::make_mut(
            &mut other.spec,
        ));
        put(desired, other);
        put_route(
            desired,
            route("both", "*", "/", &[("web", 1), ("other", 1)]),
        );
    });
    let mut seen = Vec::new();
    for _ in 0..10 {
        seen.push(proxy.get("a", "/").await.status);
    }
    assert_eq!(seen, [200, 200, 200, 503, 503, 503, 503, 503, 503, 503]);
    assert_eq!(backend.stats().requests, 3);
}

#[tokio::test]
async fn explain_says_how_much_is_left() {
    let backend = HttpBackend::start("b").unwrap();
    let set = limited(|limits| {
        limits.total.requests = 9;
        limits.per_source.request_rate = slow(5);
    });
    let proxy = Proxy::http_with(vec![at(backend.address())], set);
    proxy.serves().await;
    let told = proxy.plane.explain(&Tuple {
        client: "127.0.0.1:4711".parse().unwrap(),
        destination: proxy.address(),
        proto: plimsoll_model::Proto::Http,
        host: Some("a".into()),
        path: None,
    });
    let all = "limit: all clients: 0 of 9 requests at once";
    let own = "limit: 127.0.0.1: 4 more requests now by the rate";
    for step in [all, own] {
        assert!(
            told.steps.iter().any(|told| told == step),
            "{:?}",
            told.steps
        );
    }
}

#[tokio::test]
async fn connections_from_before_a_limit_count_for_it() {
    let backend = TcpBackend::start("b").unwrap();
    let mut proxy = Proxy::tcp(&[backend.address()]);
    let set = |proxy: &mut Proxy, total: u32, own: u32, prefix_v4: u8| {
        proxy.edit(|web| {
            let spec = std::sync::Arc::make_mut(&mut web.spec);
            let limits = spec.limits.insert(Limits::default());
            (limits.total.connections, limits.per_source.connections) = (total, own);
            limits.prefix_v4 = prefix_v4;
        });
    };
    let told = |proxy: &Proxy, line: &str| {
        let told = proxy.plane.explain(&Tuple {
            client: "127.0.0.1:4711".parse().unwrap(),
            destination: proxy.address(),
            proto: plimsoll_model::Proto::Tcp,
            host: None,
            path: None,
        });
        told.steps.iter().any(|step| step == line)
    };
    let first = held(&proxy, [127, 0, 0, 1], 1).await;
    let second = held(&proxy, [127, 0, 0, 1], 2).await;
    let third = held(&proxy, [127, 0, 0, 2], 3).await;
    // More than there may be, and nobody has to go.
    set(&mut proxy, 2, 1, 32);
    let all = "limit: all clients: 3 of 2 connections at once";
    assert!(wait_until_async(BOUND, || told(&proxy, all)).await);
    let own = "limit: 127.0.0.1: 2 of 1 connections at once";
    assert!(wait_until_async(BOUND, || told(&proxy, own)).await);
    assert!(proxy.refuses().await);
    // Those are other sources now, and still nobody is counted twice.
    set(&mut proxy, 2, 1, 24);
    let own = "limit: 127.0.0.0/24: 3 of 1 connections at once";
    assert!(wait_until_async(BOUND, || told(&proxy, own)).await);
    assert!(told(&proxy, all));
    drop((first, second, third));
    assert!(wait_until_async(BOUND, || proxy.listen().connections == 0).await);
    assert!(told(
        &proxy,
        "limit: all clients: 0 of 2 connections at once"
    ));
    assert!(told(
        &proxy,
        "limit: 127.0.0.0/24: 0 of 1 connections at once"
    ));
    let _again = held(&proxy, [127, 0, 0, 1], 1).await;
    assert!(proxy.refuses().await);
}

#[tokio::test]
async fn connections_of_http_from_before_a_limit_count_for_it() {
    let backend = HttpBackend::start("b").unwrap();
    let mut proxy = Proxy::http(&[backend.address()]);
    let mut clients = [proxy.connect().await, proxy.connect().await];
    for client in &mut clients {
        assert_eq!(client.get("a", "/", BOUND).await.unwrap().status, 200);
    }
    proxy.edit(|web| {
        let spec = std::sync::Arc::make_mut(&mut web.spec);
        spec.limits.insert(Limits::default()).total.connections = 2;
    });
    assert!(wait_until_async(BOUND, || !is_taken(&proxy)).await);
    for client in &mut clients {
        assert_eq!(client.get("a", "/", BOUND).await.unwrap().status, 200);
    }
    drop(clients);
    assert!(wait_until_async(BOUND, || proxy.listen().connections == 0).await);
    assert_eq!(proxy.get("a", "/").await.status, 200);
}

/// Whether a new connection is kept.
fn is_taken(proxy: &Proxy) -> bool {
    let mut stream = std::net::TcpStream::connect(proxy.address()).unwrap();
    let ask = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.set_read_timeout(Some(BOUND)).unwrap();
    let asked = std::io::Write::write_all(&mut stream, ask.as_bytes());
    asked.is_ok() && std::io::Read::read(&mut stream, &mut [0; 16]).is_ok_and(|n| n > 0)
}

#[tokio::test]
async fn a_connection_that_is_refused_takes_nothing_of_other_limits() {
    let log = crate::access_log::Log::new(plimsoll_model::AccessLog::Httplog, false);
    let backend = HttpBackend::start("b").unwrap();
    let mut proxy = log.proxy(plimsoll_model::Proto::Http, backend.address());
    let listen = proxy.desired.services.values().next().unwrap();
    let listens = listen.spec.listens.clone();
    proxy.change(|desired| {
        // Asked first, by its name.
        let mut first = service("a", vec![at(backend.address())]);
        let spec = std::sync::Arc::make_mut(&mut first.spec);
        spec.listens.clone_from(&listens);
        let limits = spec.limits.insert(Limits::default());
        limits.total.connection_rate = slow(4);
        limits.per_source.connection_rate = slow(3);
        put(desired, first);
        put_route(desired, route("both", "*", "/", &[("a", 1)]));
        put_route(desired, route("web", "web.example", "/", &[("web", 1)]));
    });
    proxy.edit(|web| {
        let spec = std::sync::Arc::make_mut(&mut web.spec);
        spec.limits.insert(Limits::default()).total.connections = 1;
    });
    let mut open = proxy.connect().await;
    assert_eq!(open.get("x", "/", BOUND).await.unwrap().status, 200);
    for _ in 0..10 {
        assert!(proxy.refuses().await);
    }
    // Each is a line that names the service whose limit it was.
    let lines = log.lines(11).await;
    let refused: Vec<_> = lines.iter().filter(|l| !l.contains(" 200 ")).collect();
    assert_eq!(refused.len(), 10, "{lines:?}");
    for line in refused {
        assert!(line.contains(" web/<NOSRV> "), "{line}");
        assert!(line.contains(" PR-- "), "{line}");
        assert!(line.ends_with("\"<BADREQ>\""), "{line}");
    }
    drop(open);
    assert!(wait_until_async(BOUND, || proxy.listen().connections == 0).await);
    // Of its three it has had one.
    for _ in 0..2 {
        assert_eq!(proxy.get("x", "/").await.status, 200);
        assert!(wait_until_async(BOUND, || proxy.listen().connections == 0).await);
    }
    assert!(proxy.refuses().await);
}
