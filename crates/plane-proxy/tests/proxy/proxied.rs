//! PROXY headers: taken from clients that may speak for others, and sent to backends.

use std::net::SocketAddr;
use std::sync::Arc;

use plimsoll_model::{Proto, ProxyVersion, SchedulerKind};
use plimsoll_plane::{Plane, Tuple};
use plimsoll_plane_proxy::proxy_header::{Ends, Parsed, ProxyHeader, parse, write};
use plimsoll_testkit::{
    Ending, HttpBackend, Raw, TcpAnswer, TcpBackend, TcpBehaviour, wait_until_async,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;

use crate::common::{BOUND, MOMENT, Proxy, Scripted, at, limited, ms};

/// A type, a length and a value that mean nothing to anybody here.
const EXTRA: [u8; 5] = [0xE0, 0, 2, 7, 8];

/// A header for a client at this address.
fn header(client: &str) -> ProxyHeader {
    ProxyHeader {
        ends: Some(Ends {
            client: client.parse().unwrap(),
            server: "203.0.113.9:80".parse().unwrap(),
        }),
        extras: EXTRA.into(),
        checksum: true,
    }
}

fn echo() -> TcpBackend {
    let backend = TcpBackend::start("b").unwrap();
    backend.behave(TcpBehaviour::answering(TcpAnswer::Echo));
    backend
}

/// TCP to an echo; the networks begin with a header.
fn introduced(backend: &TcpBackend, network: &str) -> Proxy {
    Proxy::tcp_with(vec![at(backend.address())], |spec| {
        spec.proxy_headers.accept = vec![network.parse().unwrap()];
        spec.timeouts.header = ms(500);
    })
}

/// What comes back of some bytes behind a beginning.
async fn echoed(proxy: &Proxy, begin: &[u8]) -> Raw {
    let mut client = proxy.connect().await;
    client.send([begin, b"hello"].concat()).await.unwrap();
    let back = client.read_exact(5, BOUND).await.unwrap();
    assert_eq!(back, b"hello");
    client
}

/// The clients of all flows.
fn clients(proxy: &mut Proxy) -> Vec<SocketAddr> {
    proxy.flows().iter().map(|flow| flow.client).collect()
}

/// The clients that a proxy knows of while there is one whose connection begins so, and where that
/// really is.
async fn seen_as(proxy: &mut Proxy, begin: &[u8]) -> (Vec<SocketAddr>, SocketAddr) {
    let client = echoed(proxy, begin).await;
    let seen = clients(proxy);
    let own = client.local_addr().unwrap();
    client.reset().unwrap();
    assert!(wait_until_async(BOUND, || proxy.listen().connections == 0).await);
    (seen, own)
}

#[tokio::test]
async fn a_client_is_who_the_header_names() {
    let backend = echo();
    let mut proxy = introduced(&backend, "127.0.0.0/8");
    for (client, named) in [
        ("192.0.2.7:1234", "192.0.2.7:1234"),
        ("[2001:db8::7]:1234", "[2001:db8::7]:1234"),
        ("[::ffff:192.0.2.7]:1234", "192.0.2.7:1234"),
    ] {
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            let (seen, _) = seen_as(&mut proxy, &write(version, &header(client))).await;
            assert_eq!(seen, [named.parse().unwrap()]);
        }
    }
    // Who speaks of nobody else is the client.
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let (seen, own) = seen_as(&mut proxy, version.own_header()).await;
        assert_eq!(seen, [own]);
    }
    assert_eq!(proxy.refused(400), 0);
}

#[tokio::test]
async fn a_header_may_come_in_pieces() {
    let backend = echo();
    let mut proxy = introduced(&backend, "127.0.0.0/8");
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let mut client = proxy.connect().await;
        let bytes = write(version, &header("192.0.2.7:1234"));
        let pieces: Vec<&[u8]> = bytes.chunks(7).collect();
        client.send_pieces(&pieces, ms(2)).await.unwrap();
        client.send("hello").await.unwrap();
        assert_eq!(client.read_exact(5, BOUND).await.unwrap(), b"hello");
        assert_eq!(clients(&mut proxy), ["192.0.2.7:1234".parse().unwrap()]);
        client.finish().await.unwrap();
        let end = client.read_to_end(BOUND).await.unwrap();
        assert_eq!(end, (Vec::new(), Ending::Close));
        proxy.settled().await;
    }
}

#[tokio::test]
async fn without_its_header_a_connection_ends() {
    let backend = echo();
    let proxy = introduced(&backend, "127.0.0.0/8");
    let mut wrong = write(ProxyVersion::V2, &header("192.0.2.7:1234"));
    wrong.last_mut().map(|last| *last ^= 1).unwrap();
    for begin in [
        &b"hello"[..],
        b"PROXY TCP4 1.2.3.4 5.6.7.8 9\r\n",
        b"PROXY TCP4 192.0.2.7 ",
        &wrong,
    ] {
        let mut client = proxy.connect().await;
        client.send(begin).await.unwrap();
        client.finish().await.unwrap();
        let (got, _) = client.read_to_end(BOUND).await.unwrap();
        assert!(got.is_empty());
    }
    assert!(wait_until_async(BOUND, || proxy.refused(400) == 4).await);
    // Nobody waits for ever.
    let mut silent = proxy.connect().await;
    let (got, _) = silent.read_to_end(BOUND).await.unwrap();
    assert!(got.is_empty());
    assert!(wait_until_async(BOUND, || proxy.refused(408) == 1).await);
    // Somebody who only looks whether the port is open has done nothing wrong.
    proxy.connect().await.finish().await.unwrap();
    assert!(wait_until_async(BOUND, || proxy.listen().connections == 0).await);
    assert_eq!((proxy.refused(400), proxy.refused(408)), (4, 1));
    assert_eq!(backend.stats().connections, 0);
}

#[tokio::test]
async fn what_others_send_is_data() {
    let backend = echo();
    let mut proxy = introduced(&backend, "192.0.2.0/24");
    let line = b"PROXY TCP4 192.0.2.7 203.0.113.9 1234 80\r\n";
    let mut client = proxy.connect().await;
    client.send(line).await.unwrap();
    assert_eq!(client.read_exact(line.len(), BOUND).await.unwrap(), line);
    assert_eq!(clients(&mut proxy), [client.local_addr().unwrap()]);
    // And so it is from the next connection on where the networks change.
    proxy.edit(|web| {
        let accept = &mut Arc::make_mut(&mut web.spec).proxy_headers.accept;
        accept[0] = "127.0.0.0/8".parse().unwrap();
    });
    echoed(&proxy, line).await;
    client.send("more").await.unwrap();
    assert_eq!(client.read_exact(4, BOUND).await.unwrap(), b"more");
}

#[tokio::test]
async fn a_client_keeps_its_backend_by_the_address_in_the_header() {
    let backends = [
        HttpBackend::start("b1").unwrap(),
        HttpBackend::start("b2").unwrap(),
    ];
    let all = backends.iter().map(|b| at(b.address())).collect();
    let proxy = Proxy::http_with(all, |spec| {
        spec.proxy_headers.accept = vec!["127.0.0.0/8".parse().unwrap()];
        spec.scheduler.kind = SchedulerKind::Sh;
    });
    let mut used = [0, 0];
    for i in 0..40 {
        let name = format!("192.0.2.{i}:1");
        let before = backends.each_ref().map(|b| b.seen().len());
        for _ in 0..2 {
            let mut client = proxy.connect().await;
            client
                .send(write(ProxyVersion::V1, &header(&name)))
                .await
                .unwrap();
            let answer = client.get("a", "/", BOUND).await.unwrap();
            assert_eq!(answer.status, 200);
        }
        let after = backends.each_ref().map(|b| b.seen().len());
        let got = [after[0] - before[0], after[1] - before[1]];
        assert!(got == [2, 0] || got == [0, 2], "{got:?}");
        used = [used[0] + got[0], used[1] + got[1]];
    }
    assert!(used[0] > 0 && used[1] > 0, "{used:?}");
}

/// Bytes of a connection that are a header, and what follows.
async fn read_header(stream: &mut TcpStream) -> (ProxyHeader, Vec<u8>) {
    let mut got = Vec::new();
    loop {
        if let Parsed::Whole(header, length) = parse(&got).unwrap() {
            return (header, got.split_off(length));
        }
        assert!(stream.read_buf(&mut got).await.unwrap() > 0, "{got:?}");
    }
}

/// A backend that tells of the header of each connection, and then echoes.
async fn telling() -> (Scripted, mpsc::UnboundedReceiver<ProxyHeader>) {
    let (tell, told) = mpsc::unbounded_channel();
    let backend = Scripted::start(move |mut stream| {
        let tell = tell.clone();
        async move {
            let (header, rest) = read_header(&mut stream).await;
            tell.send(header).unwrap();
            stream.write_all(&rest).await.unwrap();
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        }
    });
    (backend.await, told)
}

#[tokio::test]
async fn a_backend_is_told_of_the_client() {
    let (backend, mut told) = telling().await;
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let proxy = Proxy::tcp_with(vec![at(backend.address)], |spec| {
            spec.proxy_headers.send = Some(version);
        });
        let client = echoed(&proxy, b"").await;
        let ends = Ends {
            client: client.local_addr().unwrap(),
            server: proxy.address(),
        };
        let wanted = ProxyHeader {
            ends: Some(ends),
            ..ProxyHeader::default()
        };
        assert_eq!(told.recv().await, Some(wanted));
        let counted = proxy.counters_of(backend.address);
        assert_eq!(counted.requests, 1);
    }
}

#[tokio::test]
async fn a_backend_is_told_what_the_proxy_before_said() {
    let (backend, mut told) = telling().await;
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let proxy = Proxy::tcp_with(vec![at(backend.address)], |spec| {
            spec.proxy_headers.accept = vec!["127.0.0.0/8".parse().unwrap()];
            spec.proxy_headers.send = Some(version);
        });
        let said = header("[2001:db8::7]:1234");
        echoed(&proxy, &write(ProxyVersion::V2, &said)).await;
        let wanted = match version {
            ProxyVersion::V2 => said,
            ProxyVersion::V1 => ProxyHeader {
                extras: Box::default(),
                checksum: false,
                ..said
            },
        };
        // Version 1 has one family to a line.
        let got = told.recv().await.unwrap();
        let canonical = |h: &ProxyHeader| h.ends.map(|e| (e.client, e.server.ip().to_canonical()));
        assert_eq!(canonical(&got), canonical(&wanted));
        assert_eq!((got.extras, got.checksum), (wanted.extras, wanted.checksum));
        // Who speaks of nobody: its own connection is the client's.
        let client = echoed(&proxy, version.own_header()).await;
        let got = told.recv().await.unwrap();
        assert_eq!(got.ends.unwrap().client, client.local_addr().unwrap());
    }
}

/// HTTP to `backend` over a second proxy, which hears of clients from the first.
fn chain(backend: &HttpBackend, version: ProxyVersion) -> (Proxy, Proxy) {
    let second = Proxy::http_with(vec![at(backend.address())], |spec| {
        spec.proxy_headers.accept = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let first = Proxy::http_with(vec![at(second.address())], |spec| {
        spec.proxy_headers.send = Some(version);
    });
    (first, second)
}

#[tokio::test]
async fn http_clients_are_not_taken_for_each_other() {
    let backend = HttpBackend::start("b").unwrap();
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let (first, second) = chain(&backend, version);
        let mut all = Vec::new();
        for i in 1..5 {
            let ip: std::net::IpAddr = [127, 0, 0, i].into();
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind((ip, 0).into()).unwrap();
            let stream = socket.connect(first.address()).await.unwrap();
            all.push((ip, Raw::over(stream)));
        }
        for _ in 0..5 {
            for (ip, client) in &mut all {
                let answer = client.get("a", "/", BOUND).await.unwrap();
                assert_eq!(answer.status, 200);
                let seen = backend.seen().pop().unwrap().head;
                assert_eq!(seen.get("x-forwarded-for"), Some(&*ip.to_string()));
            }
        }
        // Each has one connection all the time, which ends with its own.
        assert_eq!(first.counters_of(second.address()).connections, 4);
        assert_eq!(second.listen().connections, 4);
        drop(all);
        assert!(wait_until_async(BOUND, || second.listen().connections == 0).await);
    }
}

#[tokio::test]
async fn a_backend_with_one_place_is_shared_by_clients_in_turn() {
    // It takes the next connection when the one before has ended.
    let backend = Scripted::one_by_one(|mut stream| async move {
        let (_, mut got) = read_header(&mut stream).await;
        loop {
            while !got.ends_with(b"\r\n\r\n") {
                match stream.read_buf(&mut got).await {
                    Ok(n) if n > 0 => {}
                    _ => return,
                }
            }
            got.clear();
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let proxy = Proxy::http_with(vec![limited(backend.address, 1)], |spec| {
        spec.proxy_headers.send = Some(ProxyVersion::V2);
    });
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(proxy.connect().await);
    }
    for _ in 0..2 {
        for client in &mut clients {
            assert_eq!(client.get("a", "/", BOUND).await.unwrap().status, 200);
        }
    }
}

#[tokio::test]
async fn what_a_client_keeps_at_a_backend_goes_when_the_backend_does() {
    let backend = HttpBackend::start("b").unwrap();
    let (mut first, second) = chain(&backend, ProxyVersion::V2);
    let mut client = first.connect().await;
    assert_eq!(client.get("a", "/", BOUND).await.unwrap().status, 200);
    tokio::time::sleep(MOMENT).await;
    assert_eq!(
        second.listen().connections,
        1,
        "it is kept for the next request"
    );
    first.remove_backend(second.address());
    assert!(wait_until_async(BOUND, || second.listen().connections == 0).await);
    assert_eq!(client.get("a", "/", BOUND).await.unwrap().status, 503);
}

#[tokio::test]
async fn explain_says_who_begins_with_a_header() {
    let backend = echo();
    let proxy = introduced(&backend, "127.0.0.0/8");
    let told = |client: &str| {
        let explained = proxy.plane.explain(&Tuple {
            client: format!("{client}:1").parse().unwrap(),
            destination: proxy.address(),
            proto: Proto::Tcp,
            host: None,
            path: None,
        });
        let mut steps = explained.steps.iter();
        steps.any(|step| step.contains("begin with a PROXY header"))
    };
    assert!(told("127.0.0.1"));
    assert!(!told("192.0.2.1"));
}
