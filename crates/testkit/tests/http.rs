//! The scripted HTTP backend, looked at byte by byte.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::time::{Duration, Instant};

use plimsoll_testkit::{
    Answer, BACKEND_HEADER, Continue, Ending, HttpBackend, HttpBehaviour, ID_HEADER, Phase, Raw,
    WANT_HEADER, WireError, wait_until_async,
};

const BOUND: Duration = Duration::from_secs(5);
const GET: &str = "GET /x HTTP/1.1\r\nHost: a\r\nX-Testkit-Id: 7\r\n\r\n";

async fn backend(behaviour: HttpBehaviour) -> (HttpBackend, Raw) {
    let backend = HttpBackend::start("b1").unwrap();
    backend.behave(behaviour);
    let raw = Raw::connect(backend.address()).await.unwrap();
    (backend, raw)
}

#[tokio::test]
async fn answers_tell_who_answers_what() {
    let (backend, mut raw) = backend(HttpBehaviour::default()).await;
    let post = format!(
        "POST /x HTTP/1.1\r\nHost: a\r\n{ID_HEADER}: 9\r\n{WANT_HEADER}: 500\r\n\
         Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nSum: 1\r\n\r\n"
    );
    for _ in 0..2 {
        let pieces: Vec<&[u8]> = post.as_bytes().chunks(40).collect();
        raw.send_pieces(&pieces, Duration::from_millis(1))
            .await
            .unwrap();
        let response = raw.read_response(BOUND).await.unwrap();
        assert_eq!(response.status, 200);
        assert_eq!(response.head.get(BACKEND_HEADER), Some("b1"));
        assert_eq!(response.head.get(ID_HEADER), Some("9"));
        assert_eq!(response.body.bytes.len(), 500);
        let line = "backend=b1 request=9 method=POST length=3 sum=e71fa2190541574b\n";
        assert!(response.text().starts_with(line), "{}", response.text());
    }
    let stats = backend.stats();
    assert_eq!(
        (stats.connections, stats.requests, stats.most_active),
        (1, 2, 1)
    );
    let seen = backend.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].head.target(), "/x");
    assert_eq!(
        seen[0].body,
        Some((3, vec![("Sum".to_owned(), "1".to_owned())]))
    );
}

#[tokio::test]
async fn framings_and_interim_responses() {
    let trailers = vec![("Sum".to_owned(), "1".to_owned())];
    let answer = Answer::Chunked {
        chunk: 10,
        trailers: trailers.clone(),
    };
    let (backend, mut raw) = backend(HttpBehaviour::answering(answer)).await;
    raw.send(GET).await.unwrap();
    let response = raw.read_response(BOUND).await.unwrap();
    assert!(response.text().starts_with("backend=b1 request=7 "));
    assert_eq!(response.body.trailers, trailers);

    backend.behave(HttpBehaviour::default());
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    raw.send(head).await.unwrap();
    assert_eq!(raw.read_head(BOUND).await.unwrap().status().unwrap(), 100);
    raw.send("abc").await.unwrap();
    assert_eq!(raw.read_response(BOUND).await.unwrap().status, 200);

    backend.behave(HttpBehaviour {
        expect: Continue::Refuse,
        ..HttpBehaviour::default()
    });
    raw.send(head).await.unwrap();
    assert_eq!(raw.read_response(BOUND).await.unwrap().status, 417);
    let end = raw.read_to_end(BOUND).await.unwrap();
    assert_eq!(end, (Vec::new(), Ending::Close));

    let mut raw = Raw::connect(backend.address()).await.unwrap();
    backend.behave(HttpBehaviour::answering(Answer::UntilClose));
    raw.send(GET).await.unwrap();
    assert!(
        raw.read_response(BOUND)
            .await
            .unwrap()
            .text()
            .contains("request=7")
    );
}

#[tokio::test]
async fn early_answers_do_not_wait_for_the_body() {
    let early = Answer::Early { read_body: true };
    let (backend, mut raw) = backend(HttpBehaviour::answering(early)).await;
    raw.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(raw.read_response(BOUND).await.unwrap().status, 200);
    raw.send("abc").await.unwrap();
    assert_eq!(raw.get("a", "/", BOUND).await.unwrap().status, 200);

    backend.behave(HttpBehaviour::answering(Answer::Early { read_body: false }));
    raw.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(raw.read_response(BOUND).await.unwrap().status, 200);
    assert!(raw.read_to_end(BOUND).await.unwrap().0.is_empty());
}

#[tokio::test]
async fn bad_answers_are_bad_as_told() {
    let (backend, _) = backend(HttpBehaviour::default()).await;
    let ask = async |answer| {
        backend.behave(HttpBehaviour::answering(answer));
        let mut raw = Raw::connect(backend.address()).await.unwrap();
        raw.send(GET).await.unwrap();
        (raw.read_response(Duration::from_millis(500)).await, raw)
    };
    let (got, raw) = ask(Answer::TooMuch(5)).await;
    assert_eq!((got.unwrap().status, raw.unread().len()), (200, 5));
    let (got, _) = ask(Answer::TooLittle(5)).await;
    assert!(matches!(got, Err(WireError::Closed { .. })), "{got:?}");
    let (got, _) = ask(Answer::Garbage(b"SSH-2.0\r\n\r\n".to_vec())).await;
    assert!(matches!(got, Err(WireError::Malformed(_))), "{got:?}");
    let (got, _) = ask(Answer::Never).await;
    assert!(matches!(got, Err(WireError::TimedOut { .. })), "{got:?}");
    let (got, mut raw) = ask(Answer::Doubled).await;
    assert_eq!(got.unwrap().status, 200);
    assert_eq!(raw.read_response(BOUND).await.unwrap().status, 200);
    let (got, _) = ask(Answer::Mixed("8".to_owned())).await;
    assert_eq!(got.unwrap().head.get(ID_HEADER), Some("8"));
}

#[tokio::test]
async fn connections_are_cut_in_every_phase() {
    let (backend, _) = backend(HttpBehaviour::default()).await;
    for ending in [Ending::Close, Ending::Reset] {
        for phase in [Phase::Accept, Phase::Request, Phase::Head, Phase::Body] {
            backend.behave(HttpBehaviour::answering(Answer::Cut(phase, ending)));
            let mut raw = Raw::connect(backend.address()).await.unwrap();
            // At the accept, it may be cut before this is sent.
            let _sent = raw.send(GET).await;
            let (bytes, ended) = raw.read_to_end(BOUND).await.unwrap();
            let text = String::from_utf8_lossy(&bytes);
            match phase {
                Phase::Accept | Phase::Request => assert_eq!(text, ""),
                Phase::Head => assert!(text.starts_with("HTTP") && !text.contains("\r\n\r\n")),
                Phase::Body => assert!(text.contains("\r\n\r\nbackend=b1")),
            }
            if phase != Phase::Accept {
                assert_eq!(ended, ending, "{phase:?}");
            }
        }
    }
}

#[tokio::test]
async fn connections_end_when_told() {
    let (backend, mut raw) = backend(HttpBehaviour {
        close_after: Some(2),
        ..HttpBehaviour::default()
    })
    .await;
    for _ in 0..2 {
        assert!(!raw.get("a", "/", BOUND).await.unwrap().closes());
    }
    assert_eq!(
        raw.read_to_end(BOUND).await.unwrap(),
        (Vec::new(), Ending::Close)
    );

    backend.behave(HttpBehaviour {
        announce_close: true,
        ..HttpBehaviour::default()
    });
    let mut raw = Raw::connect(backend.address()).await.unwrap();
    assert!(raw.get("a", "/", BOUND).await.unwrap().closes());
    assert_eq!(
        raw.read_to_end(BOUND).await.unwrap(),
        (Vec::new(), Ending::Close)
    );

    // A connection that is idle already takes the new bound.
    backend.behave(HttpBehaviour::default());
    let mut raw = Raw::connect(backend.address()).await.unwrap();
    raw.get("a", "/", BOUND).await.unwrap();
    backend.behave(HttpBehaviour {
        idle: Some(Duration::from_millis(20)),
        ..HttpBehaviour::default()
    });
    assert_eq!(
        raw.read_to_end(BOUND).await.unwrap(),
        (Vec::new(), Ending::Close)
    );
}

#[tokio::test]
async fn slow_answers_take_their_time() {
    let (backend, mut raw) = backend(HttpBehaviour::slow(Duration::from_millis(100))).await;
    let start = Instant::now();
    let response = raw.get("a", "/", BOUND);
    assert_eq!(response.await.unwrap().status, 200);
    assert!(start.elapsed() >= Duration::from_millis(100));
    backend.behave(HttpBehaviour {
        bytes: 100,
        ..HttpBehaviour::answering(Answer::Slow {
            piece: 50,
            pause: Duration::from_millis(50),
        })
    });
    let start = Instant::now();
    assert_eq!(
        raw.get("a", "/", BOUND).await.unwrap().body.bytes.len(),
        100
    );
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn refusing_keeps_what_is_open_and_killing_does_not() {
    let (backend, mut raw) = backend(HttpBehaviour::default()).await;
    raw.get("a", "/", BOUND).await.unwrap();
    backend.refuse().await;
    let refused = Raw::connect(backend.address()).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    raw.get("a", "/", BOUND).await.unwrap();

    backend.listen_again().unwrap();
    let mut second = Raw::connect(backend.address()).await.unwrap();
    second.get("a", "/", BOUND).await.unwrap();
    assert_eq!(backend.stats().open, 2);
    backend.kill(Ending::Reset).await;
    assert_eq!(backend.stats().open, 0);
    assert_eq!(raw.read_to_end(BOUND).await.unwrap().1, Ending::Reset);
    assert!(Raw::connect(backend.address()).await.is_err());

    backend.listen_again().unwrap();
    let mut third = Raw::connect(backend.address()).await.unwrap();
    third.get("a", "/", BOUND).await.unwrap();
    backend.kill(Ending::Close).await;
    assert_eq!(third.read_to_end(BOUND).await.unwrap().1, Ending::Close);
}

#[tokio::test]
async fn requests_in_flight_are_counted() {
    let (backend, _) = backend(HttpBehaviour::answering(Answer::Never)).await;
    let mut raws = Vec::new();
    for _ in 0..3 {
        let mut raw = Raw::connect(backend.address()).await.unwrap();
        raw.send(GET).await.unwrap();
        raws.push(raw);
    }
    assert!(wait_until_async(BOUND, || backend.stats().active == 3).await);
    raws.pop().unwrap().reset().unwrap();
    assert!(wait_until_async(BOUND, || backend.stats().active == 2).await);
    assert_eq!(backend.stats().most_active, 3);
}

#[tokio::test]
async fn upgrades_echo_or_are_declined() {
    let (backend, mut raw) = backend(HttpBehaviour::default()).await;
    let ask = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    raw.send(format!("{ask}early")).await.unwrap();
    let head = raw.read_head(BOUND).await.unwrap();
    assert_eq!(head.status().unwrap(), 101);
    assert_eq!(head.get("upgrade"), Some("websocket"));
    assert_eq!(raw.read_exact(5, BOUND).await.unwrap(), b"early");
    raw.send("later").await.unwrap();
    raw.finish().await.unwrap();
    let end = raw.read_to_end(BOUND).await.unwrap();
    assert_eq!(end, (b"later".to_vec(), Ending::Close));
    assert_eq!(backend.stats().upgrades, 1);

    backend.behave(HttpBehaviour {
        upgrade: false,
        ..HttpBehaviour::default()
    });
    let mut raw = Raw::connect(backend.address()).await.unwrap();
    raw.send(ask).await.unwrap();
    assert_eq!(raw.read_response(BOUND).await.unwrap().status, 200);
}
