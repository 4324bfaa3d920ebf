//! `maxconn`, exact over all workers, and the queue before it.

use plimsoll_model::{State, Status};
use plimsoll_testkit::{
    Answer, Client, ClientPlan, HttpBackend, HttpBehaviour, ID_HEADER, Raw, Reuse, wait_until_async,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::{BOUND, LATE, MOMENT, Proxy, Scripted, at, limited, ms, timed};

fn get(id: &str) -> String {
    format!("GET /{id} HTTP/1.1\r\nHost: a\r\n{ID_HEADER}: {id}\r\n\r\n")
}

/// Sends so many requests, one after the other, each queued before the next is sent.
async fn queue_up(proxy: &Proxy, backend: &HttpBackend, ids: &[&str]) -> Vec<Raw> {
    let before = proxy.counters_of(backend.address()).queued;
    let mut clients = Vec::new();
    for (id, queued) in ids.iter().zip(before + 1..) {
        let mut client = proxy.connect().await;
        client.send(get(id)).await.unwrap();
        let waits = || proxy.counters_of(backend.address()).queued == queued;
        assert!(wait_until_async(BOUND, waits).await, "{id} waits");
        clients.push(client);
    }
    clients
}

/// Takes the only place of the backend; it comes free when the connection is dropped.
async fn occupy(proxy: &Proxy, backend: &HttpBackend) -> Raw {
    backend.behave(HttpBehaviour::answering(Answer::Never));
    let mut client = proxy.connect().await;
    client.send(get("occupy")).await.unwrap();
    assert!(wait_until_async(BOUND, || backend.stats().active == 1).await);
    backend.behave(HttpBehaviour::default());
    client
}

/// Serves requests without a body on one connection until the other side closes it.
async fn serve_simply(mut stream: TcpStream) {
    let mut got = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut got).await {
        while let Some(end) = got.windows(4).position(|w| w == b"\r\n\r\n") {
            got.drain(..end + 4);
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
    }
}

#[tokio::test]
async fn a_backend_never_has_more_requests_than_its_limit() {
    let backend = HttpBackend::start("b").unwrap();
    backend.behave(HttpBehaviour::slow(ms(1)));
    let mut proxy = Proxy::http(&[backend.address()]);
    for limit in [1, 3] {
        proxy.edit_backend(backend.address(), |b| b.maxconn = limit);
        for (reuse, requests) in [(Reuse::Keep, 400), (Reuse::Never, 150)] {
            let plan = ClientPlan {
                tasks: 24,
                reuse,
                post_every: 4,
                ..ClientPlan::http(proxy.address(), "a")
            };
            let report = Client::run(plan, requests).await;
            report.assert_clean();
            assert!(report.slowest < LATE, "{report}");
            assert!(
                backend.stats().most_active <= limit.into(),
                "{:?}",
                backend.stats()
            );
        }
    }
    assert_eq!(backend.stats().most_active, 3, "and the limit is used");
    proxy.settled().await;
}

#[tokio::test]
async fn an_idle_connection_of_another_worker_takes_nobodys_place() {
    let backend = Scripted::one_by_one(serve_simply).await;
    let proxy = Proxy::http_with(vec![limited(backend.address, 1)], |_| {});
    let mut clients = Vec::new();
    for _ in 0..16 {
        clients.push(proxy.connect().await);
    }
    // One after the other: the backend takes no connection before the last is closed, and some of
    // these are on one worker and some on the other.
    for _ in 0..3 {
        for client in &mut clients {
            let (answer, took) = timed(async { client.get("a", "/", BOUND).await.unwrap() }).await;
            assert!(
                answer.status == 200 && took < LATE,
                "{answer:?} after {took:?}"
            );
        }
    }
    assert!(
        backend.accepted() > 1,
        "they are on one worker, which has one chance in 32 768"
    );
    // And all at once.
    for client in &mut clients {
        client.send(get("x")).await.unwrap();
    }
    for client in &mut clients {
        assert_eq!(client.read_response(BOUND).await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn the_queue_is_served_in_the_order_of_arrival() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http_with(vec![limited(backend.address(), 1)], |_| {});
    let first = occupy(&proxy, &backend).await;
    let ids: Vec<String> = (0..12).map(|n| format!("q{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut clients = queue_up(&proxy, &backend, &ids).await;
    assert_eq!(backend.stats().requests, 1);
    drop(first);
    for client in &mut clients {
        assert_eq!(client.read_response(BOUND).await.unwrap().status, 200);
    }
    let seen = backend.seen();
    let order: Vec<&str> = seen[1..]
        .iter()
        .filter_map(|s| s.head.get(ID_HEADER))
        .collect();
    assert_eq!(order, ids);
    assert_eq!(backend.stats().most_active, 1);
}

#[tokio::test]
async fn a_full_queue_and_a_long_wait_are_503() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http_with(vec![limited(backend.address(), 1)], |spec| {
        spec.queue = 2;
        spec.timeouts.queue = ms(500);
    });
    let first = occupy(&proxy, &backend).await;
    let mut waiting = queue_up(&proxy, &backend, &["q1", "q2"]).await;
    let (answer, took) = timed(proxy.get("a", "/")).await;
    assert!(
        answer.status == 503 && answer.head.get("retry-after").is_some(),
        "{answer:?}"
    );
    assert!(took < ms(450), "at once, not after {took:?}");
    for client in &mut waiting {
        let (answer, took) = timed(async { client.read_response(BOUND).await.unwrap() }).await;
        assert!(
            answer.status == 503 && answer.head.get("retry-after").is_some(),
            "{answer:?}"
        );
        assert!(took < LATE, "{took:?}");
    }
    assert_eq!(
        (proxy.counters().unserved, backend.stats().requests),
        (3, 1)
    );
    drop(first);
    for client in &mut waiting {
        assert_eq!(
            client.get("a", "/", BOUND).await.unwrap().status,
            200,
            "it goes on"
        );
    }
}

#[tokio::test]
async fn without_a_queue_a_full_backend_is_503_at_once() {
    let (one, two) = (
        HttpBackend::start("one").unwrap(),
        HttpBackend::start("two").unwrap(),
    );
    let proxy = Proxy::http_with(vec![limited(one.address(), 1)], |spec| spec.queue = 0);
    let held = occupy(&proxy, &one).await;
    assert_eq!(proxy.get("a", "/").await.status, 503);
    drop(held);
    proxy.settled().await;
    let both = vec![limited(one.address(), 1), limited(two.address(), 1)];
    let proxy = Proxy::http_with(both, |spec| spec.queue = 0);
    one.behave(HttpBehaviour::answering(Answer::Never));
    two.behave(HttpBehaviour::answering(Answer::Never));
    let mut held = Vec::new();
    for n in 1..=2 {
        held.push(proxy.connect().await);
        held.last_mut().unwrap().send(get("x")).await.unwrap();
        let busy = || one.stats().active + two.stats().active == n;
        assert!(
            wait_until_async(BOUND, busy).await,
            "a free backend is used before a queue"
        );
    }
    assert_eq!((one.stats().active, two.stats().active), (1, 1));
    assert_eq!(proxy.get("a", "/").await.status, 503);
}

#[tokio::test]
async fn who_waits_at_a_backend_that_leaves_is_served_by_another() {
    for way in ["removed", "draining", "weightless", "down"] {
        let (full, other) = (
            HttpBackend::start("full").unwrap(),
            HttpBackend::start("other").unwrap(),
        );
        let mut proxy = Proxy::http_with(vec![limited(full.address(), 1)], |_| {});
        let mut first = occupy(&proxy, &full).await;
        let mut waiting = queue_up(&proxy, &full, &["q1", "q2", "q3"]).await;
        proxy.add_backend(limited(other.address(), 1));
        match way {
            "removed" => proxy.remove_backend(full.address()),
            "weightless" => proxy.edit_backend(full.address(), |b| b.weight = 0),
            way => {
                let state = if way == "down" {
                    State::Down
                } else {
                    State::Draining
                };
                proxy.edit_backend(full.address(), |b| b.status = Status::new(state, "test"));
            }
        }
        for client in &mut waiting {
            let answer = client.read_response(BOUND).await.unwrap();
            assert!(answer.text().contains("backend=other"), "{way}: {answer:?}");
        }
        assert_eq!(
            (full.stats().requests, other.stats().most_active),
            (1, 1),
            "{way}"
        );
        assert!(first.read_exact(1, ms(20)).await.is_err() && first.unread().is_empty());
    }
}

#[tokio::test]
async fn who_waits_at_the_last_backend_that_leaves_is_503_or_gets_the_sorry_server() {
    let (full, sorry) = (
        HttpBackend::start("full").unwrap(),
        HttpBackend::start("sorry").unwrap(),
    );
    for with_sorry in [false, true] {
        let mut proxy = Proxy::http_with(vec![limited(full.address(), 1)], |spec| {
            spec.sorry = with_sorry.then(|| at(sorry.address()));
        });
        let first = occupy(&proxy, &full).await;
        let mut waiting = queue_up(&proxy, &full, &["q1"]).await;
        proxy.remove_backend(full.address());
        let answer = waiting[0].read_response(BOUND).await.unwrap();
        assert_eq!(answer.status, if with_sorry { 200 } else { 503 });
        drop(first);
        assert!(wait_until_async(BOUND, || full.stats().active == 0).await);
    }
}

#[tokio::test]
async fn a_raised_limit_lets_in_who_waits() {
    let backend = HttpBackend::start("b").unwrap();
    let mut proxy = Proxy::http_with(vec![limited(backend.address(), 1)], |_| {});
    let _first = occupy(&proxy, &backend).await;
    let mut waiting = queue_up(&proxy, &backend, &["q1", "q2"]).await;
    proxy.edit_backend(backend.address(), |b| b.maxconn = 2);
    for client in &mut waiting {
        assert_eq!(client.read_response(BOUND).await.unwrap().status, 200);
    }
    assert_eq!(backend.stats().most_active, 2);
    let mut waiting = {
        backend.behave(HttpBehaviour::answering(Answer::Never));
        let mut second = proxy.connect().await;
        second.send(get("x")).await.unwrap();
        assert!(wait_until_async(BOUND, || backend.stats().active == 2).await);
        backend.behave(HttpBehaviour::default());
        let waiting = queue_up(&proxy, &backend, &["q3"]).await;
        proxy.edit_backend(backend.address(), |b| b.maxconn = 0);
        waiting
    };
    assert_eq!(waiting[0].read_response(BOUND).await.unwrap().status, 200);
}

#[tokio::test]
async fn clients_that_go_away_leave_the_queue() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http_with(vec![limited(backend.address(), 1)], |_| {});
    let first = occupy(&proxy, &backend).await;
    let mut waiting = queue_up(&proxy, &backend, &["q1", "q2", "q3", "q4"]).await;
    waiting.remove(0).reset().unwrap();
    drop(waiting.remove(1));
    let left = || proxy.counters_of(backend.address()).queued == 2;
    assert!(
        wait_until_async(BOUND, left).await,
        "{:?}",
        proxy.counters()
    );
    drop(first);
    for client in &mut waiting {
        assert_eq!(client.read_response(BOUND).await.unwrap().status, 200);
    }
    let seen = backend.seen();
    let ids: Vec<&str> = seen[1..]
        .iter()
        .filter_map(|s| s.head.get(ID_HEADER))
        .collect();
    assert_eq!(ids, ["q2", "q4"]);
    proxy.settled().await;
}

#[tokio::test]
async fn a_place_is_taken_until_the_response_has_been_received_whole() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http_with(vec![limited(backend.address(), 1)], |_| {});
    backend.behave(HttpBehaviour {
        bytes: 1000,
        ..HttpBehaviour::answering(Answer::Slow {
            piece: 100,
            pause: ms(30),
        })
    });
    let mut slow = proxy.connect().await;
    slow.send(get("slow")).await.unwrap();
    slow.read_head(BOUND).await.unwrap();
    backend.behave(HttpBehaviour::default());
    let mut waiting = queue_up(&proxy, &backend, &["q1"]).await;
    assert!(waiting[0].read_exact(1, MOMENT).await.is_err() && waiting[0].unread().is_empty());
    slow.read_exact(1000, BOUND).await.unwrap();
    assert_eq!(waiting[0].read_response(BOUND).await.unwrap().status, 200);
    assert_eq!(backend.stats().most_active, 1);
    let idle = || proxy.counters_of(backend.address()).active == 0;
    assert!(
        wait_until_async(BOUND, idle).await,
        "idle connections take no place"
    );
}
