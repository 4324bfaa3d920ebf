//! The same for what backends answer.

use plimsoll_testkit::{Raw, WireError};

use super::case::{Case, cuts, unescape};
use super::recorder::{Recorder, Script, Seen};
use super::{own_answer, run_all};
use crate::common::{BOUND, Proxy};

const ASKED: &[u8] = b"GET /asked HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn every_answer_is_passed_on_or_refused_and_touches_no_other() {
    run_all("responses", |proxy, backend, case| async move {
        let whole = case.then.iter().any(|word| word == "whole");
        let ways = if whole { 1 } else { usize::MAX };
        for (way, pieces) in cuts(&case.sent).iter().enumerate().take(ways) {
            let place = format!("{}, cut {way}", case.name);
            run(&proxy, &backend, &case, pieces, &place).await;
        }
        proxy.settled().await;
    })
    .await;
}

async fn run(proxy: &Proxy, backend: &Recorder, case: &Case, pieces: &[&[u8]], place: &str) {
    let then = |word: &str| case.then.iter().any(|other| other == word);
    backend.script(Script {
        pieces: pieces.iter().map(|piece| piece.to_vec()).collect(),
        close: then("close"),
    });
    let asked: &[u8] = if case.asked.is_empty() {
        ASKED
    } else {
        &case.asked
    };
    let mut client = proxy.connect().await;
    client.send(asked).await.unwrap();
    let closes = answer(&mut client, case, asked, place).await;
    let seen = backend.take();
    let Some(Seen::Whole(first)) = seen.first() else {
        panic!("{place}: {seen:?}");
    };
    assert_eq!(seen.len(), 1, "{place}: {seen:?}");
    let mut other = proxy.connect().await;
    let next = if closes { &mut other } else { &mut client };
    let conn = own_answer(next, backend, place).await;
    if then("fresh") {
        assert_ne!(conn, first.conn, "{place}: its connection is used again");
    }
    own_answer(&mut other, backend, place).await;
}

/// Reads the answer; whether the client's connection ends with it.
async fn answer(client: &mut Raw, case: &Case, asked: &[u8], place: &str) -> bool {
    let [expected] = &case.answers[..] else {
        panic!("{place}: a case is about one answer");
    };
    let method = if asked.starts_with(b"HEAD ") {
        "HEAD"
    } else {
        "GET"
    };
    let answer = client.read_response_to(method, BOUND).await;
    if expected.cut {
        let broken = matches!(
            answer,
            Err(WireError::Closed { .. } | WireError::Reset { .. })
        );
        assert!(broken, "{place}: {answer:?}");
        return true;
    }
    let answer = answer.unwrap_or_else(|error| panic!("{place}: {error}"));
    assert_eq!(answer.status, expected.status, "{place}: {answer:?}");
    assert_eq!(answer.closes(), expected.close, "{place}: {answer:?}");
    assert!(answer.interim.is_empty(), "{place}: {answer:?}");
    if let Some(body) = expected.what.strip_prefix('"') {
        let body = body.strip_suffix('"').expect("the end of the body");
        let got = answer.body.bytes.escape_ascii().to_string();
        assert_eq!(got, unescape(body).escape_ascii().to_string(), "{place}");
    }
    for (name, value) in &case.with {
        let values: Vec<&str> = answer.head.all(name).collect();
        assert_eq!(values, [value], "{place}: {answer:?}");
    }
    for name in &case.without {
        assert_eq!(answer.head.get(name), None, "{place}: {answer:?}");
    }
    if expected.close {
        let end = client.read_to_end(BOUND).await.unwrap();
        assert!(end.0.is_empty(), "{place}: {end:?}");
    }
    expected.close
}
