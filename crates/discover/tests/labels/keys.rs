//! Every key with a good value and with bad ones, and what is said of keys that there are not.

use std::collections::BTreeSet;
use std::time::Duration;

use plimsoll_discover::docker::labels::schema;
use plimsoll_model::{CheckKind, HashKey, Name, PlaneChoice, SchedulerKind, Service};

use crate::world::{World, labelled};

/// Labels that have to be beside a key.
fn beside(key: &str) -> &'static [(&'static str, &'static str)] {
    match key {
        "check" | "host" => &[],
        "check.path" | "check.host" | "check.status" => &[("plimsoll.check", "http")],
        key if key.starts_with("check.") => &[("plimsoll.check", "tcp")],
        key if key.starts_with("persistence.") => &[("plimsoll.persistence", "5m")],
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

const KEYS: &[Key] = &[
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
                "host `a.example:81`: a host has no port: the listen says it; expected a name \
                 (example.com), *.example.com, or *",
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
        key: "scheduler",
        good: "wlc",
        seen: |s| s.spec.scheduler.kind == SchedulerKind::Wlc,
        bad: &[
            (
                "wllc",
                "expected one of rr, wrr, lc, wlc, sh, mh, random, twos: did you mean `wlc`?",
            ),
            (
                "roundrobin",
                "expected one of rr, wrr, lc, wlc, sh, mh, random, twos",
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
        good: "64",
        seen: |s| s.spec.persistence.is_some_and(|p| p.prefix_v6 == 64),
        bad: &[("0", "expected a whole number from 1 to 128")],
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
        key: "sorry",
        good: "10.0.0.9:80",
        seen: |s| s.spec.sorry.as_ref().unwrap().addr.to_string() == "10.0.0.9:80",
        bad: &[(
            "sorry:80",
            "backend `sorry:80`: not an IP address and port; expected ADDR:PORT (10.0.0.1:80, \
             [fd00::1]:80), ADDR, or unix:/PATH",
        )],
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
        bad: &[("health", "path `health` of a check: a path begins with /")],
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
        bad: &[("0", "expected a time of at least 1ms")],
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
        key: "timeouts.idle",
        good: "0",
        seen: |s| s.spec.timeouts.idle == Duration::ZERO,
        bad: &[("400d", TIME)],
    },
];

#[test]
fn the_table_has_every_key() {
    let told: BTreeSet<&str> = KEYS.iter().map(|key| key.key).collect();
    assert_eq!(told, schema::keys().collect());
    assert_eq!(told.len(), KEYS.len());
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
        assert_eq!(made.service().name().as_str(), "web/admin");
        assert!(seen(made.service()), "{key}={good}: {:?}", made.0);
    }
}

#[test]
fn unknown_keys_name_the_nearest() {
    let all = schema::SERVICE.join(", ");
    let file_only = |key: &str| {
        format!(
            "{key} holds for all clients of a listen, whichever service they want, so no container \
             may say it: set it in a service of the configuration file"
        )
    };
    for (label, service, why) in [
        (
            "plimsoll.prot",
            "web",
            "unknown key `prot`: did you mean `port`?",
        ),
        (
            "plimsoll.Port",
            "web",
            "unknown key `Port`: did you mean `port`?",
        ),
        (
            "plimsoll.body_limit",
            "web",
            "unknown key `body_limit`: did you mean `body-limit`?",
        ),
        (
            "plimsoll.timeouts.conect",
            "web",
            "unknown key `timeouts.conect`: did you mean `timeouts.connect`?",
        ),
        (
            "plimsoll.timeout.connect",
            "web",
            "unknown key `timeout.connect`: did you mean `timeouts.connect`?",
        ),
        (
            "plimsoll.admin.hots",
            "web/admin",
            "unknown key `hots`: did you mean `host`?",
        ),
        (
            "plimsoll.admin.enable",
            "web/admin",
            "`enable` speaks of a whole container: say plimsoll.enable",
        ),
        (
            "plimsoll.a!b.port",
            "web/a!b",
            "`a!b` cannot name a service: use letters, digits, - and _",
        ),
        (
            "plimsoll.timeouts.header",
            "web",
            &file_only("timeouts.header"),
        ),
        (
            "plimsoll.timeouts.keep-alive",
            "web",
            &file_only("timeouts.keepalive"),
        ),
        (
            "plimsoll.timeout.header",
            "web",
            "unknown key `timeout.header`: did you mean `timeouts.header`?",
        ),
        (
            "plimsoll.admin.timeouts.conect",
            "web/admin",
            "unknown key `timeouts.conect`: did you mean `timeouts.connect`?",
        ),
        (
            "plimsoll.admin.timeouts.keepalive",
            "web/admin",
            &file_only("timeouts.keepalive"),
        ),
        (
            "plimsoll.admin.xyzzy",
            "web/admin",
            &format!("unknown key `xyzzy`: expected one of {all}"),
        ),
    ] {
        let made = World::new().made(&labelled(&[(label, "80")]));
        let subject = format!("service `{service}`");
        let reason = format!("label {label}=80: {why}");
        assert_eq!(made.invalid(), [(&*subject, &*reason)]);
    }
    for label in [
        "plimsoll.",
        "plimsoll..port",
        "plimsoll.a.b.port",
        "plimsoll.port.x",
    ] {
        let made = World::new().made(&labelled(&[(label, "80")]));
        assert!(made.reason().starts_with(&format!("label {label}=80: ")));
    }
}

#[test]
fn what_is_wrong_with_one_service_does_not_touch_another() {
    let made = World::new().made(&labelled(&[
        ("plimsoll.host", "a.example"),
        ("plimsoll.api.port", "x"),
        ("plimsoll.api.host", "b.example"),
        ("plimsoll.ops.host", "c.example"),
    ]));
    let (services, routes) = made.names();
    assert_eq!(services, ["web", "web/ops"]);
    assert_eq!(routes, ["a.example:80", "c.example:80"]);
    assert_eq!(made.invalid()[0].0, "service `web/api`");
}

#[test]
fn all_that_is_wrong_with_a_service_is_told_at_once() {
    let labels = [
        ("plimsoll.host", "a b"),
        ("plimsoll.port", "x"),
        ("plimsoll.prot", "80"),
        ("plimsoll.queue", "x"),
        ("plimsoll.retries", "x"),
        ("plimsoll.weight", "x"),
    ];
    let made = World::new().made(&labelled(&labels));
    let reason = made.reason();
    assert!(reason.contains("plimsoll.prot=80") && reason.contains("plimsoll.port=x"));
    let made = World::new().made(&labelled(&labels[2..]));
    assert_eq!(made.reason().matches("label plimsoll.").count(), 4);
    let labels = ["a", "b", "c", "d", "e", "f"].map(|key| (format!("plimsoll.{key}x"), "1"));
    let labels: Vec<(&str, &str)> = labels.iter().map(|(k, v)| (&**k, *v)).collect();
    let made = World::new().made(&labelled(&labels));
    assert!(made.reason().ends_with("; and 2 more"), "{}", made.reason());
}

#[test]
fn labels_of_the_wrong_kind_are_told() {
    for (labels, why) in [
        (
            &[("plimsoll.protocol", "tcp"), ("plimsoll.host", "a.example")][..],
            "label plimsoll.host=a.example: only for http services, this one is tcp",
        ),
        (
            &[("plimsoll.listen", "53/tcp"), ("plimsoll.body-limit", "1")],
            "label plimsoll.body-limit=1: only for http services, this one is tcp",
        ),
        (
            &[
                ("plimsoll.protocol", "http"),
                ("plimsoll.listen", "*:53/udp"),
            ],
            "label plimsoll.listen=*:53/udp: udp is said here, but http by label plimsoll.protocol",
        ),
        (
            &[("plimsoll.priority", "1")],
            "label plimsoll.priority=1: it orders routes, and there is none without plimsoll.host",
        ),
        (
            &[("plimsoll.check.rise", "1")],
            "label plimsoll.check.rise=1: it needs label plimsoll.check=tcp or \
             plimsoll.check=http:/PATH beside it",
        ),
        (
            &[("plimsoll.check", "tcp"), ("plimsoll.check.path", "/")],
            "label plimsoll.check.path=/: a tcp check has none: make it http:/PATH",
        ),
        (
            &[("plimsoll.check", "http:/a"), ("plimsoll.check.path", "/b")],
            "label plimsoll.check=http:/a: plimsoll.check.path says the path, too: leave one of \
             them out",
        ),
        (
            &[("plimsoll.persistence.prefix-v4", "8")],
            "label plimsoll.persistence.prefix-v4=8: it needs label plimsoll.persistence with a \
             time",
        ),
        (
            &[("plimsoll.scheduler.table", "100")],
            "service `web`: table 100 is not a prime number",
        ),
        (
            &[("plimsoll.plane", "ipvs")],
            "service `web`: listen *:80/http is layer 7, which needs plane = \"proxy\"",
        ),
    ] {
        assert_eq!(World::new().made(&labelled(labels)).reason(), why);
    }
}

#[test]
fn listens_say_the_protocol_where_no_label_does() {
    for (listen, listens) in [
        ("5432/tcp", &["*:5432/tcp"][..]),
        ("53/tcp+udp", &["*:53/tcp", "*:53/udp"]),
        ("10.0.0.1:53/udp, 54", &["10.0.0.1:53/udp", "*:54/udp"]),
        ("8000-8010", &["*:8000-8010/http"]),
        ("[::]:80", &["[::]:80/http"]),
        (":80", &["*:80/http"]),
    ] {
        let labels = [("plimsoll.listen", listen), ("plimsoll.port", "1")];
        let made = World::new().made(&labelled(&labels));
        let listens: Vec<_> = listens.iter().map(|l| l.parse().unwrap()).collect();
        assert_eq!(made.service().spec.listens, listens);
    }
}

#[test]
fn long_values_are_cut_and_much_is_refused() {
    let long = "x".repeat(5000);
    let made = World::new().made(&labelled(&[("plimsoll.port", &long)]));
    assert!(made.reason().len() < 200 && made.reason().contains("x…: expected"));
    let made = World::new().made(&labelled(&[("plimsoll.path", &long)]));
    assert_eq!(made.reason().matches('x').count(), 120, "{}", made.reason());
    let made = World::new().made(&labelled(&[("plimsoll.host", "a\u{7}\nb")]));
    assert!(!made.reason().contains(char::is_control));
    let made = World::new().made(&labelled(&[("plimsoll.a\u{1}b.x", "80")]));
    assert!(!made.reason().contains(char::is_control), "{:?}", made.0);
    let huge = "x".repeat(70_000);
    let made = World::new().made(&labelled(&[("plimsoll.port", &huge)]));
    assert!(
        made.reason()
            .ends_with("the value is longer than 65536 bytes")
    );

    let hosts: Vec<String> = (0..1025).map(|i| format!("h{i}.example")).collect();
    let made = World::new().made(&labelled(&[("plimsoll.host", &hosts.join(","))]));
    assert!(
        made.reason()
            .ends_with("expected at most 1024 of them, not 1025")
    );
    let some = hosts[..700].join(",");
    let made = World::new().made(&labelled(&[
        ("plimsoll.host", &some),
        ("plimsoll.listen", "80,81"),
    ]));
    assert_eq!(
        made.reason(),
        "700 hosts on 2 listens are too many: at most 1024 together"
    );
    let other = hosts[700..].join(",");
    let made = World::new().made(&labelled(&[
        ("plimsoll.host", &some),
        ("plimsoll.b.host", &other),
    ]));
    assert_eq!(
        made.reason(),
        "with this service the container has 1025 routes: at most 1024"
    );
    assert_eq!(made.names().0, ["web"]);

    let many = |count: usize, part: &str| {
        let labels: Vec<String> = (0..count).map(|i| format!("plimsoll.n{i}{part}")).collect();
        let labels: Vec<(&str, &str)> = labels.iter().map(|l| (&**l, "80")).collect();
        let made = World::new().made(&labelled(&labels));
        (made.invalid()[0].0.to_owned(), made.reason().to_owned())
    };
    let container = || "container web".to_owned();
    let services = "it has more than 64 services".to_owned();
    assert_eq!(many(65, ".port"), (container(), services));
    let labels = "it has more than 1024 labels plimsoll.*".to_owned();
    assert_eq!(many(1025, ""), (container(), labels));
}

#[test]
fn a_name_that_is_too_long_is_said_so() {
    let name: Name = "x".repeat(250).parse().unwrap();
    let labels = [
        ("plimsoll.service", name.as_str()),
        ("plimsoll.admin.port", "1"),
    ];
    let made = World::new().made(&labelled(&labels));
    assert_eq!(
        made.reason(),
        "a name of 256 bytes is too long: at most 255: say another with label \
         plimsoll.admin.service"
    );
    let label = format!("plimsoll.{}.port", "n".repeat(65));
    let made = World::new().made(&labelled(&[(&label, "1")]));
    assert!(
        made.reason()
            .ends_with("a service is named by at most 64 letters")
    );
}
