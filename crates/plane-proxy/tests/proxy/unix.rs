//! Backends at Unix sockets.

use std::os::unix::net::UnixListener as Listener;
use std::path::Path;

use plimsoll_model::{Backend, Origin, ProxyVersion};
use plimsoll_testkit::{HttpBackend, TempDir};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};

use crate::common::{BOUND, Proxy, at, ms, pattern, timed};

fn backend(path: &Path) -> Backend {
    let addr = format!("unix:{}", path.display()).parse().unwrap();
    Backend::new(addr, Origin::new("test", "backend"))
}

/// Passes what comes by the socket on to a backend that listens on TCP.
fn lead(path: &Path, to: std::net::SocketAddr) -> tokio::task::JoinHandle<()> {
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut there = TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut there).await;
            });
        }
    })
}

/// Sends back what comes, to the end.
fn echo(path: &Path) -> tokio::task::JoinHandle<()> {
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    })
}

#[tokio::test]
async fn http_is_served_and_connections_are_kept() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("s");
    let server = HttpBackend::start("b").unwrap();
    let leading = lead(&path, server.address());
    let proxy = Proxy::http_with(vec![backend(&path)], |_| {});
    for _ in 0..3 {
        let answer = proxy.get("a.example", "/x").await;
        assert_eq!(answer.status, 200);
    }
    let seen = server.seen();
    assert_eq!(seen[0].head.get("host"), Some("a.example"));
    let counted = proxy.counters().backends[0].1;
    assert_eq!(counted.requests, 3);
    assert!(counted.connections < 3, "{counted:?}");
    leading.abort();
}

#[tokio::test]
async fn bytes_go_both_ways_and_ends_arrive() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("s");
    let echoing = echo(&path);
    let proxy = Proxy::tcp_with(vec![backend(&path)], |_| {});
    let bytes = pattern(8 << 20);
    let stream = TcpStream::connect(proxy.address()).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let sent = bytes.clone();
    let sending = tokio::spawn(async move {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut got = Vec::new();
    let reading = tokio::time::timeout(BOUND, read.read_to_end(&mut got));
    reading.await.unwrap().unwrap();
    sending.await.unwrap();
    assert!(got == bytes, "{} of {}", got.len(), bytes.len());
    proxy.settled().await;
    echoing.abort();
}

#[tokio::test]
async fn a_socket_may_want_a_header() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("s");
    let echoing = echo(&path);
    let proxy = Proxy::tcp_with(vec![backend(&path)], |spec| {
        spec.proxy_headers.send = Some(ProxyVersion::V1);
    });
    let mut client = proxy.connect().await;
    client.send("hello").await.unwrap();
    let (from, to) = (client.local_addr().unwrap().port(), proxy.address());
    let line = format!(
        "PROXY TCP4 127.0.0.1 {} {from} {}\r\nhello",
        to.ip(),
        to.port()
    );
    let got = client.read_exact(line.len(), BOUND).await.unwrap();
    assert_eq!(String::from_utf8(got).unwrap(), line);
    echoing.abort();
}

#[tokio::test]
async fn sockets_that_nobody_listens_on_are_passed_over() {
    let dir = TempDir::new().unwrap();
    let (missing, left) = (dir.path().join("missing"), dir.path().join("left"));
    drop(Listener::bind(&left).unwrap());
    let good = HttpBackend::start("b").unwrap();
    let backends = vec![backend(&missing), backend(&left), at(good.address())];
    // Both at once, and without counting as a try.
    let proxy = Proxy::http_with(backends, |spec| spec.retries = 1);
    for _ in 0..6 {
        assert_eq!(proxy.get("a", "/").await.status, 200);
    }
    let proxy = Proxy::http_with(vec![backend(&missing), backend(&left)], |_| {});
    assert_eq!(proxy.get("a", "/").await.status, 502);
    let proxy = Proxy::tcp_with(vec![backend(&missing)], |_| {});
    assert!(proxy.refuses().await);
}

#[tokio::test]
async fn a_full_backlog_is_waited_for_in_time() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("s");
    let listener = Listener::bind(&path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let mut held = Vec::new();
    listener.set_nonblocking(true).unwrap();
    // One fits; a nonblocking connection says when no more does.
    loop {
        let attempt = tokio::time::timeout(ms(200), UnixStream::connect(&path));
        match attempt.await {
            Ok(Ok(stream)) => held.push(stream),
            _ => break,
        }
        assert!(held.len() < 100, "the backlog does not fill");
    }
    let proxy = Proxy::http_with(vec![backend(&path)], |spec| {
        spec.timeouts.connect = ms(300);
    });
    let (answer, took) = timed(proxy.get("a", "/")).await;
    assert_eq!(answer.status, 504);
    assert!(took >= ms(300), "{took:?}");
    // And served once there is room.
    let mut proxy = proxy;
    proxy.edit(|web| {
        std::sync::Arc::make_mut(&mut web.spec).timeouts.connect = BOUND;
    });
    let mut client = proxy.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    tokio::time::sleep(ms(100)).await;
    let listener = UnixListener::from_std(listener).unwrap();
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 1024];
                if stream.read(&mut head).await.is_ok_and(|n| n > 0) {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                    stream.write_all(answer).await.unwrap();
                    let _ = stream.read(&mut head).await;
                }
            });
        }
    });
    assert_eq!(client.read_response(BOUND).await.unwrap().status, 200);
    serving.abort();
}
