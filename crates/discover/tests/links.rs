//! Legacy links, as their environment tells them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::collections::BTreeMap;

use plimsoll_discover::docker::links::{LinksSource, links};
use plimsoll_discover::docker::view::Settings;
use plimsoll_model::{Entry, Item, Route, Service, Update};
use proptest::prelude::*;
use tokio::sync::mpsc;

/// The lines of an environment.
fn vars(lines: &str) -> impl Iterator<Item = (String, String)> {
    let pairs = lines.lines().filter_map(|line| line.trim().split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned()))
}

fn made(lines: &str) -> Vec<Entry> {
    let settings = Settings {
        source: "links".into(),
        http: "*:80/http".parse().unwrap(),
    };
    links(vars(lines), &settings)
}

fn services(entries: &[Entry]) -> Vec<&Service> {
    let items = entries.iter().filter_map(|entry| match &entry.item {
        Item::Service(service) => Some(&**service),
        _ => None,
    });
    items.collect()
}

fn routes(entries: &[Entry]) -> Vec<&Route> {
    let items = entries.iter().filter_map(|entry| match &entry.item {
        Item::Route(route) => Some(&**route),
        _ => None,
    });
    items.collect()
}

/// Name, listen and backend of each service.
fn shares(entries: &[Entry]) -> Vec<[String; 3]> {
    let share = |service: &Service| {
        let backend = service.backends.keys().next().unwrap();
        let listen = service.spec.listens[0].to_string();
        [service.name().to_string(), listen, backend.to_string()]
    };
    services(entries).into_iter().map(share).collect()
}

fn invalid(entries: &[Entry]) -> Vec<(&str, &str)> {
    let items = entries.iter().filter_map(|entry| match &entry.item {
        Item::Invalid {
            subject, reason, ..
        } => Some((&**subject, &**reason)),
        _ => None,
    });
    items.collect()
}

#[test]
fn instances_are_one_service() {
    let entries = made(
        "WEB_1_PORT=tcp://172.17.0.5:8080
         WEB_1_PORT_8080_TCP=tcp://172.17.0.5:8080
         WEB_1_PORT_8080_TCP_ADDR=172.17.0.5
         WEB_1_PORT_8080_TCP_PORT=8080
         WEB_1_PORT_8080_TCP_PROTO=tcp
         WEB_1_PORT_53_UDP=udp://172.17.0.5:53
         WEB_1_NAME=/lb/web_1
         WEB_2_PORT_8080_TCP=tcp://[fd00::6]:8080
         PATH=/bin",
    );
    assert_eq!(invalid(&entries), []);
    let backends = ["172.17.0.5:8080", "[fd00::6]:8080"];
    let wanted = backends.map(|addr| ["web", "*:80/http", addr].map(str::to_owned));
    assert_eq!(shares(&entries), wanted);
    let keys: Vec<&str> = entries.iter().map(|e| e.key.as_str()).collect();
    assert_eq!(keys, ["link WEB_1 service web", "link WEB_2 service web"]);
    let backend = services(&entries)[0].backends.values().next().unwrap();
    assert_eq!(&*backend.name, "web_1");
    assert_eq!(&*backend.origin.entry, "link web_1");
}

#[test]
fn links_of_many_names_share_what_no_host_decides() {
    let entries = made(
        "WEB1_PORT_80_TCP=tcp://172.17.0.5:80
         WEB2_PORT_80_TCP=tcp://172.17.0.6:80
         WEB2_PORT_443_TCP=tcp://172.17.0.6:443",
    );
    assert_eq!(invalid(&entries), []);
    let names: Vec<[String; 3]> = shares(&entries);
    assert_eq!(names[0], ["links", "*:80/http", "172.17.0.5:80"]);
    assert_eq!(names[1], ["links", "*:80/http", "172.17.0.6:80"]);
}

#[test]
fn hosts_as_in_tutum() {
    for (host, name, listen, route) in [
        ("A.example", "a.example", "*:80/http", "a.example:80"),
        (
            "http://a.example:80/",
            "a.example",
            "*:80/http",
            "a.example:80",
        ),
        (
            "ws://a.example:81/chat/*",
            "a.example:81/chat",
            "*:81/http",
            "a.example:81/chat",
        ),
        ("*.a.example", "*.a.example", "*:80/http", "*.a.example:80"),
        ("*/static/", "*/static", "*:80/http", "*:80/static"),
        ("*", "*", "*:80/http", "*:80"),
    ] {
        let entries = made(&format!(
            "WEB_PORT_80_TCP=tcp://172.17.0.5:80
             WEB_ENV_VIRTUAL_HOST={host}
             WEB_ENV_VIRTUAL_HOST_WEIGHT=0"
        ));
        assert_eq!(invalid(&entries), [], "{host}");
        assert_eq!(shares(&entries), [[name, listen, "172.17.0.5:80"]]);
        assert_eq!(routes(&entries)[0].name.as_str(), route);
    }
}

#[test]
fn settings_are_read() {
    let entries = made(
        "WEB_1_PORT_80_TCP=tcp://172.17.0.5:80
         WEB_1_PORT_81_TCP=tcp://172.17.0.5:8181
         WEB_1_PORT_9000_TCP=tcp://172.17.0.5:9000
         WEB_1_ENV_VIRTUAL_HOST=a.example, b.example
         WEB_1_ENV_VIRTUAL_HOST_WEIGHT=7
         WEB_1_ENV_EXCLUDE_PORTS=80
         WEB_1_ENV_TCP_PORTS=9000
         WEB_1_ENV_BALANCE=leastconn",
    );
    assert_eq!(invalid(&entries), []);
    assert_eq!(
        shares(&entries),
        [
            ["tcp-9000", "*:9000/tcp", "172.17.0.5:9000"],
            ["a.example", "*:80/http", "172.17.0.5:8181"],
            ["b.example", "*:80/http", "172.17.0.5:8181"],
        ]
    );
    for service in services(&entries) {
        assert_eq!(service.spec.scheduler.kind.as_str(), "wlc");
    }
    assert!(routes(&entries).iter().all(|route| route.priority == 7));
    let entries = made(
        "WEB_PORT_81_TCP=tcp://172.17.0.5:81
         WEB_PORT_82_TCP=tcp://172.17.0.5:82
         WEB_ENV_VIRTUAL_PORT=82",
    );
    assert_eq!(shares(&entries)[0][2], "172.17.0.5:82");
    let only_tcp = "DB_PORT_5432_TCP=tcp://172.17.0.5:5432\nDB_ENV_TCP_PORTS=5432";
    let entries = made(only_tcp);
    assert_eq!(
        shares(&entries),
        [["tcp-5432", "*:5432/tcp", "172.17.0.5:5432"]]
    );
    assert_eq!(invalid(&entries), []);
}

#[test]
fn what_cannot_be_read_is_named() {
    let web = "WEB_PORT_80_TCP=tcp://172.17.0.5:80";
    for (line, why) in [
        (
            "WEB_ENV_COOKIE=SRV insert\nWEB_ENV_FORCE_SSL=true",
            "not read, and done without: COOKIE, FORCE_SSL",
        ),
        (
            "WEB_ENV_BALANCE=leastcon",
            "BALANCE=leastcon: expected one of roundrobin, static-rr, leastconn, source: did you \
             mean `leastconn`?",
        ),
        (
            "WEB_ENV_VIRTUAL_HOST_WEIGHT=high",
            "VIRTUAL_HOST_WEIGHT=high: expected a whole number",
        ),
        (
            "WEB_PORT_81_TCP=172.17.0.5:81",
            "WEB_PORT_81_TCP: expected tcp://ADDR:PORT",
        ),
    ] {
        let entries = made(&format!("{web}\n{line}"));
        assert_eq!(invalid(&entries), [("link web", why)]);
        assert_eq!(services(&entries).len(), 1, "it works without");
    }
    for (line, why) in [
        (
            "WEB_ENV_VIRTUAL_HOST=https://a.example",
            "VIRTUAL_HOST=https://a.example: TLS is not served",
        ),
        (
            "WEB_ENV_VIRTUAL_HOST=ftp://a.example",
            "VIRTUAL_HOST=ftp://a.example: unknown scheme `ftp`",
        ),
        (
            "WEB_ENV_VIRTUAL_HOST=a.example:x",
            "VIRTUAL_HOST=a.example:x: the port is not one from 1 to 65535",
        ),
        (
            "WEB_ENV_VIRTUAL_HOST=*/*.js",
            "VIRTUAL_HOST=*/*.js: a star in a path stands for all below it only: /path/*",
        ),
        (
            "WEB_ENV_VIRTUAL_HOST=www.a*.example",
            "VIRTUAL_HOST=www.a*.example: host `www.a*.example`: a star stands alone or for the \
             first label; expected a name (example.com), *.example.com, or *",
        ),
        (
            "WEB_ENV_VIRTUAL_PORT=81",
            "VIRTUAL_PORT: it has no link to tcp port 81",
        ),
        (
            "WEB_ENV_EXCLUDE_PORTS=80",
            "it has no tcp port that is not in EXCLUDE_PORTS",
        ),
    ] {
        let entries = made(&format!("{web}\n{line}"));
        assert_eq!(invalid(&entries), [("link web", why)]);
        assert_eq!(services(&entries).len(), 0, "{line}");
    }
    let ports = "WEB_ENV_TCP_PORTS=80/ssl, 81, x";
    let entries = made(&format!("{web}\n{ports}"));
    assert_eq!(
        invalid(&entries)[0].1,
        "TCP_PORTS=80/ssl: TLS is not served; TCP_PORTS=x: expected ports from 1 to 65535; \
         TCP_PORTS: it has no link to tcp port 81"
    );
    let several = "DB_PORT_81_TCP=tcp://172.17.0.5:81\nDB_PORT_82_TCP=tcp://172.17.0.5:82";
    assert_eq!(
        invalid(&made(several)),
        [(
            "link db",
            "it has the ports 81, 82: say which one with VIRTUAL_PORT, or the others with \
             EXCLUDE_PORTS"
        )]
    );
}

#[test]
fn none_and_too_many_are_said() {
    let entries = made("PATH=/bin");
    let [(subject, reason)] = invalid(&entries)[..] else {
        panic!("not one");
    };
    assert_eq!(subject, "links");
    assert!(reason.starts_with("there are none: no variable such as WEB_PORT_80_TCP="));
    let lines: Vec<String> = (0..1025)
        .map(|i| format!("W{i}_PORT_80_TCP=tcp://172.17.0.5:80"))
        .collect();
    let entries = made(&lines.join("\n"));
    assert_eq!(
        invalid(&entries),
        [("links", "there are 1025: at most 1024")]
    );
    assert_eq!(entries.len(), 1);
}

#[tokio::test]
async fn the_source_says_it_once() {
    let lines = "WEB_PORT_80_TCP=tcp://172.17.0.5:80";
    let source = LinksSource::new(vars(lines), "*:8000/http".parse().unwrap());
    let id = source.id().clone();
    assert_eq!(&*id.name, "links");
    let (sender, mut receiver) = mpsc::channel(4);
    source.run(sender).await;
    let update = receiver.recv().await.unwrap();
    assert_eq!(update.source, id);
    let Update::Reset(entries) = update.update else {
        panic!("{update:?}");
    };
    assert_eq!(shares(&entries), [["web", "*:8000/http", "172.17.0.5:80"]]);
    assert_eq!(&*services(&entries)[0].spec.origin.source, "links");
    assert!(receiver.recv().await.is_none(), "nothing else");
}

proptest! {
    #[test]
    fn any_environment_is_sound_or_put_aside(
        vars in prop::collection::btree_map(
            "(WEB|WEB_1|DB)_(PORT_(80|81|x)_TCP|ENV_(VIRTUAL_HOST|TCP_PORTS|EXCLUDE_PORTS|BALANCE|VIRTUAL_PORT))",
            prop_oneof!["tcp://10\\.0\\.0\\.[12]:8[01]", "[a-z*./:,0-9]{0,12}", "8[01],9", "\\PC{0,9}"],
            0..8,
        ),
    ) {
        let vars: BTreeMap<String, String> = vars;
        let settings = Settings {
            source: "links".into(),
            http: "*:80/http".parse().unwrap(),
        };
        let entries = links(vars.into_iter(), &settings);
        let mut keys: Vec<&str> = entries.iter().map(|e| e.key.as_str()).collect();
        keys.sort_unstable();
        keys.dedup();
        prop_assert_eq!(keys.len(), entries.len());
        for service in services(&entries) {
            prop_assert_eq!(service.validate(), Ok(()));
        }
        for route in routes(&entries) {
            prop_assert_eq!(route.validate(), Ok(()));
        }
    }
}
