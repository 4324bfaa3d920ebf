//! Weight 0: nothing new, and what is there goes on.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use plimsoll_model::{Backend, Cookie, CookieMode, Persistence, Proto, State, Status};
use plimsoll_plane::{Explanation, Plane, Tuple};
use plimsoll_testkit::{HttpBackend, Raw, TcpAnswer, TcpBackend, TcpBehaviour, wait_until_async};

use crate::common::{BOUND, Proxy, at, limited, ms, put, put_route, route, service};

/// Greets, and then says what it hears.
fn echo(id: &str) -> TcpBackend {
    let backend = TcpBackend::start(id).unwrap();
    backend.behave(TcpBehaviour::answering(TcpAnswer::Echo));
    backend
}

async fn say(raw: &mut Raw, word: &str) {
    raw.send(word).await.unwrap();
    assert_eq!(
        raw.read_exact(word.len(), BOUND).await.unwrap(),
        word.as_bytes()
    );
}

/// Where HTTP from there would go.
fn explain(proxy: &Proxy, client: IpAddr) -> Explanation {
    proxy.plane.explain(&Tuple {
        client: (client, 1).into(),
        destination: proxy.address(),
        proto: Proto::Http,
        host: Some("a".into()),
        path: None,
    })
}

/// Sets weights and states of several backends in one step.
fn set(proxy: &mut Proxy, edit: impl Fn(&mut Backend)) {
    proxy.edit(|web| {
        for backend in web.backends.values_mut() {
            edit(Arc::make_mut(backend));
        }
    });
}

#[tokio::test]
async fn what_a_backend_of_weight_0_has_is_not_cut_as_if_it_drained() {
    let (rests, drains) = (echo("r"), echo("d"));
    let there = vec![at(rests.address()), at(drains.address())];
    let mut proxy = Proxy::tcp_with(there, |spec| spec.timeouts.drain = ms(1));
    // In turn, so that each backend has as many, most probably on both workers.
    let mut clients = Vec::new();
    for _ in 0..16 {
        let mut raw = proxy.connect().await;
        say(&mut raw, "hello").await;
        clients.push(raw);
    }
    let drained = drains.address().into();
    set(&mut proxy, |backend| match backend.addr == drained {
        true => backend.status = Status::new(State::Draining, "test"),
        false => backend.weight = 0,
    });
    let cut = || drains.stats().open == 0;
    assert!(
        wait_until_async(BOUND, cut).await,
        "the time to drain is over"
    );
    let mut left = 0;
    for raw in &mut clients {
        let said = raw.send("still there").await.is_ok();
        left += usize::from(said && raw.read_exact(11, BOUND).await.is_ok());
    }
    assert_eq!((left, rests.stats().open), (8, 8));
}

#[tokio::test]
async fn who_waits_for_a_backend_that_gets_weight_0_goes_to_another() {
    let (first, second) = (echo("f"), echo("s"));
    let mut proxy = Proxy::tcp_with(vec![limited(first.address(), 1)], |_| {});
    let mut held = proxy.connect().await;
    say(&mut held, "hello").await;
    let mut waiting = proxy.connect().await;
    let queued = || proxy.counters_of(first.address()).queued == 1;
    assert!(wait_until_async(BOUND, queued).await);
    let other = at(second.address());
    proxy.edit(|web| {
        for backend in web.backends.values_mut() {
            Arc::make_mut(backend).weight = 0;
        }
        web.backends.insert(other.addr.clone(), Arc::new(other));
    });
    say(&mut waiting, "hello").await;
    assert_eq!(second.stats().open, 1);
    say(&mut held, "still there").await;
}

#[tokio::test]
async fn a_backend_that_had_weight_0_starts_slowly() {
    let backends = [echo("a"), echo("b")];
    let there: Vec<Backend> = backends.iter().map(|b| at(b.address())).collect();
    for persistence in [None, Some(Persistence::new(ms(1_000)))] {
        let mut proxy = Proxy::tcp_with(there.clone(), |spec| {
            spec.slow_start = Duration::from_secs(6_000);
            spec.persistence = persistence;
        });
        let starts = |proxy: &Proxy, address: SocketAddr| {
            let explained = proxy.plane.explain(&Tuple {
                client: ([127, 0, 0, 1], 1).into(),
                destination: proxy.address(),
                proto: Proto::Tcp,
                host: None,
                path: None,
            });
            let of = format!("backend {address}");
            let mut steps = explained.steps.iter().filter(|step| step.contains(&of));
            steps.any(|step| step.contains("slow start"))
        };
        let it = backends[0].address();
        assert!(!starts(&proxy, it), "nobody served before it");
        // Not within the millisecond in which both became ready.
        let comes_back = || {
            for weight in [0, 1] {
                set(&mut proxy, |backend| {
                    if backend.addr == it.into() {
                        backend.weight = weight;
                    }
                });
            }
            starts(&proxy, it)
        };
        assert!(wait_until_async(BOUND, comes_back).await, "{persistence:?}");
    }
}

#[tokio::test]
async fn explain_knows_who_is_served_by_backends_of_weight_0() {
    let backend = HttpBackend::start("b").unwrap();
    let (stays, stranger) = ([127, 0, 0, 1].into(), [127, 0, 0, 99].into());
    for shares in [&[("web", 1)][..], &[("web", 1), ("empty", 1)]] {
        let mut proxy = Proxy::http_with(vec![at(backend.address())], |spec| {
            spec.persistence = Some(Persistence::new(ms(600_000)));
        });
        proxy.change(|desired| {
            put(desired, service("empty", Vec::new()));
            put_route(desired, route("all", "*", "/", shares));
        });
        assert_eq!(proxy.get("a", "/").await.status, 200);
        set(&mut proxy, |backend| backend.weight = 0);
        let told = explain(&proxy, stays);
        assert_eq!(
            (told.nowhere, told.status),
            (None, None),
            "{:?}",
            told.steps
        );
        assert_eq!(proxy.get("a", "/").await.status, 200);
        if shares.len() == 1 {
            assert_eq!(told.backend, Some(backend.address().into()));
        }
        let told = explain(&proxy, stranger);
        assert_eq!(told.status, Some(503), "{:?}", told.steps);
        // By a cookie it may be anybody.
        proxy.edit(|web| {
            let spec = Arc::make_mut(&mut web.spec);
            spec.persistence = None;
            spec.cookie = Some(Cookie::new("SRV".into(), CookieMode::Insert));
        });
        let told = explain(&proxy, stranger);
        assert_eq!(
            (told.nowhere, told.status),
            (None, None),
            "{:?}",
            told.steps
        );
        // And without either it is nobody.
        proxy.edit(|web| Arc::make_mut(&mut web.spec).cookie = None);
        assert_eq!(explain(&proxy, stays).status, Some(503));
    }
}
