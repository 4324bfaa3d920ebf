//! The framing of the gate beside hyper's own.
//!
//! A hyper connection goes from one client to the next when the framing says that nothing of the
//! first is left in it. So whatever passes the framing as whole messages, hyper has to read as whole
//! messages, too: the next request must be just what it is.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use plimsoll_plane_proxy::{Framing, Limits, Then, hide_close};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const MARKER: &str = "GET /marker HTTP/1.1\r\nHost: marker\r\n\r\n";

/// What passes as whole messages, the last request's word that it is the last hidden; none if what
/// passes ends within a message.
fn whole_messages(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut framing = Framing::new(Limits::default());
    let outcome = framing.feed(bytes);
    let mut passed = bytes.get(..outcome.pass)?.to_vec();
    match outcome.then {
        Then::More if !framing.in_head() => None,
        Then::More | Then::Hold | Then::Reject(_) | Then::Upgrade => Some(passed),
        Then::Last { close } => {
            hide_close(&mut passed, close);
            Some(passed)
        }
        Then::Break => None,
    }
}

/// What hyper's service saw: target, fields, bytes of the body.
type Seen = Vec<(String, usize, usize)>;

/// Feeds hyper; what it saw, and whether it still serves.
async fn serve(bytes: &[u8]) -> (Seen, bool) {
    let seen = Arc::new(Mutex::new(Seen::new()));
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let record = seen.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let record = record.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body
                .collect()
                .await
                .map_or(usize::MAX, |body| body.to_bytes().len());
            record
                .lock()
                .unwrap()
                .push((head.uri.to_string(), head.headers.len(), body));
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None).half_close(true);
    let connection = builder.serve_connection(TokioIo::new(server), service);
    let serving = tokio::spawn(async move { drop(connection.await) });
    client.write_all(bytes).await.unwrap();
    let is_marker = || {
        seen.lock()
            .unwrap()
            .last()
            .is_some_and(|(uri, ..)| uri == "/marker")
    };
    let mut waste = [0; 4096];
    let until = tokio::time::Instant::now() + Duration::from_secs(2);
    // Each answer is a reason to look; so is the end.
    while !is_marker() && !serving.is_finished() && tokio::time::Instant::now() < until {
        let _ = tokio::time::timeout(Duration::from_millis(20), client.read(&mut waste)).await;
    }
    let open = !serving.is_finished();
    serving.abort();
    let seen = seen.lock().unwrap().clone();
    (seen, open)
}

#[tokio::test]
async fn the_next_request_is_seen_behind_whole_messages() {
    for (bytes, messages) in [
        ("", 0),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\r\n",
            1,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nT: v\r\n\r\n",
            1,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            1,
        ),
    ] {
        let passed = whole_messages(bytes.as_bytes()).unwrap();
        let (seen, _) = serve(&[&passed, MARKER.as_bytes()].concat()).await;
        assert_eq!(seen.len(), messages + 1, "{bytes:?}: {seen:?}");
        assert_eq!(seen[messages], ("/marker".to_owned(), 1, 0));
    }
    // And a body that is announced and does not come swallows it, which is what this looks for.
    let cut = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n";
    assert_eq!(whole_messages(cut.as_bytes()), None);
    let (seen, open) = serve(&[cut.as_bytes(), MARKER.as_bytes()].concat()).await;
    assert!(seen.is_empty() && open);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn hyper_ends_messages_where_the_framing_does(
        parts in proptest::collection::vec(prop_oneof![
            4 => proptest::sample::select(vec![
                "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
                "HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \tChunked \r\n\r\n",
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
                "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nconnection:\tClose \r\n\r\n",
                "5\r\nhello\r\n", "5;x=y\r\nhello\r\n", "00005\r\nhello\r\n", "0\r\n\r\n",
                "0\r\nT: v\r\n\r\n", "0;x\r\n\r\n", "hello", "\r\n",
            ]).prop_map(str::to_owned),
            1 => proptest::sample::select(vec![
                "5 \r\nhello\r\n", "5\nhello\r\n", "+5\r\n", "0x5\r\n", "\n", "\r", " ", "0\r\n",
                "GET / HTTP/1.0\r\n\r\n", "Upgrade: x\r\n", "Connection: close\r\n", ": x\r\n",
                "Content-Length: 05\r\n", "Content-Length : 5\r\n", "Transfer-Encoding: x\r\n",
            ]).prop_map(str::to_owned),
            1 => "[ -~\r\n]{0,12}",
        ], 1..9),
    ) {
        let bytes = parts.concat();
        let Some(passed) = whole_messages(bytes.as_bytes()) else { return Ok(()) };
        let mut all = passed;
        all.extend_from_slice(MARKER.as_bytes());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (seen, open) = runtime.block_on(serve(&all));
        let marker = seen.iter().position(|(uri, ..)| uri.contains("marker"));
        match marker {
            Some(at) => {
                prop_assert_eq!(at + 1, seen.len());
                prop_assert_eq!(&seen[at], &("/marker".to_owned(), 1, 0));
            }
            // Stricter than the framing is fine: such a connection serves nobody any more.
            None => prop_assert!(!open, "the next request was swallowed: {:?} saw {:?}", bytes, seen),
        }
        prop_assert!(seen.iter().all(|(uri, ..)| uri == "/marker" || !uri.contains("marker")));
    }
}
