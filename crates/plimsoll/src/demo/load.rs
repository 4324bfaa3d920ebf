//! Load: requests whose answers are each checked.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, sleep_until, timeout};

/// Connections at once.
const CONNECTIONS: u64 = 8;
/// Each sends a request so often in the live view: 320 per second in all.
const EVERY: Duration = Duration::from_millis(25);
/// A request that takes longer has failed.
const BOUND: Duration = Duration::from_secs(10);
/// After a failure this long until the next request.
const AFTER_FAILURE: Duration = Duration::from_millis(50);
/// What is sent again waits so long before.
const BEFORE_AGAIN: Duration = Duration::from_millis(10);
/// Bytes of an answer at most.
const MAX_ANSWER: usize = 4096;

/// How requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// Each once, on connections that are kept: what fails has failed.
    Once,
    /// Each on a connection of its own, and again on a new one where none could be made, where it broke, or
    /// where no answer came within this time: as clients may do with what is idempotent (RFC 9110 §9.2.2).
    Again(Duration),
}

/// Who answered, as an answer says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told<'a> {
    pub(super) name: &'a str,
    /// The client as the server saw it, where it says so.
    pub(super) client: Option<SocketAddr>,
}

/// What is asked for, and how answers are read.
pub(super) struct Talk {
    pub(super) manner: Manner,
    /// Path and query of the request with this number.
    pub(super) target: fn(u64) -> String,
    /// Reads the answer to the request with this number; none if it is none.
    pub(super) read: fn(&str, u64) -> Option<Told<'_>>,
}

/// What came of the load so far.
pub(super) struct Load {
    target: SocketAddr,
    talk: Talk,
    names: Vec<&'static str>,
    answered: Vec<AtomicU64>,
    /// The client's address as each saw it.
    saw: Vec<OnceLock<IpAddr>>,
    again: AtomicU64,
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
    /// The client's address as each instance saw it.
    pub(super) saw: Vec<Option<IpAddr>>,
    /// How often a request was sent again.
    pub(super) again: u64,
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
    pub(super) fn new(target: SocketAddr, names: Vec<&'static str>, talk: Talk) -> Self {
        Self {
            target,
            talk,
            answered: names.iter().map(|_| AtomicU64::new(0)).collect(),
            saw: names.iter().map(|_| OnceLock::new()).collect(),
            names,
            again: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            why: Mutex::default(),
            next_id: AtomicU64::new(0),
        }
    }

    pub(super) fn tally(&self) -> Tally {
        let counts = self.answered.iter().map(|n| n.load(Ordering::Relaxed));
        Tally {
            by_instance: self.names.iter().copied().zip(counts).collect(),
            saw: self.saw.iter().map(|saw| saw.get().copied()).collect(),
            again: self.again.load(Ordering::Relaxed),
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

    /// Sends one request until it is answered or has failed; on the connection that there is, if any.
    async fn one(&self, connection: &mut Option<Connection>) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let result = match self.talk.manner {
            Manner::Once => attempt(BOUND, self.exchange(connection, id)).await,
            Manner::Again(bound) => self.insist(id, bound).await,
        };
        let Err(Missed::No(why) | Missed::Wrong(why)) = result else {
            return;
        };
        self.fail(format!("request {id}: {why}"));
        *connection = None;
        sleep(AFTER_FAILURE).await;
    }

    /// Sends one request until it is answered, each time on a connection of its own and for so long.
    async fn insist(&self, id: u64, bound: Duration) -> Result<(), Missed> {
        let until = Instant::now() + BOUND;
        loop {
            let result = attempt(bound, self.exchange(&mut None, id)).await;
            match result {
                Err(Missed::No(_)) if Instant::now() < until => {
                    self.again.fetch_add(1, Ordering::Relaxed);
                    sleep(BEFORE_AGAIN).await;
                }
                result => return result,
            }
        }
    }

    /// Sends it, and counts who answered.
    async fn exchange(&self, slot: &mut Option<Connection>, id: u64) -> Result<(), Missed> {
        let no = |what: &'static str| move |why: hyper::Error| Missed::No(format!("{what}: {why}"));
        // The balancer may have closed it after the last answer, which is no failure.
        if let Some(connection) = slot
            && connection.sender.ready().await.is_err()
        {
            *slot = None;
        }
        let connection = match slot {
            Some(connection) => connection,
            None => slot.insert(Connection::open(self.target).await.map_err(Missed::No)?),
        };
        let mut request = Request::get((self.talk.target)(id))
            .header(hyper::header::HOST, self.target.to_string());
        if self.talk.manner != Manner::Once {
            request = request.header(hyper::header::CONNECTION, "close");
        }
        let request = request.body(Empty::<Bytes>::new());
        let request = request.map_err(|why| Missed::Wrong(why.to_string()))?;
        let response = connection.sender.send_request(request).await;
        let response = response.map_err(no("no answer"))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await;
        let body = body
            .map_err(|why| Missed::No(format!("answer cut off: {why}")))?
            .to_bytes();
        if status != hyper::StatusCode::OK {
            return Err(Missed::Wrong(format!("answered {status}")));
        }
        self.count(connection.own, &String::from_utf8_lossy(&body), id)
    }

    /// Counts an answer, if it is the one to this request, sent from this address.
    fn count(&self, own: SocketAddr, text: &str, id: u64) -> Result<(), Missed> {
        let strange = || Missed::Wrong(format!("answered {text:?}"));
        let told = (self.talk.read)(text, id).ok_or_else(strange)?;
        let at = self.names.iter().position(|known| *known == told.name);
        let at = at.ok_or_else(strange)?;
        if let Some(client) = told.client {
            if client != own {
                return Err(Missed::Wrong(format!(
                    "{} saw {client} as the client, which is {own}",
                    told.name
                )));
            }
            if let Some(saw) = self.saw.get(at) {
                saw.get_or_init(|| client.ip());
            }
        }
        if let Some(count) = self.answered.get(at) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Why there was no good answer.
#[derive(Debug)]
enum Missed {
    /// There was none at all: another try may get one.
    No(String),
    /// It was not what was asked for.
    Wrong(String),
}

/// Does it within this time.
async fn attempt(
    bound: Duration,
    exchange: impl Future<Output = Result<(), Missed>>,
) -> Result<(), Missed> {
    let late = |_| Missed::No(format!("no answer within {} s", bound.as_secs_f64()));
    timeout(bound, exchange).await.map_err(late)?
}

struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    /// Its address at this end.
    own: SocketAddr,
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
        let own = stream
            .local_addr()
            .map_err(|why| format!("connect: {why}"))?;
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|why| format!("connect: {why}"))?;
        // Its errors are those of its requests.
        let driver = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        Ok(Self {
            sender,
            own,
            driver,
        })
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
