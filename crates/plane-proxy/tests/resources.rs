//! Memory and file descriptors under those who take as much as they get. The tests are one process
//! of their own, and run one after the other: they measure it and starve it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    reason = "tests; only a part of the common helpers is used here"
)]

#[path = "proxy/common.rs"]
mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;

use plimsoll_testkit::{Answer, HttpBackend, HttpBehaviour, TcpAnswer, TcpBackend, TcpBehaviour};
use plimsoll_testkit::{Raw, wait_until_async};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use common::{BOUND, MOMENT, Proxy, Scripted, ms, pattern};

static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Memory of this process that is in use, in KiB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// How many KiB more are in use since `before`.
fn grown(before: usize) -> usize {
    resident().saturating_sub(before)
}

/// A GET on a connection that holds nothing but its socket.
fn get(client: &mut TcpStream) -> String {
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let mut buffer = [0; 1024];
    let count = client.read(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

#[tokio::test]
async fn idle_connections_cost_little() {
    const MANY: usize = 1_000;
    let _alone = ALONE.lock().await;
    allow_files(8_192);
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    proxy.serves().await;
    let address = proxy.address();
    let connect = move || {
        let many = (0..MANY).map(|_| TcpStream::connect(address).unwrap());
        let mut many: Vec<TcpStream> = many.collect();
        for client in &mut many {
            assert!(get(client).starts_with("HTTP/1.1 200 "));
        }
        many
    };
    let before = resident();
    let idle = tokio::task::spawn_blocking(connect).await.unwrap();
    let each = grown(before) * 1024 / MANY;
    assert!(each < 12 * 1024, "{each} bytes for each idle connection");
    assert_eq!(proxy.listen().connections, MANY as u64);
    drop(idle);
    assert!(wait_until_async(BOUND, || proxy.listen().connections == 0).await);
}

#[tokio::test]
async fn heads_without_end_cost_little() {
    const MANY: usize = 200;
    let _alone = ALONE.lock().await;
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    proxy.serves().await;
    let before = resident();
    // As much of a head as is kept while it is not complete.
    let mut held = Vec::new();
    for _ in 0..MANY {
        let mut client = TcpStream::connect(proxy.address()).unwrap();
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "a".repeat(30_000));
        client.write_all(head.as_bytes()).unwrap();
        held.push(client);
    }
    tokio::time::sleep(MOMENT).await;
    let each = grown(before) / MANY;
    assert!(each < 100, "{each} KiB for each head");
    drop(held);
    // One of 1 GiB, as far as it goes.
    let before = resident();
    let mut client = TcpStream::connect(proxy.address()).unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
        .unwrap();
    let chunk = vec![b'a'; 1 << 20];
    let sent = (0..1024)
        .take_while(|_| client.write_all(&chunk).is_ok())
        .count();
    assert!(sent < 50, "{sent} MiB were taken");
    assert!(grown(before) < 4_096, "{} KiB more", grown(before));
    proxy.serves().await;
}

#[tokio::test]
async fn clients_that_do_not_read_cost_little() {
    const MANY: usize = 50;
    let _alone = ALONE.lock().await;
    let backend = HttpBackend::start("b").unwrap();
    let bytes = 16 << 20;
    let body = vec![b'x'; bytes];
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n");
    let proxy = Proxy::http(&[backend.address()]);
    proxy.serves().await;
    // One answer is held by the backend, and no more than buffers of it by the plane.
    backend.behave(HttpBehaviour::answering(Answer::Garbage(
        [head.as_bytes(), &body].concat(),
    )));
    let before = resident();
    let mut clients = Vec::new();
    for _ in 0..MANY {
        let mut client = TcpStream::connect(proxy.address()).unwrap();
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        clients.push(client);
    }
    let busy = || proxy.counters_of(backend.address()).active == MANY as u64;
    assert!(wait_until_async(BOUND, busy).await);
    tokio::time::sleep(ms(500)).await;
    let each = grown(before) / MANY;
    assert!(each < 400, "{each} KiB for each client");
    drop(clients);
    proxy.settled().await;
}

#[tokio::test]
async fn backends_that_do_not_read_cost_little() {
    const MANY: usize = 20;
    let _alone = ALONE.lock().await;
    let backend = Scripted::start(|stream| async move {
        tokio::time::sleep(ms(2_000)).await;
        drop(stream);
    })
    .await;
    let proxy = Proxy::http(&[backend.address]);
    let before = resident();
    let address = proxy.address();
    let uploads: Vec<_> = (0..MANY)
        .map(|_| {
            tokio::spawn(async move {
                let mut client = Raw::connect(address).await.unwrap();
                let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n";
                client.send(head).await.unwrap();
                let chunk = vec![b'x'; 65_536];
                while let Ok(Ok(())) = tokio::time::timeout(ms(500), client.send(&chunk)).await {}
                client
            })
        })
        .collect();
    let mut clients = Vec::new();
    for upload in uploads {
        clients.push(upload.await.unwrap());
    }
    let each = grown(before) / MANY;
    assert!(
        each < 600,
        "{each} KiB for each upload, a chunk of the test's own included"
    );
    drop(clients);
    proxy.settled().await;
}

/// Lets this process have at least so many files, where it may.
fn allow_files(count: u64) {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum.map_or(count, |most| most.min(count));
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(current),
            ..limit
        },
    )
    .unwrap();
}

/// How many workers of any plane live in this process.
fn workers() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let names = threads.filter_map(|task| {
        let comm = task.ok()?.path().join("comm");
        std::fs::read_to_string(comm).ok()
    });
    names.filter(|name| name.starts_with("worker-")).count()
}

/// Takes all files that are left.
fn take_all_files() -> Vec<File> {
    let mut held = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        held.push(file);
    }
    held
}

#[tokio::test]
async fn out_of_files_the_plane_serves_what_it_can_and_recovers() {
    let _alone = ALONE.lock().await;
    // The planes of other tests give theirs back when their last clients have gone.
    assert!(wait_until_async(BOUND, || workers() == 0).await);
    allow_files(1_024);
    let backend = HttpBackend::start("b").unwrap();
    let (proxy, cold) = (
        Proxy::http(&[backend.address()]),
        Proxy::http(&[backend.address()]),
    );
    let tcp = TcpBackend::start("t").unwrap();
    tcp.behave(TcpBehaviour::answering(TcpAnswer::Echo));
    let stream = Proxy::tcp(&[tcp.address()]);
    let mut served = proxy.connect().await;
    assert_eq!(served.get("a", "/", BOUND).await.unwrap().status, 200);
    let mut unserved = cold.connect().await;
    let mut piped = stream.connect().await;
    piped.send("x").await.unwrap();
    assert_eq!(piped.read_exact(1, BOUND).await.unwrap(), b"x");
    assert!(wait_until_async(BOUND, || cold.listen().connections == 1).await);

    let mut held = take_all_files();
    let answer = served.get("a", "/", BOUND).await.unwrap();
    assert_eq!(answer.status, 200, "connections that are there serve on");
    let answer = unserved.get("a", "/", BOUND).await.unwrap();
    assert_eq!(
        answer.status, 503,
        "a connection to a backend cannot be had"
    );
    assert!(answer.head.get("retry-after").is_some(), "{answer:?}");
    // No pipe for splicing: bytes are copied.
    let bytes = pattern(2 << 20);
    for chunk in bytes.chunks(1 << 17) {
        piped.send(chunk).await.unwrap();
        assert!(piped.read_exact(chunk.len(), BOUND).await.unwrap() == chunk);
    }
    // A client that comes now has to wait, no more.
    drop(held.pop());
    let mut waiting = proxy.connect().await;
    waiting
        .send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    assert!(waiting.read_exact(1, MOMENT).await.is_err() && waiting.unread().is_empty());
    assert_eq!(
        served.get("a", "/", BOUND).await.unwrap().status,
        200,
        "others do not"
    );
    drop(held);
    assert_eq!(waiting.read_response(BOUND).await.unwrap().status, 200);
    assert_eq!(unserved.get("a", "/", BOUND).await.unwrap().status, 200);
    proxy.serves().await;
    allow_files(8_192);
}
