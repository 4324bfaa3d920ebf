//! Huge, deep and odd files: an answer in bounded time and space, never a panic.
#![allow(clippy::panic, reason = "tests")]

mod common;

use std::time::{Duration, Instant};

use common::{check_backend, check_listen, check_service, errors};
use plimsoll_config::{Config, MAX_BYTES, MAX_DIAGNOSTICS, parse, render};
use proptest::prelude::*;

/// Parses on a stack of 2 MiB, as that of any thread, and within a time that only a walk that is
/// not linear can pass.
fn bounded(text: String) -> Result<Config, usize> {
    let run = move || {
        let start = Instant::now();
        let result = parse("file:x", &text).map_err(|errors| {
            assert!(errors.len() <= MAX_DIAGNOSTICS);
            assert!(errors.is_sorted_by_key(|error| (error.line, error.column)));
            let shown = render("f", &text, &errors);
            assert!(shown.len() < 100_000, "{} bytes shown", shown.len());
            errors.len()
        });
        let took = start.elapsed();
        assert!(took < Duration::from_secs(60), "{took:?}");
        result
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(run);
    let result = thread.map(std::thread::JoinHandle::join);
    match result {
        Ok(Ok(result)) => result,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_that_is_too_large() {
    let text = " ".repeat(MAX_BYTES + 1);
    let found = errors(&text);
    assert_eq!(
        found.first().map(ToString::to_string).unwrap_or_default(),
        "1:1: the file has 16777217 bytes; expected at most 16 MiB"
    );
    assert_eq!(bounded("\n".repeat(MAX_BYTES)), Ok(Config::default()));
}

#[test]
fn deep_nesting() {
    for depth in [33, 1000, 1_000_000] {
        assert_eq!(bounded(format!("a = {}", "[".repeat(depth))), Err(1));
        assert_eq!(bounded(format!("a = {}", "{a=".repeat(depth))), Err(1));
        assert_eq!(bounded(format!("[{}a]", "a.".repeat(depth))), Err(1));
        assert_eq!(
            bounded(format!("{}a = 1", "\"a\" . ".repeat(depth))),
            Err(1)
        );
        let both = "a.a.a.a.a.a.a.a.a";
        let text = format!(
            "a = {}1{}",
            format!("{{{both}=").repeat(depth),
            "}".repeat(depth)
        );
        assert_eq!(bounded(text), Err(1));
    }
}

#[test]
fn the_deepest_that_is_let_through() {
    let key = "a.a.a.a.a.a.a.a.a";
    let text = format!(
        "[{key}]\n{key} = {}1{}",
        format!("{{{key}=").repeat(32),
        "}".repeat(32)
    );
    assert_eq!(bounded(text), Err(1), "one unknown key");
}

#[test]
fn many_errors() {
    let n = 20_000;
    for line in [
        "@\n",
        "[[service]]\n",
        "[[route]]\n",
        "[[service]]\nname = \"a\"\nlisten = \"0.0.0.0:80/http\"\nbackends = []\n",
        "[[route]]\nhost = \"*\"\nservice = \"x\"\n",
        "[[service]]\nname = \"a\"\nplane = \"x\"\nbackend = []\n",
    ] {
        assert_eq!(bounded(line.repeat(n)), Err(MAX_DIAGNOSTICS), "{line}");
    }
    let keys: String = (0..n).map(|i| format!("key{i} = 1\n")).collect();
    assert_eq!(bounded(keys), Err(MAX_DIAGNOSTICS));
    let long = format!("{} = \"{}\"", "k".repeat(1 << 20), "v".repeat(1 << 20));
    assert_eq!(bounded(long), Err(1));
}

#[test]
fn large_and_valid() {
    let backends: String = (0..100_000)
        .map(|i| format!("\"10.{}.{}.{}:80\",", i >> 16, i >> 8 & 255, i & 255))
        .collect();
    let text =
        format!("[[service]]\nname = \"a\"\nlisten = \"*:80/http\"\nbackends = [{backends}]\n");
    let config = bounded(text).unwrap_or_else(|n| panic!("{n} errors"));
    let count = config.services.first().map(|s| s.backends.len());
    assert_eq!(count, Some(100_000));

    let services: String = (0..20_000)
        .map(|i| {
            format!(
                "[[service]]\nname = \"s{i}\"\nlisten = [\"*:80/http\", \"10.0.{}.{}:81/tcp\"]\n\
                 backends = [\"10.0.0.1:80\"]\n[[route]]\nhost = \"h{i}\"\nservice = \"s{i}\"\n",
                i >> 8,
                i & 255
            )
        })
        .collect();
    let config = bounded(services).unwrap_or_else(|n| panic!("{n} errors"));
    assert_eq!(
        (config.services.len(), config.routes.len()),
        (20_000, 20_000)
    );
}

#[test]
fn long_lists_and_texts() {
    let ports: Vec<String> = (1..=257).map(|p| format!("\"*:{p}/tcp\"")).collect();
    let listens = format!("[{}]", ports.join(", "));
    check_listen(&listens, &["4:10: service[0].listen: a list of 257"]);
    let long = format!("\"{}\"", "x".repeat(5000));
    check_listen(&long, &["4:10: service[0].listen: a string of 5000 bytes"]);
    check_backend(
        &long,
        &["5:3: service[0].backends[0]: a string of 5000 bytes"],
    );
    let networks = vec!["\"10.0.0.0/8\""; 4097].join(", ");
    check_service(
        &format!("trusted = [{networks}]"),
        &["5:11: service[0].trusted: a list of 4097"],
    );
    let path = format!("\"/{} \"", "a".repeat(1000));
    let route = format!("host = \"*\"\npath = {path}\nservice = \"a\"\n");
    let message = format!("7:8: route[0].path: \"/{}…\" is not valid", "a".repeat(59));
    common::check_route(&route, &[&message]);
}

#[test]
fn nothing_at_all() {
    for text in [
        "",
        "\n",
        "\u{feff}",
        "# only a comment",
        "[daemon]\n",
        "service = []\n",
    ] {
        assert_eq!(parse("file:x", text), Ok(Config::default()), "{text:?}");
    }
}

/// Pieces that a file is made of, for texts that come further than random ones.
fn pieces() -> impl Strategy<Value = String> {
    let words: Vec<&str> = plimsoll_config::schema::TABLES
        .iter()
        .flat_map(|(_, keys)| keys.iter().copied())
        .chain([
            "[[service]]\n",
            "[[route]]\n",
            "[daemon]\n",
            "[service.timeouts]\n",
            "[[service.backends]]\n",
            " = ",
            "\n",
            "[",
            "]",
            "{",
            "}",
            ",",
            "\"",
            "'",
            "\"\"\"",
            ".",
            "#",
            "\r\n",
            "é",
            "\u{202e}",
            "\"a\"",
            "\"*:80/http\"",
            "\"*:80/tcp+udp\"",
            "\"10.0.0.1:80\"",
            "\"mark:5\"",
            "\"5s\"",
            "\"*\"",
            "1",
            "-1",
            "0x10",
            "1_000",
            "1.5",
            "true",
            "99999999999999999999999999999999999999999",
            "inf",
            "1979-05-27",
            "\"mh\"",
            "\"tunnel\"",
            "\"gue\"",
            "\"10.0.0.0/8\"",
            "\"/x\"",
            "\\u0000",
        ])
        .collect();
    prop::collection::vec(prop::sample::select(words), 0..60).prop_map(|words| words.concat())
}

fn any_answer(text: &str) {
    if let Err(found) = parse("file:x", text) {
        assert!(!found.is_empty() && found.len() <= MAX_DIAGNOSTICS);
        for error in &found {
            assert!(error.span.start <= error.span.end && error.span.end <= text.len());
            assert!(text.is_char_boundary(error.span.start));
            assert!(error.line >= 1 && error.column >= 1 && !error.message.is_empty());
        }
        assert!(render("f", text, &found).contains("error: "));
    }
}

/// The seeds of the fuzzer, and what it found before, without the fuzzer.
#[test]
fn the_corpus_of_the_fuzzer() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/config");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if let Ok(text) = std::fs::read_to_string(entry.path()) {
            any_answer(&text);
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen} seeds in {folder}");
}

#[test]
fn many_syntax_errors_cost_no_memory() {
    let found = errors(&"@\n".repeat(1 << 20));
    assert_eq!(
        found.len(),
        1,
        "of a long file only the first is looked for"
    );
    let found = errors(&"@\n".repeat(1 << 10));
    assert_eq!(found.len(), MAX_DIAGNOSTICS);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_text_panics(text in "(?s).{0,200}") {
        any_answer(&text);
    }

    #[test]
    fn no_pieces_panic(text in pieces()) {
        any_answer(&text);
    }
}
