use super::*;
use crate::backend::{LiveBackend, Place};
use crate::conn::Phase;
use crate::counts::{ListenCounts, per_worker};
use plimsoll_model::{Backend, Listen, Name, Origin, Proto};
use std::net::Ipv4Addr;

/// A worker of a plane that is not there.
pub(crate) fn worker() -> Rc<Worker> {
    let shared = Shared {
        load: Load::new(1),
        logging: AtomicBool::new(false),
        pages: crate::CommonPages::default(),
        compress_memory: crate::http::compress::Memory::new(0),
        access_log: AccessLog::default(),
        snapshot: ArcSwap::default(),
        udp: Arc::new(udp::All::new(16)),
        epoch: Instant::now(),
        workers: std::sync::OnceLock::new(),
        guards: crate::http::auth::Guards::default(),
    };
    Rc::new(Worker::new(0, Arc::new(shared)))
}

pub(crate) fn port() -> Arc<Port> {
    Arc::new(Port {
        index: 0,
        listen: Listen::socket(std::net::IpAddr::from(Ipv4Addr::LOCALHOST), 80, Proto::Http),
        port: 80,
        transparent: false,
        counts: Arc::new(per_worker::<ListenCounts>(1)),
    })
}

fn runtime() -> tokio::runtime::LocalRuntime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap()
}

/// A connection's task that has a place at a backend, and panics if it is told so.
async fn serve(listed: Listed, backend: Arc<LiveBackend>, panics: bool) {
    assert!(
        backend.admission.try_enter(),
        "nobody has kept the only place"
    );
    let _place = Place::admitted(backend);
    let _scratch = listed.worker.scratch.borrow_mut();
    assert!(!panics, "as the test wants it");
}

#[test]
fn a_panic_ends_one_connection_and_gives_back_what_it_held() {
    runtime().block_on(async {
        let (worker, port) = (worker(), port());
        let (events, _heard) = mpsc::channel(1);
        let address = std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let backend = Backend {
            maxconn: 1,
            ..Backend::new(address.into(), Origin::new("test", "b"))
        };
        let service: Name = "web".parse().unwrap();
        let backend = Arc::new(LiveBackend::new(1, service, &backend, 1, 0, events));
        let start = |panics| {
            let conn = Conn::new(address, address.ip(), port.clone(), Phase::Idle, 0);
            let listed = Listed::new(&worker, conn);
            tokio::task::spawn_local(serve(listed, backend.clone(), panics))
        };
        let other = start(false);
        let broken = start(true);
        let after = start(false);
        assert!(broken.await.unwrap_err().is_panic());
        other.await.unwrap();
        after.await.unwrap();
        let counts = &port.counts[0];
        assert_eq!((counts.closed.get(), counts.panicked.get()), (3, 1));
        assert!(worker.conns.borrow().is_empty());
        assert!(worker.scratch.try_borrow_mut().is_ok());
        assert!(backend.admission.try_enter(), "its place is free again");
    });
}

#[test]
fn no_id_is_given_twice() {
    let workers = [worker(), worker()];
    let ids: std::collections::HashSet<u128> = (0..20_000).map(|n| workers[n % 2].id()).collect();
    assert_eq!(ids.len(), 20_000);
    // Neither half of them is made of the other: both are different each time.
    let upper: std::collections::HashSet<u128> = ids.iter().map(|id| id >> 64).collect();
    assert!(upper.len() > 19_990);
}

#[test]
fn a_panic_in_the_beat_keeps_to_the_connection_that_makes_it() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap();
    runtime.block_on(async {
        let (worker, port) = (worker(), port());
        let address = std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let listed = [(); 3].map(|()| {
            let conn = Conn::new(address, address.ip(), port.clone(), Phase::Idle, 0);
            conn.set_deadline(0, 1);
            Listed::new(&worker, conn)
        });
        let [before, broken, behind] = listed.each_ref().map(|listed| &listed.conn);
        broken.poison();
        tokio::task::spawn_local(tick::tick(worker.clone()));
        let bound = std::time::Duration::from_secs(10);
        let swept = || before.is_expired() && behind.is_expired();
        assert!(plimsoll_testkit::wait_until_async(bound, swept).await);
        assert!(broken.is_expired() && broken.is_cut(), "its task is to end");
        assert!(!behind.is_cut());
        // The next beats come as ever, and it counts once.
        let now = worker.now();
        let later = || worker.now() > now + 2 * TICK_MS;
        assert!(plimsoll_testkit::wait_until_async(bound, later).await);
        assert_eq!(port.counts[0].panicked.get(), 1);
    });
}

#[test]
fn a_panic_while_a_connection_is_accepted_stops_no_other() {
    runtime().block_on(async {
        let (worker, port) = (worker(), port());
        let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let taken = Rc::new(Cell::new(0));
        let count = taken.clone();
        let broken = [1, 2, 4];
        let take = move |worker: &Rc<Worker>, handed: Handed| {
            let _arrival = handed.arrive(worker);
            count.set(count.get() + 1);
            assert!(!broken.contains(&count.get()), "as the test wants it");
        };
        let listener = Acceptor::new(socket).unwrap();
        let accepting = accept(worker.clone(), port.clone(), listener, stopped, take);
        let accepting = tokio::task::spawn_local(accepting);
        let mut stop = Some(stop);
        for turn in 1..=5 {
            // The last one is still in the backlog when the port is closed.
            drop((turn == 5).then(|| stop.take()));
            let client = tokio::net::TcpStream::connect(address).await.unwrap();
            while taken.get() < turn {
                tokio::task::yield_now().await;
            }
            drop(client);
        }
        accepting.await.unwrap();
        let counts = &port.counts[0];
        assert_eq!(counts.accepted.get(), 5);
        assert_eq!((counts.closed.get(), counts.panicked.get()), (3, 3));
        assert!(worker.conns.borrow().is_empty());
    });
}
