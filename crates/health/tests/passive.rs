//! The state machine of passive verdicts, with virtual time.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::{Duration, Instant};

use plimsoll_health::{Failure, Leave, Passive, Settings, Standing, Tracker};
use plimsoll_model::{BackendAddr, Name, Outlier, OutlierErrors, State};
use proptest::prelude::*;

const SETTINGS: Settings = Settings {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(60),
    connects: 1,
    resets: 3,
    quiet: Duration::from_secs(60),
};

fn refused(tracker: &mut Tracker, now: Instant) -> bool {
    tracker.failure(
        now,
        Failure::Connect,
        "refused".into(),
        Leave::Granted,
        &SETTINGS,
        0,
    )
}

fn reset(tracker: &mut Tracker, now: Instant) -> bool {
    tracker.failure(
        now,
        Failure::Reset,
        "reset".into(),
        Leave::Granted,
        &SETTINGS,
        0,
    )
}

fn leave(may: bool) -> Leave {
    match may {
        true => Leave::Granted,
        false => Leave::Last,
    }
}

fn length(tracker: &Tracker) -> u64 {
    match tracker.standing() {
        Standing::Ejected { length, .. } => length.as_secs(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn ejections_grow_and_a_success_ends_growth() {
    let (mut tracker, mut now) = (Tracker::default(), Instant::now());
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert!(refused(&mut tracker, now));
        assert_eq!(length(&tracker), seconds);
        assert!(!refused(&mut tracker, now), "late news change nothing");
        assert!(!tracker.served(now, &SETTINGS), "nor do late successes");
        let until = tracker.next_deadline().unwrap();
        assert_eq!(until, now + Duration::from_secs(seconds));
        assert!(!tracker.tick(until - Duration::from_nanos(1), &SETTINGS));
        assert!(tracker.is_ejected());
        assert!(tracker.tick(until, &SETTINGS));
        assert!(matches!(tracker.standing(), Standing::Probation { .. }));
        now = until;
    }
    assert!(tracker.served(now, &SETTINGS));
    assert_eq!(tracker.standing(), &Standing::Good);
    assert_eq!(tracker.next_deadline(), None);
    refused(&mut tracker, now);
    assert_eq!(length(&tracker), 1);
    assert_eq!(tracker.counts().ejections, 9);
}

#[test]
fn whoever_can_be_connected_to_again_is_back_at_once() {
    let (mut tracker, mut now) = (Tracker::default(), Instant::now());
    assert!(!tracker.is_unreached() && !tracker.reached(now, &SETTINGS));
    for seconds in [1, 2, 4] {
        refused(&mut tracker, now);
        assert_eq!(length(&tracker), seconds, "it has not served meanwhile");
        assert!(tracker.is_unreached());
        now += Duration::from_millis(100);
        assert!(tracker.reached(now, &SETTINGS));
        assert!(matches!(tracker.standing(), Standing::Probation { .. }));
        assert!(!tracker.is_unreached() && !tracker.reached(now, &SETTINGS));
    }
    assert_eq!(tracker.next_deadline(), Some(now + SETTINGS.quiet));
    assert!(tracker.served(now, &SETTINGS));
    // One that accepts connections and resets them stays out.
    for _ in 0..3 {
        reset(&mut tracker, now);
    }
    assert!(tracker.is_ejected() && !tracker.is_unreached());
    assert!(!tracker.reached(now, &SETTINGS) && tracker.is_ejected());
}

#[test]
fn quiet_time_ends_growth() {
    let (mut tracker, now) = (Tracker::default(), Instant::now());
    refused(&mut tracker, now);
    let back = tracker.next_deadline().unwrap();
    tracker.tick(back, &SETTINGS);
    assert_eq!(tracker.next_deadline(), Some(back + SETTINGS.quiet));
    assert!(tracker.tick(back + SETTINGS.quiet, &SETTINGS));
    assert_eq!(tracker.standing(), &Standing::Good);
    refused(&mut tracker, back + SETTINGS.quiet);
    assert_eq!(length(&tracker), 1);
}

#[test]
fn one_late_tick_does_as_much_as_many() {
    let (mut tracker, now) = (Tracker::default(), Instant::now());
    refused(&mut tracker, now);
    assert!(tracker.tick(now + Duration::from_secs(3600), &SETTINGS));
    assert_eq!(tracker.standing(), &Standing::Good);
}

#[test]
fn three_resets_in_a_row() {
    let (mut tracker, now) = (Tracker::default(), Instant::now());
    assert!(!reset(&mut tracker, now) && !reset(&mut tracker, now));
    tracker.served(now, &SETTINGS);
    assert!(!reset(&mut tracker, now) && !reset(&mut tracker, now));
    assert!(reset(&mut tracker, now), "the third without a success");
    assert_eq!(length(&tracker), 1);
    let back = tracker.next_deadline().unwrap();
    assert!(reset(&mut tracker, back), "on probation one is enough");
    assert_eq!(length(&tracker), 2);
}

#[test]
fn a_service_says_how_many_errors_and_how_long() {
    let outlier = Outlier {
        consecutive: 4,
        time: Duration::from_secs(30),
        ..Outlier::new(OutlierErrors::Server)
    };
    let settings = SETTINGS.of(Some(&outlier));
    let (mut tracker, now) = (Tracker::default(), Instant::now());
    let fail = |tracker: &mut Tracker, failure| {
        tracker.failure(now, failure, "x".into(), Leave::Granted, &settings, 0)
    };
    // Failures of either kind, in a row.
    for failure in [Failure::Connect, Failure::Reset, Failure::Connect] {
        assert!(!fail(&mut tracker, failure));
    }
    assert!(!tracker.served(now, &settings));
    for failure in [Failure::Connect, Failure::Reset, Failure::Connect] {
        assert!(!fail(&mut tracker, failure));
    }
    assert!(fail(&mut tracker, Failure::Reset));
    assert_eq!(length(&tracker), 30);
    // Of answers the plane has counted enough, and what follows is longer, up to ten times as long.
    let mut at = now;
    for seconds in [60, 120, 240, 300, 300] {
        at = tracker.next_deadline().unwrap();
        assert!(tracker.tick(at, &settings));
        let errors = Failure::Errors;
        assert!(tracker.failure(at, errors, "x".into(), Leave::Granted, &settings, 0));
        assert_eq!(length(&tracker), seconds);
    }
    assert!(!tracker.is_unreached() && at > now);
    let mut tracker = Tracker::default();
    assert!(tracker.failure(
        now,
        Failure::Errors,
        "x".into(),
        Leave::Enough,
        &settings,
        0
    ));
    let status = tracker.standing().status();
    assert_eq!(&*status.reason, "x: kept, enough are out");
}

#[test]
fn resets_are_forgotten_in_quiet_time() {
    let (mut tracker, now) = (Tracker::default(), Instant::now());
    reset(&mut tracker, now);
    reset(&mut tracker, now);
    assert!(!reset(&mut tracker, now + SETTINGS.quiet));
    assert_eq!(tracker.standing(), &Standing::Good);
}

#[test]
fn the_last_is_spared_until_another_can_serve() {
    let (mut tracker, now) = (Tracker::default(), Instant::now());
    let last = |tracker: &mut Tracker| {
        tracker.failure(
            now,
            Failure::Connect,
            "refused".into(),
            Leave::Last,
            &SETTINGS,
            0,
        )
    };
    assert!(last(&mut tracker));
    assert!(!last(&mut tracker), "the same again is no change");
    assert_eq!(tracker.standing().status().state, State::Ready);
    assert!(tracker.standing().status().reason.contains("refused"));
    assert_eq!(tracker.counts().spared, 2);
    assert!(refused(&mut tracker, now));
    assert_eq!(tracker.standing().status().state, State::Down);
}

#[test]
fn sparing_takes_the_one_that_would_be_back_first() {
    let now = Instant::now();
    let service: Name = "web".parse().unwrap();
    let addrs: Vec<BackendAddr> = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]
        .map(|a| a.parse().unwrap())
        .to_vec();
    let mut passive = Passive::new(SETTINGS, 7);
    for (i, addr) in addrs.iter().enumerate() {
        let at = now + Duration::from_millis(300 * ((i as u64 + 1) % 3));
        passive.failure(
            at,
            (&service, None),
            addr,
            Failure::Connect,
            "x".into(),
            Leave::Granted,
        );
    }
    let spared = passive.spare_one(now, &service, &addrs).cloned();
    assert_eq!(spared.as_ref(), addrs.get(2));
    assert!(!passive.is_ejected(&service, &addrs[2]));
    assert!(passive.clear(&service, &addrs[0]));
    passive.retain(&service, |addr| addr == &addrs[1]);
    assert!(passive.tracker(&service, &addrs[0]).is_none());
    assert!(passive.is_ejected(&service, &addrs[1]));
    assert!(passive.next_deadline().is_some());
    passive.retain(&service, |_| false);
    assert_eq!(passive.next_deadline(), None);
}

#[derive(Clone, Debug)]
enum Step {
    Connect(bool),
    Reset(bool),
    Served,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        any::<bool>().prop_map(Step::Connect),
        any::<bool>().prop_map(Step::Reset),
        Just(Step::Served),
        (0u64..70_000).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..80)
}

proptest! {
    #[test]
    fn lengths_stay_in_bounds(nth in 1u32..100, jitter: u64) {
        let full = Duration::from_secs(1u64 << (nth - 1).min(6)).min(SETTINGS.longest);
        let length = SETTINGS.length(nth, jitter);
        prop_assert!(length <= full && length >= full * 4 / 5, "{length:?} of {full:?}");
    }

    /// Whatever happens: an ejection is never longer than the longest and always ends; what may
    /// not be ejected is not; changes are reported as such; nothing is left after quiet time.
    #[test]
    fn any_history(steps in steps(), seed: u64) {
        let (mut tracker, mut now) = (Tracker::default(), Instant::now());
        for step in steps {
            let before = tracker.standing().clone();
            let changed = match step {
                Step::Connect(may) =>
                    tracker.failure(now, Failure::Connect, "c".into(), leave(may), &SETTINGS, seed),
                Step::Reset(may) =>
                    tracker.failure(now, Failure::Reset, "r".into(), leave(may), &SETTINGS, seed),
                Step::Served => tracker.served(now, &SETTINGS),
                Step::Wait(ms) => {
                    now += Duration::from_millis(ms);
                    tracker.tick(now, &SETTINGS)
                }
            };
            prop_assert!(changed || *tracker.standing() == before);
            if let Standing::Ejected { until, length, .. } = tracker.standing() {
                prop_assert!(*length <= SETTINGS.longest && *until <= now + *length);
                let new = before != *tracker.standing();
                prop_assert!(!new || !matches!(step, Step::Connect(false) | Step::Reset(false)));
            }
            if let (Step::Connect(true), false) = (&step, matches!(before, Standing::Ejected { .. })) {
                prop_assert!(tracker.is_ejected());
            }
            prop_assert!(tracker.next_deadline().is_none_or(|d| d > now));
        }
        tracker.tick(now + SETTINGS.longest + SETTINGS.quiet, &SETTINGS);
        prop_assert_eq!(tracker.standing(), &Standing::Good);
        prop_assert_eq!(tracker.next_deadline(), None);
    }
}
