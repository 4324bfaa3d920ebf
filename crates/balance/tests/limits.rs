//! Limits of sources: exact for whom is known, bounded, and not to be got rid of by a flood.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::collections::HashMap;
use std::hash::RandomState;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use plimsoll_balance::ClientNet;
use plimsoll_balance::limits::{Allowance, Entered, Limit, Refused, Sources, What};
use plimsoll_model::Quota;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

fn allowed(connections: u32, rate: Option<&str>) -> [Allowance; What::COUNT] {
    let quota = Quota {
        connections,
        connection_rate: rate.map(|rate| rate.parse().unwrap()),
        requests: connections,
        request_rate: rate.map(|rate| rate.parse().unwrap()),
    };
    [What::Connection, What::Request].map(|what| Allowance::new(&quota, what))
}

fn source(n: u32) -> ClientNet {
    ClientNet::of(IpAddr::V4(Ipv4Addr::from_bits(n)), 32, 64)
}

fn enter(
    table: &mut Sources<RandomState>,
    n: u32,
    allowed: &[Allowance; What::COUNT],
    now: u64,
) -> Result<Entered, Refused> {
    table.enter(source(n), What::Connection, allowed, now, || Ok(()))
}

#[test]
fn a_table_that_was_full_shrinks() {
    let mut table = Sources::new(10_000, RandomState::new());
    let allowed = allowed(2, Some("1/s"));
    for n in 0..10_000 {
        assert_eq!(enter(&mut table, n, &allowed, 0), Ok(Entered::Counted));
    }
    // Nobody is as good as unknown before the bucket is full again.
    table.tidy(20_000, &allowed, SECOND - 1);
    assert_eq!((table.len(), table.room() >= 10_000), (10_000, true));
    // Nor who has something open.
    (0..9_990).for_each(|n| table.leave(source(n), What::Connection));
    table.tidy(20_010, &allowed, SECOND);
    assert_eq!(table.len(), 10);
    assert!(table.room() < 100, "{}", table.room());
    assert!((9_990..10_000).all(|n| table.get(source(n), What::Connection).0 == 1));
}

#[test]
fn each_source_has_its_own() {
    let mut table = Sources::new(10, RandomState::new());
    let allowed = allowed(2, None);
    for n in [1, 2] {
        for _ in 0..2 {
            assert_eq!(enter(&mut table, n, &allowed, 0), Ok(Entered::Counted));
        }
        let full = Refused {
            limit: Limit::AtOnce,
            wait: 0,
        };
        assert_eq!(enter(&mut table, n, &allowed, 0), Err(full));
        // Requests are another thing.
        let request = table.enter(source(n), What::Request, &allowed, 0, || {
            Ok::<_, Refused>(())
        });
        assert_eq!(request, Ok(Entered::Counted));
    }
    table.leave(source(1), What::Connection);
    assert_eq!(enter(&mut table, 1, &allowed, 0), Ok(Entered::Counted));
    assert!(enter(&mut table, 2, &allowed, 0).is_err());
    assert_eq!(table.get(source(2), What::Connection).0, 2);
    assert_eq!(table.get(source(3), What::Connection), (0, 0));
}

#[test]
fn addresses_of_one_ipv6_network_are_one_source() {
    let mut table = Sources::new(10, RandomState::new());
    let allowed = allowed(1, None);
    let of = |last: u128| {
        let ip = Ipv6Addr::from_bits((0x2001_0db8 << 96) + last);
        ClientNet::of(ip.into(), 32, 64)
    };
    let mut enter = |source| {
        table.enter(source, What::Connection, &allowed, 0, || {
            Ok::<_, Refused>(())
        })
    };
    assert!(enter(of(1)).is_ok());
    assert!(enter(of(2)).is_err());
    assert!(enter(of(1 << 64)).is_ok());
}

#[test]
fn what_others_refuse_costs_nothing() {
    let mut table = Sources::new(10, RandomState::new());
    let allowed = allowed(1, Some("1/h"));
    let full = Refused {
        limit: Limit::AtOnce,
        wait: 0,
    };
    for _ in 0..3 {
        let refused = table.enter(source(1), What::Connection, &allowed, 0, || Err(full));
        assert_eq!(refused, Err(full));
    }
    assert!(table.is_empty());
    assert_eq!(enter(&mut table, 1, &allowed, 0), Ok(Entered::Counted));
}

/// A flood of sources fills the table, and pushes out neither who is held back nor who has something
/// open, as long as it lasts.
#[test]
fn a_flood_frees_nobody_of_a_limit() {
    const CAPACITY: usize = 1000;
    let mut table = Sources::new(CAPACITY, RandomState::new());
    let rated = allowed(0, Some("2/h"));
    let counted = allowed(1, Some("2/h"));
    // Held back by its rate, and by what it has open.
    for _ in 0..2 {
        enter(&mut table, 1, &rated, SECOND).unwrap();
    }
    enter(&mut table, 2, &counted, SECOND).unwrap();
    let mut unknown = 0;
    for n in 100..200_000 {
        let now = SECOND + u64::from(n);
        let entered = enter(&mut table, n, &rated, now).unwrap();
        unknown += u32::from(entered == Entered::Unknown);
        assert!(table.len() <= CAPACITY);
        if n % 1000 == 0 {
            assert!(enter(&mut table, 1, &rated, now).is_err(), "{n}");
            assert!(enter(&mut table, 2, &counted, now).is_err(), "{n}");
        }
    }
    assert_eq!(
        unknown, 0,
        "each of the flood had one of two: one of them could go"
    );
}

/// Where all are held back, a new one is let in uncounted, and nobody is forgotten.
#[test]
fn a_table_of_nothing_but_those_held_back_takes_no_one_in() {
    const CAPACITY: u32 = 100;
    let mut table = Sources::new(CAPACITY as usize, RandomState::new());
    let allowed = allowed(0, Some("1/m"));
    for n in 0..CAPACITY {
        assert_eq!(enter(&mut table, n, &allowed, SECOND), Ok(Entered::Counted));
    }
    for n in 1000..2000 {
        assert_eq!(enter(&mut table, n, &allowed, SECOND), Ok(Entered::Unknown));
    }
    assert!((0..CAPACITY).all(|n| enter(&mut table, n, &allowed, SECOND).is_err()));
    // A minute later all is forgiven, and places are free.
    let later = 62 * SECOND;
    for n in 1000..1050 {
        assert_eq!(enter(&mut table, n, &allowed, later), Ok(Entered::Counted));
    }
    // What is as good as unknown goes by and by.
    assert!(table.len() <= CAPACITY as usize);
    for n in 5000..5200 {
        let now = later + u64::from(n) * 61 * SECOND;
        enter(&mut table, n, &allowed, now).unwrap();
    }
    assert!(table.len() < 10, "{}", table.len());
}

proptest! {
    /// As long as the table is not full it does what a table without bounds does.
    #[test]
    fn a_table_that_is_not_full_is_exact(
        steps in prop::collection::vec((0..6_u32, any::<bool>(), 0..SECOND), 1..300),
        most in 1..4_u32,
    ) {
        let allowed = allowed(most, Some("3/s"));
        let mut table = Sources::new(6, RandomState::new());
        let mut model: HashMap<u32, (u32, u64)> = HashMap::new();
        let mut now = SECOND;
        for (n, leaves, step) in steps {
            now += step;
            let (open, full_at) = model.entry(n).or_default();
            if leaves {
                if *open > 0 {
                    table.leave(source(n), What::Connection);
                    *open -= 1;
                }
                continue;
            }
            let paced = allowed[0].pace.unwrap().take(*full_at, now);
            let wanted = *open < most && paced.is_ok();
            if wanted {
                (*open, *full_at) = (*open + 1, paced.unwrap());
            }
            let entered = enter(&mut table, n, &allowed, now);
            prop_assert_eq!(entered.is_ok(), wanted);
            prop_assert!(entered != Ok(Entered::Unknown));
        }
    }
}
