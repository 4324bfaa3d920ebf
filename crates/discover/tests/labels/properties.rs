//! What holds whatever containers say.

use std::collections::BTreeSet;

use plimsoll_discover::docker::labels::schema;
use plimsoll_discover::docker::wire::Inspect;
use plimsoll_model::{Entry, Item};
use proptest::prelude::*;
use proptest::sample::select;

use crate::world::{Change, World, container};

/// Values that are right for one key or another, and others.
const VALUES: &[&str] = &[
    "80",
    "8080",
    "0",
    "-1",
    "tcp",
    "udp",
    "http",
    "true",
    "false",
    "a.example",
    "*",
    "a.example,*.b.example",
    "/api",
    "/",
    "5s",
    "0s",
    "1h30m",
    "wrr",
    "mh",
    "proxy",
    "ipvs",
    "http:/health",
    "200-299",
    "front",
    "bridge",
    "10.0.0.0/8",
    "10.0.0.9:80",
    "53/tcp+udp",
    "80,81",
    "127.0.0.1:80",
    "",
    ",",
    "~^a",
    "http://a.example:80/x",
    "shop",
    "x y",
    "https://b.example/x",
    "X-A: {client} || X-B: b",
    "X-Request-ID",
];

const NAMES: &[&str] = &["", "admin.", "api.", "a!b.", ".", "port.", "timeout."];

fn label() -> impl Strategy<Value = String> {
    let keys: Vec<&str> = schema::keys().collect();
    let known =
        (select(NAMES), select(keys)).prop_map(|(name, key)| format!("plimsoll.{name}{key}"));
    let others = [
        "com.docker.compose.project",
        "com.docker.compose.service",
        "com.docker.compose.oneoff",
        "com.docker.swarm.service.name",
        "unrelated",
    ];
    prop_oneof![
        8 => known,
        1 => select(others.to_vec()).prop_map(str::to_owned),
        1 => "plimsoll\\.[a-z.\u{1}]{0,12}",
        1 => "[Pp]limsol\\.[a-z.\u{1}]{0,12}",
        1 => ".{0,20}",
    ]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => select(VALUES).prop_map(str::to_owned),
        1 => ".{0,40}",
    ]
}

fn variable() -> impl Strategy<Value = String> {
    let keys = plimsoll_discover::docker::virtual_host::VARIABLES;
    (select(keys.to_vec()), value()).prop_map(|(key, value)| format!("{key}={value}"))
}

fn inspect() -> impl Strategy<Value = Inspect> {
    let mode = select(&["bridge", "host", "none", "container:x", "front"][..]);
    let networks = select(&["bridge", "front", "back", "lan", "gone"][..]);
    let address = select(&["", "10.0.0.2", "10.0.0.3", "fd00::2", "x", "0.0.0.0"][..]);
    let port = select(&["80/tcp", "8080/tcp", "53/udp", "x", "70000/tcp"][..]);
    (
        prop::collection::btree_map(label(), value(), 0..8),
        prop::collection::vec(variable(), 0..4),
        mode,
        prop::collection::vec((networks, address), 0..3),
        prop::collection::vec(port, 0..3),
    )
        .prop_map(|(labels, env, mode, networks, ports)| {
            let mut container = container();
            container.config.labels = labels;
            container.config.env = env;
            container.host_config.network_mode = mode.into();
            container.network_settings.networks.clear();
            for (network, address) in networks {
                container.connect(network, address);
            }
            container.expose(&ports);
            container.publish("80/tcp", &[("0.0.0.0", "8000")]);
            container
        })
}

fn world() -> impl Strategy<Value = World> {
    let shared = prop::option::of(inspect());
    (0..3_u8, shared).prop_map(|(place, shared)| {
        let world = match place {
            0 => World::new(),
            1 => World::inside(&["front", "bridge"]),
            _ => World::remote(),
        };
        World { shared, ..world }
    })
}

fn is_sound(entries: &[Entry]) -> Result<(), TestCaseError> {
    let keys: BTreeSet<&str> = entries.iter().map(|e| e.key.as_str()).collect();
    prop_assert_eq!(keys.len(), entries.len(), "every key is there once");
    let mut services = BTreeSet::new();
    let mut reached = BTreeSet::new();
    for entry in entries {
        match &entry.item {
            Item::Service(service) => {
                prop_assert_eq!(service.validate(), Ok(()));
                prop_assert!(!service.spec.listens.is_empty());
                prop_assert!(services.insert(service.name().clone()));
                prop_assert!(service.backends.len() <= 1);
            }
            Item::Route(route) => {
                prop_assert_eq!(route.validate(), Ok(()));
                prop_assert!(!route.listens.is_empty());
                reached.extend(route.services.iter().map(|s| s.service.clone()));
            }
            Item::Invalid {
                subject, reason, ..
            } => {
                prop_assert!(!subject.is_empty() && !reason.is_empty());
                let fit = !subject.contains(char::is_control) && !reason.contains(char::is_control);
                prop_assert!(fit, "{} {}", subject, reason);
            }
        }
    }
    prop_assert!(
        reached.is_subset(&services),
        "routes lead to services of the container"
    );
    Ok(())
}

proptest! {
    #[test]
    fn whatever_is_said_is_sound_or_put_aside(container in inspect(), world in world()) {
        is_sound(&world.made(&container).0)?;
    }

    #[test]
    fn an_unrelated_label_changes_nothing(
        container in inspect(),
        world in world(),
        label in "(com\\.example|org|soll)[a-k.]{0,9}",
        value in value(),
    ) {
        let mut more = container.clone();
        more.config.labels.insert(label, value);
        prop_assert_eq!(world.made(&container).0, world.made(&more).0);
    }

    #[test]
    fn one_service_does_not_change_another(
        container in inspect(),
        world in world(),
        key in prop_oneof![select(schema::SERVICE).prop_map(str::to_owned), "[a-z.]{1,9}"],
        value in value(),
    ) {
        // It claims neither host nor name of the other one.
        let value = value.replace("a.example", "c.example");
        let mut good = container;
        good.config.labels.retain(|label, _| !label.starts_with("plimsoll."));
        good.label_with(&[("plimsoll.host", "a.example"), ("plimsoll.port", "80")]);
        let mut more = good.clone();
        more.config.labels.insert(format!("plimsoll.admin.{key}"), value);
        let services = |container: &Inspect| {
            let entries = world.made(container).0.into_iter();
            let about_web = |entry: &Entry| match &entry.item {
                Item::Service(service) => !service.name().as_str().ends_with("/admin"),
                Item::Route(route) => !route.services[0].service.as_str().ends_with("/admin"),
                Item::Invalid { .. } => false,
            };
            entries.filter(about_web).collect::<Vec<_>>()
        };
        let with: BTreeSet<String> = services(&more).iter().map(|e| format!("{e:?}")).collect();
        for entry in services(&good) {
            let text = format!("{entry:?}");
            prop_assert!(with.contains(&text), "{} is missing", text);
        }
    }
}
