//! TCP: time-outs, limits and draining.

use std::sync::Arc;

use plimsoll_model::{State, Status};
use plimsoll_testkit::{
    Client, ClientPlan, Ending, Raw, Reuse, TcpAnswer, TcpBackend, TcpBehaviour, TunnelPlan,
    Tunnels, wait_until_async,
};

use crate::common::{BOUND, BlackHole, LATE, MOMENT, Proxy, at, limited, ms, timed};

fn greeter() -> TcpBackend {
    let backend = TcpBackend::start("b").unwrap();
    backend.behave(TcpBehaviour::answering(TcpAnswer::Greet));
    backend
}

/// Waits to be greeted.
async fn greeted(client: &mut Raw) {
    assert_eq!(client.read_exact(2, BOUND).await.unwrap(), b"b\n");
}

/// Whether nothing comes for a moment.
async fn is_kept_waiting(client: &mut Raw) -> bool {
    client.read_exact(1, MOMENT).await.is_err() && client.unread().is_empty()
}

#[tokio::test]
async fn a_backend_that_does_not_take_connections_is_passed_over_in_time() {
    let (hole, good) = (BlackHole::open(), TcpBackend::start("good").unwrap());
    let backends = vec![at(hole.address), at(good.address())];
    let proxy = Proxy::tcp_with(backends, |spec| spec.timeouts.connect = ms(200));
    let plan = ClientPlan {
        reuse: Reuse::Never,
        tasks: 4,
        ..ClientPlan::tcp(proxy.address())
    };
    let report = Client::run(plan, 12).await;
    report.assert_clean();
    assert!(
        report.slowest >= ms(200) && report.slowest < LATE,
        "{report}"
    );
    assert!(proxy.counters_of(hole.address).connect_failures > 0);
    let alone = Proxy::tcp_with(vec![at(hole.address)], |spec| {
        spec.timeouts.connect = ms(200)
    });
    let mut client = alone.connect().await;
    let ((_, ending), took) = timed(async { client.read_to_end(BOUND).await.unwrap() }).await;
    assert_eq!(ending, Ending::Reset);
    assert!(took < LATE, "{took:?}");
}

#[tokio::test]
async fn quiet_connections_are_cut_and_busy_ones_are_not() {
    let backend = TcpBackend::start("b").unwrap();
    let proxy = Proxy::tcp_with(vec![at(backend.address())], |spec| {
        spec.timeouts.idle = Some(ms(400));
    });
    let mut quiet = proxy.connect().await;
    let mut plan = TunnelPlan::tcp(proxy.address(), 3);
    plan.pause = ms(100);
    let tunnels = Tunnels::open(plan).await.unwrap();
    let ((got, _), took) = timed(async { quiet.read_to_end(BOUND).await.unwrap() }).await;
    assert!(got.is_empty() && took >= ms(200) && took < LATE, "{took:?}");
    assert!(tunnels.more(20, BOUND).await);
    tunnels.stop().await.assert_clean();
    assert!(
        wait_until_async(BOUND, || backend.stats().open == 0).await,
        "the backend is told"
    );
    proxy.settled().await;
}

#[tokio::test]
async fn a_removed_backend_keeps_its_connections_until_the_drain_time_out() {
    let (leaving, staying) = (
        TcpBackend::start("leaving").unwrap(),
        TcpBackend::start("staying").unwrap(),
    );
    for removed in [true, false] {
        let backends = vec![at(leaving.address()), at(staying.address())];
        let mut proxy = Proxy::tcp_with(backends, |spec| spec.timeouts.drain = ms(600));
        let tunnels = Tunnels::open(TunnelPlan::tcp(proxy.address(), 8))
            .await
            .unwrap();
        assert!(tunnels.more(16, BOUND).await);
        let leave = std::time::Instant::now();
        if removed {
            proxy.remove_backend(leaving.address());
        } else {
            let draining = Status::new(State::Draining, "test");
            proxy.edit_backend(leaving.address(), |b| b.status = draining);
        }
        let fresh = ClientPlan {
            reuse: Reuse::Never,
            ..ClientPlan::tcp(proxy.address())
        };
        let report = Client::run(fresh, 20).await;
        report.assert_clean();
        assert_eq!(
            report.of("staying"),
            20,
            "nothing new goes to the one that leaves"
        );
        if leave.elapsed() < ms(400) {
            assert_eq!(tunnels.broken(), 0, "old connections go on");
        }
        assert!(wait_until_async(BOUND, || tunnels.broken() == 4).await);
        assert!(
            leave.elapsed() >= ms(500) && leave.elapsed() < LATE,
            "{:?}",
            leave.elapsed()
        );
        assert!(tunnels.more(20, BOUND).await);
        let report = tunnels.stop().await;
        assert!(report.of("leaving").all(|tunnel| tunnel.broken.is_some()));
        assert!(
            report.of("staying").all(|tunnel| tunnel.broken.is_none()),
            "{report:?}"
        );
    }
}

#[tokio::test]
async fn a_backend_that_comes_back_before_the_drain_time_out_keeps_its_connections() {
    let backend = TcpBackend::start("b").unwrap();
    let mut proxy = Proxy::tcp_with(vec![at(backend.address())], |spec| {
        spec.timeouts.drain = ms(500);
    });
    let tunnels = Tunnels::open(TunnelPlan::tcp(proxy.address(), 2))
        .await
        .unwrap();
    proxy.edit_backend(backend.address(), |b| b.weight = 0);
    proxy.edit_backend(backend.address(), |b| b.weight = 1);
    let quiet = !wait_until_async(ms(900), || tunnels.broken() > 0).await;
    assert!(quiet, "it is in use again");
    tunnels.stop().await.assert_clean();
}

#[tokio::test]
async fn a_full_backend_makes_connections_wait_in_order() {
    let backend = greeter();
    let proxy = Proxy::tcp_with(vec![limited(backend.address(), 1)], |_| {});
    let mut first = proxy.connect().await;
    greeted(&mut first).await;
    let mut waiting = Vec::new();
    for n in 1..=4 {
        waiting.push(proxy.connect().await);
        let queued = || proxy.counters_of(backend.address()).queued == n;
        assert!(wait_until_async(BOUND, queued).await);
    }
    for client in &mut waiting {
        assert!(is_kept_waiting(client).await);
    }
    drop(first);
    for mut client in waiting {
        greeted(&mut client).await;
    }
    proxy.settled().await;
    assert_eq!(backend.stats().most_active, 1);
}

#[tokio::test]
async fn the_queue_ends_by_its_length_and_by_its_time() {
    let backend = greeter();
    let proxy = Proxy::tcp_with(vec![limited(backend.address(), 1)], |spec| {
        spec.queue = 1;
        spec.timeouts.queue = ms(400);
    });
    let mut first = proxy.connect().await;
    greeted(&mut first).await;
    let mut second = proxy.connect().await;
    assert!(wait_until_async(BOUND, || proxy.counters_of(backend.address()).queued == 1).await);
    let (refused, took) = timed(proxy.refuses()).await;
    assert!(refused, "there is no room in the queue");
    assert!(took < ms(350), "{took:?}");
    let ((_, ending), took) = timed(async { second.read_to_end(BOUND).await.unwrap() }).await;
    assert_eq!(ending, Ending::Reset, "it has waited long enough");
    assert!(took < LATE, "{took:?}");
    first.send("still there").await.unwrap();
    assert_eq!(first.read_exact(11, BOUND).await.unwrap(), b"still there");
    assert_eq!(proxy.counters().unserved, 2);
}

#[tokio::test]
async fn waiting_connections_move_when_their_backend_leaves() {
    let (full, other) = (greeter(), greeter());
    let mut proxy = Proxy::tcp_with(vec![limited(full.address(), 1)], |_| {});
    let mut first = proxy.connect().await;
    greeted(&mut first).await;
    let mut second = proxy.connect().await;
    assert!(wait_until_async(BOUND, || proxy.counters_of(full.address()).queued == 1).await);
    proxy.add_backend(at(other.address()));
    proxy.remove_backend(full.address());
    greeted(&mut second).await;
    assert_eq!(other.stats().connections, 1);
    first.send("x").await.unwrap();
    assert_eq!(
        first.read_exact(1, BOUND).await.unwrap(),
        b"x",
        "what is in flight stays"
    );
}

#[tokio::test]
async fn a_connection_that_no_old_backend_takes_goes_to_one_that_came_meanwhile() {
    let (hole, fresh) = (BlackHole::open(), greeter());
    let mut proxy = Proxy::tcp_with(vec![at(hole.address)], |spec| {
        spec.timeouts.connect = ms(400)
    });
    let mut client = proxy.connect().await;
    assert!(wait_until_async(BOUND, || proxy.counters_of(hole.address).active == 1).await);
    proxy.edit(|web| {
        web.backends.clear();
        let fresh = at(fresh.address());
        web.backends.insert(fresh.addr.clone(), fresh.into());
    });
    greeted(&mut client).await;
}

#[tokio::test]
async fn a_limit_is_exact_over_workers_for_short_connections() {
    let backend = Arc::new(TcpBackend::start("b").unwrap());
    let proxy = Proxy::tcp_with(vec![limited(backend.address(), 2)], |_| {});
    let plan = ClientPlan {
        reuse: Reuse::Never,
        tasks: 24,
        ..ClientPlan::tcp(proxy.address())
    };
    Client::run(plan, 400).await.assert_clean();
    assert!(backend.stats().most_active <= 2, "{:?}", backend.stats());
    proxy.settled().await;
}
