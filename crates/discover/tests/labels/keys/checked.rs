//! Checks, and how long things may take.

use std::time::Duration;

use plimsoll_model::{CheckKind, MidStream, Mss};

use super::{Key, TIME};

pub(super) const KEYS: &[Key] = &[
    Key {
        key: "timeouts.udp",
        good: "20s",
        seen: |s| s.spec.timeouts.udp.as_secs() == 20,
        bad: &[(
            "20",
            "expected a time with units d, h, m, s or ms, such as 5s, 500ms or 1h30m (a time \
             without a unit): did you mean `20s`?",
        )],
    },
    Key {
        key: "check",
        good: "http:/health",
        seen: |s| s.spec.check.as_ref().unwrap().to_string() == "http:/health",
        bad: &[
            (
                "http://host:80/health",
                "path `//host:80/health` of a check: a path, not a URL: http:/health; a port goes \
                 into check.port",
            ),
            (
                "/health",
                "expected tcp, http or http:/PATH: did you mean `http:/health`?",
            ),
            (
                "tpc",
                "expected tcp, http or http:/PATH: did you mean `tcp`?",
            ),
            ("ping", "expected tcp, http or http:/PATH"),
        ],
    },
    Key {
        key: "check.path",
        good: "/health?deep=1",
        seen: |s| s.spec.check.as_ref().unwrap().to_string() == "http:/health?deep=1",
        bad: &[
            ("health", "path `health` of a check: a path begins with /"),
            (
                "http://host/health",
                "path `http://host/health` of a check: a path, not a URL: http:/health; a port \
                 goes into check.port",
            ),
        ],
    },
    Key {
        key: "check.host",
        good: "a.example",
        seen: |s| {
            let kind = &s.spec.check.as_ref().unwrap().kind;
            matches!(kind, CheckKind::Http { host: Some(host), .. } if host.as_str() == "a.example")
        },
        bad: &[(
            "a b",
            "host `a b` of a check: not a host; expected a name or an address, such as \
             example.com or example.com:8080",
        )],
    },
    Key {
        key: "check.status",
        good: "200-299,401",
        seen: |s| {
            let kind = &s.spec.check.as_ref().unwrap().kind;
            matches!(kind, CheckKind::Http { status, .. }
                if status.contains(401) && !status.contains(301))
        },
        bad: &[(
            "2xx",
            "status `2xx`: not a code or a range from 200 to 599; expected such as 200-399 or \
             200-299,401",
        )],
    },
    Key {
        key: "check.interval",
        good: "10s",
        seen: |s| s.spec.check.as_ref().unwrap().interval == Duration::from_secs(10),
        bad: &[
            ("1ms", "expected a time of at least 100ms"),
            ("2d", "expected a time of at most 1d"),
        ],
    },
    Key {
        key: "check.timeout",
        good: "500ms",
        seen: |s| s.spec.check.as_ref().unwrap().timeout == Duration::from_millis(500),
        bad: &[
            ("0", "expected a time of at least 1ms"),
            ("61s", "expected a time of at most 1m"),
        ],
    },
    Key {
        key: "check.rise",
        good: "1",
        seen: |s| s.spec.check.as_ref().unwrap().rise == 1,
        bad: &[("0", "expected a whole number from 1 to 1000")],
    },
    Key {
        key: "check.fall",
        good: "10",
        seen: |s| s.spec.check.as_ref().unwrap().fall == 10,
        bad: &[("1001", "expected a whole number from 1 to 1000")],
    },
    Key {
        key: "check.port",
        good: "9000",
        seen: |s| s.spec.check.as_ref().unwrap().port == Some(9000),
        bad: &[("0", "expected a whole number from 1 to 65535")],
    },
    Key {
        key: "drain",
        good: "1m30s",
        seen: |s| s.spec.timeouts.drain == Duration::from_secs(90),
        bad: &[("soon", TIME)],
    },
    Key {
        key: "timeouts.connect",
        good: "1s",
        seen: |s| s.spec.timeouts.connect == Duration::from_secs(1),
        bad: &[
            ("0", "expected a time of at least 1ms"),
            (
                "5",
                "expected a time with units d, h, m, s or ms, such as 5s, 500ms or 1h30m (a time \
                 without a unit): did you mean `5s`?",
            ),
        ],
    },
    Key {
        key: "timeouts.queue",
        good: "4s",
        seen: |s| s.spec.timeouts.queue == Duration::from_secs(4),
        bad: &[("4sec", TIME)],
    },
    Key {
        key: "timeouts.response",
        good: "5s",
        seen: |s| s.spec.timeouts.response == Duration::from_secs(5),
        bad: &[("-5s", TIME)],
    },
    Key {
        key: "timeouts.stall",
        good: "30s",
        seen: |s| s.spec.timeouts.stall == Duration::from_secs(30),
        bad: &[("soon", TIME)],
    },
    Key {
        key: "timeouts.idle",
        good: "0",
        seen: |s| s.spec.timeouts.idle == Some(Duration::ZERO),
        bad: &[("400d", TIME)],
    },
    Key {
        key: "mid-stream",
        good: "drop",
        seen: |s| s.spec.packets.mid_stream == Some(MidStream::Drop),
        bad: &[(
            "rest",
            "expected one of rehash, drop, reset: did you mean `reset`?",
        )],
    },
    Key {
        key: "mss",
        good: "1400",
        seen: |s| s.spec.packets.mss == Some(Mss::Bytes(1400)),
        bad: &[("87", "a segment of 87 bytes: expected 88 to 65495")],
    },
];
