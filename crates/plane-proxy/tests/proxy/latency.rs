//! How long things take, as the plane counts it.

use plimsoll_plane::Latencies;
use plimsoll_testkit::{
    Answer, Ending, HttpBackend, HttpBehaviour, TcpAnswer, TcpBackend, TcpBehaviour,
    wait_until_async,
};

use crate::common::{BOUND, Proxy, limited, ms};

/// Waits until what was counted is so.
async fn counted(proxy: &Proxy, is: impl Fn(&Latencies) -> bool) -> Latencies {
    let so = wait_until_async(BOUND, || is(&proxy.counters().latency)).await;
    assert!(so, "{:?}", proxy.counters().latency);
    proxy.counters().latency
}

#[tokio::test]
async fn requests_are_counted_with_the_time_they_took() {
    let backend = HttpBackend::start("b").unwrap();
    backend.behave(HttpBehaviour::slow(ms(30)));
    let proxy = Proxy::http(&[backend.address()]);
    let mut client = proxy.connect().await;
    for _ in 0..3 {
        client.get("a", "/", BOUND).await.unwrap();
    }
    let latency = counted(&proxy, |l| l.duration.count() == 3).await;
    assert_eq!(latency.first_byte.count(), 3);
    // No faster than the backend, and the head no later than the end.
    assert!(latency.first_byte.sum >= 90_000, "{latency:?}");
    assert!(
        latency.duration.sum >= latency.first_byte.sum,
        "{latency:?}"
    );
    assert_eq!(
        latency.connect.count(),
        1,
        "kept connections are not counted again"
    );
    assert_eq!(latency.queue.count(), 0, "nobody waited");
}

#[tokio::test]
async fn what_no_backend_answered_is_left_out() {
    let backend = HttpBackend::start("b").unwrap();
    backend.refuse().await;
    let proxy = Proxy::http(&[backend.address()]);
    assert_eq!(proxy.get("a", "/").await.status, 502);
    assert_eq!(proxy.counters().latency, Latencies::default());
}

#[tokio::test]
async fn a_wait_in_the_queue_is_counted() {
    let backend = HttpBackend::start("b").unwrap();
    backend.behave(HttpBehaviour::answering(Answer::Never));
    let proxy = Proxy::http_with(vec![limited(backend.address(), 1)], |_| {});
    let mut first = proxy.connect().await;
    first
        .send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    assert!(wait_until_async(BOUND, || backend.stats().active == 1).await);
    backend.behave(HttpBehaviour::default());
    let mut second = proxy.connect().await;
    second
        .send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let waits = || proxy.counters_of(backend.address()).queued == 1;
    assert!(wait_until_async(BOUND, waits).await);
    drop(first);
    assert_eq!(second.read_response(BOUND).await.unwrap().status, 200);
    let latency = counted(&proxy, |l| l.duration.count() == 1).await;
    assert_eq!(latency.queue.count(), 1);
    assert!(latency.queue.sum > 0 && latency.queue.sum <= latency.duration.sum);
}

#[tokio::test]
async fn sessions_over_tcp_are_counted_when_they_end() {
    let backend = TcpBackend::start("b").unwrap();
    backend.behave(TcpBehaviour::answering(TcpAnswer::Echo));
    let proxy = Proxy::tcp(&[backend.address()]);
    let mut client = proxy.connect().await;
    client.send("hello").await.unwrap();
    assert_eq!(client.read_exact(5, BOUND).await.unwrap(), b"hello");
    let latency = proxy.counters().latency;
    assert_eq!((latency.connect.count(), latency.duration.count()), (1, 0));
    client.finish().await.unwrap();
    assert_eq!(client.read_to_end(BOUND).await.unwrap().1, Ending::Close);
    let latency = counted(&proxy, |l| l.duration.count() == 1).await;
    assert!(latency.duration.sum > latency.connect.sum, "{latency:?}");
    assert_eq!(
        latency.first_byte.count(),
        0,
        "bytes are not known as answers"
    );
}
