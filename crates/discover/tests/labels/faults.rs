//! What is said of keys that there are not, and of those that do not go together.

use crate::world::{Change, World, labelled};

#[test]
fn unknown_keys_name_the_nearest() {
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
            "unknown key `xyzzy`: see docs/labels.md for all",
        ),
    ] {
        let made = World::new().made(&labelled(&[(label, "80")]));
        let subject = format!("service `{service}`");
        let reason = format!("label {label}=80: {why}");
        assert_eq!(made.invalid(), [(&*subject, &*reason)]);
    }
    for label in ["plimsoll.a.b.port", "plimsoll.port.x"] {
        let made = World::new().made(&labelled(&[(label, "80")]));
        assert!(made.reason().starts_with(&format!("label {label}=80: ")));
    }
}

#[test]
fn a_dot_too_many_is_told() {
    for (label, service, advice) in [
        ("plimsoll.", "web", "see docs/labels.md for all keys"),
        ("plimsoll..port", "web", "did you mean `plimsoll.port`?"),
        ("plimsoll.port.", "web", "did you mean `plimsoll.port`?"),
        ("plimsoll..enable", "web", "did you mean `plimsoll.enable`?"),
        (
            "plimsoll.a..host",
            "web/a",
            "did you mean `plimsoll.a.host`?",
        ),
        (
            "plimsoll.a..enable",
            "web/a",
            "see docs/labels.md for all keys",
        ),
    ] {
        let made = World::new().made(&labelled(&[(label, "80")]));
        let subject = format!("service `{service}`");
        let reason = format!("label {label}=80: it has a dot too many: {advice}");
        assert_eq!(made.invalid(), [(&*subject, &*reason)]);
    }
}

#[test]
fn keys_of_other_balancers_are_known() {
    for (key, ours) in [
        ("hostname", "host"),
        ("HOSTNAME", "host"),
        ("virtual_host", "host"),
        ("domain", "host"),
        ("domains", "host"),
        ("rule", "host"),
        ("healthcheck", "check"),
        ("health", "check"),
        ("timeouts.drain", "drain"),
    ] {
        for prefix in ["plimsoll", "plimsoll.admin"] {
            let label = format!("{prefix}.{key}");
            let made = World::new().made(&labelled(&[(&label, "1")]));
            let why = format!("label {label}=1: unknown key `{key}`: did you mean `{ours}`?");
            assert_eq!(made.reason(), why);
        }
    }
    for (key, why) in [
        ("tls", "this version has no TLS: "),
        ("https", "this version has no TLS: "),
        ("cert", "this version has no TLS: "),
        ("tls.certresolver", "this version has no TLS: "),
        ("tls.xyzzy", "this version has no TLS: "),
        ("entrypoints", "there are no entry points: key `listen` "),
        (
            "sticky",
            "key `cookie` names a cookie by which clients stay ",
        ),
        ("sticky.cookie", "key `cookie` names "),
        ("sticky.cookie.secure", "key `cookie` names "),
        ("middlewares", "there are no middlewares: "),
    ] {
        let made = World::new().made(&labelled(&[(&format!("plimsoll.{key}"), "1")]));
        let [(subject, reason)] = made.invalid()[..] else {
            panic!("{:?}", made.0);
        };
        assert_eq!(subject, "service `web`", "{key}");
        assert!(reason.contains(&format!("`: {why}")), "{reason}");
    }
    for (theirs, ours) in [
        ("roundrobin", "wrr"),
        ("leastconn", "wlc"),
        ("least_conn", "wlc"),
        ("source", "sh"),
        ("ip_hash", "sh"),
        ("least_time", "ewma"),
        ("ring_hash", "ring"),
        ("wrrr", "wrr"),
    ] {
        let made = World::new().made(&labelled(&[("plimsoll.scheduler", theirs)]));
        let meant = format!(": did you mean `{ours}`?");
        assert!(made.reason().ends_with(&meant), "{}", made.reason());
    }
}

#[test]
fn what_is_no_host_says_which_labels_mean_it() {
    for (host, why) in [
        (
            "http://e7.example/",
            "a scheme is not read: say label plimsoll.a.host=e7.example",
        ),
        (
            "http://e7.example:8080/api",
            "a scheme is not read: say labels plimsoll.a.host=e7.example, \
             plimsoll.a.listen=8080, plimsoll.a.path=/api",
        ),
        (
            "e7.example/api",
            "a host alone is read: say labels plimsoll.a.host=e7.example, plimsoll.a.path=/api",
        ),
        (
            "Host(`x.example`)",
            "rules are not read: write plimsoll.a.host=x.example",
        ),
        (
            "Host(`x.example`, `y.example`) && PathPrefix(`/api`)",
            "rules are not read: write plimsoll.a.host=x.example,y.example and plimsoll.a.path=/api",
        ),
        (
            "HostRegexp(`^.+$`)",
            "rules are not read: list the names alone",
        ),
        (
            "münchen.example",
            "`münchen.example` has letters beyond ASCII: write it as it is in the DNS, with xn--",
        ),
    ] {
        let made = World::new().made(&labelled(&[("plimsoll.a.host", host)]));
        assert_eq!(
            made.reason(),
            format!("label plimsoll.a.host={host}: {why}")
        );
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
    assert_eq!(services, ["a.example", "c.example"]);
    assert_eq!(routes, ["a.example:80", "c.example:80"]);
    assert_eq!(made.invalid()[0].0, "service `b.example`");
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
            &[("plimsoll.accept-proxy", "10.0.0.0/8")],
            "label plimsoll.accept-proxy=10.0.0.0/8: not for http services, whose listens are the \
             operator's: say it in the configuration file, or make it a tcp service",
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
            &[("plimsoll.scheduler.table", "5")],
            "label plimsoll.scheduler.table=5: 5 slots are too few: use a prime of at least 100 for \
             one container and 100 more for each other, or 0 to choose one",
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
fn a_prefix_that_is_nearly_ours_is_told() {
    for (label, meant) in [
        ("plimsol.host", "plimsoll.host"),
        ("plimsol.port", "plimsoll.port"),
        ("plimsole.admin.port", "plimsoll.admin.port"),
        ("pimsoll.host", "plimsoll.host"),
        ("Plimsoll.host", "plimsoll.host"),
        ("PLIMSOLL.HOST", "plimsoll.host"),
    ] {
        let made = World::new().made(&labelled(&[(label, "a")]));
        let reason = format!("label {label}=a: not a label of ours: did you mean `{meant}`?");
        assert_eq!(made.invalid(), [("container web", &*reason)]);
        assert!(made.services().is_empty());
    }
    for label in [
        "plimsol",
        "plimsol.",
        "org.plimsol.host",
        "plimsoll-tools.host",
        "compose.host",
        "soll.host",
    ] {
        let made = World::new().made(&labelled(&[(label, "a")]));
        assert_eq!(made.0, [], "{label}");
    }
}

#[test]
fn a_prefix_that_is_nearly_ours_is_anothers_beside_ours() {
    let typo = ("plimsol.port", "80");
    let made = World::new().made(&labelled(&[typo, ("plimsoll.host", "a.example")]));
    assert_eq!(made.names().1, ["a.example:80"]);
    let off = ("plimsoll.enable", "false");
    assert_eq!(World::new().made(&labelled(&[typo, off])).0, []);
    let mut container = labelled(&[typo]);
    container.set(&["VIRTUAL_HOST=a.example"]);
    let made = World::new().made(&container);
    assert_eq!(made.names().1, ["a.example:80"], "its environment counts");
    assert!(made.reason().starts_with("label plimsol.port=80: "));
}
