//! What a worker knows of each client connection: enough to list it, to time it out and to cut it,
//! without a timer of its own.

mod phase;

use std::cell::{Cell, OnceCell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use plimsoll_model::Name;
use plimsoll_plane::{Flow, FlowFilter};

use crate::access::Record;
use crate::backend::{LiveBackend, NEVER};
use crate::http::pool::Pool;
use crate::http::quiet::Quiet;
use crate::limits::Permit;
use crate::listener::Port;
use crate::proxy_header::ProxyHeader;
use crate::snapshot::LiveService;
use crate::worker::{TICK_MS, Worker};
pub(crate) use phase::Phase;

/// Whether a request takes long, by the sweeps that have seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    /// Nobody wants to know.
    Not,
    /// Wake the task at the next sweep.
    Asked,
    /// A sweep has passed.
    Slow,
}

/// A client connection of one worker. All cells: its task writes, the worker's sweep reads.
#[derive(Debug)]
pub(crate) struct Conn {
    client: Cell<SocketAddr>,
    /// What a PROXY header said of the client, and from where it came.
    introduced: OnceCell<Box<(ProxyHeader, IpAddr)>>,
    /// Idle connections to backends that are for this client alone.
    pool: OnceCell<Box<Pool>>,
    /// The address the client connected to; unspecified while no scheduler goes by it.
    destination: Cell<IpAddr>,
    pub(crate) port: Arc<Port>,
    since: u64,
    /// When the request that is being served had come whole; for TCP, the connection.
    began: Cell<Instant>,
    /// When the first part of a head had come that did not come whole.
    head_began: Cell<Option<Instant>>,
    /// Bytes of bodies, or of a connection over TCP, from the client and to it.
    received: Cell<u64>,
    sent: Cell<u64>,
    /// What will be a line of the access log, if one is wanted.
    record: RefCell<Option<Box<Record>>>,
    phase: Cell<Phase>,
    deadline: Cell<u64>,
    expired: Cell<bool>,
    /// When an HTTP client has been waited for in the middle of a body for too long.
    patience: Cell<u64>,
    stalled: Cell<bool>,
    cut: Cell<bool>,
    /// The lists of its service do not let it in any more.
    denied: Cell<bool>,
    watch: Cell<Watch>,
    /// When the backend was asked, in µs of the plane's clock; 0 where nobody wants to know.
    asked: Cell<u64>,
    waker: RefCell<Option<Waker>>,
    quiet: RefCell<Option<(Arc<Quiet>, Waker)>>,
    backend: RefCell<Option<Arc<LiveBackend>>>,
    /// What it holds of limits of connections.
    permits: RefCell<Vec<Permit>>,
    /// For whom its tunnel was granted.
    tunnelled: Cell<Option<IpAddr>>,
}

impl Conn {
    pub(crate) fn new(
        client: SocketAddr,
        destination: IpAddr,
        port: Arc<Port>,
        phase: Phase,
        now: u64,
    ) -> Self {
        Self {
            client: Cell::new(client),
            introduced: OnceCell::new(),
            pool: OnceCell::new(),
            destination: Cell::new(destination),
            port,
            since: now,
            began: Cell::new(Instant::now()),
            head_began: Cell::new(None),
            received: Cell::new(0),
            sent: Cell::new(0),
            record: RefCell::new(None),
            phase: Cell::new(phase),
            deadline: Cell::new(NEVER),
            expired: Cell::new(false),
            patience: Cell::new(NEVER),
            stalled: Cell::new(false),
            cut: Cell::new(false),
            denied: Cell::new(false),
            watch: Cell::new(Watch::Not),
            asked: Cell::new(0),
            waker: RefCell::new(None),
            quiet: RefCell::new(None),
            backend: RefCell::new(None),
            permits: RefCell::default(),
            tunnelled: Cell::new(None),
        }
    }

    /// The client: who connected, or whom a PROXY header named.
    pub(crate) fn client(&self) -> SocketAddr {
        self.client.get()
    }

    /// Takes the client for whom the header names, from the beginning of the connection on.
    pub(crate) fn introduce(&self, header: ProxyHeader) {
        let peer = self.client.get().ip();
        if let Some(ends) = header.ends {
            let ip = ends.client.ip().to_canonical();
            self.client.set(SocketAddr::new(ip, ends.client.port()));
        }
        // There is one header to a connection.
        let _ = self.introduced.set(Box::new((header, peer)));
    }

    /// The header that the connection began with.
    pub(crate) fn introduced(&self) -> Option<&ProxyHeader> {
        self.introduced.get().map(|introduced| &introduced.0)
    }

    /// Who introduced the client by a header.
    pub(crate) fn introducer(&self) -> Option<IpAddr> {
        self.introduced.get().map(|introduced| introduced.1)
    }

    /// A request has come whole.
    pub(crate) fn begin(&self) {
        self.began.set(Instant::now());
        self.received.set(0);
        self.sent.set(0);
    }

    /// How long the request, or the TCP connection, has been here.
    pub(crate) fn taken(&self) -> Duration {
        self.began.get().elapsed()
    }

    /// A part of a head has come.
    pub(crate) fn head_begins(&self) {
        self.head_began.set(Some(Instant::now()));
    }

    /// Whether a part of a head has come of which nobody has asked how long it took.
    pub(crate) fn has_begun_head(&self) -> bool {
        self.head_began.get().is_some()
    }

    /// How long the head of the request took to come. Says so once.
    pub(crate) fn take_head_time(&self) -> Duration {
        let since = self.head_began.take();
        since.map_or(Duration::ZERO, |since| {
            self.began.get().saturating_duration_since(since)
        })
    }

    /// Bytes that went through, from the client and to it.
    pub(crate) fn moved(&self) -> (u64, u64) {
        (self.received.get(), self.sent.get())
    }

    /// Counts bytes from the client.
    pub(crate) fn add_received(&self, n: u64) {
        self.received.set(self.received.get() + n);
    }

    /// Counts bytes to the client.
    pub(crate) fn add_sent(&self, n: u64) {
        self.sent.set(self.sent.get() + n);
    }

    /// What is going on is to be logged.
    pub(crate) fn keep(&self, record: Box<Record>) {
        *self.record.borrow_mut() = Some(record);
    }

    /// Notes something that will be logged, if anything will, with the time since the beginning.
    pub(crate) fn note(&self, note: impl FnOnce(&mut Record, Duration)) {
        if let Some(record) = &mut *self.record.borrow_mut() {
            note(record, self.taken());
        }
    }

    /// This service is to serve the request, and says whether it is logged.
    pub(crate) fn route(&self, service: &Arc<LiveService>) {
        if let Some(record) = &mut *self.record.borrow_mut() {
            record.route(service);
        }
    }

    /// What was noted becomes a line.
    pub(crate) fn log(&self, worker: &Worker) {
        if let Some(record) = self.record.take() {
            record.write(worker, self);
        }
    }

    /// The client as schedulers know it.
    pub(crate) fn whom(&self) -> plimsoll_balance::Client {
        let client = self.client();
        let said = self.introduced().and_then(|header| header.ends);
        let destination = said.map_or(self.destination.get(), |ends| ends.server.ip());
        plimsoll_balance::Client {
            ip: client.ip(),
            port: client.port(),
            destination,
        }
    }

    /// A scheduler goes by the address the client connected to, which is looked up if none did before.
    pub(crate) fn find_destination(&self, local: impl FnOnce() -> Option<SocketAddr>) {
        if self.destination.get().is_unspecified()
            && let Some(local) = local()
        {
            self.destination.set(local.ip().to_canonical());
        }
    }

    /// Takes note of when the backend was asked, in µs of the plane's clock.
    pub(crate) fn ask(&self, at: u64) {
        self.asked.set(at.max(1));
    }

    /// The whole of the request is sent only now, if its time is taken.
    pub(crate) fn ask_again(&self, at: impl FnOnce() -> u64) {
        if self.asked.get() != 0 {
            self.ask(at());
        }
    }

    /// When the backend was asked, if that is known. Says so once.
    pub(crate) fn take_asked(&self) -> Option<u64> {
        match self.asked.replace(0) {
            0 => None,
            at => Some(at),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Enters a phase that has no time limit.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.watch.set(Watch::Not);
        self.clear_deadline();
    }

    /// Enters a phase that ends at the latest after `limit` ms from `now`; 0 is no limit.
    pub(crate) fn enter_until(&self, phase: Phase, now: u64, limit: u64) {
        self.phase.set(phase);
        self.set_deadline(now, limit);
    }

    /// Moves the deadline of the phase to `limit` ms from `now`, the time of the last tick, and so
    /// never early; 0 is no limit. A deadline that has passed is forgotten.
    pub(crate) fn set_deadline(&self, now: u64, limit: u64) {
        self.expired.set(false);
        self.deadline.set(match limit {
            0 => NEVER,
            limit => now.saturating_add(limit).saturating_add(TICK_MS),
        });
    }

    /// Takes the deadline away, also one that has passed.
    pub(crate) fn clear_deadline(&self) {
        self.set_deadline(0, 0);
    }

    /// Brings the deadline of the phase forward to `limit` ms from `now`, unless it is earlier.
    pub(crate) fn hasten(&self, now: u64, limit: u64) {
        self.deadline
            .set(self.deadline.get().min(now.saturating_add(limit)));
    }

    /// Whether the phase has lasted too long, without taking note of it.
    pub(crate) fn is_expired(&self) -> bool {
        self.expired.get()
    }

    /// Whether the phase has lasted too long. Says so once.
    pub(crate) fn take_expired(&self) -> bool {
        self.expired.replace(false)
    }

    /// The client is waited for in the middle of a body, for `limit` ms from `now` on at most, or from
    /// the time on at which it was said first; 0 is no limit.
    pub(crate) fn await_client(&self, now: u64, limit: u64) {
        if limit != 0 && self.patience.get() == NEVER && !self.stalled.get() {
            let until = now.saturating_add(limit).saturating_add(TICK_MS);
            self.patience.set(until);
        }
    }

    /// The client has gone on.
    pub(crate) fn client_went_on(&self) {
        self.patience.set(NEVER);
        self.stalled.set(false);
    }

    /// Whether the client was waited for in vain.
    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled.get()
    }

    /// The same. Says so once.
    pub(crate) fn take_stalled(&self) -> bool {
        self.stalled.replace(false)
    }

    /// Whether this phase has lasted for longer than a tick. If not, the task is woken when it has.
    pub(crate) fn is_slow(&self) -> bool {
        if self.watch.get() == Watch::Not {
            self.watch.set(Watch::Asked);
        }
        self.watch.get() == Watch::Slow
    }

    /// Has the task woken at the next sweep, to look at something that wakes nobody.
    pub(crate) fn look_again(&self) {
        self.watch.set(Watch::Asked);
    }

    /// Whether the backend's drain time-out has passed, so that this connection must end.
    pub(crate) fn is_cut(&self) -> bool {
        self.cut.get()
    }

    /// Has a connection end that the lists of its service let in no more. Whether that is news.
    pub(crate) fn deny(&self) -> bool {
        let news = !self.denied.replace(true);
        self.wake();
        news
    }

    /// Whether it has to end because of the lists of its service.
    pub(crate) fn is_denied(&self) -> bool {
        self.denied.get()
    }

    /// It becomes a tunnel that was granted to this client.
    pub(crate) fn tunnel_for(&self, client: IpAddr) {
        self.tunnelled.set(Some(client));
    }

    /// Whom the lists of its service judge: the client, or for whom its tunnel was granted.
    pub(crate) fn judged(&self) -> IpAddr {
        let client = || self.client().ip();
        self.tunnelled.get().unwrap_or_else(client)
    }

    /// The service whose backend it uses.
    pub(crate) fn served_by(&self) -> Option<Name> {
        let backend = self.backend.borrow();
        backend.as_ref().map(|backend| backend.service.clone())
    }

    /// Sets or clears the backend that this connection uses.
    pub(crate) fn set_backend(&self, backend: Option<Arc<LiveBackend>>) {
        self.cut.set(false);
        *self.backend.borrow_mut() = backend;
    }

    /// Idle connections to backends that are for this client alone.
    pub(crate) fn pool(&self) -> &Pool {
        self.pool.get_or_init(Box::default)
    }

    /// Closes the longest idle of them to this backend. Whether there was one.
    pub(crate) fn evict(&self, backend: u64) -> bool {
        self.pool.get().is_some_and(|pool| pool.evict(backend))
    }

    /// Keeps what is to be given back when the connection ends.
    pub(crate) fn hold(&self, permit: Permit) {
        self.permits.borrow_mut().push(permit);
    }

    /// Changes what it holds.
    pub(crate) fn held(&self, change: impl FnOnce(&mut Vec<Permit>)) {
        change(&mut self.permits.borrow_mut());
    }

    /// Closes all of them, and gives back what it holds.
    pub(crate) fn clear(&self) {
        self.permits.borrow_mut().clear();
        if let Some(pool) = self.pool.get() {
            pool.clear();
        }
    }

    /// Remembers whom to wake when a deadline passes.
    pub(crate) fn set_waker(&self, waker: &Waker) {
        let mut slot = self.waker.borrow_mut();
        if !slot.as_ref().is_some_and(|w| w.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }

    /// Polls what only this connection's task drives: see [`Quiet`].
    pub(crate) fn poll_quietly<T>(
        &self,
        cx: &mut Context<'_>,
        poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let mut slot = self.quiet.borrow_mut();
        let (quiet, waker) = match &mut *slot {
            Some((quiet, waker)) if quiet.is_for(cx.waker()) => (quiet, waker),
            slot => {
                let quiet = Quiet::new(cx.waker());
                let waker = quiet.clone().into();
                let (quiet, waker) = slot.insert((quiet, waker));
                (quiet, waker)
            }
        };
        quiet.poll(waker, poll)
    }

    pub(crate) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Marks and wakes the connection if a limit has passed.
    pub(crate) fn sweep(&self, now: u64) {
        if let Some(pool) = self.pool.get() {
            pool.sweep(now);
        }
        let expired = self.deadline.get() <= now;
        let cut = self
            .backend
            .borrow()
            .as_ref()
            .is_some_and(|b| b.cut_at() <= now);
        if expired {
            self.deadline.set(NEVER);
            self.expired.set(true);
        }
        if cut {
            self.cut.set(true);
        }
        let stalled = self.patience.get() <= now;
        if stalled {
            self.patience.set(NEVER);
            self.stalled.set(true);
        }
        let asked = self.watch.get() == Watch::Asked;
        if asked {
            self.watch.set(Watch::Slow);
        }
        if expired || cut || stalled || asked {
            self.wake();
        }
    }

    /// Has the task end, whatever it is doing: something is wrong with what is known of it.
    pub(crate) fn abandon(&self) {
        self.deadline.set(NEVER);
        self.expired.set(true);
        self.cut.set(true);
        self.wake();
    }

    /// Makes every look at the backend panic.
    #[cfg(test)]
    pub(crate) fn poison(&self) {
        std::mem::forget(self.backend.borrow_mut());
    }

    /// The flow that this connection is, if it passes the filter.
    pub(crate) fn flow(&self, filter: &FlowFilter, now: u64) -> Option<Flow> {
        let backend = self.backend.borrow();
        let service = backend.as_ref().map(|b| &b.service);
        let addr = backend.as_ref().map(|b| &b.addr);
        let wanted = filter.service.as_ref().is_none_or(|s| Some(s) == service)
            && filter.backend.as_ref().is_none_or(|b| Some(b) == addr);
        let phase = match (self.phase.get(), addr) {
            // It waits for a place at one.
            (Phase::Request | Phase::Tcp, None) => "queued",
            (phase, _) => phase.as_str(),
        };
        wanted.then(|| Flow {
            client: self.client.get(),
            listen: self.port.listen,
            service: service.cloned(),
            backend: addr.cloned(),
            phase,
            age: Duration::from_millis(now.saturating_sub(self.since)),
        })
    }
}
