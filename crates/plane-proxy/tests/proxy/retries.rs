//! What is tried again, where, and what never is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use plimsoll_model::RetryOn;
use plimsoll_testkit::{
    Answer, Client, ClientPlan, Ending, HttpBackend, HttpBehaviour, Phase, Port, Raw, Response,
    Reuse, WireError,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::{BOUND, BlackHole, LATE, Proxy, Scripted, at, ms, timed};

async fn send(proxy: &Proxy, method: &str, body: &str) -> Response {
    let mut client = proxy.connect().await;
    let length = if body.is_empty() {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", body.len())
    };
    client
        .send(format!(
            "{method} / HTTP/1.1\r\nHost: a\r\n{length}\r\n{body}"
        ))
        .await
        .unwrap();
    client.read_response_to(method, BOUND).await.unwrap()
}

/// A backend that answers the first request of a connection, and takes the second without a word.
async fn once_only() -> (Scripted, Arc<AtomicUsize>) {
    let heads = Arc::new(AtomicUsize::new(0));
    let count = heads.clone();
    let backend = Scripted::start(move |mut stream| {
        let heads = count.clone();
        async move {
            for answer in ["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", ""] {
                let mut got = Vec::new();
                while !got.windows(4).any(|w| w == b"\r\n\r\n") {
                    match stream.read_buf(&mut got).await {
                        Ok(1..) => {}
                        _ => return,
                    }
                }
                heads.fetch_add(1, Ordering::SeqCst);
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    (backend, heads)
}

#[tokio::test]
async fn a_backend_that_cannot_be_connected_to_costs_nobody_a_request() {
    let (dead, hole) = (Port::take().unwrap(), BlackHole::open());
    let good = HttpBackend::start("good").unwrap();
    let backends = vec![at(dead.address()), at(hole.address), at(good.address())];
    let proxy = Proxy::http_with(backends, |spec| spec.timeouts.connect = ms(100));
    for chunked in [false, true] {
        let plan = ClientPlan {
            post_every: 2,
            post_bytes: 100_000,
            chunked,
            reuse: Reuse::Times(3),
            ..ClientPlan::http(proxy.address(), "a")
        };
        Client::run(plan, 60).await.assert_clean();
    }
    for (address, least) in [(dead.address(), 10), (hole.address, 10)] {
        let counted = proxy.counters_of(address);
        assert!(counted.connect_failures >= least, "{counted:?}");
        assert_eq!(
            (counted.retries, counted.requests),
            (counted.connect_failures, 0)
        );
    }
    assert_eq!(proxy.counters_of(good.address()).requests, 120);
    proxy.settled().await;
}

#[tokio::test]
async fn where_no_backend_can_be_connected_to_the_answer_says_so() {
    let (dead, deader, hole) = (
        Port::take().unwrap(),
        Port::take().unwrap(),
        BlackHole::open(),
    );
    let proxy = Proxy::http(&[dead.address(), deader.address()]);
    let (answer, took) = timed(send(&proxy, "GET", "")).await;
    assert_eq!(answer.status, 502);
    assert!(took < ms(1000), "{took:?}");
    assert_eq!(send(&proxy, "POST", "abc").await.status, 502);
    let each = [dead.address(), deader.address()].map(|a| proxy.counters_of(a).connect_failures);
    assert_eq!(each, [2, 2], "each is tried once");
    assert_eq!((proxy.counters().failed, proxy.counters().unserved), (2, 0));
    let proxy = Proxy::http_with(vec![at(hole.address)], |spec| {
        spec.timeouts.connect = ms(200)
    });
    let (answer, took) = timed(send(&proxy, "GET", "")).await;
    assert_eq!(answer.status, 504);
    assert!(took >= ms(190) && took < LATE, "{took:?}");
    proxy.settled().await;
}

#[tokio::test]
async fn retries_bound_how_many_backends_are_tried() {
    let holes: Vec<BlackHole> = (0..4).map(|_| BlackHole::open()).collect();
    for (retries, tried) in [(0, 1), (2, 3), (9, 4)] {
        let backends = holes.iter().map(|hole| at(hole.address)).collect();
        let proxy = Proxy::http_with(backends, |spec| {
            spec.retries = retries;
            spec.timeouts.connect = ms(50);
        });
        assert_eq!(send(&proxy, "GET", "").await.status, 504);
        let failures = holes
            .iter()
            .map(|hole| proxy.counters_of(hole.address).connect_failures);
        assert_eq!(failures.sum::<u64>(), tried, "{retries}");
    }
}

#[tokio::test]
async fn those_that_refuse_at_once_are_passed_over() {
    let dead: Vec<Port> = (0..40).map(|_| Port::take().unwrap()).collect();
    let addresses: Vec<_> = dead.iter().map(Port::address).collect();
    // Beside those that count as retries, 32 of them.
    for (retries, dead, tried) in [(0, 4, 1), (1, 4, 4), (1, 40, 34), (3, 40, 36), (9, 40, 40)] {
        let addresses = &addresses[..dead];
        let backends = addresses.iter().copied().map(at).collect();
        let proxy = Proxy::http_with(backends, |spec| spec.retries = retries);
        assert_eq!(send(&proxy, "POST", "abc").await.status, 502);
        let failures = addresses
            .iter()
            .map(|a| proxy.counters_of(*a).connect_failures);
        assert_eq!(failures.sum::<u64>(), tried, "{retries} {dead}");
    }
    // So nobody loses a request where most end in the same moment.
    let good = HttpBackend::start("good").unwrap();
    let mut backends: Vec<_> = addresses[..20].iter().copied().map(at).collect();
    backends.push(at(good.address()));
    let proxy = Proxy::http_with(backends, |spec| spec.retries = 1);
    let plan = ClientPlan {
        post_every: 2,
        reuse: Reuse::Never,
        ..ClientPlan::http(proxy.address(), "a")
    };
    Client::run(plan, 40).await.assert_clean();
}

#[tokio::test]
async fn a_kept_connection_that_closes_under_a_request_is_replaced_if_that_is_safe() {
    for (method, body, status) in [
        ("GET", "", 200),
        ("HEAD", "", 200),
        ("DELETE", "", 200),
        ("POST", "abc", 502),
        ("POST", "", 502),
        ("PUT", "abc", 502),
        ("PATCH", "", 502),
    ] {
        let (backend, heads) = once_only().await;
        let proxy = Proxy::http(&[backend.address]);
        let mut client = proxy.connect().await;
        assert_eq!(client.get("a", "/", BOUND).await.unwrap().status, 200);
        let length = if body.is_empty() {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        client
            .send(format!(
                "{method} / HTTP/1.1\r\nHost: a\r\n{length}\r\n{body}"
            ))
            .await
            .unwrap();
        let answer = client.read_response_to(method, BOUND).await.unwrap();
        assert_eq!(answer.status, status, "{method} {body}");
        let sent = if status == 200 { 3 } else { 2 };
        assert_eq!(
            heads.load(Ordering::SeqCst),
            sent,
            "{method} is not sent more often"
        );
        let counted = proxy.counters_of(backend.address);
        assert_eq!(
            counted.failures,
            u64::from(status != 200),
            "{method}: {counted:?}"
        );
        proxy.settled().await;
    }
}

#[tokio::test]
async fn a_kept_connection_is_replaced_however_little_may_be_tried_again() {
    let (backend, heads) = once_only().await;
    let proxy = Proxy::http_with(vec![at(backend.address)], |spec| {
        (spec.retries, spec.retry.on) = (0, RetryOn::none());
        (spec.retry.budget, spec.retry.floor) = (0, 0);
    });
    let mut client = proxy.connect().await;
    for sent in [1, 3, 5, 7] {
        assert_eq!(client.get("a", "/", BOUND).await.unwrap().status, 200);
        assert_eq!(heads.load(Ordering::SeqCst), sent);
    }
    let counted = proxy.counters_of(backend.address);
    assert_eq!((counted.failures, counted.retries), (0, 0), "{counted:?}");
    assert_eq!(proxy.counters().unretried, 0);
    proxy.settled().await;
}

#[tokio::test]
async fn a_backend_that_closes_before_it_answers_is_replaced_if_that_is_safe() {
    let (bad, good) = (
        HttpBackend::start("bad").unwrap(),
        HttpBackend::start("good").unwrap(),
    );
    for (phase, ending) in [
        (Phase::Accept, Ending::Close),
        (Phase::Accept, Ending::Reset),
        (Phase::Request, Ending::Close),
        (Phase::Request, Ending::Reset),
    ] {
        bad.behave(HttpBehaviour::answering(Answer::Cut(phase, ending)));
        let proxy = Proxy::http(&[bad.address(), good.address()]);
        let plan = ClientPlan {
            tasks: 1,
            ..ClientPlan::http(proxy.address(), "a")
        };
        Client::run(plan, 10).await.assert_clean();
        let mut posts = Vec::new();
        for _ in 0..6 {
            posts.push(send(&proxy, "POST", "abc").await.status);
        }
        assert!(posts.contains(&200), "{posts:?}");
        if phase == Phase::Request {
            // It may have been carried out; where nothing was sent it cannot.
            posts.sort_unstable();
            assert_eq!(
                posts,
                [200, 200, 200, 502, 502, 502],
                "{phase:?} {ending:?}"
            );
        }
        assert!(
            posts.iter().all(|status| matches!(status, 200 | 502)),
            "{posts:?}"
        );
        assert_eq!(proxy.counters_of(good.address()).failures, 0);
        let counted = proxy.counters_of(bad.address());
        assert!(
            counted.failures + counted.connect_failures >= 6,
            "{counted:?}"
        );
        proxy.settled().await;
    }
}

#[tokio::test]
async fn a_request_that_no_backend_answers_is_sent_only_a_few_times() {
    let backends: Vec<HttpBackend> = (0..8)
        .map(|n| HttpBackend::start(&n.to_string()).unwrap())
        .collect();
    for backend in &backends {
        backend.behave(HttpBehaviour::answering(Answer::Cut(
            Phase::Request,
            Ending::Close,
        )));
    }
    let addresses: Vec<_> = backends.iter().map(HttpBackend::address).collect();
    let proxy = Proxy::http(&addresses);
    assert_eq!(send(&proxy, "GET", "").await.status, 502);
    let sent: u64 = backends.iter().map(|b| b.stats().requests).sum();
    assert_eq!(sent, 4, "one that kills backends must not meet all");
}

#[tokio::test]
async fn posts_do_not_run_into_connections_that_a_backend_is_just_closing() {
    let backend = HttpBackend::start("b").unwrap();
    backend.behave(HttpBehaviour {
        idle: Some(ms(1_500)),
        ..HttpBehaviour::default()
    });
    let proxy = Proxy::http(&[backend.address()]);
    let clients: Vec<Client> = (0..16)
        .map(|n| {
            Client::start(ClientPlan {
                tasks: 1,
                post_every: 1,
                post_bytes: 10,
                requests: Some(2),
                // Every one of them meets a connection of about the age at which it is closed.
                pause: ms(1_460 + n * 5),
                ..ClientPlan::http(proxy.address(), "a")
            })
        })
        .collect();
    for client in clients {
        client.finished().await.assert_clean();
    }
}

/// Reads a response to its end, whatever that is.
async fn read_all(client: &mut Raw) -> Result<Response, WireError> {
    client.read_response(BOUND).await
}

#[tokio::test]
async fn a_response_that_breaks_off_is_broken_for_the_client_too() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    let chunks =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nhe".to_vec();
    let cut = |phase, ending| HttpBehaviour {
        bytes: 100_000,
        ..HttpBehaviour::answering(Answer::Cut(phase, ending))
    };
    for behaviour in [
        cut(Phase::Body, Ending::Close),
        cut(Phase::Body, Ending::Reset),
        HttpBehaviour::answering(Answer::TooLittle(1)),
    ] {
        backend.behave(behaviour.clone());
        for version in ["HTTP/1.1", "HTTP/1.0"] {
            let mut client = proxy.connect().await;
            client
                .send(format!("GET / {version}\r\nHost: a\r\n\r\n"))
                .await
                .unwrap();
            let got = read_all(&mut client).await;
            let broken = matches!(got, Err(WireError::Closed { .. } | WireError::Reset { .. }));
            assert!(broken, "{behaviour:?} {version}: {got:?}");
        }
    }
    for phase in [Phase::Head, Phase::Request] {
        backend.behave(cut(phase, Ending::Close));
        let mut client = proxy.connect().await;
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            .await
            .unwrap();
        let answer = read_all(&mut client).await.unwrap();
        assert_eq!(
            answer.status, 502,
            "{phase:?}: nothing has been passed on yet"
        );
    }
    // Chunks that end too early; the length of the response is nowhere said.
    backend.behave(HttpBehaviour::answering(Answer::Garbage(chunks)));
    for version in ["HTTP/1.1", "HTTP/1.0"] {
        let mut client = proxy.connect().await;
        client
            .send(format!("GET / {version}\r\nHost: a\r\n\r\n"))
            .await
            .unwrap();
        client.read_head(BOUND).await.unwrap();
        backend.kill(Ending::Close).await;
        backend.listen_again().unwrap();
        let (_, ending) = client.read_to_end(BOUND).await.unwrap();
        if version == "HTTP/1.0" {
            assert_eq!(
                ending,
                Ending::Reset,
                "its end is the end of the connection"
            );
        }
    }
    backend.behave(HttpBehaviour::default());
    proxy.settled().await;
    proxy.serves().await;
}
