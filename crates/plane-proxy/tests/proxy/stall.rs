//! Clients that stand still in the middle of a body are cut off, those that are merely slow are not.

use std::time::Duration;

use plimsoll_testkit::{Answer, Ending, HttpBackend, HttpBehaviour, Raw, WANT_HEADER};

use crate::common::{BOUND, MOMENT, Proxy, limited, ms, timed};

/// How long a client may stand still; much more than a pause of one that is slow.
const PATIENCE: Duration = ms(800);

/// Longer than that.
const LONGER: Duration = ms(1500);

/// More than all buffers on the way hold.
const MUCH: usize = 32 << 20;

/// A plane with a place for one request, and little patience in the middle of bodies.
fn impatient(backend: &HttpBackend) -> Proxy {
    Proxy::http_with(vec![limited(backend.address(), 1)], |spec| {
        spec.timeouts.stall = PATIENCE;
    })
}

/// Nothing is held against the backend.
#[track_caller]
fn assert_blameless(proxy: &Proxy, backend: &HttpBackend) {
    let counters = proxy.counters_of(backend.address());
    assert_eq!((counters.failures, counters.active), (0, 0), "{counters:?}");
}

async fn asking_for(proxy: &Proxy, bytes: usize) -> Raw {
    let mut client = proxy.connect().await;
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{WANT_HEADER}: {bytes}\r\n\r\n");
    client.send(request).await.unwrap();
    client
}

#[tokio::test]
async fn a_body_that_stands_still_is_408_and_frees_its_place() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = impatient(&backend);
    let bodies = [
        "Content-Length: 10\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "Transfer-Encoding: chunked\r\n\r\nff\r\nab",
        "Content-Length: 10\r\n\r\n",
    ];
    for body in bodies {
        let mut client = proxy.connect().await;
        let head = "POST / HTTP/1.1\r\nHost: a\r\n";
        client.send(format!("{head}{body}")).await.unwrap();
        let (answer, took) = timed(client.read_response(BOUND)).await;
        let answer = answer.unwrap();
        assert!(answer.status == 408 && answer.closes(), "{answer:?}");
        assert!(took >= PATIENCE && took < BOUND, "{took:?}");
        // The only place there is.
        proxy.serves().await;
    }
    proxy.settled().await;
    assert_eq!(proxy.refused(408), bodies.len() as u64);
    assert_blameless(&proxy, &backend);
}

#[tokio::test]
async fn a_body_that_comes_slowly_is_waited_for() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = impatient(&backend);
    let mut client = proxy.connect().await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n";
    client.send(head).await.unwrap();
    let (sent, took) = timed(client.send_pieces(&["x"; 10], MOMENT)).await;
    sent.unwrap();
    assert!(took > PATIENCE, "{took:?}: too fast to show anything");
    assert_eq!(client.read_response(BOUND).await.unwrap().status, 200);
    proxy.settled().await;
    assert_blameless(&proxy, &backend);
}

#[tokio::test]
async fn who_takes_nothing_of_an_answer_is_reset_and_frees_its_place() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = impatient(&backend);
    for behaviour in [Answer::Length, Answer::UntilClose] {
        backend.behave(HttpBehaviour::answering(behaviour));
        let mut client = asking_for(&proxy, MUCH).await;
        client.read_head(BOUND).await.unwrap();
        // The only place there is.
        proxy.settled().await;
        let (got, ending) = client.read_to_end(BOUND).await.unwrap();
        assert!(got.len() < MUCH, "{} bytes", got.len());
        assert_eq!(ending, Ending::Reset);
        proxy.serves().await;
    }
    proxy.settled().await;
    assert_blameless(&proxy, &backend);
}

#[tokio::test]
async fn who_takes_an_answer_slowly_gets_it_all() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = impatient(&backend);
    let mut client = asking_for(&proxy, MUCH).await;
    let (_, took) = timed(async {
        client.read_head(BOUND).await.unwrap();
        for _ in 0..16 {
            client.read_exact(MUCH / 16, BOUND).await.unwrap();
            tokio::time::sleep(MOMENT).await;
        }
    })
    .await;
    assert!(took > PATIENCE, "{took:?}: too fast to show anything");
    proxy.settled().await;
    assert_blameless(&proxy, &backend);
}

#[tokio::test]
async fn small_steps_are_steps() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = impatient(&backend);
    let mut client = asking_for(&proxy, MUCH).await;
    client.read_head(BOUND).await.unwrap();
    // Far less in that time than has to go before the kernel says that there is room for more.
    let step = 96 << 10;
    let (_, took) = timed(async {
        for _ in 0..20 {
            client.read_exact(step, BOUND).await.unwrap();
            tokio::time::sleep(MOMENT).await;
        }
    })
    .await;
    assert!(took > 2 * PATIENCE, "{took:?}: too fast to show anything");
    client.read_exact(MUCH - 20 * step, BOUND).await.unwrap();
    proxy.settled().await;
    assert_blameless(&proxy, &backend);
}

#[tokio::test]
async fn a_backend_may_pause_in_an_answer() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = impatient(&backend);
    backend.behave(HttpBehaviour::answering(Answer::Slow {
        piece: 100,
        pause: LONGER,
    }));
    let answer = proxy.get("a", "/").await;
    assert_eq!(answer.status, 200);
    // The time to take an answer is over with it: an idle client is not waited for in this way.
    backend.behave(HttpBehaviour::default());
    let mut client = asking_for(&proxy, 100).await;
    client.read_response(BOUND).await.unwrap();
    let early = client.read_to_end(LONGER).await;
    assert!(early.is_err(), "closed early: {early:?}");
    assert_eq!(client.get("a", "/", BOUND).await.unwrap().status, 200);
    proxy.settled().await;
    assert_blameless(&proxy, &backend);
}

#[tokio::test]
async fn a_body_behind_an_answer_that_has_begun_is_waited_for_while_the_answer_moves() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = impatient(&backend);
    // The answer begins before the body has come, and goes on for longer than the patience lasts.
    backend.behave(HttpBehaviour::answering(Answer::Early { read_body: true }));
    let mut client = proxy.connect().await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n";
    client.send(format!("{head}abc")).await.unwrap();
    assert_eq!(
        client.read_head(BOUND).await.unwrap().status().unwrap(),
        200
    );
    // Nothing moves any more.
    client.read_to_end(BOUND).await.unwrap();
    proxy.settled().await;
    proxy.serves().await;
}
