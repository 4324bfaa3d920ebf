//! Connections that live long and are never quiet for long.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::client::Protocol;
use crate::exchange::Ask;
use crate::payload::{self, BACKEND_HEADER, ID_HEADER};
use crate::wire::Wire;
use crate::{Error, Place, unique_id, wait_until_async};

/// What the tunnels do.
#[derive(Clone, Debug)]
pub struct TunnelPlan {
    /// Where they connect to.
    pub target: SocketAddr,
    /// Where they connect from.
    pub place: Place,
    /// HTTP: an upgrade to `websocket`, and every message comes back as it is. TCP: exchanges.
    pub protocol: Protocol,
    /// How many.
    pub count: usize,
    /// Bytes of a message.
    pub bytes: usize,
    /// Between two messages.
    pub pause: Duration,
    /// A message that takes longer to come back has broken its tunnel.
    pub bound: Duration,
}

impl TunnelPlan {
    /// So many upgraded connections of this host, a message of 100 bytes every 20 ms, 10 s for each.
    pub fn http(target: SocketAddr, host: &str, count: usize) -> Self {
        Self {
            target,
            place: Place::Here,
            protocol: Protocol::Http {
                host: host.to_owned(),
                path: "/".to_owned(),
            },
            count,
            bytes: 100,
            pause: Duration::from_millis(20),
            bound: Duration::from_secs(10),
        }
    }

    /// The same over plain TCP.
    pub fn tcp(target: SocketAddr, count: usize) -> Self {
        Self {
            protocol: Protocol::Tcp,
            ..Self::http(target, "", count)
        }
    }
}

/// Tunnels at work in the background. Dropping them ends them without a report.
#[derive(Debug)]
pub struct Tunnels {
    shared: Arc<Shared>,
    backends: Vec<String>,
    tasks: Vec<JoinHandle<(u64, Option<String>)>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    exchanged: AtomicU64,
    broken: AtomicU64,
}

/// What became of the tunnels, in the order in which they were opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TunnelReport {
    /// One each.
    pub tunnels: Vec<Tunnel>,
}

/// What became of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The backend at its other end.
    pub backend: String,
    /// Messages that came back as they must.
    pub exchanged: u64,
    /// What broke it.
    pub broken: Option<String>,
}

impl TunnelReport {
    /// The tunnels to this backend.
    pub fn of<'a>(&'a self, backend: &str) -> impl Iterator<Item = &'a Tunnel> {
        self.tunnels
            .iter()
            .filter(move |tunnel| tunnel.backend == backend)
    }

    /// Fails the test unless there are tunnels, none is broken and all exchanged messages.
    ///
    /// # Panics
    /// With the broken ones.
    #[track_caller]
    #[allow(clippy::panic, reason = "this is how a test fails")]
    pub fn assert_clean(&self) {
        let bad: Vec<&Tunnel> = self
            .tunnels
            .iter()
            .filter(|tunnel| tunnel.broken.is_some() || tunnel.exchanged == 0)
            .collect();
        if self.tunnels.is_empty() || !bad.is_empty() {
            panic!("of {} tunnels are bad: {bad:#?}", self.tunnels.len());
        }
    }
}

impl Tunnels {
    /// Opens them, one after the other, and starts to send.
    ///
    /// # Errors
    /// One cannot be opened.
    pub async fn open(plan: TunnelPlan) -> Result<Self, Error> {
        let shared = Arc::new(Shared::default());
        let (mut backends, mut tasks) = (Vec::new(), Vec::new());
        for number in 0..plan.count {
            let opened = tokio::time::timeout(plan.bound, open(&plan)).await;
            let opened = opened.unwrap_or_else(|_| Err(format!("not within {:?}", plan.bound)));
            let (wire, backend) =
                opened.map_err(|reason| Error::Failed(format!("tunnel {number}: {reason}")))?;
            backends.push(backend.clone());
            tasks.push(tokio::spawn(Arc::clone(&shared).work(
                plan.clone(),
                wire,
                backend,
            )));
        }
        Ok(Self {
            shared,
            backends,
            tasks,
        })
    }

    /// The backend at the other end of each.
    pub fn backends(&self) -> &[String] {
        &self.backends
    }

    /// Messages that all of them have exchanged.
    pub fn exchanged(&self) -> u64 {
        self.shared.exchanged.load(Ordering::SeqCst)
    }

    /// Tunnels that are broken.
    pub fn broken(&self) -> u64 {
        self.shared.broken.load(Ordering::SeqCst)
    }

    /// Waits until so many more messages are exchanged; false if they are not within the bound.
    pub async fn more(&self, messages: u64, bound: Duration) -> bool {
        let goal = self.exchanged() + messages;
        wait_until_async(bound, || self.exchanged() >= goal).await
    }

    /// Lets the messages on their way come back, closes and reports.
    pub async fn stop(mut self) -> TunnelReport {
        self.shared.stop.store(true, Ordering::SeqCst);
        let mut tunnels = Vec::new();
        for (backend, task) in self.backends.drain(..).zip(&mut self.tasks) {
            let ended = task.await;
            let (exchanged, broken) =
                ended.unwrap_or_else(|error| (0, Some(format!("its task ended: {error}"))));
            tunnels.push(Tunnel {
                backend,
                exchanged,
                broken,
            });
        }
        TunnelReport { tunnels }
    }
}

impl Drop for Tunnels {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Shared {
    async fn work(
        self: Arc<Self>,
        plan: TunnelPlan,
        mut wire: Wire<TcpStream>,
        backend: String,
    ) -> (u64, Option<String>) {
        let mut exchanged = 0;
        while !self.stop.load(Ordering::SeqCst) {
            let turn = tokio::time::timeout(plan.bound, message(&plan, &mut wire, &backend)).await;
            let turn = turn
                .unwrap_or_else(|_| Err(format!("a message is not back after {:?}", plan.bound)));
            if let Err(reason) = turn {
                self.broken.fetch_add(1, Ordering::SeqCst);
                return (exchanged, Some(reason));
            }
            exchanged += 1;
            self.exchanged.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(plan.pause).await;
        }
        (exchanged, None)
    }
}

async fn send(wire: &mut Wire<TcpStream>, bytes: &[u8]) -> Result<(), String> {
    let sent = wire.stream.write_all(bytes).await;
    sent.map_err(|error| format!("cannot send: {error}"))
}

/// Opens a tunnel and finds out who is at its other end.
async fn open(plan: &TunnelPlan) -> Result<(Wire<TcpStream>, String), String> {
    let stream = plan.place.connect(plan.target).await;
    let mut wire = Wire::new(stream.map_err(|error| format!("cannot connect: {error}"))?);
    let backend = match &plan.protocol {
        Protocol::Tcp => {
            let ask = Ask::new(&unique_id(), plan.bytes);
            send(&mut wire, &ask.bytes()).await?;
            ask.read_answer(&mut wire).await?
        }
        Protocol::Http { host, path } => {
            let (id, key) = (unique_id(), payload::WEBSOCKET.0);
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\n\
                 Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: {key}\r\n{ID_HEADER}: {id}\r\n\r\n"
            );
            send(&mut wire, request.as_bytes()).await?;
            let head = wire.head().await.map_err(|error| error.to_string())?;
            let status = head.status().map_err(|error| error.to_string())?;
            if status != 101 || head.get(ID_HEADER) != Some(id.as_str()) {
                return Err(format!("no upgrade of {id}: {head:?}"));
            }
            head.get(BACKEND_HEADER).unwrap_or_default().to_owned()
        }
    };
    Ok((wire, backend))
}

/// Sends a message and reads it back.
async fn message(
    plan: &TunnelPlan,
    wire: &mut Wire<TcpStream>,
    backend: &str,
) -> Result<(), String> {
    let id = unique_id();
    if plan.protocol == Protocol::Tcp {
        let ask = Ask::new(&id, plan.bytes);
        send(wire, &ask.bytes()).await?;
        let other = ask.read_answer(wire).await?;
        if other != backend {
            return Err(format!("{other} answers on a tunnel to {backend}"));
        }
        return Ok(());
    }
    let sent = payload::filler(&id, plan.bytes);
    send(wire, &sent).await?;
    let got = wire
        .exactly(plan.bytes)
        .await
        .map_err(|error| error.to_string())?;
    payload::compare(&got, &sent)
}
