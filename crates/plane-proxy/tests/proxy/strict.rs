//! Requests that could be read in two ways: refused by their head, before a byte reaches a backend.

use plimsoll_testkit::{Ending, HttpBackend, HttpBehaviour};

use crate::common::{BOUND, Proxy};

/// Behind every bad request: whoever takes the bad one for complete serves this one too.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// Sends bytes on a connection of their own; the status of the only answer, after which the
/// connection has to end.
async fn refusal(proxy: &Proxy, bytes: &[u8]) -> u16 {
    let shown = bytes[..bytes.len().min(200)].escape_ascii();
    let mut client = proxy.connect().await;
    client.send(bytes).await.unwrap();
    let answer = client.read_response(BOUND).await;
    let answer = answer.unwrap_or_else(|error| panic!("{shown}: {error}"));
    let end = client.read_to_end(BOUND).await;
    let end = end.unwrap_or_else(|error| panic!("{shown} is not closed: {error}"));
    assert_eq!(end, (Vec::new(), Ending::Close), "{shown}");
    assert!(answer.closes(), "{shown}: {answer:?}");
    answer.status
}

/// Each of these is refused with its status, by a head of its own and behind a good request, and
/// no backend hears of it.
async fn all_refused(cases: &[(u16, Vec<u8>)]) {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    for (expected, head) in cases {
        let bytes = [head, SMUGGLED.as_bytes()].concat();
        let status = refusal(&proxy, &bytes).await;
        assert_eq!(
            status,
            *expected,
            "{}",
            head[..head.len().min(200)].escape_ascii()
        );
    }
    assert_eq!(backend.stats().connections, 0, "{:?}", backend.seen());
    for (expected, head) in cases {
        let mut client = proxy.connect().await;
        let good = b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
        client
            .send([&good, head, SMUGGLED.as_bytes()].concat())
            .await
            .unwrap();
        assert_eq!(client.read_response(BOUND).await.unwrap().status, 200);
        assert_eq!(client.read_response(BOUND).await.unwrap().status, *expected);
        assert!(client.read_to_end(BOUND).await.unwrap().0.is_empty());
    }
    let targets: Vec<String> = backend
        .seen()
        .iter()
        .map(|s| s.head.target().to_owned())
        .collect();
    assert!(
        targets.iter().all(|target| target == "/good"),
        "{targets:?}"
    );
    assert_eq!(targets.len(), cases.len());
    let refused: u64 = proxy.listen().refused.iter().map(|(_, count)| count).sum();
    assert_eq!(
        refused,
        2 * cases.len() as u64,
        "each is counted once: {:?}",
        proxy.listen()
    );
    proxy.settled().await;
}

fn post(fields: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n").into_bytes()
}

fn with(status: u16, heads: &[&str]) -> Vec<(u16, Vec<u8>)> {
    heads
        .iter()
        .map(|head| (status, head.as_bytes().to_vec()))
        .collect()
}

#[tokio::test]
async fn lengths_that_can_be_read_in_two_ways() {
    let fields = [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
        "Content-Length: 0\r\ntransfer-encoding: Chunked",
        "Content-Length: 3\r\nContent-Length: 4",
        "Content-Length: 3\r\nX: y\r\ncontent-length: 5",
        "Content-Length: 3, 3",
        "Content-Length: 3,4",
        "Content-Length: +3",
        "Content-Length: -1",
        "Content-Length: 0x3",
        "Content-Length: 3 3",
        "Content-Length: 3;",
        "Content-Length:",
        "Content-Length: \t",
        "Content-Length: three",
        "Content-Length: 18446744073709551616",
        "Content-Length: 99999999999999999999999",
    ];
    all_refused(&fields.map(|f| (400, post(f)))).await;
}

#[tokio::test]
async fn transfer_codings_that_are_not_exactly_chunked() {
    let fields = [
        (400, "Transfer-Encoding: identity"),
        (400, "Transfer-Encoding: xchunked"),
        (400, "Transfer-Encoding: chunkedx"),
        (400, "Transfer-Encoding: chunked, gzip"),
        (400, "Transfer-Encoding: chunked;q=1"),
        (400, "Transfer-Encoding: \"chunked\""),
        (400, "Transfer-Encoding:"),
        (
            400,
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        ),
        (
            400,
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        ),
        (400, "Transfer-Encoding: \u{b}chunked"),
        (400, "Transfer-Encoding: chunked\u{c}"),
        (400, "Transfer-Encoding: \u{0}chunked"),
        (400, "Transfer-Encoding : chunked"),
        (400, "X: y\r\n Transfer-Encoding: chunked"),
        (501, "Transfer-Encoding: gzip, chunked"),
    ];
    let mut cases: Vec<(u16, Vec<u8>)> = fields.iter().map(|(s, f)| (*s, post(f))).collect();
    cases.extend(with(
        400,
        &[
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\
             Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
        ],
    ));
    all_refused(&cases).await;
}

#[tokio::test]
async fn lines_that_end_or_go_on_in_two_ways() {
    let mut cases = with(
        400,
        &[
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: y\nContent-Length: 3\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: y\rContent-Length: 3\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\r\n\r\n",
            "GET /\r HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tfolded\r\n\r\n",
            "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
            "\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ],
    );
    for field in [
        "X : y",
        "X\t: y",
        "X y: z",
        ": y",
        "no colon",
        "X(y): z",
        "X\u{0}: y",
        "X: a\u{0}b",
        "X: a\u{1}b",
        "X: a\u{7f}b",
        "\u{e9}: y",
        "X\u{a0}: y",
    ] {
        cases.push((400, post(field)));
    }
    all_refused(&cases).await;
}

#[tokio::test]
async fn hosts_that_are_none_or_more_than_one() {
    let host = |fields: &str| {
        (
            400,
            format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n").into_bytes(),
        )
    };
    let long = format!("Host: {}", "a".repeat(300));
    let cases: Vec<(u16, Vec<u8>)> = [
        "X: y",
        "Host: a\r\nHost: a",
        "Host: a\r\nhost: b",
        "Host: a b",
        "Host: a/b",
        "Host: a?b",
        "Host: a#b",
        "Host: a@b",
        "Host: user:secret@a",
        "Host: a:80:90",
        "Host: a:x",
        "Host: a:123456",
        "Host: [::1",
        "Host: [::1]x",
        "Host: a\\b",
        "Host: a\"b",
        "Host: <a>",
        "Host: \u{e9}",
        &long,
    ]
    .into_iter()
    .map(host)
    .chain(with(
        400,
        &[
            "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a:80\r\n\r\n",
            "GET http://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://user@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://user@a/ HTTP/1.1\r\nHost: user@a\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
        ],
    ))
    .collect();
    all_refused(&cases).await;
}

#[tokio::test]
async fn first_lines_that_are_none_of_http_1() {
    let mut cases = with(
        400,
        &[
            "GET /\r\n",
            "GET / \r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
            "GET / http/1.1\r\nHost: a\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n",
            "GET HTTP/1.1\r\nHost: a\r\n\r\n",
            " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
            "GET /\u{7f} HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /\u{0} HTTP/1.1\r\nHost: a\r\n\r\n",
            "SSH-2.0-OpenSSH_9.2\r\n",
        ],
    );
    cases.extend(with(
        505,
        &[
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
            "GET / HTTP/0.9\r\n\r\n",
            "GET / HTTP/1.10\r\nHost: a\r\n\r\n",
        ],
    ));
    cases.extend(with(
        501,
        &[
            "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
            "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nContent-Length: 0\r\n\r\n",
        ],
    ));
    cases.push((
        400,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n".to_vec(),
    ));
    all_refused(&cases).await;
}

#[tokio::test]
async fn bodies_whose_chunks_are_not_framed_as_they_should_be() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    let head = "POST /bad HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (long, lines) = ("x".repeat(300), "t: v\r\n".repeat(2_000));
    for body in [
        "\r\n",
        "x\r\n",
        ";a\r\n",
        "3\nabc\r\n",
        "3\r\nabcd\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
        "-1\r\n",
        "+3\r\nabc\r\n",
        "0x3\r\nabc\r\n",
        " 3\r\nabc\r\n",
        "3 \r\nabc\r\n",
        "3\rabc\r\n",
        "ffffffffffffffff\r\n",
        "10000000000000003\r\nabc\r\n",
        "3;\u{1}\r\nabc\r\n",
        "3;a\nb\r\nabc\r\n",
        "0\r\nt: v\n\r\n",
        "0\r\n t: v\r\n\r\n",
        "0\r\nt: v\r\n folded\r\n\r\n",
        &format!("3;{long}\r\nabc\r\n"),
        &format!("0\r\n{lines}\r\n"),
    ] {
        for pieces in [false, true] {
            let mut client = proxy.connect().await;
            client.send(head).await.unwrap();
            if pieces {
                let good = client.send("5\r\nhello\r\n").await;
                good.unwrap();
            }
            client.send([body, SMUGGLED].concat()).await.unwrap();
            let answer = client.read_response(BOUND).await.unwrap();
            assert!(
                answer.status == 400 && answer.closes(),
                "{body:?}: {answer:?}"
            );
            assert!(
                client.read_to_end(BOUND).await.unwrap().0.is_empty(),
                "{body:?}"
            );
        }
    }
    proxy.settled().await;
    for seen in backend.seen() {
        assert_eq!(
            (seen.head.target(), seen.body),
            ("/bad", None),
            "no part is a whole"
        );
    }
    assert_eq!(
        proxy.counters_of(backend.address()).failures,
        0,
        "none of it is its fault"
    );
    proxy.serves().await;
}

#[tokio::test]
async fn what_only_looks_strange_is_served_and_made_plain() {
    let backend = HttpBackend::start("b").unwrap();
    backend.behave(HttpBehaviour {
        upgrade: false,
        ..HttpBehaviour::default()
    });
    let proxy = Proxy::http(&[backend.address()]);
    let chunk = |ext: &str| format!("Transfer-Encoding: chunked\r\n\r\n3{ext}\r\nabc\r\n0\r\n\r\n");
    for (fields, length) in [
        (
            "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc".to_owned(),
            3,
        ),
        ("Content-Length:\t3 \r\n\r\nabc".to_owned(), 3),
        (
            "TRANSFER-ENCODING:chunked \r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_owned(),
            3,
        ),
        (chunk(";name=value"), 3),
        (chunk(";a=\"b;c\";d"), 3),
        (
            "Transfer-Encoding: chunked\r\n\r\n0003\r\nabc\r\n00\r\nT: v\r\n\r\n".to_owned(),
            3,
        ),
        ("Content-Length: 0\r\n\r\n".to_owned(), 0),
        ("X-Empty:\r\nX-Bytes: \u{e9}\r\n\r\n".to_owned(), 0),
        (
            format!("Content-Length: {}\r\n\r\n{SMUGGLED}", SMUGGLED.len()),
            SMUGGLED.len(),
        ),
    ] {
        let mut client = proxy.connect().await;
        client
            .send(format!("\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\n{fields}"))
            .await
            .unwrap();
        let answer = client.read_response(BOUND).await.unwrap();
        assert!(
            answer.text().contains(&format!("length={length} ")),
            "{fields:?}: {answer:?}"
        );
        let seen = backend.seen().pop().unwrap().head;
        let lengths: Vec<&str> = seen.all("content-length").collect();
        let chunked = seen.all("transfer-encoding").count();
        assert!(lengths.len() + chunked <= 1, "{seen:?}");
        assert!(
            lengths.first().is_none_or(|l| *l == length.to_string()),
            "{seen:?}"
        );
        assert_eq!(
            client.get("a", "/", BOUND).await.unwrap().status,
            200,
            "and goes on"
        );
    }
    for method in ["PLIMSOLL-REFUSED", "BREW", "PROPFIND", "GET!#$%&'*+-.^_`|~"] {
        let mut client = proxy.connect().await;
        client
            .send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await
            .unwrap();
        assert_eq!(
            client.read_response(BOUND).await.unwrap().status,
            200,
            "{method}"
        );
        assert_eq!(backend.seen().pop().unwrap().head.method(), method);
    }
    let targets: Vec<String> = backend
        .seen()
        .iter()
        .map(|s| s.head.target().to_owned())
        .collect();
    assert!(targets.iter().all(|target| target == "/"), "{targets:?}");
}

#[tokio::test]
async fn trailers_cannot_pass_for_fields_of_a_head() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    let forbidden = [
        "Content-Length",
        "Transfer-Encoding",
        "Host",
        "Authorization",
        "Trailer",
    ];
    let named = forbidden.join(", ");
    let lines: String = forbidden
        .iter()
        .map(|name| format!("{name}: 5\r\n"))
        .collect();
    let mut client = proxy.connect().await;
    client
        .send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: {named}, Fine\r\n\
             Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n{lines}Fine: yes\r\n\r\n"
        ))
        .await
        .unwrap();
    assert_eq!(client.read_response(BOUND).await.unwrap().status, 200);
    let (_, trailers) = backend.seen().pop().unwrap().body.unwrap();
    let names: Vec<String> = trailers
        .iter()
        .map(|(name, _)| name.to_ascii_lowercase())
        .collect();
    assert_eq!(names, ["fine"]);
    assert_eq!(client.get("a", "/", BOUND).await.unwrap().status, 200);
}
