//! What containers say together, as the catalog takes it.

use std::time::Instant;

use plimsoll_control::{Catalog, Refused, Vet};
use plimsoll_discover::docker::view::Standing;
use plimsoll_discover::docker::wire::Inspect;
use plimsoll_model::{
    Invalid, Name, Precedence, Route, Service, SourceId, SourceUpdate, State, Status, Update,
};

use crate::world::{Change, World, container};

/// A plane that carries everything.
struct Anything;

impl Vet for Anything {
    fn service(&self, _: &Service) -> Result<&'static str, Refused> {
        Ok("proxy")
    }

    fn can(&self, _: &Service, _: &'static str) -> bool {
        true
    }

    fn route(&self, _: &Route, _: &'static str) -> Result<(), Invalid> {
        Ok(())
    }
}

/// A container of this number and name, which is the older the lower its number.
fn numbered(n: u8, name: &str, labels: &[(&str, &str)]) -> Inspect {
    let mut container = container();
    container.id = format!("{n:064x}");
    container.name = format!("/{name}");
    container.created = format!("2024-01-02T03:04:{n:02}Z");
    container.connect("bridge", &format!("172.17.0.{n}"));
    container.expose(&["80/tcp"]);
    container.label_with(labels);
    container
}

fn ready() -> Standing {
    Standing::Serves(Status::default())
}

/// The catalog of containers.
fn catalog(containers: &[(Inspect, Standing)]) -> Catalog {
    let world = World::new();
    let entries = containers.iter();
    let entries = entries.flat_map(|(container, does)| world.with_standing(container, does));
    let mut catalog = Catalog::default();
    let now = Instant::now();
    let update = SourceUpdate {
        source: SourceId::new(Precedence::Engine, world.settings.source.clone()),
        update: Update::Reset(entries.collect()),
    };
    catalog.update(now, update);
    catalog.resolve(now, &Anything);
    catalog
}

fn all_ready(containers: &[Inspect]) -> Catalog {
    let containers: Vec<_> = containers.iter().map(|c| (c.clone(), ready())).collect();
    catalog(&containers)
}

fn backends(catalog: &Catalog, service: &str) -> Vec<String> {
    let name: Name = service.parse().unwrap();
    let (_, service) = catalog.service(&name).unwrap();
    service.backends.keys().map(ToString::to_string).collect()
}

/// Which service each route leads to.
fn routes(catalog: &Catalog) -> Vec<(String, String)> {
    let routes = catalog.routes();
    let pairs = routes.map(|(name, _, route)| {
        let service = &route.services[0].service;
        (name.to_string(), service.to_string())
    });
    pairs.collect()
}

/// Subject, origin and reason of what is put aside.
fn asides(catalog: &Catalog) -> Vec<(String, String, String)> {
    let asides = catalog.quarantine().iter();
    let texts = asides.map(|(aside, _)| {
        let entry = aside.origin.entry.to_string();
        (aside.subject.clone(), entry, aside.reason.clone())
    });
    texts.collect()
}

#[track_caller]
fn assert_aside(catalog: &Catalog, subject: &str, entry: &str, reason: &str) {
    let wanted = (subject.to_owned(), entry.to_owned(), reason.to_owned());
    assert_eq!(asides(catalog), [wanted]);
}

const SHOP: [(&str, &str); 3] = [
    ("com.docker.compose.project", "shop"),
    ("com.docker.compose.service", "api"),
    ("plimsoll.host", "a.example"),
];

#[test]
fn containers_of_one_service_are_its_backends() {
    let mut second = numbered(2, "shop-api-2", &SHOP);
    second.label_with(&[("plimsoll.weight", "5")]);
    let stopped = numbered(3, "shop-api-3", &SHOP);
    let catalog = catalog(&[
        (numbered(1, "shop-api-1", &SHOP), ready()),
        (second, ready()),
        (stopped, Standing::Stopped),
    ]);
    assert_eq!(asides(&catalog), []);
    let addrs = ["172.17.0.1:80", "172.17.0.2:80"];
    assert_eq!(backends(&catalog, "shop/api"), addrs);
    let route = ("a.example:80".to_owned(), "shop/api".to_owned());
    assert_eq!(routes(&catalog), [route]);
}

#[test]
fn the_host_of_a_stopped_container_is_known() {
    let catalog = catalog(&[(numbered(1, "shop-api-1", &SHOP), Standing::Stopped)]);
    assert!(backends(&catalog, "shop/api").is_empty());
    assert_eq!(routes(&catalog).len(), 1);
}

#[test]
fn containers_of_one_virtual_host_are_one_service() {
    let hosted = |n: u8, name: &str| {
        let mut container = numbered(n, name, &[]);
        container.set(&["VIRTUAL_HOST=a.example"]);
        container
    };
    let catalog = all_ready(&[hosted(1, "blue"), hosted(2, "green")]);
    assert_eq!(asides(&catalog), []);
    assert_eq!(backends(&catalog, "a.example").len(), 2);
}

#[test]
fn the_oldest_that_can_serve_decides_what_contradicts() {
    let with = |n: u8, scheduler: &str| {
        let mut container = numbered(n, &format!("shop-api-{n}"), &SHOP);
        container.label_with(&[("plimsoll.scheduler", scheduler)]);
        container
    };
    let (old, new) = (with(1, "wrr"), with(2, "lc"));
    let both = all_ready(&[new.clone(), old.clone()]);
    assert_eq!(backends(&both, "shop/api"), ["172.17.0.1:80"]);
    assert_aside(
        &both,
        "service `shop/api`",
        "container shop-api-2",
        "plimsoll.scheduler is `lc` here but `wrr` in container shop-api-1, which decides because \
         it is older: make them equal, or give one of them another plimsoll.service",
    );
    let status = Status::new(State::Draining, "told to stop (SIGTERM)");
    let handed = catalog(&[(old, Standing::Serves(status)), (new, ready())]);
    assert_eq!(backends(&handed, "shop/api"), ["172.17.0.2:80"]);
}

#[test]
fn containers_of_one_host_are_one_service() {
    let run = |n, name| numbered(n, name, &[("plimsoll.host", "whoami.localhost")]);
    let (one, two) = (run(1, "serene_austin"), run(2, "angry_joliot"));
    let mut more = run(3, "more");
    more.label_with(&[("plimsoll.host", "whoami.localhost,www.localhost")]);
    let catalog = all_ready(&[one, two, more]);
    assert_eq!(asides(&catalog), []);
    assert_eq!(backends(&catalog, "whoami.localhost").len(), 3);
    let route = |host: &str| (format!("{host}:80"), "whoami.localhost".to_owned());
    let wanted = ["whoami.localhost", "www.localhost"].map(route);
    assert_eq!(routes(&catalog), wanted, "their hosts add up");
}

#[test]
fn one_host_on_two_listens_is_two_services() {
    let one = numbered(1, "one", &[("plimsoll.host", "a.example")]);
    let mut other = numbered(2, "two", &[("plimsoll.host", "a.example")]);
    other.label_with(&[("plimsoll.listen", "8080")]);
    let catalog = all_ready(&[one, other]);
    assert_eq!(asides(&catalog), []);
    let leads = [
        ("a.example:80", "a.example"),
        ("a.example:8080", "a.example:8080"),
    ];
    let leads = leads.map(|(route, service)| (route.to_owned(), service.to_owned()));
    assert_eq!(routes(&catalog), leads);
}

#[test]
fn the_oldest_container_of_a_host_decides() {
    let with = |n: u8, name: &str, scheduler: &str| {
        let mut container = numbered(n, name, &[("plimsoll.host", "a.example")]);
        container.label_with(&[("plimsoll.scheduler", scheduler)]);
        container
    };
    let (old, new) = (with(1, "old", "wrr"), with(2, "new", "lc"));
    let both = all_ready(&[new.clone(), old.clone()]);
    assert_eq!(backends(&both, "a.example"), ["172.17.0.1:80"]);
    let [(subject, entry, reason)] = &asides(&both)[..] else {
        panic!("{:?}", asides(&both));
    };
    assert_eq!(
        (&**subject, &**entry),
        ("service `a.example`", "container new")
    );
    assert!(reason.starts_with("plimsoll.scheduler is `lc` here but `wrr` in container old"));
    let status = Status::new(State::Draining, "told to stop (SIGTERM)");
    let handed = catalog(&[(old, Standing::Serves(status)), (new, ready())]);
    assert_eq!(backends(&handed, "a.example"), ["172.17.0.2:80"]);
}

/// A container of this number and name, whose label says what its service is called.
fn named(n: u8, name: &str, host: &str) -> Inspect {
    numbered(
        n,
        name,
        &[("plimsoll.service", name), ("plimsoll.host", host)],
    )
}

#[test]
fn two_services_for_one_host() {
    let blue = named(1, "blue", "a.example");
    let green = named(2, "green", "a.example");
    let mut elsewhere = named(3, "red", "a.example");
    elsewhere.label_with(&[("plimsoll.path", "/red")]);
    let catalog = all_ready(&[green, blue, elsewhere]);
    assert_aside(
        &catalog,
        "route `a.example:80`",
        "container green",
        "host a.example is already served by service `blue` (container blue): give both the same \
         plimsoll.service to share it, or choose another host",
    );
    let leads = [("a.example:80", "blue"), ("a.example:80/red", "red")];
    let leads = leads.map(|(route, service)| (route.to_owned(), service.to_owned()));
    assert_eq!(routes(&catalog), leads);
}

#[test]
fn a_priority_takes_no_host_from_an_older_container() {
    let blue = named(1, "blue", "a.example");
    let mut above = named(2, "above", "a.example");
    above.label_with(&[("plimsoll.priority", "10")]);
    let catalog = all_ready(&[above, blue]);
    let [(subject, entry, reason)] = &asides(&catalog)[..] else {
        panic!("{:?}", asides(&catalog));
    };
    assert_eq!(subject, "route `a.example:80`");
    assert_eq!(entry, "container above");
    assert!(
        reason.contains("served by service `blue` (container blue)"),
        "{reason}"
    );
    let route = ("a.example:80".to_owned(), "blue".to_owned());
    assert_eq!(routes(&catalog), [route]);
}

#[test]
fn no_label_puts_aside_who_shares_the_default_listen() {
    let shop = named(2, "shop", "a.example");
    for labels in [
        ("plimsoll.protocol", "tcp"),
        ("plimsoll.listen", "172.17.0.1:80"),
        ("plimsoll.listen", "0.0.0.0:80"),
    ] {
        let catalog = all_ready(&[numbered(1, "an-older-one", &[labels]), shop.clone()]);
        let [(subject, entry, reason)] = &asides(&catalog)[..] else {
            panic!("{:?}", asides(&catalog));
        };
        assert_eq!(subject, "service `an-older-one`");
        assert_eq!(entry, "container an-older-one");
        assert!(
            reason.contains("would take clients of *:80/http"),
            "{reason}"
        );
        assert_eq!(backends(&catalog, "shop"), ["172.17.0.2:80"]);
        let route = ("a.example:80".to_owned(), "shop".to_owned());
        assert_eq!(routes(&catalog), [route]);
    }
}

#[test]
fn a_label_and_a_virtual_host_for_one_host() {
    let labelled = numbered(1, "web", &[("plimsoll.host", "a.example")]);
    let mut hosted = numbered(2, "old", &[]);
    hosted.set(&["VIRTUAL_HOST=a.example"]);
    let catalog = all_ready(&[labelled, hosted.clone()]);
    assert_eq!(asides(&catalog), []);
    assert_eq!(backends(&catalog, "a.example").len(), 2);
    let catalog = all_ready(&[named(1, "web", "a.example"), hosted]);
    let [(subject, entry, reason)] = &asides(&catalog)[..] else {
        panic!("{:?}", asides(&catalog));
    };
    assert_eq!(subject, "route `a.example:80`");
    assert_eq!(entry, "container old");
    let words = "host a.example is already served by service `web` (container web): ";
    assert!(reason.starts_with(words), "{reason}");
}

#[test]
fn two_services_for_what_no_route_decides() {
    let blue = numbered(1, "blue", &[("plimsoll.port", "80")]);
    let green = numbered(2, "green", &[("plimsoll.port", "80")]);
    let catalog = all_ready(&[blue, green]);
    assert_aside(
        &catalog,
        "service `green`",
        "container green",
        "service `blue` (container blue) takes all requests of listen *:80/http that no route \
         decides, which only one can: give this one a plimsoll.host or plimsoll.path",
    );
}

#[test]
fn broken_labels_do_not_touch_others() {
    let broken = numbered(
        1,
        "shop-api-1",
        &[SHOP[0], SHOP[1], ("plimsoll.prot", "80")],
    );
    let good = numbered(2, "shop-api-2", &SHOP);
    let catalog = all_ready(&[broken, good]);
    assert_aside(
        &catalog,
        "service `shop/api`",
        "container shop-api-1",
        "label plimsoll.prot=80: unknown key `prot`: did you mean `port`?",
    );
    assert_eq!(backends(&catalog, "shop/api"), ["172.17.0.2:80"]);
}

#[test]
fn who_cannot_be_reached_leaves_its_host_known() {
    let mut lost = numbered(1, "shop-api-1", &SHOP);
    lost.network_settings.networks.clear();
    let catalog = all_ready(&[lost]);
    assert_eq!(asides(&catalog)[0].0, "container shop-api-1");
    assert!(backends(&catalog, "shop/api").is_empty());
    assert_eq!(routes(&catalog).len(), 1, "503, not 404");
}
