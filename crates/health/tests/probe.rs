//! Single checks of real backends, good and bad.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use plimsoll_health::probe;
use plimsoll_model::{BackendAddr, Check, CheckKind, ProxyVersion, Source, ToBackends};
use plimsoll_testkit::{
    Answer, Ending, HttpBackend, HttpBehaviour, Phase, TcpAnswer, TcpBackend, TcpBehaviour, TempDir,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// More than any check here should take.
const SOON: Duration = Duration::from_secs(10);

fn check(text: &str) -> Check {
    Check {
        timeout: SOON,
        ..text.parse().unwrap()
    }
}

fn impatient(text: &str) -> Check {
    Check {
        timeout: Duration::from_millis(200),
        ..text.parse().unwrap()
    }
}

/// Checks an address; why it failed, if it did.
async fn failure(addr: SocketAddr, check: &Check) -> Option<String> {
    let started = Instant::now();
    let outcome = probe(&BackendAddr::from(addr), check, &[], None).await;
    assert!(started.elapsed() < SOON, "it takes {:?}", started.elapsed());
    outcome.err().map(|why| why.to_string())
}

/// Why a check of a backend that behaves so failed, if it did.
async fn failure_of(behaviour: HttpBehaviour, check: &Check) -> Option<String> {
    let backend = HttpBackend::start("a").unwrap();
    backend.behave(behaviour);
    failure(backend.address(), check).await
}

#[tokio::test]
async fn tcp_accepts_or_refuses() {
    let backend = TcpBackend::start("a").unwrap();
    let tcp = check("tcp");
    assert_eq!(failure(backend.address(), &tcp).await, None);
    backend.behave(TcpBehaviour {
        answer: TcpAnswer::Never,
        ..TcpBehaviour::default()
    });
    assert_eq!(
        failure(backend.address(), &tcp).await,
        None,
        "silence is fine"
    );
    backend.refuse().await;
    let why = failure(backend.address(), &tcp).await;
    assert_eq!(why.as_deref(), Some("check tcp: connection refused"));
    backend.listen_again().unwrap();
    assert_eq!(failure(backend.address(), &tcp).await, None);
}

#[tokio::test]
async fn the_port_of_the_check_is_named() {
    let backend = TcpBackend::start("a").unwrap();
    backend.refuse().await;
    let port = backend.address().port();
    let said = Check {
        port: Some(port),
        ..check("tcp")
    };
    let why = failure(backend.address(), &said).await.unwrap();
    assert_eq!(why, format!("check tcp at port {port}: connection refused"));
}

#[tokio::test]
async fn http_asks_politely() {
    let backend = HttpBackend::start("a").unwrap();
    assert_eq!(
        failure(backend.address(), &check("http:/health?deep=1")).await,
        None
    );
    let seen = backend.seen();
    let head = &seen[0].head;
    assert_eq!(head.start, "GET /health?deep=1 HTTP/1.1");
    let address = backend.address().to_string();
    assert_eq!(head.get("host"), Some(address.as_str()));
    assert_eq!(head.get("connection"), Some("close"));
    assert_eq!(head.get("user-agent"), Some("plimsoll-check"));
    let mut named = check("http:/health");
    named.kind = CheckKind::Http {
        path: "/health".parse().unwrap(),
        host: "example.com:8080".parse().ok(),
        status: Default::default(),
    };
    assert_eq!(failure(backend.address(), &named).await, None);
    assert_eq!(backend.seen()[1].head.get("host"), Some("example.com:8080"));
}

#[tokio::test]
async fn http_judges_by_the_status() {
    let ok = ["200", "204", "302", "399"];
    for (status, set, good) in ok
        .map(|status| (status, "200-399", true))
        .into_iter()
        .chain(["400", "404", "500", "503"].map(|status| (status, "200-399", false)))
        .chain([("401", "200-299,401", true), ("301", "200-299,401", false)])
    {
        let mut judged = check("http:/health");
        judged.kind = CheckKind::Http {
            path: "/health".parse().unwrap(),
            host: None,
            status: set.parse().unwrap(),
        };
        let behaviour = HttpBehaviour {
            status: status.parse().unwrap(),
            ..HttpBehaviour::default()
        };
        let why = failure_of(behaviour, &judged).await;
        let wanted = (!good).then(|| format!("check http:/health: status {status}"));
        assert_eq!(why, wanted);
    }
}

#[tokio::test]
async fn http_says_how_it_failed() {
    let cut = |phase, ending| HttpBehaviour::answering(Answer::Cut(phase, ending));
    let garbage = |bytes: &[u8]| HttpBehaviour::answering(Answer::Garbage(bytes.to_vec()));
    let closed = "check http:/: closed without an answer";
    let reset = "check http:/: connection reset";
    let no_http = "check http:/: the answer is not HTTP/1.1";
    for (behaviour, wanted) in [
        (cut(Phase::Request, Ending::Close), closed),
        (cut(Phase::Head, Ending::Close), closed),
        (cut(Phase::Request, Ending::Reset), reset),
        (cut(Phase::Head, Ending::Reset), reset),
        (garbage(b"SSH-2.0-OpenSSH_9.2\r\n"), no_http),
        (garbage(b"\x15\x03\x01\x00\x02\x02\x46"), no_http),
        (garbage(b"HTTP/1.1 two hundred\r\n\r\n"), no_http),
        (garbage(&[b'x'; 100_000]), no_http),
        (
            garbage(&[b"HTTP/1.1 200 OK\r\nA: ", &[b'x'; 100_000][..]].concat()),
            no_http,
        ),
    ] {
        let said = format!("{behaviour:?}");
        let said = said.get(..200).unwrap_or(&said);
        let why = failure_of(behaviour, &check("http")).await;
        assert_eq!(why.as_deref(), Some(wanted), "{said}");
    }
    // The request may meet a connection that is closed already.
    for ending in [Ending::Close, Ending::Reset] {
        let why = failure_of(cut(Phase::Accept, ending), &check("http")).await;
        let why = why.unwrap();
        assert!(why == reset || why == closed, "{why}");
    }
}

#[tokio::test]
async fn a_slow_answer_is_a_time_out() {
    let slow = HttpBehaviour::slow(3 * SOON);
    let silent = HttpBehaviour::answering(Answer::Never);
    let half = HttpBehaviour::answering(Answer::Garbage(b"HTTP/1.1 200 OK\r\nA: b".to_vec()));
    for behaviour in [slow, silent, half] {
        let why = failure_of(behaviour, &impatient("http:/health")).await;
        let wanted = "check http:/health: timed out after 200ms";
        assert_eq!(why.as_deref(), Some(wanted));
    }
}

/// The status is all that counts; what comes after it is read a little and left.
#[tokio::test]
async fn a_body_changes_nothing() {
    let big = |answer| HttpBehaviour {
        bytes: 50 << 20,
        ..HttpBehaviour::answering(answer)
    };
    let chunked = Answer::Chunked {
        chunk: 1000,
        trailers: Vec::new(),
    };
    let pause = Duration::from_secs(1);
    for behaviour in [
        big(Answer::Length),
        big(chunked),
        big(Answer::UntilClose),
        HttpBehaviour::answering(Answer::Slow { piece: 1, pause }),
        HttpBehaviour::answering(Answer::TooLittle(10)),
        HttpBehaviour::answering(Answer::TooMuch(10)),
        HttpBehaviour::answering(Answer::Cut(Phase::Body, Ending::Close)),
        HttpBehaviour::answering(Answer::Doubled),
    ] {
        let said = format!("{behaviour:?}");
        assert_eq!(failure_of(behaviour, &check("http")).await, None, "{said}");
    }
}

/// Interim answers are none.
#[tokio::test]
async fn an_interim_answer_is_passed_over() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 1024];
        assert!(stream.read(&mut buffer).await.unwrap() > 0);
        let answers = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
                        HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(answers).await.unwrap();
    });
    let why = failure(addr, &check("http")).await;
    assert_eq!(why.as_deref(), Some("check http:/: status 500"));
    server.await.unwrap();
}

#[tokio::test]
async fn unix_sockets() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("web.sock");
    let addr: BackendAddr = format!("unix:{}", path.display()).parse().unwrap();
    let why = probe(&addr, &check("tcp"), &[], None).await.unwrap_err();
    assert_eq!(&*why, "check tcp: no such socket");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    assert_eq!(probe(&addr, &check("tcp"), &[], None).await, Ok(()));
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = vec![0; 1024];
            let read = stream.read(&mut buffer).await.unwrap();
            if read == 0 {
                continue;
            }
            let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            return String::from_utf8(buffer[..read].to_vec()).unwrap();
        }
    });
    assert_eq!(probe(&addr, &check("http:/x"), &[], None).await, Ok(()));
    let request = server.await.unwrap();
    assert!(request.starts_with("GET /x HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("host: localhost\r\n"), "{request}");
}

#[tokio::test]
async fn ipv6() {
    let listener = tokio::net::TcpListener::bind("[::1]:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    assert_eq!(failure(addr, &check("tcp")).await, None);
    drop(listener);
    let why = failure(addr, &check("tcp")).await;
    assert_eq!(why.as_deref(), Some("check tcp: connection refused"));
}

#[tokio::test]
async fn a_header_goes_first() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = BackendAddr::from(listener.local_addr().unwrap());
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let header = version.own_header();
        let check = check("http:/x");
        let (probed, ()) = tokio::join!(probe(&addr, &check, header, None), async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut begin = vec![0; header.len()];
            stream.read_exact(&mut begin).await.unwrap();
            assert_eq!(begin, header);
            let mut request = [0; 4];
            stream.read_exact(&mut request).await.unwrap();
            assert_eq!(&request, b"GET ");
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .await
                .unwrap();
        });
        assert_eq!(probed, Ok(()));
    }
}

#[tokio::test]
async fn a_check_leaves_the_way_of_the_service() {
    let server = HttpBackend::start("b").unwrap();
    let (v4, mapped) = (
        BackendAddr::from(server.address()),
        format!("[::ffff:127.0.0.1]:{}", server.address().port()),
    );
    let own = Source::Own {
        v4: Some([127, 0, 0, 9].into()),
        v6: None,
    };
    for (source, wanted) in [
        (own, "127.0.0.9"),
        // It is done for no client.
        (Source::Client { port: true }, "127.0.0.1"),
        (Source::Routed, "127.0.0.1"),
    ] {
        let to = ToBackends {
            source,
            interface: "lo".parse().ok(),
            ..ToBackends::default()
        };
        for addr in [&v4, &mapped.parse().unwrap()] {
            let probed = probe(addr, &check("http:/x"), &[], Some(&to)).await;
            assert_eq!(probed, Ok(()), "{addr}");
            let peer = server.seen().last().unwrap().peer.ip();
            assert_eq!(peer.to_string(), wanted, "{addr}");
        }
    }
    let to = ToBackends {
        interface: "no-such0".parse().ok(),
        ..ToBackends::default()
    };
    let why = probe(&v4, &check("tcp"), &[], Some(&to)).await.unwrap_err();
    assert!(why.contains("No such device"), "{why}");
    let to = ToBackends {
        source: own,
        ..ToBackends::default()
    };
    let six = "[::1]:9".parse().unwrap();
    let why = probe(&six, &check("tcp"), &[], Some(&to))
        .await
        .unwrap_err();
    assert!(why.contains("`source` has no IPv6 address"), "{why}");
}
