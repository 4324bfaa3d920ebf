//! The state follows from what the sources say, not from the way it came: any order, doubling and
//! loss of updates ends, after one relist, in the same state.

use std::collections::BTreeMap;
use std::sync::Arc;

use plimsoll_model::{
    Desired, Entry, EntryKey, Item, Origin, SchedulerKind, SourceId, State, Status, Update,
};
use proptest::prelude::*;

use crate::world::{World, docker, entry, file, nth, route, service};

/// What one entry may say. Small numbers, so that entries meet.
fn item() -> impl Strategy<Value = Item> {
    let fragment = (0u8..4, 0u8..3, 0u8..16, any::<bool>(), 0u8..4, 0u8..4);
    let fragment = fragment.prop_map(|(s, listen, backends, lc, wrong, state)| {
        let listens = [&[][..], &["*:80/http"], &["*:81/tcp"]][usize::from(listen)];
        let backends: Vec<u8> = (1..5).filter(|n| backends & (1 << (n - 1)) != 0).collect();
        let mut fragment = service("entry", &format!("s{s}"), listens, &backends);
        let states = [State::Starting, State::Ready, State::Draining, State::Down];
        for backend in fragment.backends.values_mut() {
            Arc::make_mut(backend).status = Status::new(states[usize::from(state)], "");
        }
        let spec = Arc::make_mut(&mut fragment.spec);
        if lc {
            spec.scheduler.kind = SchedulerKind::Lc;
        }
        if wrong == 0 {
            spec.scheduler.table = 4;
        }
        Item::Service(fragment.into())
    });
    let routes = (0u8..3, prop::collection::btree_set(0u8..5, 1..3), 0i32..2);
    let routes = routes.prop_map(|(r, to, priority)| {
        let to: Vec<String> = to.into_iter().map(|s| format!("s{s}")).collect();
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        let mut route = route("entry", &format!("r{r}"), &to);
        route.priority = priority;
        Item::Route(route.into())
    });
    let invalid = (0u8..3).prop_map(|n| Item::Invalid {
        subject: format!("container {n}").into(),
        origin: Origin::new("test", "entry"),
        reason: "not a number".into(),
    });
    prop_oneof![6 => fragment, 3 => routes, 1 => invalid]
}

#[derive(Clone, Debug)]
enum Said {
    Upsert(u8, Item),
    Remove(u8),
    Stale,
    Fresh,
    Reset(BTreeMap<u8, Item>),
}

fn said() -> impl Strategy<Value = (bool, Said)> {
    let said = prop_oneof![
        6 => (0u8..6, item()).prop_map(|(k, i)| Said::Upsert(k, i)),
        3 => (0u8..6).prop_map(Said::Remove),
        1 => Just(Said::Stale),
        1 => Just(Said::Fresh),
        1 => entries().prop_map(Said::Reset),
    ];
    (any::<bool>(), said)
}

fn entries() -> impl Strategy<Value = BTreeMap<u8, Item>> {
    prop::collection::btree_map(0u8..6, item(), 0..6)
}

fn key(n: u8) -> String {
    format!("key {n}")
}

fn list(entries: &BTreeMap<u8, Item>) -> Vec<Entry> {
    entries
        .iter()
        .map(|(k, i)| entry(&key(*k), i.clone()))
        .collect()
}

fn say(world: &mut World, source: &SourceId, said: Said) {
    let update = match said {
        Said::Upsert(k, item) => Update::Upsert(entry(&key(k), item)),
        Said::Remove(k) => Update::Remove(EntryKey::new(key(k))),
        Said::Stale => Update::Stale {
            reason: "gone".into(),
        },
        Said::Fresh => Update::Fresh,
        Said::Reset(entries) => Update::Reset(list(&entries)),
    };
    world.say(source, update);
}

fn source(first: bool) -> SourceId {
    if first { file() } else { docker() }
}

/// All that follows from what the sources say.
fn outcome(world: &World) -> (Desired, Desired, Vec<(String, String, String)>) {
    let desired = Desired::clone(world.control.desired());
    (desired, world.held(), world.aside())
}

/// The state that two lists lead to in a fresh world.
fn fresh(lists: &[BTreeMap<u8, Item>; 2]) -> World {
    let mut world = World::new();
    for (first, entries) in [(true, &lists[0]), (false, &lists[1])] {
        world.say(&source(first), Update::Reset(list(entries)));
    }
    world.step();
    world
}

proptest! {
    #[test]
    fn one_relist_ends_all_doubt(
        history in prop::collection::vec((said(), any::<bool>()), 0..40),
        lists in [entries(), entries()],
        docker_first in any::<bool>(),
    ) {
        let mut world = World::new();
        for ((first, said), step) in history {
            say(&mut world, &source(first), said);
            if step {
                world.step();
                prop_assert_eq!(&world.held(), &**world.control.desired());
            }
        }
        let mut order = [(true, &lists[0]), (false, &lists[1])];
        if docker_first {
            order.reverse();
        }
        for (first, entries) in order {
            world.say(&source(first), Update::Reset(list(entries)));
        }
        world.step();
        prop_assert_eq!(outcome(&world), outcome(&fresh(&lists)));
    }

    /// One changed entry at a time gives what a list of all would give.
    #[test]
    fn changes_add_up_to_the_list(
        mut lists in [entries(), entries()],
        changes in prop::collection::vec((any::<bool>(), 0u8..6, prop::option::of(item())), 1..12),
    ) {
        let mut world = fresh(&lists);
        for (first, k, item) in changes {
            let entries = &mut lists[usize::from(!first)];
            let said = match item {
                Some(item) => {
                    entries.insert(k, item.clone());
                    Said::Upsert(k, item)
                }
                None => {
                    entries.remove(&k);
                    Said::Remove(k)
                }
            };
            say(&mut world, &source(first), said.clone());
            say(&mut world, &source(first), said);
            world.step();
            prop_assert_eq!(outcome(&world), outcome(&fresh(&lists)));
        }
    }

    /// Whatever is wrong elsewhere, an entry that nobody disputes is in force as it is; also if
    /// it shares its listen with a service whose only route is wrong.
    #[test]
    fn nothing_touches_the_undisputed(lists in [entries(), entries()], valid in any::<bool>()) {
        let mut world = fresh(&lists);
        let good = service("good", "good", &["127.0.0.1:443/tcp"], &[1, 2]);
        world.put(&docker(), "good", good.clone());
        let sharing = service("sharing", "sharing", &["127.0.0.1:444/http"], &[1, 2]);
        world.put(&docker(), "sharing", sharing.clone());
        // First by its name, and by its source.
        let mut to = route("other", "other", &["other"]);
        if !valid {
            to.hosts.clear();
        }
        world.put(&file(), "other", service("other", "other", &["127.0.0.1:444/http"], &[3]));
        world.put(&file(), "to other", to);
        world.step();
        let held = world.held();
        prop_assert_eq!(&*held.services["good"], &good);
        prop_assert_eq!(&*held.services["sharing"], &sharing);
        prop_assert!(good.backends.contains_key(&nth(1)));
    }
}
