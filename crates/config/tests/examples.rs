//! Every example is valid, and says what it seems to say.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::collections::BTreeSet;
use std::path::PathBuf;

use plimsoll_config::{Config, Daemon, Files, named_files, parse, parse_with, render};
use plimsoll_model::{
    Check, CheckKind, Forward, Persistence, ServiceSpec, Sessions, State, StatusSet, Timeouts,
    Tunnel,
};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

fn example(name: &str) -> Config {
    let text = std::fs::read_to_string(folder().join(name)).unwrap();
    let read = |file: &str| std::fs::read_to_string(folder().join(file)).map_err(|e| e.to_string());
    let files = Files::read(named_files(&text), read);
    parse_with("file:x", &text, &files).unwrap_or_else(|e| panic!("{}", render(name, &text, &e)))
}

#[test]
fn all_are_valid() {
    let mut found = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "toml") {
            example(path.file_name().unwrap().to_str().unwrap());
            found += 1;
        }
    }
    assert!(found >= 4, "only {found} examples found");
}

#[test]
fn web_is_all_defaults() {
    let config = example("web.toml");
    let service = &config.services[0];
    let expected = ServiceSpec::new(
        "web".parse().unwrap(),
        plimsoll_model::Origin::new("file:x", "service web"),
        vec!["0.0.0.0:8080/http".parse().unwrap()],
    );
    assert_eq!(*service.spec, expected);
    let backends: Vec<String> = service.backends.keys().map(ToString::to_string).collect();
    assert_eq!(
        backends,
        ["127.0.0.1:3001", "127.0.0.1:3002", "127.0.0.1:3003"]
    );
    assert_eq!(config.daemon, Daemon::default());
    assert!(config.routes.is_empty());
}

#[test]
fn tcp_has_a_port_map_and_a_sorry_server() {
    let config = example("tcp.toml");
    let sorry = config.services[0].spec.sorry.as_ref().unwrap();
    assert_eq!(
        &*sorry.origin.entry,
        "service postgres, sorry 10.0.0.13:5432"
    );
    let backend = &config.services[1].backends[&"10.0.0.21".parse().unwrap()];
    assert_eq!(backend.socket_addr(5870), "10.0.0.21:587".parse().ok());
}

#[test]
fn routes_are_named_by_what_they_match() {
    let config = example("routes.toml");
    let names: Vec<&str> = config.routes.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "example.com,www.example.com/api",
            "*.tenants.example.com/",
            "health-of-the-api"
        ]
    );
    assert_eq!(config.routes[0].services[0].weight, 9);
    assert_eq!(&*config.routes[2].origin.entry, "route health-of-the-api");
}

#[test]
fn full_shows_the_real_defaults() {
    let config = example("full.toml");
    let spec = &config.services[0].spec;
    let idle = Some(Timeouts::IDLE);
    let timeouts = Timeouts {
        idle,
        ..Timeouts::default()
    };
    assert_eq!(spec.timeouts, timeouts);
    let check = spec.check.as_ref().unwrap();
    assert_eq!(check.kind.to_string(), "http:/health");
    let plain = Check::new(check.kind.clone());
    assert_eq!(
        *check,
        Check {
            port: Some(80),
            ..plain
        }
    );
    assert!(
        matches!(&check.kind, CheckKind::Http { status, .. } if *status == StatusSet::default())
    );
    assert_eq!(spec.sessions, Sessions::default());
    let mut services = config.services.iter();
    let persistence = services.find_map(|s| s.spec.persistence).unwrap();
    assert_eq!((persistence.prefix_v4, persistence.prefix_v6), (32, 64));
    assert_eq!(persistence, Persistence::new(persistence.timeout));
    assert_eq!(spec.queue, ServiceSpec::DEFAULT_QUEUE);
    assert_eq!(spec.retries, ServiceSpec::DEFAULT_RETRIES);
    assert_eq!(spec.max_body, 0);
    assert_eq!(config.daemon.drain, Daemon::default().drain);
    let backend = &config.services[0].backends[&"10.0.0.1:80".parse().unwrap()];
    let mut plain = plimsoll_model::Backend::new(backend.addr.clone(), backend.origin.clone());
    plain.name = "web-1".into();
    plain.node = "node-a".into();
    plain.zone = "zone-1".into();
    assert_eq!(**backend, plain);
    assert_eq!(backend.status.state, State::Ready);
    let gue = &config.services[1].backends[&"10.0.1.1".parse().unwrap()];
    assert_eq!(gue.forward, Forward::Tunnel(Tunnel::Gue { port: 6080 }));
}

fn keys_of(value: &toml::de::DeValue<'_>, keys: &mut BTreeSet<String>) {
    if let Some(table) = value.as_table() {
        for (key, value) in table.iter() {
            keys.insert(key.get_ref().to_string());
            keys_of(value.get_ref(), keys);
        }
    }
    for value in value.as_array().into_iter().flat_map(|list| list.iter()) {
        keys_of(value.get_ref(), keys);
    }
}

#[test]
fn full_has_every_key() {
    let text = std::fs::read_to_string(folder().join("full.toml")).unwrap();
    let table = toml::de::DeTable::parse(&text).unwrap().into_inner();
    let mut keys = BTreeSet::new();
    keys_of(&toml::de::DeValue::Table(table), &mut keys);
    for (place, known) in plimsoll_config::schema::TABLES {
        for key in *known {
            assert!(keys.contains(*key), "{key} of {place}");
        }
    }
}

/// `ADDR:PORT/tcp+udp` is two listens.
#[test]
fn protocols_can_be_joined() {
    let text = "[[service]]\nname = \"dns\"\nlisten = \"*:53/tcp+udp\"\nbackends = []\n";
    let config = parse("file:x", text).unwrap();
    let listens = &config.services[0].spec.listens;
    let listens: Vec<String> = listens.iter().map(ToString::to_string).collect();
    assert_eq!(listens, ["*:53/tcp", "*:53/udp"]);
}
