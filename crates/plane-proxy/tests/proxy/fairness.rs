//! Few connections are spread evenly over the workers, whichever of them the kernel gives them to.

use plimsoll_model::Proto;
use plimsoll_plane::Plane;
use plimsoll_plane_proxy::{Options, ProxyPlane};
use plimsoll_testkit::{
    Client, ClientPlan, Failure, HttpBackend, Raw, Reuse, TcpBackend, wait_until_async,
};

use crate::common::{BOUND, Proxy, at};

/// Connections that each worker has.
fn spread(plane: &ProxyPlane) -> Vec<u64> {
    plane.counters().workers
}

/// Waits until the workers have so many connections each.
#[track_caller]
fn until_each(plane: &ProxyPlane, each: u64) -> impl Future<Output = ()> {
    let from = std::panic::Location::caller();
    async move {
        let even = || spread(plane).iter().all(|open| *open == each);
        let spread = async || spread(plane);
        assert!(
            wait_until_async(BOUND, even).await,
            "{from}: {:?}, not {each} each",
            spread().await
        );
    }
}

#[tokio::test]
async fn eight_and_sixteen_connections_are_even_over_two_and_four_workers() {
    let (http, tcp) = (
        HttpBackend::start("h").unwrap(),
        TcpBackend::start("t").unwrap(),
    );
    for workers in [2, 4] {
        for (proto, backend) in [(Proto::Http, http.address()), (Proto::Tcp, tcp.address())] {
            let options = Options {
                workers,
                ..Options::default()
            };
            let proxy = Proxy::of(options, proto, vec![at(backend)], |_| {});
            for connections in [8, 16, 8] {
                let mut open = Vec::new();
                for number in 1..=connections {
                    open.push(proxy.connect().await);
                    // Two workers that accept in the same moment do not know of each other's.
                    let counted = || spread(&proxy.plane).iter().sum::<u64>() == number;
                    assert!(wait_until_async(BOUND, counted).await, "{number}");
                }
                until_each(&proxy.plane, connections / workers as u64).await;
                drop(open);
                until_each(&proxy.plane, 0).await;
            }
        }
    }
}

#[tokio::test]
async fn who_is_handed_over_is_served_like_all_others() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    let keep: Vec<Raw> = {
        let mut keep = Vec::new();
        for _ in 0..7 {
            keep.push(proxy.connect().await);
        }
        keep
    };
    let fresh = ClientPlan {
        reuse: Reuse::Never,
        tasks: 3,
        post_every: 3,
        requests: Some(600),
        ..ClientPlan::http(proxy.address(), "a")
    };
    let report = Client::start(fresh).finished().await;
    report.assert_clean();
    for mut raw in keep {
        assert_eq!(raw.get("a", "/", BOUND).await.unwrap().status, 200);
    }
    let gone = || proxy.listen().connections == 0 && spread(&proxy.plane) == [0, 0];
    assert!(wait_until_async(BOUND, gone).await, "{:?}", proxy.listen());
}

#[tokio::test]
async fn none_is_lost_on_its_way_to_a_worker_that_drains() {
    for _ in 0..5 {
        let backend = HttpBackend::start("b").unwrap();
        let mut proxy = Proxy::http(&[backend.address()]);
        let client = Client::start(ClientPlan {
            reuse: Reuse::Never,
            tasks: 4,
            ..ClientPlan::http(proxy.address(), "a")
        });
        assert!(client.more(50, BOUND).await);
        let draining = tokio::task::spawn_blocking(move || proxy.plane.drain(BOUND));
        assert!(draining.await.unwrap(), "something did not end");
        // From some time on it is refused, but never after it was accepted.
        assert!(wait_until_async(BOUND, || client.failed() > 0).await);
        let report = client.stop().await;
        let cut = |failure: &&Failure| !failure.reason.contains("connect");
        let cut: Vec<_> = report.failures.iter().filter(cut).collect();
        assert!(cut.is_empty(), "{cut:?}");
    }
}
