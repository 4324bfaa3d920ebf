//! Basic authentication.

use std::sync::Arc;

use plimsoll_model::{BasicAuth, Redirect, RouteHttp};
use plimsoll_testkit::{HttpBackend, Response};

use crate::common::{BOUND, Proxy, put_route, route};

/// `alice:secret` by apr1, `bob:secret` by bcrypt at cost 5, as `htpasswd` makes them.
const USERS: [&str; 2] = [
    "alice:$apr1$7qjKWV/B$anj2WSUsuZ9sIq7xz4KMr.",
    "bob:$2y$05$fJVOw/SC9dT5mjiB3zGgm.RiDc8HhcZOuYS36aVR7mYNR35LcKTEa",
];
const ALICE: &str = "Basic YWxpY2U6c2VjcmV0";
const BOB: &str = "Basic Ym9iOnNlY3JldA==";
/// `alice:wrong` and `eve:secret`.
const WRONG: [&str; 2] = ["Basic YWxpY2U6d3Jvbmc=", "Basic ZXZlOnNlY3JldA=="];

fn auth(users: &[&str]) -> RouteHttp {
    RouteHttp {
        basic_auth: Some(BasicAuth {
            realm: "the shop".into(),
            users: users
                .iter()
                .map(|user| BasicAuth::user(user).unwrap())
                .collect(),
        }),
        ..RouteHttp::default()
    }
}

fn stage(http: RouteHttp) -> (Proxy, HttpBackend) {
    let backend = HttpBackend::start("b").unwrap();
    let mut proxy = Proxy::http(&[backend.address()]);
    let protected = plimsoll_model::Route {
        http: Some(http.into()),
        ..route("admin", "*", "/admin", &[("web", 1)])
    };
    proxy.change(|desired| {
        put_route(desired, protected);
        put_route(desired, route("open", "*", "/", &[("web", 1)]));
    });
    (proxy, backend)
}

async fn ask(proxy: &Proxy, path: &str, said: &str) -> Response {
    let mut client = proxy.connect().await;
    let field = match said {
        "" => String::new(),
        said => format!("Authorization: {said}\r\n"),
    };
    let head = format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n{field}\r\n");
    client.send(head).await.unwrap();
    client.read_response(BOUND).await.unwrap()
}

#[tokio::test]
async fn only_who_knows_a_password_gets_through() {
    let (proxy, backend) = stage(auth(&USERS));
    // The second time they are known.
    for _ in 0..3 {
        for right in [ALICE, BOB, &BOB.replace("Basic", "BASIC")] {
            assert_eq!(ask(&proxy, "/admin/x", right).await.status, 200, "{right}");
        }
        for wrong in ["", "Basic", "Basic !", "Bearer x", WRONG[0], WRONG[1]] {
            let answer = ask(&proxy, "/admin/x", wrong).await;
            assert_eq!(answer.status, 401, "{wrong}");
            let challenge = "Basic realm=\"the shop\", charset=\"UTF-8\"";
            assert_eq!(answer.head.get("www-authenticate"), Some(challenge));
        }
    }
    assert_eq!(ask(&proxy, "/", "").await.status, 200);
    assert_eq!(backend.stats().requests, 10);
    // Two credentials are none.
    let mut client = proxy.connect().await;
    let twice = format!("Authorization: {ALICE}\r\nAuthorization: {ALICE}\r\n");
    let head = format!("GET /admin HTTP/1.1\r\nHost: a\r\n{twice}\r\n");
    client.send(head).await.unwrap();
    assert_eq!(client.read_response(BOUND).await.unwrap().status, 401);
}

#[tokio::test]
async fn a_changed_password_is_in_force_at_once() {
    let (mut proxy, _backend) = stage(auth(&USERS));
    assert_eq!(ask(&proxy, "/admin", ALICE).await.status, 200);
    let other = ["alice:$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/"];
    for (users, status) in [(&other[..], 401), (&USERS[..], 200)] {
        proxy.change(|desired| {
            let route = desired.routes.get_mut("admin").unwrap();
            Arc::make_mut(route).http = Some(auth(users).into());
        });
        assert_eq!(ask(&proxy, "/admin", ALICE).await.status, status);
    }
}

/// While passwords are compared, others are served: a worker does not wait for that.
#[tokio::test]
async fn a_slow_password_holds_nobody_up() {
    // At cost 14 it takes a second of a core, and ten without optimisation.
    let slow = USERS[1].replace("$05$", "$14$");
    let (proxy, backend) = stage(auth(&[&slow]));
    let mut guesses = Vec::new();
    for _ in 0..8 {
        let mut client = proxy.connect().await;
        let head = format!("GET /admin HTTP/1.1\r\nHost: a\r\nAuthorization: {BOB}\r\n\r\n");
        client.send(head).await.unwrap();
        guesses.push(client);
    }
    // Workers that compared them themselves would not come to these in time.
    for _ in 0..20 {
        assert_eq!(ask(&proxy, "/", "").await.status, 200);
    }
    assert_eq!(backend.stats().requests, 20);
    // Who leaves is not waited for.
    drop(guesses);
    proxy.settled().await;
    proxy.serves().await;
}

#[tokio::test]
async fn nobody_is_asked_for_a_password_before_he_is_sent_to_tls() {
    let http = RouteHttp {
        redirect: Some(Redirect::new("https".parse().unwrap())),
        ..auth(&USERS)
    };
    let (proxy, _backend) = stage(http);
    let answer = ask(&proxy, "/admin", "").await;
    assert_eq!(answer.status, 307);
    assert_eq!(answer.head.get("www-authenticate"), None);
}

#[tokio::test]
async fn a_refused_upload_ends_the_connection() {
    let (proxy, backend) = stage(auth(&USERS));
    let mut client = proxy.connect().await;
    let head = "POST /admin HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";
    client.send(head).await.unwrap();
    let answer = client.read_response(BOUND).await.unwrap();
    assert_eq!(answer.status, 401);
    assert_eq!(answer.head.get("connection"), Some("close"));
    assert_eq!(backend.stats().requests, 0);
}

#[tokio::test]
async fn no_other_spelling_of_a_path_passes_by_its_guard() {
    let (proxy, backend) = stage(auth(&USERS));
    for path in [
        "//admin",
        "/x/../admin/y",
        "/./admin",
        "/%61dmin",
        "/admin;x",
        "/admin%2fx",
        "/x%2F..%2fadmin",
        "/%2e/admin",
        "/x\\..\\admin",
    ] {
        assert_eq!(ask(&proxy, path, "").await.status, 400, "{path}");
        assert_eq!(ask(&proxy, path, ALICE).await.status, 400, "{path}");
    }
    assert_eq!(backend.stats().requests, 0);
    // Below the guarded path everything asks; elsewhere all spellings pass.
    assert_eq!(ask(&proxy, "/admin/%61/../b", "").await.status, 401);
    assert_eq!(ask(&proxy, "/admin/%61/../b", ALICE).await.status, 200);
    for path in ["/x//y", "/%61", "/administrator", "/x;y", "/a/../b"] {
        assert_eq!(ask(&proxy, path, "").await.status, 200, "{path}");
    }
    assert_eq!(proxy.refused(401), 1);
}
