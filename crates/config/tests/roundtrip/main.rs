//! Whatever the model can hold can be said in a file: random values, written and read back.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod http;
mod limits;
mod model;
mod options;
mod write;

use plimsoll_config::{Config, Diagnostic, Files, named_files, parse_with, render};
use proptest::prelude::*;

fn parse(source: &str, text: &str) -> Result<Config, Vec<Diagnostic>> {
    let files = Files::read(named_files(text), |name| Ok(http::page_of(name)));
    parse_with(source, text, &files)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn text_and_back(config in model::config(), short in any::<bool>()) {
        let text = write::config(&config, short);
        match parse(model::SOURCE, &text) {
            Ok(read) => prop_assert_eq!(read, config, "\n{}", text),
            Err(errors) => prop_assert!(false, "{}\n{}", render("f", &text, &errors), text),
        }
    }

    /// A text is read the same however its lines end and whatever the process.
    #[test]
    fn line_ends_say_nothing(config in model::config()) {
        let text = write::config(&config, false);
        prop_assert_eq!(parse("s", &text), parse("s", &text.replace('\n', "\r\n")));
    }
}

/// The generator reaches what it is there for.
#[test]
fn the_generator_reaches_every_corner() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let made: Vec<Config> = (0..600)
        .map(|_| model::config().new_tree(&mut runner).unwrap().current())
        .collect();
    let services = || made.iter().flat_map(|c| &c.services);
    let backends = || services().flat_map(|s| s.backends.values());
    let text: String = made.iter().map(|c| write::config(c, false)).collect();
    for (_, keys) in plimsoll_config::schema::TABLES {
        for key in *keys {
            assert!(text.contains(key), "{key}");
        }
    }
    for word in [
        "ipip",
        "gue",
        "gre",
        "nat",
        "dr",
        "unix:",
        "mark:",
        "/ipv6",
        "sctp",
        "udp",
        "source-port",
        "ebpf",
        "ipvs",
        "json",
        "*.",
        "drain = true",
        "[::",
    ] {
        assert!(text.contains(word), "{word}");
    }
    assert!(services().any(|s| s.spec.listens.is_empty()));
    assert!(services().any(|s| s.backends.is_empty()));
    assert!(backends().any(|b| b.weight == plimsoll_model::MAX_WEIGHT));
    assert!(made.iter().any(|c| c.routes.is_empty()));
    assert!(made.iter().flat_map(|c| &c.routes).any(|r| r.priority < 0));
}
