//! The end of the plane: what is under way ends by itself, nothing new begins.

use std::time::Duration;

use plimsoll_plane::Plane;
use plimsoll_testkit::{
    Answer, Ending, HttpBackend, HttpBehaviour, Raw, TcpAnswer, TcpBackend, TcpBehaviour,
    WireError, wait_until_async,
};

use crate::common::{BOUND, LATE, Proxy, limited, ms, timed};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Drains in the background; whether all has ended.
fn drain(mut proxy: Proxy, limit: Duration) -> tokio::task::JoinHandle<(bool, Proxy)> {
    tokio::task::spawn_blocking(move || (proxy.plane.drain(limit), proxy))
}

async fn until_refused(address: std::net::SocketAddr) {
    let refused = async {
        while Raw::connect(address).await.is_ok() {
            tokio::time::sleep(ms(5)).await;
        }
    };
    assert!(
        tokio::time::timeout(BOUND, refused).await.is_ok(),
        "nothing new is taken"
    );
}

#[tokio::test]
async fn requests_under_way_end_and_idle_connections_close() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    let address = proxy.address();
    let mut idle = proxy.connect().await;
    assert_eq!(idle.get("a", "/", BOUND).await.unwrap().status, 200);
    let mut silent = proxy.connect().await;
    backend.behave(HttpBehaviour::slow(ms(500)));
    let mut waiting = proxy.connect().await;
    waiting.send(GET).await.unwrap();
    let mut reading = proxy.connect().await;
    backend.behave(HttpBehaviour {
        bytes: 1_000,
        ..HttpBehaviour::answering(Answer::Slow {
            piece: 100,
            pause: ms(60),
        })
    });
    reading.send(GET).await.unwrap();
    reading.read_exact(300, BOUND).await.unwrap();
    let mut sending = proxy.connect().await;
    sending
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
        .await
        .unwrap();
    assert!(wait_until_async(BOUND, || backend.stats().active == 3).await);
    let drained = drain(proxy, BOUND);
    until_refused(address).await;
    assert_eq!(
        idle.read_to_end(BOUND).await.unwrap(),
        (Vec::new(), Ending::Close)
    );
    assert_eq!(
        silent.read_to_end(BOUND).await.unwrap(),
        (Vec::new(), Ending::Close)
    );
    sending.send("def").await.unwrap();
    for client in [&mut waiting, &mut sending] {
        let answer = client.read_response(BOUND).await.unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(client.read_to_end(BOUND).await.unwrap().0, b"");
    }
    let (rest, ending) = reading.read_to_end(BOUND).await.unwrap();
    assert!(
        rest.len() > 700 && ending == Ending::Close,
        "{} bytes",
        rest.len()
    );
    let (all, proxy) = drained.await.unwrap();
    assert!(all, "all has ended");
    assert_eq!(proxy.listen().connections, 0);
    assert!(wait_until_async(BOUND, || backend.stats().open == 0).await);
}

#[tokio::test]
async fn pipelined_requests_that_were_received_are_not_half_answered() {
    let backend = HttpBackend::start("b").unwrap();
    backend.behave(HttpBehaviour::slow(ms(200)));
    let proxy = Proxy::http(&[backend.address()]);
    let mut client = proxy.connect().await;
    client.send(GET.repeat(3)).await.unwrap();
    assert!(wait_until_async(BOUND, || backend.stats().active == 1).await);
    let drained = drain(proxy, BOUND);
    let mut answered = 0;
    let end = loop {
        match client.read_response(BOUND).await {
            Ok(answer) => {
                assert_eq!(answer.status, 200);
                answered += 1;
                if answer.closes() {
                    break client.read_to_end(BOUND).await.unwrap().0;
                }
            }
            Err(WireError::Closed { got, .. } | WireError::Reset { got, .. }) => break got,
            Err(error) => panic!("{error}"),
        }
    };
    assert!(answered >= 1 && end.is_empty(), "{answered}, {end:?}");
    assert!(drained.await.unwrap().0);
}

#[tokio::test]
async fn what_does_not_end_is_left_at_the_limit() {
    let (tcp, http) = (
        TcpBackend::start("t").unwrap(),
        HttpBackend::start("h").unwrap(),
    );
    tcp.behave(TcpBehaviour::answering(TcpAnswer::Echo));
    http.behave(HttpBehaviour::answering(Answer::Never));
    for proxy in [Proxy::tcp(&[tcp.address()]), Proxy::http(&[http.address()])] {
        let address = proxy.address();
        let mut client = proxy.connect().await;
        client.send(GET).await.unwrap();
        let busy = || proxy.counters().backends[0].1.active == 1;
        assert!(wait_until_async(BOUND, busy).await);
        let ((all, mut proxy), took) = timed(async { drain(proxy, ms(300)).await.unwrap() }).await;
        assert!(!all && took >= ms(290) && took < LATE, "{took:?}");
        until_refused(address).await;
        assert!(!proxy.plane.finish(), "it is still there");
        drop(client);
        assert!(
            wait_until_async(BOUND, || proxy.plane.finish()).await,
            "and then it is not"
        );
    }
}

#[tokio::test]
async fn who_waits_for_a_place_is_still_served() {
    let backend = HttpBackend::start("b").unwrap();
    backend.behave(HttpBehaviour::slow(ms(150)));
    let proxy = Proxy::http_with(vec![limited(backend.address(), 1)], |_| {});
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = proxy.connect().await;
        client.send(GET).await.unwrap();
        clients.push(client);
    }
    let queued = || proxy.counters_of(backend.address()).queued == 3;
    assert!(wait_until_async(BOUND, queued).await);
    let drained = drain(proxy, BOUND);
    for client in &mut clients {
        assert_eq!(client.read_response(BOUND).await.unwrap().status, 200);
    }
    assert!(drained.await.unwrap().0);
}

#[tokio::test]
async fn a_plane_with_nothing_to_do_ends_at_once() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    proxy.serves().await;
    let ((all, _), took) = timed(async { drain(proxy, BOUND).await.unwrap() }).await;
    assert!(all && took < LATE, "{took:?}");
}
