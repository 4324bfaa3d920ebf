//! Clients whose TLS another proxy had open, which speaks for them by a PROXY header.

use plimsoll_model::{ProxyVersion, Redirect, Route, RouteHttp, ServiceSpec};
use plimsoll_plane_proxy::proxy_header::{Ends, ProxyHeader, write};
use plimsoll_testkit::{HttpBackend, Response};

use crate::common::{BOUND, Proxy, at, put_route, route};

/// `PP2_TYPE_SSL`: the client's bits, and whether its certificate was good.
const OVER_TLS: &[u8] = &[0x20, 0, 5, 0x01, 0, 0, 0, 0];
const IN_CLEAR: &[u8] = &[0x20, 0, 5, 0x00, 0, 0, 0, 0];
const NOTHING: &[u8] = &[];

/// The client that headers name.
const CLIENT: &str = "198.51.100.7";

/// Everything is redirected to TLS; who connects from here has to begin with a header.
struct Stage {
    proxy: Proxy,
    backend: HttpBackend,
}

impl Stage {
    fn new(set: impl FnOnce(&mut ServiceSpec)) -> Self {
        let backend = HttpBackend::start("b").unwrap();
        let mut proxy = Proxy::http_with(vec![at(backend.address())], |spec| {
            spec.proxy_headers.accept = vec!["127.0.0.0/8".parse().unwrap()];
            set(spec);
        });
        let http = RouteHttp {
            redirect: Some(Redirect::new("https".parse().unwrap())),
            ..RouteHttp::default()
        };
        let all = Route {
            http: Some(http.into()),
            ..route("all", "*", "/", &[("web", 1)])
        };
        proxy.change(|desired| put_route(desired, all));
        Self { proxy, backend }
    }

    async fn ask(&self, extras: &[u8], proto: &str) -> Response {
        let said = ProxyHeader {
            ends: Some(Ends {
                client: format!("{CLIENT}:1").parse().unwrap(),
                server: "203.0.113.9:443".parse().unwrap(),
            }),
            extras: extras.into(),
            checksum: false,
        };
        let mut bytes = write(ProxyVersion::V2, &said);
        let fields = format!("X-Forwarded-For: 192.0.2.66\r\n{proto}");
        bytes.extend(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").bytes());
        let mut client = self.proxy.connect().await;
        client.send(bytes).await.unwrap();
        client.read_response(BOUND).await.unwrap()
    }

    /// Sends a request over TLS, as it seems; the `X-Forwarded-For` that the backend got.
    async fn passes(&self, extras: &[u8], proto: &str) -> String {
        assert_eq!(self.ask(extras, proto).await.status, 200, "{proto}");
        let seen = self.backend.seen().pop().unwrap().head;
        assert_eq!(seen.get("x-forwarded-proto"), Some("https"));
        let forwarded = seen.get("forwarded").unwrap();
        let own = format!("for={CLIENT};host=a;proto=https");
        assert!(forwarded.ends_with(&own), "{forwarded}");
        seen.get("x-forwarded-for").unwrap().to_owned()
    }

    async fn is_redirected(&self, extras: &[u8], proto: &str) {
        let answer = self.ask(extras, proto).await;
        assert_eq!(answer.head.get("location"), Some("https://a/"), "{proto}");
    }
}

const HTTPS: &str = "X-Forwarded-Proto: https\r\n";
const HTTP: &str = "X-Forwarded-Proto: http\r\n";

#[tokio::test]
async fn the_header_says_whether_a_client_came_over_tls() {
    let stage = Stage::new(|_| {});
    for field in ["", HTTP, HTTPS] {
        assert_eq!(stage.passes(OVER_TLS, field).await, CLIENT);
        stage.is_redirected(IN_CLEAR, field).await;
        // Nobody said so who would be believed.
        stage.is_redirected(NOTHING, field).await;
    }
}

#[tokio::test]
async fn a_trusted_balancer_may_say_it_in_its_field_and_nothing_else() {
    let trusted = "127.0.0.0/8".parse().unwrap();
    let stage = Stage::new(|spec| spec.trusted = vec![trusted]);
    assert_eq!(stage.passes(NOTHING, HTTPS).await, CLIENT);
    stage.is_redirected(NOTHING, "").await;
    stage.is_redirected(NOTHING, HTTP).await;
    // What its header says is not the client's to change.
    stage.is_redirected(IN_CLEAR, HTTPS).await;
    assert_eq!(stage.passes(OVER_TLS, HTTP).await, CLIENT);
}

#[tokio::test]
async fn a_trusted_client_speaks_for_others_as_ever() {
    let trusted = format!("{CLIENT}/32").parse().unwrap();
    let stage = Stage::new(|spec| spec.trusted = vec![trusted]);
    let both = format!("192.0.2.66, {CLIENT}");
    assert_eq!(stage.passes(OVER_TLS, HTTPS).await, both);
    assert_eq!(stage.passes(OVER_TLS, "").await, both);
    // Its own client came in clear.
    stage.is_redirected(OVER_TLS, HTTP).await;
    stage.is_redirected(NOTHING, "").await;
}
