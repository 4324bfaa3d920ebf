//! VIPs: what is desired of them, and when in a step they are added and removed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use plimsoll_control::{Control, Settings};
use plimsoll_model::{Subject, Update, Vip};
use plimsoll_plane::fake::{FakePlane, Handle};
use plimsoll_plane::{Addresses, PlaneError, VipEvent, VipNote, VipState, VipView, Wanted};
use tokio::sync::Notify;

use crate::world::{World, docker, entry, file, name, service, with_spec};

/// What was asked, in its order, and how many services the plane held then.
type Asked = Arc<Mutex<Vec<(&'static str, Vec<String>, usize)>>>;

/// Has all that it is asked for.
struct Fake {
    plane: Handle,
    asked: Asked,
    has: BTreeSet<Vip>,
}

impl Fake {
    fn note(&self, what: &'static str, wanted: &Wanted) {
        let wanted = wanted.add.iter().map(ToString::to_string).collect();
        let services = self.plane.held().services.len();
        self.asked.lock().unwrap().push((what, wanted, services));
    }
}

impl Addresses for Fake {
    fn add(&mut self, _: Instant, wanted: &Wanted) -> Vec<VipNote> {
        self.note("add", wanted);
        let new: Vec<Vip> = wanted.add.difference(&self.has).cloned().collect();
        self.has.extend(new.iter().cloned());
        let event = VipEvent::Added;
        new.into_iter()
            .map(|vip| VipNote {
                vip,
                event: event.clone(),
            })
            .collect()
    }

    fn remove(&mut self, _: Instant, wanted: &Wanted) -> Vec<VipNote> {
        self.note("remove", wanted);
        self.has.retain(|vip| wanted.contains(vip));
        Vec::new()
    }

    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    fn vips(&self) -> Vec<VipView> {
        let view = |vip: &Vip| VipView {
            vip: vip.clone(),
            state: VipState::Added,
            reason: String::new(),
            since: Instant::now(),
            announced: 5,
            restored: 0,
        };
        self.has.iter().map(view).collect()
    }

    fn changed(&self) -> Arc<Notify> {
        Arc::default()
    }

    fn finish(&mut self) -> Vec<VipNote> {
        Vec::new()
    }
}

/// A world with VIPs, and what was asked of who has them.
fn world() -> (World, Asked) {
    let (plane, handle) = FakePlane::named("proxy");
    let asked = Asked::default();
    let fake = Fake {
        plane: handle.clone(),
        asked: asked.clone(),
        has: BTreeSet::new(),
    };
    let control = Control::new(vec![Box::new(plane)], Settings::default());
    let world = World {
        control: control.with_addresses(Box::new(fake)),
        plane: handle,
        now: Instant::now(),
    };
    (world, asked)
}

fn with_vip(text: &str, port: u16, address: &str) -> plimsoll_model::Service {
    let listen = format!("10.0.0.9:{port}/tcp");
    with_spec(service(text, text, &[&listen], &[1]), |spec| {
        spec.vips = vec![Vip {
            address: address.parse().unwrap(),
            interface: "eth0".parse().unwrap(),
        }];
    })
}

fn last(asked: &Asked) -> Vec<(&'static str, Vec<String>, usize)> {
    std::mem::take(&mut *asked.lock().unwrap())
}

const ONE: &str = "10.0.0.9/32 at eth0";

#[test]
fn added_before_the_planes_and_removed_after_them() {
    let (mut world, asked) = world();
    world.say(&file(), Update::Reset(Vec::new()));
    world.step();
    last(&asked);
    world.put(&file(), "a", with_vip("a", 80, "10.0.0.9"));
    let step = world.step();
    assert_eq!(step.vips.len(), 1);
    let one = vec![ONE.to_owned()];
    let wanted = [("add", one.clone(), 0), ("remove", one.clone(), 1)];
    assert_eq!(last(&asked), wanted);
    // Another service takes it over in one step: it stays.
    world.put(&file(), "b", with_vip("b", 81, "10.0.0.9"));
    world.remove(&file(), "a");
    world.step();
    assert!(last(&asked).iter().all(|(_, wanted, _)| *wanted == one));
    let status = world.control.status(world.now);
    assert_eq!(status.vips.len(), 1);
    assert_eq!(status.vips[0].address, "10.0.0.9/32");
    assert_eq!(status.vips[0].services, ["b"]);
    world.remove(&file(), "b");
    world.step();
    assert_eq!(last(&asked), [("add", vec![], 1), ("remove", vec![], 0)]);
    assert_eq!(world.control.status(world.now).vips, []);
}

#[test]
fn services_that_do_not_agree_have_it_as_the_first_says() {
    let (mut world, asked) = world();
    world.put(&file(), "b", with_vip("b", 81, "10.0.0.9/24"));
    world.put(&file(), "a", with_vip("a", 80, "10.0.0.9"));
    world.step();
    assert_eq!(last(&asked)[0].1, [ONE]);
    world.remove(&file(), "a");
    world.step();
    assert_eq!(last(&asked)[0].1, ["10.0.0.9/24 at eth0"]);
}

#[test]
fn nothing_is_removed_before_all_sources_have_spoken() {
    let (mut world, asked) = world();
    world.control.expect(world.now, file());
    world.control.expect(world.now, docker());
    world.step();
    let vip = entry("a", with_vip("a", 80, "10.0.0.9"));
    world.say(&file(), Update::Reset(vec![vip]));
    world.step();
    let kinds = |asked: &Asked| {
        last(asked)
            .into_iter()
            .map(|(kind, ..)| kind)
            .collect::<Vec<_>>()
    };
    assert_eq!(kinds(&asked), ["add", "add"]);
    world.say(&docker(), Update::Reset(Vec::new()));
    world.step();
    assert_eq!(kinds(&asked), ["add", "remove"]);
}

#[test]
fn a_listen_that_waited_for_its_address_is_tried_at_once() {
    let (mut world, _) = world();
    let other = with_spec(service("z", "z", &["10.0.0.8:80/tcp"], &[1]), |_| {});
    world.put(&file(), "z", other);
    let subject = Subject::Service(name("z"));
    let error = PlaneError::Other("cannot assign requested address".into());
    world.plane.fail(subject, error);
    world.step();
    world.step();
    assert_eq!(world.services(), [""; 0]);
    world.plane.mend();
    world.wait(Duration::from_millis(1));
    assert_eq!(world.services(), [""; 0], "no audit is due");
    world.put(&file(), "a", with_vip("a", 80, "10.0.0.9"));
    world.wait(Duration::from_millis(1));
    assert_eq!(world.services(), ["a", "z"]);
}

#[test]
fn those_of_services_that_are_aside_are_left_where_they_are() {
    let (mut world, asked) = world();
    world.say(&file(), Update::Reset(Vec::new()));
    world.put(&file(), "a", with_vip("a", 80, "10.0.0.9"));
    world.step();
    let unsupported = plimsoll_plane::Unsupported {
        plane: "proxy",
        feature: "that".into(),
        instead: "this".into(),
        again: None,
    };
    world.plane.refuse(name("a"), unsupported);
    world.put(&file(), "a", with_vip("a", 81, "10.0.0.9"));
    last(&asked);
    world.step();
    let status = world.control.status(world.now);
    assert!(status.services.is_empty() && status.quarantine.len() == 1);
    assert_eq!(status.vips.len(), 1);
    assert_eq!(status.vips[0].services, ["a"]);
    assert_eq!(last(&asked), [("add", vec![], 1), ("remove", vec![], 0)]);
    // Gone, it is not kept any more.
    world.remove(&file(), "a");
    world.step();
    assert_eq!(world.control.status(world.now).vips, []);
}
