//! Every key with a good value and with bad ones.

use std::collections::BTreeSet;
use std::time::Duration;

use plimsoll_discover::docker::labels::schema;
use plimsoll_model::{
    AccessLog, CheckKind, HashKey, PlaneChoice, ProxyVersion, SchedulerKind, Service,
};

use crate::keys_http;
use crate::keys_limits;
use crate::world::{World, labelled};

/// Labels that have to be beside a key.
fn beside(key: &str) -> &'static [(&'static str, &'static str)] {
    match key {
        "check" | "host" => &[],
        "check.path" | "check.host" | "check.status" => &[("plimsoll.check", "http")],
        key if key.starts_with("check.") => &[("plimsoll.check", "tcp")],
        key if key.starts_with("cookie.") => &[("plimsoll.cookie", "SRV")],
        key if key.starts_with("outlier.") => &[("plimsoll.outlier", "5xx")],
        key if key.starts_with("persistence.") => &[("plimsoll.persistence", "5m")],
        "lower" => &[("plimsoll.upper", "8")],
        "accept-proxy" => &[("plimsoll.protocol", "tcp")],
        "priority" => &[("plimsoll.host", "a.example")],
        "network" | "drain" => &[("plimsoll.port", "80")],
        _ => &[],
    }
}

fn made(key: &str, value: &str) -> crate::world::Made {
    let label = format!("plimsoll.{key}");
    let mut labels = vec![(&*label, value)];
    labels.extend(beside(key));
    World::new().made(&labelled(&labels))
}

#[derive(Clone, Copy)]
struct Key {
    key: &'static str,
    good: &'static str,
    seen: fn(&Service) -> bool,
    /// Values, and what is said of them after the label.
    bad: &'static [(&'static str, &'static str)],
}

const U32: &str = "expected a whole number from 0 to 4294967295";
const TIME: &str = "expected a time with units d, h, m, s or ms, such as 5s, 500ms or 1h30m";

fn backend(service: &Service) -> &plimsoll_model::Backend {
    service.backends.values().next().unwrap()
}

fn cookie(service: &Service) -> &plimsoll_model::Cookie {
    service.spec.cookie.as_ref().unwrap()
}

fn outlier(service: &Service) -> plimsoll_model::Outlier {
    service.spec.outlier.unwrap()
}

const KEYS: &[Key] = &[
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
        key: "enable",
        good: "true",
        seen: |s| s.name().as_str() == "web",
        bad: &[
            ("tru", "expected one of true, false: did you mean `true`?"),
            ("yes", "expected one of true, false"),
        ],
    },
    Key {
        key: "service",
        good: "shop/api",
        seen: |s| s.name().as_str() == "shop/api",
        bad: &[(
            "a b",
            "name `a b` has ' ': use letters, digits and signs such as - _ . / @",
        )],
    },
    Key {
        key: "port",
        good: "9000",
        seen: |s| backend(s).addr.to_string() == "172.17.0.2:9000",
        bad: &[
            ("0", "expected a whole number from 1 to 65535"),
            ("65536", "expected a whole number from 1 to 65535"),
            ("+80", "expected a whole number from 1 to 65535"),
            ("80/tcp", "expected a whole number from 1 to 65535"),
            ("http", "expected a whole number from 1 to 65535"),
        ],
    },
    Key {
        key: "protocol",
        good: "tcp",
        seen: |s| s.spec.listens == ["*:8080/tcp".parse().unwrap()],
        bad: &[(
            "htp",
            "expected one of tcp, udp, sctp, http: did you mean `http`?",
        )],
    },
    Key {
        key: "listen",
        good: "8000, 127.0.0.1:81 ,[::1]:82/http",
        seen: |s| {
            let listens = ["*:8000/http", "127.0.0.1:81/http", "[::1]:82/http"];
            s.spec.listens == listens.map(|l| l.parse().unwrap())
        },
        bad: &[
            ("80,,81", "there is nothing between two commas"),
            ("80,*:80", "*:80/http is said twice"),
            (
                "80/htp",
                "unknown protocol `htp`, expected one of tcp, udp, sctp, http: did you mean `http`?",
            ),
            (
                "80/http,53/udp",
                "a service is either http or not: make two of it",
            ),
            ("53/tcp+udp,54", "54 has no protocol, others have: say it"),
            (
                "localhost:80",
                "listen `localhost:80/http`: the address is not an IP address; expected \
                 ADDR:PORT/PROTO, e.g. 0.0.0.0:80/http, [::]:443/tcp, *:53/udp",
            ),
            (
                "0",
                "listen `*:0/http`: port 0 cannot be listened on: use 1 to 65535; expected \
                 ADDR:PORT/PROTO, e.g. 0.0.0.0:80/http, [::]:443/tcp, *:53/udp",
            ),
            (
                "mark:5",
                "a firewall mark cannot be said by a label: use a file",
            ),
        ],
    },
    Key {
        key: "host",
        good: "a.example,*.b.example",
        seen: |_| true,
        bad: &[
            (
                "a b",
                "host `a b`: not a host name; expected a name (example.com), *.example.com, or *",
            ),
            ("a.example,A.example", "a.example is said twice"),
            (
                "a.example:81",
                "a host alone is read: say labels plimsoll.host=a.example, plimsoll.listen=81",
            ),
        ],
    },
    Key {
        key: "path",
        good: "/api",
        seen: |_| true,
        bad: &[("api", "path `api`: a path begins with /")],
    },
    Key {
        key: "priority",
        good: "-3",
        seen: |_| true,
        bad: &[(
            "high",
            "expected a whole number from -2147483648 to 2147483647",
        )],
    },
    Key {
        key: "weight",
        good: "0",
        seen: |s| backend(s).weight == 0,
        bad: &[("2147483648", "expected a whole number from 0 to 2147483647")],
    },
    Key {
        key: "maxconn",
        good: "32",
        seen: |s| backend(s).maxconn == 32,
        bad: &[("-1", U32)],
    },
    Key {
        key: "upper",
        good: "8",
        seen: |s| (backend(s).upper, backend(s).lower) == (8, 0),
        bad: &[("4294967296", U32)],
    },
    Key {
        key: "lower",
        good: "3",
        seen: |s| (backend(s).upper, backend(s).lower) == (8, 3),
        bad: &[
            ("no", U32),
            ("9", "the lower threshold 9 is above `upper`, which is 8"),
        ],
    },
    Key {
        key: "queue",
        good: "7",
        seen: |s| s.spec.queue == 7,
        bad: &[("many", U32)],
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
    Key {
        key: "body-limit",
        good: "1048576",
        seen: |s| s.spec.max_body == 1 << 20,
        bad: &[(
            "1m",
            "expected a whole number from 0 to 9223372036854775807",
        )],
    },
    Key {
        key: "allow",
        good: "10.0.0.0/8, fd00::/8",
        seen: |s| s.spec.clients.allow.len() == 2 && s.spec.clients.deny.is_empty(),
        bad: &[(
            "10.0.0.1/8",
            "10.0.0.1/8 has bits set beyond its prefix: did you mean `10.0.0.0/8`?",
        )],
    },
    Key {
        key: "deny",
        good: "::ffff:192.0.2.7/128",
        seen: |s| s.spec.clients.deny == ["192.0.2.7/32".parse().unwrap()],
        bad: &[(
            "everybody",
            "`everybody` is no network: expected networks (10.0.0.0/8, fd00::/8) or addresses",
        )],
    },
    Key {
        key: "access-log",
        good: "json",
        seen: |s| s.spec.access_log == Some(AccessLog::Json),
        bad: &[(
            "jsn",
            "expected one of off, combined, json, httplog: did you mean `json`?",
        )],
    },
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
        key: "sessions",
        good: "1000",
        seen: |s| s.spec.sessions.limit == 1000,
        bad: &[("0", "expected a whole number from 1 to 4294967295")],
    },
    Key {
        key: "sessions.per-source",
        good: "0",
        seen: |s| s.spec.sessions.per_source == 0,
        bad: &[("-1", "expected a whole number from 0 to 4294967295")],
    },
    Key {
        key: "sessions.responses",
        good: "1",
        seen: |s| s.spec.sessions.responses == 1,
        bad: &[("x", "expected a whole number from 0 to 4294967295")],
    },
    Key {
        key: "trusted",
        good: "10.0.0.0/8, fd00::/8,192.0.2.7",
        seen: |s| s.spec.trusted.len() == 3,
        bad: &[
            (
                "10.0.0.0/33",
                "`10.0.0.0/33` is no network: expected networks (10.0.0.0/8, fd00::/8) or addresses",
            ),
            (
                "10.0.0.1/8",
                "10.0.0.1/8 has bits set beyond its prefix: did you mean `10.0.0.0/8`?",
            ),
        ],
    },
    Key {
        key: "accept-proxy",
        good: "10.0.0.0/8, fd00::/8",
        seen: |s| s.spec.proxy_headers.accept.len() == 2,
        bad: &[(
            "10.0.0.1/8",
            "10.0.0.1/8 has bits set beyond its prefix: did you mean `10.0.0.0/8`?",
        )],
    },
    Key {
        key: "send-proxy",
        good: "v2",
        seen: |s| s.spec.proxy_headers.send == Some(ProxyVersion::V2),
        bad: &[("2", "expected one of v1, v2: did you mean `v2`?")],
    },
    Key {
        key: "sorry",
        good: "10.0.0.9:80",
        seen: |s| s.spec.sorry.as_ref().unwrap().addr.to_string() == "10.0.0.9:80",
        bad: &[
            (
                "unix:/var/run/docker.sock",
                "Unix sockets are the operator's: use an address, or a file",
            ),
            (
                "sorry:80",
                "backend `sorry:80`: not an IP address and port; expected ADDR:PORT (10.0.0.1:80, \
             [fd00::1]:80), ADDR, or unix:/PATH",
            ),
        ],
    },
    Key {
        key: "plane",
        good: "proxy",
        seen: |s| s.spec.plane == PlaneChoice::Proxy,
        bad: &[(
            "porxy",
            "expected one of auto, proxy, ebpf, ipvs: did you mean `proxy`?",
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
        key: "network",
        good: "bridge",
        seen: |s| s.backends.len() == 1,
        bad: &[("a b", "expected the name of one network")],
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
        seen: |s| s.spec.timeouts.idle == Duration::ZERO,
        bad: &[("400d", TIME)],
    },
];

#[test]
fn the_table_has_every_key() {
    let told: Vec<&str> = KEYS
        .iter()
        .map(|key| key.key)
        .chain(keys_http::keys())
        .chain(keys_limits::keys())
        .collect();
    let once: BTreeSet<&str> = told.iter().copied().collect();
    assert_eq!(once, schema::keys().collect());
    assert_eq!(told.len(), once.len());
}

#[test]
fn good_values_are_seen() {
    for Key {
        key, good, seen, ..
    } in KEYS
    {
        let made = made(key, good);
        assert!(seen(made.service()), "{key}={good}: {:?}", made.0);
    }
}

#[test]
fn bad_values_say_what_was_expected() {
    for Key { key, bad, .. } in KEYS {
        assert!(!bad.is_empty());
        for (value, why) in *bad {
            let made = made(key, value);
            let reason = made.reason();
            assert_eq!(reason, format!("label plimsoll.{key}={value}: {why}"));
            assert!(made.services().is_empty() && made.routes().is_empty());
        }
        let made = made(key, " ");
        let empty = "the value is empty: say one, or leave the label out";
        assert_eq!(made.reason(), format!("label plimsoll.{key}=: {empty}"));
    }
}

#[test]
fn further_services_have_the_same_keys() {
    for Key {
        key, good, seen, ..
    } in KEYS
    {
        if *key == "enable" || *key == "service" {
            continue;
        }
        let rename = |label: &str| label.replace("plimsoll.", "plimsoll.admin.");
        let mut labels = vec![(rename(&format!("plimsoll.{key}")), *good)];
        labels.extend(
            beside(key)
                .iter()
                .map(|(label, value)| (rename(label), *value)),
        );
        let labels: Vec<(&str, &str)> = labels.iter().map(|(k, v)| (&**k, *v)).collect();
        let made = World::new().made(&labelled(&labels));
        let named = matches!(*key, "host" | "priority");
        let name = if named { "a.example" } else { "web/admin" };
        assert_eq!(made.service().name().as_str(), name);
        assert!(seen(made.service()), "{key}={good}: {:?}", made.0);
    }
}
