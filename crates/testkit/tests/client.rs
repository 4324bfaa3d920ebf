//! The counting client sees everything that goes wrong, and nothing else.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::time::Duration;

use plimsoll_testkit::{
    Answer, Client, ClientPlan, Ending, HttpBackend, HttpBehaviour, Phase, Report, Reuse,
    TcpAnswer, TcpBackend, TcpBehaviour, TunnelPlan, Tunnels,
};

const BOUND: Duration = Duration::from_secs(10);

/// What a client of one task says about ten requests to a backend that behaves so.
async fn ten(behaviour: HttpBehaviour, reuse: Reuse) -> Report {
    let backend = HttpBackend::start("b1").unwrap();
    backend.behave(behaviour);
    let plan = ClientPlan {
        tasks: 1,
        reuse,
        bound: Duration::from_millis(300),
        ..ClientPlan::http(backend.address(), "a")
    };
    Client::run(plan, 10).await
}

/// All ten failed, each for a reason with these words.
#[track_caller]
fn all_failed(report: &Report, words: &str) {
    assert_eq!(
        (report.answered, report.failures.len()),
        (0, 10),
        "{report}"
    );
    for failure in &report.failures {
        assert!(failure.reason.contains(words), "{report}");
        assert!(!failure.id.is_empty());
    }
}

#[tokio::test]
async fn good_answers_are_counted() {
    for reuse in [Reuse::Keep, Reuse::Never, Reuse::Times(3)] {
        for chunked in [false, true] {
            let backend = HttpBackend::start("b1").unwrap();
            let plan = ClientPlan {
                reuse,
                chunked,
                want: vec![0, 100, 70_000],
                post_every: 3,
                post_bytes: 5000,
                tasks: 4,
                ..ClientPlan::http(backend.address(), "a").path("/some/where")
            };
            let report = Client::run(plan, 120).await;
            report.assert_clean();
            assert_eq!((report.answered, report.of("b1")), (120, 120));
            assert_eq!(backend.stats().requests, 120);
            assert_eq!(backend.stats().connections, report.connections);
            match reuse {
                Reuse::Keep => assert_eq!(report.connections, 4),
                Reuse::Never => assert_eq!(report.connections, 120),
                Reuse::Times(_) => assert!((40..=44).contains(&report.connections), "{report}"),
            }
            let seen = backend.seen();
            assert!(seen.iter().all(|seen| seen.head.target() == "/some/where"));
            assert_eq!(
                seen.iter()
                    .filter(|seen| seen.head.method() == "POST")
                    .count(),
                40
            );
        }
    }
}

#[tokio::test]
async fn lost_answers_are_seen() {
    all_failed(
        &ten(HttpBehaviour::answering(Answer::Never), Reuse::Keep).await,
        "within",
    );
    let cut = Answer::Cut(Phase::Request, Ending::Close);
    all_failed(
        &ten(HttpBehaviour::answering(cut), Reuse::Keep).await,
        "closed in the head",
    );
    let cut = Answer::Cut(Phase::Request, Ending::Reset);
    all_failed(
        &ten(HttpBehaviour::answering(cut), Reuse::Never).await,
        "reset in the head",
    );
}

#[tokio::test]
async fn truncated_answers_are_seen() {
    let short = HttpBehaviour::answering(Answer::TooLittle(1));
    all_failed(&ten(short, Reuse::Keep).await, "closed in the body");
    let cut = HttpBehaviour::answering(Answer::Cut(Phase::Body, Ending::Reset));
    all_failed(&ten(cut, Reuse::Keep).await, "reset in the body");
    // Where the body ends with the connection, nothing but the expected length tells.
    let shorter = HttpBehaviour {
        bytes: 201,
        ..HttpBehaviour::answering(Answer::UntilClose)
    };
    all_failed(&ten(shorter, Reuse::Keep).await, "201 bytes instead of 200");
}

#[tokio::test]
async fn mixed_up_answers_are_seen() {
    let mixed = HttpBehaviour::answering(Answer::Mixed("9-9".to_owned()));
    all_failed(&ten(mixed, Reuse::Keep).await, "the answer to [\"9-9\"]");
}

#[tokio::test]
async fn doubled_answers_are_seen() {
    for reuse in [Reuse::Keep, Reuse::Never] {
        let report = ten(HttpBehaviour::answering(Answer::Doubled), reuse).await;
        assert_eq!(report.failures.len(), 10, "{report}");
        assert!(
            report
                .failures
                .iter()
                .all(|failure| failure.reason.contains("bytes behind"))
        );
        let report = ten(HttpBehaviour::answering(Answer::TooMuch(1)), reuse).await;
        assert_eq!(report.failures.len(), 10, "{report}");
    }
}

#[tokio::test]
async fn wrong_statuses_and_garbage_are_seen() {
    let unavailable = HttpBehaviour {
        status: 503,
        ..HttpBehaviour::default()
    };
    all_failed(
        &ten(unavailable, Reuse::Keep).await,
        "status 503 instead of 200",
    );
    let garbage = HttpBehaviour::answering(Answer::Garbage(b"what?\r\n\r\n".to_vec()));
    all_failed(&ten(garbage, Reuse::Keep).await, "malformed");
}

#[tokio::test]
async fn a_refused_connection_is_a_failure() {
    let backend = HttpBackend::start("b1").unwrap();
    backend.refuse().await;
    let plan = ClientPlan::http(backend.address(), "a");
    all_failed(&Client::run(plan, 10).await, "cannot connect");
}

#[tokio::test]
async fn closes_between_requests_are_no_failures() {
    let announced = HttpBehaviour {
        announce_close: true,
        ..HttpBehaviour::default()
    };
    let report = ten(announced, Reuse::Keep).await;
    report.assert_clean();
    assert_eq!((report.connections, report.closed_idle), (10, 0));
    let backend = HttpBackend::start("b1").unwrap();
    backend.behave(HttpBehaviour {
        close_after: Some(2),
        ..HttpBehaviour::default()
    });
    let plan = ClientPlan {
        tasks: 1,
        pause: Duration::from_millis(50),
        ..ClientPlan::http(backend.address(), "a")
    };
    let report = Client::run(plan, 10).await;
    report.assert_clean();
    assert_eq!((report.connections, report.closed_idle), (5, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_runs_in_the_background_until_it_is_stopped() {
    let backend = HttpBackend::start("b1").unwrap();
    let client = Client::start(ClientPlan::http(backend.address(), "a"));
    assert!(client.more(500, BOUND).await);
    assert!(client.answered_by("b1") >= 500);
    backend.kill(Ending::Reset).await;
    backend.listen_again().unwrap();
    assert!(client.more(500, BOUND).await);
    let failed = client.failed();
    let report = client.stop().await;
    assert_eq!(report.failures.len() as u64, failed, "{report}");
    assert!(failed > 0, "a killed backend costs requests: {report}");
    // Every request that the backend has seen is either answered or failed.
    assert!(report.answered <= backend.stats().requests);
}

#[tokio::test]
async fn tcp_exchanges_are_checked() {
    let backend = TcpBackend::start("t1").unwrap();
    for reuse in [Reuse::Keep, Reuse::Never] {
        let plan = ClientPlan {
            reuse,
            want: vec![1, 1000, 100_000],
            bound: Duration::from_millis(500),
            ..ClientPlan::tcp(backend.address())
        };
        let report = Client::run(plan.clone(), 100).await;
        report.assert_clean();
        assert_eq!(report.of("t1"), 100);
        for (answer, words) in [
            (TcpAnswer::Never, "within"),
            (TcpAnswer::CutHalfway(Ending::Close), "closed in"),
            (TcpAnswer::CutHalfway(Ending::Reset), "reset in"),
            (TcpAnswer::Echo, "instead of"),
        ] {
            backend.behave(TcpBehaviour::answering(answer));
            all_failed(&Client::run(plan.clone(), 10).await, words);
        }
        backend.behave(TcpBehaviour::default());
    }
}

#[tokio::test]
async fn tunnels_tell_when_they_break() {
    let backend = HttpBackend::start("b1").unwrap();
    let tcp = TcpBackend::start("t1").unwrap();
    for (plan, name) in [
        (TunnelPlan::http(backend.address(), "a", 5), "b1"),
        (TunnelPlan::tcp(tcp.address(), 5), "t1"),
    ] {
        let tunnels = Tunnels::open(plan.clone()).await.unwrap();
        assert_eq!(tunnels.backends(), [name; 5]);
        assert!(tunnels.more(20, BOUND).await);
        let report = tunnels.stop().await;
        report.assert_clean();
        assert_eq!(report.of(name).count(), 5);

        let tunnels = Tunnels::open(plan).await.unwrap();
        assert!(tunnels.more(10, BOUND).await);
        backend.kill(Ending::Reset).await;
        tcp.kill(Ending::Close).await;
        let broken = || tunnels.broken() == 5;
        assert!(plimsoll_testkit::wait_until_async(BOUND, broken).await);
        let report = tunnels.stop().await;
        assert!(report.tunnels.iter().all(|tunnel| tunnel.broken.is_some()));
        backend.listen_again().unwrap();
        tcp.listen_again().unwrap();
    }
    backend.refuse().await;
    assert!(
        Tunnels::open(TunnelPlan::http(backend.address(), "a", 1))
            .await
            .is_err()
    );
}
