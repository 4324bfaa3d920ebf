//! What a proxy changes in heads, and what it leaves alone.

use plimsoll_testkit::{BACKEND_HEADER, Head, HttpBackend, HttpBehaviour, Response};

use crate::common::{BOUND, Proxy, at};

/// Sends a request; what the backend saw of it, and the answer.
async fn pass(proxy: &Proxy, backend: &HttpBackend, request: &str) -> (Head, Response) {
    let mut client = proxy.connect().await;
    client.send(request).await.unwrap();
    let answer = client.read_response(BOUND).await.unwrap();
    assert_eq!(answer.status, 200, "{request}: {answer:?}");
    (backend.seen().pop().unwrap().head, answer)
}

fn all<'a>(head: &'a Head, name: &str) -> Vec<&'a str> {
    head.all(name).collect()
}

const FORGED: &str = "GET /x HTTP/1.1\r\nHost: shop.example:8080\r\nX-Forwarded-For: 6.6.6.6\r\n\
                      X-Forwarded-For: 7.7.7.7\r\nX-Forwarded-Proto: https\r\n\
                      X-Forwarded-Host: evil.example\r\nX-Forwarded-Port: 443\r\n\
                      Forwarded: for=6.6.6.6;proto=https\r\n\r\n";

#[tokio::test]
async fn what_a_stranger_says_of_himself_is_overwritten() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    let plain = "GET /x HTTP/1.1\r\nHost: shop.example:8080\r\n\r\n";
    for request in [plain, FORGED] {
        let (seen, _) = pass(&proxy, &backend, request).await;
        assert_eq!(all(&seen, "x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(all(&seen, "x-forwarded-proto"), ["http"]);
        assert_eq!(all(&seen, "x-forwarded-host"), ["shop.example:8080"]);
        assert_eq!(all(&seen, "x-forwarded-port"), [""; 0]);
        let own = "for=127.0.0.1;host=\"shop.example:8080\";proto=http";
        assert_eq!(all(&seen, "forwarded"), [own]);
        assert_eq!(
            all(&seen, "host"),
            ["shop.example:8080"],
            "Host is left as it is"
        );
    }
}

#[tokio::test]
async fn what_a_trusted_client_says_is_added_to() {
    let backend = HttpBackend::start("b").unwrap();
    let mut proxy = Proxy::http_with(vec![at(backend.address())], |spec| {
        spec.trusted = vec![
            "10.0.0.0/8".parse().unwrap(),
            "127.0.0.0/8".parse().unwrap(),
        ];
    });
    let (seen, _) = pass(&proxy, &backend, FORGED).await;
    assert_eq!(
        all(&seen, "x-forwarded-for").join(", "),
        "6.6.6.6, 7.7.7.7, 127.0.0.1"
    );
    assert_eq!(all(&seen, "x-forwarded-proto"), ["https"]);
    assert_eq!(all(&seen, "x-forwarded-host"), ["evil.example"]);
    let own = "for=127.0.0.1;host=\"shop.example:8080\";proto=http";
    let told = format!("for=6.6.6.6;proto=https, {own}");
    assert_eq!(all(&seen, "forwarded").join(", "), told);
    let (seen, _) = pass(&proxy, &backend, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(all(&seen, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(all(&seen, "x-forwarded-host"), ["a"]);
    // It is the service of the request that decides, and from the next request on.
    proxy.edit(|web| std::sync::Arc::make_mut(&mut web.spec).trusted.clear());
    let (seen, _) = pass(&proxy, &backend, FORGED).await;
    assert_eq!(all(&seen, "x-forwarded-for"), ["127.0.0.1"]);
}

#[tokio::test]
async fn hop_by_hop_fields_end_here() {
    let backend = HttpBackend::start("b").unwrap();
    let fields = [
        ("Connection", "X-Inner, close-not, keep-alive"),
        ("X-Inner", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Authenticate", "Basic"),
        ("Server", "thing"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
    ];
    let headers = fields
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
    backend.behave(HttpBehaviour {
        headers,
        ..HttpBehaviour::default()
    });
    let proxy = Proxy::http(&[backend.address()]);
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Secret\r\n\
                   connection: Host, X-Forwarded-For, Content-Length, other\r\nX-Secret: 1\r\n\
                   Other: 2\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
                   Proxy-Authorization: Basic eA==\r\nTE: gzip\r\nAccept: */*\r\n\
                   Authorization: Basic eA==\r\nCookie: a=1\r\nCookie: b=2\r\n\r\n";
    let (seen, answer) = pass(&proxy, &backend, request).await;
    for gone in [
        "connection",
        "x-secret",
        "other",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
        "transfer-encoding",
    ] {
        assert_eq!(all(&seen, gone), [""; 0], "{seen:?}");
    }
    for (name, value) in [
        ("host", "a"),
        ("x-forwarded-for", "127.0.0.1"),
        ("accept", "*/*"),
        ("authorization", "Basic eA=="),
        ("cookie", "a=1"),
    ] {
        assert_eq!(seen.get(name), Some(value), "{seen:?}");
    }
    assert_eq!(all(&seen, "cookie"), ["a=1", "b=2"]);
    for gone in ["connection", "x-inner", "keep-alive", "proxy-authenticate"] {
        assert_eq!(all(&answer.head, gone), [""; 0], "{answer:?}");
    }
    assert_eq!(all(&answer.head, "set-cookie"), ["a=1", "b=2"]);
    assert_eq!(all(&answer.head, "server"), ["thing"]);
    assert_eq!(answer.head.get(BACKEND_HEADER), Some("b"));
}

#[tokio::test]
async fn connection_names_nothing_away_that_says_what_a_message_is() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    for named in [
        "Content-Length",
        "Transfer-Encoding",
        "Host",
        "Forwarded",
        "X-Forwarded-Proto",
    ] {
        for body in [
            "Content-Length: 3\r\n\r\nabc",
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ] {
            let request = format!("POST / HTTP/1.1\r\nHost: a\r\nConnection: {named}\r\n{body}");
            let (seen, answer) = pass(&proxy, &backend, &request).await;
            assert!(answer.text().contains("length=3"), "{named}: {answer:?}");
            assert_eq!(all(&seen, "host"), ["a"]);
            assert_eq!(all(&seen, "x-forwarded-proto"), ["http"]);
            let framed = [
                all(&seen, "content-length"),
                all(&seen, "transfer-encoding"),
            ]
            .concat();
            assert_eq!(framed.len(), 1, "{seen:?}");
        }
    }
}

#[tokio::test]
async fn targets_of_every_form_reach_the_backend_as_its_own() {
    let backend = HttpBackend::start("b").unwrap();
    let proxy = Proxy::http(&[backend.address()]);
    for (method, target, host, seen_target, seen_host) in [
        (
            "GET",
            "http://a.example/x?y=%20",
            "a.example",
            "/x?y=%20",
            "a.example",
        ),
        (
            "GET",
            "http://a.example:80/x",
            "a.example:80",
            "/x",
            "a.example:80",
        ),
        ("GET", "HTTP://A.example", "a.example", "/", "A.example"),
        ("GET", "/x//y/../z?q", "a", "/x//y/../z?q", "a"),
        ("GET", "/a%2Fb;p=1", "a", "/a%2Fb;p=1", "a"),
        ("OPTIONS", "*", "a", "*", "a"),
    ] {
        let request = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let (seen, _) = pass(&proxy, &backend, &request).await;
        assert_eq!(
            (seen.method(), seen.target()),
            (method, seen_target),
            "{target}"
        );
        assert_eq!(all(&seen, "host"), [seen_host], "{target}");
        assert_eq!(all(&seen, "x-forwarded-host"), [seen_host], "{target}");
    }
}
