//! A service that serves in the place of another: what is done to requests is what it wants itself.

use std::sync::Arc;

use plimsoll_model::{
    AccessLog as Format, Cookie, CookieMode, Limits, LogTo, Proto, RequestId, ServiceHttp,
    ServiceSpec,
};
use plimsoll_plane_proxy::{AccessLog, AccessOptions};
use plimsoll_testkit::{HttpBackend, TempDir, wait_until_async};

use crate::access_log::Log;
use crate::common::{BOUND, Proxy, at, put, put_route, route, service};
use crate::rules::fields;

fn rules(request: &str, response: &str) -> Option<Arc<ServiceHttp>> {
    let http = ServiceHttp {
        request_headers: fields(&[request]),
        response_headers: fields(&[response]),
        ..ServiceHttp::default()
    };
    Some(http.into())
}

fn prefix_cookie(spec: &mut ServiceSpec) {
    spec.cookie = Some(Cookie::new("JS".into(), CookieMode::Prefix));
}

#[tokio::test]
async fn what_one_service_wants_does_not_come_to_another() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("access.log");
    let options = AccessOptions {
        format: Format::Json,
        to: LogTo::File(path.clone()),
        query: true,
    };
    let log = AccessLog::open(options).unwrap();
    let servers = ["b1", "b2"].map(|id| HttpBackend::start(id).unwrap());
    // `web` has no backend, and no line; `other` has both.
    let mut proxy = Proxy::logged(log, Proto::Http, Vec::new(), |web| {
        web.access_log = Some(Format::Off);
        web.http = rules("X-Secret: for-web", "X-By: web");
        web.trusted = vec!["127.0.0.0/8".parse().unwrap()];
    });
    proxy.change(|desired| {
        let backends = servers.iter().map(|server| at(server.address())).collect();
        let mut other = service("other", backends);
        let spec = Arc::make_mut(&mut other.spec);
        spec.http = rules("X-Open: for-other", "X-By: other");
        prefix_cookie(spec);
        put(desired, other);
        put_route(
            desired,
            route("r", "a.org", "/", &[("web", 1), ("other", 1)]),
        );
    });
    let ask = async |cookie: &str| {
        let mut client = proxy.connect().await;
        let head = format!(
            "GET /x HTTP/1.1\r\nHost: a.org\r\nX-Forwarded-For: 6.6.6.6\r\nCookie: {cookie}\r\n\r\n"
        );
        client.send(head).await.unwrap();
        let answer = client.read_response(BOUND).await.unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.head.all("x-by").collect::<Vec<_>>(), ["other"]);
        answer.head.get("x-testkit-backend").unwrap().to_owned()
    };
    for _ in 0..4 {
        ask("a=b").await;
    }
    let seen: Vec<_> = servers.iter().flat_map(HttpBackend::seen).collect();
    assert_eq!(seen.len(), 4);
    for seen in &seen {
        assert_eq!(seen.head.get("x-secret"), None);
        assert_eq!(seen.head.get("x-open"), Some("for-other"));
        assert_eq!(seen.head.get("x-forwarded-for"), Some("127.0.0.1"));
    }
    // All were lines, though every other one was to be served by the service without.
    let read = || std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        wait_until_async(BOUND, || read().lines().count() >= 4).await,
        "{}",
        read()
    );
    assert!(
        read()
            .lines()
            .all(|line| line.contains("\"service\":\"other\""))
    );
}

#[tokio::test]
async fn a_limit_of_the_other_service_is_told_as_its_own() {
    let log = Log::new(Format::Json, false);
    let server = HttpBackend::start("b").unwrap();
    let mut proxy = Proxy::logged(log.log.clone(), Proto::Http, Vec::new(), |_| {});
    for (whose, status) in [("total", 503), ("per-source", 429)] {
        proxy.change(|desired| {
            let mut limited = service("limited", vec![at(server.address())]);
            let mut limits = Limits::default();
            let quota = match status {
                429 => &mut limits.per_source,
                _ => &mut limits.total,
            };
            quota.request_rate = Some("1/h".parse().unwrap());
            Arc::make_mut(&mut limited.spec).limits = Some(limits);
            put(desired, limited);
            // One that has no backend, either, is not what the client is told of.
            put(desired, service("empty", Vec::new()));
            let all = [("web", 1), ("limited", 1), ("empty", 1)];
            put_route(desired, route("r", whose, "/", &all));
        });
        let mut last = proxy.get(whose, "/").await;
        for _ in 0..3 {
            last = proxy.get(whose, "/").await;
        }
        assert_eq!(last.status, status, "{whose}");
        assert_ne!(last.head.get("retry-after"), Some("1"), "{whose}");
    }
    let lines = log.lines(8).await;
    let refused: Vec<_> = (lines.iter())
        .filter(|l| !l.contains("\"status\":200"))
        .collect();
    assert!(refused.len() >= 6, "{lines:?}");
    for line in refused {
        let limited = line.contains("\"service\":\"limited\"");
        assert!(limited && line.contains("\"PR\""), "{line}");
    }
}

#[tokio::test]
async fn a_cookie_is_read_by_the_service_that_serves() {
    let servers = ["b1", "b2"].map(|id| HttpBackend::start(id).unwrap());
    for server in &servers {
        server.behave(plimsoll_testkit::HttpBehaviour {
            headers: vec![("Set-Cookie".into(), "JS=own".into())],
            ..plimsoll_testkit::HttpBehaviour::default()
        });
    }
    let mut proxy = Proxy::http_with(Vec::new(), |_| {});
    proxy.change(|desired| {
        let backends = servers.iter().map(|server| at(server.address())).collect();
        let mut other = service("other", backends);
        prefix_cookie(Arc::make_mut(&mut other.spec));
        put(desired, other);
        put_route(
            desired,
            route("r", "a.org", "/", &[("web", 1), ("other", 1)]),
        );
    });
    let ask = async |cookie: Option<&str>| {
        let mut client = proxy.connect().await;
        let field = cookie.map_or(String::new(), |cookie| format!("Cookie: {cookie}\r\n"));
        let head = format!("GET / HTTP/1.1\r\nHost: a.org\r\n{field}\r\n");
        client.send(head).await.unwrap();
        client.read_response(BOUND).await.unwrap()
    };
    let first = ask(None).await;
    let cookie = first.head.get("set-cookie").unwrap().to_owned();
    assert!(cookie.ends_with("~own"), "{cookie}");
    let backend = first.head.get("x-testkit-backend").unwrap();
    for _ in 0..6 {
        let again = ask(Some(&cookie)).await;
        assert_eq!(again.head.get("x-testkit-backend"), Some(backend));
    }
    let seen = servers.iter().flat_map(HttpBackend::seen).skip(1);
    for seen in seen {
        assert_eq!(
            seen.head.get("cookie"),
            Some("JS=own"),
            "the application's own"
        );
    }
}

#[tokio::test]
async fn rules_for_responses_do_not_take_our_own_cookie() {
    let server = HttpBackend::start("b").unwrap();
    server.behave(plimsoll_testkit::HttpBehaviour {
        headers: vec![("Set-Cookie".into(), "theirs=1".into())],
        ..plimsoll_testkit::HttpBehaviour::default()
    });
    let proxy = Proxy::http_with(vec![at(server.address())], |spec| {
        spec.cookie = Some(Cookie::new("SRV".into(), CookieMode::Insert));
        let http = ServiceHttp {
            response_headers: fields(&["-Set-Cookie", "-X-Request-ID"]),
            request_id: RequestId::new("X-Request-ID".parse().unwrap(), true).ok(),
            ..ServiceHttp::default()
        };
        spec.http = Some(http.into());
    });
    let answer = proxy.get("a", "/").await;
    let cookies: Vec<_> = answer.head.all("set-cookie").collect();
    assert!(
        cookies.len() == 1 && cookies[0].starts_with("SRV="),
        "{cookies:?}"
    );
    assert!(answer.head.get("x-request-id").is_some());
}
