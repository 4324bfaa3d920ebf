//! The manual knows every key, and no other; what it shows is valid.

use std::collections::BTreeSet;

use plimsoll_config::parse_duration;
use plimsoll_discover::docker::labels::schema;
use plimsoll_discover::docker::links::links;
use plimsoll_discover::docker::virtual_host::VARIABLES;
use plimsoll_model::{Check, CheckKind, SchedulerKind, ServiceSpec, Sessions, Timeouts};

use crate::world::{Change, World, container};

fn manual() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/labels.md");
    std::fs::read_to_string(path).unwrap()
}

/// The text under a heading, up to the next one of the same level.
fn section(heading: &str) -> String {
    let manual = manual();
    let text = manual.split("\n## ").find(|text| {
        let first = text.lines().next();
        first.is_some_and(|line| line == heading)
    });
    text.unwrap_or_else(|| panic!("no heading {heading}"))
        .to_owned()
}

/// The cells of the rows of the tables headed by `head`, one list for each table.
fn tables(text: &str, head: &str) -> Vec<Vec<Vec<String>>> {
    let mut tables = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if !line.starts_with(&format!("| {head} |")) {
            continue;
        }
        let rows = lines.by_ref().skip(1);
        let rows = rows.take_while(|row| row.starts_with('|'));
        let cells = |row: &str| {
            let cells = row.trim_matches('|').split(" | ");
            cells.map(|cell| cell.trim().to_owned()).collect()
        };
        tables.push(rows.map(cells).collect());
    }
    tables
}

/// What stands in backquotes.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn every_key_is_in_the_manual_and_no_other() {
    let tables = tables(&section("Keys"), "key");
    let keys = |table: &[Vec<String>]| -> BTreeSet<String> {
        let keys = table.iter().map(|row| quoted(&row[0])[0].to_owned());
        keys.collect()
    };
    let known = |keys: &[&str]| keys.iter().map(ToString::to_string).collect();
    assert_eq!(tables.len(), 2);
    assert_eq!(keys(&tables[0]), known(schema::CONTAINER));
    assert_eq!(keys(&tables[1]), known(schema::SERVICE));
}

#[test]
fn every_key_has_an_example_that_works() {
    for row in tables(&section("Keys"), "key").concat() {
        let key = quoted(&row[0])[0];
        let example = quoted(&row[3])[0];
        let (label, value) = example.split_once('=').unwrap();
        assert!(label.ends_with(&format!(".{key}")), "{example}");
        let mut labels = vec![(label, value)];
        let prefix = label.strip_suffix(&format!(".{key}")).unwrap();
        let beside = match key {
            "check.path" | "check.host" | "check.status" => Some(("check", "http")),
            key if key.starts_with("check.") => Some(("check", "tcp")),
            key if key.starts_with("cookie.") => Some(("cookie", "SRV")),
            key if key.starts_with("outlier.") => Some(("outlier", "5xx")),
            key if key.starts_with("persistence.") => Some(("persistence", "5m")),
            "lower" => Some(("upper", "100")),
            "accept-proxy" | "forward" => Some(("protocol", "tcp")),
            "priority" => Some(("host", "a.example")),
            _ => None,
        };
        let of_http = crate::keys_http::beside(key).iter().copied();
        let of_limits = crate::keys_limits::beside(key).iter().copied();
        let beside = beside.into_iter().chain(of_http).chain(of_limits);
        let beside: Vec<(String, &str)> = beside
            .map(|(key, value)| (format!("{prefix}.{key}"), value))
            .collect();
        labels.extend(beside.iter().map(|(label, value)| (&**label, *value)));
        let mut container = container();
        container.expose(&["8080/tcp"]);
        container.connect("front", "10.2.0.2");
        container.connect("back", "10.1.0.2");
        container.label_with(&labels);
        let made = World::new().made(&container);
        assert_eq!(made.invalid(), [], "{example}");
    }
}

#[test]
fn the_defaults_in_the_manual_are_the_real_ones() {
    let rows = tables(&section("Keys"), "key").concat();
    let default = |key: &str| {
        let mut rows = rows.iter();
        let row = rows.find(|row| quoted(&row[0])[0] == key).unwrap();
        row[2].trim_matches('`').to_owned()
    };
    let time = |key: &str| parse_duration(&default(key)).unwrap();
    let timeouts = Timeouts::default();
    assert_eq!(time("drain"), timeouts.drain);
    assert_eq!(time("timeouts.connect"), timeouts.connect);
    assert_eq!(time("timeouts.queue"), timeouts.queue);
    assert_eq!(time("timeouts.response"), timeouts.response);
    assert_eq!(time("timeouts.idle"), Timeouts::IDLE);
    assert_eq!(time("timeouts.udp"), timeouts.udp);
    let check = Check::new(CheckKind::Tcp);
    assert_eq!(time("check.interval"), check.interval);
    assert_eq!(time("check.timeout"), check.timeout);
    assert_eq!(default("check.rise"), check.rise.to_string());
    assert_eq!(default("check.fall"), check.fall.to_string());
    assert_eq!(default("queue"), ServiceSpec::DEFAULT_QUEUE.to_string());
    assert_eq!(default("retries"), ServiceSpec::DEFAULT_RETRIES.to_string());
    let sessions = Sessions::default();
    assert_eq!(default("sessions"), sessions.limit.to_string());
    assert_eq!(
        default("sessions.per-source"),
        sessions.per_source.to_string()
    );
    assert_eq!(
        default("sessions.responses"),
        sessions.responses.to_string()
    );
    let kind = SchedulerKind::default();
    assert_eq!(default("scheduler"), kind.as_str());
}

#[test]
fn every_scheduler_is_in_the_manual() {
    let rows = tables(&section("Keys"), "key").concat();
    let mut rows = rows.iter();
    let row = rows.find(|row| row[0] == "`scheduler`").unwrap();
    let names: Vec<&str> = SchedulerKind::NAMES.iter().map(|(name, _)| *name).collect();
    assert_eq!(quoted(&row[1]), names);
}

/// The labels of each container in the examples of this language.
fn examples(language: &str) -> Vec<Vec<(String, String)>> {
    let manual = manual();
    let fence = format!("```{language}\n");
    let blocks = manual.split(&fence).skip(1);
    let mut containers = Vec::new();
    for block in blocks {
        let block = block.split("```").next().unwrap().replace("\\\n", " ");
        for part in block.split(match language {
            "yaml" => "labels:\n",
            _ => "\n",
        }) {
            let labels = part.match_indices("plimsoll.").filter_map(|(at, _)| {
                let text = part[at..].lines().next()?;
                let sign = if language == "yaml" { ": " } else { "=" };
                let (label, value) = text.split_once(sign)?;
                let value = match language {
                    "yaml" => value.trim_matches('"'),
                    _ => value.split_whitespace().next()?,
                };
                Some((label.to_owned(), value.to_owned()))
            });
            let labels: Vec<_> = labels.collect();
            if !labels.is_empty() {
                containers.push(labels);
            }
        }
    }
    containers
}

#[test]
fn examples_in_the_manual_are_valid() {
    let (shell, yaml) = (examples("sh"), examples("yaml"));
    assert_eq!((shell.len(), yaml.len()), (4, 3));
    for labels in shell.iter().chain(&yaml) {
        let labels: Vec<_> = labels.iter().map(|(k, v)| (&**k, &**v)).collect();
        let mut container = container();
        container.expose(&["80/tcp"]);
        container.connect("shop_default", "10.1.0.2");
        container.label_with(&labels);
        container.label_with(&[("com.docker.compose.project", "shop")]);
        let made = World::inside(&["bridge", "shop_default"]).made(&container);
        assert_eq!(made.invalid(), [], "{labels:?}");
        assert!(!made.services().is_empty());
    }
}

#[test]
fn every_variable_is_in_the_manual() {
    let text = section("`VIRTUAL_HOST`");
    for variable in VARIABLES {
        assert!(text.contains(&format!("`{variable}`")), "{variable}");
    }
    // Each of these changes what is made of a link.
    let text = section("Links");
    let rows = tables(&text, "variable").concat();
    assert_eq!(rows.len(), 6);
    let settings = World::new().settings;
    let link = [
        (
            "WEB_PORT_80_TCP".to_owned(),
            "tcp://172.17.0.5:80".to_owned(),
        ),
        (
            "WEB_PORT_81_TCP".to_owned(),
            "tcp://172.17.0.5:81".to_owned(),
        ),
        ("WEB_ENV_VIRTUAL_HOST".to_owned(), "a.example".to_owned()),
    ];
    let plain = links(link.clone().into_iter(), &settings);
    for row in rows {
        let variable = quoted(&row[0])[0];
        let value = match variable {
            "WEB_ENV_VIRTUAL_HOST" => "b.example",
            "WEB_ENV_VIRTUAL_HOST_WEIGHT" => "7",
            "WEB_ENV_BALANCE" => "leastconn",
            "WEB_ENV_VIRTUAL_PORT" => "81",
            _ => "80",
        };
        let mut vars = link.to_vec();
        vars.retain(|(key, _)| key != variable);
        vars.push((variable.to_owned(), value.to_owned()));
        assert_ne!(links(vars.into_iter(), &settings), plain, "{variable}");
    }
}
