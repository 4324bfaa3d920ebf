//! Much, and long.

use plimsoll_model::Name;

use crate::world::{World, labelled};

#[test]
fn long_values_are_cut_and_much_is_refused() {
    let long = "x".repeat(5000);
    let made = World::new().made(&labelled(&[("plimsoll.port", &long)]));
    assert!(made.reason().len() < 200 && made.reason().contains("x…: expected"));
    let made = World::new().made(&labelled(&[("plimsoll.path", &long)]));
    assert_eq!(made.reason().matches('x').count(), 120, "{}", made.reason());
    let made = World::new().made(&labelled(&[("plimsoll.host", "a\u{7}\nb")]));
    assert!(!made.reason().contains(char::is_control));
    let made = World::new().made(&labelled(&[("plimsoll.a\u{1}b.x", "80")]));
    assert!(!made.reason().contains(char::is_control), "{:?}", made.0);
    let huge = "x".repeat(70_000);
    let made = World::new().made(&labelled(&[("plimsoll.port", &huge)]));
    assert!(
        made.reason()
            .ends_with("the value is longer than 65536 bytes")
    );

    let hosts: Vec<String> = (0..1025).map(|i| format!("h{i}.example")).collect();
    let made = World::new().made(&labelled(&[("plimsoll.host", &hosts.join(","))]));
    assert!(
        made.reason()
            .ends_with("expected at most 1024 of them, not 1025")
    );
    let some = hosts[..700].join(",");
    let made = World::new().made(&labelled(&[
        ("plimsoll.host", &some),
        ("plimsoll.listen", "80,81"),
    ]));
    assert_eq!(
        made.reason(),
        "700 hosts on 2 listens are too many: at most 1024 together"
    );
    let other = hosts[700..].join(",");
    let made = World::new().made(&labelled(&[
        ("plimsoll.host", &some),
        ("plimsoll.b.host", &other),
    ]));
    assert_eq!(
        made.reason(),
        "with this service the container has 1025 routes: at most 1024"
    );
    assert_eq!(made.names().0, ["h0.example"]);

    let many = |count: usize, part: &str| {
        let labels: Vec<String> = (0..count).map(|i| format!("plimsoll.n{i}{part}")).collect();
        let labels: Vec<(&str, &str)> = labels.iter().map(|l| (&**l, "80")).collect();
        let made = World::new().made(&labelled(&labels));
        (made.invalid()[0].0.to_owned(), made.reason().to_owned())
    };
    let container = || "container web".to_owned();
    let services = "it has more than 64 services".to_owned();
    assert_eq!(many(65, ".port"), (container(), services));
    let labels = "it has more than 1024 labels plimsoll.*".to_owned();
    assert_eq!(many(1025, ""), (container(), labels));
}

#[test]
fn a_name_that_is_too_long_is_said_so() {
    let name: Name = "x".repeat(250).parse().unwrap();
    let labels = [
        ("plimsoll.service", name.as_str()),
        ("plimsoll.admin.port", "1"),
    ];
    let made = World::new().made(&labelled(&labels));
    assert_eq!(
        made.reason(),
        "a name of 256 bytes is too long: at most 255: say another with label \
         plimsoll.admin.service"
    );
    let label = format!("plimsoll.{}.port", "n".repeat(65));
    let made = World::new().made(&labelled(&[(&label, "1")]));
    assert!(
        made.reason()
            .ends_with("a service is named by at most 64 letters")
    );
}
