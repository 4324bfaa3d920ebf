//! Upgrades: tunnels that are granted, refused, or not to be had.

use plimsoll_testkit::{
    Answer, Ending, HttpBackend, HttpBehaviour, Raw, TunnelPlan, Tunnels, wait_until_async,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::common::{BOUND, LATE, MOMENT, Proxy, Scripted, at, limited, ms, pattern, timed};

const ASK: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Asks for a tunnel and gets it.
async fn tunnel(proxy: &Proxy) -> Raw {
    let mut client = proxy.connect().await;
    client.send(ASK).await.unwrap();
    let head = client.read_head(BOUND).await.unwrap();
    assert_eq!(head.status().unwrap(), 101, "{head:?}");
    assert_eq!(head.get("upgrade"), Some("websocket"));
    assert!(head.has_word("connection", "upgrade"), "{head:?}");
    assert_eq!(
        head.get("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    client
}

fn not_upgrading(status: u16) -> HttpBehaviour {
    HttpBehaviour {
        upgrade: false,
        status,
        ..HttpBehaviour::default()
    }
}

#[tokio::test]
async fn tunnels_carry_bytes_both_ways_and_end_as_they_should() {
    let backend = HttpBackend::start("b").unwrap();
    let mut proxy = Proxy::http(&[backend.address()]);
    let tunnels = Tunnels::open(TunnelPlan::http(proxy.address(), "a", 12))
        .await
        .unwrap();
    assert!(tunnels.more(60, BOUND).await);
    assert_eq!(
        proxy.counters_of(backend.address()).active,
        12,
        "a tunnel takes a place"
    );
    assert_eq!(
        proxy
            .flows()
            .iter()
            .filter(|flow| flow.phase == "tunnel")
            .count(),
        12
    );
    tunnels.stop().await.assert_clean();
    proxy.settled().await;
    let mut client = tunnel(&proxy).await;
    let bytes = pattern(3 << 20);
    let (mut sent, mut got) = (0, 0);
    while got < bytes.len() {
        let end = bytes.len().min(sent + 50_000);
        client.send(&bytes[sent..end]).await.unwrap();
        sent = end;
        let echo = client.read_exact(end - got, BOUND).await.unwrap();
        assert!(echo == bytes[got..end]);
        got = end;
    }
    client.finish().await.unwrap();
    assert_eq!(
        client.read_to_end(BOUND).await.unwrap(),
        (Vec::new(), Ending::Close)
    );
    proxy.settled().await;
    let client = tunnel(&proxy).await;
    client.reset().unwrap();
    assert!(
        wait_until_async(BOUND, || backend.stats().open == 0).await,
        "{:?}",
        backend.stats()
    );
    let mut client = tunnel(&proxy).await;
    backend.kill(Ending::Reset).await;
    assert_eq!(client.read_to_end(BOUND).await.unwrap().1, Ending::Reset);
    proxy.settled().await;
}

#[tokio::test]
async fn what_a_backend_says_with_its_101_arrives() {
    let backend = Scripted::start(|mut stream| async move {
        let _ = stream.read(&mut [0; 2000]).await.unwrap();
        let granted = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
                        Upgrade: WebSocket\r\n\r\nhello";
        stream.write_all(granted).await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        stream.write_all(&rest).await.unwrap();
    })
    .await;
    let proxy = Proxy::http(&[backend.address]);
    let mut client = proxy.connect().await;
    client.send(ASK).await.unwrap();
    assert_eq!(
        client.read_head(BOUND).await.unwrap().status().unwrap(),
        101
    );
    assert_eq!(client.read_exact(5, BOUND).await.unwrap(), b"hello");
    client.send("bye").await.unwrap();
    client.finish().await.unwrap();
    assert_eq!(
        client.read_to_end(BOUND).await.unwrap(),
        (b"bye".to_vec(), Ending::Close)
    );
}

#[tokio::test]
async fn a_refused_upgrade_is_an_answer_like_any_other() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    let mut client = proxy.connect().await;
    for status in [200, 403, 204, 500] {
        backend.behave(not_upgrading(status));
        client.send(ASK).await.unwrap();
        let answer = client.read_response(BOUND).await.unwrap();
        assert_eq!(answer.status, status);
        let seen = backend.seen().pop().unwrap().head;
        assert_eq!(seen.get("upgrade"), Some("websocket"));
        assert!(seen.has_word("connection", "upgrade"), "{seen:?}");
    }
    backend.behave(not_upgrading(200));
    // What comes behind the request is the next one, once there is no tunnel.
    let next = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";
    client.send([ASK, next, ASK, next].concat()).await.unwrap();
    for target in ["/ws", "/next", "/ws", "/next"] {
        assert_eq!(client.read_response(BOUND).await.unwrap().status, 200);
        assert_eq!(backend.seen().pop().unwrap().head.target(), target);
    }
    client
        .send([ASK, "GET / HTTP/9.9\r\n\r\n"].concat())
        .await
        .unwrap();
    assert_eq!(client.read_response(BOUND).await.unwrap().status, 200);
    assert_eq!(client.read_response(BOUND).await.unwrap().status, 505);
    assert_eq!(backend.stats().connections, 1);
}

#[tokio::test]
async fn bytes_sent_before_the_101_never_reach_the_backend() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let backend = Scripted::start(move |mut stream| {
        let told = told.clone();
        async move {
            let mut got = vec![0; 2000];
            let count = stream.read(&mut got).await.unwrap();
            got.truncate(count);
            tokio::time::sleep(MOMENT).await;
            let granted = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
                            Upgrade: websocket\r\n\r\n";
            stream.write_all(granted).await.unwrap();
            let _ = stream.read_to_end(&mut got).await;
            told.send(got).unwrap();
        }
    })
    .await;
    let proxy = Proxy::http(&[backend.address]);
    for together in [true, false] {
        let mut client = proxy.connect().await;
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        if together {
            client.send([ASK, smuggled].concat()).await.unwrap();
        } else {
            client.send_pieces(&[ASK, smuggled], ms(30)).await.unwrap();
        }
        let answer = client.read_response(BOUND).await.unwrap();
        assert!(answer.status == 400 && answer.closes(), "{answer:?}");
        assert!(client.read_to_end(BOUND).await.unwrap().0.is_empty());
        let got = tokio::time::timeout(BOUND, heard.recv())
            .await
            .unwrap()
            .unwrap();
        let got = String::from_utf8(got).unwrap();
        assert!(
            got.starts_with("GET /ws ") && !got.contains("smuggled"),
            "{got}"
        );
        assert!(got.ends_with("\r\n\r\n"), "{got}");
    }
    proxy.settled().await;
}

#[tokio::test]
async fn a_101_that_nobody_asked_for_is_502() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    let granting = |protocol: &str| {
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n{protocol}\r\n\
             GET /not-http"
        );
        let answer = Answer::Garbage(head.into_bytes());
        HttpBehaviour {
            upgrade: false,
            ..HttpBehaviour::answering(answer)
        }
    };
    let plain = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let h2c = ASK.replace("websocket", "h2c");
    for (asked, granted) in [
        (plain, "Upgrade: websocket\r\n"),
        (plain, ""),
        (ASK, "Upgrade: h2c\r\n"),
        (ASK, "Upgrade: websocket, other\r\n"),
        (ASK, ""),
        (&h2c, "Upgrade: h2c\r\n"),
    ] {
        backend.behave(granting(granted));
        let mut client = proxy.connect().await;
        client.send(asked).await.unwrap();
        let answer = client.read_response(BOUND).await.unwrap();
        assert_eq!(answer.status, 502, "{asked} {granted}");
        assert!(!answer.text().contains("not-http"));
        proxy.settled().await;
    }
    backend.behave(HttpBehaviour::default());
    proxy.serves().await;
    assert!(
        wait_until_async(BOUND, || backend.stats().open == 1).await,
        "{:?}",
        backend.stats()
    );
}

#[tokio::test]
async fn what_may_not_be_tunnelled_is_served_as_a_plain_request() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    let h2c = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n\
               Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n";
    let body = "POST /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Content-Length: 3\r\n\r\nabc";
    let unnamed = "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n";
    let old = "GET /ws HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    for asked in [
        h2c,
        body,
        unnamed,
        &ASK.replace("websocket", "websocket, h2c"),
        old,
    ] {
        let mut client = proxy.connect().await;
        client.send(asked).await.unwrap();
        let answer = client.read_response(BOUND).await.unwrap();
        assert_eq!(answer.status, 200, "{asked}");
        let seen = backend.seen().pop().unwrap().head;
        for name in ["upgrade", "connection", "http2-settings"] {
            assert_eq!(seen.get(name), None, "{seen:?}");
        }
    }
    assert_eq!(backend.stats().upgrades, 0);
}

#[tokio::test]
async fn quiet_tunnels_are_cut_and_busy_ones_are_not() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http_with(vec![at(backend.address())], |spec| {
        spec.timeouts.idle = Some(ms(400));
        spec.timeouts.keepalive = ms(200);
        spec.timeouts.response = ms(200);
    });
    let mut quiet = tunnel(&proxy).await;
    let mut plan = TunnelPlan::http(proxy.address(), "a", 3);
    plan.pause = ms(100);
    let tunnels = Tunnels::open(plan).await.unwrap();
    let ((got, _), took) = timed(async { quiet.read_to_end(BOUND).await.unwrap() }).await;
    assert!(got.is_empty() && took >= ms(200) && took < LATE, "{took:?}");
    assert!(tunnels.more(20, BOUND).await);
    tunnels.stop().await.assert_clean();
}

#[tokio::test]
async fn tunnels_to_a_backend_that_leaves_go_on_until_the_drain_time_out() {
    let (leaving, staying) = (
        HttpBackend::start("l").unwrap(),
        HttpBackend::start("s").unwrap(),
    );
    let backends = vec![at(leaving.address()), at(staying.address())];
    let mut proxy = Proxy::http_with(backends, |spec| spec.timeouts.drain = ms(600));
    let tunnels = Tunnels::open(TunnelPlan::http(proxy.address(), "a", 8))
        .await
        .unwrap();
    let leave = std::time::Instant::now();
    proxy.remove_backend(leaving.address());
    assert!(wait_until_async(BOUND, || tunnels.broken() == 4).await);
    assert!(
        leave.elapsed() >= ms(500) && leave.elapsed() < LATE,
        "{:?}",
        leave.elapsed()
    );
    assert!(tunnels.more(20, BOUND).await);
    let report = tunnels.stop().await;
    assert!(
        report
            .of("l")
            .all(|tunnel| tunnel.broken.is_some() && tunnel.exchanged > 3)
    );
    assert!(
        report.of("s").all(|tunnel| tunnel.broken.is_none()),
        "{report:?}"
    );
}

#[tokio::test]
async fn a_tunnel_takes_the_place_of_a_request() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http_with(vec![limited(backend.address(), 1)], |_| {});
    let client = tunnel(&proxy).await;
    let mut waiting = proxy.connect().await;
    waiting
        .send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    assert!(waiting.read_exact(1, MOMENT).await.is_err() && waiting.unread().is_empty());
    assert_eq!(proxy.counters_of(backend.address()).queued, 1);
    drop(client);
    assert_eq!(waiting.read_response(BOUND).await.unwrap().status, 200);
}
