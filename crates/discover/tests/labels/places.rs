//! By which address and port a container is reached, wherever this process runs.

use plimsoll_discover::docker::labels;
use plimsoll_discover::docker::view::Standing;
use plimsoll_discover::docker::wire::Inspect;
use plimsoll_model::{State, Status};

use crate::world::{Change, Made, World, labelled};

const PORT: (&str, &str) = ("plimsoll.port", "80");

/// A container in these networks alone.
fn on(networks: &[(&str, &str)]) -> Inspect {
    let mut container = labelled(&[PORT]);
    container.network_settings.networks.clear();
    for (network, address) in networks {
        container.connect(network, address);
    }
    container
}

fn with_mode(mode: &str) -> Inspect {
    let mut container = on(&[]);
    container.host_config.network_mode = mode.into();
    container
}

/// The address and the reason of the backend.
fn place(made: &Made) -> (String, String) {
    let backend = made.backend();
    assert_eq!(backend.status.state, State::Ready);
    (backend.addr.to_string(), backend.status.reason.to_string())
}

#[track_caller]
fn assert_place(world: &World, container: &Inspect, addr: &str, reason: &str) {
    let made = world.made(container);
    assert_eq!(place(&made), (addr.to_owned(), reason.to_owned()));
}

/// The service is known, and this is why it has no backend.
#[track_caller]
fn assert_nowhere(world: &World, container: &Inspect, reason: &str) {
    let made = world.made(container);
    assert_eq!(made.invalid(), [("container web", reason)]);
    let services = made.services();
    assert_eq!(services.len(), 1);
    assert!(services[0].backends.is_empty());
    let keys = made.keys();
    assert!(keys.contains(&"container 2024-01-02T03:04:05.000000000Z 0123456789ab"));
}

const BOTH: [(&str, &str); 3] = [
    ("bridge", "172.17.0.2"),
    ("front", "10.2.0.2"),
    ("back", "10.1.0.2"),
];

#[test]
fn on_the_host_by_bridge_networks() {
    let world = World::new();
    assert_place(&world, &on(&BOTH[..1]), "172.17.0.2:80", "");
    let reason = "on network back (also in bridge, front)";
    assert_place(&world, &on(&BOTH), "10.1.0.2:80", reason);
    let lan = [("lan", "192.168.1.9"), ("front", "10.2.0.2")];
    assert_place(&world, &on(&lan), "10.2.0.2:80", "");
    let none = [
        ("lan", "192.168.1.9"),
        ("mesh", "10.9.0.2"),
        ("new", "10.8.0.2"),
    ];
    assert_nowhere(
        &world,
        &on(&none),
        "none of its networks can be reached from the host, only bridge networks can: lan \
         (macvlan), mesh (overlay), new (not known); docker network connect bridge web",
    );
    assert_nowhere(
        &world,
        &on(&[]),
        "it is in no network, so it has no address: docker network connect bridge web",
    );
}

#[test]
fn in_a_container_by_networks_that_are_shared() {
    let both = World::inside(&["front", "mesh"]);
    assert_place(&both, &on(&BOTH), "10.2.0.2:80", "");
    let mesh = [("mesh", "10.9.0.2"), ("front", "10.2.0.2")];
    let reason = "on network front (also in mesh)";
    assert_place(&both, &on(&mesh), "10.2.0.2:80", reason);
    let default = World::inside(&["bridge"]);
    assert_place(&default, &on(&BOTH), "172.17.0.2:80", "");
    let other = World::inside(&["mesh"]);
    assert_nowhere(
        &other,
        &on(&BOTH),
        "container lb is not in any of its networks (back, bridge, front): docker network \
         connect back lb",
    );
    assert_nowhere(
        &other,
        &on(&BOTH[..1]),
        "container lb is not in any of its networks (bridge): docker network connect bridge lb",
    );
    assert_nowhere(
        &World::inside(&["bridge", "front"]),
        &on(&[]),
        "it is in no network, so container lb cannot reach it: docker network connect front web",
    );
}

#[test]
fn a_label_names_the_network() {
    let named = |network: &str, networks: &[(&str, &str)]| {
        let mut container = on(networks);
        container.label_with(&[("plimsoll.network", network)]);
        container
    };
    let world = World::new();
    let reason = "on network front (also in back, bridge)";
    assert_place(&world, &named("front", &BOTH), "10.2.0.2:80", reason);
    // Whether the host reaches it is for its admin to know.
    let lan = [("lan", "192.168.1.9"), ("front", "10.2.0.2")];
    let reason = "on network lan (also in front)";
    assert_place(&world, &named("lan", &lan), "192.168.1.9:80", reason);
    assert_nowhere(
        &world,
        &named("frnt", &BOTH),
        "label plimsoll.network=frnt: the container is not in it, but in back, bridge, front: \
         did you mean `front`?",
    );
    assert_nowhere(
        &world,
        &named("front", &[]),
        "label plimsoll.network=front: the container is in no network",
    );
    assert_nowhere(
        &World::inside(&["back"]),
        &named("front", &BOTH),
        "container lb is not in front as label plimsoll.network says, one of its networks (back, \
         bridge, front): docker network connect front lb",
    );
    let mut composed = named("inner", &[("back", "10.1.0.2"), ("shop_inner", "10.3.0.2")]);
    composed.label_with(&[("com.docker.compose.project", "shop")]);
    let inner = World::inside(&["shop_inner"]);
    assert_place(&inner, &composed, "10.3.0.2:80", "");
}

#[test]
fn further_services_may_be_on_other_networks() {
    let mut container = on(&BOTH);
    container.label_with(&[
        ("plimsoll.network", "front"),
        ("plimsoll.a.port", "81"),
        ("plimsoll.b.port", "82"),
        ("plimsoll.b.network", "back"),
    ]);
    let made = World::new().made(&container);
    let addrs: Vec<String> = made
        .services()
        .iter()
        .flat_map(|service| service.backends.keys().map(ToString::to_string))
        .collect();
    assert_eq!(addrs, ["10.2.0.2:80", "10.2.0.2:81", "10.1.0.2:82"]);
}

#[test]
fn ipv4_first_and_ipv6_alone() {
    let world = World::new();
    let six = [("front", "fd00::2")];
    assert_place(&world, &on(&six), "[fd00::2]:80", "");
    let mut dual = on(&six);
    let front = dual.network_settings.networks.get_mut("front").unwrap();
    front.ip_address = "10.2.0.2".into();
    assert_place(&world, &dual, "10.2.0.2:80", "");
}

#[test]
fn without_an_address_there_is_no_backend_yet() {
    let starting = on(&[("front", ""), ("back", "")]);
    for world in [World::new(), World::inside(&["front"]), World::remote()] {
        let made = world.made(&starting);
        assert!(made.service().backends.is_empty());
    }
    let one = on(&[("back", ""), ("front", "10.2.0.2")]);
    let reason = "on network front (also in back)";
    assert_place(&World::new(), &one, "10.2.0.2:80", reason);
}

#[test]
fn the_network_of_the_host() {
    let host = with_mode("host");
    let mut on_8000 = World::new();
    on_8000.settings.http = "*:8000/http".parse().unwrap();
    assert_place(&on_8000, &host, "127.0.0.1:80", "");
    assert_place(&World::remote(), &host, "192.0.2.1:80", "");
    assert_nowhere(
        &World::inside(&["front"]),
        &host,
        "it is in the host's network, which container lb cannot reach: run lb with network_mode \
         host, or recreate this one in a network of lb",
    );
    let none = "its network_mode is none, so nothing can reach it: recreate it with a network";
    assert_nowhere(&World::new(), &with_mode("none"), none);
}

#[test]
fn plimsoll_is_not_its_own_backend() {
    let mut world = World::new();
    let itself = |http: &str| {
        format!(
            "it is in the host's network, where plimsoll itself has port 80 ({http}): say the \
             container's port with label plimsoll.port, or give plimsoll another --listen"
        )
    };
    assert_nowhere(&world, &with_mode("host"), &itself("*:80/http"));
    let mut guessed = labelled(&[("plimsoll.host", "a.example")]);
    guessed.config.exposed_ports = ["80/tcp".to_owned()].into();
    guessed.host_config.network_mode = "host".into();
    assert_nowhere(&world, &guessed, &itself("*:80/http"));
    guessed.label_with(&[("plimsoll.port", "8080")]);
    assert_place(&world, &guessed, "127.0.0.1:8080", "");
    world.shared = Some(with_mode("host"));
    let guest = with_mode("container:fedcba9876543210");
    assert_nowhere(&world, &guest, &itself("*:80/http"));
    world.settings.http = "127.0.0.1:80/http".parse().unwrap();
    let reason = itself("127.0.0.1:80/http");
    assert_nowhere(&world, &with_mode("host"), &reason);
    world.settings.http = "10.0.0.1:80/http".parse().unwrap();
    assert_place(&world, &with_mode("host"), "127.0.0.1:80", "");
    // Of UDP it has nothing there.
    world.settings.http = "*:80/http".parse().unwrap();
    let mut udp = with_mode("host");
    udp.label_with(&[("plimsoll.protocol", "udp")]);
    assert_place(&world, &udp, "127.0.0.1:80", "");
}

#[test]
fn the_network_of_another_container() {
    let guest = with_mode("container:fedcba9876543210");
    let mut world = World::new();
    let gone = "it is in the network of container fedcba987654, which is not there: recreate it";
    assert_nowhere(&world, &guest, gone);
    world.shared = Some(on(&[("front", "10.2.0.7")]));
    assert_place(&world, &guest, "10.2.0.7:80", "");
    world.shared = Some(with_mode("host"));
    world.settings.http = "*:8000/http".parse().unwrap();
    assert_place(&world, &guest, "127.0.0.1:80", "");
    // It has that of another container only where it says so.
    world.shared = Some(on(&[("front", "10.2.0.7")]));
    assert_place(&world, &on(&BOTH[..1]), "172.17.0.2:80", "");
}

#[test]
fn from_another_machine_by_published_ports() {
    let published = |bindings: &[(&str, &str)]| {
        let mut container = on(&BOTH[..1]);
        container.publish("80/tcp", bindings);
        container
    };
    let world = World::remote();
    for (bindings, addr, reason) in [
        (
            &[("0.0.0.0", "32768"), ("::", "32768")][..],
            "192.0.2.1:32768",
            "",
        ),
        (&[("", "8080")], "192.0.2.1:8080", ""),
        (
            &[("127.0.0.1", "80"), ("10.0.0.5", "81")],
            "10.0.0.5:81",
            "",
        ),
        (
            &[("10.0.0.5", "81"), ("0.0.0.0", "9000"), ("0.0.0.0", "900")],
            "192.0.2.1:900",
            "published on 192.0.2.1:900 (also on 192.0.2.1:9000, 10.0.0.5:81)",
        ),
    ] {
        assert_place(&world, &published(bindings), addr, reason);
    }
    let rest =
        "and from another machine nothing else can be reached: recreate it with --publish 80";
    let nowhere = format!("port 80/tcp is not published, {rest}");
    assert_nowhere(&world, &on(&BOTH), &nowhere);
    let nowhere = format!("port 80/tcp is not published on 192.0.2.1, {rest}");
    for bindings in [("127.0.0.1", "80"), ("::", "80"), ("", "0"), ("", "x")] {
        assert_nowhere(&world, &published(&[bindings]), &nowhere);
    }
}

#[test]
fn the_port_that_is_exposed() {
    let world = World::new();
    let exposing = |ports: &[&str]| {
        let mut container = on(&BOTH[..1]);
        container.config.labels = [("plimsoll.enable".into(), "true".into())].into();
        container.config.exposed_ports.clear();
        container.expose(ports);
        container
    };
    assert_place(&world, &exposing(&["3000/tcp"]), "172.17.0.2:3000", "");
    let several = exposing(&["80/tcp", "443/tcp", "53/udp"]);
    assert_place(&world, &several, "172.17.0.2:80", "");
    assert_nowhere(
        &world,
        &exposing(&[]),
        "no tcp port is exposed: say which one with label plimsoll.port",
    );
    assert_nowhere(
        &world,
        &exposing(&["8080/tcp", "9000/tcp"]),
        "the tcp ports 8080, 9000 are exposed: say which one with label plimsoll.port",
    );
}

#[test]
fn one_service_without_a_port_does_not_touch_another() {
    let mut container = on(&BOTH[..1]);
    container.config.exposed_ports.clear();
    container.label_with(&[("plimsoll.admin.host", "a.example")]);
    let made = World::new().made(&container);
    let backends: Vec<usize> = made.services().iter().map(|s| s.backends.len()).collect();
    assert_eq!(backends, [1, 0]);
    assert_eq!(
        made.reason(),
        "service `a.example`: no tcp port is exposed: say which one with label \
         plimsoll.admin.port"
    );
    container.label_with(&[("plimsoll.dns.protocol", "udp")]);
    let made = World::new().made(&container);
    assert_eq!(made.names().0, ["web", "a.example"]);
    assert_eq!(made.invalid()[0].0, "service `web/dns`");
}

#[test]
fn who_does_not_run_is_not_asked_where_it_is() {
    let container = on(&[("lan", "")]);
    let made = Made(World::new().with_standing(&container, &Standing::Stopped));
    assert!(made.service().backends.is_empty());
    let paused = Status::new(State::Draining, "paused");
    let standing = Standing::Serves(paused.clone());
    let made = Made(World::new().with_standing(&on(&BOTH), &standing));
    assert_eq!(made.backend().status, paused);
}

#[test]
fn the_longest_drain_is_that_of_the_container() {
    let drain = |labels: &[(&str, &str)]| labels::drain(&labelled(labels));
    assert_eq!(drain(&[("plimsoll.port", "80")]), None);
    assert_eq!(drain(&[("plimsoll.drain", "x")]), None);
    let both = [
        ("plimsoll.drain", " 10s "),
        ("plimsoll.admin.drain", "1m"),
        ("plimsoll.timeouts.drain", "9m"),
    ];
    assert_eq!(drain(&both).unwrap().as_secs(), 60);
}
