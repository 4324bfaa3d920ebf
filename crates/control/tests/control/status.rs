//! The snapshot for the world outside.

use plimsoll_control::Command;
use plimsoll_control::status::Status;
use plimsoll_model::{Precedence, SourceId, Update};

use crate::world::{World, docker, file, name, route, service};

#[test]
fn holds_all_there_is_to_see() {
    let mut world = World::web(2);
    world.put(&file(), "r", route("r", "r", &["web"]));
    world.put(&docker(), "c1", service("c1", "web", &["*:80/http"], &[3]));
    world.command(1, Command::Drain);
    world.step();
    let status = world.control.status(world.now);
    let web = &status.services[0];
    assert_eq!((web.name.as_str(), web.plane.as_str()), ("web", "proxy"));
    assert_eq!(
        (web.scheduler.as_str(), web.origin.entry.as_str()),
        ("wrr", "web")
    );
    assert_eq!(web.listens[0].listen, "*:80/http");
    let states: Vec<&str> = web.backends.iter().map(|b| b.state.as_str()).collect();
    assert_eq!(states, ["draining", "ready"]);
    assert_eq!(web.backends[0].addr, "10.0.0.1:80");
    assert_eq!(status.routes[0].hosts, ["example.com"]);
    assert_eq!(status.routes[0].services, [("web".to_string(), 1)]);
    assert_eq!(status.quarantine[0].subject, "service `web`");
    let sources: Vec<(&str, &str, usize)> = (status.sources.iter())
        .map(|s| (s.precedence.as_str(), s.state.as_str(), s.entries))
        .collect();
    assert_eq!(sources, [("file", "waiting", 2), ("engine", "waiting", 1)]);
    let plane = &status.planes[0];
    assert_eq!(
        (plane.name.as_str(), plane.services, plane.audits),
        ("proxy", 1, 1)
    );
}

#[test]
fn goes_through_json_and_back() {
    let mut world = World::web(2);
    world.put(&file(), "r", route("r", "r", &["web", "gone"]));
    world.step();
    let status = world.control.status(world.now);
    let text = serde_json::to_string(&status).unwrap();
    assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
}

#[test]
fn ready_once_every_source_was_listed() {
    let mut world = World::new();
    let late = SourceId::new(Precedence::Engine, "late");
    world.control.expect(world.now, late.clone());
    world.step();
    assert!(!world.control.is_ready());
    world.say(
        &late,
        Update::Stale {
            reason: "refused".into(),
        },
    );
    world.step();
    assert!(!world.control.is_ready(), "nothing is known of it yet");
    world.say(&late, Update::Reset(Vec::new()));
    world.step();
    assert!(world.control.is_ready());
    world.say(
        &late,
        Update::Stale {
            reason: "refused".into(),
        },
    );
    world.step();
    assert!(world.control.is_ready(), "its last state is in force");
}

#[test]
fn planes_are_there_for_questions() {
    let mut world = World::new();
    assert_eq!(world.control.planes().collect::<Vec<_>>(), ["proxy"]);
    assert_eq!(world.control.events().len(), 1);
    assert!(world.control.events().is_empty());
    assert!(world.control.plane_mut("proxy").is_some());
    assert!(world.control.plane_mut("ebpf").is_none());
    assert!(world.control.quarantine().is_empty());
    assert!(!world.control.desired().services.contains_key(&name("web")));
}
