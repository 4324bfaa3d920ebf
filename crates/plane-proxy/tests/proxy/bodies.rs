//! Bodies and trailers on their way through, and what announces them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use plimsoll_testkit::{
    Answer, Client, ClientPlan, Continue, HttpBackend, HttpBehaviour, Raw, Seen, wait_until_async,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::common::{BOUND, LATE, MOMENT, Proxy, Scripted, at, ms, pattern, timed};

fn last(backend: &HttpBackend) -> Seen {
    backend.seen().pop().unwrap()
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// A client that has sent the head of a POST that wants to be told to go on.
async fn expecting(proxy: &Proxy) -> Raw {
    let mut client = proxy.connect().await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    client.send(head).await.unwrap();
    client
}

#[tokio::test]
async fn bodies_of_all_kinds_and_sizes_come_through_whole() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    let chunked = |chunk| Answer::Chunked {
        chunk,
        trailers: Vec::new(),
    };
    for answer in [
        Answer::Length,
        chunked(1000),
        chunked(70_000),
        Answer::UntilClose,
    ] {
        backend.behave(HttpBehaviour::answering(answer));
        for chunked in [true, false] {
            let plan = ClientPlan {
                want: vec![0, 1_000, 100_000, 1_500_000],
                post_every: 2,
                post_bytes: 200_000,
                chunked,
                tasks: 4,
                ..ClientPlan::http(proxy.address(), "a")
            };
            Client::run(plan, 40).await.assert_clean();
            let posts = |seen: &Seen| seen.head.method() == "POST";
            let post = backend.seen().into_iter().rev().find(posts).unwrap();
            assert_eq!(post.body.unwrap().0, 200_000);
            let framed = post.head.get("transfer-encoding").is_some();
            assert_eq!(framed, chunked, "as the client framed it");
        }
    }
    proxy.settled().await;
}

#[tokio::test]
async fn a_response_is_passed_on_while_it_comes() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    backend.behave(HttpBehaviour {
        bytes: 1000,
        ..HttpBehaviour::answering(Answer::Slow {
            piece: 100,
            pause: ms(60),
        })
    });
    let mut client = proxy.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let (head, took) = timed(async { client.read_head(BOUND).await.unwrap() }).await;
    assert_eq!(head.get("content-length"), Some("1000"));
    let (_, first) = timed(async { client.read_exact(100, BOUND).await.unwrap() }).await;
    assert!(
        took + first < ms(400),
        "the rest comes 540 ms later: {took:?}, {first:?}"
    );
    client.read_exact(900, BOUND).await.unwrap();
}

#[tokio::test]
async fn a_request_is_passed_on_while_it_comes() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let backend = Scripted::start(move |mut stream| {
        let told = told.clone();
        async move {
            let mut buffer = [0; 10_000];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                told.send(buffer[..count].to_vec()).unwrap();
            }
        }
    })
    .await;
    let proxy = Proxy::http(&[backend.address]);
    let mut client = proxy.connect().await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(head).await.unwrap();
    let mut got = Vec::new();
    for piece in ["6\r\nfirst,\r\n", "7\r\nsecond,\r\n", "0\r\n\r\n"] {
        client.send(piece).await.unwrap();
        while !got.ends_with(piece.as_bytes()) {
            let more = tokio::time::timeout(BOUND, heard.recv()).await;
            got.extend(more.expect("each piece before the next is sent").unwrap());
        }
    }
}

#[tokio::test]
async fn trailers_come_through_both_ways() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    backend.behave(HttpBehaviour {
        headers: vec![pair("Trailer", "Sum, Other")],
        ..HttpBehaviour::answering(Answer::Chunked {
            chunk: 10,
            trailers: vec![pair("Sum", "17"), pair("Other", "x")],
        })
    });
    let mut client = proxy.connect().await;
    client
        .send(
            "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\nTrailer: Check\r\n\
             Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nCheck: 42\r\n\r\n",
        )
        .await
        .unwrap();
    let answer = client.read_response(BOUND).await.unwrap();
    let mut trailers: Vec<(String, String)> = answer.body.trailers;
    trailers
        .iter_mut()
        .for_each(|(name, _)| name.make_ascii_lowercase());
    trailers.sort();
    assert_eq!(trailers, [pair("other", "x"), pair("sum", "17")]);
    let (length, mut trailers) = last(&backend).body.unwrap();
    trailers
        .iter_mut()
        .for_each(|(name, _)| name.make_ascii_lowercase());
    assert_eq!((length, trailers), (3, vec![pair("check", "42")]));
    proxy.settled().await;
    backend.behave(HttpBehaviour::default());
    assert_eq!(client.get("a", "/", BOUND).await.unwrap().status, 200);
    assert_eq!(backend.stats().connections, 1, "both connections go on");
}

#[tokio::test]
async fn a_client_that_waits_for_100_is_told_to_go_on() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    for (expect, soon) in [(Continue::Send, true), (Continue::Ignore, false)] {
        backend.behave(HttpBehaviour {
            expect,
            ..HttpBehaviour::default()
        });
        let mut client = expecting(&proxy).await;
        let (told, took) = timed(async { client.read_head(BOUND).await.unwrap() }).await;
        assert_eq!(told.status().unwrap(), 100);
        assert!(
            took < if soon { ms(600) } else { LATE },
            "{expect:?}: {took:?}"
        );
        client.send("hello").await.unwrap();
        let answer = client.read_response(BOUND).await.unwrap();
        assert!(
            answer.status == 200 && answer.text().contains("length=5"),
            "{answer:?}"
        );
        assert!(answer.interim.is_empty(), "told once");
        assert_eq!(
            client.get("a", "/", BOUND).await.unwrap().status,
            200,
            "and goes on"
        );
    }
    // One that does not wait.
    let mut client = expecting(&proxy).await;
    client.send("hello").await.unwrap();
    let answer = client.read_response(BOUND).await.unwrap();
    assert!(answer.text().contains("length=5"), "{answer:?}");
}

#[tokio::test]
async fn a_backend_may_refuse_what_a_client_announces() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    backend.behave(HttpBehaviour {
        expect: Continue::Refuse,
        ..HttpBehaviour::default()
    });
    let mut client = expecting(&proxy).await;
    let answer = client.read_response(BOUND).await.unwrap();
    assert_eq!((answer.status, answer.interim.len()), (417, 0));
    assert_eq!(last(&backend).body, None);
    // Whether the body still comes cannot be known: RFC 9110 §10.1.1.
    let (rest, _) = client.read_to_end(BOUND).await.unwrap();
    assert!(rest.is_empty() && answer.closes(), "{answer:?}");
    backend.behave(HttpBehaviour::default());
    let mut client = proxy.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(client.read_response(BOUND).await.unwrap().status, 417);
    proxy.settled().await;
    proxy.serves().await;
}

#[tokio::test]
async fn an_answer_before_the_body_is_passed_on() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    for read_body in [true, false] {
        backend.behave(HttpBehaviour {
            status: 403,
            ..HttpBehaviour::answering(Answer::Early { read_body })
        });
        // The rest never comes.
        let mut client = proxy.connect().await;
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
        client
            .send([head.as_bytes(), &pattern(1000)].concat())
            .await
            .unwrap();
        let answer = client.read_response(BOUND).await.unwrap();
        assert_eq!(answer.status, 403, "{read_body}");
        drop(client);
        proxy.settled().await;
        // The rest comes all the same.
        let mut client = proxy.connect().await;
        client
            .send([head.as_bytes(), &pattern(1000)].concat())
            .await
            .unwrap();
        let head = client.read_head(BOUND).await.unwrap();
        assert_eq!(head.status().unwrap(), 403, "{read_body}");
        client.read_body(&head, BOUND).await.unwrap();
        let sent = client.send(pattern(999_000)).await;
        let rest = client.read_to_end(BOUND).await.unwrap();
        assert!(rest.0.is_empty(), "{sent:?} {rest:?}");
        proxy.settled().await;
    }
    backend.behave(HttpBehaviour::default());
    proxy.serves().await;
}

#[tokio::test]
async fn answers_without_a_body_leave_the_connection_in_step() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    let mut client = proxy.connect().await;
    for round in 0..2 {
        for (method, status) in [
            ("GET", 204),
            ("GET", 304),
            ("HEAD", 200),
            ("HEAD", 404),
            ("GET", 200),
        ] {
            backend.behave(HttpBehaviour {
                status,
                headers: vec![pair("ETag", "\"1\"")],
                ..HttpBehaviour::default()
            });
            client
                .send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"))
                .await
                .unwrap();
            let answer = client.read_response_to(method, BOUND).await.unwrap();
            assert_eq!(answer.status, status);
            assert_eq!(answer.head.get("etag"), Some("\"1\""));
            assert_eq!(
                answer.head.get("transfer-encoding"),
                None,
                "{method} {status}"
            );
            assert!(
                client.unread().is_empty(),
                "{method} {status} of round {round}"
            );
        }
    }
    assert_eq!(backend.stats().connections, 1);
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n".to_vec();
    backend.behave(HttpBehaviour::answering(Answer::Garbage(head)));
    client
        .send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let answer = client.read_response_to("HEAD", BOUND).await.unwrap();
    assert_eq!(
        answer.head.get("content-length"),
        Some("12345"),
        "as a GET would have it"
    );
}

#[tokio::test]
async fn a_body_larger_than_allowed_is_413() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http_with(vec![at(backend.address())], |spec| spec.max_body = 1000);
    let post =
        |fields: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}");
    let (fits, large) = ("x".repeat(1000), "x".repeat(1001));
    let mut client = proxy.connect().await;
    for good in [
        post("Content-Length: 1000", &fits),
        post(
            "Transfer-Encoding: chunked",
            &format!("3e8\r\n{fits}\r\n0\r\n\r\n"),
        ),
    ] {
        client.send(good).await.unwrap();
        let answer = client.read_response(BOUND).await.unwrap();
        assert!(
            answer.status == 200 && answer.text().contains("length=1000"),
            "{answer:?}"
        );
    }
    let before = backend.stats().requests;
    for bad in [
        post("Content-Length: 1001", &large),
        post("Content-Length: 99999999999\r\nExpect: 100-continue", ""),
        post(
            "Transfer-Encoding: chunked",
            &format!("3e9\r\n{large}\r\n0\r\n\r\n"),
        ),
        post(
            "Transfer-Encoding: chunked",
            &format!("1f4\r\n{}\r\n", &fits[500..]).repeat(3),
        ),
    ] {
        let mut client = proxy.connect().await;
        let announced = bad.contains("Content-Length");
        client.send(bad).await.unwrap();
        let answer = client.read_response(BOUND).await.unwrap();
        assert!(answer.status == 413 && answer.closes(), "{answer:?}");
        assert_eq!(answer.interim.len(), 0, "nobody is told to send it");
        assert!(client.read_to_end(BOUND).await.unwrap().0.is_empty());
        let requests = backend.stats().requests;
        assert!(
            !announced || requests == before,
            "it is refused by its head alone"
        );
    }
    assert!(wait_until_async(BOUND, || backend.stats().active == 0).await);
    let whole = backend
        .seen()
        .iter()
        .filter(|seen| seen.body.is_some())
        .count();
    assert_eq!(whole, 2, "no backend took a part for the whole");
    proxy.settled().await;
    assert_eq!(
        proxy.counters_of(backend.address()).failures,
        0,
        "none of it is its fault"
    );
}

#[tokio::test]
async fn a_slow_reader_holds_back_the_backend() {
    let stopped = Arc::new(AtomicBool::new(false));
    let tell = stopped.clone();
    let backend = Scripted::start(move |mut stream| {
        let tell = tell.clone();
        async move {
            let _ = stream.read(&mut [0; 1000]).await.unwrap();
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n";
            stream.write_all(head).await.unwrap();
            let chunk = vec![b'x'; 1 << 20];
            for _ in 0..100 {
                match tokio::time::timeout(MOMENT * 4, stream.write_all(&chunk)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return,
                    Err(_) => return tell.store(true, Ordering::SeqCst),
                }
            }
        }
    })
    .await;
    let proxy = Proxy::http(&[backend.address]);
    let mut client = proxy.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    client.read_head(BOUND).await.unwrap();
    assert!(
        wait_until_async(BOUND, || stopped.load(Ordering::SeqCst)).await,
        "it stopped sending"
    );
    let held = proxy.counters_of(backend.address).bytes_out;
    assert!(held < 50 << 20, "{held} bytes are on their way");
    let (rest, _) = client.read_to_end(BOUND).await.unwrap();
    assert!(rest.len() < 100 << 20, "the backend broke off");
}
