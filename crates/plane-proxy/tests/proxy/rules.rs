//! What routes and services do with requests and responses on their way.

use plimsoll_model::{
    BasicAuth, FieldRules, PrefixChange, Proto, Redirect, RequestId, Route, RouteHttp, ServiceHttp,
    ServiceSpec,
};
use plimsoll_plane::{Plane, Tuple};
use plimsoll_testkit::{Head, HttpBackend, HttpBehaviour, Response};

use crate::common::{BOUND, Proxy, at, put_route, route};

/// Changes as they are shown: `-NAME`, `NAME: VALUE`, `+NAME: VALUE`.
pub(crate) fn fields(changes: &[&str]) -> FieldRules {
    let mut rules = FieldRules::default();
    for change in changes {
        let (name, value) = change.split_once(": ").unwrap_or((change, ""));
        if let Some(name) = name.strip_prefix('-') {
            rules.remove.insert(name.parse().unwrap());
        } else if let Some(name) = name.strip_prefix('+') {
            let value = value.parse().unwrap();
            rules.add.insert(name.parse().unwrap(), value);
        } else {
            let value = value.parse().unwrap();
            rules.set.insert(name.parse().unwrap(), value);
        }
    }
    rules
}

fn redirect(to: &str) -> RouteHttp {
    RouteHttp {
        redirect: Some(Redirect::new(to.parse().unwrap())),
        ..RouteHttp::default()
    }
}

fn prefix(strip: &str, add: &str) -> RouteHttp {
    RouteHttp {
        prefix: PrefixChange {
            strip: strip.parse().ok(),
            add: add.parse().ok(),
        },
        ..RouteHttp::default()
    }
}

fn id(respond: bool) -> ServiceHttp {
    ServiceHttp {
        request_id: RequestId::new("X-Request-ID".parse().unwrap(), respond).ok(),
        ..ServiceHttp::default()
    }
}

/// A route to `web` that does this.
fn with(name: &str, host: &str, path: &str, http: RouteHttp) -> Route {
    Route {
        http: Some(http.into()),
        ..route(name, host, path, &[("web", 1)])
    }
}

struct Stage {
    proxy: Proxy,
    backend: HttpBackend,
}

impl Stage {
    fn new(routes: Vec<Route>, set: impl FnOnce(&mut ServiceSpec)) -> Self {
        let backend = HttpBackend::start("b").unwrap();
        let mut proxy = Proxy::http_with(vec![at(backend.address())], set);
        proxy.change(|desired| routes.into_iter().for_each(|r| put_route(desired, r)));
        Self { proxy, backend }
    }

    /// Sends a request line and more fields; the answer.
    async fn ask(&self, line: &str, fields: &str) -> Response {
        let mut client = self.proxy.connect().await;
        let head = format!("{line} HTTP/1.1\r\nHost: Shop.example:8080\r\n{fields}\r\n");
        client.send(head).await.unwrap();
        client.read_response(BOUND).await.unwrap()
    }

    /// The same, and what the backend saw of it.
    async fn pass(&self, line: &str, fields: &str) -> (Head, Response) {
        let answer = self.ask(line, fields).await;
        assert_eq!(answer.status, 200, "{line}: {answer:?}");
        (self.backend.seen().pop().unwrap().head, answer)
    }
}

fn all<'a>(head: &'a Head, name: &str) -> Vec<&'a str> {
    head.all(name).collect()
}

fn trust(spec: &mut ServiceSpec) {
    spec.trusted = vec!["127.0.0.0/8".parse().unwrap()];
}

#[tokio::test]
async fn a_redirect_keeps_what_it_is_told_to_keep() {
    let bare = Redirect {
        status: 301,
        keep_path: false,
        keep_query: false,
        ..Redirect::new("https://new.example".parse().unwrap())
    };
    let bare = RouteHttp {
        redirect: Some(bare),
        ..RouteHttp::default()
    };
    let routes = vec![
        with("https", "shop.example", "/", redirect("https")),
        with("old", "shop.example", "/old", redirect("/new")),
        with("bare", "shop.example", "/bare", bare),
    ];
    let stage = Stage::new(routes, |_| {});
    for (line, status, location) in [
        ("GET /a?b=c", 307, "https://shop.example/a?b=c"),
        ("POST /a", 307, "https://shop.example/a"),
        ("GET /old/x?y", 307, "/new/x?y"),
        ("GET /old//evil.example", 307, "/new//evil.example"),
        ("HEAD /bare/x?y", 301, "https://new.example/"),
        (
            "GET http://shop.example:8080/z",
            307,
            "https://shop.example/z",
        ),
    ] {
        let mut client = stage.proxy.connect().await;
        let head = format!("{line} HTTP/1.1\r\nHost: shop.example:8080\r\n\r\n");
        client.send(head).await.unwrap();
        let answer = match line.starts_with("HEAD") {
            true => client.read_response_to("HEAD", BOUND).await.unwrap(),
            false => client.read_response(BOUND).await.unwrap(),
        };
        assert_eq!(answer.status, status, "{line}");
        assert_eq!(all(&answer.head, "location"), [location], "{line}");
    }
    assert_eq!(stage.backend.stats().requests, 0);
    assert_eq!(stage.proxy.counters().failed, 0);
}

#[tokio::test]
async fn a_redirected_upload_is_answered_and_the_connection_goes_on_or_ends() {
    let routes = vec![with("https", "*", "/", redirect("https"))];
    let stage = Stage::new(routes, |_| {});
    let mut client = stage.proxy.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 100000\r\n\r\n")
        .await
        .unwrap();
    let answer = client.read_response(BOUND).await.unwrap();
    assert_eq!(answer.status, 307);
    // Nobody reads the body: the client is told.
    assert_eq!(all(&answer.head, "connection"), ["close"]);
    let mut client = stage.proxy.connect().await;
    for _ in 0..2 {
        let answer = client.get("a.example", "/", BOUND).await.unwrap();
        assert_eq!(answer.status, 307);
        assert_eq!(all(&answer.head, "connection"), [""; 0]);
    }
}

#[tokio::test]
async fn who_came_over_tls_is_not_sent_there_again() {
    let secure = "X-Forwarded-Proto: https\r\n";
    let routes = || vec![with("https", "*", "/", redirect("https"))];
    let stage = Stage::new(routes(), trust);
    stage.pass("GET /", secure).await;
    assert_eq!(stage.ask("GET /", "").await.status, 307);
    // A stranger may say what he likes.
    let stage = Stage::new(routes(), |_| {});
    assert_eq!(stage.ask("GET /", secure).await.status, 307);
}

#[tokio::test]
async fn a_redirect_to_its_own_host_needs_one() {
    let stage = Stage::new(vec![with("https", "*", "/", redirect("https"))], |_| {});
    let mut client = stage.proxy.connect().await;
    client.send("GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let answer = client.read_response(BOUND).await.unwrap();
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn a_backend_gets_another_path() {
    let routes = vec![
        with("api", "*", "/api", prefix("/api", "")),
        with("v1", "*", "/v1", prefix("/v1", "/v2")),
        with("add", "*", "/add", prefix("", "/more")),
    ];
    let stage = Stage::new(routes, trust);
    for (asked, got, told) in [
        ("/api/x?a=/api", "/x?a=/api", "/api"),
        ("/api", "/", "/api"),
        ("/api?q", "/?q", "/api"),
        ("/api/", "/", "/api"),
        ("/api//x", "//x", "/api"),
        ("/api/%2e%2e/x", "/%2e%2e/x", "/api"),
        ("/v1/x", "/v2/x", "/v1"),
        ("/v1", "/v2", "/v1"),
        ("/add/x", "/more/add/x", ""),
    ] {
        let (seen, _) = stage.pass(&format!("GET {asked}"), "").await;
        assert_eq!(seen.start, format!("GET {got} HTTP/1.1"), "{asked}");
        let prefix = all(&seen, "x-forwarded-prefix").join(",");
        assert_eq!(prefix, told, "{asked}");
    }
    // What a proxy before this one took away comes first.
    let before = "X-Forwarded-Prefix: /shop\r\n";
    let (seen, _) = stage.pass("GET /api/x", before).await;
    assert_eq!(all(&seen, "x-forwarded-prefix"), ["/shop/api"]);
}

#[tokio::test]
async fn fields_are_changed_on_both_ways_by_service_and_route() {
    let of_route = RouteHttp {
        request_headers: fields(&["x-both: route", "+x-list: {method} {path}?{query}"]),
        response_headers: fields(&["x-both: route {scheme}", "-x-gone"]),
        ..RouteHttp::default()
    };
    let of_service = ServiceHttp {
        request_headers: fields(&[
            "-x-debug",
            "x-real-ip: {client}",
            "x-both: service",
            "host: inner.example",
            "x-was: {host}",
        ]),
        response_headers: fields(&[
            "x-both: service",
            "x-id: [{request-id}]",
            "+set-cookie: a=b",
        ]),
        ..ServiceHttp::default()
    };
    let stage = Stage::new(vec![with("r", "*", "/r", of_route)], |spec| {
        spec.http = Some(of_service.into());
    });
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    stage.backend.behave(HttpBehaviour {
        headers: vec![
            header("X-Both", "backend"),
            header("X-Gone", "1"),
            header("Set-Cookie", "c=d"),
        ],
        ..HttpBehaviour::default()
    });
    let said = "X-Debug: 1\r\nx-debug: 2\r\nX-Real-IP: 6.6.6.6\r\nX-List: a\r\n";
    let (seen, answer) = stage.pass("GET /r/x?y", said).await;
    assert_eq!(all(&seen, "x-debug"), [""; 0]);
    assert_eq!(all(&seen, "x-real-ip"), ["127.0.0.1"]);
    assert_eq!(all(&seen, "x-both"), ["route"]);
    assert_eq!(all(&seen, "x-list"), ["a", "GET /r/x?y"]);
    assert_eq!(all(&seen, "host"), ["inner.example"]);
    assert_eq!(all(&seen, "x-was"), ["Shop.example:8080"]);
    assert_eq!(all(&seen, "x-forwarded-host"), ["Shop.example:8080"]);
    assert_eq!(all(&answer.head, "x-both"), ["route http"]);
    assert_eq!(all(&answer.head, "x-gone"), [""; 0]);
    assert_eq!(all(&answer.head, "x-id"), ["[]"]);
    assert_eq!(all(&answer.head, "set-cookie"), ["c=d", "a=b"]);
}

#[tokio::test]
async fn every_request_has_an_id_of_its_own() {
    let of_service = ServiceHttp {
        request_headers: fields(&["x-copy: {request-id}"]),
        ..id(true)
    };
    let stage = Stage::new(Vec::new(), |spec| spec.http = Some(of_service.into()));
    let mut ids = std::collections::BTreeSet::new();
    let mut client = stage.proxy.connect().await;
    for _ in 0..20 {
        let answer = client.get("a.example", "/", BOUND).await.unwrap();
        let seen = stage.backend.seen().pop().unwrap().head;
        let id = all(&answer.head, "x-request-id")[0].to_owned();
        assert_eq!(all(&seen, "x-request-id"), [&*id]);
        assert_eq!(all(&seen, "x-copy"), [&*id]);
        assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()));
        assert!(ids.insert(id));
    }
    // A stranger's is not taken over.
    let (seen, _) = stage.pass("GET /", "X-Request-ID: mine\r\n").await;
    assert_ne!(all(&seen, "x-request-id"), ["mine"]);
}

#[tokio::test]
async fn an_id_is_taken_over_from_who_is_trusted_if_it_is_one() {
    let stage = Stage::new(Vec::new(), |spec| {
        trust(spec);
        spec.http = Some(id(false).into());
    });
    let (seen, answer) = stage.pass("GET /", "x-request-id: abc-1\r\n").await;
    assert_eq!(all(&seen, "x-request-id"), ["abc-1"]);
    assert_eq!(all(&answer.head, "x-request-id"), [""; 0]);
    let long = "x".repeat(129);
    for bad in ["a b", "", "\u{e9}", &long] {
        let (seen, _) = stage
            .pass("GET /", &format!("x-request-id: {bad}\r\n"))
            .await;
        let taken = all(&seen, "x-request-id");
        assert!(taken.len() == 1 && taken[0].len() == 32, "{bad}: {taken:?}");
    }
}

#[tokio::test]
async fn answers_of_our_own_have_the_id_too() {
    let mut stage = Stage::new(Vec::new(), |spec| spec.http = Some(id(true).into()));
    let gone = stage.backend.address();
    stage.proxy.remove_backend(gone);
    let answer = stage.ask("GET /", "").await;
    assert_eq!(answer.status, 503);
    assert_eq!(all(&answer.head, "x-request-id")[0].len(), 32);
    // The next request on a connection is not the one before it.
    let mut client = stage.proxy.connect().await;
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let answer = client.get("a.example", "/", BOUND).await.unwrap();
        ids.insert(all(&answer.head, "x-request-id")[0].to_owned());
    }
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn explanations_say_what_rules_do() {
    let user = format!("alice:$apr1$salt${}", "a".repeat(22));
    let guarded = RouteHttp {
        basic_auth: Some(BasicAuth {
            realm: "cave".into(),
            users: [BasicAuth::user(&user).unwrap()].into(),
        }),
        ..prefix("/cave", "/gold")
    };
    let routes = vec![
        with("tls", "tls.example", "/", redirect("https")),
        with("port", "port.example", "/", redirect("http://{host}:81/x")),
        with("there", "there.example", "/", redirect("http://{host}/x")),
        with("cave", "*", "/cave", guarded),
        with("rest", "*", "/", prefix("/", "/app")),
    ];
    let stage = Stage::new(routes, |spec| {
        spec.http = Some(id(true).into());
    });
    let explain = |host: &str, path: &str| {
        stage.proxy.plane.explain(&Tuple {
            client: "127.0.0.1:4711".parse().unwrap(),
            destination: stage.proxy.address(),
            proto: Proto::Http,
            host: Some(host.to_owned()),
            path: Some(path.to_owned()),
        })
    };
    for (host, path, step) in [
        (
            "TLS.example:8080",
            "/a?b",
            "redirects to https://tls.example/a?b: 307",
        ),
        (
            "port.example",
            "/a",
            "redirects to http://port.example:81/x/a: 307",
        ),
        ("there.example", "/x/a", "would lead here: it is passed on"),
        (
            "a",
            "//cave",
            "may be read as one of another route, which is guarded: 400",
        ),
        (
            "a",
            "/cave/x",
            "path \"/cave/x\" becomes \"/gold/x\" for the backend",
        ),
        ("a", "/b", "path \"/b\" becomes \"/app/b\" for the backend"),
        (
            "a",
            "/b",
            "service `web` changes request-id x-request-id, in the response, too",
        ),
    ] {
        let told = explain(host, path);
        assert!(
            told.steps.iter().any(|said| said.contains(step)),
            "{host}{path}: {told:?}"
        );
        let answer = stage.proxy.get(host, path).await;
        let location = answer.head.get("location");
        match told.status {
            Some(status) => assert_eq!(answer.status, status, "{host}{path}"),
            None => assert!([200, 401].contains(&answer.status), "{host}{path}"),
        }
        assert_eq!(location.is_some(), told.status == Some(307), "{told:?}");
        if let (Some(location), Some(why)) = (location, &told.nowhere) {
            assert!(why.ends_with(location), "{why}, {location}");
        }
    }
    let guarded = explain("a", "/cave");
    assert!(
        guarded
            .steps
            .iter()
            .any(|step| step.contains("401 for others"))
    );
    assert!(!format!("{guarded:?}").contains("$apr1$"));
}
