//! What sockets are told: addresses to leave from, devices, marks, fast open; and that a listen whose
//! options change loses nobody.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use plimsoll_model::{
    Backend, Interface, ListenOptions, Op, Origin, Plan, ProxyVersion, Service, Source, ToBackends,
};
use plimsoll_plane::{Event, Plane, PlaneError};
use plimsoll_testkit::{Client, ClientPlan, HttpBackend, Raw, Reuse, TempDir, have_root};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, UdpSocket, UnixListener};

use crate::common::{BOUND, Proxy, Scripted, at, ms, pattern};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn leaving(to: ToBackends) -> Option<Arc<ToBackends>> {
    Some(Arc::new(to))
}

fn from(source: Source) -> Option<Arc<ToBackends>> {
    leaving(ToBackends {
        source,
        ..ToBackends::default()
    })
}

/// 127.0.0.9, and loopback for IPv6, which has no other.
fn own() -> Option<Arc<ToBackends>> {
    from(Source::Own {
        v4: Some([127, 0, 0, 9].into()),
        v6: Some("::1".parse().unwrap()),
    })
}

const CLIENT: Source = Source::Client { port: false };

/// A backend that says who has connected, and then sends back what comes.
async fn who() -> Scripted {
    Scripted::start(async |mut stream| {
        let peer = stream.peer_addr().unwrap().to_string();
        let (mut read, mut write) = stream.split();
        // The client may be gone.
        let _ = write.write_all(format!("{peer:<30}").as_bytes()).await;
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = write.shutdown().await;
    })
    .await
}

/// Who it was, of a client that connects from this address.
async fn asked(proxy: &Proxy, source: &str) -> SocketAddr {
    let mut raw = Raw::connect_as(ip(source), proxy.address()).await.unwrap();
    let answer = raw.read_exact(30, BOUND).await.unwrap();
    let peer = String::from_utf8(answer).unwrap();
    peer.trim().parse().unwrap()
}

#[tokio::test]
async fn connections_leave_from_the_address_that_is_said() {
    let backend = who().await;
    let mut proxy = Proxy::tcp_with(vec![at(backend.address)], |spec| spec.to_backends = own());
    let peer = asked(&proxy, "127.0.0.5").await;
    assert_eq!(peer.ip(), ip("127.0.0.9"));
    // A change holds for the next.
    proxy.edit(|web| Arc::make_mut(&mut web.spec).to_backends = None);
    let peer = asked(&proxy, "127.0.0.5").await;
    assert_eq!(peer.ip(), ip("127.0.0.1"));
}

#[tokio::test]
async fn so_do_those_of_http_and_they_are_kept() {
    let server = HttpBackend::start("b").unwrap();
    let backends = vec![at(server.address())];
    let proxy = Proxy::http_with(backends, |spec| spec.to_backends = own());
    for _ in 0..4 {
        assert_eq!(proxy.get("a", "/").await.status, 200);
    }
    let peers: BTreeSet<SocketAddr> = server.seen().iter().map(|seen| seen.peer).collect();
    assert!(peers.iter().all(|peer| peer.ip() == ip("127.0.0.9")));
    assert!(peers.len() < 4, "{peers:?}");
}

/// What a UDP backend sees of a client at this address.
async fn heard_from(proxy: &Proxy, backend: &UdpSocket, source: &str) -> SocketAddr {
    let client = UdpSocket::bind((ip(source), 0)).await.unwrap();
    client.connect(proxy.address()).await.unwrap();
    client.send(b"question").await.unwrap();
    let mut bytes = [0; 100];
    let receiving = tokio::time::timeout(BOUND, backend.recv_from(&mut bytes));
    let (n, peer) = receiving.await.unwrap().unwrap();
    assert_eq!(&bytes[..n], b"question");
    backend.send_to(b"answer", peer).await.unwrap();
    let receiving = tokio::time::timeout(BOUND, client.recv(&mut bytes));
    let n = receiving.await.unwrap().unwrap();
    assert_eq!(&bytes[..n], b"answer");
    peer
}

#[tokio::test]
async fn so_do_sessions() {
    let backend = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let backends = vec![at(backend.local_addr().unwrap())];
    let proxy = Proxy::udp_with(backends, |spec| spec.to_backends = own());
    let peer = heard_from(&proxy, &backend, "127.0.0.5").await;
    assert_eq!(peer.ip(), ip("127.0.0.9"));
}

#[tokio::test]
async fn a_backend_of_another_family_than_the_source_is_passed_over_and_not_blamed() {
    let Ok(other) = TcpListener::bind("[::1]:0").await else {
        // The host has no IPv6.
        return;
    };
    let other = other.local_addr().unwrap();
    let v4 = Source::Own {
        v4: Some([127, 0, 0, 9].into()),
        v6: None,
    };
    let server = HttpBackend::start("b").unwrap();
    // No retry is needed for that.
    let proxy = Proxy::http_with(vec![at(other), at(server.address())], |spec| {
        spec.to_backends = from(v4);
        spec.retries = 1;
    });
    for _ in 0..6 {
        assert_eq!(proxy.get("a", "/").await.status, 200);
    }
    assert_eq!(proxy.counters_of(other).connect_failures, 0);
    let backend = who().await;
    let proxy = Proxy::tcp_with(vec![at(other), at(backend.address)], |spec| {
        spec.to_backends = from(v4);
        spec.retries = 1;
    });
    for _ in 0..6 {
        let peer = asked(&proxy, "127.0.0.5").await;
        assert_eq!(peer.ip(), ip("127.0.0.9"));
    }
    assert_eq!(proxy.counters_of(other).connect_failures, 0);
}

#[tokio::test]
async fn backends_see_the_clients_own_address() {
    if !have_root() {
        return;
    }
    let backend = who().await;
    let proxy = Proxy::tcp_with(vec![at(backend.address)], |spec| {
        spec.to_backends = from(CLIENT);
    });
    for source in ["127.0.0.5", "127.0.0.6"] {
        let peer = asked(&proxy, source).await;
        assert_eq!(peer.ip(), ip(source));
    }
    let backend = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let backends = vec![at(backend.local_addr().unwrap())];
    let proxy = Proxy::udp_with(backends, |spec| spec.to_backends = from(CLIENT));
    for source in ["127.0.0.5", "127.0.0.6"] {
        let peer = heard_from(&proxy, &backend, source).await;
        assert_eq!(peer.ip(), ip(source));
    }
}

#[tokio::test]
async fn a_connection_is_for_one_client_where_backends_see_it() {
    if !have_root() {
        return;
    }
    let server = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http_with(vec![at(server.address())], |spec| {
        spec.to_backends = from(CLIENT);
    });
    for source in ["127.0.0.5", "127.0.0.6", "127.0.0.5"] {
        let mut raw = Raw::connect_as(ip(source), proxy.address()).await.unwrap();
        for _ in 0..3 {
            let answer = raw.get("a", "/", BOUND).await.unwrap();
            assert_eq!(answer.status, 200);
        }
    }
    let seen = server.seen();
    let peers: Vec<SocketAddr> = seen.iter().map(|seen| seen.peer).collect();
    let ips: Vec<String> = peers.iter().map(|peer| peer.ip().to_string()).collect();
    let wanted = [["127.0.0.5"; 3], ["127.0.0.6"; 3], ["127.0.0.5"; 3]].concat();
    assert_eq!(ips, wanted);
    assert_eq!(peers[0], peers[2], "the client's own is kept");
    assert_ne!(peers[0], peers[6], "and is no other client's");
}

#[tokio::test]
async fn devices_that_are_not_there_are_named() {
    let server = HttpBackend::start("b").unwrap();
    let device = |name: &str| name.parse::<Interface>().ok();
    let listening = |name: &str| {
        Some(Arc::new(ListenOptions {
            interface: device(name),
            ..ListenOptions::default()
        }))
    };
    let backends = || vec![at(server.address())];
    let mut proxy = Proxy::http_with(backends(), |spec| {
        spec.listen_options = listening("lo");
        spec.to_backends = leaving(ToBackends {
            interface: device("lo"),
            ..ToBackends::default()
        });
    });
    proxy.serves().await;
    let mut web = Service::clone(&proxy.desired.services["web"]);
    Arc::make_mut(&mut web.spec).listen_options = listening("no-such0");
    let plan = Plan {
        ops: vec![Op::SetSpec(web.spec.clone())],
    };
    let [item] = proxy.plane.apply(&plan).try_into().unwrap();
    let Err(PlaneError::Listen { reason, .. }) = &item.result else {
        panic!("{:?}", item.result);
    };
    assert!(reason.contains("no device no-such0"), "{reason}");
    // What was there goes on.
    proxy.serves().await;
    // Nobody waits for it.
    let mut lost = Proxy::http_with(backends(), |spec| {
        spec.timeouts.connect = ms(600_000);
        spec.to_backends = leaving(ToBackends {
            interface: device("no-such0"),
            ..ToBackends::default()
        });
    });
    assert_eq!(lost.get("a", "/").await.status, 503);
    assert_eq!(lost.counters_of(server.address()).connect_failures, 1);
    let Ok(Event::ConnectFailed { reason, .. }) = lost.plane.events().unwrap().try_recv() else {
        panic!("nothing was told");
    };
    assert_eq!(reason, "to-backends: this host has no device no-such0");
}

#[tokio::test]
async fn an_address_that_is_not_there_costs_no_time() {
    // RFC 5737: nobody's.
    let nobodys = Source::Own {
        v4: Some([198, 51, 100, 7].into()),
        v6: None,
    };
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("s");
    let sorry = UnixListener::bind(&path).unwrap();
    let backend = who().await;
    let set = |spec: &mut plimsoll_model::ServiceSpec| {
        spec.timeouts.connect = ms(600_000);
        spec.to_backends = from(nobodys);
    };
    let mut alone = Proxy::tcp_with(vec![at(backend.address)], set);
    assert!(alone.refuses().await);
    let Ok(Event::ConnectFailed { reason, .. }) = alone.plane.events().unwrap().try_recv() else {
        panic!("nothing was told");
    };
    let wanted = "to-backends: this host has no address 198.51.100.7";
    assert_eq!(reason, wanted);
    // No way leads to the sorry server, which is a Unix socket.
    let proxy = Proxy::tcp_with(vec![at(backend.address)], |spec| {
        set(spec);
        let addr = format!("unix:{}", path.display()).parse().unwrap();
        spec.sorry = Some(Backend::new(addr, Origin::new("test", "sorry")));
    });
    let _client = proxy.connect().await;
    let accepted = tokio::time::timeout(BOUND, sorry.accept()).await;
    accepted.unwrap().unwrap();
}

#[tokio::test]
async fn a_listen_whose_options_change_loses_nobody() {
    let server = HttpBackend::start("b").unwrap();
    let mut proxy = Proxy::http(&[server.address()]);
    let mut kept = proxy.connect().await;
    assert_eq!(kept.get("a", "/", BOUND).await.unwrap().status, 200);
    let plan = |reuse| ClientPlan {
        reuse,
        tasks: 4,
        ..ClientPlan::http(proxy.address(), "a")
    };
    let clients = [
        Client::start(plan(Reuse::Never)),
        Client::start(plan(Reuse::Keep)),
    ];
    for step in 0..8_u32 {
        proxy.edit(|web| {
            let options = ListenOptions {
                fast_open: step % 3,
                interface: (step % 2 == 0).then(|| "lo".parse().unwrap()),
                transparent: false,
            };
            let options = Some(options).filter(|options| *options != ListenOptions::default());
            Arc::make_mut(&mut web.spec).listen_options = options.map(Arc::new);
        });
        for client in &clients {
            assert!(client.more(5, BOUND).await, "step {step}");
        }
    }
    for client in clients {
        client.stop().await.assert_clean();
    }
    assert_eq!(kept.get("a", "/", BOUND).await.unwrap().status, 200);
    assert!(proxy.listen().connections >= 1);
}

#[tokio::test]
async fn what_goes_along_with_the_first_packet_arrives_once() {
    let backend = who().await;
    for send in [None, Some(ProxyVersion::V1)] {
        let proxy = Proxy::tcp_with(vec![at(backend.address)], |spec| {
            spec.proxy_headers.send = send;
            spec.to_backends = leaving(ToBackends {
                fast_open: true,
                ..ToBackends::default()
            });
        });
        let bytes = pattern(100_000);
        for sent in [0, 1, 1_399, 1_400, 1_401, bytes.len()] {
            let mut client = proxy.connect().await;
            client.send(&bytes[..sent]).await.unwrap();
            client.finish().await.unwrap();
            let (got, _) = client.read_to_end(BOUND).await.unwrap();
            let got = &got[30..];
            let header = got.len() - sent;
            assert_eq!(header > 0, send.is_some());
            assert!(got[header..] == bytes[..sent], "{sent}");
        }
        proxy.settled().await;
        let counted = proxy.counters_of(backend.address);
        let all: usize = [0, 1, 1_399, 1_400, 1_401, bytes.len()].iter().sum();
        assert_eq!(counted.bytes_in, all as u64);
    }
}

#[tokio::test]
async fn a_backend_may_still_speak_first_and_refuse() {
    let backend = who().await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = closed.local_addr().unwrap();
    drop(closed);
    let proxy = Proxy::tcp_with(vec![at(gone), at(backend.address)], |spec| {
        spec.to_backends = leaving(ToBackends {
            fast_open: true,
            ..ToBackends::default()
        });
    });
    for _ in 0..4 {
        asked(&proxy, "127.0.0.5").await;
    }
    assert!(proxy.counters_of(gone).connect_failures > 0);
}
