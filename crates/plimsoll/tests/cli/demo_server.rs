//! `demo-server`: who answers, health, and a stop that loses nothing.

use std::time::{Duration, Instant};

use plimsoll_testkit::{Daemon, DaemonPlan, Place, Port, Raw, Ready};

use crate::{BINARY, SOON, plimsoll};

async fn server(port: &Port, more: &[&str]) -> Daemon {
    let address = port.address().to_string();
    let words = ["demo-server", "--listen", &address];
    let plan = DaemonPlan {
        args: words.iter().chain(more).map(|s| (*s).to_owned()).collect(),
        ready: Ready::Port(Place::Here, port.address()),
        ..DaemonPlan::new(BINARY, String::new())
    };
    Daemon::start(plan).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn says_who_answers_and_how_it_is() {
    let port = Port::take().unwrap();
    let _server = server(&port, &["--name", "one"]).await;
    let mut raw = Raw::connect(port.address()).await.unwrap();
    let answer = raw.get("shop.example", "/a?b=c", SOON).await.unwrap();
    assert_eq!(answer.head.status().unwrap(), 200);
    let text = answer.text();
    assert!(text.starts_with("Hostname: one\n"), "{text}");
    assert!(text.contains("GET /a?b=c HTTP/1.1\n"), "{text}");
    assert!(text.contains("host: shop.example\n"), "{text}");
    assert!(text.contains("Client: 127.0.0.1:"), "{text}");

    let answer = raw.get("x", "/?wait=2h", SOON).await.unwrap();
    assert_eq!(answer.head.status().unwrap(), 400);
    let health = format!("http://{}/health", port.address());
    assert_eq!(plimsoll(&["healthcheck", &health]).code, Some(0));
    let sick = "POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n503";
    raw.send(sick.as_bytes()).await.unwrap();
    let answer = raw.read_response(SOON).await.unwrap();
    assert_eq!(answer.head.status().unwrap(), 200);
    let ended = plimsoll(&["healthcheck", &health]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.err.contains("503") && ended.err.contains(&health),
        "{}",
        ended.err
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_what_it_has_accepted() {
    let port = Port::take().unwrap();
    let mut server = server(&port, &[]).await;
    let mut slow = Raw::connect(port.address()).await.unwrap();
    slow.send(b"GET /?wait=300ms HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    // What it has begun to serve is known by the answer to a later one.
    let mut other = Raw::connect(port.address()).await.unwrap();
    other.get("x", "/health", SOON).await.unwrap();
    server.term().unwrap();
    let answer = slow.read_response(SOON).await.unwrap();
    assert_eq!(answer.head.status().unwrap(), 200);
    assert_eq!(server.wait(SOON).await.unwrap().code(), Some(0));
    assert!(Raw::connect(port.address()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_on_for_a_moment_when_told_to_stop() {
    let port = Port::take().unwrap();
    let mut server = server(&port, &["--linger", "10m"]).await;
    let mut kept = Raw::connect(port.address()).await.unwrap();
    kept.get("x", "/", SOON).await.unwrap();
    server.term().unwrap();
    // New connections are served, and not kept once it knows that it stops.
    let started = Instant::now();
    loop {
        let mut new = Raw::connect(port.address()).await.unwrap();
        let answer = new.get("x", "/", SOON).await.unwrap();
        assert_eq!(answer.head.status().unwrap(), 200);
        if answer.head.get("connection") == Some("close") {
            break;
        }
        assert!(started.elapsed() < SOON, "{}", server.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let post = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi";
    kept.send(post.as_bytes()).await.unwrap();
    let answer = kept.read_response(SOON).await.unwrap();
    assert_eq!(answer.head.status().unwrap(), 200);
    assert_eq!(answer.head.get("connection"), Some("close"));
    // A second signal does not wait for the end of it.
    server.term().unwrap();
    assert_eq!(server.wait(SOON).await.unwrap().code(), Some(0));
}

#[test]
fn what_cannot_be_listened_on_is_said() {
    let ended = plimsoll(&["demo-server", "--listen", "80-90"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("one port"), "{}", ended.err);
    let port = Port::take().unwrap();
    let _taken = std::net::TcpListener::bind(port.address()).unwrap();
    let ended = plimsoll(&["demo-server", "--listen", &port.address().to_string()]);
    assert_eq!(ended.code, Some(1));
    let named = ended.err.contains(&port.address().to_string()) && ended.err.contains("--listen");
    assert!(named, "{}", ended.err);
}
