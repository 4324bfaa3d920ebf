//! Clients that go away in the middle, stand still, or talk nonsense: none may be held for ever.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use plimsoll_testkit::{Raw, WANT_HEADER};
use tokio::task::JoinSet;

use super::world::World;

/// Whoever stands still is cut off within this.
const PATIENCE: Duration = Duration::from_secs(25);

/// Between two of those who leave or talk nonsense.
const PAUSE: Duration = Duration::from_millis(150);

const WEB: &str = "Host: web.example\r\n";

/// What they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Silent,
    SlowHead,
    SlowBody,
    Deaf,
    TcpSilent,
    TcpSlow,
    LeaveInTheHead,
    LeaveInTheBody,
    LeaveInTheAnswer,
    LeaveInATunnel,
    LeaveTcp,
    Nonsense,
    Unknown,
}

/// Of each, how many at a time.
const ALL: [(Kind, usize); 13] = [
    (Kind::Silent, 5),
    (Kind::SlowHead, 5),
    (Kind::SlowBody, 5),
    (Kind::Deaf, 2),
    (Kind::TcpSilent, 2),
    (Kind::TcpSlow, 2),
    (Kind::LeaveInTheHead, 1),
    (Kind::LeaveInTheBody, 1),
    (Kind::LeaveInTheAnswer, 1),
    (Kind::LeaveInATunnel, 1),
    (Kind::LeaveTcp, 1),
    (Kind::Nonsense, 1),
    (Kind::Unknown, 1),
];

impl Kind {
    fn is_tcp(self) -> bool {
        matches!(self, Kind::TcpSilent | Kind::TcpSlow | Kind::LeaveTcp)
    }

    /// It waits for its end; else it goes by itself.
    fn stays(self) -> bool {
        matches!(
            self,
            Kind::Silent
                | Kind::SlowHead
                | Kind::SlowBody
                | Kind::TcpSilent
                | Kind::TcpSlow
                | Kind::Nonsense
        )
    }

    fn bytes(self) -> String {
        let much = 8 << 20;
        match self {
            Kind::Silent | Kind::TcpSilent => String::new(),
            Kind::SlowHead | Kind::LeaveInTheHead => format!("GET / HTTP/1.1\r\n{WEB}X-Slow: "),
            Kind::SlowBody | Kind::LeaveInTheBody => {
                format!("POST / HTTP/1.1\r\n{WEB}Content-Length: 1000\r\n\r\nabc")
            }
            Kind::Deaf | Kind::LeaveInTheAnswer => {
                format!("GET / HTTP/1.1\r\n{WEB}{WANT_HEADER}: {much}\r\n\r\n")
            }
            Kind::LeaveInATunnel => format!(
                "GET / HTTP/1.1\r\n{WEB}Connection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            ),
            Kind::TcpSlow | Kind::LeaveTcp => "some-id 1000\nabc".to_owned(),
            Kind::Nonsense => "GET / HTTP/1.1\nHost:x\n\n\0\0\0".to_owned(),
            Kind::Unknown => {
                "GET /nowhere HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n".to_owned()
            }
        }
    }

    /// Does it once.
    ///
    /// # Errors
    /// In words, what went wrong with the load balancer.
    async fn annoy(self, address: SocketAddr) -> Result<(), String> {
        let connected = Raw::connect(address).await;
        let mut raw = connected.map_err(|error| format!("{self:?}: cannot connect: {error}"))?;
        // Whatever breaks from here on is what it asked for.
        if raw.send(self.bytes()).await.is_err() {
            return Ok(());
        }
        match self {
            Kind::LeaveInTheAnswer | Kind::LeaveInATunnel | Kind::Deaf => {
                let _ = raw.read_head(PATIENCE).await;
            }
            _ => {}
        }
        if self == Kind::Deaf {
            // Longer than anybody's patience; then it looks what has become of it.
            tokio::time::sleep(Duration::from_secs(8)).await;
        }
        if self.stays() || self == Kind::Deaf {
            let ended = raw.read_to_end(PATIENCE).await;
            return match ended {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("{self:?}: held for {PATIENCE:?}: {error}")),
            };
        }
        let _ = raw.reset();
        Ok(())
    }
}

/// All of them.
pub(super) struct Nuisances {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    tasks: JoinSet<Vec<String>>,
}

impl Nuisances {
    /// Starts them.
    pub(super) fn start(world: &World) -> Self {
        let mut all = Self {
            stop: Arc::default(),
            done: Arc::default(),
            tasks: JoinSet::new(),
        };
        for (kind, count) in ALL {
            for _ in 0..count {
                let address = if kind.is_tcp() {
                    world.tcp()
                } else {
                    world.http()
                };
                let (stop, done) = (Arc::clone(&all.stop), Arc::clone(&all.done));
                all.tasks.spawn(async move {
                    let mut faults = Vec::new();
                    while !stop.load(Ordering::Relaxed) && faults.len() < 5 {
                        match kind.annoy(address).await {
                            Ok(()) => done.fetch_add(1, Ordering::Relaxed),
                            Err(fault) => {
                                faults.push(fault);
                                0
                            }
                        };
                        tokio::time::sleep(PAUSE).await;
                    }
                    faults
                });
            }
        }
        all
    }

    /// Ends them, and says which were not got rid of.
    pub(super) async fn stop(mut self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut faults = Vec::new();
        while let Some(ended) = self.tasks.join_next().await {
            match ended {
                Ok(more) => faults.extend(more),
                Err(error) => faults.push(format!("a nuisance ended: {error}")),
            }
        }
        let done = self.done.load(Ordering::Relaxed);
        println!("{:>26}: {done}", "nuisances");
        faults
    }
}
