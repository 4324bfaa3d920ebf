//! Services, routes and keys of plain containers.

use plimsoll_discover::docker::view::Standing;
use plimsoll_model::{Name, State, Status};

use crate::world::{Change, Made, World, container, labelled};

fn names(labels: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
    let made = World::new().made(&labelled(labels));
    assert_eq!(made.invalid(), [], "{labels:?}");
    let (services, routes) = made.names();
    let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
    (owned(services), owned(routes))
}

#[test]
fn one_label_is_enough() {
    let world = World::new();
    for label in [
        ("plimsoll.port", "8080"),
        ("plimsoll.enable", "true"),
        ("plimsoll.service", "web"),
    ] {
        let made = world.made(&labelled(&[label]));
        let service = made.service();
        assert_eq!(service.name().as_str(), "web");
        assert_eq!(service.spec.listens, ["*:80/http".parse().unwrap()]);
        let backend = made.backend();
        assert_eq!(backend.addr.to_string(), "172.17.0.2:8080");
        assert_eq!(&*backend.name, "web");
        assert_eq!(&*backend.origin.entry, "container web");
        assert_eq!(
            (backend.status.state, &*backend.status.reason),
            (State::Ready, "")
        );
        assert!(made.routes().is_empty(), "it takes what no route decides");
    }
}

#[test]
fn hosts_and_paths_are_routes() {
    let made = World::new().made(&labelled(&[
        ("plimsoll.host", "Shop.example, *.shop.example"),
        ("plimsoll.path", "/api/"),
        ("plimsoll.listen", "80,127.0.0.1:8080"),
    ]));
    let (_, routes) = made.names();
    assert_eq!(
        routes,
        [
            "shop.example:80/api",
            "*.shop.example:80/api",
            "shop.example@127.0.0.1:8080/api",
            "*.shop.example@127.0.0.1:8080/api",
        ]
    );
    let route = made.routes()[0];
    assert_eq!(route.path.as_str(), "/api");
    assert_eq!(route.listens, ["*:80/http".parse().unwrap()]);
    assert_eq!(route.services[0].service.as_str(), "shop.example/api");
    assert_eq!(names(&[("plimsoll.path", "/x")]).1, ["*:80/x"]);
    let labels = [("plimsoll.host", "a.example"), ("plimsoll.priority", "-5")];
    assert_eq!(names(&labels).1, ["a.example:80"]);
    assert_eq!(
        World::new().made(&labelled(&labels)).routes()[0].priority,
        -5
    );
}

#[test]
fn what_no_name_can_have_is_written_otherwise() {
    let labels = [
        ("plimsoll.host", "a.example"),
        ("plimsoll.path", "/it's\\\""),
    ];
    assert_eq!(names(&labels).1, ["a.example:80/it%27s%5C%22"]);
    let long = format!("/{}", "x".repeat(250));
    let made = World::new().made(&labelled(&[
        ("plimsoll.host", "a.example"),
        ("plimsoll.path", &long),
    ]));
    assert_eq!(
        made.reason(),
        "host and path are too long: 260 bytes together, at most 255"
    );
}

#[test]
fn services_are_called_after_what_groups_containers() {
    let cases: [(&[(&str, &str)], &str); 5] = [
        (&[], "web"),
        (
            &[
                ("com.docker.compose.project", "shop"),
                ("com.docker.compose.service", "api"),
            ],
            "shop/api",
        ),
        (&[("com.docker.compose.project", "shop")], "web"),
        (&[("com.docker.swarm.service.name", "shop_api")], "shop_api"),
        (
            &[
                ("com.docker.compose.project", "shop"),
                ("com.docker.compose.service", "api"),
                ("plimsoll.service", "mine"),
            ],
            "mine",
        ),
    ];
    for (labels, name) in cases {
        let mut labels = labels.to_vec();
        labels.push(("plimsoll.admin.port", "9000"));
        labels.push(("plimsoll.port", "80"));
        let further = format!("{name}/admin");
        let made = World::new().made(&labelled(&labels));
        assert_eq!(made.names().0, [name, &further]);
    }
}

#[test]
fn who_is_in_no_group_is_called_after_the_first_host() {
    let host = |hosts| ("plimsoll.host", hosts);
    let path = ("plimsoll.path", "/api/");
    let listen = |listens| ("plimsoll.listen", listens);
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);
    let cases: [Case<'_>; 12] = [
        (&[host("Whoami.localhost.")], &["whoami.localhost"]),
        (&[host("shop.example"), path], &["shop.example/api"]),
        (&[host("b.example,*.a.example,a.example")], &["a.example"]),
        (&[host("*.a.example,b.example")], &["b.example"]),
        (&[host("*")], &["*"]),
        (&[path], &["web"]),
        (&[host("a.example"), listen("81,80")], &["a.example"]),
        (&[host("a.example"), listen("82,81")], &["a.example:81"]),
        (
            &[host("a.example"), path, listen("127.0.0.1:81")],
            &["a.example@127.0.0.1:81/api"],
        ),
        (
            &[host("a.example"), ("plimsoll.b.host", "b.example")],
            &["a.example", "b.example"],
        ),
        (
            &[host("a.example"), ("plimsoll.b.path", "/b")],
            &["a.example", "web/b"],
        ),
        (
            &[host("a.example"), ("plimsoll.service", "mine")],
            &["mine"],
        ),
    ];
    for (labels, wanted) in cases {
        assert_eq!(names(labels).0, wanted, "{labels:?}");
    }
    // What Compose and Swarm call it, stays.
    for (labels, name) in [
        (
            &[
                ("com.docker.compose.project", "shop"),
                ("com.docker.compose.service", "api"),
            ][..],
            "shop/api",
        ),
        (&[("com.docker.swarm.service.name", "shop_api")], "shop_api"),
    ] {
        let mut labels = labels.to_vec();
        labels.extend([host("a.example"), ("plimsoll.b.host", "b.example")]);
        assert_eq!(names(&labels).0, [name, &format!("{name}/b")]);
    }
}

#[test]
fn a_further_service_alone_leaves_no_default_one() {
    let admin = ("plimsoll.admin.port", "9000");
    assert_eq!(names(&[admin]).0, ["web/admin"]);
    let common = [
        ("plimsoll.enable", "true"),
        ("plimsoll.network", "bridge"),
        ("plimsoll.drain", "30s"),
        ("plimsoll.service", "shop"),
        admin,
    ];
    let made = World::new().made(&labelled(&common));
    let service = made.service();
    assert_eq!(service.name().as_str(), "shop/admin");
    assert_eq!(service.spec.timeouts.drain.as_secs(), 30);
    let named = [admin, ("plimsoll.admin.service", "admin")];
    assert_eq!(names(&named).0, ["admin"]);
}

#[test]
fn who_says_nothing_of_services_is_left_alone() {
    let world = World::new();
    for labels in [
        &[][..],
        &[("com.example", "x")],
        &[("plimsoll.network", "bridge"), ("plimsoll.drain", "5s")],
        &[("plimsoll.enable", "false"), ("plimsoll.prot", "x")],
        &[
            ("plimsoll.port", "80"),
            ("com.docker.compose.oneoff", "True"),
        ],
    ] {
        let made = world.made(&labelled(labels));
        assert_eq!(made.keys(), Vec::<&str>::new(), "{labels:?}");
    }
}

#[test]
fn keys_are_ordered_by_age() {
    let made = World::new().made(&labelled(&[("plimsoll.host", "a.example")]));
    let prefix = "container 2024-01-02T03:04:05.000000000Z 0123456789ab";
    assert_eq!(
        made.keys(),
        [
            format!("{prefix} service a.example"),
            format!("{prefix} route a.example:80"),
        ]
    );
}

#[test]
fn keys_are_ordered_by_age_however_it_is_written() {
    let key = |created: &str| {
        let mut container = labelled(&[("plimsoll.host", "a.example")]);
        container.created = created.into();
        World::new().made(&container).keys()[0].to_owned()
    };
    let ages = [
        "2024-01-02T03:04:05+01:00",
        "2024-01-02T03:04:05Z",
        "2024-01-02T03:04:05.5Z",
        "2024-01-02T03:04:05.51Z",
        "2024-01-02T03:04:05-01:00",
    ];
    assert!(ages.map(key).is_sorted());
}

#[test]
fn standing_becomes_status() {
    let world = World::new();
    let container = labelled(&[("plimsoll.host", "a.example")]);
    let status = Status::new(State::Starting, "health: starting");
    let made = Made(world.with_standing(&container, &Standing::Serves(status.clone())));
    assert_eq!(made.backend().status, status);
    let made = Made(world.with_standing(&container, &Standing::Stopped));
    assert!(made.service().backends.is_empty());
    assert_eq!(made.routes().len(), 1, "its host is known");
}

#[test]
fn a_container_has_each_route_and_name_once() {
    let world = World::new();
    let made = world.made(&labelled(&[
        ("plimsoll.host", "a.example"),
        ("plimsoll.admin.host", "a.example"),
    ]));
    assert_eq!(made.names().0, ["a.example"]);
    assert_eq!(
        made.reason(),
        "another service of this container is called a.example, too: give one of them another \
         host, path or listen, or a name with label plimsoll.admin.service"
    );
    let made = world.made(&labelled(&[
        ("plimsoll.service", "web"),
        ("plimsoll.host", "a.example"),
        ("plimsoll.admin.host", "a.example"),
    ]));
    assert_eq!(made.names().0, ["web"]);
    assert_eq!(
        made.reason(),
        "service `web` of the same container takes a.example:80 already: give one of them \
         another host, path or listen"
    );
    let made = world.made(&labelled(&[
        ("plimsoll.a.service", "b.example"),
        ("plimsoll.a.host", "a.example"),
        ("plimsoll.b.host", "b.example"),
    ]));
    assert_eq!(made.names().0, ["b.example"]);
    assert!(made.reason().contains("is called b.example, too"));
    let made = world.made(&labelled(&[
        ("plimsoll.a.service", "x"),
        ("plimsoll.a.host", "a.example"),
        ("plimsoll.b.service", "x"),
        ("plimsoll.b.host", "b.example"),
    ]));
    assert_eq!(made.names().0, ["x"]);
    let [(subject, reason)] = made.invalid()[..] else {
        panic!("{:?}", made.0);
    };
    assert_eq!(subject, "service `x`");
    assert_eq!(
        reason,
        "label plimsoll.b.service=x: another service of this container is called x, too"
    );
}

#[test]
fn layer_4_listens_on_the_port_of_the_container() {
    let mut container = container();
    container.expose(&["5432/tcp", "53/udp"]);
    container.label_with(&[
        ("plimsoll.protocol", "tcp"),
        ("plimsoll.dns.protocol", "udp"),
        ("plimsoll.dns.listen", "10.0.0.1:5353"),
    ]);
    let made = World::new().made(&container);
    let services = made.services();
    let listens = |i: usize| services[i].spec.listens.clone();
    assert_eq!(listens(0), ["*:5432/tcp".parse().unwrap()]);
    assert_eq!(listens(1), ["10.0.0.1:5353/udp".parse().unwrap()]);
    let addr = services[1].backends.keys().next().unwrap();
    assert_eq!(addr.to_string(), "172.17.0.2:53");
}

#[test]
fn who_cannot_be_named_is_put_aside() {
    let mut container = labelled(&[("plimsoll.port", "80")]);
    container.name = "/w e b".into();
    let made = World::new().made(&container);
    assert_eq!(
        made.reason(),
        "no service can be named after it: name `w e b` has ' ': use letters, digits and signs \
         such as - _ . / @: say a name with label plimsoll.service"
    );
    assert_eq!(made.invalid()[0].0, "container w e b");
    let mut hosted = container.clone();
    hosted.label_with(&[("plimsoll.host", "a.example")]);
    let made = World::new().made(&hosted);
    assert_eq!(made.service().name().as_str(), "a.example");
    container.label_with(&[("plimsoll.service", "web")]);
    let name: Name = "web".parse().unwrap();
    assert_eq!(World::new().made(&container).service().name(), &name);
}

#[test]
fn who_gets_packets_as_they_are_needs_no_port() {
    for (forward, port, backend) in [
        ("nat", None, "172.17.0.2:5432"),
        ("nat", Some("9000"), "172.17.0.2:9000"),
        ("dr", None, "172.17.0.2"),
        ("tunnel", None, "172.17.0.2"),
        ("dr", Some("443"), "172.17.0.2:443"),
    ] {
        let mut container = container();
        container.expose(&["5432/tcp"]);
        container.label_with(&[
            ("plimsoll.listen", "203.0.113.9:443/tcp"),
            ("plimsoll.forward", forward),
        ]);
        let port = port.map(|port| ("plimsoll.port", port));
        container.label_with(port.as_slice());
        let made = World::new().made(&container);
        assert_eq!(
            made.backend().addr.to_string(),
            backend,
            "{forward} {port:?}"
        );
    }
    let made = World::new().made(&labelled(&[
        ("plimsoll.forward", "dr"),
        ("plimsoll.port", "80"),
    ]));
    assert_eq!(
        made.reason(),
        "label plimsoll.forward=dr: http services are the proxy's, which opens connections of its \
         own: say plimsoll.listen=203.0.113.9:443/tcp to have packets forwarded"
    );
}
