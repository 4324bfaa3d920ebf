//! Whatever a container says is sound or put aside.
//!
//! The input is lines of `KEY=VALUE`: labels, variables of the environment (`env VIRTUAL_HOST=…`),
//! and what the container is: `mode`, `expose`, `publish` and `net NAME` with an address.
//! On stable: `cargo fuzz run -s none labels -- -max_total_time=60`.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use plimsoll_discover::docker::entries::entries;
use plimsoll_discover::docker::labels::drain;
use plimsoll_discover::docker::links::links;
use plimsoll_discover::docker::view::{Settings, Standing, View, Whereabouts};
use plimsoll_discover::docker::wire::{Endpoint, Inspect, Network, PortBinding};
use plimsoll_model::{Entry, Item, Status};

/// Where this process can be.
static PLACES: LazyLock<[Whereabouts; 3]> = LazyLock::new(|| {
    [
        Whereabouts::Host,
        Whereabouts::Container {
            name: "lb".into(),
            networks: BTreeSet::from(["front".into(), "bridge".into()]),
        },
        Whereabouts::Remote {
            host: "192.0.2.1".parse().expect("an address"),
        },
    ]
});

static SETTINGS: LazyLock<Settings> = LazyLock::new(|| Settings {
    source: "docker".into(),
    http: "*:80/http".parse().expect("a listen"),
});

static NETWORKS: LazyLock<BTreeMap<String, Network>> = LazyLock::new(|| {
    let networks = [
        ("bridge", "bridge"),
        ("front", "bridge"),
        ("lan", "macvlan"),
    ];
    let networks = networks.map(|(name, driver)| {
        let network = Network {
            id: name.into(),
            name: name.into(),
            driver: driver.into(),
            scope: "local".into(),
        };
        (name.to_owned(), network)
    });
    networks.into()
});

fuzz_target!(|text: &str| {
    let container = read(text);
    for place in &*PLACES {
        let all = made(&container, place);
        sound(&all);
        let mut more = container.clone();
        more.config.labels.insert("unrelated".into(), text.into());
        assert_eq!(made(&more, place), all);
    }
    drain(&container);
    let vars = text.lines().filter_map(|line| line.split_once('='));
    let vars = vars.map(|(key, value)| (key.into(), value.into()));
    sound(&links(vars, &SETTINGS));
});

fn read(text: &str) -> Inspect {
    let mut container = Inspect {
        id: "0123456789abcdef".into(),
        name: "/web".into(),
        created: "2024-01-02T03:04:05Z".into(),
        ..Inspect::default()
    };
    for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
        match (key, key.split_once(' ')) {
            (_, Some(("env", key))) => container.config.env.push(format!("{key}={value}")),
            (_, Some(("net", name))) => {
                let mut endpoint = Endpoint {
                    network_id: name.into(),
                    ..Endpoint::default()
                };
                match value.contains(':') {
                    true => endpoint.global_ipv6_address = value.into(),
                    false => endpoint.ip_address = value.into(),
                }
                let networks = &mut container.network_settings.networks;
                networks.insert(name.into(), endpoint);
            }
            ("name", _) => container.name = value.into(),
            ("mode", _) => container.host_config.network_mode = value.into(),
            ("expose", _) => drop(container.config.exposed_ports.insert(value.into())),
            ("publish", _) => {
                let binding = PortBinding {
                    host_ip: String::new(),
                    host_port: "8000".into(),
                };
                let ports = &mut container.network_settings.ports;
                ports.insert(value.into(), Some(vec![binding]));
            }
            _ => drop(container.config.labels.insert(key.into(), value.into())),
        }
    }
    container
}

fn made(container: &Inspect, whereabouts: &Whereabouts) -> Vec<Entry> {
    let view = View {
        settings: &SETTINGS,
        whereabouts,
        networks: &NETWORKS,
        shared: None,
    };
    entries(container, &Standing::Serves(Status::default()), &view)
}

fn sound(entries: &[Entry]) {
    let mut keys = BTreeSet::new();
    let mut services = BTreeSet::new();
    let mut reached = BTreeSet::new();
    for entry in entries {
        assert!(keys.insert(&entry.key), "{} twice", entry.key);
        match &entry.item {
            Item::Service(service) => {
                service.validate().expect("a valid service");
                services.insert(service.name());
            }
            Item::Route(route) => {
                route.validate().expect("a valid route");
                reached.extend(route.services.iter().map(|s| &s.service));
            }
            Item::Invalid {
                subject, reason, ..
            } => {
                assert!(!subject.is_empty() && !reason.is_empty());
                assert!(!reason.contains(char::is_control), "{reason:?}");
                assert!(reason.len() < 4096, "{} bytes", reason.len());
            }
        }
    }
    assert!(reached.is_subset(&services));
}
