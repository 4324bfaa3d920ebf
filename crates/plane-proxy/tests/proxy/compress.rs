//! Responses that are compressed on their way.

use std::io::Read;

use plimsoll_model::{Coding, Compress, Proto, RouteHttp, ServiceHttp};
use plimsoll_plane::Plane;
use plimsoll_plane_proxy::Options;
use plimsoll_testkit::{
    Answer, Ending, Head, HttpBackend, HttpBehaviour, Raw, Response, wait_until_async,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::common::{BOUND, Proxy, Scripted, at, put_route, route};

/// What `web` compresses: all that is longer than nothing.
fn all() -> ServiceHttp {
    ServiceHttp {
        compress: Some(Compress {
            min_size: 0,
            ..Compress::default()
        }),
        ..ServiceHttp::default()
    }
}

/// A plane before these backends that compresses what is longer than nothing.
fn proxy(backends: &[std::net::SocketAddr]) -> Proxy {
    let backends = backends.iter().copied().map(at).collect();
    Proxy::http_with(backends, |spec| spec.http = Some(all().into()))
}

fn text(bytes: usize, answer: Answer) -> HttpBehaviour {
    HttpBehaviour {
        bytes,
        headers: vec![
            ("Content-Type".into(), "text/plain".into()),
            ("ETag".into(), "\"1\"".into()),
        ],
        ..HttpBehaviour::answering(answer)
    }
}

async fn send(client: &mut Raw, method: &str, version: &str, accept: &str) -> Response {
    let head = format!("{method} / {version}\r\nHost: a\r\nAccept-Encoding: {accept}\r\n\r\n");
    client.send(head).await.unwrap();
    client.read_response_to(method, BOUND).await.unwrap()
}

fn decoded(coding: Option<&str>, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        Some("gzip") => drop(
            flate2::read::GzDecoder::new(bytes)
                .read_to_end(&mut out)
                .unwrap(),
        ),
        Some("br") => drop(
            brotli::Decompressor::new(bytes, 4096)
                .read_to_end(&mut out)
                .unwrap(),
        ),
        Some("zstd") => out = zstd::stream::decode_all(bytes).unwrap(),
        other => {
            assert_eq!(other, None);
            out = bytes.to_vec();
        }
    }
    out
}

#[tokio::test]
async fn every_coding_comes_back_to_what_the_backend_sent_on_one_connection() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = proxy(&[backend.address()]);
    let mut client = proxy.connect().await;
    let chunked = |chunk| Answer::Chunked {
        chunk,
        trailers: Vec::new(),
    };
    let (mut sent, mut heads) = (0, 0);
    for (bytes, answer) in [
        (1, Answer::Length),
        (300_000, Answer::Length),
        (2_000_000, chunked(70_000)),
        (1_000, chunked(7)),
    ] {
        let answer_is_chunked = matches!(answer, Answer::Chunked { .. });
        backend.behave(text(bytes, answer));
        let plain = send(&mut client, "GET", "HTTP/1.1", "identity").await;
        assert_eq!(plain.head.get("content-encoding"), None);
        assert_eq!(plain.head.get("vary"), Some("Accept-Encoding"));
        assert_eq!(plain.head.get("etag"), Some("\"1\""));
        for (accept, coding) in [
            ("gzip", "gzip"),
            ("gzip;q=0.5, br", "br"),
            ("deflate, gzip, br, zstd", "zstd"),
        ] {
            let answer = send(&mut client, "GET", "HTTP/1.1", accept).await;
            assert_eq!(answer.head.get("content-encoding"), Some(coding), "{bytes}");
            assert_eq!(answer.head.get("content-length"), None);
            assert_eq!(answer.head.get("vary"), Some("Accept-Encoding"));
            assert_eq!(answer.head.get("etag"), Some("W/\"1\""));
            let back = decoded(Some(coding), &answer.body.bytes);
            assert_eq!(back.len(), plain.body.bytes.len(), "{bytes} {coding}");
            sent += 1;
            // HEAD says the same and sends nothing. The length that the kit says then is 0.
            if answer_is_chunked {
                heads += 1;
                let head = send(&mut client, "HEAD", "HTTP/1.1", accept).await;
                assert_eq!(head.head.get("content-encoding"), Some(coding));
                assert_eq!(head.head.get("content-length"), None);
            }
        }
    }
    let counted = proxy.counters().compression;
    assert_eq!(counted.responses, sent);
    assert!(
        counted.bytes_out > 0 && counted.bytes_in > counted.bytes_out,
        "{counted:?}"
    );
    proxy.settled().await;
    // Compressed bodies leave the connections as they are; the kit's answers to HEAD do not.
    let connections = proxy.counters_of(backend.address()).connections;
    assert!(connections <= 1 + heads, "{connections}");
}

#[tokio::test]
async fn what_is_not_to_be_changed_passes_as_it_is() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = proxy(&[backend.address()]);
    let cases: [(&str, &[(&str, &str)]); 4] = [
        ("HTTP/1.1", &[("Content-Type", "image/png")]),
        (
            "HTTP/1.1",
            &[("Content-Type", "text/css"), ("Content-Encoding", "br")],
        ),
        (
            "HTTP/1.1",
            &[
                ("Content-Type", "text/css"),
                ("Cache-Control", "no-transform"),
            ],
        ),
        ("HTTP/1.0", &[("Content-Type", "text/css")]),
    ];
    for (version, fields) in cases {
        let headers = fields.iter().map(|(n, v)| ((*n).into(), (*v).into()));
        backend.behave(HttpBehaviour {
            bytes: 50_000,
            headers: headers.collect(),
            ..HttpBehaviour::default()
        });
        let mut client = proxy.connect().await;
        let answer = send(&mut client, "GET", version, "gzip, br, zstd").await;
        let length: usize = answer.head.get("content-length").unwrap().parse().unwrap();
        assert_eq!(answer.body.bytes.len(), length, "{version} {fields:?}");
        assert!(answer.body.bytes.is_ascii(), "{version} {fields:?}");
    }
    assert_eq!(proxy.counters().compression.responses, 0);
}

#[tokio::test]
async fn what_a_backend_says_before_a_pause_is_not_held_back() {
    for (accept, coding) in [("gzip", "gzip"), ("br", "br"), ("zstd", "zstd")] {
        let (say, mut said) = mpsc::unbounded_channel::<&'static str>();
        let (taken, mut streams) = mpsc::unbounded_channel();
        let backend = Scripted::start(move |stream| {
            let taken = taken.clone();
            async move { drop(taken.send(stream)) }
        })
        .await;
        let speaker = tokio::spawn(async move {
            let mut stream: TcpStream = streams.recv().await.unwrap();
            let mut got = Vec::new();
            while !got.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut got).await.unwrap();
            }
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                        Transfer-Encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            while let Some(text) = said.recv().await {
                let chunk = format!("{:x}\r\n{text}\r\n", text.len());
                stream.write_all(chunk.as_bytes()).await.unwrap();
            }
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        });
        let proxy = proxy(&[backend.address]);
        let mut client = proxy.connect().await;
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {accept}\r\n\r\n");
        client.send(head).await.unwrap();
        let head = client.read_head(BOUND).await.unwrap();
        assert_eq!(head.get("content-encoding"), Some(coding));
        let (mut packed, mut whole) = (Vec::new(), String::new());
        for event in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
            say.send(event).unwrap();
            whole.push_str(event);
            // The next is only sent once this one has come.
            while so_far(coding, &packed) != whole.as_bytes() {
                packed.extend(chunk(&mut client).await);
            }
        }
        drop(say);
        loop {
            match chunk(&mut client).await {
                chunk if chunk.is_empty() => break,
                chunk => packed.extend(chunk),
            }
        }
        assert_eq!(decoded(Some(coding), &packed), whole.as_bytes());
        speaker.await.unwrap();
        proxy.settled().await;
    }
}

/// The next chunk of a response; the last is empty.
async fn chunk(client: &mut Raw) -> Vec<u8> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.extend(client.read_exact(1, BOUND).await.unwrap());
    }
    let size = std::str::from_utf8(&line).unwrap().trim();
    let size = usize::from_str_radix(size, 16).unwrap();
    let mut chunk = client.read_exact(size + 2, BOUND).await.unwrap();
    chunk.truncate(size);
    chunk
}

/// What a decoder brings out of the beginning of a stream.
fn so_far(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut decoder: Box<dyn Read> = match coding {
        "gzip" => Box::new(flate2::read::GzDecoder::new(bytes)),
        "br" => Box::new(brotli::Decompressor::new(bytes, 4096)),
        _ => Box::new(zstd::stream::read::Decoder::new(bytes).unwrap()),
    };
    let (mut out, mut buf) = (Vec::new(), [0; 4096]);
    while let Ok(n @ 1..) = decoder.read(&mut buf) {
        out.extend_from_slice(&buf[..n]);
    }
    out
}

#[tokio::test]
async fn what_breaks_off_is_broken_for_the_client_too() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = proxy(&[backend.address()]);
    backend.behave(text(100_000, Answer::TooLittle(10)));
    let mut client = proxy.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n")
        .await
        .unwrap();
    assert!(client.read_response(BOUND).await.is_err());
    let (_, ending) = client.read_to_end(BOUND).await.unwrap();
    assert!(matches!(ending, Ending::Close | Ending::Reset));
    backend.behave(text(100_000, Answer::Length));
    let mut client = proxy.connect().await;
    send(&mut client, "GET", "HTTP/1.1", "gzip").await;
    proxy.settled().await;
}

#[tokio::test]
async fn a_route_says_it_for_itself() {
    let backend = HttpBackend::start("b").unwrap();
    let mut proxy = Proxy::http(&[backend.address()]);
    proxy.change(|desired| {
        let mut with = route("with", "with.example", "/", &[("web", 1)]);
        let compress = Compress {
            algorithms: vec![Coding::Br],
            ..Compress::default()
        };
        with.http = Some(
            RouteHttp {
                compress: Some(compress),
                ..RouteHttp::default()
            }
            .into(),
        );
        put_route(desired, with);
        put_route(
            desired,
            route("without", "without.example", "/", &[("web", 1)]),
        );
    });
    backend.behave(text(5_000, Answer::Length));
    for (host, coding) in [("with.example", Some("br")), ("without.example", None)] {
        let mut client = proxy.connect().await;
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\nAccept-Encoding: br, gzip\r\n\r\n");
        client.send(head).await.unwrap();
        let answer = client.read_response(BOUND).await.unwrap();
        assert_eq!(answer.head.get("content-encoding"), coding);
    }
}

/// What a client without a rest of its answer is told: the head of it.
async fn begun(proxy: &Proxy) -> (Raw, Head) {
    let mut client = proxy.connect().await;
    let head = "GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: br\r\n\r\n";
    client.send(head).await.unwrap();
    let head = client.read_head(BOUND).await.unwrap();
    (client, head)
}

#[tokio::test]
async fn beyond_the_memory_for_all_of_them_answers_pass_as_they_are() {
    let backend = Scripted::start(move |mut stream| async move {
        let mut got = Vec::new();
        while !got.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut got).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nETag: \"1\"\r\n\
                    Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        // The answer does not end before its client does.
        while stream.read_buf(&mut got).await.unwrap_or(0) > 0 {}
    })
    .await;
    let options = Options {
        workers: 2,
        // For two of them.
        compress_memory: 12 << 20,
        ..Options::default()
    };
    let proxy = Proxy::of(options, Proto::Http, vec![at(backend.address)], |spec| {
        spec.http = Some(all().into());
    });
    let held = || proxy.plane.counters().compress_memory;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let (client, head) = begun(&proxy).await;
        assert_eq!(head.get("content-encoding"), Some("br"));
        clients.push(client);
    }
    let both = held();
    assert!((1..=12 << 20).contains(&both), "{both}");
    for nth in 1..=3 {
        let (mut client, head) = begun(&proxy).await;
        assert_eq!(head.get("content-encoding"), None);
        assert_eq!(head.get("vary"), Some("Accept-Encoding"));
        assert_eq!(head.get("etag"), Some("\"1\""));
        assert_eq!(chunk(&mut client).await, b"ab");
        let counted = proxy.counters().compression;
        assert_eq!((counted.responses, counted.no_memory), (2, nth));
        assert_eq!(held(), both);
    }
    // One that leaves makes room for another.
    drop(clients.pop());
    assert!(wait_until_async(BOUND, || held() == both / 2).await);
    let (client, head) = begun(&proxy).await;
    assert_eq!(head.get("content-encoding"), Some("br"));
    drop((client, clients));
    assert!(wait_until_async(BOUND, || held() == 0).await);
    assert_eq!(proxy.counters().compression.no_memory, 3);
    proxy.settled().await;
}

#[tokio::test]
async fn what_the_client_has_is_told_as_what_it_would_get() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = proxy(&[backend.address()]);
    backend.behave(HttpBehaviour {
        status: 304,
        headers: vec![("ETag".into(), "\"1\"".into())],
        ..HttpBehaviour::default()
    });
    let mut client = proxy.connect().await;
    for (had, told) in [("W/\"1\"", "W/\"1\""), ("\"1\"", "\"1\"")] {
        let more = format!("gzip\r\nIf-None-Match: {had}");
        let answer = send(&mut client, "GET", "HTTP/1.1", &more).await;
        assert_eq!(answer.status, 304);
        assert_eq!(answer.head.get("vary"), Some("Accept-Encoding"));
        assert_eq!(answer.head.get("etag"), Some(told));
        assert_eq!(answer.head.get("content-encoding"), None);
    }
}
