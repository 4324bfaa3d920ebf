//! Clients that stay on their backend by a cookie.

use plimsoll_model::{Backend, Cookie, CookieMode, State, Status};
use plimsoll_plane::{CookieCounters, Plane, Tuple};
use plimsoll_testkit::{Ending, HttpBackend, HttpBehaviour, Response, wait_until_async};

use crate::common::{BOUND, Proxy, at, limited};

fn cookie(mode: CookieMode) -> Option<Cookie> {
    Some(Cookie::new("SRV".into(), mode))
}

fn three() -> (Vec<HttpBackend>, Vec<Backend>) {
    let backends = ["a", "b", "c"].map(|id| HttpBackend::start(id).unwrap());
    let there = backends.iter().map(|b| at(b.address())).collect();
    (backends.into(), there)
}

/// A GET on a connection of its own, with this `Cookie` field.
async fn get(proxy: &Proxy, cookie: Option<&str>) -> Response {
    let field = cookie.map_or(String::new(), |c| format!("Cookie: {c}\r\n"));
    let mut client = proxy.connect().await;
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n");
    client.send(request).await.unwrap();
    let response = client.read_response(BOUND).await.unwrap();
    assert_eq!(response.status, 200);
    response
}

fn id(response: &Response) -> String {
    response.head.get("x-testkit-backend").unwrap().to_owned()
}

/// The pair that a response sets.
fn set(response: &Response) -> Option<String> {
    let mut all = response.head.all("set-cookie");
    let pair = all.next()?.split(';').next().unwrap().to_owned();
    assert_eq!(all.next(), None);
    Some(pair)
}

fn counts(proxy: &Proxy) -> CookieCounters {
    proxy.counters().cookie.unwrap()
}

#[tokio::test]
async fn a_client_with_a_cookie_comes_back_and_others_are_spread() {
    let (backends, there) = three();
    let proxy = Proxy::http_with(there, |spec| spec.cookie = cookie(CookieMode::Insert));
    for _ in 0..3 {
        let first = get(&proxy, None).await;
        assert_eq!(first.head.get("cache-control"), Some("private"));
        let cookie = set(&first).unwrap();
        for _ in 0..4 {
            let again = get(&proxy, Some(&format!("x=1; {cookie}"))).await;
            assert_eq!((id(&again), set(&again)), (id(&first), None));
            assert_eq!(again.head.get("cache-control"), None);
        }
    }
    for backend in &backends {
        assert_eq!(backend.stats().requests, 5);
        for seen in backend.seen().iter().skip(1) {
            assert_eq!(
                seen.head.get("cookie"),
                Some("x=1"),
                "it is not for backends"
            );
        }
    }
    let expected = CookieCounters {
        none: 3,
        kept: 12,
        ..CookieCounters::default()
    };
    assert_eq!(counts(&proxy), expected);
}

#[tokio::test]
async fn a_forged_or_stale_cookie_is_as_none() {
    let (_backends, there) = three();
    let proxy = Proxy::http_with(there, |spec| spec.cookie = cookie(CookieMode::Insert));
    let mut seen = std::collections::BTreeSet::new();
    for text in [
        "SRV=",
        "SRV=b",
        "SRV=10.0.0.1:80",
        "SRV=0123456789abcdef",
        "SRV=|||",
        "SRV=\u{e9}",
    ] {
        let response = get(&proxy, Some(text)).await;
        seen.insert(id(&response));
        assert!(set(&response).is_some(), "{text}");
    }
    assert_eq!((seen.len(), counts(&proxy).unknown), (3, 6));
}

#[tokio::test]
async fn who_takes_nothing_new_loses_its_clients_and_weight_0_does_not() {
    let (backends, there) = three();
    let mut proxy = Proxy::http_with(there, |spec| spec.cookie = cookie(CookieMode::Insert));
    let first = get(&proxy, None).await;
    let old = set(&first).unwrap();
    let home = backends.iter().find(|b| b.id() == id(&first)).unwrap();
    proxy.edit_backend(home.address(), |b| b.weight = 0);
    for _ in 0..6 {
        assert_ne!(id(&get(&proxy, None).await), home.id());
        assert_eq!(id(&get(&proxy, Some(&old)).await), home.id());
    }
    for state in [State::Down, State::Draining] {
        proxy.edit_backend(home.address(), |b| {
            (b.weight, b.status) = (1, Status::new(state, "test"));
        });
        let moved = get(&proxy, Some(&old)).await;
        assert_ne!(id(&moved), home.id());
        let new = set(&moved).unwrap();
        proxy.edit_backend(home.address(), |b| {
            b.status = Status::new(State::Ready, "test")
        });
        assert_eq!(
            id(&get(&proxy, Some(&new)).await),
            id(&moved),
            "it stays there"
        );
        assert_eq!(id(&get(&proxy, Some(&old)).await), home.id());
    }
    assert_eq!(counts(&proxy).moved, 2);
    home.kill(Ending::Close).await;
    let moved = get(&proxy, Some(&old)).await;
    assert!(id(&moved) != home.id() && set(&moved).is_some());
}

#[tokio::test]
async fn a_request_waits_at_the_backend_of_its_cookie() {
    let backends = ["a", "b"].map(|id| HttpBackend::start(id).unwrap());
    let there = backends.iter().map(|b| limited(b.address(), 1)).collect();
    let proxy = Proxy::http_with(there, |spec| spec.cookie = cookie(CookieMode::Insert));
    let first = get(&proxy, None).await;
    let cookie = set(&first).unwrap();
    let home = backends.iter().find(|b| b.id() == id(&first)).unwrap();
    home.behave(HttpBehaviour {
        delay: std::time::Duration::from_millis(300),
        ..HttpBehaviour::default()
    });
    let at_once = futures(&proxy, &cookie).await;
    assert!(at_once.iter().all(|response| id(response) == home.id()));
    assert_eq!(proxy.counters_of(home.address()).requests, 4);
}

/// Three requests with this cookie at once.
async fn futures(proxy: &Proxy, cookie: &str) -> [Response; 3] {
    let (a, b, c) = tokio::join!(
        get(proxy, Some(cookie)),
        get(proxy, Some(cookie)),
        get(proxy, Some(cookie))
    );
    [a, b, c]
}

#[tokio::test]
async fn a_backend_of_another_address_has_the_value_of_its_name() {
    let (old, new) = (
        HttpBackend::start("old").unwrap(),
        HttpBackend::start("new").unwrap(),
    );
    let other = HttpBackend::start("other").unwrap();
    let named = |b: &HttpBackend| Backend {
        name: "web-1".into(),
        ..at(b.address())
    };
    let mut proxy = Proxy::http_with(vec![named(&old)], |spec| {
        spec.cookie = cookie(CookieMode::Insert);
    });
    let cookie = set(&get(&proxy, None).await).unwrap();
    proxy.remove_backend(old.address());
    proxy.add_backend(named(&new));
    proxy.add_backend(at(other.address()));
    for _ in 0..4 {
        assert_eq!(id(&get(&proxy, Some(&cookie)).await), "new");
    }
}

#[tokio::test]
async fn the_cookie_of_the_backend_is_rewritten_or_gets_a_prefix() {
    for mode in [CookieMode::Rewrite, CookieMode::Prefix] {
        let (backends, there) = three();
        let proxy = Proxy::http_with(there, |spec| spec.cookie = cookie(mode));
        assert_eq!(
            set(&get(&proxy, None).await),
            None,
            "the backend makes the cookie"
        );
        for backend in &backends {
            backend.behave(HttpBehaviour {
                headers: vec![("Set-Cookie".into(), "SRV=own; path=/app".into())],
                ..HttpBehaviour::default()
            });
        }
        let first = get(&proxy, None).await;
        let cookie = set(&first).unwrap();
        assert!(
            first
                .head
                .get("set-cookie")
                .unwrap()
                .ends_with("; path=/app")
        );
        for _ in 0..4 {
            assert_eq!(id(&get(&proxy, Some(&cookie)).await), id(&first));
        }
        let home = backends.iter().find(|b| b.id() == id(&first)).unwrap();
        let seen = home.seen();
        let got = seen.last().unwrap().head.get("cookie").unwrap();
        match mode {
            CookieMode::Prefix => assert_eq!(got, "SRV=own"),
            _ => assert_eq!(got, cookie),
        }
    }
}

#[tokio::test]
async fn a_cookie_is_told_of_and_survives_changes() {
    let (_backends, there) = three();
    let mut proxy = Proxy::http_with(there, |spec| spec.cookie = cookie(CookieMode::Insert));
    let first = get(&proxy, None).await;
    let cookie = set(&first).unwrap();
    let tuple = Tuple {
        client: ([127, 0, 0, 1], 1).into(),
        destination: proxy.address(),
        proto: plimsoll_model::Proto::Http,
        host: None,
        path: None,
    };
    let steps = proxy.plane.explain(&tuple).steps.join("\n");
    assert!(
        steps.contains("cookie SRV: a client that has it"),
        "{steps}"
    );
    let late = HttpBackend::start("d").unwrap();
    proxy.add_backend(at(late.address()));
    assert_eq!(id(&get(&proxy, Some(&cookie)).await), id(&first));
    proxy.edit(|web| std::sync::Arc::make_mut(&mut web.spec).cookie = None);
    let plain = get(&proxy, Some(&cookie)).await;
    assert_eq!((set(&plain), proxy.counters().cookie), (None, None));
    assert!(wait_until_async(BOUND, || proxy.counters().total == 3).await);
}
