//! What becomes of a container's backend, whatever happens to the container.

use std::time::Duration;

use plimsoll_discover::Item;
use plimsoll_discover::docker::read::{Inspected, Listed};
use plimsoll_discover::docker::view::Whereabouts;
use plimsoll_discover::docker::wire::Event;
use plimsoll_testkit::FakeContainer;

use crate::sim::Sim;

fn web() -> FakeContainer {
    FakeContainer::web("web", "web.example")
}

/// A world with one container that runs.
fn one(container: FakeContainer) -> (Sim, String) {
    let mut sim = Sim::new();
    let id = sim.world.run(container);
    sim.begin();
    (sim, id)
}

const READY: Option<&str> = Some("ready");
const STOPPING: Option<&str> = Some("draining: told to stop (SIGTERM)");

impl Sim {
    #[track_caller]
    fn is(&self, expected: Option<&str>) {
        assert_eq!(self.backend("web").as_deref(), expected);
    }

    fn services(&self) -> usize {
        self.said
            .values()
            .filter(|item| matches!(item, Item::Service(_)))
            .count()
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn it_starts_and_stops() {
    let mut sim = Sim::new();
    sim.begin();
    let id = sim.world.run(web());
    sim.tell();
    sim.is(READY);
    sim.world.stop(&id);
    sim.tell();
    sim.is(None);
    assert_eq!(sim.services(), 1);
    sim.world.start(&id);
    sim.tell();
    sim.is(READY);
}

#[test]
fn health_decides() {
    let (mut sim, id) = one(web().with_health());
    sim.is(Some("starting: health: starting"));
    for (word, output, expected) in [
        ("healthy", "", "ready"),
        ("unhealthy", "no answer\n", "down: unhealthy: no answer"),
        ("healthy", "", "ready"),
    ] {
        sim.world.health(&id, word, output);
        sim.tell();
        sim.is(Some(expected));
    }
}

#[test]
fn what_is_paused_or_restarting_gets_nothing_new() {
    let (mut sim, id) = one(web());
    sim.world.pause(&id);
    sim.tell();
    sim.is(Some("draining: paused"));
    sim.world.unpause(&id);
    sim.tell();
    sim.is(READY);
    sim.world.crash(&id);
    sim.tell();
    sim.is(Some("down: restarting"));
}

#[test]
fn it_drains_from_the_signal_on_and_costs_nothing() {
    let (mut sim, id) = one(web());
    let before = sim.inspections;
    sim.world.signal(&id, 15);
    sim.tell();
    sim.is(STOPPING);
    assert_eq!(sim.inspections, before);
    sim.world.die(&id);
    sim.tell();
    sim.is(None);
    assert_eq!(sim.inspections, before + 1);
}

#[test]
fn a_reload_changes_nothing() {
    let (mut sim, id) = one(web());
    sim.world.signal(&id, 1);
    sim.tell();
    sim.is(READY);
    assert!(sim.log.is_empty(), "{:?}", sim.log);
}

#[test]
fn its_own_stop_signal_counts() {
    let (mut sim, id) = one(web().stop_signal("SIGQUIT"));
    sim.world.signal(&id, 10);
    sim.tell();
    sim.is(READY);
    sim.world.signal(&id, 3);
    sim.tell();
    sim.is(Some("draining: told to stop (SIGQUIT)"));
}

#[test]
fn what_survives_its_stop_timeout_is_ready_again() {
    let (mut sim, id) = one(web().stop_timeout(3));
    sim.world.signal(&id, 15);
    sim.tell();
    let until = sim.watch.next_deadline().unwrap();
    assert_eq!(until, sim.now + seconds(4));
    sim.pass(seconds(3));
    sim.is(STOPPING);
    sim.pass(seconds(1));
    sim.is(READY);
    // The engine tells it once more after a reconnect: it is the same signal.
    let told = sim.watch.last_event();
    sim.world.signal(&id, 1);
    sim.tell();
    sim.is(READY);
    assert!(sim.watch.last_event() > told);
    sim.world.signal(&id, 15);
    sim.tell();
    sim.is(STOPPING);
}

#[test]
fn a_drain_label_keeps_it_draining_for_longer() {
    let (mut sim, id) = one(web().label("plimsoll.drain", "20s"));
    sim.world.signal(&id, 15);
    sim.tell();
    sim.pass(seconds(20));
    sim.is(STOPPING);
    sim.pass(seconds(1));
    sim.is(READY);
}

#[test]
fn the_same_signal_told_again_does_not_drain_anew() {
    let (mut sim, id) = one(web());
    sim.world.signal(&id, 15);
    let events = sim.events();
    for event in &events {
        sim.watch.event(event, sim.now);
    }
    sim.pass(seconds(11));
    sim.is(READY);
    for event in &events {
        sim.watch.event(event, sim.now);
    }
    sim.settle();
    sim.is(READY);
}

#[test]
fn a_new_start_ends_the_drain() {
    let (mut sim, id) = one(web());
    sim.world.restart(&id);
    sim.tell();
    sim.is(READY);
    // The signal of the life before comes last.
    sim.world.restart(&id);
    let mut events = sim.events();
    events.reverse();
    for event in events {
        sim.watch.event(&event, sim.now);
    }
    sim.settle();
    sim.is(READY);
}

#[test]
fn a_signal_before_the_first_inspection_counts() {
    let mut sim = Sim::new();
    sim.begin();
    let id = sim.world.run(web());
    sim.world.signal(&id, 15);
    sim.tell();
    sim.is(STOPPING);
    let mut sim = Sim::new();
    sim.begin();
    let id = sim.world.run(web());
    sim.events();
    sim.world.signal(&id, 15);
    sim.tell();
    sim.is(STOPPING);
}

#[test]
fn many_signals_before_the_first_inspection_hide_none() {
    for (numbers, expected) in [
        (vec![1, 10, 12, 28, 15], STOPPING),
        (vec![15, 1, 1, 10, 12, 28, 17, 2, 3], STOPPING),
        (vec![1, 1, 1, 10, 12, 28, 17], READY),
    ] {
        let mut sim = Sim::new();
        sim.begin();
        let id = sim.world.run(web());
        for number in &numbers {
            sim.world.signal(&id, *number);
        }
        sim.tell();
        assert_eq!(sim.backend("web").as_deref(), expected, "{numbers:?}");
    }
}

/// The events since the last time, as if the engine's clock went so many seconds late.
fn late(sim: &mut Sim, seconds: i64) -> Vec<Event> {
    let mut events = sim.events();
    for event in &mut events {
        event.time_nano -= seconds * 1_000_000_000;
    }
    events
}

#[test]
fn a_clock_that_is_set_back_hides_no_signal() {
    let (mut sim, id) = one(web());
    // An attempt to stop it that it survives, and then another one, an hour before.
    sim.world.signal(&id, 15);
    sim.tell();
    sim.is(STOPPING);
    sim.pass(seconds(11));
    sim.is(READY);
    sim.world.signal(&id, 15);
    for event in late(&mut sim, 3600) {
        sim.watch.event(&event, sim.now);
    }
    sim.settle();
    sim.is(STOPPING);
    // Another process begins, and its clock says that it is older.
    sim.world.restart(&id);
    for event in late(&mut sim, 7200) {
        sim.watch.event(&event, sim.now);
    }
    sim.settle();
    sim.is(READY);
}

#[test]
fn events_are_asked_for_by_the_clock_that_counts_now() {
    let (mut sim, id) = one(web());
    let mut at = |nanos: i64| {
        sim.world.signal(&id, 1);
        for event in sim.events() {
            let time_nano = nanos;
            let event = Event { time_nano, ..event };
            sim.watch.event(&event, sim.now);
        }
        sim.watch.last_event()
    };
    let second = 1_000_000_000;
    assert_eq!(at(0), None);
    assert_eq!(at(-1), None);
    assert_eq!(at(100 * second), Some(100 * second));
    // Two things that happen together may be told in another order.
    assert_eq!(at(100 * second - 5), Some(100 * second));
    assert_eq!(at(90 * second), Some(90 * second));
    assert_eq!(at(i64::MIN), Some(90 * second));
    assert_eq!(at(i64::MAX), Some(i64::MAX));
    assert_eq!(at(91 * second), Some(91 * second));
}

#[test]
fn what_is_removed_stays_without_backends_for_a_minute() {
    let (mut sim, id) = one(web());
    sim.world.remove(&id);
    sim.tell();
    sim.is(None);
    assert_eq!(sim.services(), 1);
    sim.pass(seconds(59));
    assert_eq!(sim.services(), 1);
    sim.pass(seconds(1));
    assert!(sim.said.is_empty(), "{:?}", sim.said);
}

#[test]
fn what_is_replaced_goes_at_once() {
    let (mut sim, id) = one(web().label("plimsoll.service", "shop"));
    sim.world.remove(&id);
    sim.tell();
    let next = FakeContainer::web("next", "web.example").label("plimsoll.service", "shop");
    let next = sim.world.run(next);
    sim.tell();
    assert_eq!(sim.services(), 1);
    assert_eq!(sim.backend("next").as_deref(), READY);
    // And the other way round.
    let third = FakeContainer::web("third", "web.example").label("plimsoll.service", "shop");
    sim.world.run(third);
    sim.tell();
    assert_eq!(sim.services(), 2);
    sim.world.remove(&next);
    sim.tell();
    assert_eq!(sim.services(), 1);
    assert_eq!(sim.backend("third").as_deref(), READY);
}

#[test]
fn what_is_renamed_is_called_so() {
    let (mut sim, id) = one(web().label("plimsoll.service", "shop"));
    sim.world.rename(&id, "shop-1");
    sim.tell();
    sim.is(None);
    assert_eq!(sim.backend("shop-1").as_deref(), READY);
}

#[test]
fn networks_come_and_go() {
    let (mut sim, id) = one(web().network("back").label("plimsoll.network", "front"));
    sim.is(None);
    sim.world.connect(&id, "front");
    sim.tell();
    let ready = sim.backend("web").unwrap();
    assert!(ready.starts_with("ready"), "{ready}");
    sim.world.disconnect(&id, "front");
    sim.tell();
    sim.is(None);
}

#[test]
fn whoever_shares_a_network_follows_its_owner() {
    let mut sim = Sim::new();
    let owner = sim.world.run(FakeContainer::new("pause"));
    sim.world.run(web().mode(&format!("container:{owner}")));
    sim.begin();
    sim.is(READY);
    let before = sim.inspections;
    sim.world.disconnect(&owner, "bridge");
    sim.tell();
    sim.is(None);
    sim.world.connect(&owner, "bridge");
    sim.tell();
    sim.is(READY);
    assert_eq!(sim.inspections, before + 2);
    sim.world.remove(&owner);
    sim.tell();
    sim.is(None);
}

#[test]
fn one_that_cannot_be_read_touches_no_other() {
    let (mut sim, _) = one(web());
    let bad = sim.world.run(FakeContainer::web("bad", "bad.example"));
    for event in sim.events() {
        sim.watch.event(&event, sim.now);
    }
    assert_eq!(sim.watch.take_wanted(16), [&*bad]);
    let unreadable = Inspected::Unreadable("the engine's answer cannot be read: x".into());
    sim.watch.inspected(&bad, Ok(unreadable), sim.now);
    sim.settle();
    sim.is(READY);
    let aside = sim.said.values().find_map(|item| match item {
        Item::Invalid {
            subject, reason, ..
        } => Some((subject.to_string(), reason.to_string())),
        _ => None,
    });
    let (subject, reason) = aside.unwrap();
    assert_eq!(subject, format!("container {}", &bad[..12]));
    assert!(reason.contains("cannot be read"), "{reason}");
    // The next list looks at it again, and knows its name.
    sim.list();
    sim.settle();
    assert_eq!(sim.backend("bad").as_deref(), READY);
    assert_eq!(
        sim.said
            .values()
            .filter(|item| matches!(item, Item::Invalid { .. }))
            .count(),
        0
    );
}

#[test]
fn a_failed_inspection_is_tried_again_and_keeps_what_was_known() {
    let (mut sim, id) = one(web());
    sim.world.pause(&id);
    for event in sim.events() {
        sim.watch.event(&event, sim.now);
    }
    for wait in [1, 2, 4, 8, 16, 32, 32] {
        assert_eq!(sim.watch.take_wanted(16), [&*id]);
        sim.watch.inspected(&id, Err("it hangs".into()), sim.now);
        sim.hear();
        sim.is(READY);
        assert_eq!(sim.watch.next_deadline(), Some(sim.now + seconds(wait)));
        sim.now += seconds(wait);
        sim.watch.tick(sim.now);
    }
    sim.settle();
    sim.is(Some("draining: paused"));
}

#[test]
fn who_asks_for_nothing_costs_one_inspection_for_ever() {
    let mut sim = Sim::new();
    let id = sim.world.run(FakeContainer::new("db").env("SECRET=x"));
    let off = FakeContainer::web("off", "off.example").label("plimsoll.enable", "false");
    sim.world.run(off);
    sim.begin();
    assert_eq!(sim.inspections, 2);
    sim.world.pause(&id);
    sim.world.unpause(&id);
    sim.world.restart(&id);
    sim.tell();
    sim.list();
    sim.settle();
    assert_eq!(sim.inspections, 2);
    assert!(sim.said.is_empty() && sim.log.is_empty());
}

#[test]
fn what_the_list_cannot_say_an_inspection_says() {
    let mut sim = Sim::new();
    let id = sim.world.run(web());
    sim.watch.begin(None, Whereabouts::Host, None, sim.now);
    sim.watch.list_begins();
    sim.watch.list(
        vec![Listed::Unreadable(id), Listed::Unreadable(String::new())],
        sim.now,
    );
    sim.settle();
    sim.is(READY);
}

#[test]
fn an_answer_from_before_the_list_is_not_believed_for_long() {
    let (mut sim, id) = one(web());
    sim.world.pause(&id);
    for event in sim.events() {
        sim.watch.event(&event, sim.now);
    }
    assert_eq!(sim.watch.take_wanted(16), [&*id]);
    let paused = sim.inspection(&id);
    // Nobody hears of this, and the list shows what was known before.
    sim.world.unpause(&id);
    sim.events();
    sim.list();
    sim.watch.inspected(&id, Ok(paused), sim.now);
    sim.settle();
    sim.is(READY);
}
