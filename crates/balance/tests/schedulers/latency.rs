//! `ewma` and its estimate.

use std::time::Duration;

use plimsoll_balance::{Loads, PeakEwma};
use plimsoll_model::SchedulerKind;
use proptest::prelude::*;

use crate::{NOW, assert_shares, balancer, client, noise};

const DECAY: Duration = Duration::from_secs(10);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// What is active, and how long it takes, in µs.
struct Times(Vec<(u32, Option<f32>)>);

impl Loads for Times {
    fn active(&self, index: usize) -> u32 {
        self.0[index].0
    }

    fn usable(&self, _: usize) -> bool {
        true
    }

    fn latency(&self, index: usize) -> Option<f32> {
        self.0[index].1
    }
}

fn tally(weights: &[u32], times: &Times, picks: u32) -> Vec<u32> {
    let balancer = balancer(SchedulerKind::Ewma, weights);
    let mut random = noise(0x5eed);
    let mut counts = vec![0; weights.len()];
    for _ in 0..picks {
        counts[balancer.pick(&client(0), NOW, times, &mut random).unwrap()] += 1;
    }
    counts
}

#[test]
fn of_two_the_one_that_answers_first_is_picked() {
    let times = |a, b| Times(vec![a, b]);
    for (a, b) in [
        ((0, Some(10.0)), (0, Some(11.0))),
        // What is active counts, and the one to come.
        ((1, Some(10.0)), (4, Some(5.0))),
        ((0, Some(10.0)), (1, Some(6.0))),
        // Nobody knows: try it, but not with a second before it has answered.
        ((0, None), (0, Some(1.0))),
        ((500, Some(1e6)), (1, None)),
        ((1, None), (2, None)),
    ] {
        // By chance both draws may be the same five times in a row.
        assert!(tally(&[1, 1], &times(a, b), 1000)[0] > 950, "{a:?} {b:?}");
        assert!(tally(&[1, 1], &times(b, a), 1000)[1] > 950, "{a:?} {b:?}");
    }
    // A third of the time for three times the weight.
    let times = times((2, Some(10.0)), (2, Some(29.0)));
    assert!(tally(&[10, 30], &times, 1000)[1] > 900);
}

#[test]
fn equals_get_their_shares() {
    let times = Times(vec![(3, Some(70.0)), (6, Some(70.0)), (15, Some(70.0))]);
    let weights = [1, 2, 4];
    // (active + 1) ÷ weight is not the same for all, but for these two.
    let counts = tally(
        &weights[..2],
        &Times(vec![(0, Some(7.0)), (1, Some(7.0))]),
        30_000,
    );
    assert_shares(&counts, &[1, 2], 0.05);
    let counts = tally(&[3, 3, 3], &times, 30_000);
    assert!(counts[0] > counts[1] && counts[1] > counts[2], "{counts:?}");
}

#[test]
fn an_estimate_rises_at_once_and_falls_slowly() {
    let ewma = PeakEwma::default();
    assert_eq!(ewma.estimate(NOW, DECAY), None);
    ewma.observe(NOW, ms(10), DECAY);
    assert_eq!(ewma.estimate(NOW, DECAY), Some(10_000.0));
    ewma.observe(NOW, ms(100), DECAY);
    assert_eq!(ewma.estimate(NOW, DECAY), Some(100_000.0));
    // No time has passed, so a quick one says nothing yet.
    ewma.observe(NOW, ms(10), DECAY);
    assert_eq!(ewma.estimate(NOW, DECAY), Some(100_000.0));
    // After ln 2 decays half of the way.
    ewma.observe(NOW + 6931, ms(10), DECAY);
    let estimate = ewma.estimate(NOW + 6931, DECAY).unwrap();
    assert!((estimate - 55_000.0).abs() < 10.0, "{estimate}");
}

#[test]
fn an_estimate_falls_while_nothing_is_asked() {
    let ewma = PeakEwma::default();
    ewma.observe(NOW, ms(80), DECAY);
    let estimate = ewma.estimate(NOW + 6931, DECAY).unwrap();
    assert!((estimate - 40_000.0).abs() < 10.0, "{estimate}");
    // A clock that is a little behind is no reason to panic, or to forget.
    assert_eq!(ewma.estimate(NOW - 5, DECAY), Some(80_000.0));
    assert_eq!(ewma.estimate(NOW + 100_000_000, DECAY), Some(1.0));
}

#[test]
fn a_quick_failure_does_not_make_a_backend_look_quick() {
    let ewma = PeakEwma::default();
    ewma.observe(NOW, ms(50), DECAY);
    // However much time passes between them.
    for second in 0..100 {
        let now = NOW + second * 1000;
        ewma.observe_failure(now, ms(1), DECAY);
        assert_eq!(ewma.estimate(now, DECAY), Some(50_000.0));
    }
    ewma.observe_failure(NOW + 100_000, ms(5000), DECAY);
    assert_eq!(ewma.estimate(NOW + 100_000, DECAY), Some(5_000_000.0));
}

#[test]
fn who_only_fails_is_taken_for_slow_and_tried_again_later() {
    let penalty = PeakEwma::PENALTY.as_secs_f32() * 1e6;
    let ewma = PeakEwma::default();
    ewma.observe_failure(NOW, ms(1), DECAY);
    assert_eq!(ewma.estimate(NOW, DECAY), Some(penalty));
    // It falls as any other, and the next failure brings it back.
    let half = ewma.estimate(NOW + 6931, DECAY).unwrap();
    assert!((half - penalty / 2.0).abs() < penalty / 1000.0, "{half}");
    ewma.observe_failure(NOW + 6931, ms(1), DECAY);
    assert_eq!(ewma.estimate(NOW + 6931, DECAY), Some(penalty));
    // Answers bring it down.
    ewma.observe(NOW + 13_862, ms(10), DECAY);
    assert!(ewma.estimate(NOW + 13_862, DECAY).unwrap() < penalty * 0.51);
    // A failure that took longer counts in full.
    let ewma = PeakEwma::default();
    ewma.observe_failure(NOW, ms(3000), DECAY);
    assert_eq!(ewma.estimate(NOW, DECAY), Some(3_000_000.0));
}

#[test]
fn a_wait_that_is_given_up_is_a_lower_bound() {
    let ewma = PeakEwma::default();
    ewma.observe_wait(NOW, ms(300), DECAY);
    assert_eq!(ewma.estimate(NOW, DECAY), Some(300_000.0));
    // Less than is expected says nothing, and what is expected goes on falling.
    ewma.observe_wait(NOW + 100, ms(200), DECAY);
    let half = ewma.estimate(NOW + 6931, DECAY).unwrap();
    assert!((half - 150_000.0).abs() < 100.0, "{half}");
    // More than that counts in full, though it is less than once was expected.
    ewma.observe_wait(NOW + 6931, ms(200), DECAY);
    assert_eq!(ewma.estimate(NOW + 6931, DECAY), Some(200_000.0));
}

/// Of 10 000 requests, one each 25 ms: how many a backend gets that fails at once, from the start or
/// after `good` answers of 30 ms, beside one that answers in 20 ms.
fn share_of_who_fails(good: u64) -> u32 {
    let balancer = balancer(SchedulerKind::Ewma, &[1, 1]);
    let mut random = noise(0x5eed);
    let backends = [PeakEwma::default(), PeakEwma::default()];
    for i in 0..good {
        backends[1].observe(NOW + i, ms(30), DECAY);
    }
    let mut failed = 0;
    for i in 0..10_000 {
        let now = NOW + good + i * 25;
        let times = backends.iter().map(|b| (0, b.estimate(now, DECAY)));
        let times = Times(times.collect());
        match balancer.pick(&client(0), now, &times, &mut random).unwrap() {
            0 => backends[0].observe(now + 20, ms(20), DECAY),
            _ => {
                failed += 1;
                backends[1].observe_failure(now, Duration::ZERO, DECAY);
            }
        }
    }
    failed
}

#[test]
fn who_fails_at_once_gets_a_small_minority() {
    // Both draws are the same one of 32 times; but for those it is tried now and then.
    let from_the_start = share_of_who_fails(0);
    assert!((1..700).contains(&from_the_start), "{from_the_start}");
    let later = share_of_who_fails(5);
    assert!((1..2000).contains(&later), "{later}");
}

proptest! {
    #[test]
    fn an_estimate_is_between_the_least_and_the_most_seen(
        seen in prop::collection::vec((0u64..5000, 1u64..100_000), 1..50),
        start in prop::sample::select(vec![0, NOW, u64::from(u32::MAX) - 3000, 1 << 40]),
    ) {
        let ewma = PeakEwma::default();
        let mut now = start;
        for (pause, taken) in &seen {
            now += pause;
            ewma.observe(now, ms(*taken), DECAY);
            let estimate = ewma.estimate(now, DECAY).unwrap();
            // Never less than what was just seen.
            prop_assert!(estimate >= *taken as f32 * 999.0);
        }
        let times = || seen.iter().map(|(_, taken)| *taken as f32 * 1000.0);
        let (least, most) = (times().fold(f32::MAX, f32::min), times().fold(0.0, f32::max));
        let estimate = ewma.estimate(now, DECAY).unwrap();
        prop_assert!(estimate >= least * 0.999 && estimate <= most * 1.001);
        // Later it is less, never more.
        prop_assert!(ewma.estimate(now + 1000, DECAY).unwrap() <= estimate);
    }
}
