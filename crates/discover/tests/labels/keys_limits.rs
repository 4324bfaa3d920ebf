//! Every key of limits, with a good value and with bad ones.

use plimsoll_model::{Limits, Quota, Rate};

use crate::world::{Made, World, labelled};

const OF: [&str; 2] = ["limits", "limits.per-source"];
const KEYS: [&str; 6] = [
    "connections",
    "connection-rate",
    "connection-rate.burst",
    "requests",
    "request-rate",
    "request-rate.burst",
];
const PREFIXES: [&str; 2] = ["limits.per-source.prefix-v4", "limits.per-source.prefix-v6"];

pub(crate) fn keys() -> impl Iterator<Item = &'static str> {
    let known = plimsoll_discover::docker::labels::schema::SERVICE.iter();
    let told = |key: &&&str| {
        let quota = OF
            .iter()
            .any(|of| KEYS.iter().any(|k| format!("{of}.{k}") == ***key));
        quota || PREFIXES.contains(*key)
    };
    known.filter(told).copied()
}

/// Labels that have to be beside a key.
pub(crate) fn beside(key: &str) -> &'static [(&'static str, &'static str)] {
    match key {
        "limits.request-rate.burst" => &[("limits.request-rate", "5/s")],
        "limits.per-source.request-rate.burst" => &[("limits.per-source.request-rate", "5/s")],
        "limits.connection-rate.burst" => &[("protocol", "tcp"), ("limits.connection-rate", "5/s")],
        "limits.per-source.connection-rate.burst" => &[
            ("protocol", "tcp"),
            ("limits.per-source.connection-rate", "5/s"),
        ],
        key if key.starts_with("limits.") && key.contains(".connection") => &[("protocol", "tcp")],
        key if PREFIXES.contains(&key) => &[("limits.per-source.requests", "1")],
        _ => &[],
    }
}

fn made(said: &[(&str, &str)]) -> Made {
    let labels: Vec<(String, &str)> = (said.iter())
        .map(|(key, value)| (format!("plimsoll.{key}"), *value))
        .collect();
    let labels: Vec<(&str, &str)> = labels.iter().map(|(k, v)| (&**k, *v)).collect();
    World::new().made(&labelled(&labels))
}

fn limits(said: &[(&str, &str)]) -> Limits {
    made(said).service().spec.limits.unwrap()
}

fn rate(text: &str, burst: u32) -> Option<Rate> {
    let rate: Rate = text.parse().unwrap();
    Some(Rate { burst, ..rate })
}

#[test]
fn good_values_are_seen() {
    assert_eq!(keys().count(), 14);
    for (at, of) in OF.iter().enumerate() {
        let key = |key: &str| format!("{of}.{key}");
        let quota = |limits: Limits| [limits.total, limits.per_source][at];
        let http = [
            (key("requests"), "7"),
            (key("request-rate"), "100/s"),
            (key("request-rate.burst"), "300"),
        ];
        let http = http.each_ref().map(|(k, v)| (&**k, *v));
        let wanted = Quota {
            requests: 7,
            request_rate: rate("100/s", 300),
            ..Quota::default()
        };
        assert_eq!(quota(limits(&http)), wanted);
        let tcp = [
            ("protocol".to_owned(), "tcp"),
            (key("connections"), "7"),
            (key("connection-rate"), "30/m"),
        ];
        let tcp = tcp.each_ref().map(|(k, v)| (&**k, *v));
        let wanted = Quota {
            connections: 7,
            connection_rate: rate("30/m", 30),
            ..Quota::default()
        };
        assert_eq!(quota(limits(&tcp)), wanted);
    }
    let said = [
        ("limits.per-source.requests", "1"),
        (PREFIXES[0], "24"),
        (PREFIXES[1], "56"),
    ];
    let limits = limits(&said);
    assert_eq!((limits.prefix_v4, limits.prefix_v6), (24, 56));
}

#[test]
fn bad_values_say_what_was_expected() {
    let no_rate =
        "\"fast\" is no rate; expected a number and a time, such as 100/s, 30/m or 1000/h";
    let no_listen = "not for http services, whose listens are the operator's: limit requests, or \
                     say it in the configuration file";
    for of in OF {
        for (key, value, beside, why) in [
            (
                "requests",
                "-1",
                None,
                "expected a whole number from 0 to 4294967295",
            ),
            ("request-rate", "fast", None, no_rate),
            (
                "request-rate.burst",
                "0",
                Some("request-rate"),
                "expected a whole number from 1 to 1000000000",
            ),
            ("connections", "7", None, no_listen),
            ("connection-rate", "7/s", None, no_listen),
        ] {
            let key = format!("{of}.{key}");
            let beside = beside.map(|other| format!("{of}.{other}"));
            let mut said = vec![(&*key, value)];
            said.extend(beside.as_deref().map(|other| (other, "5/s")));
            let made = made(&said);
            let reason = made.reason().to_owned();
            assert!(
                reason.starts_with(&format!("label plimsoll.{key}={value}: ")),
                "{reason}"
            );
            let why = why.trim_start_matches("\"fast\" is no rate; ");
            assert!(reason.contains(why), "{reason}");
            assert!(made.services().is_empty());
        }
        let burst = format!("{of}.request-rate.burst");
        let reason = made(&[(&burst, "5")]).reason().to_owned();
        let needs = format!("it needs label plimsoll.{of}.request-rate with a rate");
        assert!(reason.ends_with(&needs), "{reason}");
        let requests = format!("{of}.requests");
        let reason = made(&[(&requests, "5"), ("protocol", "tcp")])
            .reason()
            .to_owned();
        assert!(
            reason.ends_with("only for http services, this one is tcp"),
            "{reason}"
        );
    }
    let reason = made(&[(PREFIXES[0], "24")]).reason().to_owned();
    assert!(
        reason.contains("it needs a limit, such as label"),
        "{reason}"
    );
    let said = [("limits.per-source.requests", "1"), (PREFIXES[0], "33")];
    assert!(
        made(&said)
            .reason()
            .ends_with("expected a whole number from 1 to 32")
    );
}
