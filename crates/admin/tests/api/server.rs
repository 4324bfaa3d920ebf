//! The server, its client, and those who are neither polite nor patient.

use std::io::ErrorKind;
use std::time::Duration;

use plimsoll_admin::{Ask, Client, ClientError, encode};
use plimsoll_control::Command;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::{Api, Did, SOON, report};

impl Api {
    /// Sends these bytes and reads to the end: status, head, body.
    async fn raw(&self, bytes: impl AsRef<[u8]>) -> (u16, String, String) {
        let mut stream = UnixStream::connect(&self.path).await.unwrap();
        stream.write_all(bytes.as_ref()).await.unwrap();
        let mut answer = Vec::new();
        let read = timeout(SOON, stream.read_to_end(&mut answer))
            .await
            .unwrap();
        // A server that has not read all says so after its answer.
        assert!(read.is_ok() || read.unwrap_err().kind() == ErrorKind::ConnectionReset);
        let text = String::from_utf8(answer).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_ascii_lowercase(), body.to_owned())
    }

    async fn ask(&self, method: &str, target: &str, body: &str) -> (u16, String, String) {
        let length = body.len();
        let head = format!("{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n");
        self.raw(format!("{head}\r\n{body}")).await
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|why| panic!("{why}: {text}"))
}

#[tokio::test]
async fn the_client_gets_what_the_server_knows() {
    let mut api = Api::start();
    let client = Client::new(&api.path);
    assert_eq!(client.status().await.unwrap(), report());
    assert_eq!(client.flows("").await.unwrap().flows, []);
    let query = format!("client=192.0.2.7&to={}", encode("[2001:db8::1]:80"));
    let explained = client.explain(&query).await.unwrap();
    assert_eq!(explained.steps, ["from 192.0.2.7:0"]);
    let (service, backend) = ("a/b c", "[fd00::1]:80");
    let done = client.command(service, backend, "drain").await.unwrap();
    assert_eq!(
        (done.service.as_str(), done.backend.as_str()),
        (service, backend)
    );
    for (on, is) in [(Some(true), true), (Some(false), false), (None, false)] {
        let done = client.maintain(service, on).await.unwrap();
        assert_eq!((done.service.as_str(), done.maintenance), (service, is));
    }
    client.weight(service, backend, Some(5)).await.unwrap();
    client.weight(service, backend, None).await.unwrap();
    for command in [
        Command::Drain,
        Command::Weight(Some(5)),
        Command::Weight(None),
    ] {
        let did = api.did.recv().await.unwrap();
        assert_eq!(did, Did::Command(service.into(), backend.into(), command));
    }
    match client.command("wbe", backend, "ready").await {
        Err(error @ ClientError::Refused { status: 404, .. }) => {
            assert_eq!(error.to_string(), "no service `wbe`: did you mean `web`?");
        }
        other => panic!("{other:?}"),
    }
    match client.flows("cursor=1").await {
        Err(ClientError::Refused { status: 503, body }) => {
            assert_eq!(body.error, "a worker does not answer");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn health_and_readiness() {
    let mut api = Api::start();
    assert_eq!(api.ask("GET", "/healthz", "").await.0, 200);
    assert_eq!(api.ask("GET", "/readyz", "").await.0, 200);
    api.ready.send_replace(false);
    assert_eq!(api.ask("GET", "/healthz", "").await.0, 200);
    let (status, _, body) = api.ask("GET", "/readyz", "").await;
    assert_eq!(
        (status, &json(&body)["reasons"][0]),
        (503, &"a listen is closed".into())
    );
    let (status, head, body) = api.ask("GET", "/metrics", "").await;
    assert_eq!(status, 200);
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    assert!(body.starts_with("# HELP plimsoll_"));
    let (status, _, body) = api.ask("HEAD", "/v1/status", "").await;
    assert_eq!((status, body.as_str()), (200, ""));
    assert_eq!(api.ask("POST", "/v1/reload", "").await.0, 202);
    assert_eq!(api.did.recv().await, Some(Did::Reload));
}

#[tokio::test]
async fn bad_requests_get_a_reason_and_reach_nobody() {
    let mut api = Api::start();
    let weight = "/v1/services/web/backends/10.0.0.1:80/weight";
    let maintenance = "/v1/services/web/maintenance";
    let long = "x".repeat(5000);
    for (method, target, body, status, why) in [
        ("GET", "/v2/status", "", 404, "nothing is at /v2/status"),
        ("GET", "/", "", 404, "nothing is at /"),
        (
            "POST",
            "/v1/services/web/backends/x/explode",
            "",
            404,
            "nothing is at",
        ),
        ("POST", "/v1/status", "", 405, "POST is not for /v1/status"),
        ("GET", weight, "", 405, "GET is not for"),
        ("GET", "/v1/status?x=1", "", 400, "unknown parameter"),
        ("GET", "/v1/flows?limit=-1", "", 400, "limit"),
        ("GET", "/v1/explain?client=1", "", 400, "client"),
        (
            "GET",
            "/v1/services/%ff/backends/x/drain",
            "",
            404,
            "nothing is at",
        ),
        ("GET", maintenance, "", 405, "GET is not for"),
        ("POST", maintenance, "{\"on\": 1}", 400, "the body"),
        ("POST", weight, "", 400, "the body"),
        ("POST", weight, "{\"weight\": -1}", 400, "the body"),
        ("POST", weight, "{\"wieght\": 1}", 400, "wieght"),
        ("POST", weight, &long, 413, "longer than 4096"),
    ] {
        let (got, head, text) = api.ask(method, target, body).await;
        let error = json(&text);
        assert_eq!(got, status, "{method} {target}: {text}");
        assert!(
            error["error"].as_str().unwrap().contains(why),
            "{method} {target}: {text}"
        );
        assert!(error["hint"].is_string(), "{text}");
        assert_eq!(head.contains("\r\nallow: "), status == 405, "{head}");
    }
    let huge = format!(
        "GET /v1/status HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n",
        "x".repeat(20_000)
    );
    assert_eq!(api.raw(huge).await.0, 431);
    assert_eq!(api.raw("nonsense\r\n\r\n").await.0, 400);
    assert!(
        api.did.try_recv().is_err(),
        "control heard of none of these"
    );
}

#[tokio::test]
async fn readers_that_go_away_or_sleep_hold_nobody_up() {
    let api = Api::start();
    // Some leave at once, some after a part of the answer, some never read.
    let mut sleepers = Vec::new();
    for at in 0..30 {
        let mut stream = UnixStream::connect(&api.path).await.unwrap();
        stream
            .write_all(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        match at % 3 {
            0 => {}
            1 => {
                let mut byte = [0];
                timeout(SOON, stream.read_exact(&mut byte))
                    .await
                    .unwrap()
                    .unwrap();
            }
            _ => sleepers.push(stream),
        }
    }
    let client = Client::new(&api.path);
    for _ in 0..10 {
        assert_eq!(
            timeout(SOON, client.status()).await.unwrap().unwrap(),
            report()
        );
    }
    assert_eq!(sleepers.len(), 10);
}

#[tokio::test]
async fn a_control_that_is_gone_is_said() {
    let (asks, inbox) = mpsc::channel(1);
    drop(inbox);
    let api = Api::serving(asks, mpsc::unbounded_channel().1, watch::Sender::new(true));
    let (status, _, body) = api.ask("GET", "/healthz", "").await;
    assert_eq!(status, 503);
    assert!(json(&body)["error"].as_str().unwrap().contains("stopping"));
}

#[tokio::test]
async fn a_client_without_a_daemon_says_what_to_do() {
    let dir = plimsoll_testkit::TempDir::new().unwrap();
    let path = dir.path().join("admin.sock");
    let error = Client::new(&path).status().await.unwrap_err();
    match &error {
        ClientError::NoDaemon { source, .. } => assert_eq!(source.kind(), ErrorKind::NotFound),
        other => panic!("{other:?}"),
    }
    assert!(error.to_string().contains("plimsoll run"), "{error}");
    // Whoever answers is no plimsoll.
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
            .await
            .unwrap();
    });
    let error = Client::new(&path).status().await.unwrap_err();
    assert!(matches!(error, ClientError::Broken { .. }), "{error:?}");
}

#[tokio::test]
async fn who_connects_and_asks_nothing_gives_way() {
    let api = Api::start();
    let mut idle = Vec::new();
    for at in 0..200 {
        let mut stream = UnixStream::connect(&api.path).await.unwrap();
        if at % 2 == 0 {
            stream.write_all(b"GET /healthz HT").await.unwrap();
        }
        idle.push(stream);
        if at % 50 == 49 {
            // Well below the time that they have for their heads.
            let health = timeout(Duration::from_secs(1), api.ask("GET", "/healthz", ""));
            assert_eq!(health.await.unwrap().0, 200);
        }
    }
}

#[tokio::test]
async fn slow_readers_of_long_answers_leave_health_and_commands_their_places() {
    let (asks, mut inbox) = mpsc::channel(16);
    let (tell, did) = mpsc::unbounded_channel();
    let api = Api::serving(asks, did, watch::Sender::new(true));
    let reports = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let made = reports.clone();
    tokio::spawn(async move {
        while let Some(ask) = inbox.recv().await {
            match ask {
                Ask::Status(reply) => {
                    made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    // More than a socket holds.
                    let mut report = report();
                    report.version = "x".repeat(4 << 20);
                    drop(reply.send(report));
                }
                ask => crate::answer(ask, true, &tell),
            }
        }
    });
    let mut sleepers = Vec::new();
    for _ in 0..100 {
        let mut stream = UnixStream::connect(&api.path).await.unwrap();
        stream
            .write_all(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        sleepers.push(stream);
    }
    for _ in 0..5 {
        let health = timeout(SOON / 2, api.ask("GET", "/healthz", ""));
        assert_eq!(health.await.unwrap().0, 200);
    }
    let (status, _, body) = api.ask("GET", "/v1/status", "").await;
    assert_eq!(status, 503, "{body}");
    let made = reports.load(std::sync::atomic::Ordering::Relaxed);
    assert!((1..=4).contains(&made), "{made} reports for 100 askers");
    // Once they are gone, there is room again.
    drop(sleepers);
    let again = async {
        while api.ask("GET", "/v1/status", "").await.0 != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, again).await.unwrap();
}
