//! The API over real sockets, with a scripted control behind it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod metrics;
mod server;
mod stats;
mod stats_socket;

use std::path::PathBuf;
use std::time::Duration;

use plimsoll_admin::{Access, Ask, Done, NotTaken, Readiness, Report, Socket};
use plimsoll_control::status::{
    AsideStatus, BackendStatus, ListenStatus, PlaneStatus, ServiceStatus, SourceStatus,
};
use plimsoll_control::{Command, CommandError};
use plimsoll_testkit::TempDir;
use tokio::net::UnixListener;
use tokio::sync::mpsc;

/// Everything that should happen soon happens within this.
const SOON: Duration = Duration::from_secs(10);

/// A report with something in every place, and names that are hard to write.
fn report() -> Report {
    let mut backend = BackendStatus {
        addr: "10.0.0.1:80".into(),
        state: "ready".into(),
        weight: 3,
        ejections: 2,
        ..BackendStatus::default()
    };
    backend.counters.requests = 100;
    backend.counters.active = 4;
    backend.counters.responses = [1, 90, 2, 3, 4];
    let mut other = backend.clone();
    other.addr = "unix:/run/a\"b\\c\nd.sock".into();
    other.state = "down".into();
    let listen = ListenStatus {
        listen: "*:80/http".into(),
        connections: 7,
        accepted: 9,
        panicked: 0,
        requests: 16,
        refused: vec![(404, 5), (400, 1)],
        unsent: 3,
        lost: vec![("backend-gone".into(), 2)],
        error: None,
    };
    let service = |name: &str, backends: &[BackendStatus]| ServiceStatus {
        name: name.into(),
        total: 200,
        unserved: 1,
        listens: vec![listen.clone()],
        backends: backends.to_vec(),
        ..ServiceStatus::default()
    };
    let mut report = Report {
        version: "1.2.3".into(),
        pid: 42,
        uptime: 1.5,
        workers: 2,
        readiness: Readiness {
            ready: true,
            ..Readiness::default()
        },
        ..Report::default()
    };
    report.status.services = vec![service("api", &[]), service("web", &[backend, other])];
    report.status.sources = vec![SourceStatus {
        name: "file:/etc/x.toml".into(),
        state: "fresh".into(),
        entries: 3,
        ..SourceStatus::default()
    }];
    report.status.quarantine = vec![AsideStatus::default()];
    report.status.planes = vec![PlaneStatus {
        name: "proxy".into(),
        audits: 11,
        repairs: 1,
        ..PlaneStatus::default()
    }];
    report
}

/// What control was asked to do.
#[derive(Debug, PartialEq, Eq)]
enum Did {
    Command(String, String, Command),
    Reload,
}

/// A server with a control that answers at once.
struct Api {
    _dir: TempDir,
    path: PathBuf,
    did: mpsc::UnboundedReceiver<Did>,
    ready: tokio::sync::watch::Sender<bool>,
}

impl Api {
    fn start() -> Self {
        let (asks, mut inbox) = mpsc::channel(16);
        let (tell, did) = mpsc::unbounded_channel();
        let ready = tokio::sync::watch::Sender::new(true);
        let is_ready = ready.subscribe();
        tokio::spawn(async move {
            while let Some(ask) = inbox.recv().await {
                answer(ask, *is_ready.borrow(), &tell);
            }
        });
        Self::serving(asks, did, ready)
    }

    fn serving(
        asks: mpsc::Sender<Ask>,
        did: mpsc::UnboundedReceiver<Did>,
        ready: tokio::sync::watch::Sender<bool>,
    ) -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("admin.sock");
        let mut socket = Socket::bind(&path, Access::default()).unwrap();
        let listener = UnixListener::from_std(socket.take().unwrap()).unwrap();
        tokio::spawn(async move {
            let _kept = socket;
            plimsoll_admin::serve_admin(listener, asks).await;
        });
        Self {
            _dir: dir,
            path,
            did,
            ready,
        }
    }
}

fn answer(ask: Ask, ready: bool, tell: &mpsc::UnboundedSender<Did>) {
    match ask {
        Ask::Status(reply) => drop(reply.send(report())),
        Ask::Readiness(reply) => {
            let reasons = if ready {
                Vec::new()
            } else {
                vec!["a listen is closed".into()]
            };
            let draining = false;
            drop(reply.send(Readiness {
                ready,
                draining,
                reasons,
            }));
        }
        Ask::Flows(_, cursor, reply) => {
            drop(reply.send(match cursor {
                0 => Ok(Default::default()),
                _ => Err("a worker does not answer".into()),
            }));
        }
        Ask::Explain(tuple, reply) => {
            let steps = vec![format!("from {}", tuple.client)];
            let explanation = plimsoll_plane::Explanation {
                steps,
                ..Default::default()
            };
            drop(reply.send(plimsoll_admin::ExplainReport::new(
                &tuple,
                "proxy",
                explanation,
            )));
        }
        Ask::Reload(reply) => {
            tell.send(Did::Reload).unwrap();
            let _ = reply.send(());
        }
        Ask::Maintain { service, on, reply } => {
            let maintenance = on == Some(true);
            drop(reply.send(Ok(plimsoll_admin::Maintained {
                service,
                maintenance,
            })));
        }
        Ask::Command {
            service,
            backend,
            command,
            reply,
        } => {
            let result = match service.as_str() {
                "wbe" => Err(NotTaken {
                    error: CommandError::UnknownService(service.clone()),
                    nearest: Some("web".into()),
                }),
                _ => Ok(Done {
                    service: service.clone(),
                    backend: backend.clone(),
                    state: "draining".into(),
                    weight: 1,
                }),
            };
            tell.send(Did::Command(service, backend, command)).unwrap();
            drop(reply.send(result));
        }
    }
}
