//! Requests that their clients say are the last of their connections.
//!
//! hyper does not get to know where it can be avoided, so that it can serve others afterwards. Only
//! the client must see that its connection is over.

use std::net::SocketAddr;
use std::process::Command;

use plimsoll_testkit::{
    Answer, Client, ClientPlan, Ending, HttpBackend, HttpBehaviour, ID_HEADER, Raw, Response,
    Reuse, finish, wait_until_async,
};

use crate::common::{BOUND, Proxy, ms, put_route, route};

pub(crate) const CLOSE: &str = "Connection: close\r\n";

fn request(method: &str, id: &str, more: &str) -> String {
    format!("{method} /{id} HTTP/1.1\r\nHost: a\r\n{ID_HEADER}: {id}\r\n{more}\r\n")
}

pub(crate) fn get(id: &str, more: &str) -> String {
    request("GET", id, more)
}

/// Reads the answer to a request that was the last: it says so, once, and nothing comes after it.
pub(crate) async fn last_answer(client: &mut Raw, method: &str) -> Response {
    let answer = client.read_response_to(method, BOUND).await.unwrap();
    let said: Vec<&str> = answer.head.all("connection").collect();
    assert_eq!(said, ["close"], "{:?}", answer.head);
    let (rest, ending) = client.read_to_end(BOUND).await.unwrap();
    assert!(rest.is_empty(), "{}", rest.escape_ascii());
    assert_eq!(ending, Ending::Close);
    answer
}

/// Sends a last request on a connection of its own.
pub(crate) async fn last(proxy: &Proxy, method: &str, id: &str) -> Response {
    let mut client = proxy.connect().await;
    client.send(request(method, id, CLOSE)).await.unwrap();
    last_answer(&mut client, method).await
}

#[tokio::test]
async fn everybody_gets_his_own_answer_and_is_closed() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    let mut kept = proxy.connect().await;
    for n in 0..100 {
        let id = format!("c{n}");
        let answer = last(&proxy, "GET", &id).await;
        assert_eq!(answer.head.get(ID_HEADER), Some(id.as_str()), "{answer:?}");
        assert!(answer.status == 200 && answer.head.start.starts_with("HTTP/1.1 200"));
        // Between them one that stays, and sees nothing of all this.
        let id = format!("k{n}");
        kept.send(get(&id, "")).await.unwrap();
        let answer = kept.read_response(BOUND).await.unwrap();
        assert_eq!(answer.head.get(ID_HEADER), Some(id.as_str()), "{answer:?}");
        assert_eq!(answer.head.get("connection"), None, "{answer:?}");
    }
    assert_eq!(backend.stats().requests, 200);
    let plan = ClientPlan {
        reuse: Reuse::Never,
        post_every: 4,
        want: vec![0, 300, 100_000],
        ..ClientPlan::http(proxy.address(), "a")
    };
    Client::run(plan, 400).await.assert_clean();
    drop(kept);
    assert!(wait_until_async(BOUND, || proxy.listen().connections == 0).await);
    proxy.settled().await;
}

#[tokio::test]
async fn the_last_of_several_requests_closes() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    // One after the other, where the last comes alone.
    let mut client = proxy.connect().await;
    for id in ["1", "2", "3"] {
        client.send(get(id, "")).await.unwrap();
        let answer = client.read_response(BOUND).await.unwrap();
        assert!(answer.head.get(ID_HEADER) == Some(id) && !answer.closes());
    }
    client.send(get("4", CLOSE)).await.unwrap();
    let answer = last_answer(&mut client, "GET").await;
    assert_eq!(answer.head.get(ID_HEADER), Some("4"));
    // All at once, where it is behind others; whole, and cut anywhere.
    let all = [get("1", ""), get("2", ""), get("3", CLOSE)].concat();
    for size in [1_000, 90, 40, 7] {
        let mut client = proxy.connect().await;
        let pieces: Vec<&[u8]> = all.as_bytes().chunks(size).collect();
        client.send_pieces(&pieces, ms(1)).await.unwrap();
        for id in ["1", "2"] {
            let answer = client.read_response(BOUND).await.unwrap();
            assert!(answer.head.get(ID_HEADER) == Some(id) && !answer.closes());
        }
        let answer = last_answer(&mut client, "GET").await;
        assert_eq!(answer.head.get(ID_HEADER), Some("3"), "pieces of {size}");
    }
    // Behind one whose answer is still on its way.
    backend.behave(HttpBehaviour::slow(ms(100)));
    let mut client = proxy.connect().await;
    client.send(get("1", "")).await.unwrap();
    assert!(wait_until_async(BOUND, || backend.stats().active == 1).await);
    client.send(get("2", CLOSE)).await.unwrap();
    let answer = client.read_response(BOUND).await.unwrap();
    assert!(answer.head.get(ID_HEADER) == Some("1") && !answer.closes());
    let answer = last_answer(&mut client, "GET").await;
    assert_eq!(answer.head.get(ID_HEADER), Some("2"));
    proxy.settled().await;
}

#[tokio::test]
async fn answers_of_every_shape_say_it_once() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    let chunked = |chunk, trailers| Answer::Chunked { chunk, trailers };
    for (answer, bytes) in [
        (Answer::Length, 0),
        (Answer::Length, 1 << 20),
        (chunked(100, Vec::new()), 5_000),
        (chunked(64 << 10, Vec::new()), 1 << 20),
        (chunked(7, vec![("Sum".into(), "1".into())]), 100),
        (Answer::UntilClose, 50_000),
        (
            Answer::Slow {
                piece: 13,
                pause: ms(1),
            },
            500,
        ),
    ] {
        backend.behave(HttpBehaviour {
            bytes,
            // A backend says it of its own connection.
            headers: vec![("Connection".into(), "keep-alive, X-Own".into())],
            ..HttpBehaviour::answering(answer.clone())
        });
        let got = last(&proxy, "GET", "x").await;
        assert_eq!(got.status, 200);
        assert!(got.body.bytes.len() >= bytes, "{answer:?}: {:?}", got.head);
        let got = last(&proxy, "HEAD", "x").await;
        assert!(got.status == 200 && got.body.bytes.is_empty());
    }
    for status in [204, 304, 404, 500, 599] {
        backend.behave(HttpBehaviour {
            status,
            ..HttpBehaviour::default()
        });
        assert_eq!(last(&proxy, "GET", "x").await.status, status);
    }
    backend.behave(HttpBehaviour {
        announce_close: true,
        ..HttpBehaviour::default()
    });
    for method in ["GET", "DELETE", "OPTIONS", "POST", "PUT", "PURGE"] {
        assert_eq!(last(&proxy, method, "x").await.status, 200, "{method}");
    }
    let mut client = proxy.connect().await;
    let length = format!("{CLOSE}Content-Length: 0\r\n");
    client.send(request("POST", "x", &length)).await.unwrap();
    assert_eq!(last_answer(&mut client, "POST").await.status, 200);
    proxy.settled().await;
}

#[tokio::test]
async fn the_word_comes_first_in_the_head() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    for field in [CLOSE, "connection:CLOSE\r\n", "CONNECTION: \t close \t\r\n"] {
        let mut client = proxy.connect().await;
        client.send(get("1", field)).await.unwrap();
        let (answer, _) = client.read_to_end(BOUND).await.unwrap();
        let text = String::from_utf8_lossy(&answer).to_lowercase();
        let (line, rest) = text.split_once("\r\n").unwrap();
        assert!(line.starts_with("http/1.1 200 "), "{text}");
        assert!(rest.starts_with("connection: close\r\n"), "{text}");
        assert_eq!(text.matches("connection:").count(), 1, "{text}");
        let seen = backend.seen().pop().unwrap().head;
        assert_eq!(seen.get("connection"), None, "{seen:?}");
    }
}

#[tokio::test]
async fn other_ways_to_ask_are_left_to_hyper() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    for fields in [
        "Connection: close, X-Foo\r\nX-Foo: 1\r\n",
        "Connection: X-Foo, close\r\nX-Foo: 1\r\n",
        "Connection: close\r\nConnection: X-Foo\r\nX-Foo: 1\r\n",
        "Connection: X-Foo\r\nX-Foo: 1\r\nConnection: close\r\n",
        "Connection: close\r\nConnection: close\r\n",
    ] {
        let mut client = proxy.connect().await;
        client.send(get("1", fields)).await.unwrap();
        assert_eq!(last_answer(&mut client, "GET").await.status, 200);
        let seen = backend.seen().pop().unwrap().head;
        assert!(
            seen.get("x-foo").is_none() && seen.get("connection").is_none(),
            "{fields:?}: {seen:?}"
        );
    }
    let plain = format!("{CLOSE}Content-Length: 5\r\n\r\nhello");
    let chunked = format!("{CLOSE}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n");
    for (framed, end) in [(plain, ""), (chunked, "\r\n")] {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{ID_HEADER}: 1\r\n");
        let behind = get("2", "");
        let mut client = proxy.connect().await;
        client
            .send(format!("{head}{framed}{end}{behind}"))
            .await
            .unwrap();
        let answer = client.read_response(BOUND).await.unwrap();
        assert!(answer.closes() && answer.text().contains("length=5"));
        assert!(client.read_to_end(BOUND).await.unwrap().0.is_empty());
    }
    // An upgrade that is not granted, and one that is: that is no end.
    let upgrade = format!("{CLOSE}Upgrade: x\r\n");
    let mut client = proxy.connect().await;
    client.send(get("1", &upgrade)).await.unwrap();
    assert_eq!(last_answer(&mut client, "GET").await.status, 200);
    let upgrade = "Connection: upgrade, close\r\nUpgrade: x\r\n";
    let mut client = proxy.connect().await;
    client.send(get("1", upgrade)).await.unwrap();
    let head = client.read_head(BOUND).await.unwrap();
    assert_eq!(head.status().unwrap(), 101, "{head:?}");
    client.send("ping").await.unwrap();
    assert_eq!(client.read_exact(4, BOUND).await.unwrap(), b"ping");
    // HTTP/1.0.
    let mut client = proxy.connect().await;
    let old = format!("GET / HTTP/1.0\r\nHost: a\r\n{CLOSE}\r\n");
    client.send(old).await.unwrap();
    let answer = client.read_response(BOUND).await.unwrap();
    assert!(answer.status == 200 && answer.closes(), "{answer:?}");
    assert!(client.read_to_end(BOUND).await.unwrap().0.is_empty());
}

#[tokio::test]
async fn what_follows_the_last_request_is_nobodys() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    let first = get("mine", CLOSE);
    for behind in [
        get("other", ""),
        get("other", CLOSE),
        get("other", "").repeat(100),
        "\r\n".to_owned(),
        "GET /other".to_owned(),
        "GET / HTTP/9.9\r\n\r\n".to_owned(),
        "x".repeat(100_000),
    ] {
        let before = backend.stats().requests;
        for round in 0..12 {
            let mut client = proxy.connect().await;
            match round % 3 {
                0 => client.send(format!("{first}{behind}")).await.unwrap(),
                1 => {
                    let both = [first.as_str(), &behind];
                    client.send_pieces(&both, ms(0)).await.unwrap();
                }
                _ => {
                    // A part of the head first, and the rest of it together with what follows.
                    let (one, two) = first.split_at(9);
                    let two = format!("{two}{behind}");
                    client.send_pieces(&[one, &two], ms(3)).await.unwrap();
                }
            }
            // What was sent too late for anybody to read may have the answer cut off by a reset.
            if let Ok(answer) = client.read_response(BOUND).await {
                assert_eq!(answer.head.get(ID_HEADER), Some("mine"), "{answer:?}");
                assert!(answer.closes(), "{answer:?}");
                let (rest, ending) = client.read_to_end(BOUND).await.unwrap();
                assert!(rest.is_empty(), "{}", rest.escape_ascii());
                assert!(ending == Ending::Close || round % 3 == 1, "it was known");
            } else {
                assert!(round % 3 == 1, "it was known, and the answer was lost");
            }
            let next = last(&proxy, "GET", "next").await;
            assert_eq!(next.head.get(ID_HEADER), Some("next"), "{next:?}");
        }
        assert_eq!(backend.stats().requests - before, 24, "{:.20}", behind);
        assert!(
            backend
                .seen()
                .iter()
                .all(|seen| seen.head.target() != "/other")
        );
    }
    proxy.settled().await;
}

#[tokio::test]
async fn what_follows_while_the_answer_is_on_its_way_is_nobodys() {
    let backend = HttpBackend::start("b").unwrap();
    backend.behave(HttpBehaviour::slow(ms(250)));
    let proxy = Proxy::http(&[backend.address()]);
    let mut client = proxy.connect().await;
    client.send(get("mine", CLOSE)).await.unwrap();
    assert!(wait_until_async(BOUND, || backend.stats().active == 1).await);
    client.send(get("other", "")).await.unwrap();
    // It lies unread when the connection is closed, so the end may be a reset.
    if let Ok(answer) = client.read_response(BOUND).await {
        assert!(
            answer.closes() && answer.head.get(ID_HEADER) == Some("mine"),
            "{answer:?}"
        );
        assert!(client.read_to_end(BOUND).await.unwrap().0.is_empty());
    }
    proxy.settled().await;
    assert_eq!(
        last(&proxy, "GET", "next").await.head.get(ID_HEADER),
        Some("next")
    );
    assert_eq!(backend.stats().requests, 2);
}

#[tokio::test]
async fn answers_of_our_own_say_it_too() {
    let backend = HttpBackend::start("b").unwrap();
    let garbage = HttpBackend::start("g").unwrap();
    garbage.behave(HttpBehaviour::answering(Answer::Garbage(
        b"no HTTP\r\n\r\n".to_vec(),
    )));
    let mut proxy = Proxy::http(&[backend.address()]);
    proxy.change(|desired| put_route(desired, route("r", "a", "/", &[("web", 1)])));
    proxy.change(|desired| put_route(desired, route("n", "nobody", "/", &[("nobody", 1)])));
    let to = |host: &str, line: &str| format!("{line} HTTP/1.1\r\nHost: {host}\r\n{CLOSE}\r\n");
    for (bytes, status) in [
        (to("unknown", "GET /"), 404),
        (to("nobody", "GET /"), 503),
        (to("a", "CONNECT a:443"), 501),
        (to("a", "GET http://b/"), 400),
        (to("a b", "GET /"), 400),
        (
            to("a", "GET /").replace("\r\n\r\n", "\r\nExpect: x\r\n\r\n"),
            417,
        ),
        (
            to("a", "GET /").replace("\r\n\r\n", "\r\nHost: a\r\n\r\n"),
            400,
        ),
        // hyper is stricter with names than the framing.
        (
            to("a", "GET /").replace("\r\n\r\n", "\r\nn@me: x\r\n\r\n"),
            400,
        ),
        (to("a", "G@T /"), 400),
    ] {
        let mut client = proxy.connect().await;
        client.send(&bytes).await.unwrap();
        assert_eq!(
            last_answer(&mut client, "GET").await.status,
            status,
            "{bytes}"
        );
        assert_eq!(last(&proxy, "GET", "x").await.status, 200, "after {bytes}");
    }
    proxy.remove_backend(backend.address());
    assert_eq!(last(&proxy, "GET", "x").await.status, 503);
    proxy.add_backend(crate::common::at(garbage.address()));
    assert_eq!(last(&proxy, "GET", "x").await.status, 502);
    proxy.settled().await;
}

/// Segments that a client has got over a connection that only its peer has closed.
fn segments(client: SocketAddr) -> u32 {
    let mut ss = Command::new("ss");
    let filter = format!("sport = :{}", client.port());
    ss.args(["-tinH", "state", "close-wait", &filter]);
    let output = finish(ss, BOUND).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let count = text.split_once(" segs_in:").unwrap().1;
    count.split(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_acknowledgement_and_the_end_need_no_packet_of_their_own() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    // Whoever is late sends them on their own, and a machine that is busy may be late.
    let mut fewest = u32::MAX;
    for n in 0..200 {
        let mut client = proxy.connect().await;
        client.send(get(&format!("{n}"), CLOSE)).await.unwrap();
        last_answer(&mut client, "GET").await;
        fewest = fewest.min(segments(client.local_addr().unwrap()));
        if fewest == 2 {
            break;
        }
    }
    assert_eq!(fewest, 2, "the handshake, and the answer with the end");
}
