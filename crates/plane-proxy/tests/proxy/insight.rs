//! What the plane tells: counters, flows, explanations and events.

use plimsoll_model::{Name, Proto, Scheduler, SchedulerKind, State, Status};
use plimsoll_plane::{Event, Flow, FlowFilter, Plane, Tuple};
use plimsoll_testkit::{
    Answer, Client, ClientPlan, Ending, HttpBackend, HttpBehaviour, Phase, Port, Raw, TcpBackend,
    wait_until_async,
};
use tokio::sync::mpsc::Receiver;

use crate::common::{BOUND, Proxy, at, limited, ms, put, put_route, route, service};

#[tokio::test]
async fn counters_add_up() {
    let (one, two) = (
        HttpBackend::start("one").unwrap(),
        HttpBackend::start("two").unwrap(),
    );
    let mut proxy = Proxy::http(&[one.address(), two.address()]);
    let plan = ClientPlan {
        post_every: 2,
        post_bytes: 1_000,
        want: vec![5_000],
        ..ClientPlan::http(proxy.address(), "a")
    };
    let report = Client::run(plan, 100).await;
    report.assert_clean();
    proxy.settled().await;
    let counted = [one.address(), two.address()].map(|address| proxy.counters_of(address));
    let sum = |of: fn(&plimsoll_plane::BackendCounters) -> u64| counted.iter().map(of).sum::<u64>();
    assert_eq!(proxy.counters().total, 100);
    assert_eq!((sum(|c| c.requests), sum(|c| c.responses[1])), (100, 100));
    assert_eq!(
        (sum(|c| c.bytes_in), sum(|c| c.bytes_out)),
        (50_000, 500_000)
    );
    assert_eq!(sum(|c| c.failures + c.retries + c.connect_failures), 0);
    assert_eq!(
        sum(|c| c.connections),
        one.stats().connections + two.stats().connections
    );
    assert_eq!(counted[0].requests, report.of("one"));
    let listen = proxy.listen();
    assert_eq!(
        (listen.accepted, listen.refused.len()),
        (report.connections, 0)
    );
    for status in [204, 302, 404, 500] {
        one.behave(HttpBehaviour {
            status,
            ..HttpBehaviour::default()
        });
        two.behave(HttpBehaviour {
            status,
            ..HttpBehaviour::default()
        });
        assert_eq!(proxy.get("a", "/").await.status, status);
    }
    let classes =
        [one.address(), two.address()].map(|address| proxy.counters_of(address).responses);
    let by_class: Vec<u64> = (0..5)
        .map(|class| classes.iter().map(|c| c[class]).sum())
        .collect();
    assert_eq!(by_class, [0, 101, 1, 1, 1]);
    // Settings may change; what was counted stays.
    let before = proxy.counters_of(one.address()).requests;
    proxy.edit_backend(one.address(), |b| b.weight = 7);
    assert_eq!(proxy.counters_of(one.address()).requests, before);
    proxy.remove_backend(two.address());
    assert_eq!(proxy.counters().backends.len(), 1);
    assert_eq!(proxy.counters().total, 104);
}

fn phases(flows: &[Flow]) -> Vec<&'static str> {
    let mut phases: Vec<&str> = flows.iter().map(|flow| flow.phase).collect();
    phases.sort_unstable();
    phases
}

#[tokio::test]
async fn flows_are_listed_with_what_they_do() {
    let backend = HttpBackend::start("b").unwrap();
    let mut proxy = Proxy::http_with(vec![limited(backend.address(), 2)], |_| {});
    let mut clients: Vec<Raw> = Vec::new();
    for bytes in [
        "",
        "GET / HTTP/1.1\r\nHo",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    ] {
        let mut client = proxy.connect().await;
        client.send(bytes).await.unwrap();
        clients.push(client);
    }
    clients[2].read_head(BOUND).await.unwrap();
    backend.behave(HttpBehaviour::answering(Answer::Never));
    for _ in 0..2 {
        let mut client = proxy.connect().await;
        client
            .send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        clients.push(client);
    }
    let expected = ["head", "idle", "queued", "request", "tunnel"];
    assert!(
        wait_until_async(BOUND, || phases(&proxy.flows()) == expected).await,
        "{:?}",
        proxy.flows()
    );
    let web: Name = "web".parse().unwrap();
    for flow in proxy.flows() {
        let client = clients
            .iter()
            .find(|c| c.local_addr().unwrap() == flow.client);
        assert!(client.is_some() && flow.age < BOUND, "{flow:?}");
        let has_backend = matches!(flow.phase, "request" | "tunnel");
        assert_eq!(
            flow.backend == Some(backend.address().into()),
            has_backend,
            "{flow:?}"
        );
        assert_eq!(flow.service == Some(web.clone()), has_backend, "{flow:?}");
    }
    let mut count = |filter: FlowFilter| proxy.plane.flows(&filter, 0).unwrap().flows.len();
    let of_backend = FlowFilter {
        backend: Some(backend.address().into()),
        ..FlowFilter::default()
    };
    assert_eq!(count(of_backend), 2);
    assert_eq!(
        count(FlowFilter {
            service: Some(web),
            ..FlowFilter::default()
        }),
        2
    );
    let other = Some("other".parse().unwrap());
    assert_eq!(
        count(FlowFilter {
            service: other,
            ..FlowFilter::default()
        }),
        0
    );
    let pages = FlowFilter {
        limit: 2,
        ..FlowFilter::default()
    };
    let (mut cursor, mut seen) = (Some(0), Vec::new());
    while let Some(from) = cursor {
        let page = proxy.plane.flows(&pages, from).unwrap();
        assert!(page.flows.len() <= 2);
        seen.extend(page.flows);
        cursor = page.next;
    }
    assert_eq!(phases(&seen), expected, "the pages together are the whole");
    drop(clients);
    assert!(wait_until_async(BOUND, || proxy.flows().is_empty()).await);
}

#[tokio::test]
async fn tcp_connections_are_flows() {
    let backend = TcpBackend::start("b").unwrap();
    let mut proxy = Proxy::tcp_with(vec![limited(backend.address(), 1)], |_| {});
    let first = proxy.connect().await;
    assert!(wait_until_async(BOUND, || phases(&proxy.flows()) == ["tcp"]).await);
    let second = proxy.connect().await;
    assert!(wait_until_async(BOUND, || phases(&proxy.flows()) == ["queued", "tcp"]).await);
    drop((first, second));
    assert!(wait_until_async(BOUND, || proxy.flows().is_empty()).await);
}

#[tokio::test]
async fn explanations_agree_with_what_happens() {
    let backends: Vec<HttpBackend> = (0..5)
        .map(|n| HttpBackend::start(&format!("b{n}")).unwrap())
        .collect();
    let mut proxy = Proxy::http_with(backends.iter().map(|b| at(b.address())).collect(), |spec| {
        spec.scheduler = Scheduler {
            kind: SchedulerKind::Mh,
            ..Scheduler::default()
        };
    });
    proxy.change(|desired| {
        put(desired, service("two", vec![at(backends[0].address())]));
        put_route(desired, route("r", "*.example.com", "/x", &[("two", 1)]));
        put_route(
            desired,
            route("both", "both.org", "/", &[("two", 1), ("web", 1)]),
        );
        put_route(desired, route("known", "known.org", "/", &[("web", 1)]));
    });
    let tuple = |host: &str, path: &str| Tuple {
        client: "127.0.0.1:4711".parse().unwrap(),
        destination: proxy.address(),
        proto: Proto::Http,
        host: Some(host.to_owned()),
        path: Some(path.to_owned()),
    };
    let name = |name: &Option<Name>| name.as_ref().map_or(String::new(), Name::to_string);
    for (host, path, route, service) in [
        ("www.example.com", "/x/y", "r", "two"),
        ("WWW.example.com", "/x", "r", "two"),
        ("known.org", "/", "known", "web"),
        ("both.org", "/", "both", ""),
        ("www.example.com", "/y", "", ""),
        ("unknown.org", "/", "", ""),
    ] {
        let told = proxy.plane.explain(&tuple(host, path));
        assert_eq!(
            (name(&told.route).as_str(), name(&told.service).as_str()),
            (route, service),
            "{told:?}"
        );
        let status = proxy.get(host, path).await.status;
        assert_eq!(status == 404, route.is_empty(), "{host}{path}");
        assert_eq!(
            told.steps.iter().any(|step| step.ends_with(": 404")),
            status == 404,
            "{told:?}"
        );
    }
    let told = proxy.plane.explain(&tuple("known.org", "/"));
    let answer = proxy.get("known.org", "/").await;
    let served = backends
        .iter()
        .find(|b| answer.text().contains(&format!("backend={} ", b.id())));
    assert_eq!(told.backend, served.map(|b| b.address().into()), "{told:?}");
    let mut elsewhere = tuple("known.org", "/");
    elsewhere.destination = Port::take().unwrap().address();
    let told = proxy.plane.explain(&elsewhere);
    assert!(
        told.service.is_none() && told.steps[0].contains("nothing listens"),
        "{told:?}"
    );
}

/// Reads events until one passes.
async fn until(events: &mut Receiver<Event>, passes: impl Fn(&Event) -> bool) {
    let waiting = async {
        loop {
            let event = events.recv().await.expect("the plane is there");
            if passes(&event) {
                return;
            }
        }
    };
    assert!(
        tokio::time::timeout(BOUND, waiting).await.is_ok(),
        "the event has not come"
    );
}

#[tokio::test]
async fn what_happens_to_backends_is_told() {
    let (first, second) = (
        HttpBackend::start("1").unwrap(),
        HttpBackend::start("2").unwrap(),
    );
    let mut proxy = Proxy::http(&[first.address(), second.address()]);
    let mut events = proxy.plane.events().unwrap();
    let it = plimsoll_model::BackendAddr::from(first.address());
    first.refuse().await;
    for _ in 0..4 {
        assert_eq!(proxy.get("a", "/").await.status, 200);
    }
    until(&mut events, |event| {
        matches!(event, Event::ConnectFailed { service, backend, reason }
            if service.as_str() == "web" && *backend == it && reason == "connection refused")
    })
    .await;
    first.listen_again().unwrap();
    for _ in 0..2 {
        assert_eq!(proxy.get("a", "/").await.status, 200);
    }
    until(
        &mut events,
        |event| matches!(event, Event::Served { backend, .. } if *backend == it),
    )
    .await;
    first.behave(HttpBehaviour::answering(Answer::Cut(
        Phase::Request,
        Ending::Reset,
    )));
    for _ in 0..2 {
        assert_eq!(proxy.get("a", "/").await.status, 200);
    }
    until(
        &mut events,
        |event| matches!(event, Event::Reset { backend, .. } if *backend == it),
    )
    .await;
    first.behave(HttpBehaviour::slow(ms(200)));
    second.behave(HttpBehaviour::slow(ms(200)));
    let mut clients = [proxy.connect().await, proxy.connect().await];
    for client in &mut clients {
        client
            .send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
    }
    assert!(wait_until_async(BOUND, || first.stats().active == 1).await);
    let draining = Status::new(State::Draining, "test");
    proxy.edit_backend(first.address(), |b| b.status = draining);
    for client in &mut clients {
        assert_eq!(client.read_response(BOUND).await.unwrap().status, 200);
    }
    until(
        &mut events,
        |event| matches!(event, Event::Drained { backend, .. } if *backend == it),
    )
    .await;
}

#[tokio::test]
async fn each_request_counts_once_whatever_becomes_of_it() {
    let backend = HttpBackend::start("b").unwrap();
    let mut proxy = Proxy::http_with(vec![at(backend.address())], |spec| spec.max_body = 3);
    proxy.change(|desired| put_route(desired, route("known", "a", "/", &[("web", 1)])));
    for (head, status) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\nHost: other\r\n\r\n", 404),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n",
            413,
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: a cake\r\n\r\n", 417),
        ("GET / HTTP/9.1\r\nHost: a\r\n\r\n", 505),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
            400,
        ),
        ("GET / HTTP/1.1\r\nHost a\r\n\r\n", 400),
    ] {
        let before = proxy.listen().requests;
        let mut client = proxy.connect().await;
        client.send(head).await.unwrap();
        let answer = client.read_response(BOUND).await.unwrap();
        assert_eq!(answer.status, status, "{head}");
        assert_eq!(proxy.listen().requests, before + 1, "{head}");
    }
}
