//! Which plane carries a service that lets them be chosen.

use std::time::{Duration, Instant};

use plimsoll_control::{Control, Settings};
use plimsoll_model::{SourceUpdate, Update};
use plimsoll_plane::Unsupported;
use plimsoll_plane::fake::{FakePlane, Handle};

use crate::world::{entry, file, name, service};

struct Two {
    control: Control,
    proxy: Handle,
    packets: Handle,
}

impl Two {
    fn new() -> Self {
        let (one, proxy) = FakePlane::named("proxy");
        let (other, packets) = FakePlane::named("ebpf");
        Self {
            control: Control::new(vec![Box::new(one), Box::new(other)], Settings::default()),
            proxy,
            packets,
        }
    }

    /// The service with these backends: which plane holds it.
    fn put(&mut self, backends: &[u8]) -> Vec<&'static str> {
        let now = Instant::now();
        let web = service("web", "web", &["10.0.0.9:80/tcp"], backends);
        let update = Update::Reset(vec![entry("web", web)]);
        let source = file();
        self.control.update(now, SourceUpdate { source, update });
        self.control.step(now);
        let planes = [("proxy", &self.proxy), ("ebpf", &self.packets)];
        let holds = planes
            .into_iter()
            .filter(|(_, plane)| !plane.held().services.is_empty());
        holds.map(|(name, _)| name).collect()
    }
}

fn refuse(plane: &Handle, named: &'static str) {
    let unsupported = Unsupported {
        plane: named,
        feature: "that".into(),
        instead: "this".into(),
        again: None,
    };
    plane.refuse(name("web"), unsupported);
}

#[test]
fn without_backends_it_stays_where_it_was() {
    let mut two = Two::new();
    assert_eq!(two.put(&[]), ["proxy"], "there was none before");
    refuse(&two.proxy, "proxy");
    assert_eq!(two.put(&[1, 2]), ["ebpf"]);
    two.proxy.accept(&name("web"));
    assert_eq!(two.put(&[]), ["ebpf"]);
    // Backends say again how they are reached.
    assert_eq!(two.put(&[1]), ["proxy"]);
}

#[test]
fn a_plane_that_cannot_carry_it_any_more_does_not_keep_it() {
    let mut two = Two::new();
    refuse(&two.proxy, "proxy");
    assert_eq!(two.put(&[1]), ["ebpf"]);
    two.proxy.accept(&name("web"));
    refuse(&two.packets, "ebpf");
    assert_eq!(two.put(&[]), ["proxy"]);
}

#[test]
fn what_is_refused_for_the_moment_is_asked_again() {
    let mut two = Two::new();
    refuse(&two.proxy, "proxy");
    let again = Some(Duration::from_secs(1));
    let unsupported = Unsupported {
        plane: "ebpf",
        feature: "lock".into(),
        instead: "wait".into(),
        again,
    };
    two.packets.refuse(name("web"), unsupported);
    let start = Instant::now();
    let source = file();
    let web = service("web", "web", &["10.0.0.9:80/tcp"], &[1]);
    let update = Update::Reset(vec![entry("web", web)]);
    two.control.update(start, SourceUpdate { source, update });
    let step = two.control.step(start);
    assert!(step.next_deadline <= start + Duration::from_secs(1));
    let why: Vec<_> = two
        .control
        .waiting()
        .map(|(name, why)| format!("{name}: {why}"))
        .collect();
    assert_eq!(why.len(), 1);
    assert!(
        why[0].starts_with("web: ") && why[0].contains("no lock"),
        "{why:?}"
    );
    // Meanwhile another process has put it there: that is no drift.
    let mut other = Two::new();
    refuse(&other.proxy, "proxy");
    other.put(&[1]);
    two.packets.alter(|held| *held = other.packets.held());
    two.packets.accept(&name("web"));
    let early = two.control.step(start + Duration::from_millis(999));
    assert_eq!(two.control.waiting().count(), 1, "{early:?}");
    let step = two.control.step(start + Duration::from_secs(1));
    assert_eq!(two.control.waiting().count(), 0);
    assert!(two.control.quarantine().is_empty());
    assert_eq!(two.control.desired().services.len(), 1);
    assert!(
        step.planes
            .iter()
            .all(|p| p.drift.is_empty() && p.results.is_empty()),
        "{step:?}"
    );
    // A refusal that stays is not asked about.
    refuse(&two.packets, "ebpf");
    assert!(two.put(&[1, 2]).is_empty() && two.control.waiting().count() == 0);
}
