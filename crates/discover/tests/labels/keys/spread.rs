//! Who gets what, and what becomes of it if that fails.

use std::time::Duration;

use plimsoll_model::{HashKey, SchedulerKind, Service};

use super::{Key, U32};

fn cookie(service: &Service) -> &plimsoll_model::Cookie {
    service.spec.cookie.as_ref().unwrap()
}

fn outlier(service: &Service) -> plimsoll_model::Outlier {
    service.spec.outlier.unwrap()
}

pub(super) const KEYS: &[Key] = &[
    Key {
        key: "outlier",
        good: "gateway",
        seen: |s| outlier(s).errors.as_str() == "gateway",
        bad: &[(
            "gatway",
            "expected one of connect, gateway, 5xx: did you mean `gateway`?",
        )],
    },
    Key {
        key: "outlier.consecutive",
        good: "3",
        seen: |s| outlier(s).consecutive == 3,
        bad: &[("0", "expected a whole number from 1 to 1000000")],
    },
    Key {
        key: "outlier.time",
        good: "5s",
        seen: |s| outlier(s).time == Duration::from_secs(5),
        bad: &[
            ("10ms", "expected a time of at least 100ms"),
            ("2h", "expected a time of at most 1h"),
        ],
    },
    Key {
        key: "outlier.max-percent",
        good: "100",
        seen: |s| outlier(s).max_percent == 100,
        bad: &[("0", "expected a whole number from 1 to 100")],
    },
    Key {
        key: "retries",
        good: "0",
        seen: |s| s.spec.retries == 0,
        bad: &[("1.5", U32)],
    },
    Key {
        key: "retries.on",
        good: "connect-failure,503",
        seen: |s| s.spec.retry.on.to_string() == "connect-failure, 503",
        bad: &[(
            "conect-failure",
            "expected one of connect-failure, reset-before-response, response-timeout, 404, 408, \
             425, 429, 500, 501, 502, 503, 504: did you mean `connect-failure`?",
        )],
    },
    Key {
        key: "retries.budget",
        good: "50%",
        seen: |s| s.spec.retry.budget == 50,
        bad: &[(
            "50",
            "`50` is no such percentage; expected 0% to 1000% of the requests",
        )],
    },
    Key {
        key: "retries.floor",
        good: "3",
        seen: |s| s.spec.retry.floor == 3,
        bad: &[("3/s", U32)],
    },
    Key {
        key: "scheduler",
        good: "wlc",
        seen: |s| s.spec.scheduler.kind == SchedulerKind::Wlc,
        bad: &[
            (
                "wllc",
                "expected one of rr, wrr, lc, wlc, sed, nq, sh, dh, mh, ring, lblc, lblcr, fo, ovf, first, random, twos, ewma: did you mean `wlc`?",
            ),
            (
                "roundrobin",
                "expected one of rr, wrr, lc, wlc, sed, nq, sh, dh, mh, ring, lblc, lblcr, fo, ovf, first, random, twos, ewma: did you mean `wrr`?",
            ),
        ],
    },
    Key {
        key: "scheduler.hash",
        good: "source-port",
        seen: |s| s.spec.scheduler.hash == HashKey::SourcePort,
        bad: &[(
            "source_port",
            "expected one of source, source-port: did you mean `source-port`?",
        )],
    },
    Key {
        key: "scheduler.table",
        good: "131071",
        seen: |s| s.spec.scheduler.table == 131_071,
        bad: &[
            (
                "131101",
                "a label may ask for at most 131071 slots, since filling more takes time from all \
                 services: use 131071, or a service in the configuration file",
            ),
            ("many", "expected a whole number from 0 to 131071"),
        ],
    },
    Key {
        key: "scheduler.seed",
        good: "18446744073709551615",
        seen: |s| s.spec.scheduler.seed == u64::MAX,
        bad: &[(
            "x",
            "expected a whole number from 0 to 18446744073709551615",
        )],
    },
    Key {
        key: "scheduler.bound",
        good: "150",
        seen: |s| s.spec.scheduler.bound == 150,
        bad: &[
            (
                "100",
                "100 % of their share is less than containers need together: use at least 101, or \
                 0 for no bound",
            ),
            ("1.25", "expected a whole number from 0 to 65535"),
        ],
    },
    Key {
        key: "scheduler.decay",
        good: "3s",
        seen: |s| s.spec.scheduler.decay.as_secs() == 3,
        bad: &[("0", "expected a time of at least 1ms")],
    },
    Key {
        key: "slow-start",
        good: "10s",
        seen: |s| s.spec.slow_start.as_secs() == 10,
        bad: &[(
            "10",
            "expected a time with units d, h, m, s or ms, such as 5s, 500ms or 1h30m (a time \
             without a unit): did you mean `10s`?",
        )],
    },
    Key {
        key: "persistence",
        good: "5m",
        seen: |s| {
            s.spec
                .persistence
                .is_some_and(|p| p.timeout.as_secs() == 300)
        },
        bad: &[("0", "expected a time of at least 1ms")],
    },
    Key {
        key: "persistence.prefix-v4",
        good: "24",
        seen: |s| s.spec.persistence.is_some_and(|p| p.prefix_v4 == 24),
        bad: &[("33", "expected a whole number from 1 to 32")],
    },
    Key {
        key: "persistence.prefix-v6",
        good: "56",
        seen: |s| s.spec.persistence.is_some_and(|p| p.prefix_v6 == 56),
        bad: &[("0", "expected a whole number from 1 to 128")],
    },
    Key {
        key: "cookie",
        good: "SRV",
        seen: |s| cookie(s).name == "SRV".into() && cookie(s).indirect,
        bad: &[(
            "a b",
            "\"a b\" is not the name of a cookie: letters, digits and !#$%&'*+-.^_`|~, at most 255",
        )],
    },
    Key {
        key: "cookie.mode",
        good: "prefix",
        seen: |s| cookie(s).mode == plimsoll_model::CookieMode::Prefix && !cookie(s).httponly,
        bad: &[(
            "prefi",
            "expected one of insert, rewrite, prefix: did you mean `prefix`?",
        )],
    },
    Key {
        key: "cookie.indirect",
        good: "false",
        seen: |s| !cookie(s).indirect,
        bad: &[("no", "expected one of true, false")],
    },
    Key {
        key: "cookie.nocache",
        good: "false",
        seen: |s| !cookie(s).nocache,
        bad: &[("no", "expected one of true, false")],
    },
    Key {
        key: "cookie.httponly",
        good: "false",
        seen: |s| !cookie(s).httponly,
        bad: &[("no", "expected one of true, false")],
    },
    Key {
        key: "cookie.secure",
        good: "true",
        seen: |s| cookie(s).secure,
        bad: &[("yes", "expected one of true, false")],
    },
    Key {
        key: "cookie.domain",
        good: "example.com",
        seen: |s| cookie(s).domain.as_deref() == Some("example.com"),
        bad: &[("a;b", "\"a;b\" is not a domain, such as example.com")],
    },
    Key {
        key: "cookie.maxidle",
        good: "30m",
        seen: |s| cookie(s).maxidle == Some(Duration::from_secs(1800)),
        bad: &[("500ms", "expected a time of at least 1s")],
    },
    Key {
        key: "cookie.maxlife",
        good: "8h",
        seen: |s| cookie(s).maxlife == Some(Duration::from_secs(8 * 3600)),
        bad: &[("0", "expected a time of at least 1s")],
    },
    Key {
        key: "cookie.key",
        good: "correct-horse",
        seen: |s| &*cookie(s).key == "correct-horse",
        bad: &[("short", "a key has 8 to 255 characters")],
    },
];
