//! The table of clients that stay on their backend, beside a model that is too slow to be wrong.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

use std::hash::{BuildHasherDefault, DefaultHasher};
use std::net::IpAddr;

use plimsoll_balance::ClientNet;
use plimsoll_balance::persistence::{Entered, Stay, Table};
use proptest::prelude::*;

type Clients = Table<u8, BuildHasherDefault<DefaultHasher>>;

const TIMEOUT: u64 = 100;

fn client(n: u8) -> ClientNet {
    ClientNet::of(IpAddr::from([10, 0, 0, n]), 32, 128)
}

fn table(capacity: usize) -> Clients {
    Table::new(capacity, BuildHasherDefault::default())
}

fn backend(table: &Clients, n: u8, now: u64) -> Option<u8> {
    table
        .get(client(n), now, TIMEOUT)
        .map(|known| *known.backend)
}

fn enter(table: &mut Clients, n: u8, backend: u8, now: u64) -> Entered {
    table
        .enter(client(n), &backend, None, now, TIMEOUT)
        .unwrap()
}

#[test]
fn a_client_is_forgotten_when_it_was_not_seen_for_the_time_out() {
    let mut table = table(10);
    let entered = enter(&mut table, 1, 7, 0);
    assert_eq!(backend(&table, 1, 10_000), Some(7), "it is still there");
    table.leave(client(1), entered.stay, 20_000);
    assert_eq!(backend(&table, 1, 20_000 + TIMEOUT - 1), Some(7));
    let known = table.get(client(1), 20_040, TIMEOUT).unwrap();
    assert_eq!((known.open, known.left), (0, 60));
    assert_eq!(backend(&table, 1, 20_000 + TIMEOUT), None);
    assert_eq!(table.age(20_000 + TIMEOUT, TIMEOUT), 0);
}

#[test]
fn a_client_moves_only_from_the_backend_that_does_not_serve_it() {
    let mut table = table(10);
    let first = enter(&mut table, 1, 7, 0);
    let other = |table: &mut Clients, instead: Option<u8>| {
        table.enter(client(1), &8, instead.as_ref(), 1, TIMEOUT)
    };
    assert_eq!(other(&mut table, None), Err(7));
    assert_eq!(other(&mut table, Some(9)), Err(7));
    assert!(other(&mut table, Some(7)).is_ok());
    assert_eq!(backend(&table, 1, 1), Some(8));
    // What it had on the old one says nothing of the new one.
    table.leave(client(1), first.stay, 2);
    assert_eq!(table.get(client(1), 2, TIMEOUT).unwrap().open, 1);
}

#[test]
fn in_a_flood_the_table_stays_full_and_forgets_whoever_was_seen_least_lately() {
    let mut table = table(4);
    for n in 0..4 {
        let Entered { stay, evicted } = enter(&mut table, n, n, 0);
        assert!(!evicted);
        table.leave(client(n), stay, u64::from(n));
    }
    let again = enter(&mut table, 0, 0, 10).stay;
    table.leave(client(0), again, 10);
    for n in 100..103 {
        assert!(enter(&mut table, n, n, 11).evicted);
        assert_eq!(table.len(), 4);
    }
    let left = [0, 1, 2, 3].map(|n| backend(&table, n, 11));
    assert_eq!(left, [Some(0), None, None, None]);
    // Whoever was forgotten with something open begins anew.
    table.leave(client(1), Stay::clone(&again), 12);
    assert_eq!(backend(&table, 1, 12), None);
}

#[test]
fn in_a_flood_nobody_is_forgotten_who_has_something_open() {
    let mut table = table(4);
    let there = enter(&mut table, 0, 7, 0).stay;
    for n in 1..4 {
        let stay = enter(&mut table, n, n, 1).stay;
        table.leave(client(n), stay, 1);
    }
    for n in 100..200 {
        let Entered { stay, evicted } = enter(&mut table, n, n, 2);
        assert!(evicted);
        table.leave(client(n), stay, 2);
    }
    assert_eq!(table.get(client(0), 2, TIMEOUT).unwrap().open, 1);
    assert_eq!(table.len(), 4);
    // It is as every other once it has gone.
    table.leave(client(0), there, 3);
    assert_eq!(backend(&table, 0, 3), Some(7));
    for n in 200..204 {
        enter(&mut table, n, n, 4);
    }
    assert_eq!(backend(&table, 0, 4), None);
    // All have something open: the table is bounded all the same.
    assert!(enter(&mut table, 204, 1, 5).evicted);
    assert_eq!(table.len(), 4);
}

#[test]
fn whose_time_has_passed_are_forgotten_bit_by_bit_as_others_enter() {
    let mut table = table(1_000);
    let come = |table: &mut Clients, n, now| {
        let stay = enter(table, n, 1, now).stay;
        table.leave(client(n), stay, now);
    };
    for n in 0..100 {
        come(&mut table, n, 0);
    }
    come(&mut table, 100, TIMEOUT);
    assert!(table.len() > 90, "no one waits for all of them to go");
    for n in 101..200 {
        come(&mut table, n, TIMEOUT);
    }
    assert_eq!(table.len(), 100, "those of now");
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    Enter {
        client: u8,
        backend: u8,
        instead_of: Option<u8>,
    },
    /// The n-th of all that have something open ends.
    Leave(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let instead = proptest::option::of(0..3u8);
    prop_oneof![
        4 => (0..6u8, 0..3u8, instead).prop_map(|(client, backend, instead_of)| Step::Enter {
            client,
            backend,
            instead_of,
        }),
        2 => any::<usize>().prop_map(Step::Leave),
        2 => (1..TIMEOUT).prop_map(Step::Wait),
    ]
}

/// One client of the model.
#[derive(Clone, Debug)]
struct Known {
    client: u8,
    backend: u8,
    /// Number of the entry, and when what is open in it began.
    entry: usize,
    open: usize,
    seen: u64,
}

proptest! {
    #[test]
    fn the_table_does_what_its_definition_says(
        steps in prop::collection::vec(step(), 1..200),
        capacity in 1..8usize,
    ) {
        let mut table = table(capacity);
        // The one seen last is the last.
        let mut model: Vec<Known> = Vec::new();
        let mut open: Vec<(u8, Stay, usize)> = Vec::new();
        let (mut now, mut entries) = (0, 0);
        for step in steps {
            // Whoever has something open when its time has passed is seen then.
            let over: Vec<Known> = model.iter().filter(|k| now >= k.seen + TIMEOUT).cloned().collect();
            model.retain(|k| now < k.seen + TIMEOUT);
            model.extend(over.into_iter().filter(|k| k.open > 0).map(|k| Known { seen: now, ..k }));
            prop_assert_eq!(table.age(now, TIMEOUT), model.len());
            match step {
                Step::Wait(ms) => now += ms,
                Step::Leave(n) if !open.is_empty() => {
                    let (number, stay, entry) = open.swap_remove(n % open.len());
                    table.leave(client(number), stay, now);
                    if let Some(at) = model.iter().position(|k| k.client == number && k.entry == entry) {
                        let mut known = model.remove(at);
                        (known.open, known.seen) = (known.open - 1, now);
                        model.push(known);
                    }
                }
                Step::Leave(_) => {}
                Step::Enter { client: number, backend, instead_of } => {
                    let entered = table.enter(client(number), &backend, instead_of.as_ref(), now, TIMEOUT);
                    let at = model.iter().position(|k| k.client == number);
                    let known = at.map(|at| model[at].clone());
                    match (known, entered) {
                        (Some(known), Err(stays)) => {
                            prop_assert_eq!(stays, known.backend);
                            prop_assert!(known.backend != backend && instead_of != Some(known.backend));
                        }
                        (None, Err(_)) => prop_assert!(false, "refused without a reason"),
                        (known, Ok(entered)) => {
                            at.map(|at| model.remove(at));
                            let known = known.filter(|k| {
                                k.backend == backend
                            });
                            let known = known.unwrap_or_else(|| {
                                entries += 1;
                                Known { client: number, backend, entry: entries, open: 0, seen: now }
                            });
                            open.push((number, entered.stay, known.entry));
                            prop_assert_eq!(entered.evicted, model.len() == capacity);
                            if entered.evicted {
                                // The capacities here are less than what is looked at.
                                let idle = model.iter().position(|k| k.open == 0);
                                let busy = idle.unwrap_or(model.len());
                                for mut seen in model.drain(..busy).collect::<Vec<_>>() {
                                    seen.seen = now;
                                    model.push(seen);
                                }
                                model.remove(0);
                            }
                            model.push(Known { open: known.open + 1, seen: now, ..known });
                        }
                    }
                }
            }
            prop_assert!(table.len() <= capacity);
            for number in 0..6 {
                let known = model.iter().find(|k| k.client == number);
                let known = known.filter(|k| k.open > 0 || now < k.seen + TIMEOUT);
                prop_assert_eq!(backend(&table, number, now), known.map(|k| k.backend));
            }
        }
    }
}
