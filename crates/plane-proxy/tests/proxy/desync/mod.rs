//! Requests and answers that two programs could read in two ways, one by one, from
//! `tests/desync`: each has the answer it must get, however it is cut into segments, and neither
//! the next request nor another client gets anything but its own.

mod case;
mod recorder;
mod responses;
mod wire;

use std::sync::atomic::{AtomicU64, Ordering};

use plimsoll_plane_proxy::{Framing, Limits, Then};
use plimsoll_testkit::{Ending, Raw, Response};

use self::case::{Answer, Case, cuts, read_all};
use self::recorder::{Recorder, Seen};
use crate::common::{BOUND, Proxy, ms};

/// Cases side by side.
const LANES: usize = 4;

/// Lets the other side take a piece before the next is sent; nothing depends on whether it does.
async fn breathe(pieces: usize) {
    match pieces {
        0..=2 => tokio::time::sleep(ms(1)).await,
        _ => tokio::task::yield_now().await,
    }
}

/// Runs each case with a plane and a backend of its own, some side by side, and says all that fail.
async fn run_all<F: Future<Output = ()> + Send + 'static>(
    kind: &str,
    run: impl Fn(Proxy, Recorder, Case) -> F,
) {
    let mut running = tokio::task::JoinSet::new();
    let mut failed = 0;
    for case in read_all(kind) {
        if running.len() == LANES {
            failed += usize::from(running.join_next().await.unwrap().is_err());
        }
        let backend = Recorder::start().await;
        running.spawn(run(Proxy::http(&[backend.address()]), backend, case));
    }
    while let Some(result) = running.join_next().await {
        failed += usize::from(result.is_err());
    }
    assert_eq!(failed, 0, "cases failed: see above");
}

#[tokio::test]
async fn every_request_gets_its_answer_and_no_other() {
    run_all("requests", |proxy, backend, case| async move {
        for (way, pieces) in cuts(&case.sent).iter().enumerate() {
            let place = format!("{}, cut {way}", case.name);
            run(&proxy, &backend, &case, pieces, &place).await;
        }
        proxy.settled().await;
    })
    .await;
}

/// A request of our own, unlike any other.
fn fresh_request() -> (String, String) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let bytes = format!("GET /fresh/{n} HTTP/1.1\r\nHost: a\r\n\r\n");
    (bytes, format!("GET /fresh/{n} 0"))
}

/// Sends a request of our own, which is answered as such.
async fn own_answer(client: &mut Raw, backend: &Recorder, place: &str) -> u64 {
    let (bytes, what) = fresh_request();
    client.send(bytes).await.unwrap();
    let answer = client.read_response(BOUND).await;
    let answer = answer.unwrap_or_else(|error| panic!("{place}: the next request: {error}"));
    assert_eq!(
        (answer.status, answer.text()),
        (200, what.clone()),
        "{place}"
    );
    let seen = backend.take();
    let [Seen::Whole(asked)] = &seen[..] else {
        panic!("{place}: {seen:?}");
    };
    assert_eq!(asked.what, what, "{place}");
    asked.conn
}

async fn run(proxy: &Proxy, backend: &Recorder, case: &Case, pieces: &[&[u8]], place: &str) {
    if let Some(line) = &case.broken {
        backend.allow(line);
    }
    let mut client = proxy.connect().await;
    for piece in pieces {
        // It may have been refused already.
        if client.send(piece).await.is_err() {
            break;
        }
        breathe(pieces.len()).await;
    }
    let mut whole = Vec::new();
    for expected in &case.answers {
        let method = expected.what.split(' ').next().unwrap_or_default();
        let method = if method == "HEAD" { "HEAD" } else { "GET" };
        let answer = client.read_response_to(method, BOUND).await;
        let answer = answer.unwrap_or_else(|error| panic!("{place}: {error}"));
        agrees(expected, &answer, place);
        if !expected.what.is_empty() {
            whole.push(expected.what.clone());
        }
    }
    if case.answers.last().is_some_and(|answer| answer.close) {
        let end = client.read_to_end(BOUND).await;
        let end = end.unwrap_or_else(|error| panic!("{place} is not closed: {error}"));
        assert!(end.0.is_empty(), "{place}: {end:?}");
        // Who goes on after its own last word may find the door shut hard.
        let own = case
            .answers
            .last()
            .is_some_and(|answer| answer.what.is_empty());
        assert!(end.1 == Ending::Close || !own, "{place}: {end:?}");
    }
    let seen = backend.take();
    let mut last = None;
    let mut expected = whole.iter();
    for one in &seen {
        match one {
            Seen::Whole(asked) if Some(&asked.what) == expected.next() => last = Some(asked),
            other => panic!("{place}: a backend saw {other:?} instead of {whole:?}"),
        }
    }
    assert_eq!(expected.next(), None, "{place}: no backend saw it");
    for (name, value) in &case.with {
        let fields = &last.unwrap().fields;
        let values: Vec<&str> = fields
            .iter()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect();
        assert_eq!(values, [value], "{place}: {name} in {fields:?}");
    }
    for name in &case.without {
        let fields = &last.unwrap().fields;
        let there = fields
            .iter()
            .any(|(other, _)| other.eq_ignore_ascii_case(name));
        assert!(!there, "{place}: {name} in {fields:?}");
    }
    if case.answers.last().is_some_and(|answer| !answer.close) {
        own_answer(&mut client, backend, place).await;
    }
    own_answer(&mut proxy.connect().await, backend, place).await;
}

fn agrees(expected: &Answer, answer: &Response, place: &str) {
    assert_eq!(answer.status, expected.status, "{place}: {answer:?}");
    assert_eq!(answer.closes(), expected.close, "{place}: {answer:?}");
    let seen: Vec<&str> = answer.head.all("x-seen").collect();
    let wanted: Vec<&str> = match expected.what.as_str() {
        "" => Vec::new(),
        what => vec![what],
    };
    assert_eq!(seen, wanted, "{place}: {answer:?}");
}

/// However a request is cut, the verdict is the same: all cuts in two, and all at once.
#[test]
fn no_cut_changes_a_verdict() {
    for case in read_all("requests") {
        let whole = verdict(&[&case.sent]);
        let each: Vec<&[u8]> = case.sent.chunks(1).collect();
        assert_eq!(verdict(&each), whole, "{}, byte by byte", case.name);
        for at in (1..case.sent.len()).take(4_000) {
            let (before, after) = case.sent.split_at(at);
            assert_eq!(
                verdict(&[before, after]),
                whole,
                "{}, cut at {at}",
                case.name
            );
        }
    }
}

/// How many bytes may pass, how many heads are among them, and what comes then.
fn verdict(pieces: &[&[u8]]) -> (usize, u64, String) {
    let mut framing = Framing::new(Limits::default());
    let (mut held, mut passed) = (Vec::new(), 0);
    let mut then = Then::More;
    for piece in pieces {
        held.extend_from_slice(piece);
        let outcome = framing.feed(&held);
        then = match outcome.then {
            // Where the word is counts from the first byte that was shown.
            Then::Last { close } => Then::Last {
                close: close + passed,
            },
            other => other,
        };
        passed += outcome.pass;
        held.drain(..outcome.pass);
        if !matches!(then, Then::More | Then::Hold) {
            break;
        }
    }
    (passed, framing.heads(), format!("{then:?}"))
}
