//! Changes while load runs: nothing is lost.

use plimsoll_model::{Backend, Listen, Op, Plan, Proto, SchedulerKind, State, Status};
use plimsoll_plane::{Plane, PlaneError};
use plimsoll_testkit::{
    Answer, Client, ClientPlan, Ending, HttpBackend, HttpBehaviour, Port, Raw, Reuse, TcpBackend,
    TunnelPlan, Tunnels, wait_until_async,
};

use crate::common::{BOUND, Proxy, at, ms, name, put, put_route, route, service};

/// Changes the backends one after the other so many times, each time under way of a few requests:
/// out and in again, draining, another weight, another limit. The first stays as it is.
async fn change(proxy: &mut Proxy, backends: &[Backend], times: usize, load: &[&Client]) {
    for step in 0..times {
        let backend = &backends[1 + step % (backends.len() - 1)];
        let address = backend.socket_addr(0).unwrap();
        match step / (backends.len() - 1) % 6 {
            0 => proxy.remove_backend(address),
            1 => proxy.add_backend(backend.clone()),
            2 => proxy.edit_backend(address, |b| b.weight = 1 + step as u32),
            3 => proxy.edit_backend(address, |b| b.status = Status::new(State::Draining, "test")),
            4 => proxy.edit_backend(address, |b| b.maxconn = 2),
            _ => proxy.edit_backend(address, |b| *b = backend.clone()),
        }
        for client in load {
            assert!(
                client.more(3, BOUND).await,
                "step {step}: requests are answered"
            );
        }
    }
}

#[tokio::test]
async fn a_hundred_changes_of_backends_lose_no_request() {
    let backends: Vec<HttpBackend> = (0..4)
        .map(|n| HttpBackend::start(&format!("b{n}")).unwrap())
        .collect();
    let desired: Vec<Backend> = backends.iter().map(|b| at(b.address())).collect();
    let mut proxy = Proxy::http_with(desired.clone(), |_| {});
    let plan = |reuse, want| ClientPlan {
        reuse,
        tasks: 4,
        post_every: 3,
        want: vec![200, want],
        ..ClientPlan::http(proxy.address(), "a")
    };
    let kept = Client::start(plan(Reuse::Keep, 100_000));
    let fresh = Client::start(plan(Reuse::Never, 1_000));
    let few = Client::start(ClientPlan {
        chunked: true,
        ..plan(Reuse::Times(5), 300)
    });
    let tunnels = Tunnels::open(TunnelPlan::http(proxy.address(), "a", 8))
        .await
        .unwrap();
    change(&mut proxy, &desired, 108, &[&kept, &fresh, &few]).await;
    for client in [kept, fresh, few] {
        let report = client.stop().await;
        report.assert_clean();
        assert_eq!(
            report.closed_idle, 0,
            "no client's connection is closed: {report}"
        );
    }
    tunnels.stop().await.assert_clean();
    proxy.settled().await;
    assert_eq!(proxy.counters().unserved, 0);
    assert!(backends.iter().all(|b| b.stats().requests > 0));
}

#[tokio::test]
async fn a_hundred_changes_of_backends_lose_no_connection() {
    let backends: Vec<TcpBackend> = (0..4)
        .map(|n| TcpBackend::start(&format!("b{n}")).unwrap())
        .collect();
    let desired: Vec<Backend> = backends.iter().map(|b| at(b.address())).collect();
    let mut proxy = Proxy::tcp_with(desired.clone(), |_| {});
    let plan = |reuse| ClientPlan {
        reuse,
        tasks: 4,
        ..ClientPlan::tcp(proxy.address())
    };
    let (fresh, few) = (
        Client::start(plan(Reuse::Never)),
        Client::start(plan(Reuse::Times(7))),
    );
    let tunnels = Tunnels::open(TunnelPlan::tcp(proxy.address(), 8))
        .await
        .unwrap();
    change(&mut proxy, &desired, 108, &[&fresh, &few]).await;
    for client in [fresh, few] {
        client.stop().await.assert_clean();
    }
    tunnels.stop().await.assert_clean();
    proxy.settled().await;
}

#[tokio::test]
async fn backends_that_are_replaced_as_a_deploy_does_lose_no_request() {
    let mut old = HttpBackend::start("v0").unwrap();
    let mut proxy = Proxy::http(&[old.address()]);
    let plan = ClientPlan {
        post_every: 3,
        ..ClientPlan::http(proxy.address(), "a")
    };
    let load = Client::start(plan);
    for version in 1..12 {
        assert!(load.more(20, BOUND).await);
        let new = HttpBackend::start(&format!("v{version}")).unwrap();
        proxy.add_backend(at(new.address()));
        let draining = Status::new(State::Draining, "test");
        proxy.edit_backend(old.address(), |b| b.status = draining);
        let idle = || {
            let counted = proxy.counters_of(old.address());
            (counted.active, counted.queued) == (0, 0)
        };
        assert!(wait_until_async(BOUND, idle).await);
        old.kill(Ending::Reset).await;
        proxy.remove_backend(old.address());
        old = new;
    }
    let report = load.stop().await;
    report.assert_clean();
    assert_eq!(
        report.by_backend.len(),
        12,
        "each version has served: {report}"
    );
}

#[tokio::test]
async fn routes_and_settings_change_and_no_request_is_lost() {
    let (one, two) = (
        HttpBackend::start("one").unwrap(),
        HttpBackend::start("two").unwrap(),
    );
    let mut proxy = Proxy::http(&[one.address()]);
    proxy.change(|desired| {
        put(desired, service("two", vec![at(two.address())]));
        put_route(desired, route("r", "a", "/", &[("web", 1)]));
        put_route(desired, route("other", "b", "/", &[("two", 1)]));
    });
    let a = Client::start(ClientPlan::http(proxy.address(), "a"));
    let b = Client::start(ClientPlan::http(proxy.address(), "b"));
    for step in 0..40 {
        let to: &[(&str, u32)] =
            [&[("web", 1)][..], &[("two", 1)], &[("web", 1), ("two", 2)]][step % 3];
        proxy.change(|desired| {
            put_route(desired, route("r", "a", "/", to));
            let more = format!("more{}", step % 5);
            put_route(
                desired,
                route(&more, &format!("{more}.example"), "/", &[("web", 1)]),
            );
        });
        proxy.edit(|web| {
            let spec = std::sync::Arc::make_mut(&mut web.spec);
            spec.scheduler.kind = SchedulerKind::NAMES[step % 8].1;
            spec.retries = 1 + step as u32 % 3;
        });
        if step % 4 == 3 {
            let gone = format!("more{}", step % 5);
            proxy.change(|desired| drop(desired.routes.remove(gone.as_str())));
        }
        assert!(
            a.more(5, BOUND).await && b.more(5, BOUND).await,
            "step {step}"
        );
    }
    a.stop().await.assert_clean();
    let report = b.stop().await;
    report.assert_clean();
    assert_eq!(
        report.by_backend.len(),
        1,
        "the other host is where it was: {report}"
    );
}

async fn until_refused(address: std::net::SocketAddr) {
    use std::io::ErrorKind::ConnectionRefused;
    let refused = async {
        while !matches!(Raw::connect(address).await, Err(e) if e.kind() == ConnectionRefused) {
            tokio::time::sleep(ms(5)).await;
        }
    };
    assert!(
        tokio::time::timeout(BOUND, refused).await.is_ok(),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn listens_come_and_go_and_others_are_not_disturbed() {
    let backend = HttpBackend::start("b").unwrap();
    let mut proxy = Proxy::http(&[backend.address()]);
    let load = Client::start(ClientPlan::http(proxy.address(), "a"));
    let port = Port::take().unwrap();
    let extra = Listen::socket(port.address().ip(), port.number(), Proto::Http);
    for round in 0..12 {
        proxy.edit(|web| std::sync::Arc::make_mut(&mut web.spec).listens.push(extra));
        // While workers still close the old sockets, the kernel may give one of them a connection
        // that is not accepted any more.
        let served = async {
            loop {
                let answer = match Raw::connect(port.address()).await {
                    Ok(mut client) => client.get("a", "/", BOUND).await.map(|a| a.status),
                    Err(error) => Err(error.into()),
                };
                match answer {
                    Ok(status) => return status,
                    Err(error) => assert!(round % 2 == 0 && round > 0, "{round}: {error}"),
                }
            }
        };
        assert_eq!(tokio::time::timeout(BOUND, served).await.unwrap(), 200);
        proxy.edit(|web| std::sync::Arc::make_mut(&mut web.spec).listens.truncate(1));
        // It comes back when it has long been closed, and while workers are still closing it.
        if round % 2 == 0 {
            until_refused(port.address()).await;
        }
    }
    until_refused(port.address()).await;
    load.stop().await.assert_clean();
}

#[tokio::test]
async fn a_listen_that_is_in_use_is_an_error_and_all_else_comes_into_force() {
    let backend = HttpBackend::start("b").unwrap();
    let mut proxy = Proxy::http(&[backend.address()]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut second = service("second", vec![at(backend.address())]);
    let listen = Listen::socket(address.ip(), address.port(), Proto::Http);
    let free = Port::take().unwrap();
    let other = Listen::socket(free.address().ip(), free.number(), Proto::Http);
    std::sync::Arc::make_mut(&mut second.spec).listens = vec![other, listen];
    let third = service("third", vec![at(backend.address())]);
    let ops = vec![
        Op::AddService(second.clone().into()),
        Op::AddService(third.into()),
        Op::PutRoute(route("r", "third", "/", &[("third", 1)]).into()),
    ];
    let results = proxy.plane.apply(&Plan { ops });
    match &results[0].result {
        Err(PlaneError::Listen {
            listen: which,
            reason,
        }) => {
            assert!(*which == listen && reason.contains("in use"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert!(
        results[1..].iter().all(|item| item.result.is_ok()),
        "{results:?}"
    );
    assert_eq!(proxy.get("third", "/").await.status, 200);
    let held = proxy.plane.read().unwrap();
    assert!(!held.services.contains_key(&name("second")));
    until_refused(free.address()).await;
    let alone = Op::AddService(second.clone().into());
    let results = proxy.plane.apply(&Plan { ops: vec![alone] });
    assert!(results[0].result.is_err(), "{results:?}");
    until_refused(free.address()).await;
    // Once it is free it can be had.
    drop(taken);
    let results = proxy.plane.apply(&Plan {
        ops: vec![Op::AddService(second.into())],
    });
    assert_eq!(results[0].result, Ok(()));
    let mut client = Raw::connect(address).await.unwrap();
    assert_eq!(client.get("a", "/", BOUND).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_backend_that_leaves_keeps_its_requests_until_the_drain_time_out() {
    let (leaving, staying) = (
        HttpBackend::start("l").unwrap(),
        HttpBackend::start("s").unwrap(),
    );
    for (limit, answered) in [(5_000, true), (500, false), (0, true)] {
        leaving.behave(match answered {
            true => HttpBehaviour::slow(ms(500)),
            false => HttpBehaviour::answering(Answer::Never),
        });
        let mut proxy = Proxy::http_with(vec![at(leaving.address())], |spec| {
            spec.timeouts.drain = ms(limit);
        });
        let mut client = proxy.connect().await;
        client
            .send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        assert!(wait_until_async(BOUND, || leaving.stats().active == 1).await);
        proxy.add_backend(at(staying.address()));
        proxy.remove_backend(leaving.address());
        assert!(proxy.get("a", "/").await.text().contains("backend=s"));
        let answer = client.read_response(BOUND).await.unwrap();
        assert_eq!(answer.status, if answered { 200 } else { 502 });
        let told = || leaving.stats().open == 0;
        assert!(
            wait_until_async(BOUND, told).await,
            "no connection to it is kept"
        );
    }
}
