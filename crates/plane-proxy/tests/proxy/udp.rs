//! UDP: sessions, the way back, and where a session goes when its backend does.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use plimsoll_model::{Listen, Proto, Scheduler, SchedulerKind, State, Status};
use plimsoll_plane::Event;
use plimsoll_plane::Plane;
use plimsoll_testkit::{Port, wait_until_async};
use tokio::net::UdpSocket;

use crate::common::{BOUND, MOMENT, Proxy, at, limited, loopback, ms, pattern};

/// A backend that answers each datagram with its letter, a colon and the same bytes.
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    heard: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Echo {
    pub(crate) async fn start(letter: char) -> Self {
        Self::at((loopback(), 0).into(), letter).await
    }

    pub(crate) async fn at(address: SocketAddr, letter: char) -> Self {
        let socket = UdpSocket::bind(address).await.unwrap();
        let address = socket.local_addr().unwrap();
        let heard = Arc::new(AtomicU64::new(0));
        let count = heard.clone();
        let task = tokio::spawn(async move {
            let mut bytes = vec![0; 65_535];
            // An error is what became of an answer: the client may be gone.
            loop {
                if let Ok((n, from)) = socket.recv_from(&mut bytes).await {
                    count.fetch_add(1, Ordering::SeqCst);
                    let mut answer = format!("{letter}:").into_bytes();
                    answer.extend_from_slice(&bytes[..n]);
                    let _ = socket.send_to(&answer, from).await;
                }
            }
        });
        Self {
            address,
            heard,
            task,
        }
    }

    pub(crate) fn heard(&self) -> u64 {
        self.heard.load(Ordering::SeqCst)
    }

    /// Closes its socket: what is sent there is unreachable from now on.
    pub(crate) async fn stop(mut self) -> SocketAddr {
        self.task.abort();
        let _ = (&mut self.task).await;
        self.address
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A client socket that speaks to one address only, and so hears of no other.
pub(crate) async fn client(to: SocketAddr) -> UdpSocket {
    let any: IpAddr = match to.is_ipv4() {
        true => Ipv4Addr::LOCALHOST.into(),
        false => Ipv6Addr::LOCALHOST.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await.unwrap();
    socket.connect(to).await.unwrap();
    socket
}

/// The next datagram.
pub(crate) async fn hear(socket: &UdpSocket) -> Vec<u8> {
    let mut bytes = vec![0; 65_535];
    let heard = tokio::time::timeout(BOUND, socket.recv(&mut bytes)).await;
    let n = heard.expect("no answer").unwrap();
    bytes.truncate(n);
    bytes
}

/// The letter of the backend that answers, asked again each moment: a datagram may be lost to a
/// backend that has just ended.
pub(crate) async fn asked(socket: &UdpSocket) -> char {
    for _ in 0..100 {
        socket.send(b"?").await.unwrap();
        let mut bytes = [0; 16];
        if let Ok(Ok(3)) = tokio::time::timeout(MOMENT, socket.recv(&mut bytes)).await {
            // Late answers to what was asked before.
            while let Ok(Ok(_)) = tokio::time::timeout(ms(1), socket.recv(&mut [0; 16])).await {}
            return bytes[0].into();
        }
    }
    panic!("nobody answers");
}

fn sessions(proxy: &Proxy) -> u64 {
    proxy.counters().udp.sessions
}

#[tokio::test]
async fn questions_of_many_clients_come_back_to_each() {
    let (a, b) = (Echo::start('a').await, Echo::start('b').await);
    let mut proxy = Proxy::udp(&[a.address, b.address]);
    let mut clients = Vec::new();
    for i in 0..60 {
        let client = client(proxy.address()).await;
        client
            .send(format!("question {i}").as_bytes())
            .await
            .unwrap();
        clients.push(client);
    }
    let mut letters = BTreeSet::new();
    for round in 0..3 {
        for (i, client) in clients.iter().enumerate() {
            let answer = String::from_utf8(hear(client).await).unwrap();
            let (letter, question) = answer.split_once(':').unwrap();
            assert_eq!(question, format!("question {i}"));
            letters.insert((i, letter.to_owned()));
            if round < 2 {
                client.send(question.as_bytes()).await.unwrap();
            }
        }
    }
    assert_eq!(letters.len(), 60, "a session stays at its backend");
    let used: BTreeSet<&str> = letters.iter().map(|(_, letter)| &**letter).collect();
    assert_eq!(used.len(), 2, "both are used");
    let counted = proxy.counters();
    assert_eq!((counted.total, counted.unserved), (60, 0));
    assert_eq!(counted.udp.sessions, 60);
    let (a, b) = (proxy.counters_of(a.address), proxy.counters_of(b.address));
    assert_eq!((a.requests, b.requests), (30, 30));
    assert_eq!((a.datagrams_in, a.datagrams_out), (90, 90));
    assert_eq!(a.bytes_out - a.bytes_in, 180);
    let flows = proxy.flows();
    assert_eq!(flows.len(), 60);
    assert!(
        flows
            .iter()
            .all(|flow| flow.phase == "udp" && flow.backend.is_some())
    );
    let listen = proxy.listen();
    assert_eq!((listen.accepted, listen.connections), (60, 60));
}

#[tokio::test]
async fn every_size_passes_whole_also_none_and_the_largest() {
    let a = Echo::start('a').await;
    let proxy = Proxy::udp(&[a.address]);
    let client = client(proxy.address()).await;
    for size in [0, 1, 63, 1200, 1472, 1473, 9000, 40_000, 65_505] {
        let sent = pattern(size);
        client.send(&sent).await.unwrap();
        let heard = hear(&client).await;
        assert!(heard[..2] == *b"a:" && heard[2..] == sent, "{size} bytes");
    }
    assert_eq!(proxy.listen().unsent, 0);
}

#[tokio::test]
async fn a_flow_of_large_batches_comes_back_in_order_and_whole() {
    let a = Echo::start('a').await;
    let proxy = Proxy::udp(&[a.address]);
    let client = client(proxy.address()).await;
    let mut last = 0u32;
    for batch in 0..200u32 {
        // Fewer than the smallest receive buffer on the way holds.
        for i in 0..32 {
            let mut datagram = pattern(1200);
            datagram[..4].copy_from_slice(&(batch * 32 + i + 1).to_be_bytes());
            client.send(&datagram).await.unwrap();
        }
        for _ in 0..32 {
            let heard = hear(&client).await;
            assert_eq!(heard.len(), 1202);
            let number = u32::from_be_bytes(heard[2..6].try_into().unwrap());
            assert_eq!(number, last + 1);
            assert!(heard[6..] == pattern(1200)[4..]);
            last = number;
        }
    }
    assert_eq!((sessions(&proxy), proxy.listen().unsent), (1, 0));
    let counted = proxy.counters_of(a.address);
    assert_eq!((counted.datagrams_in, counted.datagrams_out), (6400, 6400));
}

#[tokio::test]
async fn a_session_that_was_calm_for_long_loses_nothing_when_much_comes() {
    let a = Echo::start('a').await;
    let proxy = Proxy::udp(&[a.address]);
    for round in 0..32u8 {
        let client = client(proxy.address()).await;
        for _ in 0..16 + round {
            client.send(b"?").await.unwrap();
            assert_eq!(hear(&client).await, b"a:?");
        }
        for n in 0..=round {
            client.send(&[n]).await.unwrap();
        }
        for n in 0..=round {
            assert_eq!(hear(&client).await, [b'a', b':', n], "of {round}");
        }
    }
}

#[tokio::test]
async fn answers_come_from_the_address_that_was_asked() {
    let a = Echo::start('a').await;
    let (any4, both) = (Port::take().unwrap(), Port::take().unwrap());
    let mut proxy = Proxy::udp(&[a.address]);
    proxy.edit(|web| {
        let listens = &mut Arc::make_mut(&mut web.spec).listens;
        let any: IpAddr = Ipv4Addr::UNSPECIFIED.into();
        listens.push(Listen::socket(any, any4.number(), Proto::Udp));
        listens.push(Listen::socket(None, both.number(), Proto::Udp));
    });
    // All of 127.0.0.0/8 is this host.
    let mut targets: Vec<SocketAddr> = Vec::new();
    for ip in ["127.0.0.1", "127.0.0.7", "127.8.9.10"] {
        targets.push((ip.parse::<IpAddr>().unwrap(), any4.number()).into());
        targets.push((ip.parse::<IpAddr>().unwrap(), both.number()).into());
    }
    if std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        targets.push((Ipv6Addr::LOCALHOST, both.number()).into());
    }
    for target in &targets {
        // Connected: an answer from elsewhere would not be heard.
        assert_eq!(asked(&client(*target).await).await, 'a', "{target}");
    }
    // One socket that speaks to several: each is a session of its own.
    let before = sessions(&proxy);
    let socket = UdpSocket::bind((loopback(), 0)).await.unwrap();
    let v4: Vec<&SocketAddr> = targets.iter().filter(|t| t.is_ipv4()).collect();
    for target in &v4 {
        socket
            .send_to(target.to_string().as_bytes(), target)
            .await
            .unwrap();
    }
    for _ in &v4 {
        let mut bytes = [0; 64];
        let heard = tokio::time::timeout(BOUND, socket.recv_from(&mut bytes)).await;
        let (n, from) = heard.unwrap().unwrap();
        assert_eq!(bytes[..n], *format!("a:{from}").as_bytes());
    }
    assert_eq!(sessions(&proxy), before + v4.len() as u64);
}

#[tokio::test]
async fn a_session_moves_when_its_backend_dies() {
    let (a, b) = (Echo::start('a').await, Echo::start('b').await);
    let mut proxy = Proxy::udp(&[a.address, b.address]);
    let mut events = proxy.plane.events().unwrap();
    let client = client(proxy.address()).await;
    let (dead, left) = match asked(&client).await {
        'a' => (a.stop().await, 'b'),
        _ => (b.stop().await, 'a'),
    };
    assert_eq!(asked(&client).await, left);
    let counted = proxy.counters();
    assert_eq!(
        (counted.total, counted.udp.sessions, counted.udp.moved),
        (1, 1, 1)
    );
    assert!(proxy.counters_of(dead).connect_failures >= 1);
    let told = tokio::time::timeout(BOUND, events.recv()).await.unwrap();
    let Some(Event::Reset {
        backend, reason, ..
    }) = told
    else {
        panic!("{told:?}");
    };
    assert_eq!((backend, &*reason), (dead.into(), "port unreachable"));
    // Back again, it is used again.
    let _again = Echo::at(dead, 'c').await;
    let mut letters = BTreeSet::new();
    for _ in 0..4 {
        letters.insert(asked(&self::client(proxy.address()).await).await);
    }
    assert!(letters.contains(&'c'), "{letters:?}");
}

#[tokio::test]
async fn the_only_backend_is_tried_again_when_it_is_back() {
    let a = Echo::start('a').await;
    let proxy = Proxy::udp(&[a.address]);
    let client = client(proxy.address()).await;
    assert_eq!(asked(&client).await, 'a');
    let address = a.stop().await;
    let failed = || proxy.counters_of(address).connect_failures > 0;
    for _ in 0..100 {
        client.send(b"?").await.unwrap();
        if wait_until_async(MOMENT, failed).await {
            break;
        }
    }
    assert!(failed());
    let _again = Echo::at(address, 'b').await;
    assert_eq!(asked(&client).await, 'b');
}

#[tokio::test]
async fn removed_and_down_backends_lose_their_sessions_and_draining_ones_keep_them() {
    let (a, b) = (Echo::start('a').await, Echo::start('b').await);
    let mut proxy = Proxy::udp_with(vec![at(a.address), at(b.address)], |spec| {
        spec.timeouts.drain = ms(4000);
    });
    let set = |state: State| {
        move |backend: &mut plimsoll_model::Backend| {
            backend.status = Status {
                state,
                ..Status::default()
            }
        }
    };
    let client = client(proxy.address()).await;
    let first = asked(&client).await;
    let (here, there, other) = match first {
        'a' => (a.address, b.address, 'b'),
        _ => (b.address, a.address, 'a'),
    };
    proxy.edit_backend(here, set(State::Draining));
    assert_eq!(asked(&self::client(proxy.address()).await).await, other);
    // Until its time is over, and not a datagram less.
    let mut kept = 0;
    while asked(&client).await == first {
        kept += 1;
    }
    assert!(kept > 0, "it left at once");
    assert_eq!(proxy.counters_of(here).active, 0);
    proxy.edit_backend(here, set(State::Ready));
    proxy.edit_backend(there, set(State::Down));
    assert_eq!(asked(&client).await, first);
    proxy.edit_backend(there, set(State::Ready));
    proxy.remove_backend(here);
    assert_eq!(asked(&client).await, other);
    assert_eq!(proxy.counters().udp.moved, 3);
}

#[tokio::test]
async fn a_hashed_client_finds_its_backend_without_its_session() {
    let backends = [
        Echo::start('a').await,
        Echo::start('b').await,
        Echo::start('c').await,
    ];
    for kind in [SchedulerKind::Sh, SchedulerKind::Mh] {
        let members = backends.iter().map(|b| at(b.address)).collect();
        let proxy = Proxy::udp_with(members, |spec| {
            spec.scheduler = Scheduler {
                kind,
                hash: plimsoll_model::HashKey::SourcePort,
                ..Scheduler::default()
            };
            spec.timeouts.udp = ms(1);
        });
        let mut used = BTreeSet::new();
        for _ in 0..12 {
            let client = client(proxy.address()).await;
            let first = asked(&client).await;
            assert!(wait_until_async(BOUND, || sessions(&proxy) == 0).await);
            assert_eq!(asked(&client).await, first);
            used.insert(first);
        }
        assert!(used.len() > 1, "{used:?}");
    }
}

#[tokio::test]
async fn listens_come_and_go_and_tcp_may_have_the_same_port() {
    let a = Echo::start('a').await;
    let more = Port::take().unwrap();
    let mut proxy = Proxy::udp(&[a.address]);
    let (old, new) = (client(proxy.address()).await, client(more.address()).await);
    assert_eq!(asked(&old).await, 'a');
    let listen = Listen::socket(more.address().ip(), more.number(), Proto::Udp);
    let before = proxy.desired.services["web"].spec.listens.clone();
    let tcp = Listen::socket(loopback(), proxy.address().port(), Proto::Tcp);
    proxy.edit(|web| {
        let spec = Arc::make_mut(&mut web.spec);
        spec.listens.extend([listen, tcp]);
    });
    assert_eq!((asked(&old).await, asked(&new).await), ('a', 'a'));
    assert!(std::net::TcpStream::connect(proxy.address()).is_ok());
    proxy.edit(|web| Arc::make_mut(&mut web.spec).listens = vec![listen]);
    // The kernel says that nobody is there.
    let refused = || async {
        let _ = old.send(b"?").await;
        let heard = tokio::time::timeout(MOMENT, old.recv(&mut [0; 9])).await;
        matches!(heard, Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionRefused)
    };
    let mut gone = false;
    for _ in 0..100 {
        gone = gone || refused().await;
    }
    assert!(gone);
    assert_eq!(asked(&new).await, 'a');
    assert!(wait_until_async(BOUND, || sessions(&proxy) == 1).await);
    proxy.edit(|web| Arc::make_mut(&mut web.spec).listens = before);
    assert_eq!(asked(&client(proxy.address()).await).await, 'a');
}

#[tokio::test]
async fn a_port_of_another_program_is_not_shared() {
    let taken = std::net::UdpSocket::bind((loopback(), 0)).unwrap();
    let mut proxy = Proxy::udp(&[]);
    let mut to = proxy.desired.clone();
    let listen = Listen::socket(loopback(), taken.local_addr().unwrap().port(), Proto::Udp);
    Arc::make_mut(&mut Arc::make_mut(to.services.get_mut("web").unwrap()).spec)
        .listens
        .push(listen);
    let results = proxy.plane.apply(&proxy.desired.diff(&to));
    let error = results[0].result.clone().unwrap_err().to_string();
    assert!(error.contains("address in use"), "{error}");
}

#[tokio::test]
async fn maxconn_is_sessions_and_the_sorry_server_takes_what_nobody_can() {
    let (a, b) = (Echo::start('a').await, Echo::start('b').await);
    let mut proxy = Proxy::udp_with(vec![limited(a.address, 2), limited(b.address, 1)], |_| {});
    let mut clients = Vec::new();
    let mut letters = Vec::new();
    for _ in 0..3 {
        let client = client(proxy.address()).await;
        letters.push(asked(&client).await);
        clients.push(client);
    }
    letters.sort_unstable();
    assert_eq!(letters, ['a', 'a', 'b']);
    let late = client(proxy.address()).await;
    late.send(b"?").await.unwrap();
    assert!(wait_until_async(BOUND, || proxy.counters().unserved == 1).await);
    assert_eq!((sessions(&proxy), a.heard() + b.heard()), (3, 3));
    let sorry = Echo::start('s').await;
    proxy.edit(|web| {
        web.backends.clear();
        Arc::make_mut(&mut web.spec).sorry = Some(at(sorry.address));
    });
    assert_eq!(asked(&clients[0]).await, 's');
    assert_eq!(asked(&late).await, 's');
}

#[tokio::test]
async fn a_plane_that_ends_lets_answers_through_and_begins_nothing() {
    // A backend that answers only when it is told to.
    let backend = UdpSocket::bind((loopback(), 0)).await.unwrap();
    let mut proxy = Proxy::udp(&[backend.local_addr().unwrap()]);
    let (asks, rests) = (client(proxy.address()).await, client(proxy.address()).await);
    let mut bytes = [0; 16];
    rests.send(b"1").await.unwrap();
    let (_, from) = backend.recv_from(&mut bytes).await.unwrap();
    backend.send_to(b"one", from).await.unwrap();
    assert_eq!(hear(&rests).await, b"one");
    asks.send(b"2").await.unwrap();
    let (_, from) = backend.recv_from(&mut bytes).await.unwrap();
    assert!(!proxy.plane.drain(ms(0)), "an answer is to come");
    assert!(wait_until_async(BOUND, || sessions(&proxy) == 1).await);
    backend.send_to(b"two", from).await.unwrap();
    assert_eq!(hear(&asks).await, b"two");
    assert!(proxy.plane.drain(BOUND));
    assert_eq!(sessions(&proxy), 0);
}

#[tokio::test]
async fn with_persistence_all_sessions_of_a_client_stay_on_one_backend() {
    let (a, b) = (Echo::start('a').await, Echo::start('b').await);
    let mut proxy = Proxy::udp_with(vec![at(a.address), at(b.address)], |spec| {
        spec.persistence = Some(plimsoll_model::Persistence {
            timeout: BOUND,
            prefix_v4: 32,
            prefix_v6: 128,
        });
    });
    let first = asked(&client(proxy.address()).await).await;
    for _ in 0..5 {
        assert_eq!(asked(&client(proxy.address()).await).await, first);
    }
    let (here, other) = match first {
        'a' => (a.address, 'b'),
        _ => (b.address, 'a'),
    };
    proxy.remove_backend(here);
    assert_eq!(asked(&client(proxy.address()).await).await, other);
    proxy.add_backend(at(here));
    assert_eq!(asked(&client(proxy.address()).await).await, other);
}
