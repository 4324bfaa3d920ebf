//! The scripted TCP backend.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::time::Duration;

use plimsoll_testkit::{Ending, Raw, TcpAnswer, TcpBackend, TcpBehaviour, WireError};

const BOUND: Duration = Duration::from_secs(5);

async fn connect(backend: &TcpBackend, answer: TcpAnswer) -> Raw {
    backend.behave(TcpBehaviour::answering(answer));
    Raw::connect(backend.address()).await.unwrap()
}

#[tokio::test]
async fn it_answers_as_told() {
    let backend = TcpBackend::start("t1").unwrap();
    let mut raw = connect(&backend, TcpAnswer::Exchange).await;
    for _ in 0..2 {
        raw.send("7 3\nabc").await.unwrap();
        assert_eq!(raw.read_exact(10, BOUND).await.unwrap(), b"t1 7 3\nabc");
    }
    assert_eq!(backend.stats().requests, 2);

    let mut raw = connect(&backend, TcpAnswer::Echo).await;
    raw.send("hello").await.unwrap();
    assert_eq!(raw.read_exact(5, BOUND).await.unwrap(), b"hello");
    raw.finish().await.unwrap();
    assert_eq!(
        raw.read_to_end(BOUND).await.unwrap(),
        (Vec::new(), Ending::Close)
    );

    let mut raw = connect(&backend, TcpAnswer::Greet).await;
    assert_eq!(raw.read_exact(3, BOUND).await.unwrap(), b"t1\n");

    // Answers only once the client is done: half-close.
    let mut raw = connect(&backend, TcpAnswer::Sum).await;
    raw.send("abc").await.unwrap();
    let early = raw.read_exact(1, Duration::from_millis(50)).await;
    assert!(matches!(early, Err(WireError::TimedOut { .. })));
    raw.finish().await.unwrap();
    let (bytes, ending) = raw.read_to_end(BOUND).await.unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), "t1 3 e71fa2190541574b\n");
    assert_eq!(ending, Ending::Close);
}

#[tokio::test]
async fn it_misbehaves_as_told() {
    let backend = TcpBackend::start("t1").unwrap();
    let mut raw = connect(&backend, TcpAnswer::Never).await;
    raw.send("7 3\nabc").await.unwrap();
    let nothing = raw.read_exact(1, Duration::from_millis(50)).await;
    assert!(matches!(nothing, Err(WireError::TimedOut { .. })));
    for ending in [Ending::Close, Ending::Reset] {
        let mut raw = connect(&backend, TcpAnswer::CutAtOnce(ending)).await;
        assert_eq!(raw.read_to_end(BOUND).await.unwrap(), (Vec::new(), ending));
        let mut raw = connect(&backend, TcpAnswer::CutHalfway(ending)).await;
        raw.send("7 3\nabc").await.unwrap();
        assert_eq!(
            raw.read_to_end(BOUND).await.unwrap(),
            (b"t1 7 ".to_vec(), ending)
        );
    }
    backend.refuse().await;
    assert!(Raw::connect(backend.address()).await.is_err());
}
