//! Any bytes of a backend: a client gets sound answers, and the next request gets its own.
//!
//! The input is one byte of switches (the method, an upgrade, whether the backend closes) and then
//! the bytes of the answer. On stable: `./scripts/fuzz 60 http_backend`.
#![no_main]

#[path = "../stage/mod.rs"]
mod stage;

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;

thread_local!(static STAGE: RefCell<stage::Stage> = RefCell::new(stage::Stage::open()));

const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n";

fuzz_target!(|input: &[u8]| {
    let Some((switches, bytes)) = input.split_first() else {
        return;
    };
    let (method, body) = match switches & 3 {
        0 | 1 => ("GET", ""),
        2 => ("HEAD", ""),
        _ => ("POST", "abc"),
    };
    let length = body.len();
    let extra = match switches & 4 {
        0 => format!("Content-Length: {length}"),
        _ => "Connection: upgrade\r\nUpgrade: websocket".to_owned(),
    };
    let body = if switches & 4 == 0 { body } else { "" };
    let asked = format!("{method} /first HTTP/1.1\r\nHost: a\r\n{extra}\r\n\r\n{body}");
    let script = stage::Script {
        bytes: &bytes[..bytes.len().min(16_000)],
        close: switches & 8 != 0,
    };
    let first = |answers: &[u8]| stage::answer(answers, method).is_some();
    let played = STAGE.with_borrow_mut(|stage| {
        stage.play(asked.as_bytes(), 0, Some(script), Some((NEXT, &first)))
    });
    let Some(answer) = stage::answer(&played.answers, method) else {
        return;
    };
    if answer.status == 101 {
        return;
    }
    let rest = &played.answers[answer.used..];
    if rest.is_empty() {
        // The connection may end with the first answer; and the client says no more behind the next
        // request, which counts as leaving.
        return;
    }
    let next = stage::answer(rest, "GET").expect("a whole answer to the next request");
    assert_eq!(
        next.seen.as_deref(),
        Some("GET /next 0"),
        "{}",
        rest.escape_ascii()
    );
    assert_eq!(next.used, rest.len(), "{}", rest.escape_ascii());
});
