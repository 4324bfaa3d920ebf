//! The counting client: every request has an id, every answer is checked, nothing is retried.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::conn::{Conn, Look, Request};
use crate::server::lock;
use crate::{Failure, Place, Report, unique_id, wait_until_async};

/// After a failure a task waits so long, so that a dead server does not make thousands of them.
const AFTER_FAILURE: Duration = Duration::from_millis(10);

/// What is spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Requests to a [`crate::HttpBackend`].
    Http {
        /// The Host header.
        host: String,
        /// The target.
        path: String,
    },
    /// Exchanges with a [`crate::TcpBackend`].
    Tcp,
}

/// How often a connection is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// As long as the other side lets it.
    Keep,
    /// For one request each.
    Never,
    /// For so many requests each.
    Times(u32),
}

/// What a client does.
#[derive(Clone, Debug)]
pub struct ClientPlan {
    /// Where it connects to.
    pub target: SocketAddr,
    /// Where it connects from.
    pub place: Place,
    /// What it speaks.
    pub protocol: Protocol,
    /// How often it uses a connection.
    pub reuse: Reuse,
    /// Tasks that send requests side by side, each on a connection of its own. At least 1.
    pub tasks: usize,
    /// Stops by itself after so many requests.
    pub requests: Option<u64>,
    /// Each task waits so long between an answer and its next request.
    pub pause: Duration,
    /// A request that takes longer has failed.
    pub bound: Duration,
    /// Lengths of the answers, in turn (HTTP: at least; TCP: of the exchange).
    pub want: Vec<usize>,
    /// Every so many-th request is a POST; 0 is none.
    pub post_every: u64,
    /// Bytes of the body of a POST.
    pub post_bytes: usize,
    /// Whether POSTs are chunked.
    pub chunked: bool,
    /// The status that answers must have.
    pub status: u16,
}

impl ClientPlan {
    /// GETs of `/` of this host, 8 at a time on connections that are kept, 10 s for each.
    pub fn http(target: SocketAddr, host: &str) -> Self {
        Self {
            target,
            place: Place::Here,
            protocol: Protocol::Http {
                host: host.to_owned(),
                path: "/".to_owned(),
            },
            reuse: Reuse::Keep,
            tasks: 8,
            requests: None,
            pause: Duration::ZERO,
            bound: Duration::from_secs(10),
            want: vec![200],
            post_every: 0,
            post_bytes: 1000,
            chunked: false,
            status: 200,
        }
    }

    /// Exchanges over TCP, 8 at a time on connections that are kept, 10 s for each.
    pub fn tcp(target: SocketAddr) -> Self {
        Self {
            protocol: Protocol::Tcp,
            ..Self::http(target, "")
        }
    }

    /// With a path in the place of `/`.
    #[must_use]
    pub fn path(mut self, target: &str) -> Self {
        if let Protocol::Http { path, .. } = &mut self.protocol {
            target.clone_into(path);
        }
        self
    }
}

/// A client at work in the background. Dropping it ends it without a report.
#[derive(Debug)]
pub struct Client {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    plan: ClientPlan,
    start: Instant,
    stop: AtomicBool,
    /// Requests begun.
    begun: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    connections: AtomicU64,
    closed_idle: AtomicU64,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    failures: Vec<Failure>,
    by_backend: BTreeMap<String, u64>,
    slowest: Duration,
}

impl Client {
    /// Starts to send.
    pub fn start(plan: ClientPlan) -> Self {
        let tasks = plan.tasks.max(1);
        let shared = Arc::new(Shared {
            plan,
            start: Instant::now(),
            stop: AtomicBool::new(false),
            begun: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            closed_idle: AtomicU64::new(0),
            seen: Mutex::default(),
        });
        let mut set = JoinSet::new();
        for _ in 0..tasks {
            set.spawn(Arc::clone(&shared).work());
        }
        Self { shared, tasks: set }
    }

    /// Sends so many requests and reports.
    pub async fn run(plan: ClientPlan, requests: u64) -> Report {
        let plan = ClientPlan {
            requests: Some(requests),
            ..plan
        };
        Self::start(plan).finished().await
    }

    /// Requests answered so far.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::SeqCst)
    }

    /// Requests failed so far.
    pub fn failed(&self) -> u64 {
        self.shared.failed.load(Ordering::SeqCst)
    }

    /// Requests that this backend has answered so far.
    pub fn answered_by(&self, backend: &str) -> u64 {
        lock(&self.shared.seen)
            .by_backend
            .get(backend)
            .copied()
            .unwrap_or_default()
    }

    /// Waits until so many more requests are answered; false if they are not within the bound.
    pub async fn more(&self, requests: u64, bound: Duration) -> bool {
        let goal = self.answered() + requests;
        wait_until_async(bound, || self.answered() >= goal).await
    }

    /// Lets the requests on their way be answered, makes sure that nothing else comes, and reports.
    pub async fn stop(self) -> Report {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.finished().await
    }

    /// Waits until the plan's number of requests is sent, and reports. Without such a number it
    /// goes on for ever.
    pub async fn finished(mut self) -> Report {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                self.shared
                    .fail("", format!("a task of the client ended: {error}"));
            }
        }
        let seen = std::mem::take(&mut *lock(&self.shared.seen));
        Report {
            answered: self.answered(),
            failures: seen.failures,
            by_backend: seen.by_backend,
            connections: self.shared.connections.load(Ordering::SeqCst),
            closed_idle: self.shared.closed_idle.load(Ordering::SeqCst),
            slowest: seen.slowest,
        }
    }
}

impl Shared {
    async fn work(self: Arc<Self>) {
        let mut conn: Option<(Conn, u32)> = None;
        while let Some(request) = self.next() {
            conn = self.one(conn, request).await;
            tokio::time::sleep(self.plan.pause).await;
        }
        if let Some((conn, _)) = conn {
            self.close(conn, "").await;
        }
    }

    /// The next request; none at the end.
    fn next(&self) -> Option<Request> {
        let plan = &self.plan;
        if self.stop.load(Ordering::SeqCst) {
            return None;
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst);
        if plan.requests.is_some_and(|most| number >= most) {
            return None;
        }
        let turn = usize::try_from(number).unwrap_or_default();
        let want = turn
            .checked_rem(plan.want.len())
            .and_then(|turn| plan.want.get(turn));
        let post = number.checked_rem(plan.post_every) == Some(0);
        Some(Request {
            id: unique_id(),
            post: post.then_some(plan.post_bytes),
            want: want.copied().unwrap_or_default(),
            last: false,
        })
    }

    /// Sends one request; what is left of the connection.
    async fn one(&self, conn: Option<(Conn, u32)>, mut request: Request) -> Option<(Conn, u32)> {
        let begin = Instant::now();
        let (mut conn, used) = match self.usable(conn, &request).await {
            Ok(usable) => usable,
            Err(reason) => {
                self.fail(&request.id, reason);
                tokio::time::sleep(AFTER_FAILURE).await;
                return None;
            }
        };
        request.last = match self.plan.reuse {
            Reuse::Keep => false,
            Reuse::Never => true,
            Reuse::Times(times) => used + 1 >= times,
        };
        match conn.request(&self.plan, &request).await {
            Ok(answered) => {
                self.answered.fetch_add(1, Ordering::SeqCst);
                {
                    let mut seen = lock(&self.seen);
                    seen.slowest = seen.slowest.max(begin.elapsed());
                    *seen.by_backend.entry(answered.backend).or_default() += 1;
                }
                if request.last || answered.closes {
                    self.close(conn, &request.id).await;
                    return None;
                }
                Some((conn, used + 1))
            }
            Err(reason) => {
                self.fail(
                    &request.id,
                    format!("{reason} (request {} of its connection)", used + 1),
                );
                tokio::time::sleep(AFTER_FAILURE).await;
                None
            }
        }
    }

    /// The connection itself, if it can still be used, or another.
    async fn usable(
        &self,
        conn: Option<(Conn, u32)>,
        request: &Request,
    ) -> Result<(Conn, u32), String> {
        if let Some((conn, used)) = conn {
            match conn.look() {
                Look::Quiet => return Ok((conn, used)),
                Look::Closed => {
                    self.closed_idle.fetch_add(1, Ordering::SeqCst);
                }
                // One answer too many is a failure of its own, beside this request.
                Look::Bytes => self.close(conn, &request.id).await,
            }
        }
        let conn = Conn::open(&self.plan).await?;
        self.connections.fetch_add(1, Ordering::SeqCst);
        Ok((conn, 0))
    }

    async fn close(&self, conn: Conn, id: &str) {
        if let Err(reason) = conn.close().await {
            self.fail(id, reason);
        }
    }

    fn fail(&self, id: &str, reason: String) {
        self.failed.fetch_add(1, Ordering::SeqCst);
        lock(&self.seen).failures.push(Failure {
            id: id.to_owned(),
            at: self.start.elapsed(),
            reason,
        });
    }
}
