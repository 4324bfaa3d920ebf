//! `VIRTUAL_HOST` and its kin.

use crate::world::{Change, Made, World, container};

fn made(env: &[&str], exposed: &[&str]) -> Made {
    let mut container = container();
    container.set(env);
    container.expose(exposed);
    World::new().made(&container)
}

#[test]
fn one_service_and_route_for_each_host() {
    let made = made(
        &[
            "VIRTUAL_HOST=A.example, *.b.example,,a.example.",
            "VIRTUAL_PATH=/api/",
        ],
        &["3000/tcp", "53/udp"],
    );
    assert_eq!(made.invalid(), []);
    let (services, routes) = made.names();
    assert_eq!(services, ["a.example/api", "*.b.example/api"]);
    assert_eq!(routes, ["a.example:80/api", "*.b.example:80/api"]);
    for service in made.services() {
        let addr = service.backends.keys().next().unwrap();
        assert_eq!(addr.to_string(), "172.17.0.2:3000");
        assert_eq!(service.spec.listens, ["*:80/http".parse().unwrap()]);
    }
    assert_eq!(
        made.routes()[1].services[0].service.as_str(),
        "*.b.example/api"
    );
}

#[test]
fn containers_of_one_host_are_one_service() {
    let mut other = container();
    other.name = "/another".into();
    other.set(&["VIRTUAL_HOST=a.example"]);
    let one = made(&["VIRTUAL_HOST=a.example"], &[]);
    let two = World::new().made(&other);
    assert_eq!(one.names(), two.names());
    let spec = |made: &Made| made.service().spec.listens.clone();
    assert_eq!(spec(&one), spec(&two));
}

#[test]
fn ports_as_in_nginx_proxy() {
    for (env, exposed, port) in [
        ("VIRTUAL_PORT=81", &["80/tcp"][..], 81),
        ("", &["3000/tcp"], 3000),
        ("", &["3000/tcp", "9000/tcp"], 80),
        ("", &[], 80),
    ] {
        let made = made(&["VIRTUAL_HOST=a.example", env], exposed);
        assert_eq!(
            made.backend().addr.to_string(),
            format!("172.17.0.2:{port}")
        );
    }
    for port in ["0", "http", "70000"] {
        let made = made(
            &["VIRTUAL_HOST=a.example", &format!("VIRTUAL_PORT={port}")],
            &[],
        );
        let wanted = format!("VIRTUAL_PORT={port}: expected a port from 1 to 65535");
        assert_eq!(made.invalid(), [("container web", &*wanted)]);
    }
}

#[test]
fn what_is_not_simple_names_the_labels_that_say_it() {
    for (host, why) in [
        (
            "~^www\\..*",
            "regular expressions are not read: list the names, or use *.example.com",
        ),
        (
            "www.example.*",
            "a star stands alone or for the first label (*.example.com): list the names",
        ),
        (
            "http://a.example:80/path",
            "a scheme is not read: say labels plimsoll.host=a.example, plimsoll.path=/path",
        ),
        (
            "ws://a.example",
            "a scheme is not read: say label plimsoll.host=a.example",
        ),
        (
            "https://a.example",
            "https is not served: say label plimsoll.host=a.example",
        ),
        (
            "a.example:8080",
            "a host alone is read: say labels plimsoll.host=a.example, plimsoll.listen=8080",
        ),
        (
            "*/static/*",
            "a host alone is read: say labels plimsoll.host=*, plimsoll.path=/static/",
        ),
        (".a.example", "did you mean `a.example,*.a.example`?"),
        (
            "a b",
            "host `a b`: not a host name; expected a name (example.com), *.example.com, or *",
        ),
    ] {
        let made = made(&[&format!("VIRTUAL_HOST=good.example,{host}")], &[]);
        assert_eq!(made.names().0, ["good.example"], "the others work");
        assert_eq!(made.reason(), format!("VIRTUAL_HOST={host}: {why}"));
        let key = "container 2024-01-02T03:04:05.000000000Z 0123456789ab env VIRTUAL_HOST";
        assert!(made.keys().contains(&key));
    }
}

#[test]
fn what_cannot_be_kept_is_put_aside() {
    for (env, why) in [
        (
            "VIRTUAL_PROTO=grpc",
            "VIRTUAL_PROTO=grpc: containers are spoken to by http only; for others say label \
             plimsoll.protocol=tcp",
        ),
        (
            "VIRTUAL_DEST=/",
            "VIRTUAL_DEST=/: paths are passed on as they are: leave it out and let the container \
             answer below /api",
        ),
        (
            "NETWORK_ACCESS=internal",
            "NETWORK_ACCESS=internal: nobody is kept out by where they come from: listen on an \
             internal address and another port with labels plimsoll.host and plimsoll.listen=ADDR:PORT",
        ),
        (
            "VIRTUAL_PATH=~^/(a|b)",
            "VIRTUAL_PATH=~^/(a|b): path `~^/(a|b)`: a path begins with /",
        ),
        (
            "VIRTUAL_HOST_MULTIPORTS={a.example: {}}",
            "VIRTUAL_HOST_MULTIPORTS is not read: say each service with labels \
             plimsoll.NAME.host, .path and .port",
        ),
    ] {
        let made = made(&["VIRTUAL_HOST=a.example", "VIRTUAL_PATH=/api", env], &[]);
        assert_eq!(made.reason(), why);
        assert!(made.services().is_empty());
    }
    for env in [
        "VIRTUAL_PROTO=http",
        "VIRTUAL_DEST=/api",
        "NETWORK_ACCESS=external",
    ] {
        let made = made(&["VIRTUAL_HOST=a.example", "VIRTUAL_PATH=/api", env], &[]);
        assert_eq!(made.names().0, ["a.example/api"], "{env}");
    }
}

#[test]
fn labels_that_define_a_service_go_before_it() {
    let mut container = container();
    container.expose(&["80/tcp"]);
    container.set(&["VIRTUAL_HOST=a.example"]);
    for (label, value, service) in [
        ("plimsoll.network", "bridge", "a.example"),
        ("plimsoll.drain", "30s", "a.example"),
        ("plimsoll.port", "80", "web"),
        ("plimsoll.service", "shop", "shop"),
    ] {
        container.config.labels.clear();
        container.label_with(&[(label, value)]);
        let made = World::new().made(&container);
        assert_eq!(made.service().name().as_str(), service, "{label}");
        let drain = made.service().spec.timeouts.drain.as_secs();
        assert_eq!(drain == 30, label == "plimsoll.drain");
    }
    container.config.labels.clear();
    container.label_with(&[("plimsoll.prot", "80")]);
    let made = World::new().made(&container);
    assert!(made.services().is_empty());
    assert!(made.reason().contains("did you mean `port`?"));
    container.config.labels.clear();
    container.label_with(&[("plimsoll.enable", "false")]);
    assert!(World::new().made(&container).0.is_empty());
}

#[test]
fn enabled_with_a_host_in_the_environment() {
    let mut container = container();
    container.set(&["VIRTUAL_HOST=a.example"]);
    container.label_with(&[("plimsoll.enable", "true")]);
    assert_eq!(World::new().made(&container).names().0, ["a.example"]);
}

#[test]
fn nothing_is_nothing_and_much_is_refused() {
    assert!(made(&["VIRTUAL_HOST="], &[]).0.is_empty());
    assert!(made(&["VIRTUAL_HOST= , "], &[]).0.is_empty());
    assert!(made(&["VIRTUAL_PORT=80"], &[]).0.is_empty());
    let hosts: Vec<String> = (0..1025).map(|i| format!("h{i}")).collect();
    let made = made(&[&format!("VIRTUAL_HOST={}", hosts.join(","))], &[]);
    assert_eq!(made.reason(), "VIRTUAL_HOST has 1025 hosts: at most 1024");
}
