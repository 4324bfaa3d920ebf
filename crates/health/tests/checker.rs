//! The task that does all checks, against real backends.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_health::{Finding, run_checks};
use plimsoll_model::{
    Backend, BackendAddr, Check, Desired, Name, Origin, Service, ServiceSpec, State, Status,
};
use plimsoll_testkit::{Answer, HttpBackend, HttpBehaviour, TcpBackend, wait_until_async};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// Fast enough for a test.
fn fast(text: &str) -> Check {
    Check {
        interval: Duration::from_millis(100),
        ..text.parse().unwrap()
    }
}

/// The task, and a control that takes its word.
struct Bench {
    desired: Desired,
    tell: watch::Sender<Arc<Desired>>,
    findings: mpsc::Receiver<Finding>,
    task: JoinHandle<()>,
}

impl Bench {
    fn new() -> Self {
        let (tell, hear) = watch::channel(Arc::default());
        let (send, findings) = mpsc::channel(16);
        Self {
            desired: Desired::default(),
            tell,
            findings,
            task: tokio::spawn(run_checks(hear, send, 1)),
        }
    }

    fn put(&mut self, text: &str, check: Option<Check>, backends: &[(SocketAddr, State)]) {
        let origin = Origin::new("test", text);
        let mut spec = ServiceSpec::new(name(text), origin.clone(), Vec::new());
        spec.check = check;
        let backends = backends.iter().map(|(addr, state)| Backend {
            status: Status::new(*state, ""),
            ..Backend::new((*addr).into(), origin.clone())
        });
        let service = Service::new(spec, backends);
        self.desired.services.insert(name(text), service.into());
        self.tell();
    }

    fn tell(&self) {
        self.tell.send(Arc::new(self.desired.clone())).unwrap();
    }

    /// The next that is found, put in force.
    async fn next(&mut self) -> Finding {
        let finding = timeout(SOON, self.findings.recv()).await.unwrap().unwrap();
        let service = self.desired.services.get_mut(&finding.service).unwrap();
        let backends = &mut Arc::make_mut(service).backends;
        let backend = backends.get_mut(&finding.backend).unwrap();
        Arc::make_mut(backend).status = (&finding.verdict).into();
        self.tell();
        finding
    }

    /// Waits until this is found.
    async fn until(&mut self, backend: SocketAddr, state: State) -> String {
        loop {
            let found = self.next().await;
            let verdict = found.verdict;
            if found.backend == BackendAddr::from(backend) && verdict.state == state {
                return verdict.reason.to_string();
            }
        }
    }
}

use State::{Down, Ready, Starting};

#[tokio::test]
async fn a_backend_goes_down_and_comes_back() {
    let backend = HttpBackend::start("a").unwrap();
    let addr = backend.address();
    let mut bench = Bench::new();
    bench.put("web", Some(fast("http:/health")), &[(addr, Starting)]);
    assert_eq!(bench.until(addr, Ready).await, "");
    let status = |status| HttpBehaviour {
        status,
        ..HttpBehaviour::default()
    };
    backend.behave(status(500));
    assert_eq!(
        bench.until(addr, Down).await,
        "check http:/health: status 500"
    );
    backend.refuse().await;
    let why = bench.until(addr, Down).await;
    assert_eq!(why, "check http:/health: connection refused");
    backend.behave(status(204));
    backend.listen_again().unwrap();
    assert_eq!(bench.until(addr, Ready).await, "");
}

#[tokio::test]
async fn a_new_backend_is_starting_until_it_answers() {
    let backend = TcpBackend::start("a").unwrap();
    backend.refuse().await;
    let addr = backend.address();
    let mut bench = Bench::new();
    let check = Check {
        fall: 1000,
        ..fast("tcp")
    };
    bench.put("web", Some(check), &[(addr, Starting)]);
    let why = bench.until(addr, Starting).await;
    assert_eq!(why, "check tcp: connection refused");
    backend.listen_again().unwrap();
    bench.until(addr, Ready).await;
}

#[tokio::test]
async fn what_has_no_check_is_left_alone() {
    let plain = TcpBackend::start("plain").unwrap();
    let checked = TcpBackend::start("checked").unwrap();
    let leaving = TcpBackend::start("leaving").unwrap();
    let mut bench = Bench::new();
    bench.put("plain", None, &[(plain.address(), Ready)]);
    let backends = [
        (checked.address(), Ready),
        (leaving.address(), State::Draining),
    ];
    bench.put("web", Some(fast("tcp")), &backends);
    let checks = || checked.stats().connections;
    assert!(wait_until_async(SOON, || checks() >= 3).await);
    assert_eq!(
        (plain.stats().connections, leaving.stats().connections),
        (0, 0)
    );
    // Without its check, or gone, it is left alone, too: others are checked on.
    let other = TcpBackend::start("other").unwrap();
    bench.put("other", Some(fast("tcp")), &[(other.address(), Ready)]);
    bench.put("web", None, &backends);
    let others = || other.stats().connections;
    assert!(wait_until_async(SOON, || others() >= 1).await);
    let (before, others_before) = (checks(), others());
    assert!(wait_until_async(SOON, || others() >= others_before + 3).await);
    assert!(checks() <= before + 1, "one may have been under way");
    bench.desired.services.clear();
    bench.tell();
    drop(bench.tell);
    timeout(SOON, bench.task).await.unwrap().unwrap();
}

/// More silent backends than checks may be under way hold up others only for a time-out.
#[tokio::test]
async fn silence_is_bounded() {
    let silent = HttpBackend::start("silent").unwrap();
    silent.behave(HttpBehaviour::answering(Answer::Never));
    let good = HttpBackend::start("good").unwrap();
    let mut bench = Bench::new();
    let check = Check {
        timeout: Duration::from_millis(200),
        fall: 1,
        ..fast("http")
    };
    // As many services as it takes: an address is once in each.
    for n in 0..400 {
        bench.put(
            &format!("a{n:03}"),
            Some(check.clone()),
            &[(silent.address(), Ready)],
        );
    }
    bench.put("z", Some(check), &[(good.address(), Starting)]);
    let mut found: BTreeMap<Name, State> = BTreeMap::new();
    while found.len() < 401 {
        let finding = bench.next().await;
        found.insert(finding.service, finding.verdict.state);
    }
    assert_eq!(found.remove(&name("z")), Some(Ready));
    assert!(found.values().all(|state| *state == Down));
}

/// Backends that accept and never answer hold up nobody else, and nothing once they are gone.
#[tokio::test]
async fn silence_leaves_room_and_ends_with_its_service() {
    let silent = HttpBackend::start("silent").unwrap();
    silent.behave(HttpBehaviour::answering(Answer::Never));
    let good = HttpBackend::start("good").unwrap();
    let mut bench = Bench::new();
    let endless = Check {
        timeout: *Check::TIMEOUT.end(),
        ..fast("http")
    };
    // More than can be under way at once; all are checked at one port.
    for n in 0..4 {
        let origin = Origin::new("test", "silent");
        let mut spec = ServiceSpec::new(name(&format!("a{n}")), origin.clone(), Vec::new());
        spec.check = Some(endless.clone());
        spec.check.as_mut().unwrap().port = Some(silent.address().port());
        let addr = |i: u8| SocketAddr::from(([127, 0, 0, 1], 1000 + u16::from(i)));
        let backends = (0..100).map(|i| Backend {
            status: Status::new(Starting, ""),
            ..Backend::new(addr(i).into(), origin.clone())
        });
        let service = Service::new(spec, backends);
        let services = &mut bench.desired.services;
        services.insert(service.name().clone(), service.into());
    }
    bench.tell();
    assert!(wait_until_async(SOON, || silent.stats().active >= 200).await);
    bench.put("z", Some(fast("http")), &[(good.address(), Starting)]);
    assert_eq!(bench.until(good.address(), Ready).await, "");
    bench.desired.services.clear();
    bench.tell();
    // Long before their time-out.
    assert!(wait_until_async(SOON, || silent.stats().active == 0).await);
}

#[tokio::test]
async fn it_ends_with_those_who_listen() {
    let backend = TcpBackend::start("a").unwrap();
    let mut bench = Bench::new();
    bench.put("web", Some(fast("tcp")), &[(backend.address(), Starting)]);
    drop(bench.findings);
    timeout(SOON, bench.task).await.unwrap().unwrap();
}
