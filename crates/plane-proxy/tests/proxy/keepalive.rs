//! Connections that serve more than one request, on either side.

use plimsoll_plane::{Event, Plane};
use plimsoll_testkit::{Answer, HttpBehaviour, wait_until_async};
use plimsoll_testkit::{
    BACKEND_HEADER, Client, ClientPlan, Ending, HttpBackend, ID_HEADER, Raw, Reuse,
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::{BOUND, LATE, MOMENT, Proxy, Scripted, at, ms, timed};

fn get(id: &str, more: &str) -> String {
    format!("GET /{id} HTTP/1.1\r\nHost: a\r\n{ID_HEADER}: {id}\r\n{more}\r\n")
}

/// Reads an answer, and whose it is.
async fn answered(client: &mut Raw, id: &str) {
    let answer = client.read_response(BOUND).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.head.get(ID_HEADER), Some(id));
}

async fn is_closed(client: &mut Raw) -> bool {
    matches!(client.read_to_end(BOUND).await, Ok((rest, Ending::Close)) if rest.is_empty())
}

#[tokio::test]
async fn connections_to_backends_are_kept_and_shared_by_clients() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    let plan = |reuse| ClientPlan {
        tasks: 1,
        reuse,
        post_every: 3,
        ..ClientPlan::http(proxy.address(), "a")
    };
    let report = Client::run(plan(Reuse::Keep), 60).await;
    report.assert_clean();
    assert_eq!((report.connections, backend.stats().connections), (1, 1));
    Client::run(plan(Reuse::Never), 60).await.assert_clean();
    assert!(
        backend.stats().connections <= 2,
        "one for each worker: {:?}",
        backend.stats()
    );
    assert_eq!(
        proxy.counters_of(backend.address()).connections,
        backend.stats().connections
    );
}

#[tokio::test]
async fn a_backend_that_closes_connections_is_served_by_new_ones() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    for behaviour in [
        HttpBehaviour {
            announce_close: true,
            ..HttpBehaviour::default()
        },
        HttpBehaviour::answering(Answer::UntilClose),
        HttpBehaviour {
            close_after: Some(3),
            ..HttpBehaviour::default()
        },
        HttpBehaviour::default(),
    ] {
        backend.behave(behaviour.clone());
        let before = backend.stats().connections;
        let report = Client::run(ClientPlan::http(proxy.address(), "a"), 60).await;
        report.assert_clean();
        assert_eq!(
            (report.connections, report.closed_idle),
            (8, 0),
            "{behaviour:?}"
        );
        if behaviour.announce_close || behaviour.answer == Answer::UntilClose {
            assert_eq!(backend.stats().connections - before, 60);
        }
    }
}

#[tokio::test]
async fn a_backend_is_not_blamed_for_closing_an_idle_connection() {
    // Each connection serves one request, and ends when the next has come.
    let backend = Scripted::start(async |mut stream| {
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await;
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let _ = stream.write_all(answer).await;
        let _ = stream.read(&mut request).await;
    })
    .await;
    let mut proxy = Proxy::http(&[backend.address]);
    let mut events = proxy.plane.events().unwrap();
    let mut client = proxy.connect().await;
    let mut closed = 0;
    // On a slow machine a connection may be idle for too long for a POST to be trusted to it.
    for _ in 0..200 {
        let answer = client.get("a", "/", BOUND).await.unwrap();
        assert_eq!(answer.status, 200);
        let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
        client.send(post).await.unwrap();
        let answer = client.read_response(BOUND).await.unwrap();
        match answer.status {
            502 => closed += 1,
            status => assert_eq!(status, 200),
        }
        if closed == 4 {
            break;
        }
    }
    assert_eq!(
        closed, 4,
        "it may have been worked on, so nobody sends it again"
    );
    assert_eq!(proxy.counters_of(backend.address).failures, 4);
    while let Ok(event) = events.try_recv() {
        assert!(!matches!(event, Event::Reset { .. }), "{event:?}");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    let mut client = proxy.connect().await;
    let ids: Vec<String> = (0..30).map(|n| format!("p{n}")).collect();
    let all: String = ids.iter().map(|id| get(id, "")).collect();
    client.send(&all).await.unwrap();
    for id in &ids {
        answered(&mut client, id).await;
    }
    // Bodies between them, and cut anywhere.
    let post = |id: &str| {
        format!("POST / HTTP/1.1\r\nHost: a\r\n{ID_HEADER}: {id}\r\nContent-Length: 5\r\n\r\nhello")
    };
    let chunked = |id: &str| {
        format!(
            "POST / HTTP/1.1\r\nHost: a\r\n{ID_HEADER}: {id}\r\nTransfer-Encoding: chunked\r\n\r\n\
             3\r\nabc\r\n0\r\n\r\n"
        )
    };
    let mixed = [
        get("g1", ""),
        post("g2"),
        chunked("g3"),
        get("g4", ""),
        chunked("g5"),
        post("g6"),
    ];
    let bytes = mixed.concat().into_bytes();
    for size in [7, 64, 100_000] {
        let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
        client.send_pieces(&pieces, ms(1)).await.unwrap();
        for id in ["g1", "g2", "g3", "g4", "g5", "g6"] {
            answered(&mut client, id).await;
        }
    }
    assert!(client.unread().is_empty());
}

#[tokio::test]
async fn a_bad_request_behind_good_ones_is_answered_in_its_turn() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    backend.behave(HttpBehaviour::slow(ms(50)));
    let mut client = proxy.connect().await;
    let bytes = [
        get("1", ""),
        get("2", ""),
        "GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n".into(),
        get("4", ""),
    ];
    client.send(bytes.concat()).await.unwrap();
    answered(&mut client, "1").await;
    answered(&mut client, "2").await;
    let refusal = client.read_response(BOUND).await.unwrap();
    assert_eq!((refusal.status, refusal.closes()), (400, true));
    assert!(is_closed(&mut client).await);
    assert_eq!(backend.stats().requests, 2);
}

#[tokio::test]
async fn a_client_that_says_close_is_closed() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    let mut client = proxy.connect().await;
    client
        .send(get("1", "Connection: close\r\n") + &get("2", ""))
        .await
        .unwrap();
    let answer = client.read_response(BOUND).await.unwrap();
    assert!(answer.closes(), "{answer:?}");
    let (rest, _) = client.read_to_end(BOUND).await.unwrap();
    assert!(rest.is_empty(), "what follows a close is not served");
    assert_eq!(backend.stats().requests, 1);
    let mut client = proxy.connect().await;
    client.send(get("1", "")).await.unwrap();
    client.finish().await.unwrap();
    let (rest, ending) = client.read_to_end(BOUND).await.unwrap();
    assert!(
        rest.is_empty() || rest.starts_with(b"HTTP/1.1 200 "),
        "{ending:?}"
    );
    proxy.settled().await;
}

#[tokio::test]
async fn clients_of_http_1_0_are_served() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    for answer in [
        Answer::Length,
        Answer::Chunked {
            chunk: 10,
            trailers: vec![("Sum".into(), "1".into())],
        },
        Answer::UntilClose,
    ] {
        backend.behave(HttpBehaviour {
            bytes: 100,
            ..HttpBehaviour::answering(answer)
        });
        let mut client = proxy.connect().await;
        client.send("GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let answer = client.read_response(BOUND).await.unwrap();
        assert_eq!((answer.status, answer.body.bytes.len()), (200, 100));
        assert!(
            answer.closes() && answer.head.get("transfer-encoding").is_none(),
            "{answer:?}"
        );
        assert!(is_closed(&mut client).await);
    }
    let seen = backend.seen().pop().unwrap().head;
    assert!(
        seen.start.ends_with("HTTP/1.1") && seen.get("host") == Some(""),
        "{seen:?}"
    );
    backend.behave(HttpBehaviour::default());
    let mut client = proxy.connect().await;
    for _ in 0..3 {
        client
            .send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
            .await
            .unwrap();
        let answer = client.read_response(BOUND).await.unwrap();
        assert!(
            answer.status == 200 && answer.head.has_word("connection", "keep-alive"),
            "{answer:?}"
        );
    }
    client
        .send("POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc")
        .await
        .unwrap();
    assert!(
        client
            .read_response(BOUND)
            .await
            .unwrap()
            .text()
            .contains("length=3")
    );
}

#[tokio::test]
async fn idle_connections_serve_on() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = proxy.connect().await;
        client.send(get("0", "")).await.unwrap();
        answered(&mut client, "0").await;
        clients.push(client);
    }
    // Idle ones give their buffers to others.
    tokio::time::sleep(ms(300)).await;
    for (way, client) in clients.iter_mut().enumerate() {
        let (one, two) = (get("1", ""), get("2", ""));
        let both = [one.as_bytes(), two.as_bytes()].concat();
        match way % 4 {
            0 => client.send(&both).await.unwrap(),
            1 => {
                let pieces: Vec<&[u8]> = both.chunks(9).collect();
                client.send_pieces(&pieces, ms(2)).await.unwrap();
            }
            2 => client
                .send_pieces(&[&both[..1], &both[1..]], ms(300))
                .await
                .unwrap(),
            _ => client.send_pieces(&[&one, &two], ms(10)).await.unwrap(),
        }
        answered(client, "1").await;
        answered(client, "2").await;
    }
    tokio::time::sleep(ms(300)).await;
    let mut client = clients.pop().unwrap();
    let body = "x".repeat(10_000);
    client
        .send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n{body}"
        ))
        .await
        .unwrap();
    assert!(
        client
            .read_response(BOUND)
            .await
            .unwrap()
            .text()
            .contains("length=10000")
    );
    let mut client = clients.pop().unwrap();
    client.send("GET / HTTP/1.1\r\nbad\r\n\r\n").await.unwrap();
    assert_eq!(client.read_response(BOUND).await.unwrap().status, 400);
    drop(clients);
    assert!(wait_until_async(BOUND, || proxy.listen().connections <= 1).await);
}

#[tokio::test]
async fn idle_connections_are_closed_by_the_keep_alive_time_out() {
    let backend = HttpBackend::start("b").unwrap();
    for limit in [300, 1_200] {
        let proxy = Proxy::http_with(vec![at(backend.address())], |spec| {
            spec.timeouts.keepalive = ms(limit);
        });
        let mut client = proxy.connect().await;
        client.send(get("1", "")).await.unwrap();
        answered(&mut client, "1").await;
        tokio::time::sleep(ms(limit / 3)).await;
        client.send(get("2", "")).await.unwrap();
        answered(&mut client, "2").await;
        let (closed, took) = timed(is_closed(&mut client)).await;
        assert!(
            closed && took >= ms(limit - 150) && took < ms(limit) + LATE,
            "{limit}: {took:?}"
        );
    }
}

#[tokio::test]
async fn without_a_keep_alive_time_out_connections_stay() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http_with(vec![at(backend.address())], |spec| {
        spec.timeouts.keepalive = ms(0);
    });
    let mut client = proxy.connect().await;
    client.send(get("1", "")).await.unwrap();
    answered(&mut client, "1").await;
    assert!(client.read_exact(1, ms(1_200)).await.is_err() && client.unread().is_empty());
    client.send(get("2", "")).await.unwrap();
    answered(&mut client, "2").await;
}

#[tokio::test]
async fn an_answer_that_comes_twice_is_given_once() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    for answer in [
        Answer::Doubled,
        Answer::TooMuch(100),
        Answer::TooMuch(100_000),
    ] {
        backend.behave(HttpBehaviour::answering(answer.clone()));
        let before = backend.stats().connections;
        let mut client = proxy.connect().await;
        for n in 0..5 {
            client.send(get(&n.to_string(), "")).await.unwrap();
            let got = client.read_response(BOUND).await.unwrap();
            assert_eq!(
                got.head.get(ID_HEADER),
                Some(n.to_string().as_str()),
                "{answer:?}"
            );
            assert!(client.unread().is_empty() && got.head.get(BACKEND_HEADER).is_some());
            tokio::time::sleep(ms(10)).await;
        }
        assert_eq!(
            backend.stats().connections - before,
            5,
            "a connection is not used after it"
        );
    }
    tokio::time::sleep(MOMENT).await;
}
