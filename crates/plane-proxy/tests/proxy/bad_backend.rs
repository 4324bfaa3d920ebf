//! Backends that answer garbage, too much, too little, never, or go away at any moment.

use plimsoll_testkit::{
    Answer, Client, ClientPlan, Ending, HttpBackend, HttpBehaviour, Phase, Response, WireError,
    wait_until_async,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::{BOUND, Proxy, Scripted, at, ms};

fn saying(bytes: impl Into<Vec<u8>>) -> HttpBehaviour {
    HttpBehaviour::answering(Answer::Garbage(bytes.into()))
}

/// A plane before this backend, which answers within 400 ms or is 504.
fn before(backend: &HttpBackend) -> Proxy {
    Proxy::http_with(vec![at(backend.address())], |spec| {
        spec.timeouts.response = ms(400)
    })
}

async fn get(proxy: &Proxy) -> Result<Response, WireError> {
    proxy.connect().await.get("a", "/", BOUND).await
}

#[tokio::test]
async fn heads_that_are_none_are_502() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = before(&backend);
    let long = "a".repeat(200_000);
    let many: String = (0..5_000).map(|n| format!("X-{n}: a\r\n")).collect();
    for head in [
        "garbage\r\n\r\n",
        "\u{0}\u{1}\u{2}\u{3}\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\u{0}b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nhello",
        &format!("HTTP/1.1 200 OK\r\nX: {long}\r\n\r\n"),
        &format!("HTTP/1.1 200 OK\r\n{many}\r\n"),
    ] {
        backend.behave(saying(head));
        let answer = get(&proxy).await.unwrap();
        let shown = head[..head.len().min(60)].escape_debug();
        assert_eq!(answer.status, 502, "{shown}: {answer:?}");
        assert!(answer.text().starts_with("502"), "{shown}: {answer:?}");
        proxy.settled().await;
    }
    assert_eq!(proxy.counters_of(backend.address()).failures, 14);
    backend.behave(HttpBehaviour::default());
    proxy.serves().await;
}

#[tokio::test]
async fn heads_that_never_end_are_cut() {
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let backend = Scripted::start(move |mut stream| {
        let told = told.clone();
        async move {
            let _ = stream.read(&mut [0; 1000]).await;
            let mut sent = stream.write(b"HTTP/1.1 200 OK\r\nX: ").await.unwrap();
            while let Ok(count @ 1..) = stream.write(&[b'a'; 65_536]).await {
                sent += count;
                if sent > 100 << 20 {
                    break;
                }
            }
            told.send(sent).unwrap();
        }
    })
    .await;
    let proxy = Proxy::http(&[backend.address]);
    assert_eq!(get(&proxy).await.unwrap().status, 502);
    let sent = tokio::time::timeout(BOUND, heard.recv())
        .await
        .unwrap()
        .unwrap();
    assert!(sent < 20 << 20, "{sent} bytes were taken");
    proxy.settled().await;
}

#[tokio::test]
async fn interim_answers_without_end_are_no_answer() {
    let backend = Scripted::start(|mut stream| async move {
        let _ = stream.read(&mut [0; 1000]).await;
        while stream
            .write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            .await
            .is_ok()
        {
            tokio::time::sleep(ms(5)).await;
        }
    })
    .await;
    let proxy = Proxy::http_with(vec![at(backend.address)], |spec| {
        spec.timeouts.response = ms(400);
    });
    assert_eq!(get(&proxy).await.unwrap().status, 504);
    proxy.settled().await;
}

#[tokio::test]
async fn bodies_that_break_or_are_framed_twice_are_never_taken_for_whole() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = before(&backend);
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in [
        "x\r\n",
        "3\r\nabcd\r\n",
        "3\r\nabc",
        "ffffffffffffffffff\r\n",
        "-1\r\nabc\r\n",
    ] {
        backend.behave(saying(format!("{chunked}5\r\nhello\r\n{body}")));
        let mut client = proxy.connect().await;
        client
            .send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        if body == "3\r\nabc" {
            assert!(wait_until_async(BOUND, || backend.stats().active == 1).await);
            tokio::time::sleep(ms(50)).await;
            backend.kill(Ending::Close).await;
            backend.listen_again().unwrap();
        }
        let got = client.read_response(BOUND).await;
        let broken = matches!(got, Err(WireError::Closed { .. } | WireError::Reset { .. }));
        assert!(broken, "{body:?}: {got:?}");
        proxy.settled().await;
    }
}

#[tokio::test]
async fn a_response_framed_in_two_ways_is_502() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = before(&backend);
    for fields in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 10",
    ] {
        let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
        backend.behave(saying(format!("{head}5\r\nhello\r\n0\r\n\r\n")));
        assert_eq!(get(&proxy).await.unwrap().status, 502, "{fields}");
    }
    proxy.settled().await;
    assert_eq!(backend.stats().connections, 2, "neither is used again");
    assert_eq!(proxy.counters_of(backend.address()).failures, 2);
}

#[tokio::test]
async fn what_a_backend_says_unasked_is_nobodys_answer() {
    let backend = Scripted::start(|mut stream| async move {
        let mut head = [0; 1000];
        if let Ok(1..) = stream.read(&mut head).await {
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
            stream
                .write_all(format!("{answer}right").as_bytes())
                .await
                .unwrap();
            tokio::time::sleep(ms(20)).await;
            let _ = stream.write_all(format!("{answer}stale").as_bytes()).await;
            let _ = stream.read(&mut head).await;
        }
    })
    .await;
    let proxy = Proxy::http(&[backend.address]);
    let mut client = proxy.connect().await;
    for _ in 0..5 {
        let answer = client.get("a", "/", BOUND).await.unwrap();
        assert_eq!(answer.text(), "right");
        tokio::time::sleep(ms(60)).await;
    }
    assert_eq!(backend.accepted(), 5);
}

#[tokio::test]
async fn backends_may_go_away_at_any_moment_and_others_are_served_on() {
    let (bad, good) = (
        HttpBackend::start("bad").unwrap(),
        HttpBackend::start("good").unwrap(),
    );
    let proxy = Proxy::http(&[bad.address()]);
    let other = Proxy::http(&[good.address()]);
    let load = Client::start(ClientPlan::http(other.address(), "a"));
    for phase in [Phase::Accept, Phase::Request, Phase::Head, Phase::Body] {
        for ending in [Ending::Close, Ending::Reset] {
            bad.behave(HttpBehaviour {
                bytes: 100_000,
                ..HttpBehaviour::answering(Answer::Cut(phase, ending))
            });
            for request in [
                "GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
                format!(
                    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{}",
                    "123456789"
                ),
            ] {
                let mut client = proxy.connect().await;
                client.send(request).await.unwrap();
                match client.read_response(BOUND).await {
                    Ok(answer) => {
                        assert_eq!(answer.status, 502, "{phase:?} {ending:?}: {answer:?}");
                        assert_ne!(phase, Phase::Body, "the head has been passed on");
                    }
                    Err(WireError::Closed { place, .. } | WireError::Reset { place, .. }) => {
                        assert_eq!((phase, place), (Phase::Body, "in the body"));
                    }
                    Err(error) => panic!("{phase:?} {ending:?}: {error}"),
                }
                proxy.settled().await;
            }
        }
    }
    bad.behave(HttpBehaviour::default());
    proxy.serves().await;
    assert!(load.more(50, BOUND).await);
    load.stop().await.assert_clean();
}

#[tokio::test]
async fn an_upload_whose_backend_goes_away_is_502() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    for ending in [Ending::Close, Ending::Reset] {
        let mut client = proxy.connect().await;
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\nabc")
            .await
            .unwrap();
        assert!(wait_until_async(BOUND, || backend.stats().active == 1).await);
        backend.kill(ending).await;
        backend.listen_again().unwrap();
        let answer = client.read_response(BOUND).await.unwrap();
        assert!(answer.status == 502 && answer.closes(), "{answer:?}");
        proxy.settled().await;
    }
    proxy.serves().await;
}

#[tokio::test]
async fn a_backend_that_never_answers_disturbs_nobody_else() {
    let (never, good) = (
        HttpBackend::start("never").unwrap(),
        HttpBackend::start("good").unwrap(),
    );
    never.behave(HttpBehaviour::answering(Answer::Never));
    let proxy = before(&never);
    let other = before(&good);
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let address = proxy.address();
            tokio::spawn(async move {
                let mut client = plimsoll_testkit::Raw::connect(address).await.unwrap();
                client.get("a", "/", BOUND).await.unwrap().status
            })
        })
        .collect();
    let report = Client::run(ClientPlan::http(other.address(), "a"), 300).await;
    report.assert_clean();
    for status in waiting {
        assert_eq!(status.await.unwrap(), 504);
    }
    proxy.settled().await;
    assert!(
        wait_until_async(BOUND, || never.stats().open == 0).await,
        "{:?}",
        never.stats()
    );
}
