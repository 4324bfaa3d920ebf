//! Any bytes are judged the same however they are cut, and what passes is framed in one way only.
//!
//! The input is how to cut (one byte: the length of the pieces, 0 for no cut) and then the bytes.
//! On stable: `cargo fuzz run -s none framing -- -max_total_time=60`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll_plane_proxy::{Framing, Limits, Outcome, Then, hide_close};

fuzz_target!(|input: &[u8]| {
    let Some((cut, bytes)) = input.split_first() else {
        return;
    };
    let whole = judge(bytes, bytes.len());
    assert_eq!(judge(bytes, usize::from(*cut)), whole, "cut every {cut}");
    plain(&whole);
});

/// What has passed, the last verdict, and how many heads there were.
#[derive(Debug, PartialEq, Eq)]
struct Judged {
    passed: Vec<u8>,
    then: Then,
    heads: u64,
}

/// Feeds pieces as a connection does.
fn judge(bytes: &[u8], piece: usize) -> Judged {
    let limits = Limits::default();
    let mut framing = Framing::new(limits);
    let (mut passed, mut held) = (Vec::new(), Vec::new());
    let mut then = Then::More;
    for piece in bytes.chunks(piece.max(1)) {
        held.extend_from_slice(piece);
        let Outcome { pass, then: now } = framing.feed(&held);
        then = now;
        assert!(pass <= held.len());
        if let Then::Last { close } = &mut then {
            assert!(
                held[*close..pass]
                    .to_ascii_lowercase()
                    .starts_with(b"close")
            );
            hide_close(&mut held, *close);
            // Where it stands in all that has passed.
            *close += passed.len();
        }
        passed.extend(held.drain(..pass));
        match then {
            Then::More => assert!(held.is_empty()),
            Then::Hold => {
                assert!(framing.in_head() && !held.is_empty());
                assert!(
                    held.len() <= limits.head,
                    "no more is kept than a head may have"
                );
            }
            Then::Reject(status) => {
                assert!(matches!(status, 400 | 414 | 431 | 501 | 505));
                // Nothing passes after it.
                assert_eq!(framing.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").pass, 0);
                break;
            }
            Then::Break => {
                assert_eq!(framing.feed(b"0\r\n\r\n").pass, 0);
                break;
            }
            Then::Upgrade => break,
            Then::Last { .. } => {
                assert_eq!(framing.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").pass, 0);
                last(&passed);
                break;
            }
        }
    }
    if !matches!(then, Then::Hold) {
        held.clear();
    }
    Judged {
        passed,
        // How much of a head is there when the bytes end depends on nothing but the bytes.
        then,
        heads: framing.heads(),
    }
}

/// The last head, its word hidden, is one of HTTP/1.1 with a `Connection` field that says nothing
/// and no other, and asks for no upgrade.
fn last(passed: &[u8]) {
    let text = passed.to_ascii_lowercase();
    let text = text.strip_suffix(b"\r\n\r\n").expect("the end of a head");
    let from = text.windows(4).rposition(|window| window == b"\r\n\r\n");
    let head = String::from_utf8_lossy(&text[from.map_or(0, |at| at + 4)..]).into_owned();
    let mut lines = head.split("\r\n");
    // Behind what may be left of a body. A method of odd letters may look like a field.
    let found = lines.any(|line| line.ends_with(" http/1.1"));
    assert!(found, "{head:?}");
    let named = |name: &str| -> Vec<&str> {
        let fields = lines.clone().filter_map(|line| line.split_once(':'));
        let named = fields.filter(|(field, _)| *field == name);
        named.map(|(_, value)| value.trim()).collect()
    };
    assert_eq!(named("connection"), [""], "{head:?}");
    assert!(named("upgrade").is_empty(), "{head:?}");
}

/// Reads what has passed once more, in the simplest way: heads whose lines end with CRLF, and bodies
/// by exactly one length.
fn plain(judged: &Judged) {
    let mut rest = judged.passed.as_slice();
    let mut heads = 0;
    while !rest.is_empty() {
        while let Some(after) = rest.strip_prefix(b"\r\n") {
            rest = after;
        }
        let Some(end) = rest.windows(4).position(|window| window == b"\r\n\r\n") else {
            panic!("a part of a head has passed: {}", rest.escape_ascii());
        };
        let (head, after) = rest.split_at(end + 4);
        heads += 1;
        rest = match body(head) {
            Body::Length(length) => after.get(length..).unwrap_or_default(),
            Body::Chunks => chunks(after),
        };
    }
    assert_eq!(heads, judged.heads);
}

enum Body {
    Length(usize),
    Chunks,
}

fn body(head: &[u8]) -> Body {
    let text = String::from_utf8_lossy(head);
    let mut lengths = Vec::new();
    let (mut codings, mut hosts) = (0, 0);
    let lines: Vec<&str> = text.trim_end_matches("\r\n").split("\r\n").collect();
    for line in &lines[1..] {
        assert!(!line.contains(['\r', '\n']), "{line:?}");
        assert!(!line.starts_with([' ', '\t']), "{line:?}");
        let (name, value) = line.split_once(':').expect("a field has a colon");
        assert!(!name.ends_with([' ', '\t']), "{line:?}");
        match name.to_ascii_lowercase().as_str() {
            "content-length" => lengths.push(value.trim().parse::<u64>().expect("a number")),
            "transfer-encoding" => {
                assert!(value.trim().eq_ignore_ascii_case("chunked"), "{line:?}");
                codings += 1;
            }
            "host" => hosts += 1,
            _ => {}
        }
    }
    lengths.dedup();
    assert!(lengths.len() + codings <= 1, "{text:?}");
    assert!(
        hosts <= 1 && (hosts == 1 || lines[0].ends_with("HTTP/1.0")),
        "{text:?}"
    );
    match lengths.first() {
        Some(length) => Body::Length(usize::try_from(*length).unwrap_or(usize::MAX)),
        None if codings == 1 => Body::Chunks,
        None => Body::Length(0),
    }
}

/// What follows a body in chunks; nothing if it is not whole.
fn chunks(mut rest: &[u8]) -> &[u8] {
    loop {
        let Some(end) = rest.windows(2).position(|window| window == b"\r\n") else {
            return &[];
        };
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        let digits = line.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(digits, 16).expect("a size in hexadecimal digits");
        rest = &rest[end + 2..];
        if size == 0 {
            break;
        }
        let Some(after) = rest.get(size..) else {
            return &[];
        };
        match after {
            [b'\r', b'\n', more @ ..] => rest = more,
            [] | [b'\r'] => return &[],
            _ => panic!("a chunk that does not end: {}", after.escape_ascii()),
        }
    }
    loop {
        let Some(end) = rest.windows(2).position(|window| window == b"\r\n") else {
            return &[];
        };
        rest = &rest[end + 2..];
        if end == 0 {
            return rest;
        }
    }
}
