//! A defect of our own stays with the session in which it shows.

use std::net::{Ipv4Addr, SocketAddr};

use plimsoll_model::{Origin, Service, ServiceSpec};

use super::*;
use crate::snapshot::SharedService;
use crate::udp::quota;
use crate::worker::tests::{port, worker};

fn service() -> Arc<LiveService> {
    let spec = ServiceSpec::new("dns".parse().unwrap(), Origin::new("test", "dns"), vec![]);
    let shared = Arc::new(SharedService::new(1));
    let now = std::time::Instant::now();
    let none = |_: &_, _: &_| unreachable!("it has no backends");
    Arc::new(LiveService::new(
        &Service::new(spec, []),
        shared,
        now,
        0,
        none,
    ))
}

#[test]
fn a_panic_ends_one_session_and_gives_back_its_room() {
    let (worker, port, service) = (worker(), port(), service());
    let mut hub = Hub::new(4).unwrap();
    let mut begin = |client: u16| {
        let client = SocketAddr::from((Ipv4Addr::LOCALHOST, client));
        let room = quota::enter(&worker.shared.udp, &service.shared.udp, client.ip(), 2, 0);
        let session = Session::new(&worker, &service, &port, room.unwrap());
        let (port, local) = (0, None);
        let key = Key {
            port,
            client,
            local,
        };
        hub.table.insert(key, lane(&service), 0, session, 0)
    };
    let (broken, other) = (begin(1), begin(2));
    hub.contain(&worker, Source::Port(0), |hub| {
        hub.at_work = Some(broken);
        panic!("as the test wants it");
    });
    assert!(hub.table.get(broken).is_none());
    assert!(hub.table.get(other).is_some());
    let counts = &port.counts[0];
    assert_eq!((counts.closed.get(), counts.panicked.get()), (1, 1));
    assert_eq!(service.shared.udp.now(), 1);
    assert_eq!(hub.unread, [Source::Port(0)], "the rest is read later");
    // Where it was at nobody's, nobody's is lost.
    hub.contain(&worker, Source::Session(other), |_| {
        panic!("as the test wants it")
    });
    assert!(hub.table.get(other).is_some());
    assert!(!hub.serve(&worker), "it goes on, and nothing is left");
    assert!(hub.unread.is_empty());
}
