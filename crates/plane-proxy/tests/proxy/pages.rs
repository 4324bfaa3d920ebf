//! Pages in place of answers that say no.

use std::sync::Arc;

use plimsoll_model::{
    Compress, ErrorPages, FieldRules, Intercept, Maintenance, Page, RequestId, ServiceHttp,
};
use plimsoll_plane_proxy::{CommonPages, Options};
use plimsoll_testkit::{Answer, Ending, HttpBackend, HttpBehaviour, Phase, Raw, Response};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::{BOUND, Proxy, Scripted, at, ms, put_route, route};

fn page(file: &str, text: &str) -> Page {
    Page::new(file, text.into()).unwrap()
}

fn pages(pages: &[(&str, &str, &str)]) -> ErrorPages {
    let pages = pages.iter();
    ErrorPages(
        pages
            .map(|(status, file, text)| (status.parse().unwrap(), page(file, text)))
            .collect(),
    )
}

fn of(error_pages: ErrorPages, intercept: &[&str]) -> ServiceHttp {
    ServiceHttp {
        error_pages,
        intercept: Intercept(intercept.iter().map(|s| s.parse().unwrap()).collect()),
        ..ServiceHttp::default()
    }
}

/// A proxy with these pages for all services and a service that does this.
fn proxy(backends: &[&HttpBackend], common: &CommonPages, http: ServiceHttp) -> Proxy {
    let options = Options {
        workers: 2,
        pages: common.clone(),
        ..Options::default()
    };
    let backends = backends.iter().map(|b| at(b.address())).collect();
    Proxy::of(options, plimsoll_model::Proto::Http, backends, |spec| {
        spec.http = Some(http.into());
    })
}

async fn send(client: &mut Raw, method: &str, more: &str) -> Response {
    let head = format!("{method} / HTTP/1.1\r\nHost: a\r\n{more}\r\n");
    client.send(head).await.unwrap();
    client.read_response_to(method, BOUND).await.unwrap()
}

#[tokio::test]
async fn answers_without_a_service_have_the_pages_for_all() {
    let backend = HttpBackend::start("b").unwrap();
    let common = CommonPages::default();
    let mut proxy = proxy(&[&backend], &common, ServiceHttp::default());
    proxy.change(|desired| put_route(desired, route("r", "known", "/", &[("web", 1)])));
    let mut client = proxy.connect().await;
    let before = client.get("other", "/", BOUND).await.unwrap();
    assert_eq!(before.status, 404);
    assert_eq!(
        before.text(),
        "404 Not Found: no service for this host and path\n"
    );
    common.set(&pages(&[
        ("404", "a.html", "<p>{{status}} {{reason}}"),
        ("4xx", "b.json", "{}"),
    ]));
    for method in ["GET", "HEAD", "GET"] {
        let head = format!("{method} / HTTP/1.1\r\nHost: other\r\n\r\n");
        client.send(head).await.unwrap();
        let answer = client.read_response_to(method, BOUND).await.unwrap();
        assert_eq!(answer.status, 404);
        let says = |name| answer.head.get(name);
        assert_eq!(says("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(says("content-length"), Some("16"));
        let body = if method == "HEAD" {
            ""
        } else {
            "<p>404 Not Found"
        };
        assert_eq!(answer.text(), body, "{method}");
        assert!(!answer.closes());
    }
    // What cannot even be read as a request.
    client
        .send("GET / HTTP/1.1\r\nHost : a\r\n\r\n")
        .await
        .unwrap();
    let answer = client.read_response(BOUND).await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (400, "{}"));
    assert_eq!(answer.head.get("content-type"), Some("application/json"));
    assert!(answer.closes());
    // None any more.
    common.set(&ErrorPages::default());
    let mut client = proxy.connect().await;
    let after = client.get("other", "/", BOUND).await.unwrap();
    assert_eq!(after.text(), before.text());
    proxy.settled().await;
}

#[tokio::test]
async fn pages_of_a_service_go_before_those_for_all() {
    let common = CommonPages::default();
    common.set(&pages(&[
        ("503", "x.txt", "all 503"),
        ("4xx", "x.txt", "all 4xx"),
    ]));
    let own = pages(&[("5xx", "y.txt", "own 5xx")]);
    let mut proxy = proxy(&[], &common, of(own, &[]));
    let mut client = proxy.connect().await;
    // A class of its own goes before the very status of all.
    let answer = send(&mut client, "GET", "").await;
    assert_eq!((answer.status, answer.text().as_str()), (503, "own 5xx"));
    assert_eq!(answer.head.get("retry-after"), Some("1"));
    // What it has no page for.
    let answer = send(&mut client, "GET", "Expect: more\r\n").await;
    assert_eq!((answer.status, answer.text().as_str()), (417, "all 4xx"));
    let own = pages(&[("503", "y.txt", "own 503"), ("5xx", "y.txt", "own 5xx")]);
    proxy.edit(|web| Arc::make_mut(&mut web.spec).http = Some(of(own, &[]).into()));
    let answer = proxy.get("a", "/").await;
    assert_eq!(answer.text(), "own 503");
    // A client of HTTP/1.0, which is left alone afterwards.
    let mut client = proxy.connect().await;
    client
        .send("GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let (bytes, ending) = client.read_to_end(BOUND).await.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.ends_with("\r\n\r\nown 503"), "{text}");
    assert_eq!(ending, Ending::Close);
    proxy.settled().await;
}

#[tokio::test]
async fn maintenance_has_a_page_or_that_of_503() {
    let backend = HttpBackend::start("b").unwrap();
    let common = CommonPages::default();
    let with = |page: Option<Page>| {
        let mut http = of(pages(&[("503", "x.txt", "gone")]), &[]);
        http.maintenance = Some(Maintenance {
            page,
            ..Maintenance::new(true)
        });
        http
    };
    let own = page("m.html", "<p>later");
    let mut proxy = proxy(&[&backend], &common, with(Some(own)));
    let answer = proxy.get("a", "/").await;
    assert_eq!((answer.status, answer.text().as_str()), (503, "<p>later"));
    assert_eq!(answer.head.get("retry-after"), Some("60"));
    let html = Some("text/html; charset=utf-8");
    assert_eq!(answer.head.get("content-type"), html);
    proxy.edit(|web| Arc::make_mut(&mut web.spec).http = Some(with(None).into()));
    let answer = proxy.get("a", "/").await;
    assert_eq!(answer.text(), "gone");
    assert_eq!(answer.head.get("retry-after"), Some("60"));
    assert_eq!(backend.stats().requests, 0);
}

#[tokio::test]
async fn backends_are_left_alone_unless_that_is_asked_for() {
    let backend = HttpBackend::start("b").unwrap();
    let common = CommonPages::default();
    let own = || {
        pages(&[
            ("4xx", "x.html", "<p>{{request-id}}"),
            ("500", "x.json", "{}"),
        ])
    };
    let mut proxy = proxy(&[&backend], &common, of(own(), &[]));
    let status = |status: u16| {
        backend.behave(HttpBehaviour {
            status,
            bytes: 3000,
            headers: [
                ("Content-Type", "text/plain"),
                ("Content-Encoding", "x"),
                ("ETag", "\"1\""),
                ("Retry-After", "7"),
                ("WWW-Authenticate", "Basic realm=\"a\""),
                ("X-Own", "1"),
            ]
            .map(|(name, value)| (name.into(), value.into()))
            .into(),
            ..HttpBehaviour::default()
        });
    };
    status(404);
    assert!(proxy.get("a", "/").await.text().len() >= 3000);
    let id = RequestId::new("X-Id".parse().unwrap(), true).unwrap();
    let mut http = of(own(), &["404", "401", "5xx"]);
    http.request_id = Some(id);
    http.compress = Some(Compress {
        min_size: 0,
        ..Compress::default()
    });
    http.response_headers = FieldRules {
        remove: ["X-Own".parse().unwrap()].into(),
        ..FieldRules::default()
    };
    proxy.edit(|web| Arc::make_mut(&mut web.spec).http = Some(http.into()));
    let mut client = proxy.connect().await;
    for code in [404, 401] {
        status(code);
        for method in ["GET", "HEAD", "GET"] {
            let answer = send(&mut client, method, "Accept-Encoding: gzip\r\n").await;
            // What is left of the backend's body may be read behind the page.
            proxy.settled().await;
            assert_eq!(answer.status, code);
            let says = |name| answer.head.get(name);
            let id = says("x-id").unwrap();
            let page = format!("<p>{id}");
            assert_eq!(says("content-length"), Some(&*page.len().to_string()));
            assert_eq!(says("content-type"), Some("text/html; charset=utf-8"));
            assert_eq!((says("etag"), says("content-encoding")), (None, None));
            assert_eq!((says("retry-after"), says("x-own")), (Some("7"), None));
            assert!(says("www-authenticate").is_some());
            let body = if method == "HEAD" { "" } else { &page };
            assert_eq!(answer.text(), body, "{code} {method}");
        }
    }
    proxy.settled().await;
    // Neither asked for, nor is there a page.
    for code in [403, 502, 200] {
        status(code);
        let answer = send(&mut client, "GET", "").await;
        assert_eq!(answer.status, code);
        assert!(answer.text().len() >= 3000, "{code}");
    }
    let counted = proxy.counters_of(backend.address());
    assert_eq!(counted.failures, 0);
    // The kit's answers to HEAD end their connections; all others are used again.
    assert!(counted.connections <= 3, "{}", counted.connections);
    proxy.settled().await;
}

#[tokio::test]
async fn whatever_becomes_of_a_backends_body_the_page_is_whole() {
    let backend = HttpBackend::start("b").unwrap();
    let common = CommonPages::default();
    let long = "x".repeat(100_000);
    common.set(&pages(&[("5xx", "x.txt", &long)]));
    let proxy = proxy(&[&backend], &common, of(ErrorPages::default(), &["5xx"]));
    let mut client = proxy.connect().await;
    let chunked = Answer::Chunked {
        chunk: 100,
        trailers: vec![("X-Trailer".into(), "1".into())],
    };
    for (bytes, answer) in [
        (0, Answer::Length),
        (1_000, chunked),
        (3_000_000, Answer::Length),
        (500, Answer::UntilClose),
        (1_000, Answer::TooLittle(10)),
        (1_000, Answer::Cut(Phase::Body, Ending::Reset)),
        (10, Answer::Length),
    ] {
        let told = format!("{answer:?}");
        backend.behave(HttpBehaviour {
            status: 500,
            bytes,
            ..HttpBehaviour::answering(answer)
        });
        let answer = send(&mut client, "GET", "").await;
        assert_eq!(answer.status, 500, "{told}");
        assert_eq!(answer.text(), long, "{told}");
        assert!(
            answer.body.trailers.is_empty() && !answer.closes(),
            "{told}"
        );
    }
    // A client of HTTP/1.0 gets it with its length.
    backend.behave(HttpBehaviour {
        status: 500,
        bytes: 500,
        ..HttpBehaviour::answering(Answer::UntilClose)
    });
    let mut old = proxy.connect().await;
    old.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await.unwrap();
    let (bytes, ending) = old.read_to_end(BOUND).await.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    assert!(
        text.contains("content-length: 100000\r\n"),
        "{}",
        text.len()
    );
    assert!(text.ends_with(&long));
    assert_eq!(ending, Ending::Close);
    proxy.settled().await;
}

/// A backend that answers with 502 and the beginning of a body. The rest of that does
/// not come.
async fn stalling() -> Scripted {
    Scripted::start(async |mut stream| {
        let mut request = [0; 4096];
        // The proxy may end the connection at any time.
        let _ = stream.read(&mut request).await;
        let head = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 100\r\n\r\nabc";
        let _ = stream.write_all(head).await;
        let _ = stream.read(&mut request).await;
    })
    .await
}

#[tokio::test]
async fn a_page_does_not_wait_for_a_body_that_stalls() {
    let common = CommonPages::default();
    common.set(&pages(&[("5xx", "x.txt", "sorry")]));
    let options = Options {
        workers: 2,
        pages: common.clone(),
        ..Options::default()
    };
    let backend = stalling().await;
    let http = of(ErrorPages::default(), &["5xx"]);
    let backends = vec![at(backend.address)];
    let proxy = Proxy::of(options, plimsoll_model::Proto::Http, backends, |spec| {
        spec.http = Some(http.into());
        spec.timeouts.stall = ms(600_000);
        spec.timeouts.response = ms(600_000);
    });
    let mut client = proxy.connect().await;
    for _ in 0..3 {
        let answer = send(&mut client, "GET", "").await;
        assert_eq!((answer.status, answer.text().as_str()), (502, "sorry"));
        assert!(!answer.closes());
    }
    // Nor do the backend's places.
    proxy.settled().await;
    assert_eq!(backend.accepted(), 3);
    assert_eq!(proxy.counters_of(backend.address).failures, 0);
}

#[tokio::test]
async fn what_comes_late_of_a_body_behind_its_page_is_read() {
    let backend = HttpBackend::start("b").unwrap();
    let common = CommonPages::default();
    common.set(&pages(&[("5xx", "x.txt", "sorry")]));
    let proxy = proxy(&[&backend], &common, of(ErrorPages::default(), &["5xx"]));
    backend.behave(HttpBehaviour {
        status: 500,
        bytes: 200,
        ..HttpBehaviour::answering(Answer::Slow {
            piece: 100,
            pause: ms(5),
        })
    });
    let mut client = proxy.connect().await;
    for _ in 0..5 {
        let answer = send(&mut client, "GET", "").await;
        assert_eq!((answer.status, answer.text().as_str()), (500, "sorry"));
        proxy.settled().await;
    }
    let counted = proxy.counters_of(backend.address());
    assert_eq!((counted.requests, counted.failures), (5, 0));
    assert!(counted.bytes_out >= 5 * 200, "{}", counted.bytes_out);
}

#[tokio::test]
async fn a_target_with_control_bytes_gets_the_page() {
    let backend = HttpBackend::start("b").unwrap();
    let common = CommonPages::default();
    common.set(&pages(&[("400", "x.txt", "what?")]));
    let proxy = proxy(&[&backend], &common, ServiceHttp::default());
    let mut client = proxy.connect().await;
    let head = "GET /a\u{1} HTTP/1.1\r\nHost: a\r\n\r\n";
    client.send(head).await.unwrap();
    let answer = client.read_response(BOUND).await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (400, "what?"));
    assert_eq!(proxy.refused(400), 1);
}

#[tokio::test]
async fn a_page_for_an_answer_before_the_request_is_whole() {
    let backend = HttpBackend::start("b").unwrap();
    let common = CommonPages::default();
    common.set(&pages(&[("413", "x.txt", "too much")]));
    let proxy = proxy(&[&backend], &common, of(ErrorPages::default(), &["4xx"]));
    backend.behave(HttpBehaviour {
        status: 413,
        bytes: 100,
        ..HttpBehaviour::answering(Answer::Early { read_body: false })
    });
    let mut client = proxy.connect().await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";
    client.send(head).await.unwrap();
    let answer = client.read_response(BOUND).await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (413, "too much"));
    assert!(answer.closes());
    drop(client);
    proxy.settled().await;
}
