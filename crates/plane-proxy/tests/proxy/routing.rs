//! Which service gets a request, and what is answered when none can.

use std::collections::BTreeMap;

use plimsoll_model::{Desired, SchedulerKind, State, Status};
use plimsoll_testkit::{BACKEND_HEADER, Client, ClientPlan, HttpBackend, Response};

use crate::common::{BOUND, Proxy, at, name, put, put_route, route, service};

/// A plane on whose listen only routes lead anywhere, with the services `web`, `api` and `old`,
/// each of one backend of its name.
fn routed(backends: &[HttpBackend], routes: &[(&str, &str, &str, i32)]) -> Proxy {
    let mut proxy = Proxy::http(&[backends[0].address()]);
    proxy.change(|desired| {
        for backend in &backends[1..] {
            put(desired, service(backend.id(), vec![at(backend.address())]));
        }
        for (number, (to, host, path, priority)) in routes.iter().enumerate() {
            let mut route = route(&format!("r{number}"), host, path, &[(to, 1)]);
            route.priority = *priority;
            put_route(desired, route);
        }
    });
    proxy
}

fn backends(names: &[&str]) -> Vec<HttpBackend> {
    names
        .iter()
        .map(|name| HttpBackend::start(name).unwrap())
        .collect()
}

fn who(answer: &Response) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.head.get(BACKEND_HEADER).unwrap().to_owned()
}

/// The answer says when to try again, and is not one of a backend.
fn is_unserved(answer: &Response) -> bool {
    let retry = answer.head.get("retry-after").map(str::parse::<u32>);
    answer.status == 503
        && matches!(retry, Some(Ok(1..)))
        && answer.head.get(BACKEND_HEADER).is_none()
        && answer.text().starts_with("503")
}

#[tokio::test]
async fn requests_go_where_the_most_specific_route_leads() {
    let backends = backends(&["web", "api", "old"]);
    let proxy = routed(
        &backends,
        &[
            ("web", "www.example.com", "/", 0),
            ("api", "www.example.com", "/api", 0),
            ("old", "*.example.com", "/", 0),
            ("api", "*.b.example.com", "/", 0),
            ("old", "*", "/legacy", 7),
            ("web", "[::1]", "/", 0),
        ],
    );
    let mut client = proxy.connect().await;
    for (host, path, expected) in [
        ("www.example.com", "/", "web"),
        ("WWW.Example.COM", "/x?y=/api", "web"),
        ("www.example.com:8080", "/apis", "web"),
        ("www.example.com.", "/api", "api"),
        ("www.example.com", "/api/", "api"),
        ("www.example.com", "/api?x", "api"),
        ("a.example.com", "/api", "old"),
        ("a.c.example.com", "/", "old"),
        ("a.b.example.com", "/", "api"),
        ("www.example.com", "/legacy/x", "old"),
        ("nobody.org", "/legacy", "old"),
        ("[::1]:80", "/", "web"),
    ] {
        let answer = client.get(host, path, BOUND).await.unwrap();
        assert_eq!(who(&answer), expected, "{host}{path}");
    }
    for (host, path) in [
        ("example.com", "/"),
        ("nobody.org", "/"),
        ("nobody.org", "/legacyx"),
    ] {
        let answer = client.get(host, path, BOUND).await.unwrap();
        assert_eq!(answer.status, 404, "{host}{path}");
        assert!(answer.head.get("retry-after").is_none(), "{answer:?}");
    }
    assert_eq!(proxy.refused(404), 3);
    assert_eq!(
        proxy.counters().total,
        4,
        "requests that were routed to `web`"
    );
}

#[tokio::test]
async fn a_route_shares_out_by_weight() {
    let backends = backends(&["web", "api", "old"]);
    let mut proxy = routed(&backends, &[]);
    let shares = [("web", 1), ("api", 3), ("old", 0)];
    proxy.change(|desired| put_route(desired, route("r", "a.org", "/", &shares)));
    let report = Client::run(ClientPlan::http(proxy.address(), "a.org"), 400).await;
    report.assert_clean();
    assert!((95..=105).contains(&report.of("web")), "{report}");
    assert_eq!(report.of("old"), 0, "{report}");
}

#[tokio::test]
async fn another_service_of_the_route_serves_when_one_cannot() {
    let backends = backends(&["web", "api"]);
    let mut proxy = routed(&backends, &[]);
    let shares = [("web", 1), ("api", 1), ("nowhere", 5)];
    proxy.change(|desired| put_route(desired, route("r", "a.org", "/", &shares)));
    proxy.remove_backend(backends[0].address());
    let report = Client::run(ClientPlan::http(proxy.address(), "a.org"), 40).await;
    report.assert_clean();
    assert_eq!(report.of("api"), 40);
    proxy.change(|desired| drop(desired.services.remove("api")));
    assert!(is_unserved(&proxy.get("a.org", "/").await));
}

#[tokio::test]
async fn a_known_host_that_nothing_serves_is_503_and_never_404() {
    let backends = backends(&["web"]);
    let mut proxy = routed(
        &backends,
        &[("web", "a.org", "/", 0), ("gone", "b.org", "/", 0)],
    );
    assert_eq!(who(&proxy.get("a.org", "/").await), "web");
    assert!(is_unserved(&proxy.get("b.org", "/").await));
    let address = backends[0].address();
    for state in [State::Draining, State::Starting, State::Down] {
        proxy.edit_backend(address, |b| b.status = Status::new(state, "test"));
        assert!(is_unserved(&proxy.get("a.org", "/").await), "{state}");
    }
    proxy.edit_backend(address, |b| b.status = Status::default());
    assert_eq!(who(&proxy.get("a.org", "/").await), "web");
    proxy.edit_backend(address, |b| b.weight = 0);
    assert!(is_unserved(&proxy.get("a.org", "/").await));
    proxy.remove_backend(address);
    let mut client = proxy.connect().await;
    for _ in 0..3 {
        let answer = client.get("a.org", "/", BOUND).await.unwrap();
        assert!(is_unserved(&answer), "and the connection goes on");
    }
    assert_eq!(proxy.counters().unserved, 7);
    assert_eq!(client.get("c.org", "/", BOUND).await.unwrap().status, 404);
}

#[tokio::test]
async fn the_sorry_server_serves_when_no_backend_can() {
    let backends = backends(&["web"]);
    let sorry = HttpBackend::start("sorry").unwrap();
    let mut proxy = Proxy::http_with(vec![at(backends[0].address())], |spec| {
        spec.sorry = Some(at(sorry.address()));
    });
    assert_eq!(who(&proxy.get("a.org", "/").await), "web");
    proxy.edit_backend(backends[0].address(), |b| b.weight = 0);
    assert_eq!(who(&proxy.get("a.org", "/").await), "sorry");
    proxy.edit_backend(backends[0].address(), |b| b.weight = 1);
    assert_eq!(who(&proxy.get("a.org", "/").await), "web");
    backends[0].kill(plimsoll_testkit::Ending::Close).await;
    assert_eq!(who(&proxy.get("a.org", "/").await), "sorry");
}

#[tokio::test]
async fn routes_change_under_a_connection_that_stays() {
    let backends = backends(&["web", "api"]);
    let mut proxy = routed(&backends, &[("web", "a.org", "/", 0)]);
    let mut client = proxy.connect().await;
    for round in 0..20 {
        let to = ["api", "web"][round % 2];
        proxy.change(|desired| put_route(desired, route("r0", "a.org", "/", &[(to, 1)])));
        assert_eq!(who(&client.get("a.org", "/", BOUND).await.unwrap()), to);
    }
    proxy.change(|desired| drop(desired.routes.remove("r0")));
    let answer = client.get("a.org", "/", BOUND).await.unwrap();
    assert_eq!(
        who(&answer),
        "web",
        "a service that no route names takes all on its listen"
    );
}

#[tokio::test]
async fn a_listen_with_only_some_routes_serves_those() {
    use plimsoll_model::{Listen, Proto};
    let backends = backends(&["web", "api"]);
    let port = plimsoll_testkit::Port::take().unwrap();
    let other = Listen::socket(port.address().ip(), port.number(), Proto::Http);
    let mut proxy = routed(
        &backends,
        &[("web", "a.org", "/", 0), ("api", "b.org", "/", 0)],
    );
    proxy.edit(|web| std::sync::Arc::make_mut(&mut web.spec).listens.push(other));
    proxy.change(|desired: &mut Desired| {
        let mut route = route("r0", "a.org", "/", &[("web", 1)]);
        route.listens = vec![other];
        put_route(desired, route);
    });
    let mut there = plimsoll_testkit::Raw::connect(port.address())
        .await
        .unwrap();
    assert_eq!(who(&there.get("a.org", "/", BOUND).await.unwrap()), "web");
    assert_eq!(who(&there.get("b.org", "/", BOUND).await.unwrap()), "api");
    assert_eq!(proxy.get("a.org", "/").await.status, 404);
    assert_eq!(who(&proxy.get("b.org", "/").await), "api");
}

#[tokio::test]
async fn schedulers_share_out_over_all_workers() {
    let backends = backends(&["b1", "b2", "b3"]);
    let addresses: Vec<_> = backends.iter().map(HttpBackend::address).collect();
    let mut proxy = Proxy::http(&addresses);
    proxy.edit_backend(addresses[2], |b| b.weight = 2);
    let mut shares: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for kind in [
        SchedulerKind::Rr,
        SchedulerKind::Wrr,
        SchedulerKind::Mh,
        SchedulerKind::Sh,
    ] {
        proxy.edit(|web| std::sync::Arc::make_mut(&mut web.spec).scheduler.kind = kind);
        let report = Client::run(ClientPlan::http(proxy.address(), "a.org"), 240).await;
        report.assert_clean();
        let of = backends.iter().map(|b| report.of(b.id())).collect();
        shares.insert(kind.as_str(), of);
    }
    // One turn for all cores: no share is off by more than what is in flight.
    let near = |shares: &[u64], ideal: [u64; 3]| {
        shares
            .iter()
            .zip(ideal)
            .all(|(share, ideal)| share.abs_diff(ideal) <= 4)
    };
    assert!(near(&shares["rr"], [80, 80, 80]), "{shares:?}");
    assert!(near(&shares["wrr"], [60, 60, 120]), "{shares:?}");
    for kind in ["mh", "sh"] {
        assert!(
            shares[kind].contains(&240),
            "one client, one backend: {shares:?}"
        );
    }
    assert!(proxy.desired.services.contains_key(&name("web")));
}
