//! Limits, by what may begin and what is given back.

use std::time::Duration;

use super::*;

fn limiter(set: impl FnOnce(&mut Limits)) -> Limiter {
    let mut limits = Limits::default();
    set(&mut limits);
    Limiter::new(Arc::new(Had::new(Instant::now())), limits)
}

fn ip(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

#[test]
fn what_is_refused_takes_nothing_of_anybody() {
    let limiter = limiter(|limits| {
        limits.total.requests = 2;
        limits.per_source.requests = 1;
        limits.per_source.request_rate = Some("3/h".parse().unwrap());
    });
    let enter = |last| limiter.enter(ip(last), What::Request);
    let first = enter(1).unwrap();
    assert_eq!(enter(1).unwrap_err().whose, Whose::Source);
    let _second = enter(2).unwrap();
    for _ in 0..5 {
        assert_eq!(enter(3).unwrap_err().whose, Whose::Service);
    }
    drop(first);
    // Its rate has lost nothing.
    for _ in 0..3 {
        drop(enter(3).unwrap());
    }
    let too_much = enter(3).unwrap_err();
    assert_eq!(too_much.refused.limit, Limit::Rate);
    assert!(too_much.refused.wait > 1_000_000_000);
    let counters = limiter.counters();
    assert_eq!(
        (counters.total.requests, counters.per_source.requests),
        (5, 1)
    );
    assert_eq!(counters.per_source.request_rate, 1);
    assert_eq!(counters.sources, 3);
}

#[test]
fn who_has_nothing_any_more_is_forgotten_by_and_by() {
    let limiter = limiter(|limits| limits.per_source.connections = 1);
    let all: Vec<_> = (0..20_000_u32)
        .map(|n| limiter.enter(std::net::Ipv4Addr::from(n).into(), What::Connection))
        .map(|entered| entered.unwrap())
        .collect();
    assert_eq!(limiter.counters().sources, 20_000);
    drop(all);
    let kept = limiter.enter(ip(1), What::Connection).unwrap();
    assert!((0..20).any(|_| limiter.counters().sources == 1));
    let room = |shard: &Mutex<Sources<_>>| shard.lock().unwrap().room();
    let room: usize = limiter.had.shards.iter().map(room).sum();
    assert!(room < 10_000, "{room}");
    assert!(limiter.enter(ip(1), What::Connection).is_err());
    drop(kept);
}

#[test]
fn a_quicker_rate_holds_at_once() {
    let had = Arc::new(Had::new(Instant::now()));
    let limited = |total: &str, own: &str| {
        let mut limits = Limits::default();
        limits.total.request_rate = Some(total.parse().unwrap());
        limits.per_source.request_rate = Some(own.parse().unwrap());
        Limiter::new(had.clone(), limits)
    };
    let wait = |limiter: &Limiter, last| {
        let refused = limiter.enter(ip(last), What::Request).err()?.refused;
        Some(Duration::from_nanos(refused.wait))
    };
    // The next is allowed after 10 or 12 minutes.
    let long = Duration::from_secs(500);
    let slow = limited("6/h", "5/h");
    assert!((0..5).all(|_| wait(&slow, 1).is_none()));
    assert!(wait(&slow, 1) > Some(long));
    assert_eq!(wait(&slow, 2), None);
    assert!(wait(&slow, 2) > Some(long), "all together have had theirs");
    // A snapshot that changes something else forgives nobody anything.
    let same = limited("6/h", "5/h");
    assert!(wait(&same, 1) > Some(long));
    // Each of the two by itself.
    let fast = limited("1000/s", "5/h");
    assert!(wait(&fast, 1) > Some(long));
    let fast = limited("1000/s", "1000/s");
    for last in [1, 2] {
        let second = Duration::from_secs(1);
        assert!(wait(&fast, last).is_none_or(|wait| wait < second));
    }
}

#[test]
fn the_limits_are_exact_however_many_ask_at_once() {
    let limiter = limiter(|limits| {
        limits.total.connections = 5;
        limits.total.connection_rate = Some("40/h".parse().unwrap());
        limits.per_source.connections = 2;
    });
    let most = AtomicU32::new(0);
    let open = AtomicU32::new(0);
    let taken = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (limiter, most, open, taken) = (&limiter, &most, &open, &taken);
            scope.spawn(move || {
                for i in 0..2000_u32 {
                    let client = ip((i % 7 + thread) as u8);
                    if let Ok(permit) = limiter.enter(client, What::Connection) {
                        taken.fetch_add(1, Ordering::SeqCst);
                        most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::yield_now();
                        open.fetch_sub(1, Ordering::SeqCst);
                        drop(permit);
                    }
                }
            });
        }
    });
    assert!(most.load(Ordering::SeqCst) <= 5);
    // The hour's worth at once, and not one more.
    assert_eq!(taken.load(Ordering::SeqCst), 40);
    let [connections, _] = &limiter.had.meters;
    assert_eq!(connections.open.load(Ordering::SeqCst), 0);
    assert!((0..20).all(|last| {
        let source = limiter.source(ip(last));
        let shard = limiter.had.shard(source).unwrap();
        shard.get(source, What::Connection).0 == 0
    }));
}
