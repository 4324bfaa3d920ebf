//! Any bytes of a client: what reaches a backend is well framed, no answer is too much or another's,
//! and the connection ends. The client closes its side behind its last byte, which counts as leaving:
//! answers may be missing.
//!
//! The input is how to cut (one byte: the length of the pieces, 0 for no cut) and then the bytes.
//! On stable: `./scripts/fuzz 60 http_client`.
#![no_main]

#[path = "../stage/mod.rs"]
mod stage;

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use plimsoll_plane_proxy::{Framing, Limits, Then};

thread_local!(static STAGE: RefCell<stage::Stage> = RefCell::new(stage::Stage::open()));

fuzz_target!(|input: &[u8]| {
    let Some((cut, bytes)) = input.split_first() else {
        return;
    };
    let played = STAGE.with_borrow_mut(|stage| stage.play(bytes, usize::from(*cut), None, None));
    let mut rest = played.answers.as_slice();
    let (mut seen, mut own) = (Vec::new(), 0);
    // One of the plane's own may be to a HEAD, and has no body then.
    let read = |rest: &[u8], method| {
        stage::answer(rest, method).filter(|answer| {
            answer.used == rest.len() || rest[answer.used..].starts_with(b"HTTP/1.")
        })
    };
    while let Some(answer) = read(rest, "GET").or_else(|| read(rest, "HEAD")) {
        rest = &rest[answer.used..];
        match answer.seen {
            Some(what) => seen.push(what),
            None => own += 1,
        }
    }
    // To one who has left, what is missing may be the answer behind this.
    while let Some(behind) = rest.strip_prefix(b"HTTP/1.1 100 Continue\r\n\r\n") {
        rest = behind;
    }
    assert!(rest.is_empty() || played.reset, "{}", rest.escape_ascii());
    assert!(
        played.heard.starts_with(&seen),
        "{seen:?} to {:?}",
        played.heard
    );
    let heads = heads(bytes);
    // The backend closes nothing, so nothing is sent twice: what is more was smuggled.
    assert!(
        played.heard.len() <= heads,
        "{:?} of {heads} heads",
        played.heard
    );
    assert!(
        seen.len() + own <= heads,
        "{seen:?} and {own} to {heads} heads"
    );
});

/// How many requests there are at most, one that is refused included.
fn heads(bytes: &[u8]) -> usize {
    let mut framing = Framing::new(Limits::default());
    let mut at = 0;
    loop {
        let outcome = framing.feed(&bytes[at..]);
        at += outcome.pass;
        // After an upgrade that is not granted the rest counts.
        if outcome.then != Then::Upgrade {
            let refused = matches!(outcome.then, Then::Reject(_));
            return usize::try_from(framing.heads()).unwrap() + usize::from(refused);
        }
    }
}
