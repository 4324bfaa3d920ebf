//! The table against a plain list, and who is put out for whom.

#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

fn table() -> Table<u16, &'static str> {
    Table::new()
}

#[test]
fn a_flood_wears_out_itself_and_not_those_in_use() {
    let mut table = table();
    let real = table.insert(1, 1, 100, "real", 0);
    table.heard_backend(real, 1);
    table.heard_client(real, 2);
    let forged: Vec<Id> = (10..20)
        .map(|k| table.insert(k, 1, 100, "forged", 3))
        .collect();
    // An answer to a forged source is nothing the client has shown to have got.
    table.heard_backend(forged[0], 4);
    for expected in forged.iter().skip(1).chain([&forged[0]]) {
        assert_eq!(table.spare(1), Some(*expected));
        table.remove(*expected);
    }
    assert_eq!((table.spare(1), table.spare_of_all()), (None, None));
    assert_eq!(table.find(&1), Some(real));
}

#[test]
fn the_quietest_of_a_source_or_of_all_is_found() {
    let mut table = table();
    let (a, b) = (
        table.insert(10, 1, 100, "a", 5),
        table.insert(21, 1, 100, "b", 6),
    );
    let other = table.insert(30, 2, 100, "c", 4);
    assert_eq!(table.spare_of(1, |key| key / 10 == 2), Some(b));
    assert_eq!(table.spare_of(1, |key| key / 10 == 3), None);
    assert_eq!(table.spare_of_all(), Some(other));
    table.heard_client(a, 9);
    assert_eq!(table.spare(1), Some(b));
}

#[test]
fn a_new_time_out_holds_for_those_that_are_there() {
    let mut table = table();
    let id = table.insert(1, 1, 100, "a", 0);
    assert_eq!(table.expired(99), None);
    table.set_idle(1, 10);
    table.set_idle(2, 10);
    assert_eq!((table.expired(9), table.expired(10)), (None, Some(id)));
    table.set_idle(1, 0);
    assert_eq!((table.expired(u64::MAX), table.lanes.len()), (None, 1));
}

#[test]
fn a_number_used_again_is_another_session() {
    let mut table = table();
    let old = table.insert(1, 1, 100, "old", 0);
    assert_eq!(table.remove(old), Some((1, "old")));
    let new = table.insert(2, 1, 100, "new", 0);
    assert_eq!(old.at, new.at);
    assert_eq!(table.get(old), None);
    assert_eq!(table.remove(old), None);
    assert_eq!(table.get(new), Some(&"new"));
}

#[derive(Clone, Debug)]
enum Step {
    Client(u16),
    Backend(u16),
    Remove(u16),
    Spare(u64),
    Expire,
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || 0..8u16;
    let step = prop_oneof![
        4 => key().prop_map(Step::Client),
        3 => key().prop_map(Step::Backend),
        1 => key().prop_map(Step::Remove),
        1 => (0..2u64).prop_map(Step::Spare),
        1 => Just(Step::Expire),
        2 => (1..60u64).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 0..200)
}

/// The same, without lists: (key, heard, fresh, answered, order of being heard).
#[derive(Clone, Debug)]
struct Plain {
    key: u16,
    heard: u64,
    fresh: bool,
    answered: bool,
}

proptest! {
    #[test]
    fn it_does_what_a_plain_list_does(steps in steps()) {
        let mut table: Table<u16, u16> = Table::new();
        let mut plain: Vec<Plain> = Vec::new();
        let mut now = 0;
        let idle = [100, 0];
        for step in steps {
            // Heard of last is last; within one tick the order stays.
            let touch = |plain: &mut Vec<Plain>, key: u16, client: bool, now: u64| {
                let Some(at) = plain.iter().position(|p| p.key == key) else { return };
                let mut one = plain[at].clone();
                let proves = client && one.answered && one.fresh;
                let moves = proves || one.heard != now;
                one.fresh &= !proves;
                one.answered |= !client;
                one.heard = now;
                plain[at] = one.clone();
                if moves {
                    plain.remove(at);
                    plain.push(one);
                }
            };
            let lane = |key: u16| u64::from(key % 2);
            match step {
                Step::Client(key) => match table.find(&key) {
                    Some(id) => {
                        table.heard_client(id, now);
                        touch(&mut plain, key, true, now);
                    }
                    None => {
                        table.insert(key, lane(key), idle[lane(key) as usize], key, now);
                        plain.push(Plain { key, heard: now, fresh: true, answered: false });
                    }
                },
                Step::Backend(key) => if let Some(id) = table.find(&key) {
                    table.heard_backend(id, now);
                    touch(&mut plain, key, false, now);
                },
                Step::Remove(key) => {
                    let removed = table.find(&key).and_then(|id| table.remove(id));
                    let known = plain.iter().position(|p| p.key == key);
                    prop_assert_eq!(removed.is_some(), known.is_some());
                    known.map(|at| plain.remove(at));
                }
                Step::Spare(of) => {
                    let spare = table.spare(of).and_then(|id| table.remove(id));
                    let expected = plain.iter().position(|p| p.fresh && lane(p.key) == of);
                    let expected = expected.map(|at| plain.remove(at).key);
                    prop_assert_eq!(spare.map(|(key, _)| key), expected);
                }
                Step::Expire => {
                    let mut gone = Vec::new();
                    while let Some(id) = table.expired(now) {
                        gone.push(table.remove(id).unwrap().0);
                    }
                    gone.sort_unstable();
                    let over = |p: &Plain| match idle[lane(p.key) as usize] {
                        0 => false,
                        idle => p.heard + idle <= now,
                    };
                    let mut expected: Vec<u16> = (plain.iter().filter(|p| over(p)))
                        .map(|p| p.key).collect();
                    expected.sort_unstable();
                    plain.retain(|p| !over(p));
                    prop_assert_eq!(gone, expected);
                }
                Step::Pass(time) => now += time,
            }
            prop_assert_eq!(table.len(), plain.len());
            for p in &plain {
                prop_assert!(table.find(&p.key).is_some());
            }
        }
        let lanes: std::collections::BTreeSet<u64> = plain.iter().map(|p| u64::from(p.key % 2)).collect();
        for key in 0..8 {
            table.find(&key).and_then(|id| table.remove(id));
        }
        prop_assert_eq!((table.len(), table.index.len()), (0, 0));
        // A service without sessions leaves nothing behind.
        prop_assert!(lanes.iter().all(|lane| !table.lanes.contains_key(lane)));
    }
}
