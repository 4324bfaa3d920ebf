//! Every key with a good value and with bad ones.

mod checked;
mod spread;

use std::collections::BTreeSet;

use plimsoll_discover::docker::labels::schema;
use plimsoll_model::{AccessLog, Forward, PlaneChoice, ProxyVersion, Service};

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
        "accept-proxy" | "forward" => &[("plimsoll.protocol", "tcp")],
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

const KEYS: [&[Key]; 3] = [HERE, checked::KEYS, spread::KEYS];

fn all() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().copied().flatten()
}

const HERE: &[Key] = &[
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
        key: "forward",
        good: "nat",
        seen: |s| backend(s).forward == Forward::Nat,
        bad: &[("masq", "expected one of proxy, nat, dr, tunnel")],
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
        key: "network",
        good: "bridge",
        seen: |s| s.backends.len() == 1,
        bad: &[("a b", "expected the name of one network")],
    },
];

#[test]
fn the_table_has_every_key() {
    let told: Vec<&str> = all()
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
    } in all()
    {
        let made = made(key, good);
        assert!(seen(made.service()), "{key}={good}: {:?}", made.0);
    }
}

#[test]
fn bad_values_say_what_was_expected() {
    for Key { key, bad, .. } in all() {
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
    } in all()
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
