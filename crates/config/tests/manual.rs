//! The manual knows every key, and no other; what it shows is valid.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::collections::BTreeSet;

use plimsoll_config::{parse, render, schema};
use plimsoll_model::{Check, SchedulerKind, StatusSet};

fn manual() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    std::fs::read_to_string(path).unwrap()
}

/// The text under a heading, up to the next one of whatever level.
fn section(heading: &str) -> String {
    let manual = manual();
    let start = manual
        .find(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("no heading {heading}"));
    let rest = &manual[start + heading.len() + 2..];
    let end = rest.find("\n#").unwrap_or(rest.len());
    rest[..end].to_owned()
}

/// The first column of the tables headed by `key`, one set for each table.
fn keys_of(text: &str) -> Vec<BTreeSet<String>> {
    let mut tables = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if !line.starts_with("| key |") {
            continue;
        }
        let rows = lines
            .by_ref()
            .skip(1)
            .take_while(|row| row.starts_with('|'));
        let key = |row: &str| row.split('`').nth(1).unwrap_or_default().to_owned();
        tables.push(rows.map(key).collect());
    }
    tables
}

#[test]
fn every_key_is_in_the_manual_and_no_other() {
    let place = |table: &[&str]| match table {
        t if t == schema::FILE => ("## The file", 0),
        t if t == schema::SERVICE => ("## `[[service]]`", 0),
        t if t == schema::VIP => ("### VIPs", 0),
        t if t == schema::BACKEND => ("### Backends", 0),
        t if t == schema::FORWARD => ("#### Forward", 0),
        t if t == schema::SCHEDULER => ("### Scheduler", 0),
        t if t == schema::PERSISTENCE => ("### Persistence", 0),
        t if t == schema::COOKIE => ("### Cookie", 0),
        t if t == schema::CHECK => ("### Check", 0),
        t if t == schema::TIMEOUTS => ("### Timeouts", 0),
        t if t == schema::SESSIONS => ("### Sessions", 0),
        t if t == schema::RETRIES => ("### Retries", 0),
        t if t == schema::OUTLIER => ("### Outliers", 0),
        t if t == schema::LIMITS => ("### Limits", 0),
        t if t == schema::PER_SOURCE => ("### Limits", 1),
        t if t == schema::RATE => ("### Limits", 2),
        t if t == schema::LISTEN_OPTIONS => ("### Sockets", 0),
        t if t == schema::TO_BACKENDS => ("### Sockets", 1),
        t if t == schema::ROUTE => ("## `[[route]]`", 0),
        t if t == schema::WEIGHTED_SERVICE => ("## `[[route]]`", 1),
        t if t == schema::REDIRECT => ("### Redirects", 0),
        t if t == schema::BASIC_AUTH => ("### Basic auth", 0),
        t if t == schema::HEADERS => ("### Headers", 0),
        t if t == schema::REQUEST_ID => ("### Request ids", 0),
        t if t == schema::COMPRESS => ("### Compression", 0),
        t if t == schema::MAINTENANCE => ("### Maintenance", 0),
        t if t == schema::DOCKER => ("## `[docker]`", 0),
        t if t == schema::DAEMON => ("## `[daemon]`", 0),
        t if t == schema::ACCESS_LOG => ("### Access log", 0),
        t if t == schema::EBPF => ("## `[ebpf]`", 0),
        other => panic!("where in the manual is {other:?}?"),
    };
    for (name, known) in schema::TABLES {
        let (heading, nth) = place(known);
        let told = keys_of(&section(heading));
        let known: BTreeSet<String> = known.iter().map(ToString::to_string).collect();
        assert_eq!(told.get(nth), Some(&known), "{name}");
    }
}

#[test]
fn every_scheduler_is_in_the_manual() {
    let text = section("### Scheduler");
    for (name, _) in SchedulerKind::NAMES {
        assert!(text.contains(&format!("\n| `{name}` |")), "{name}");
    }
}

#[test]
fn the_defaults_in_the_manual_are_the_real_ones() {
    let rows = section("### Timeouts");
    let default = |key: &str| {
        let row = rows
            .lines()
            .find(|l| l.starts_with(&format!("| `{key}` |")));
        let value = row.unwrap().split('"').nth(1).unwrap();
        plimsoll_config::parse_duration(value).unwrap()
    };
    let timeouts = plimsoll_model::Timeouts::default();
    assert_eq!(default("connect"), timeouts.connect);
    assert_eq!(default("header"), timeouts.header);
    assert_eq!(default("keepalive"), timeouts.keepalive);
    assert_eq!(default("queue"), timeouts.queue);
    assert_eq!(default("response"), timeouts.response);
    assert_eq!(default("stall"), timeouts.stall);
    assert_eq!(default("idle"), plimsoll_model::Timeouts::IDLE);
    assert_eq!(default("peer"), timeouts.peer);
    assert_eq!(default("udp"), timeouts.udp);
    assert_eq!(default("drain"), timeouts.drain);
}

#[test]
fn the_defaults_of_checks_in_the_manual_are_the_real_ones() {
    let rows = section("### Check");
    let default = |key: &str| {
        let row = rows
            .lines()
            .find(|l| l.starts_with(&format!("| `{key}` |")));
        let cell = row.unwrap().split(" | ").nth(2).unwrap();
        cell.trim_matches(['"', '`']).to_owned()
    };
    let time = |key| plimsoll_config::parse_duration(&default(key)).unwrap();
    let check: Check = "http".parse().unwrap();
    assert_eq!(time("interval"), check.interval);
    assert_eq!(time("timeout"), check.timeout);
    assert_eq!(default("rise"), check.rise.to_string());
    assert_eq!(default("fall"), check.fall.to_string());
    assert_eq!(default("path"), "/");
    assert_eq!(default("status").parse(), Ok(StatusSet::default()));
}

#[test]
fn examples_in_the_manual_are_valid() {
    let manual = manual();
    let blocks: Vec<&str> = manual.split("```toml\n").skip(1).collect();
    assert!(blocks.len() >= 2);
    for block in blocks {
        let text = block.split("```").next().unwrap();
        if let Err(errors) = parse("file:x", text) {
            panic!("{}", render("manual", text, &errors));
        }
    }
}
