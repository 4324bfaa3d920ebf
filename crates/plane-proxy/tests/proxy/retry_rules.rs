//! After what a service tries again, and how often over all its requests.

use std::time::Instant;

use plimsoll_model::{Retry, RetryOn};
use plimsoll_testkit::{Answer, Ending, HttpBackend, HttpBehaviour, Phase, Port, Response};

use crate::common::{BOUND, MOMENT, Proxy, at, limited, ms};

fn cause(name: &str) -> RetryOn {
    let mut names = RetryOn::NAMES.iter();
    names.find(|(known, _)| *known == name).unwrap().1
}

fn on(names: &[&str]) -> RetryOn {
    let causes = names.iter().map(|name| cause(name));
    causes.fold(RetryOn::none(), RetryOn::and)
}

fn failing(id: &str, status: u16) -> HttpBackend {
    let backend = HttpBackend::start(id).unwrap();
    backend.behave(HttpBehaviour {
        status,
        ..HttpBehaviour::default()
    });
    backend
}

/// A proxy before these that tries again after that, without a bound.
fn proxy(backends: &[&HttpBackend], causes: &[&str], attempts: u32) -> Proxy {
    let backends = backends.iter().map(|b| at(b.address())).collect();
    Proxy::http_with(backends, |spec| {
        spec.retries = attempts;
        spec.retry = Retry {
            on: on(causes),
            budget: 1000,
            floor: 1000,
        };
        spec.timeouts.response = ms(300);
    })
}

async fn send(proxy: &Proxy, method: &str) -> Response {
    let mut client = proxy.connect().await;
    let head = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    client.send(head).await.unwrap();
    client.read_response_to(method, BOUND).await.unwrap()
}

#[tokio::test]
async fn a_status_that_is_said_goes_to_another_backend() {
    let (bad, good) = (failing("bad", 503), HttpBackend::start("good").unwrap());
    let of_retries = proxy(&[&bad, &good], &["503"], 3);
    for method in ["GET", "HEAD", "PUT", "DELETE"] {
        for _ in 0..4 {
            assert_eq!(send(&of_retries, method).await.status, 200, "{method}");
        }
    }
    let counted = of_retries.counters_of(bad.address());
    assert!(counted.requests >= 8, "{counted:?}");
    let all = (counted.retries, counted.responses[4]);
    assert_eq!(all, (counted.requests, counted.requests));
    // What is not safe goes nowhere else, and another status neither.
    let mut posts = Vec::new();
    for _ in 0..4 {
        posts.push(send(&of_retries, "POST").await.status);
    }
    posts.sort_unstable();
    assert_eq!(posts, [200, 200, 503, 503]);
    bad.behave(HttpBehaviour {
        status: 500,
        ..HttpBehaviour::default()
    });
    let mut gets = Vec::new();
    for _ in 0..4 {
        gets.push(send(&of_retries, "GET").await.status);
    }
    gets.sort_unstable();
    assert_eq!(gets, [200, 200, 500, 500]);
    of_retries.settled().await;
}

#[tokio::test]
async fn where_none_gives_another_the_client_gets_what_a_backend_said() {
    let backends: Vec<HttpBackend> = (0..5).map(|n| failing(&n.to_string(), 503)).collect();
    for backend in &backends {
        backend.behave(HttpBehaviour {
            status: 503,
            headers: vec![("X-Of-Backend".into(), "yes".into())],
            bytes: 50_000,
            ..HttpBehaviour::default()
        });
    }
    let all: Vec<&HttpBackend> = backends.iter().collect();
    for (attempts, sent) in [(0, 1), (2, 3), (9, 5)] {
        let proxy = proxy(&all, &["503"], attempts);
        let mut client = proxy.connect().await;
        for _ in 0..2 {
            let answer = client.get("a", "/", BOUND).await.unwrap();
            assert_eq!(answer.status, 503);
            assert_eq!(answer.head.get("x-of-backend"), Some("yes"));
            assert!(answer.body.bytes.len() >= 50_000);
        }
        let requests = all.iter().map(|b| proxy.counters_of(b.address()).requests);
        assert_eq!(requests.sum::<u64>(), 2 * sent, "{attempts}");
        let answers = all
            .iter()
            .map(|b| proxy.counters_of(b.address()).responses[4]);
        assert_eq!(answers.sum::<u64>(), 2 * sent, "{attempts}");
        proxy.settled().await;
    }
    // The others cannot be connected to: what one said is more than nothing.
    let dead = Port::take().unwrap();
    let proxy = Proxy::http_with(vec![at(all[0].address()), at(dead.address())], |spec| {
        spec.retry.on = on(&["503", "connect-failure"]);
    });
    for _ in 0..2 {
        let answer = send(&proxy, "GET").await;
        assert_eq!(answer.head.get("x-of-backend"), Some("yes"));
    }
    proxy.settled().await;
}

#[tokio::test]
async fn time_outs_are_tried_again_where_that_is_said() {
    let (mute, good) = (
        HttpBackend::start("mute").unwrap(),
        HttpBackend::start("good").unwrap(),
    );
    mute.behave(HttpBehaviour::answering(Answer::Never));
    for (causes, statuses) in [
        (&["response-timeout"][..], [200, 200]),
        (&["connect-failure"], [200, 504]),
    ] {
        let proxy = proxy(&[&mute, &good], causes, 3);
        let mut got = [
            send(&proxy, "GET").await.status,
            send(&proxy, "GET").await.status,
        ];
        got.sort_unstable();
        assert_eq!(got, statuses, "{causes:?}");
        proxy.settled().await;
    }
}

#[tokio::test]
async fn what_is_not_said_is_not_tried_again() {
    let (dead, good) = (Port::take().unwrap(), HttpBackend::start("good").unwrap());
    let backends = vec![at(dead.address()), at(good.address())];
    let proxy = Proxy::http_with(backends, |spec| spec.retry.on = on(&["503"]));
    let mut got = [
        send(&proxy, "GET").await.status,
        send(&proxy, "GET").await.status,
    ];
    got.sort_unstable();
    assert_eq!(got, [200, 502]);
    let cut = HttpBackend::start("cut").unwrap();
    cut.behave(HttpBehaviour::answering(Answer::Cut(
        Phase::Request,
        Ending::Close,
    )));
    let proxy = Proxy::http_with(vec![at(cut.address()), at(good.address())], |spec| {
        spec.retry.on = on(&["connect-failure"]);
    });
    let mut got = [
        send(&proxy, "GET").await.status,
        send(&proxy, "GET").await.status,
    ];
    got.sort_unstable();
    assert_eq!(got, [200, 502]);
}

#[tokio::test]
async fn the_budget_is_over_all_requests_and_workers() {
    let (bad, good) = (failing("bad", 503), HttpBackend::start("good").unwrap());
    let backends = vec![at(bad.address()), at(good.address())];
    let proxy = Proxy::http_with(backends, |spec| {
        spec.retry = Retry {
            on: on(&["503"]),
            budget: 0,
            floor: 1,
        };
    });
    // One in a second is ten in ten, and as many again in the next ten on a busy machine.
    let begun = Instant::now();
    let mut refused = 0;
    while proxy.counters_of(bad.address()).requests < 30 {
        refused += u64::from(send(&proxy, "GET").await.status == 503);
    }
    let (service, bad) = (proxy.counters(), proxy.counters_of(bad.address()));
    assert!(bad.retries >= 10, "{bad:?}");
    assert_eq!(service.unretried, refused);
    assert_eq!(bad.retries + refused, bad.requests);
    let most = 10 * (1 + begun.elapsed().as_secs() / 5);
    assert!(bad.retries <= most, "{bad:?}, {most} at most");
    proxy.settled().await;
}

#[tokio::test]
async fn backends_that_refuse_at_once_need_no_budget() {
    let dead: Vec<Port> = (0..4).map(|_| Port::take().unwrap()).collect();
    let good = HttpBackend::start("good").unwrap();
    let mut backends: Vec<_> = dead.iter().map(|port| at(port.address())).collect();
    backends.push(at(good.address()));
    let proxy = Proxy::http_with(backends, |spec| {
        (spec.retry.budget, spec.retry.floor) = (0, 0)
    });
    for _ in 0..20 {
        assert_eq!(send(&proxy, "POST").await.status, 200);
    }
    assert_eq!(proxy.counters().unretried, 0);
}

#[tokio::test]
async fn nobody_waits_for_a_place_with_another_in_hand() {
    let backends = ["a", "b"].map(|id| failing(id, 503));
    for backend in &backends {
        backend.behave(HttpBehaviour {
            status: 503,
            ..HttpBehaviour::slow(MOMENT)
        });
    }
    let there = backends.iter().map(|b| limited(b.address(), 1)).collect();
    let proxy = Proxy::http_with(there, |spec| {
        // Without an end, so that two who wait for each other would do so for ever.
        spec.timeouts.queue = std::time::Duration::ZERO;
        spec.retry.on = on(&["503"]);
        spec.retry.floor = 1000;
    });
    let ask = || proxy.get("a", "/");
    let (a, b, c, d) = tokio::join!(ask(), ask(), ask(), ask());
    for answer in [a, b, c, d] {
        assert_eq!(answer.status, 503);
        assert!(answer.head.get(plimsoll_testkit::BACKEND_HEADER).is_some());
    }
}

#[tokio::test]
async fn who_was_answered_does_not_go_to_another_service() {
    let (bad, good) = (failing("bad", 503), HttpBackend::start("good").unwrap());
    let mut proxy = Proxy::http_with(vec![at(bad.address())], |spec| {
        spec.retry.on = on(&["503"]);
        spec.retry.floor = 1000;
    });
    proxy.change(|desired| {
        let other = crate::common::service("other", vec![at(good.address())]);
        crate::common::put(desired, other);
        let both = [("web", 1), ("other", 1)];
        crate::common::put_route(desired, crate::common::route("both", "*", "/", &both));
    });
    let mut statuses = Vec::new();
    for _ in 0..10 {
        statuses.push(proxy.get("a", "/").await.status);
    }
    let bads = statuses.iter().filter(|status| **status == 503).count();
    assert!((4..=6).contains(&bads), "each has its turn: {statuses:?}");
}
