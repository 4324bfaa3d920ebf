//! Ports towards a backend that run out: others are taken, and nobody is blamed.

use std::fs;

use plimsoll_model::{Backend, RetryOn, SchedulerKind, ServiceSpec};
use plimsoll_testkit::{HttpBackend, Namespace, Raw, root_or_skip, wait_until_async};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use crate::common::{BOUND, Proxy, Scripted, at, loopback, ms};

/// Runs in a namespace of its own.
fn apart(test: &str, work: impl AsyncFnOnce() + Send + 'static) {
    if !root_or_skip(test) {
        return;
    }
    let run = move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(work());
    };
    let namespace = Namespace::new("short").unwrap();
    namespace.run(run).unwrap();
}

/// From now on there are four ports for connections to one place.
fn leave_four_ports() {
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40003").unwrap();
}

/// A backend that goes before others.
fn preferred(backend: &Scripted) -> Backend {
    Backend {
        weight: 2,
        ..at(backend.address)
    }
}

/// To the first as long as it can be; nothing else lets a client go on to another.
fn first_of_all(spec: &mut ServiceSpec) {
    spec.scheduler.kind = SchedulerKind::Fo;
    spec.timeouts.connect = ms(600_000);
    spec.retries = 0;
    spec.retry.on = RetryOn::none();
}

/// A backend that says who it is, and then nothing until the other end has gone.
async fn calls_itself(name: &'static [u8; 1]) -> Scripted {
    Scripted::start(async move |mut stream| {
        // The client may be gone.
        let _ = stream.write_all(name).await;
        let _ = stream.read(&mut [0]).await;
    })
    .await
}

/// A connection by way of the proxy, from a port of which there is no lack.
async fn from(proxy: &Proxy, n: u16) -> Raw {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((loopback(), 50_000 + n).into()).unwrap();
    Raw::over(socket.connect(proxy.address()).await.unwrap())
}

#[test]
fn a_connection_goes_on_to_a_backend_with_ports_left() {
    apart(
        "a_connection_goes_on_to_a_backend_with_ports_left",
        async || {
            let (first, second) = (calls_itself(b"a").await, calls_itself(b"b").await);
            let backends = vec![preferred(&first), at(second.address)];
            leave_four_ports();
            let proxy = Proxy::tcp_with(backends, first_of_all);
            let mut clients = Vec::new();
            let mut heard = String::new();
            for n in 1..=8 {
                let mut client = from(&proxy, n).await;
                let said = client.read_exact(1, BOUND).await.unwrap();
                heard.push(char::from(said[0]));
                clients.push(client);
            }
            assert_eq!(heard, "aaaabbbb");
            // Where none has a port left, one is waited for.
            let mut late = from(&proxy, 9).await;
            clients.remove(0).reset().unwrap();
            late.read_exact(1, BOUND).await.unwrap();
            for backend in [first.address, second.address] {
                let counted = proxy.counters_of(backend);
                assert_eq!((counted.connect_failures, counted.failures), (0, 0));
            }
        },
    );
}

#[test]
fn a_request_goes_on_to_a_backend_with_ports_left() {
    apart(
        "a_request_goes_on_to_a_backend_with_ports_left",
        async || {
            let silent =
                Scripted::start(
                    async |mut stream| {
                        while stream.read(&mut [0; 1024]).await.is_ok_and(|n| n > 0) {}
                    },
                )
                .await;
            let other = HttpBackend::start("b").unwrap();
            let backends = vec![preferred(&silent), at(other.address())];
            leave_four_ports();
            let proxy = Proxy::http_with(backends, |spec| {
                first_of_all(spec);
                spec.timeouts.response = ms(600_000);
            });
            let mut clients = Vec::new();
            for n in 1..=4 {
                let mut client = from(&proxy, n).await;
                client
                    .send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                    .await
                    .unwrap();
                clients.push(client);
            }
            let taken = wait_until_async(BOUND, || silent.accepted() == 4).await;
            assert!(taken, "{}", silent.accepted());
            let mut client = from(&proxy, 5).await;
            assert_eq!(client.get("a", "/", BOUND).await.unwrap().status, 200);
            assert_eq!(proxy.counters_of(silent.address).connect_failures, 0);
            assert_eq!(proxy.counters_of(silent.address).active, 4);
        },
    );
}
