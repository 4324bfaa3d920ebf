//! Lists of clients that are served, or are not.

use plimsoll_model::{ClientRules, Proto, RouteHttp};
use plimsoll_plane::{Plane, Tuple};
use plimsoll_testkit::{HttpBackend, Raw, Response, TcpBackend, wait_until_async};

use crate::common::{BOUND, Proxy, at, put_route, route};
use crate::udp::{Echo, asked, client};

fn rules(allow: &[&str], deny: &[&str]) -> ClientRules {
    let list = |nets: &[&str]| nets.iter().map(|net| net.parse().unwrap()).collect();
    ClientRules {
        allow: list(allow),
        deny: list(deny),
    }
}

async fn ask(proxy: &Proxy, path: &str, fields: &str) -> Response {
    let mut client = proxy.connect().await;
    let head = format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n");
    client.send(head).await.unwrap();
    client.read_response(BOUND).await.unwrap()
}

#[tokio::test]
async fn a_tcp_client_that_is_denied_is_reset_before_any_backend() {
    let backend = TcpBackend::start("b").unwrap();
    let mut proxy = Proxy::tcp_with(vec![at(backend.address())], |spec| {
        spec.clients = rules(&["127.0.0.0/8"], &["127.0.0.1/32"]);
    });
    assert!(proxy.refuses().await);
    let counters = proxy.counters();
    assert_eq!((counters.denied, counters.unserved), (1, 0));
    assert_eq!(proxy.counters_of(backend.address()).connections, 0);
    assert!(wait_until_async(BOUND, || proxy.listen().connections == 0).await);
    // Nobody has to connect anew for what changes.
    proxy.edit(|web| {
        let spec = std::sync::Arc::make_mut(&mut web.spec);
        spec.clients = rules(&["127.0.0.0/8"], &[]);
    });
    let _client = proxy.connect().await;
    let took = || proxy.counters_of(backend.address()).connections == 1;
    assert!(wait_until_async(BOUND, took).await);
    assert_eq!(proxy.counters().denied, 1);
}

#[tokio::test]
async fn who_is_in_none_of_the_allowed_networks_is_denied() {
    let backend = TcpBackend::start("b").unwrap();
    let proxy = Proxy::tcp_with(vec![at(backend.address())], |spec| {
        spec.clients = rules(&["192.0.2.0/24", "::/0"], &[]);
    });
    assert!(proxy.refuses().await);
    assert_eq!(proxy.counters().denied, 1);
}

#[tokio::test]
async fn datagrams_of_a_client_that_is_denied_are_dropped() {
    let backend = Echo::start('a').await;
    let proxy = Proxy::udp_with(vec![at(backend.address)], |spec| {
        spec.clients = rules(&[], &["127.0.3.0/24"]);
    });
    let denied = tokio::net::UdpSocket::bind(("127.0.3.1", 0)).await.unwrap();
    denied.send_to(b"?", proxy.address()).await.unwrap();
    assert!(wait_until_async(BOUND, || proxy.counters().denied == 1).await);
    assert_eq!(asked(&client(proxy.address()).await).await, 'a');
    assert_eq!(proxy.counters().total, 1);
}

#[tokio::test]
async fn behind_a_proxy_header_its_client_counts() {
    let backend = TcpBackend::start("b").unwrap();
    let proxy = Proxy::tcp_with(vec![at(backend.address())], |spec| {
        spec.proxy_headers.accept = vec!["127.0.0.0/8".parse().unwrap()];
        spec.clients = rules(&[], &["192.0.2.0/24"]);
    });
    for (from, denied) in [("192.0.2.7", true), ("198.51.100.7", false)] {
        let mut client = Raw::connect(proxy.address()).await.unwrap();
        let header = format!("PROXY TCP4 {from} 10.0.0.1 4711 80\r\n");
        client.send(header).await.unwrap();
        if denied {
            let (_, ending) = client.read_to_end(BOUND).await.unwrap();
            assert_eq!(ending, plimsoll_testkit::Ending::Reset);
        } else {
            let took = || proxy.counters_of(backend.address()).connections == 1;
            assert!(wait_until_async(BOUND, took).await);
        }
    }
    assert_eq!(proxy.counters().denied, 1);
}

#[tokio::test]
async fn an_http_client_that_is_denied_gets_403_and_may_ask_on() {
    let backend = HttpBackend::start("b").unwrap();
    let mut proxy = Proxy::http(&[backend.address()]);
    proxy.change(|desired| {
        let mut inner = route("inner", "*", "/inner", &[("web", 1)]);
        let http = RouteHttp {
            clients: rules(&["10.0.0.0/8"], &[]),
            ..RouteHttp::default()
        };
        inner.http = Some(http.into());
        put_route(desired, inner);
        put_route(desired, route("all", "*", "/", &[("web", 1)]));
    });
    let mut client = proxy.connect().await;
    for path in ["/inner", "/", "/inner/x"] {
        let answer = client.get("a.example", path, BOUND).await.unwrap();
        let wanted = if path == "/" { 200 } else { 403 };
        assert_eq!(answer.status, wanted, "{path}");
    }
    // Another spelling of a path that is not for everybody.
    for path in ["//inner", "/x/../inner", "/%69nner"] {
        assert_eq!(proxy.get("a.example", path).await.status, 400, "{path}");
    }
    assert_eq!(backend.stats().requests, 1);
    assert_eq!(proxy.counters().denied, 2);
    // What the service says holds for all its routes.
    proxy.edit(|web| {
        let spec = std::sync::Arc::make_mut(&mut web.spec);
        spec.clients = rules(&[], &["127.0.0.1/32"]);
    });
    assert_eq!(proxy.get("a.example", "/").await.status, 403);
    assert_eq!(backend.stats().requests, 1);
}

#[tokio::test]
async fn behind_trusted_proxies_the_client_they_name_counts() {
    let backend = HttpBackend::start("b").unwrap();
    let mut proxy = Proxy::http_with(vec![at(backend.address())], |spec| {
        spec.trusted = vec!["127.0.0.0/8".parse().unwrap()];
        spec.clients = rules(&[], &["192.0.2.0/24"]);
    });
    let said = |ip: &str| format!("X-Forwarded-For: {ip}\r\n");
    assert_eq!(ask(&proxy, "/", &said("192.0.2.7")).await.status, 403);
    let spoofed = said("198.51.100.1, 192.0.2.7");
    assert_eq!(ask(&proxy, "/", &spoofed).await.status, 403);
    assert_eq!(ask(&proxy, "/", &said("198.51.100.1")).await.status, 200);
    assert_eq!(ask(&proxy, "/", "").await.status, 200);
    // A stranger speaks for himself.
    proxy.edit(|web| std::sync::Arc::make_mut(&mut web.spec).trusted.clear());
    assert_eq!(ask(&proxy, "/", &said("192.0.2.7")).await.status, 200);
}

#[tokio::test]
async fn a_service_that_steps_in_has_lists_of_its_own() {
    let backend = HttpBackend::start("b").unwrap();
    let mut proxy = Proxy::http(&[]);
    proxy.change(|desired| {
        let mut other = crate::common::service("other", vec![at(backend.address())]);
        std::sync::Arc::make_mut(&mut other.spec).clients = rules(&[], &["127.0.0.0/8"]);
        crate::common::put(desired, other);
        let both = [("web", 1), ("other", 1)];
        put_route(desired, route("both", "*", "/", &both));
    });
    let mut seen = Vec::new();
    for _ in 0..20 {
        seen.push(proxy.get("a.example", "/").await.status);
    }
    seen.sort_unstable();
    seen.dedup();
    // Whoever of the two has its turn: one has no backend, the other one is not for this client.
    assert_eq!(seen, [403, 503]);
    assert_eq!(backend.stats().requests, 0);
}

#[tokio::test]
async fn explain_names_the_list() {
    let mut proxy = Proxy::http_with(Vec::new(), |spec| {
        spec.clients = rules(&["127.0.0.0/8"], &["127.6.0.0/16"]);
    });
    let http = RouteHttp {
        clients: rules(&["127.0.0.0/16"], &[]),
        ..RouteHttp::default()
    };
    let mut inner = route("inner", "*", "/inner", &[("web", 1)]);
    inner.http = Some(http.into());
    proxy.change(|desired| {
        put_route(desired, inner);
        put_route(desired, route("all", "*", "/", &[("web", 1)]));
    });
    let explain = |client: &str, path: &str| {
        let told = proxy.plane.explain(&Tuple {
            client: format!("{client}:4711").parse().unwrap(),
            destination: proxy.address(),
            proto: Proto::Http,
            host: Some("a.example".into()),
            path: Some(path.into()),
        });
        (told.status, told.nowhere.unwrap_or_default())
    };
    let denied = "127.6.0.1 is in 127.6.0.0/16, which `deny` of service `web` names";
    assert_eq!(explain("127.6.0.1", "/"), (Some(403), denied.into()));
    let outside = "192.0.2.1 is in no network that `allow` of service `web` names";
    assert_eq!(explain("192.0.2.1", "/"), (Some(403), outside.into()));
    let (status, why) = explain("127.1.0.1", "/inner");
    assert_eq!(status, Some(403));
    assert!(why.ends_with("`allow` of route `inner` names"), "{why}");
    let (status, why) = explain("127.0.0.1", "/inner");
    assert_eq!(status, Some(503), "{why}");
}
