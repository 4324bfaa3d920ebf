//! The state machine of one backend under check, in virtual time.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::time::{Duration, Instant};

use plimsoll_health::{Checkup, Verdict};
use plimsoll_model::{Check, State};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn check(rise: u32, fall: u32) -> Check {
    Check {
        rise,
        fall,
        ..Check::new("tcp".parse().unwrap())
    }
}

/// A backend under check, and the time.
struct Bench {
    checkup: Checkup,
    check: Check,
    now: Instant,
}

impl Bench {
    fn new(check: Check) -> Self {
        let now = Instant::now();
        Self {
            checkup: Checkup::new(now),
            check,
            now,
        }
    }

    fn serving(check: Check) -> Self {
        Self {
            checkup: Checkup::serving(),
            ..Self::new(check)
        }
    }

    /// A check ends, one interval after the last.
    fn ends(&mut self, good: bool) -> Option<Verdict> {
        let outcome = if good {
            Ok(())
        } else {
            Err("it failed".into())
        };
        self.checkup.outcome(self.now, &self.check, outcome);
        self.now += self.check.interval;
        self.checkup.verdict()
    }

    fn state(&mut self, good: bool) -> State {
        self.ends(good).unwrap().state
    }
}

#[test]
fn a_new_backend_needs_one_success() {
    let mut bench = Bench::new(check(5, 3));
    assert_eq!(bench.checkup.verdict(), None, "nothing is known yet");
    let verdict = bench.ends(false).unwrap();
    assert_eq!(
        (verdict.state, &*verdict.reason),
        (State::Starting, "it failed")
    );
    let verdict = bench.ends(true).unwrap();
    assert_eq!((verdict.state, &*verdict.reason), (State::Ready, ""));
}

#[test]
fn a_new_backend_that_never_succeeds_is_down_and_rises_like_others() {
    let mut bench = Bench::new(check(2, 3));
    let states: Vec<State> = (0..4).map(|_| bench.state(false)).collect();
    use State::{Down, Ready, Starting};
    assert_eq!(states, [Starting, Starting, Down, Down]);
    assert_eq!([bench.state(true), bench.state(true)], [Down, Ready]);
}

#[test]
fn a_new_backend_is_not_down_sooner_than_at_the_usual_pace() {
    let mut bench = Bench::new(check(2, 3));
    for _ in 0..20 {
        bench.state(false);
        bench.now = bench.now - bench.check.interval + SECOND / 10;
        assert_eq!(bench.checkup.verdict().unwrap().state, State::Starting);
    }
    bench.now += 10 * SECOND;
    assert_eq!(bench.state(false), State::Down);
}

#[test]
fn failures_and_successes_have_to_be_in_a_row() {
    let mut bench = Bench::serving(check(2, 3));
    use State::{Down, Ready};
    for (good, wanted) in [
        (false, Ready),
        (false, Ready),
        (true, Ready),
        (false, Ready),
        (false, Ready),
        (false, Down),
        (true, Down),
        (false, Down),
        (true, Down),
        (true, Ready),
        (false, Ready),
    ] {
        assert_eq!(bench.state(good), wanted);
    }
}

#[test]
fn the_reason_is_that_of_the_last_failure() {
    let mut bench = Bench::serving(check(2, 1));
    assert_eq!(&*bench.ends(false).unwrap().reason, "it failed");
    let outcome = Err("status 500".into());
    bench.checkup.outcome(bench.now, &bench.check, outcome);
    assert_eq!(&*bench.checkup.verdict().unwrap().reason, "status 500");
}

#[test]
fn another_check_begins_from_what_is_known() {
    let mut up = Bench::serving(check(2, 2));
    up.ends(false);
    up.checkup.restart(up.now);
    assert_eq!(
        [up.state(false), up.state(false)],
        [State::Ready, State::Down]
    );
    // What is down has not failed the new check yet: one success is enough.
    up.checkup.restart(up.now);
    assert_eq!(up.checkup.verdict(), None);
    assert_eq!(up.state(true), State::Ready);
}

#[test]
fn a_new_backend_is_looked_at_soon_and_then_less_often() {
    let mut bench = Bench::new(check(2, 1000));
    let mut pauses = Vec::new();
    for _ in 0..8 {
        bench.ends(false);
        pauses.push(bench.checkup.pause(&bench.check, 0).as_millis());
    }
    assert_eq!(pauses, [200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
    bench.ends(true);
    assert_eq!(bench.checkup.pause(&bench.check, 0), 5 * SECOND);
    bench.check.interval = SECOND / 10;
    let new = Checkup::new(bench.now);
    assert_eq!(
        new.pause(&bench.check, 0),
        SECOND / 10,
        "never above the interval"
    );
}

#[test]
fn a_backend_that_is_down_for_long_stays_so() {
    let mut bench = Bench::serving(check(1, 1));
    for _ in 0..100_000 {
        assert_eq!(bench.state(false), State::Down);
    }
    assert_eq!(bench.state(true), State::Ready);
}

proptest! {
    /// The state is what the runs at the end of the history say.
    #[test]
    fn rise_and_fall(
        history in prop::collection::vec(any::<bool>(), 0..60),
        rise in 1u32..5,
        fall in 1u32..5,
        new in any::<bool>(),
    ) {
        let mut bench = match new {
            true => Bench::new(check(rise, fall)),
            false => Bench::serving(check(rise, fall)),
        };
        let mut state = if new { State::Starting } else { State::Ready };
        for (i, good) in history.iter().enumerate() {
            let run = history[..=i].iter().rev().take_while(|g| *g == good).count();
            let run = u32::try_from(run).unwrap();
            state = match (state, good) {
                (State::Starting, true) => State::Ready,
                (State::Down, true) if run >= rise => State::Ready,
                (State::Starting | State::Ready, false) if run >= fall => State::Down,
                (other, _) => other,
            };
            let verdict = bench.ends(*good).unwrap();
            prop_assert_eq!(verdict.state, state, "after {:?}", &history[..=i]);
            prop_assert_eq!(verdict.reason.is_empty(), state == State::Ready);
        }
    }

    #[test]
    fn pauses_are_shortened_by_a_fifth_at_most(jitter in any::<u64>(), failures in 0u32..20) {
        let mut bench = Bench::new(check(2, 1000));
        for _ in 0..failures {
            bench.ends(false);
        }
        let full = bench.checkup.pause(&bench.check, 0);
        let pause = bench.checkup.pause(&bench.check, jitter);
        prop_assert!(pause <= full && pause >= full / 5 * 4);
    }
}
