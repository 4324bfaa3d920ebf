//! Clients that send too much, too slowly, or go away at any moment.

use plimsoll_testkit::{
    Answer, Client, ClientPlan, HttpBackend, HttpBehaviour, Raw, WireError, wait_until_async,
};

use crate::common::{BOUND, MOMENT, Proxy, at, limited, ms};

/// Sends a beginning and then the same piece again and again, up to 100 MiB, until it is refused;
/// how much could be sent, and the answer.
async fn flood(proxy: &Proxy, begin: &str, piece: &str) -> (usize, u16) {
    const ENDLESS: usize = 100 << 20;
    let mut client = proxy.connect().await;
    client.send(begin).await.unwrap();
    let chunk = piece.repeat(65_536 / piece.len());
    let mut sent = begin.len();
    while sent < ENDLESS {
        match tokio::time::timeout(BOUND, client.send(&chunk)).await {
            Ok(Ok(())) => sent += chunk.len(),
            Ok(Err(_)) => break,
            Err(_) => panic!("{begin:?}: neither read nor closed"),
        }
    }
    let answer = client.read_response(BOUND).await;
    let answer = answer.unwrap_or_else(|error| panic!("{begin:?} after {sent} bytes: {error}"));
    (sent, answer.status)
}

#[tokio::test]
async fn what_never_ends_is_cut_early() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    let get = "GET / HTTP/1.1\r\nHost: a\r\n";
    let post = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (begin, piece, expected, reaches) in [
        (format!("{get}X: "), "aaaaaaaa", 431, false),
        (get.to_owned(), "X: aaaa\r\n", 431, false),
        ("GET /".to_owned(), "aaaaaaaa", 414, false),
        (String::new(), "aaaaaaaa", 414, false),
        (String::new(), "\r\n", 431, false),
        (format!("{post}5;"), "aaaaaaaa", 400, true),
        (format!("{post}0\r\nT: "), "aaaaaaaa", 400, true),
        (format!("{post}0\r\n"), "T: aaaa\r\n", 400, true),
    ] {
        let (sent, status) = flood(&proxy, &begin, piece).await;
        assert_eq!(status, expected, "{begin:?} {piece:?}");
        assert!(sent < 20 << 20, "{begin:?}: {sent} bytes were taken");
        assert!(reaches || backend.stats().connections == 0, "{begin:?}");
    }
    assert!(
        backend.seen().iter().all(|seen| seen.body.is_none()),
        "no part is a whole"
    );
    proxy.settled().await;
    proxy.serves().await;
}

#[tokio::test]
async fn a_hundred_thousand_fields_are_431() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    let fields = |count: usize| {
        (0..count)
            .map(|n| format!("X-{n}: a\r\n"))
            .collect::<String>()
    };
    for (count, expected) in [(99, 200), (100, 431), (100_000, 431)] {
        let mut client = proxy.connect().await;
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", fields(count));
        // The rest may find nobody who reads it.
        let _ = client.send(head).await;
        let answer = client.read_response(BOUND).await.unwrap();
        assert_eq!(
            (answer.status, answer.closes()),
            (expected, expected != 200),
            "{count}"
        );
    }
    assert_eq!(backend.stats().requests, 1);
    assert_eq!(
        backend.seen()[0].head.all("x-98").count(),
        1,
        "100 with the Host come through"
    );
    assert_eq!(proxy.refused(431), 2);
}

#[tokio::test]
async fn slow_clients_take_nothing_from_others() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http_with(vec![limited(backend.address(), 2)], |spec| {
        spec.timeouts.header = ms(1_000);
    });
    let mut slow = Vec::new();
    for n in 0..300 {
        let mut client = proxy.connect().await;
        let head = [
            "G",
            "GET / HTTP/1.1\r\nHost: a\r\nX: ",
            "GET / HTTP/1.1\r\nHost: a\r\n",
        ][n % 3];
        client.send(head).await.unwrap();
        slow.push(client);
    }
    let report = Client::run(ClientPlan::http(proxy.address(), "a"), 300).await;
    report.assert_clean();
    assert!(report.slowest < ms(2_000), "{report}");
    assert_eq!(
        backend.stats().requests,
        300,
        "none of the slow ones has reached it"
    );
    for mut client in slow {
        assert_eq!(client.read_response(BOUND).await.unwrap().status, 408);
    }
    let gone = || proxy.listen().connections == 0;
    assert!(wait_until_async(BOUND, gone).await, "{:?}", proxy.listen());
}

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const ASK: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";

/// Every moment at which a client can go away: what it has sent, how the backend behaves, and
/// whether the backend has got a request by then.
fn moments() -> Vec<(&'static str, String, HttpBehaviour, bool)> {
    let good = HttpBehaviour::default;
    let never = || HttpBehaviour::answering(Answer::Never);
    let slow = || HttpBehaviour {
        bytes: 100_000,
        ..HttpBehaviour::answering(Answer::Slow {
            piece: 1_000,
            pause: ms(30),
        })
    };
    let refusing = || HttpBehaviour {
        upgrade: false,
        ..never()
    };
    vec![
        ("connected", String::new(), good(), false),
        ("in the first line", "GET /".into(), good(), false),
        ("in a head", GET[..20].into(), good(), false),
        ("waiting for an answer", GET.into(), never(), true),
        ("with more requests behind", GET.repeat(5), never(), true),
        ("in a body", format!("{POST}abc"), good(), true),
        ("in a chunk", CHUNKED.into(), good(), true),
        ("reading a body", GET.into(), slow(), true),
        ("waiting for an upgrade", ASK.into(), refusing(), true),
        ("in a tunnel", ASK.into(), good(), true),
        (
            "with bytes before a tunnel",
            format!("{ASK}early"),
            refusing(),
            true,
        ),
    ]
}

#[tokio::test]
async fn clients_may_go_away_at_any_moment() {
    for (moment, sent, behaviour, reaches) in moments() {
        for reset in [true, false] {
            let backend = HttpBackend::start("b").unwrap();
            backend.behave(behaviour.clone());
            let proxy = Proxy::http_with(vec![limited(backend.address(), 1)], |_| {});
            let mut client = proxy.connect().await;
            client.send(&sent).await.unwrap();
            if reaches {
                let got = || backend.stats().requests == 1;
                assert!(wait_until_async(BOUND, got).await, "{moment}");
            }
            match moment {
                "reading a body" => drop(client.read_exact(2_000, BOUND).await.unwrap()),
                "in a tunnel" => drop(client.read_head(BOUND).await.unwrap()),
                _ => {}
            }
            if reset {
                client.reset().unwrap();
            } else {
                drop(client);
            }
            proxy.settled().await;
            let told = || backend.stats().active == 0;
            assert!(
                wait_until_async(BOUND, told).await,
                "{moment}: the backend works on"
            );
            backend.behave(HttpBehaviour::default());
            proxy.serves().await;
            let gone = || proxy.listen().connections == 0;
            assert!(
                wait_until_async(BOUND, gone).await,
                "{moment}: {:?}",
                proxy.listen()
            );
            let counted = proxy.counters_of(backend.address());
            assert_eq!(
                counted.failures, 0,
                "{moment}: it is not the backend's fault"
            );
        }
    }
}

#[tokio::test]
async fn a_client_that_resets_breaks_its_request_for_the_backend() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    for begun in [POST.to_owned() + "abc", CHUNKED.to_owned()] {
        let before = backend.stats().requests;
        let mut client = proxy.connect().await;
        client.send(begun).await.unwrap();
        assert!(wait_until_async(BOUND, || backend.stats().requests > before).await);
        drop(client);
        assert!(wait_until_async(BOUND, || backend.stats().active == 0).await);
        assert_eq!(
            backend.seen().pop().unwrap().body,
            None,
            "no part is a whole"
        );
    }
    proxy.settled().await;
    assert_eq!(proxy.counters_of(backend.address()).failures, 0);
}

#[tokio::test]
async fn a_crowd_that_comes_and_goes_leaves_nothing_behind() {
    let backend = HttpBackend::start("b").unwrap();
    backend.behave(HttpBehaviour::slow(ms(20)));
    let proxy = Proxy::http_with(vec![limited(backend.address(), 3)], |_| {});
    let good = Client::start(ClientPlan::http(proxy.address(), "a"));
    for round in 0..8 {
        let mut crowd: Vec<Raw> = Vec::new();
        for n in 0..40 {
            let mut client = proxy.connect().await;
            client.send(&GET[..GET.len() - (n % 3) * 10]).await.unwrap();
            crowd.push(client);
        }
        tokio::time::sleep(ms(10 * round)).await;
        for client in crowd {
            client.reset().unwrap();
        }
    }
    assert!(good.more(50, BOUND).await);
    good.stop().await.assert_clean();
    proxy.settled().await;
    let gone = || proxy.listen().connections == 0;
    assert!(wait_until_async(BOUND, gone).await, "{:?}", proxy.listen());
}

#[tokio::test]
async fn what_follows_a_refusal_is_not_read_for_long() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http_with(vec![at(backend.address())], |spec| spec.max_body = 10);
    // One that drips on after its refusal, and does not close.
    let mut client = proxy.connect().await;
    client.send(POST).await.unwrap();
    let answer = client.read_response(BOUND).await.unwrap();
    assert_eq!(answer.status, 413);
    let dripping = async {
        while client.send("x").await.is_ok() {
            tokio::time::sleep(ms(20)).await;
        }
    };
    assert!(
        tokio::time::timeout(BOUND, dripping).await.is_ok(),
        "it is closed all the same"
    );
    // One that has been answered and neither reads nor closes.
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/9.9\r\n\r\n").await.unwrap();
    let gone = || proxy.listen().connections == 0;
    assert!(wait_until_async(BOUND, gone).await, "{:?}", proxy.listen());
    let end: Result<_, WireError> = client.read_response(MOMENT).await;
    assert_eq!(end.unwrap().status, 505);
}
