//! Services and routes in maintenance.

use std::sync::Arc;
use std::time::Duration;

use plimsoll_model::{Compress, Intercept, Maintenance, Proto, RouteHttp, ServiceHttp};
use plimsoll_plane::{Plane, Tuple};
use plimsoll_testkit::HttpBackend;

use crate::common::{BOUND, Proxy, put_route, route};

/// Puts `web` into this maintenance.
fn set(proxy: &mut Proxy, maintenance: Option<Maintenance>) {
    proxy.edit(|web| {
        let http = ServiceHttp {
            maintenance,
            ..ServiceHttp::default()
        };
        Arc::make_mut(&mut web.spec).http = Some(http.into());
    });
}

#[tokio::test]
async fn a_service_in_maintenance_says_when_to_come_back_and_keeps_connections() {
    let backend = HttpBackend::start("b").unwrap();
    let mut proxy = Proxy::http(&[backend.address()]);
    let mut client = proxy.connect().await;
    assert_eq!(client.get("a", "/", BOUND).await.unwrap().status, 200);
    let maintenance = Maintenance {
        retry_after: Duration::from_secs(600),
        ..Maintenance::new(true)
    };
    set(&mut proxy, Some(maintenance.clone()));
    for method in ["GET", "HEAD", "GET"] {
        let head = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.send(head).await.unwrap();
        let answer = client.read_response_to(method, BOUND).await.unwrap();
        assert_eq!(answer.status, 503);
        assert_eq!(answer.head.get("retry-after"), Some("600"));
    }
    assert_eq!(
        (proxy.counters().maintained, backend.stats().requests),
        (3, 1)
    );
    // Those who may see through it, one who is only prepared for it, and afterwards.
    let seen = Maintenance {
        except: vec!["127.0.0.0/8".parse().unwrap()],
        ..maintenance.clone()
    };
    let off = Maintenance {
        on: false,
        ..maintenance
    };
    for maintenance in [Some(seen), Some(off), None] {
        set(&mut proxy, maintenance);
        assert_eq!(client.get("a", "/", BOUND).await.unwrap().status, 200);
    }
    assert_eq!(proxy.counters().maintained, 3);
    proxy.settled().await;
}

#[tokio::test]
async fn a_route_is_in_maintenance_for_itself() {
    let backend = HttpBackend::start("b").unwrap();
    let mut proxy = Proxy::http(&[backend.address()]);
    proxy.change(|desired| {
        let mut closed = route("closed", "a", "/shop", &[("web", 1)]);
        let http = RouteHttp {
            maintenance: Some(Maintenance::new(true)),
            ..RouteHttp::default()
        };
        closed.http = Some(http.into());
        put_route(desired, closed);
        put_route(desired, route("open", "a", "/", &[("web", 1)]));
    });
    assert_eq!(proxy.get("a", "/shop/1").await.status, 503);
    assert_eq!(proxy.get("a", "/").await.status, 200);
}

#[tokio::test]
async fn explain_says_who_is_sent_away_and_what_else_is_done() {
    let backend = HttpBackend::start("b").unwrap();
    let mut proxy = Proxy::http(&[backend.address()]);
    let http = ServiceHttp {
        compress: Some(Compress::default()),
        intercept: Intercept(["5xx".parse().unwrap()].into()),
        maintenance: Some(Maintenance {
            except: vec!["192.0.2.0/24".parse().unwrap()],
            ..Maintenance::new(true)
        }),
        ..ServiceHttp::default()
    };
    proxy.edit(|web| Arc::make_mut(&mut web.spec).http = Some(http.into()));
    let destination = proxy.address();
    let explain = |client: &str, path: &str| {
        let told = proxy.plane.explain(&Tuple {
            proto: Proto::Http,
            client: std::net::SocketAddr::new(client.parse().unwrap(), 1),
            destination,
            host: Some("a".into()),
            path: Some(path.into()),
        });
        (told.status, told.nowhere, told.steps.join("\n"))
    };
    let (status, nowhere, _) = explain("127.0.0.1", "/");
    assert_eq!(status, Some(503));
    assert_eq!(nowhere.as_deref(), Some("service `web` is in maintenance"));
    let (status, nowhere, steps) = explain("192.0.2.1", "/");
    assert_eq!((status, nowhere), (None, None));
    for step in [
        "in maintenance, but not for 192.0.2.1",
        "compresses responses for clients that accept zstd, br, gzip",
        "error pages in the place of backends' answers with 5xx",
    ] {
        assert!(steps.contains(step), "{step} in {steps}");
    }
}
