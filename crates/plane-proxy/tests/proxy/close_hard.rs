//! Last requests of their connections where the client is slow or goes away, the backend breaks off
//! or is full, or the plane ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use plimsoll_testkit::{
    Answer, Ending, HttpBackend, HttpBehaviour, ID_HEADER, Phase, WireError, wait_until_async,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::close::{CLOSE, get, last, last_answer};
use crate::common::{BOUND, MOMENT, Proxy, Scripted, limited, ms, pattern};

/// A backend whose answer is far more than sockets hold; counts the connections it has served.
async fn endless(size: usize) -> (Scripted, Arc<AtomicU64>) {
    let served = Arc::new(AtomicU64::new(0));
    let count = served.clone();
    let body = Arc::new(pattern(size));
    let backend = Scripted::start(move |mut stream| {
        let (count, body) = (count.clone(), body.clone());
        async move {
            while stream.read(&mut [0; 1_000]).await.is_ok_and(|n| n > 0) {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                if stream.write_all(head.as_bytes()).await.is_err()
                    || stream.write_all(&body).await.is_err()
                {
                    return;
                }
                count.fetch_add(1, Ordering::SeqCst);
            }
        }
    })
    .await;
    (backend, served)
}

#[tokio::test]
async fn a_slow_reader_gets_all_of_it() {
    const SIZE: usize = 24 << 20;
    let (backend, served) = endless(SIZE).await;
    let proxy = Proxy::http(&[backend.address]);
    let mut slow = proxy.connect().await;
    slow.send(get("slow", CLOSE)).await.unwrap();
    slow.read_exact(1 << 20, BOUND).await.unwrap();
    tokio::time::sleep(MOMENT).await;
    assert_eq!(served.load(Ordering::SeqCst), 0, "it waits for its reader");
    // Others are served meanwhile.
    assert_eq!(last(&proxy, "GET", "x").await.body.bytes.len(), SIZE);
    let (rest, ending) = slow.read_to_end(BOUND).await.unwrap();
    assert!(rest.ends_with(&pattern(SIZE)[SIZE / 2..]), "{}", rest.len());
    assert_eq!(ending, Ending::Close);
    proxy.settled().await;
}

#[tokio::test]
async fn clients_that_go_away_leave_nothing_to_others() {
    let backend = HttpBackend::start("b").unwrap();
    let (large, _) = endless(24 << 20).await;
    let mut proxy = Proxy::http(&[backend.address()]);
    for round in 0..6 {
        backend.behave(HttpBehaviour::slow(ms(400)));
        let mut gone = proxy.connect().await;
        gone.send(get("gone", CLOSE)).await.unwrap();
        assert!(wait_until_async(BOUND, || backend.stats().active == 1).await);
        if round % 2 == 0 {
            gone.reset().unwrap();
        } else {
            drop(gone);
        }
        proxy.settled().await;
        assert!(wait_until_async(BOUND, || proxy.listen().connections == 0).await);
        backend.behave(HttpBehaviour::default());
        let answer = last(&proxy, "GET", "next").await;
        assert_eq!(answer.head.get(ID_HEADER), Some("next"), "{answer:?}");
        let mut client = proxy.connect().await;
        client.send(get("kept", "")).await.unwrap();
        let answer = client.read_response(BOUND).await.unwrap();
        assert!(answer.head.get(ID_HEADER) == Some("kept") && !answer.closes());
    }
    // In the middle of an answer.
    proxy.edit(|web| web.backends.clear());
    proxy.add_backend(crate::common::at(large.address));
    for _ in 0..3 {
        let mut gone = proxy.connect().await;
        gone.send(get("gone", CLOSE)).await.unwrap();
        gone.read_exact(100, BOUND).await.unwrap();
        gone.reset().unwrap();
        proxy.settled().await;
        assert_eq!(last(&proxy, "GET", "x").await.body.bytes.len(), 24 << 20);
    }
    assert!(wait_until_async(BOUND, || proxy.listen().connections == 0).await);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_taken_for_whole() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    for answer in [
        Answer::TooLittle(500),
        Answer::Cut(Phase::Body, Ending::Close),
        Answer::Cut(Phase::Body, Ending::Reset),
    ] {
        backend.behave(HttpBehaviour {
            bytes: 1_000,
            ..HttpBehaviour::answering(answer.clone())
        });
        let mut client = proxy.connect().await;
        client.send(get("1", CLOSE)).await.unwrap();
        let got = client.read_response(BOUND).await;
        assert!(
            matches!(
                &got,
                Err(WireError::Closed { .. } | WireError::Reset { .. })
            ),
            "{answer:?}: {got:?}"
        );
    }
    backend.behave(HttpBehaviour::default());
    assert_eq!(
        last(&proxy, "GET", "next").await.head.get(ID_HEADER),
        Some("next")
    );
}

#[tokio::test]
async fn who_waits_in_a_queue_is_closed_after_its_turn() {
    let backend = HttpBackend::start("b").unwrap();
    backend.behave(HttpBehaviour::slow(ms(30)));
    let proxy = Proxy::http_with(vec![limited(backend.address(), 1)], |_| {});
    let mut clients = Vec::new();
    for n in 0..10 {
        let mut client = proxy.connect().await;
        client.send(get(&format!("q{n}"), CLOSE)).await.unwrap();
        clients.push(client);
    }
    for (n, client) in clients.iter_mut().enumerate() {
        let answer = last_answer(client, "GET").await;
        let id = format!("q{n}");
        assert_eq!(answer.head.get(ID_HEADER), Some(id.as_str()), "{answer:?}");
    }
    proxy.settled().await;
}

#[tokio::test]
async fn it_is_said_once_when_the_plane_ends_too() {
    let backend = HttpBackend::start("b").unwrap();
    backend.behave(HttpBehaviour::slow(ms(500)));
    let mut proxy = Proxy::http(&[backend.address()]);
    let mut clients = Vec::new();
    for n in 0..8 {
        let mut client = proxy.connect().await;
        let id = format!("d{n}");
        client.send(get(&id, CLOSE)).await.unwrap();
        clients.push((id, client));
    }
    assert!(wait_until_async(BOUND, || backend.stats().active == 8).await);
    let drained = tokio::task::spawn_blocking(move || (proxy.plane.drain(BOUND), proxy));
    for (id, client) in &mut clients {
        let answer = last_answer(client, "GET").await;
        assert_eq!(answer.head.get(ID_HEADER), Some(id.as_str()), "{answer:?}");
    }
    let (all, proxy) = drained.await.unwrap();
    assert!(all && proxy.listen().connections == 0);
}
