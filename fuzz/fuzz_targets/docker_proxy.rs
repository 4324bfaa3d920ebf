//! No request reaches an engine that is not on the list, and no answer gives away what is not.
//!
//! The input is a request's path and query, a newline, and the body of the answer to it.
//! On stable: `cargo fuzz run -s none docker_proxy -- -max_total_time=60`.
#![no_main]

use http::{Method, StatusCode};
use libfuzzer_sys::fuzz_target;
use plimsoll_docker_proxy::{ENV, Endpoint, Events, LABELS, MAX_OUTPUT, decide, redact};
use serde_json::Value;

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|byte| *byte == b'\n');
    let (target, body) = input.split_at(end.unwrap_or(input.len()));
    let body = body.get(1..).unwrap_or_default();
    let Ok(target) = std::str::from_utf8(target) else {
        return;
    };
    let Ok(allowed) = decide(&Method::GET, target) else {
        return;
    };
    // Written anew it is the same, and nothing is left to be read in another way.
    let again = decide(&Method::GET, &allowed.target);
    assert_eq!(again.as_ref(), Ok(&allowed));
    assert!(allowed.target.bytes().all(|byte| byte.is_ascii_graphic()));
    let path = allowed.target.split('?').next().unwrap_or_default();
    listed(path);
    let changed = [Method::POST, Method::PUT, Method::DELETE].map(|method| decide(&method, target));
    assert!(changed.iter().all(Result::is_err));

    if allowed.endpoint == Endpoint::Events {
        let whole = Events::default().feed(body);
        let mut events = Events::default();
        let pieces: Vec<_> = body.chunks(7).map(|piece| events.feed(piece)).collect();
        assert_eq!(pieces.concat(), whole);
        let text = String::from_utf8(whole).expect("JSON is UTF-8");
        for line in text.lines() {
            assert!(!line.starts_with("{\"Action\":\"exec_"));
            let value: Value = serde_json::from_str(line).expect("JSON");
            let attributes = value["Actor"]["Attributes"].as_object();
            let mut keys = attributes.into_iter().flat_map(|all| all.keys());
            assert!(keys.all(|key| key == "container" || key == "signal"));
        }
        return;
    }
    for status in [StatusCode::OK, StatusCode::NOT_FOUND] {
        let Ok(passed) = redact(allowed.endpoint, status, body) else {
            continue;
        };
        // What is passed on once is passed on again as it is.
        assert_eq!(
            redact(allowed.endpoint, status, &passed),
            Ok(passed.clone())
        );
        if allowed.endpoint == Endpoint::Container && status == StatusCode::OK {
            environment(&passed);
            labels(&passed);
        }
    }
});

/// The paths there are, read in the simplest way.
fn listed(path: &str) {
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let parts = match parts.split_first() {
        Some((version, rest)) if version.starts_with("v1.") => rest,
        _ => &parts,
    };
    let known = match parts {
        ["_ping" | "version" | "info" | "events" | "networks" | "services" | "tasks" | "nodes"]
        | ["containers", "json"] => true,
        ["containers", id, "json"] | ["networks", id] => {
            let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
            !id.starts_with('.') && !id.is_empty() && id.chars().all(plain)
        }
        _ => false,
    };
    assert!(known, "{path}");
}

/// Of an environment only what is read is passed on, and nothing that is run.
fn environment(passed: &[u8]) {
    let value: Value = serde_json::from_slice(passed).expect("JSON");
    let hidden = [
        &value["Args"],
        &value["Mounts"],
        &value["Config"]["Cmd"],
        &value["Config"]["Entrypoint"],
        &value["HostConfig"]["Binds"],
    ];
    assert!(hidden.iter().all(|value| value.is_null()), "{value}");
    for pair in value["Config"]["Env"].as_array().into_iter().flatten() {
        let key = pair.as_str().and_then(|text| text.split_once('='));
        assert!(key.is_some_and(|(key, _)| ENV.contains(&key)), "{value}");
    }
}

/// Whether a label begins with a word that shares most letters with ours.
fn is_slip(label: &str) -> bool {
    let Some((word, _)) = label.split_once('.') else {
        return false;
    };
    let mut left: Vec<char> = word.to_lowercase().chars().collect();
    let shared = "plimsoll".chars().filter(|letter| {
        let at = left.iter().position(|other| other == letter);
        at.map(|at| left.swap_remove(at)).is_some()
    });
    shared.count() >= 5 && left.len() <= 3
}

/// Of labels only what is read is passed on, and little of what a HEALTHCHECK prints.
fn labels(passed: &[u8]) {
    let value: Value = serde_json::from_slice(passed).expect("JSON");
    let labels = value["Config"]["Labels"].as_object();
    let keys = labels.into_iter().flat_map(|labels| labels.keys());
    for key in keys {
        let listed = LABELS.iter().any(|kept| key.starts_with(kept));
        assert!(listed || is_slip(key), "{value}");
    }
    let runs = value["State"]["Health"]["Log"].as_array();
    assert!(runs.is_none_or(|runs| runs.len() <= 1), "{value}");
    for run in runs.into_iter().flatten() {
        let output = run["Output"].as_str().unwrap_or_default();
        assert!(output.chars().count() <= MAX_OUTPUT, "{value}");
    }
}
