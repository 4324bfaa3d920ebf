//! The text format, read by a parser that knows nothing of how it was written.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_admin::{Report, render_metrics};
use plimsoll_plane::Latencies;

use crate::report;

#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

#[derive(Debug, Default)]
struct Parsed {
    kinds: BTreeMap<String, String>,
    helps: BTreeSet<String>,
    samples: Vec<Sample>,
}

/// Reads the text format 0.0.4 strictly, and panics at what is not part of it.
fn parse(text: &str) -> Parsed {
    assert!(text.ends_with('\n'));
    let mut parsed = Parsed::default();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(!help.is_empty(), "{line}");
            assert!(
                parsed.helps.insert(name.into()),
                "{name} is described twice"
            );
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
            assert!(
                parsed.kinds.insert(name.into(), kind.into()).is_none(),
                "{name} twice"
            );
            current = name.into();
        } else {
            let sample = sample(line);
            let part = sample.name.strip_prefix(current.as_str());
            let known: &[&str] = match parsed.kinds.get(&current).map(String::as_str) {
                Some("histogram") => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            let known = part.is_some_and(|part| known.contains(&part));
            assert!(known, "samples stand behind their type: {line}");
            parsed.samples.push(sample);
        }
    }
    parsed
}

fn is_name(text: &str) -> bool {
    let mut chars = text.chars();
    let first = chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    first && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        let mut chars = inner.chars();
        loop {
            let label: String = chars.by_ref().take_while(|c| *c != '=').collect();
            assert!(is_name(&label), "{label:?} in {line}");
            assert_eq!(chars.next(), Some('"'), "{line}");
            let mut value = String::new();
            loop {
                match chars.next().unwrap() {
                    '"' => break,
                    '\\' => value.push(match chars.next().unwrap() {
                        'n' => '\n',
                        c @ ('\\' | '"') => c,
                        c => panic!("\\{c} in {line}"),
                    }),
                    c => value.push(c),
                }
            }
            assert!(labels.insert(label, value).is_none(), "{line}");
            match chars.next() {
                Some(',') => {}
                Some('}') => break,
                other => panic!("{other:?} in {line}"),
            }
        }
        rest = chars.as_str();
    }
    let value = rest.strip_prefix(' ').unwrap().parse().unwrap();
    Sample {
        name: name.into(),
        labels,
        value,
    }
}

impl Parsed {
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted: BTreeMap<String, String> = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let mut found = self
            .samples
            .iter()
            .filter(|s| s.name == name && s.labels == wanted);
        let sample = found
            .next()
            .unwrap_or_else(|| panic!("no {name} {labels:?}"));
        assert!(found.next().is_none(), "{name} {labels:?} is there twice");
        sample.value
    }
}

#[test]
fn every_sample_can_be_read_back() {
    let parsed = parse(&render_metrics(&report()));
    assert_eq!(
        parsed.kinds.keys().cloned().collect::<BTreeSet<_>>(),
        parsed.helps
    );
    let mut series = BTreeSet::new();
    for sample in &parsed.samples {
        let new = series.insert((&sample.name, &sample.labels));
        assert!(new, "{sample:?} is there twice");
        assert!(
            sample.name.starts_with("plimsoll_") && sample.value >= 0.0,
            "{sample:?}"
        );
    }
    for (name, kind) in &parsed.kinds {
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
    }
    let hard = "unix:/run/a\"b\\c\nd.sock";
    let web = |addr| [("service", "web"), ("backend", addr)];
    assert_eq!(
        parsed.value("plimsoll_build_info", &[("version", "1.2.3")]),
        1.0
    );
    assert_eq!(parsed.value("plimsoll_uptime_seconds", &[]), 1.5);
    assert_eq!(
        parsed.value("plimsoll_service_requests_total", &[("service", "api")]),
        200.0
    );
    assert_eq!(
        parsed.value("plimsoll_backend_requests_total", &web(hard)),
        100.0
    );
    assert_eq!(
        parsed.value("plimsoll_backend_weight", &web("10.0.0.1:80")),
        3.0
    );
    let state = |addr, state| {
        let [service, backend] = web(addr);
        parsed.value(
            "plimsoll_backend_state",
            &[service, backend, ("state", state)],
        )
    };
    assert_eq!((state(hard, "down"), state(hard, "ready")), (1.0, 0.0));
    let ok = [
        ("service", "web"),
        ("backend", "10.0.0.1:80"),
        ("class", "2xx"),
    ];
    assert_eq!(parsed.value("plimsoll_backend_responses_total", &ok), 90.0);
    // Two services share this listen, and it is one.
    let listen = [("listen", "*:80/http")];
    assert_eq!(parsed.value("plimsoll_listen_accepted_total", &listen), 9.0);
    let refused = [("listen", "*:80/http"), ("status", "404")];
    assert_eq!(parsed.value("plimsoll_listen_refused_total", &refused), 5.0);
    assert_eq!(parsed.value("plimsoll_quarantine_entries", &[]), 1.0);
    assert_eq!(
        parsed.value("plimsoll_plane_repairs_total", &[("plane", "proxy")]),
        1.0
    );
}

#[test]
fn histograms_hold_what_is_below_each_bound() {
    let mut report = report();
    let mut latency = Latencies::default();
    for micros in [50, 80, 300, 7_200_000_000] {
        latency.duration.record(micros);
    }
    report.status.services[1].latency = (&latency).into();
    report.status.services[1].backends[0].counters.queued = 3;
    let parsed = parse(&render_metrics(&report));
    let web = ("service", "web");
    let bucket = |le| {
        let name = "plimsoll_service_duration_seconds_bucket";
        parsed.value(name, &[web, ("le", le)])
    };
    assert_eq!(["0.0001", "0.00025", "0.0005"].map(bucket), [2.0, 2.0, 3.0]);
    assert_eq!([bucket("3600"), bucket("+Inf")], [3.0, 4.0]);
    let of = |part: &str| parsed.value(&format!("plimsoll_service_duration_seconds{part}"), &[web]);
    assert_eq!([of("_count"), of("_sum")], [4.0, 7200.00043]);
    assert_eq!(parsed.value("plimsoll_service_queued", &[web]), 3.0);
    let none = parsed.value(
        "plimsoll_service_duration_seconds_count",
        &[("service", "api")],
    );
    assert_eq!(none, 0.0);
}

#[test]
fn a_listen_that_fails_for_one_service_is_down() {
    let mut report = report();
    report.status.services[1].listens[0].error = Some("address in use".into());
    let parsed = parse(&render_metrics(&report));
    assert_eq!(
        parsed.value("plimsoll_listen_up", &[("listen", "*:80/http")]),
        0.0
    );
}

#[test]
fn the_document_lists_the_same_names() {
    let parsed = parse(&render_metrics(&Report::default()));
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `plimsoll_"));
    let listed: BTreeMap<String, String> = rows
        .map(|row| {
            let mut cells = row.split('|').map(str::trim);
            let name = cells.next().unwrap().trim_end_matches('`');
            (format!("plimsoll_{name}"), cells.next().unwrap().to_owned())
        })
        .collect();
    assert_eq!(listed, parsed.kinds);
}
