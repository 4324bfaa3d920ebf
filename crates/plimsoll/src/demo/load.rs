//! Load: requests that are each checked, and never sent twice.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep_until, timeout};

/// Connections at once.
const CONNECTIONS: u64 = 8;
/// Each sends a request so often in the live view: 320 per second in all.
const EVERY: Duration = Duration::from_millis(25);
/// A request that takes longer has failed.
const BOUND: Duration = Duration::from_secs(10);
/// After a failure this long until the next request.
const AFTER_FAILURE: Duration = Duration::from_millis(50);
/// Bytes of an answer at most.
const MAX_ANSWER: usize = 4096;

/// What came of the load so far.
pub(super) struct Load {
    target: SocketAddr,
    names: Vec<&'static str>,
    answered: Vec<AtomicU64>,
    failed: AtomicU64,
    /// The last failure.
    why: Mutex<Option<String>>,
    next_id: AtomicU64,
}

/// The counts of a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Answers by instance.
    pub(super) by_instance: Vec<(&'static str, u64)>,
    /// Requests without a good answer.
    pub(super) failed: u64,
    /// Why the last of them failed.
    pub(super) why: Option<String>,
}

impl Tally {
    pub(super) fn answered(&self) -> u64 {
        self.by_instance.iter().map(|(_, n)| n).sum()
    }
}

impl Load {
    pub(super) fn new(target: SocketAddr, names: Vec<&'static str>) -> Self {
        Self {
            target,
            answered: names.iter().map(|_| AtomicU64::new(0)).collect(),
            names,
            failed: AtomicU64::new(0),
            why: Mutex::default(),
            next_id: AtomicU64::new(0),
        }
    }

    pub(super) fn tally(&self) -> Tally {
        let counts = self.answered.iter().map(|n| n.load(Ordering::Relaxed));
        Tally {
            by_instance: self.names.iter().copied().zip(counts).collect(),
            failed: self.failed.load(Ordering::Relaxed),
            why: self
                .why
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }

    fn fail(&self, why: String) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// Sends one request on a connection that is made if there is none.
    async fn one(&self, connection: &mut Option<Connection>) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        match timeout(BOUND, self.exchange(connection, id)).await {
            Ok(Ok(at)) => {
                if let Some(count) = self.answered.get(at) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                return;
            }
            Ok(Err(why)) => self.fail(format!("request {id}: {why}")),
            Err(_) => self.fail(format!(
                "request {id}: no answer within {} s",
                BOUND.as_secs()
            )),
        }
        *connection = None;
        tokio::time::sleep(AFTER_FAILURE).await;
    }

    /// Which instance answered.
    async fn exchange(&self, slot: &mut Option<Connection>, id: u64) -> Result<usize, String> {
        let words = |what: &'static str| move |why: hyper::Error| format!("{what}: {why}");
        // The balancer may have closed it after the last answer, which is no failure.
        if let Some(connection) = slot
            && connection.sender.ready().await.is_err()
        {
            *slot = None;
        }
        let connection = match slot {
            Some(connection) => connection,
            None => slot.insert(Connection::open(self.target).await?),
        };
        let request = Request::get(format!("/check/{id}"))
            .header(hyper::header::HOST, self.target.to_string())
            .body(Empty::<Bytes>::new())
            .map_err(|why| why.to_string())?;
        let response = connection
            .sender
            .send_request(request)
            .await
            .map_err(words("no answer"))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await;
        let body = body
            .map_err(|why| format!("answer cut off: {why}"))?
            .to_bytes();
        if status != hyper::StatusCode::OK {
            return Err(format!("answered {status}"));
        }
        let text = String::from_utf8_lossy(&body);
        let name = text.strip_suffix(&format!(" {id}\n"));
        let at = self.names.iter().position(|known| Some(*known) == name);
        at.ok_or_else(|| format!("answered {text:?}"))
    }
}

struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    driver: AbortHandle,
}

impl Connection {
    async fn open(target: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(target)
            .await
            .map_err(|why| format!("connect: {why}"))?;
        stream
            .set_nodelay(true)
            .map_err(|why| format!("connect: {why}"))?;
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|why| format!("connect: {why}"))?;
        // Its errors are those of its requests.
        let driver = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        Ok(Self { sender, driver })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Sends so many requests as fast as they are answered; ends when all have come to an end.
pub(super) fn send(
    load: &Arc<Load>,
    requests: u64,
    world: &Handle,
) -> impl Future<Output = ()> + Unpin + use<> {
    let load = load.clone();
    let work = world.spawn(async move {
        let mut tasks = JoinSet::new();
        for task in 0..CONNECTIONS.min(requests) {
            let share = requests / CONNECTIONS + u64::from(task < requests % CONNECTIONS);
            let load = load.clone();
            tasks.spawn(async move {
                let mut connection = None;
                for _ in 0..share {
                    load.one(&mut connection).await;
                }
            });
        }
        while tasks.join_next().await.is_some() {}
    });
    Box::pin(async move {
        // It ends early only if it panicked, which the counts will show.
        let _ = work.await;
    })
}

/// Sends requests at an even pace until the guard is dropped.
pub(super) fn keep_sending(load: &Arc<Load>, world: &Handle) -> Sending {
    let mut tasks = JoinSet::new();
    for task in 0..CONNECTIONS {
        let load = load.clone();
        let work = async move {
            let mut connection = None;
            let start = Instant::now() + EVERY.mul_f64(task as f64 / CONNECTIONS as f64);
            let mut next = start;
            loop {
                sleep_until(next.into()).await;
                load.one(&mut connection).await;
                next = (next + EVERY).max(Instant::now());
            }
        };
        tasks.spawn_on(work, world);
    }
    Sending { _tasks: tasks }
}

/// Load that runs as long as this lives.
pub(super) struct Sending {
    _tasks: JoinSet<()>,
}
