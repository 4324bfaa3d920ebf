//! Panics in the tasks of real connections.

use plimsoll_model::{Backend, Listen, Op, Origin, Plan, Proto, Service, ServiceSpec};
use plimsoll_plane::Plane;
use plimsoll_testkit::{HttpBackend, Port, Raw, wait_until_async};

use crate::{Options, ProxyPlane};

const BOUND: std::time::Duration = std::time::Duration::from_secs(10);

/// A service of this name whose connections to a backend panic.
pub(crate) const PANICS: &str = "panics";

/// A service with one place at one backend.
fn service(name: &str, proto: Proto, port: &Port, backend: &HttpBackend) -> Op {
    let at = port.address();
    let origin = Origin::new("test", name);
    let listens = vec![Listen::socket(at.ip(), at.port(), proto)];
    let spec = ServiceSpec::new(name.parse().unwrap(), origin.clone(), listens);
    let backend = Backend {
        maxconn: 1,
        ..Backend::new(backend.address().into(), origin)
    };
    Op::AddService(Service::new(spec, [backend]).into())
}

#[tokio::test]
async fn a_panic_ends_the_connection_that_it_is_in_and_nothing_else() {
    for proto in [Proto::Http, Proto::Tcp] {
        let backend = HttpBackend::start("b").unwrap();
        let (bad, good) = (Port::take().unwrap(), Port::take().unwrap());
        let mut plane = ProxyPlane::start(Options {
            workers: 1,
            ..Options::default()
        })
        .unwrap();
        let results = plane.apply(&Plan {
            ops: vec![
                service(PANICS, proto, &bad, &backend),
                service("web", proto, &good, &backend),
            ],
        });
        assert!(results.iter().all(|result| result.result.is_ok()));
        let mut beside = Raw::connect(good.address()).await.unwrap();
        assert_eq!(beside.get("a", "/", BOUND).await.unwrap().status, 200);
        // The one place is given back each time, or the next would wait for it.
        for _ in 0..3 {
            let mut raw = Raw::connect(bad.address()).await.unwrap();
            raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            let (got, _) = raw.read_to_end(BOUND).await.unwrap();
            assert!(got.is_empty(), "no answer: {got:?}");
        }
        let over = || {
            let counters = plane.counters();
            let bad = counters.listens.iter().find(|l| l.panicked > 0);
            bad.is_some_and(|listen| (listen.panicked, listen.connections) == (3, 0))
        };
        assert!(
            wait_until_async(BOUND, over).await,
            "{:?}",
            plane.counters()
        );
        let counters = plane.counters();
        let of_bad = counters.services.iter().find(|s| s.name.as_str() == PANICS);
        assert_eq!(of_bad.unwrap().backends[0].1.active, 0);
        assert_eq!(beside.get("a", "/", BOUND).await.unwrap().status, 200);
    }
}
