//! TCP: bytes both ways, ends and resets.

use plimsoll_testkit::{
    Client, ClientPlan, Ending, Port, Reuse, TcpAnswer, TcpBackend, TcpBehaviour, wait_until_async,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::common::{BOUND, MOMENT, Proxy, Scripted, ms, pattern, timed};

fn backend(answer: TcpAnswer) -> TcpBackend {
    let backend = TcpBackend::start("b").unwrap();
    backend.behave(TcpBehaviour::answering(answer));
    backend
}

#[tokio::test]
async fn exchanges_small_and_large_come_back_whole() {
    let (one, two) = (
        TcpBackend::start("b1").unwrap(),
        TcpBackend::start("b2").unwrap(),
    );
    let proxy = Proxy::tcp(&[one.address(), two.address()]);
    for (reuse, requests) in [(Reuse::Keep, 400), (Reuse::Never, 60)] {
        let plan = ClientPlan {
            want: vec![1, 64 * 1024, 300, 1_000_000],
            reuse,
            ..ClientPlan::tcp(proxy.address())
        };
        let report = Client::run(plan, requests).await;
        report.assert_clean();
        assert!(report.of("b1") > 0 && report.of("b2") > 0, "{report}");
    }
    proxy.settled().await;
}

#[tokio::test]
async fn eight_mebibytes_go_both_ways_at_once() {
    let backend = backend(TcpAnswer::Echo);
    let proxy = Proxy::tcp(&[backend.address()]);
    let bytes = pattern(8 << 20);
    let (mut read, mut write) = TcpStream::connect(proxy.address())
        .await
        .unwrap()
        .into_split();
    let (sent, mut got) = (bytes.clone(), Vec::new());
    let sending = tokio::spawn(async move {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    });
    tokio::time::timeout(BOUND, read.read_to_end(&mut got))
        .await
        .unwrap()
        .unwrap();
    sending.await.unwrap();
    assert!(
        got == bytes,
        "{} bytes of {} came back",
        got.len(),
        bytes.len()
    );
    proxy.settled().await;
    let counted = proxy.counters_of(backend.address());
    assert_eq!((counted.bytes_in, counted.bytes_out), (8 << 20, 8 << 20));
    assert_eq!((counted.connections, counted.requests), (1, 1));
}

#[tokio::test]
async fn a_reader_that_stops_holds_back_the_writer_and_loses_nothing() {
    let backend = backend(TcpAnswer::Echo);
    let proxy = Proxy::tcp(&[backend.address()]);
    // More than all the sockets on the way can hold.
    let bytes = pattern(1 << 20).repeat(96);
    let (mut read, mut write) = TcpStream::connect(proxy.address())
        .await
        .unwrap()
        .into_split();
    let sent = bytes.clone();
    let sending = tokio::spawn(async move {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    });
    tokio::time::sleep(MOMENT).await;
    assert!(!sending.is_finished(), "96 MiB are held by nobody");
    let mut got = Vec::new();
    tokio::time::timeout(BOUND, read.read_to_end(&mut got))
        .await
        .unwrap()
        .unwrap();
    sending.await.unwrap();
    assert!(
        got == bytes,
        "{} bytes of {} came back",
        got.len(),
        bytes.len()
    );
}

#[tokio::test]
async fn a_client_that_is_done_still_gets_its_answer() {
    let backend = backend(TcpAnswer::Sum);
    let proxy = Proxy::tcp(&[backend.address()]);
    for length in [0, 10, 1_000_000] {
        let mut client = proxy.connect().await;
        client.send(pattern(length)).await.unwrap();
        client.finish().await.unwrap();
        let (answer, ending) = client.read_to_end(BOUND).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with(&format!("b {length} ")), "{answer}");
        assert_eq!(ending, Ending::Close);
    }
}

#[tokio::test]
async fn a_backend_that_is_done_still_gets_what_the_client_sends() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let backend = Scripted::start(move |mut stream| {
        let told = told.clone();
        async move {
            stream.write_all(b"bye").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut got = Vec::new();
            stream.read_to_end(&mut got).await.unwrap();
            told.send(got).unwrap();
        }
    })
    .await;
    let proxy = Proxy::tcp(&[backend.address]);
    let mut client = proxy.connect().await;
    assert_eq!(
        client.read_to_end(BOUND).await.unwrap(),
        (b"bye".to_vec(), Ending::Close)
    );
    let bytes = pattern(300_000);
    client.send(&bytes).await.unwrap();
    client.finish().await.unwrap();
    let got = tokio::time::timeout(BOUND, heard.recv())
        .await
        .unwrap()
        .unwrap();
    assert!(got == bytes, "{} bytes", got.len());
}

#[tokio::test]
async fn a_client_that_resets_is_a_reset_to_the_backend() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let backend = Scripted::start(move |mut stream| {
        let told = told.clone();
        async move {
            let mut got = Vec::new();
            let ended = stream.read_to_end(&mut got).await.map_err(|e| e.kind());
            told.send((got.len(), ended)).unwrap();
        }
    })
    .await;
    let proxy = Proxy::tcp(&[backend.address]);
    // Copied, and spliced.
    for length in [10, 4 << 20] {
        let mut client = proxy.connect().await;
        client.send(vec![b'x'; length]).await.unwrap();
        let arrived = || proxy.counters_of(backend.address).bytes_in >= length as u64;
        if length == 10 {
            assert!(wait_until_async(BOUND, arrived).await);
        }
        client.reset().unwrap();
        let (got, ended) = tokio::time::timeout(BOUND, heard.recv())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            ended,
            Err(std::io::ErrorKind::ConnectionReset),
            "{got} bytes"
        );
    }
    proxy.settled().await;
}

#[tokio::test]
async fn a_backend_that_resets_is_a_reset_to_the_client() {
    let backend = backend(TcpAnswer::CutAtOnce(Ending::Reset));
    let proxy = Proxy::tcp(&[backend.address()]);
    let (got, ending) = proxy.connect().await.read_to_end(BOUND).await.unwrap();
    assert_eq!((got.len(), ending), (0, Ending::Reset));
    backend.behave(TcpBehaviour::answering(TcpAnswer::CutHalfway(
        Ending::Reset,
    )));
    for length in [1000, 1 << 20] {
        let mut client = proxy.connect().await;
        client.send(format!("id {length}\n")).await.unwrap();
        client.send(pattern(length)).await.unwrap();
        let (got, ending) = client.read_to_end(BOUND).await.unwrap();
        assert!(got.len() < length, "{} bytes of {length}", got.len());
        assert_eq!(ending, Ending::Reset, "a part must not look like the whole");
    }
    backend.behave(TcpBehaviour::answering(TcpAnswer::CutHalfway(
        Ending::Close,
    )));
    let mut client = proxy.connect().await;
    client.send("id 1000\n").await.unwrap();
    client.send(pattern(1000)).await.unwrap();
    let (got, ending) = client.read_to_end(BOUND).await.unwrap();
    assert!(
        got.len() > 400 && ending == Ending::Close,
        "{} {ending:?}",
        got.len()
    );
    drop(client);
    proxy.settled().await;
}

#[tokio::test]
async fn a_backend_that_refuses_is_passed_over() {
    let (dead, good) = (Port::take().unwrap(), TcpBackend::start("good").unwrap());
    let proxy = Proxy::tcp(&[dead.address(), good.address()]);
    let plan = ClientPlan {
        reuse: Reuse::Never,
        ..ClientPlan::tcp(proxy.address())
    };
    let report = Client::run(plan, 50).await;
    report.assert_clean();
    let counted = proxy.counters_of(dead.address());
    assert!(counted.connect_failures > 0 && counted.retries == counted.connect_failures);
    assert_eq!(
        (counted.requests, counted.connections, counted.active),
        (0, 0, 0)
    );
    assert_eq!(proxy.counters().unserved, 0);
}

#[tokio::test]
async fn a_client_that_nothing_can_serve_is_refused_at_once() {
    let (dead, deader) = (Port::take().unwrap(), Port::take().unwrap());
    for backends in [vec![], vec![dead.address(), deader.address()]] {
        let proxy = Proxy::tcp(&backends);
        let (refused, took) = timed(proxy.refuses()).await;
        assert!(refused);
        assert!(took < ms(1000), "{took:?}");
        assert!(wait_until_async(BOUND, || proxy.counters().unserved == 1).await);
        assert_eq!(proxy.counters().total, 1);
        proxy.settled().await;
    }
}

#[tokio::test]
async fn ipv6_and_several_ports_lead_to_the_same_service() {
    use plimsoll_model::{Listen, Proto};
    let backend = TcpBackend::start("b").unwrap();
    let (four, both) = (Port::take().unwrap(), Port::take().unwrap());
    let mut proxy = Proxy::tcp(&[backend.address()]);
    proxy.edit(|web| {
        let listens = &mut std::sync::Arc::make_mut(&mut web.spec).listens;
        listens.push(Listen::socket(
            four.address().ip(),
            four.number(),
            Proto::Tcp,
        ));
        listens.push(Listen::socket(None, both.number(), Proto::Tcp));
    });
    let v6 = std::net::SocketAddr::new(std::net::Ipv6Addr::LOCALHOST.into(), both.number());
    let mut targets = vec![proxy.address(), four.address(), both.address()];
    if std::net::TcpListener::bind((std::net::Ipv6Addr::LOCALHOST, 0)).is_ok() {
        targets.push(v6);
    }
    for target in targets {
        Client::run(ClientPlan::tcp(target), 10)
            .await
            .assert_clean();
    }
}
