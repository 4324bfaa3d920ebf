use proptest::prelude::*;

use super::*;

fn feed(text: &str) -> Outcome {
    Framing::new(Limits::default()).feed(text.as_bytes())
}

fn rejected(text: &str) -> u16 {
    match feed(text).then {
        Then::Reject(status) => status,
        other => panic!("{text:?}: {other:?}"),
    }
}

#[test]
fn what_is_right_passes() {
    for text in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: Chunked\r\n\r\n3;x=\"y\"\r\nabc\r\n0\r\nt: v\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nEmpty:\r\n\r\n",
    ] {
        assert_eq!(
            feed(text),
            Outcome {
                pass: text.len(),
                then: Then::More
            },
            "{text:?}"
        );
    }
}

#[test]
fn what_is_ambiguous_is_refused() {
    let post = |fields: &str| rejected(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n"));
    assert_eq!(post("Content-Length: 3\r\nTransfer-Encoding: chunked"), 400);
    assert_eq!(post("Transfer-Encoding: chunked\r\nContent-Length: 3"), 400);
    assert_eq!(post("Content-Length: 3\r\nContent-Length: 4"), 400);
    assert_eq!(post("Content-Length: 3, 3"), 400);
    assert_eq!(post("Content-Length: +3"), 400);
    assert_eq!(post("Content-Length: 0x3"), 400);
    assert_eq!(post("Content-Length:"), 400);
    assert_eq!(post("Content-Length: 99999999999999999999"), 400);
    assert_eq!(
        post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        400
    );
    assert_eq!(post("Transfer-Encoding: identity"), 400);
    assert_eq!(post("Transfer-Encoding: chunked, gzip"), 400);
    assert_eq!(post("Transfer-Encoding: gzip, chunked"), 501);
    assert_eq!(post("Transfer-Encoding: xchunked"), 400);
    assert_eq!(post("Content-Length : 3"), 400);
    assert_eq!(post("X: a\r\n folded"), 400);
    assert_eq!(post("X: a\rb"), 400);
    assert_eq!(post("X: a\nY: b"), 400);
    assert_eq!(post("no colon"), 400);
    assert_eq!(post(": no name"), 400);
    assert_eq!(post("Host: b"), 400);
    assert_eq!(
        rejected("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        400
    );
    assert_eq!(rejected("GET / HTTP/1.1\r\n\r\n"), 400);
    assert_eq!(rejected("GET / HTTP/1.1\nHost: a\n\n"), 400);
    assert_eq!(rejected("GET /\r\n"), 400);
    for control in ['\0', '\u{1}', '\t', '\u{1b}', '\u{7f}'] {
        let text = format!("GET /a{control} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(rejected(&text), 400, "{text:?}");
    }
    assert_eq!(rejected("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505);
}

#[test]
fn what_is_too_large_is_refused_before_it_ends() {
    let long = "a".repeat(9000);
    assert_eq!(rejected(&format!("GET /{long}")), 414);
    assert_eq!(rejected(&format!("GET /{long} HTTP/1.1\r\n")), 414);
    let huge = "a".repeat(40_000);
    assert_eq!(rejected(&format!("GET / HTTP/1.1\r\nX: {huge}")), 431);
    let many = "X: a\r\n".repeat(101);
    assert_eq!(rejected(&format!("GET / HTTP/1.1\r\n{many}")), 431);
    assert_eq!(rejected(&"\r\n".repeat(40_000)), 431);
}

#[test]
fn the_first_message_passes_when_the_second_is_refused() {
    let good = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let outcome = feed(&format!("{good}GET / HTTP/9.9\r\n\r\n"));
    assert_eq!(
        outcome,
        Outcome {
            pass: good.len(),
            then: Then::Reject(505)
        }
    );
}

#[test]
fn broken_chunks_break_the_body() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in [
        "\r\n",
        "x\r\n",
        ";a\r\n",
        "3\nabc",
        "3\r\nabcd",
        "3\r\nabc\n",
        "-1\r\n",
        "0x3\r\n",
        "1000000000000000\r\n",
        "3 \r\nabc",
        "0\r\nt: v\n\r\n",
        "0\r\n t: v\r\n\r\n",
        "3;\u{1}\r\n",
    ] {
        assert_eq!(feed(&format!("{head}{body}")).then, Then::Break, "{body:?}");
    }
    let long = "a".repeat(300);
    assert_eq!(feed(&format!("{head}3;{long}\r\n")).then, Then::Break);
    let trailers = "t: v\r\n".repeat(2000);
    assert_eq!(
        feed(&format!("{head}0\r\n{trailers}\r\n")).then,
        Then::Break
    );
}

#[test]
fn an_upgrade_stops_what_comes_after_its_head() {
    let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    let outcome = feed(&format!("{head}early"));
    assert_eq!(
        outcome,
        Outcome {
            pass: head.len(),
            then: Then::Upgrade
        }
    );
    let body = "POST / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nContent-Length: 5\r\n\r\nearly";
    assert_eq!(
        feed(body),
        Outcome {
            pass: body.len(),
            then: Then::More
        }
    );
}

#[test]
fn the_last_request_is_found_and_its_word_can_be_hidden() {
    for field in [
        "Connection: close",
        "connection:close",
        "CONNECTION: \t CLOSE \t",
        "Content-Length: 0\r\nConnection: Close",
        "Connection: close\r\nTE: trailers\r\nExpect: 100-continue",
        "Proxy-Connection: keep-alive\r\nConnection: close\r\nX-Connection: close",
    ] {
        let before = "GET /0 HTTP/1.1\r\nHost: a\r\n\r\n";
        let head = format!("{before}\r\nGET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
        let mut framing = Framing::new(Limits::default());
        let mut bytes = format!("{head}GET /more HTTP/1.1\r\n").into_bytes();
        let outcome = framing.feed(&bytes);
        let Then::Last { close } = outcome.then else {
            panic!("{field:?}: {outcome:?}");
        };
        assert_eq!(
            (outcome.pass, framing.heads()),
            (head.len(), 2),
            "{field:?}"
        );
        let nothing = Outcome {
            pass: 0,
            then: Then::Break,
        };
        assert_eq!(framing.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), nothing);
        assert!(bytes[close..].to_ascii_lowercase().starts_with(b"close"));
        hide_close(&mut bytes, close);
        let hidden = String::from_utf8(bytes).unwrap();
        let names = |text: &str| -> Vec<String> {
            let names = text
                .split("\r\n")
                .map(|line| line.split(':').next().unwrap().to_owned());
            names.collect()
        };
        assert_eq!(
            names(&hidden),
            names(&format!("{head}GET /more HTTP/1.1\r\n"))
        );
        let rest = &hidden[..outcome.pass];
        assert_eq!(
            feed(rest),
            Outcome {
                pass: rest.len(),
                then: Then::More
            },
            "{rest:?}"
        );
    }
}

#[test]
fn hiding_touches_nothing_else() {
    for (text, close) in [
        ("close", 1),
        ("clos", 0),
        ("close", 5),
        ("close", usize::MAX),
        ("cloze", 0),
    ] {
        let mut bytes = text.as_bytes().to_vec();
        hide_close(&mut bytes, close);
        assert_eq!(bytes, text.as_bytes());
    }
}

#[test]
fn what_is_not_plainly_the_last_goes_on() {
    let more = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for head in [
        "GET / HTTP/1.0\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close,\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: \"close\"\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nconnection: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX-Connection: close\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let both = format!("{head}{more}");
        let outcome = Outcome {
            pass: both.len(),
            then: Then::More,
        };
        assert_eq!(feed(&both), outcome, "{head:?}");
    }
    let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nUpgrade: x\r\n\r\n";
    assert_eq!(feed(upgrade).then, Then::Upgrade);
    assert_eq!(rejected("GET / HTTP/1.1\r\nConnection: close\r\n\r\n"), 400);
    let lone = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\r\n\r\n";
    assert_eq!(rejected(lone), 400);
}

/// Feeds in pieces as a connection does, and gives all that passed and the last verdict.
fn in_pieces(bytes: &[u8], cuts: &[usize]) -> (Vec<u8>, Then) {
    let mut framing = Framing::new(Limits::default());
    let (mut passed, mut held, mut last) = (Vec::new(), Vec::new(), Then::More);
    let mut cuts: Vec<usize> = cuts.iter().map(|c| c % (bytes.len() + 1)).collect();
    cuts.push(bytes.len());
    cuts.sort_unstable();
    let mut from = 0;
    for cut in cuts {
        held.extend_from_slice(&bytes[from..cut]);
        from = cut;
        if held.is_empty() {
            continue;
        }
        let outcome = framing.feed(&held);
        last = outcome.then;
        if let Then::Last { close } = &mut last {
            hide_close(&mut held, *close);
            // Where it stands in all that has passed.
            *close += passed.len();
        }
        passed.extend(held.drain(..outcome.pass));
        if !matches!(last, Then::More | Then::Hold) {
            break;
        }
    }
    (passed, last)
}

proptest! {
    #[test]
    fn how_bytes_are_cut_makes_no_difference(
        parts in proptest::collection::vec(proptest::sample::select(vec![
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "\r\n", "GET", " / ", "HTTP/1.1\r\n", "Host: b\r\n", "\n", "\r", "X: y\r\n", "0\r\n",
            "Upgrade: x\r\n", "Content-Length: 1\r\n", "Connection: close\r\n", "\r\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        ]), 1..8),
        cuts in proptest::collection::vec(any::<usize>(), 0..12),
    ) {
        let bytes = parts.concat().into_bytes();
        let whole = in_pieces(&bytes, &[]);
        prop_assert_eq!(in_pieces(&bytes, &cuts), whole);
    }

    #[test]
    fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let outcome = Framing::new(Limits::default()).feed(&bytes);
        prop_assert!(outcome.pass <= bytes.len());
    }
}
