//! Clients that stay on their backend, known by their address.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use plimsoll_model::{Backend, Listen, Persistence, Proto, State, Status};
use plimsoll_plane::{PersistenceCounters, Plane, Tuple};
use plimsoll_testkit::{
    Ending, HttpBackend, Port, Raw, TcpAnswer, TcpBackend, TcpBehaviour, wait_until_async,
};

use crate::common::{BOUND, Proxy, at, limited, ms, put};

fn sticky(timeout: Duration) -> Option<Persistence> {
    Some(Persistence::new(timeout))
}

const LONG: Duration = Duration::from_secs(600);

/// A client of its own.
fn source(n: u8) -> IpAddr {
    [127, 0, 3, n].into()
}

fn greeter(id: &str) -> TcpBackend {
    let backend = TcpBackend::start(id).unwrap();
    backend.behave(TcpBehaviour::answering(TcpAnswer::Greet));
    backend
}

/// A connection, and the one letter that its backend is called.
async fn visit(from: IpAddr, address: SocketAddr) -> (Raw, char) {
    let mut raw = Raw::connect_as(from, address).await.unwrap();
    let greeting = raw.read_exact(2, BOUND).await.unwrap();
    (raw, char::from(greeting[0]))
}

fn counts(proxy: &Proxy) -> PersistenceCounters {
    proxy.counters().persistence.unwrap()
}

fn three() -> (Vec<TcpBackend>, Vec<Backend>) {
    let backends: Vec<TcpBackend> = ["a", "b", "c"].into_iter().map(greeter).collect();
    let there = backends.iter().map(|b| at(b.address())).collect();
    (backends, there)
}

#[tokio::test]
async fn a_client_stays_and_others_are_spread() {
    let (_backends, there) = three();
    let proxy = Proxy::tcp_with(there, |spec| spec.persistence = sticky(LONG));
    let mut homes = BTreeSet::new();
    for n in 1..=6 {
        let (_, home) = visit(source(n), proxy.address()).await;
        homes.insert(home);
        for _ in 0..8 {
            assert_eq!(visit(source(n), proxy.address()).await.1, home);
        }
    }
    assert_eq!(homes.len(), 3, "the scheduler shares out who is new");
    let expected = PersistenceCounters {
        clients: 6,
        kept: 48,
        ..PersistenceCounters::default()
    };
    assert_eq!(counts(&proxy), expected);
}

#[tokio::test]
async fn connections_that_come_at_once_all_go_to_one() {
    let (_backends, there) = three();
    let proxy = Proxy::tcp_with(there, |spec| spec.persistence = sticky(LONG));
    for n in 1..=4 {
        let address = proxy.address();
        let at_once: Vec<_> = (0..24)
            .map(|_| tokio::spawn(visit(source(n), address)))
            .collect();
        let mut homes = BTreeSet::new();
        for visit in at_once {
            homes.insert(visit.await.unwrap().1);
        }
        assert_eq!(homes.len(), 1, "client {n} on both workers");
    }
    assert_eq!(counts(&proxy).clients, 4);
}

#[tokio::test]
async fn a_client_is_forgotten_after_the_time_out_and_not_while_it_is_connected() {
    let (_backends, there) = three();
    let proxy = Proxy::tcp_with(there, |spec| spec.persistence = sticky(ms(300)));
    let (held, home) = visit(source(1), proxy.address()).await;
    drop(visit(source(2), proxy.address()).await);
    assert!(
        wait_until_async(BOUND, || counts(&proxy).clients == 1).await,
        "the one that went"
    );
    assert_eq!(visit(source(1), proxy.address()).await.1, home);
    drop(held);
    assert!(wait_until_async(BOUND, || counts(&proxy).clients == 0).await);
}

#[tokio::test]
async fn clients_of_one_network_are_one() {
    let (_backends, there) = three();
    let proxy = Proxy::tcp_with(there, |spec| {
        spec.persistence = sticky(LONG).map(|p| Persistence { prefix_v4: 24, ..p });
    });
    let (_, home) = visit(source(1), proxy.address()).await;
    for n in 2..10 {
        assert_eq!(visit(source(n), proxy.address()).await.1, home);
    }
    assert_eq!(counts(&proxy).clients, 1);
}

#[tokio::test]
async fn all_listens_of_a_service_share_its_clients() {
    let (_backends, there) = three();
    let mut proxy = Proxy::tcp_with(there, |spec| spec.persistence = sticky(LONG));
    let second = Port::take().unwrap();
    let address = second.address();
    proxy.edit(|web| {
        let listens = &mut std::sync::Arc::make_mut(&mut web.spec).listens;
        listens.push(Listen::socket(address.ip(), address.port(), Proto::Tcp));
    });
    for n in 1..=6 {
        let (_, home) = visit(source(n), proxy.address()).await;
        assert_eq!(visit(source(n), address).await.1, home);
    }
}

#[tokio::test]
async fn who_takes_nothing_new_loses_its_clients_for_good() {
    let (backends, there) = three();
    let mut proxy = Proxy::tcp_with(there, |spec| spec.persistence = sticky(LONG));
    let addresses = ["a", "b", "c"].map(|id| {
        let of = |b: &&TcpBackend| b.id() == id;
        backends.iter().find(of).unwrap().address()
    });
    for state in [State::Down, State::Draining] {
        let (_, home) = visit(source(1), proxy.address()).await;
        let left = addresses[(home as u8 - b'a') as usize];
        proxy.edit_backend(left, |b| b.status = Status::new(state, "test"));
        let (_, next) = visit(source(1), proxy.address()).await;
        assert_ne!(next, home);
        proxy.edit_backend(left, |b| b.status = Status::new(State::Ready, "test"));
        assert_eq!(visit(source(1), proxy.address()).await.1, next, "it moved");
    }
    assert_eq!(counts(&proxy).moved, 2);
}

#[tokio::test]
async fn a_backend_of_weight_0_keeps_its_clients_and_gets_no_others() {
    let (backends, there) = three();
    let mut proxy = Proxy::tcp_with(there, |spec| {
        spec.persistence = sticky(LONG);
        spec.timeouts.drain = ms(1);
    });
    let (mut held, home) = visit(source(1), proxy.address()).await;
    let home = backends.iter().find(|b| b.id() == home.to_string());
    let home = home.unwrap();
    proxy.edit_backend(home.address(), |b| b.weight = 0);
    for n in 2..8 {
        let (_, other) = visit(source(n), proxy.address()).await;
        assert_ne!(home.id(), other.to_string());
    }
    let (_, again) = visit(source(1), proxy.address()).await;
    assert_eq!(home.id(), again.to_string());
    assert!(held.read_exact(1, ms(300)).await.is_err());
    assert!(
        held.finish().await.is_ok(),
        "it is not cut as if it drained"
    );
}

#[tokio::test]
async fn a_client_of_a_backend_that_refuses_moves() {
    let (backends, there) = three();
    let proxy = Proxy::tcp_with(there, |spec| spec.persistence = sticky(LONG));
    let (raw, home) = visit(source(1), proxy.address()).await;
    drop(raw);
    let gone = backends.iter().find(|b| b.id() == home.to_string());
    gone.unwrap().refuse().await;
    let (_, next) = visit(source(1), proxy.address()).await;
    assert_ne!(next, home);
    gone.unwrap().listen_again().unwrap();
    assert_eq!(visit(source(1), proxy.address()).await.1, next);
}

#[tokio::test]
async fn at_a_full_backend_its_client_waits_and_when_the_queue_is_full_it_moves() {
    let backends = [greeter("a"), greeter("b")];
    let there = backends.iter().map(|b| limited(b.address(), 1)).collect();
    let proxy = Proxy::tcp_with(there, |spec| {
        spec.persistence = sticky(LONG);
        spec.queue = 1;
    });
    let (held, home) = visit(source(1), proxy.address()).await;
    let mut waiting = Raw::connect_as(source(1), proxy.address()).await.unwrap();
    let queued = || proxy.counters().backends.iter().any(|(_, b)| b.queued == 1);
    assert!(wait_until_async(BOUND, queued).await, "beside a free one");
    // The queue is full: the third goes to the free one.
    let (moved, other) = visit(source(1), proxy.address()).await;
    assert_ne!(other, home);
    drop(moved);
    drop(held);
    let greeting = waiting.read_exact(2, BOUND).await.unwrap();
    assert_eq!(char::from(greeting[0]), home);
}

#[tokio::test]
async fn the_time_in_the_queues_of_two_backends_is_one_time() {
    let patience = ms(3_000);
    let backends = [greeter("a"), greeter("b")];
    let there = backends.iter().map(|b| limited(b.address(), 1)).collect();
    let mut proxy = Proxy::tcp_with(there, |spec| {
        spec.persistence = sticky(LONG);
        spec.timeouts.queue = patience;
        spec.timeouts.drain = Duration::ZERO;
    });
    let (_held, home) = visit(source(1), proxy.address()).await;
    let (_other, _) = visit(source(2), proxy.address()).await;
    let begun = Instant::now();
    let mut waiting = Raw::connect_as(source(1), proxy.address()).await.unwrap();
    let queued = || proxy.counters().backends.iter().any(|(_, b)| b.queued == 1);
    assert!(wait_until_async(BOUND, queued).await);
    let nearly_over = || begun.elapsed() > patience * 9 / 10;
    assert!(wait_until_async(BOUND, nearly_over).await);
    // It is sent on to the queue of the other one.
    let home = backends.iter().find(|b| b.id() == home.to_string());
    let draining = Status::new(State::Draining, "test");
    proxy.edit_backend(home.unwrap().address(), |b| b.status = draining);
    assert!(waiting.read_exact(1, BOUND).await.is_err(), "it is refused");
    let waited = begun.elapsed();
    assert!(
        waited >= patience && waited < patience * 18 / 10,
        "{waited:?}"
    );
}

#[tokio::test]
async fn what_the_sorry_server_takes_is_not_remembered() {
    let (home, sorry) = (greeter("a"), greeter("s"));
    let mut proxy = Proxy::tcp_with(vec![at(home.address())], |spec| {
        spec.persistence = sticky(LONG);
        spec.sorry = Some(at(sorry.address()));
    });
    assert_eq!(visit(source(1), proxy.address()).await.1, 'a');
    proxy.edit_backend(home.address(), |b| {
        b.status = Status::new(State::Down, "test")
    });
    assert_eq!(visit(source(1), proxy.address()).await.1, 's');
    proxy.edit_backend(home.address(), |b| {
        b.status = Status::new(State::Ready, "test")
    });
    assert_eq!(visit(source(1), proxy.address()).await.1, 'a');
    assert_eq!(counts(&proxy).moved, 0);
}

#[tokio::test]
async fn requests_of_one_client_stay_on_every_connection() {
    let backends = ["a", "b", "c"].map(|id| HttpBackend::start(id).unwrap());
    let there = backends.iter().map(|b| at(b.address())).collect();
    let proxy = Proxy::http_with(there, |spec| spec.persistence = sticky(LONG));
    for _ in 0..4 {
        let mut raw = Raw::connect_as(source(1), proxy.address()).await.unwrap();
        for _ in 0..5 {
            let response = raw.get("a.example", "/", BOUND).await.unwrap();
            assert_eq!(response.status, 200);
        }
    }
    let mut requests: Vec<u64> = (backends.iter())
        .map(|b| proxy.counters_of(b.address()).requests)
        .collect();
    requests.sort_unstable();
    assert_eq!(requests, [0, 0, 20]);
}

#[tokio::test]
async fn it_is_said_why_a_client_goes_where_it_goes() {
    let (backends, there) = three();
    let mut proxy = Proxy::tcp_with(there, |spec| spec.persistence = sticky(LONG));
    let tuple = Tuple {
        client: (source(1), 1).into(),
        destination: proxy.address(),
        proto: Proto::Tcp,
        host: None,
        path: None,
    };
    let said = |proxy: &Proxy, words: &str| {
        let explained = proxy.plane.explain(&tuple);
        let steps = explained.steps.join("\n");
        assert!(steps.contains(words), "{words}: {steps}");
        explained.backend
    };
    assert_eq!(said(&proxy, "127.0.3.1 is not remembered"), None);
    let (raw, home) = visit(source(1), proxy.address()).await;
    let home = backends.iter().find(|b| b.id() == home.to_string());
    let home = home.unwrap().address();
    assert_eq!(said(&proxy, "where it has 1 open"), Some(home.into()));
    raw.reset().unwrap();
    proxy.settled().await;
    assert_eq!(said(&proxy, " s more"), Some(home.into()));
    proxy.edit_backend(home, |b| b.status = Status::new(State::Down, "test"));
    assert_eq!(said(&proxy, "it moves"), None);
}

#[tokio::test]
async fn clients_are_remembered_over_changes_and_forgotten_with_the_service() {
    let (_backends, there) = three();
    let mut proxy = Proxy::tcp_with(there, |spec| spec.persistence = sticky(LONG));
    let (_, home) = visit(source(1), proxy.address()).await;
    proxy.edit(|web| std::sync::Arc::make_mut(&mut web.spec).retries = 1);
    let late = greeter("d");
    proxy.add_backend(at(late.address()));
    assert_eq!(visit(source(1), proxy.address()).await.1, home);
    let web = (*proxy.desired.services["web"]).clone();
    proxy.change(|desired| desired.services.clear());
    proxy.change(|desired| put(desired, web));
    assert_eq!(counts(&proxy).clients, 0);
}

#[tokio::test]
async fn without_persistence_nothing_is_counted() {
    let backend = greeter("a");
    backend.kill(Ending::Close).await;
    let proxy = Proxy::tcp(&[backend.address()]);
    assert_eq!(proxy.counters().persistence, None);
}
