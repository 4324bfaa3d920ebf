//! Who waits for whom: deadlines that belong to one request only, clients that leave while others
//! do not read, backends that are replaced meanwhile.

use std::time::Duration;

use plimsoll_testkit::{
    HttpBackend, HttpBehaviour, Raw, TcpBackend, TcpBehaviour, wait_until_async,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::{BOUND, Proxy, Scripted, at, limited, ms};

async fn head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut got = Vec::new();
    while !got.windows(4).any(|w| w == b"\r\n\r\n") {
        if stream.read_buf(&mut got).await.ok()? == 0 {
            return None;
        }
    }
    Some(got)
}

/// A backend that takes a request, waits, and closes without an answer.
async fn silent(wait: Duration) -> Scripted {
    Scripted::start(move |mut stream| async move {
        head(&mut stream).await;
        tokio::time::sleep(wait).await;
    })
    .await
}

#[tokio::test]
async fn the_time_a_retry_waits_for_a_place_is_not_that_of_the_first_attempt() {
    let silent = silent(ms(500)).await;
    let busy = HttpBackend::start("busy").unwrap();
    busy.behave(HttpBehaviour {
        delay: ms(400),
        ..HttpBehaviour::default()
    });
    let backends = vec![at(silent.address), limited(busy.address(), 1)];
    let proxy = Proxy::http_with(backends, |spec| spec.timeouts.response = ms(700));
    proxy.serves().await;
    let all: Vec<_> = (0..4).map(|_| proxy.get("a", "/")).collect();
    let statuses: Vec<u16> = futures(all)
        .await
        .iter()
        .map(|answer| answer.status)
        .collect();
    assert_eq!(statuses, [200; 4]);
}

/// All of them, at once.
async fn futures<T>(all: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut all: Vec<_> = all
        .into_iter()
        .map(|future| (Box::pin(future), None))
        .collect();
    std::future::poll_fn(|cx| {
        for (future, done) in &mut all {
            if done.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(cx)
            {
                *done = Some(value);
            }
        }
        match all.iter().all(|(_, done)| done.is_some()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    all.into_iter().filter_map(|(_, done)| done).collect()
}

#[tokio::test]
async fn a_time_out_is_never_early() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http_with(vec![at(backend.address())], |spec| {
        spec.timeouts.response = ms(250);
    });
    proxy.serves().await;
    backend.behave(HttpBehaviour {
        delay: ms(150),
        ..HttpBehaviour::default()
    });
    let all: Vec<_> = (0..16)
        .map(|i| {
            let proxy = &proxy;
            async move {
                tokio::time::sleep(ms(13 * i)).await;
                proxy.get("a", "/").await.status
            }
        })
        .collect();
    assert_eq!(futures(all).await, [200; 16]);
}

#[tokio::test]
async fn a_client_that_resets_behind_a_backend_that_does_not_read_gives_its_place_back() {
    let deaf = Scripted::start(|stream| async move {
        tokio::time::sleep(BOUND * 2).await;
        drop(stream);
    })
    .await;
    let proxy = Proxy::http(&[deaf.address]);
    let mut client = proxy.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n")
        .await
        .unwrap();
    let chunk = "x".repeat(1 << 20);
    // Until neither the backend nor the proxy takes any more.
    while tokio::time::timeout(ms(500), client.send(&chunk))
        .await
        .is_ok()
    {}
    assert_eq!(proxy.counters_of(deaf.address).active, 1);
    client.reset().unwrap();
    proxy.settled().await;
}

#[tokio::test]
async fn a_client_that_resets_with_another_request_unread_gives_its_place_back() {
    let slow = silent(BOUND * 2).await;
    let proxy = Proxy::http(&[slow.address]);
    let mut client = proxy.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let active = || proxy.counters_of(slow.address).active == 1;
    assert!(wait_until_async(BOUND, active).await);
    // Long enough for the proxy to look for the client's end.
    tokio::time::sleep(ms(300)).await;
    client
        .send("GET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    tokio::time::sleep(ms(300)).await;
    client.reset().unwrap();
    proxy.settled().await;
}

#[tokio::test]
async fn an_upload_goes_on_while_the_client_does_not_read_the_response() {
    const DOWN: usize = 20_000_000;
    const UP: usize = 20_000_000;
    let both = Scripted::start(|mut stream| async move {
        head(&mut stream).await;
        let (mut read, mut write) = stream.split();
        let answer = async {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {DOWN}\r\n\r\n");
            write.write_all(head.as_bytes()).await?;
            write.write_all(&vec![b'x'; DOWN]).await
        };
        let take = async {
            let mut waste = vec![0; 1 << 16];
            while read.read(&mut waste).await.is_ok_and(|n| n > 0) {}
        };
        let _ = tokio::join!(answer, take);
    })
    .await;
    let proxy = Proxy::http(&[both.address]);
    let mut client = proxy.connect().await;
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {UP}\r\n\r\n");
    client.send(head).await.unwrap();
    let upload = client.send("y".repeat(UP));
    tokio::time::timeout(BOUND, upload)
        .await
        .expect("the upload stalls")
        .unwrap();
    let answer = client.read_response(BOUND).await.unwrap();
    assert_eq!((answer.status, answer.body.bytes.len()), (200, DOWN));
}

#[tokio::test]
async fn a_client_that_sends_all_it_has_reads_the_answer_that_came_before() {
    const UP: usize = 20_000_000;
    let early = Scripted::start(|mut stream| async move {
        head(&mut stream).await;
        let answer = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno!";
        let _ = stream.write_all(answer.as_bytes()).await;
        // It reads nothing more.
        std::future::pending::<()>().await;
    })
    .await;
    let proxy = Proxy::http(&[early.address]);
    let mut client = proxy.connect().await;
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {UP}\r\n\r\n");
    client.send(head).await.unwrap();
    let upload = client.send("y".repeat(UP));
    tokio::time::timeout(BOUND, upload)
        .await
        .expect("the upload stalls")
        .unwrap();
    let answer = client.read_response(BOUND).await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (413, "no!"));
}

#[tokio::test]
async fn a_request_whose_backend_fails_goes_to_one_that_came_meanwhile() {
    let old: Vec<Scripted> = vec![silent(ms(600)).await, silent(ms(600)).await];
    let new = HttpBackend::start("new").unwrap();
    let mut proxy = Proxy::http(&[old[0].address, old[1].address]);
    let mut client = proxy.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let active = || {
        old.iter()
            .map(|b| proxy.counters_of(b.address).active)
            .sum::<u64>()
            == 1
    };
    assert!(wait_until_async(BOUND, active).await);
    proxy.add_backend(at(new.address()));
    for backend in &old {
        proxy.remove_backend(backend.address);
    }
    let answer = client.read_response(BOUND).await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("new"), "{answer:?}");
}

#[tokio::test]
async fn a_tcp_client_that_resets_leaves_the_queue() {
    let backend = TcpBackend::start("b").unwrap();
    backend.behave(TcpBehaviour::default());
    let proxy = Proxy::tcp_with(vec![limited(backend.address(), 1)], |_| {});
    let holder = Raw::connect(proxy.address()).await.unwrap();
    let of = || proxy.counters_of(backend.address());
    assert!(wait_until_async(BOUND, || { of().active == 1 }).await);
    let waiting = Raw::connect(proxy.address()).await.unwrap();
    assert!(wait_until_async(BOUND, || { of().queued == 1 }).await);
    waiting.reset().unwrap();
    assert!(wait_until_async(BOUND, || { of().queued == 0 }).await);
    drop(holder);
    proxy.settled().await;
}
