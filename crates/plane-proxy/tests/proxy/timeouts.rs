//! Each time-out for itself, and none on what is running.

use plimsoll_testkit::{Answer, Ending, HttpBackend, HttpBehaviour};

use crate::common::{BOUND, LATE, MOMENT, Proxy, at, ms, timed};

/// A plane all of whose time-outs are short.
fn hasty(backend: &HttpBackend) -> Proxy {
    Proxy::http_with(vec![at(backend.address())], |spec| {
        let timeouts = &mut spec.timeouts;
        timeouts.connect = ms(300);
        timeouts.header = ms(300);
        timeouts.keepalive = ms(300);
        timeouts.queue = ms(300);
        timeouts.response = ms(300);
        timeouts.idle = Some(ms(300));
        timeouts.drain = ms(300);
    })
}

#[tokio::test]
async fn a_head_that_is_not_complete_in_time_is_408() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = hasty(&backend);
    let head =
        "GET / HTTP/1.1\r\nHost: a\r\nX-Filler: 0123456789012345678901234567890123456789\r\n\r\n";
    for pieces in [1, 20] {
        let mut client = proxy.connect().await;
        let (answer, took) = timed(async {
            let pieces: Vec<&[u8]> = head.as_bytes()[..60].chunks(60 / pieces).collect();
            // Each piece comes soon after the last; together they are too slow.
            let sent = client.send_pieces(&pieces, ms(40)).await;
            let answer = client.read_response(BOUND).await;
            assert!(sent.is_ok() || answer.is_ok());
            answer.unwrap()
        })
        .await;
        assert!(answer.status == 408 && answer.closes(), "{answer:?}");
        assert!(took >= ms(200) && took < LATE, "{took:?}");
        assert!(client.read_to_end(BOUND).await.unwrap().0.is_empty());
    }
    // The second head of a connection.
    let mut client = proxy.connect().await;
    assert_eq!(client.get("a", "/", BOUND).await.unwrap().status, 200);
    client.send(&head[..40]).await.unwrap();
    assert_eq!(client.read_response(BOUND).await.unwrap().status, 408);
    assert_eq!(backend.stats().requests, 1);
    assert_eq!(proxy.refused(408), 3);
}

#[tokio::test]
async fn a_client_that_says_nothing_is_closed_without_a_word() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = hasty(&backend);
    let mut client = proxy.connect().await;
    let (end, took) = timed(async { client.read_to_end(BOUND).await.unwrap() }).await;
    assert_eq!(end, (Vec::new(), Ending::Close));
    assert!(took >= ms(200) && took < LATE, "{took:?}");
    // Empty lines are no head either.
    let mut client = proxy.connect().await;
    client.send("\r\n").await.unwrap();
    let (got, _) = client.read_to_end(BOUND).await.unwrap();
    assert!(
        got.is_empty() || got.starts_with(b"HTTP/1.1 408 "),
        "{got:?}"
    );
}

#[tokio::test]
async fn a_backend_that_does_not_answer_in_time_is_504() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = hasty(&backend);
    backend.behave(HttpBehaviour::answering(Answer::Never));
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    ] {
        let mut client = proxy.connect().await;
        client.send(request).await.unwrap();
        let (answer, took) = timed(async { client.read_response(BOUND).await.unwrap() }).await;
        assert_eq!(answer.status, 504);
        assert!(took >= ms(200) && took < LATE, "{took:?}");
    }
    proxy.settled().await;
    assert_eq!(backend.stats().requests, 2, "it is not sent twice");
    assert_eq!(proxy.counters_of(backend.address()).failures, 2);
    backend.behave(HttpBehaviour::slow(ms(100)));
    proxy.serves().await;
}

#[tokio::test]
async fn half_an_answers_head_is_504_too() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = hasty(&backend);
    let half = b"HTTP/1.1 200 OK\r\nContent-Le".to_vec();
    backend.behave(HttpBehaviour::answering(Answer::Garbage(half)));
    assert_eq!(proxy.get("a", "/").await.status, 504);
    proxy.settled().await;
}

#[tokio::test]
async fn no_time_out_runs_on_a_body_that_comes() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = hasty(&backend);
    let slow = Answer::Slow {
        piece: 100,
        pause: ms(600),
    };
    backend.behave(HttpBehaviour {
        bytes: 300,
        ..HttpBehaviour::answering(slow)
    });
    let download = async {
        let answer = proxy.get("a", "/").await;
        assert_eq!((answer.status, answer.body.bytes.len()), (200, 300));
    };
    let upload = |head: &'static str, pieces: [&'static str; 3]| {
        let proxy = &proxy;
        async move {
            let mut client = proxy.connect().await;
            client
                .send(format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n"))
                .await
                .unwrap();
            client.send_pieces(&pieces, ms(600)).await.unwrap();
            let answer = client.read_response(BOUND).await.unwrap();
            assert!(
                answer.status == 200 && answer.text().contains("length=9"),
                "{answer:?}"
            );
        }
    };
    tokio::join!(
        download,
        upload("Content-Length: 9", ["abc", "def", "ghi"]),
        upload(
            "Transfer-Encoding: chunked",
            ["3\r\nabc\r\n", "3\r\ndef\r\n", "3\r\nghi\r\n0\r\n\r\n"]
        ),
    );
    proxy.settled().await;
}

#[tokio::test]
async fn the_time_for_a_response_begins_when_the_request_has_been_sent() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = hasty(&backend);
    backend.behave(HttpBehaviour::answering(Answer::Never));
    let mut client = proxy.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
        .await
        .unwrap();
    assert!(client.read_exact(1, ms(700)).await.is_err() && client.unread().is_empty());
    client.send("def").await.unwrap();
    let (answer, took) = timed(async { client.read_response(BOUND).await.unwrap() }).await;
    assert!(
        answer.status == 504 && took >= ms(200) && took < LATE,
        "{answer:?} {took:?}"
    );
}

#[tokio::test]
async fn a_client_that_reads_slowly_gets_everything() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = hasty(&backend);
    backend.behave(HttpBehaviour {
        bytes: 12_000_000,
        ..HttpBehaviour::default()
    });
    let mut client = proxy.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    client.read_head(BOUND).await.unwrap();
    for _ in 0..6 {
        client.read_exact(2_000_000, BOUND).await.unwrap();
        tokio::time::sleep(MOMENT * 2).await;
    }
}
