//! Where services listen, and what is kept for the operator.

use crate::world::{Change, World, container, labelled};

#[test]
fn listens_say_the_protocol_where_no_label_does() {
    for (listen, listens) in [
        ("5432/tcp", &["*:5432/tcp"][..]),
        ("53/tcp+udp", &["*:53/tcp", "*:53/udp"]),
        ("10.0.0.1:53/udp, 54", &["10.0.0.1:53/udp", "*:54/udp"]),
        ("8000-8010", &["*:8000-8010/http"]),
        ("[::]:81", &["[::]:81/http"]),
        (":80", &["*:80/http"]),
    ] {
        let labels = [("plimsoll.listen", listen), ("plimsoll.port", "1")];
        let made = World::new().made(&labelled(&labels));
        let listens: Vec<_> = listens.iter().map(|l| l.parse().unwrap()).collect();
        assert_eq!(made.service().spec.listens, listens);
    }
}

/// What is said of a container with exposed port 80 and these labels, where HTTP services listen
/// on `http` by default.
fn reason(http: &str, labels: &[(&str, &str)]) -> Option<String> {
    let mut world = World::new();
    world.settings.http = http.parse().unwrap();
    let mut container = container();
    container.expose(&["80/tcp", "80/udp"]);
    container.label_with(labels);
    let made = world.made(&container);
    assert_ne!(made.services().is_empty(), made.invalid().is_empty());
    made.invalid().first().map(|_| made.reason().to_owned())
}

#[test]
fn the_default_listen_is_the_operators() {
    let default = "*:80/http";
    for listen in [
        "10.0.0.1:80",
        "[fd00::1]:80",
        "0.0.0.0:80",
        "[::]:80",
        "70-90",
        "80/tcp",
        "10.0.0.1:80/tcp",
        "*:*/tcp",
    ] {
        let labels = [("plimsoll.listen", listen), ("plimsoll.port", "1")];
        let reason = reason(default, &labels).unwrap();
        let wanted = "would take clients of *:80/http, which all HTTP services share (--listen): \
                      use another port; or name hosts with plimsoll.host and leave \
                      plimsoll.listen out";
        assert!(reason.ends_with(wanted), "{reason}");
        assert!(reason.starts_with(&format!("label plimsoll.listen={listen}: ")));
    }
    for (http, listen) in [
        (default, "80"),
        (default, "*:80/http"),
        (default, "80/udp"),
        (default, "10.0.0.1:81"),
        ("10.0.0.1:80/http", "10.0.0.1:80"),
        ("10.0.0.1:80/http", "10.0.0.2:80"),
        ("*:8080/http", "10.0.0.2:80"),
    ] {
        let labels = [("plimsoll.listen", listen)];
        assert_eq!(reason(http, &labels), None, "{http} {listen}");
    }
    let labels = [("plimsoll.listen", "80")];
    let reason = reason("10.0.0.1:80/http", &labels).unwrap();
    assert!(reason.contains("*:80/http would take clients of 10.0.0.1:80/http"));
}

#[test]
fn a_guessed_listen_is_not_the_operators() {
    let tcp = ("plimsoll.smtp.protocol", "tcp");
    assert_eq!(
        reason("*:80/http", &[tcp]).unwrap(),
        "it listens on the port of the container, and *:80/tcp would take clients of *:80/http, \
         which all HTTP services share (--listen): say another port with label \
         plimsoll.smtp.listen; or, if it speaks HTTP, name hosts with plimsoll.smtp.host and leave \
         plimsoll.smtp.protocol out"
    );
    let other = ("plimsoll.smtp.listen", "81");
    assert_eq!(reason("*:80/http", &[tcp, other]), None);
    assert_eq!(reason("*:8080/http", &[tcp]), None);
    let udp = ("plimsoll.protocol", "udp");
    assert_eq!(reason("*:80/http", &[udp]), None);
}
