//! A worker: one thread, one single-threaded runtime, its share of every listen.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use plimsoll_plane::{Flow, FlowFilter};
use slab::Slab;
use tokio::sync::{mpsc, oneshot};

use crate::accept::Acceptor;
use crate::access::{AccessLog, Journal};
use crate::conn::{Conn, Phase};
use crate::http;
use crate::http::auth::{Guards, Known};
use crate::http::engine::Engines;
use crate::http::forwarded::Recent;
use crate::http::pool::Pool;
use crate::http::spare::Spares;
use crate::listener::Port;
use crate::proxied;
use crate::snapshot::{Snapshot, Table};
use crate::tcp;

/// How often deadlines are looked at, and so their precision.
pub(crate) const TICK: Duration = Duration::from_millis(TICK_MS);

/// The same in milliseconds.
pub(crate) const TICK_MS: u64 = 100;

/// Between two complaints of a worker about the host's limits, in ms.
const QUIET: u64 = 10_000;

/// How long clients have to complete a handshake when a port is closed.
const HANDSHAKE: Duration = Duration::from_millis(100);

/// What all workers and the plane share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) snapshot: ArcSwap<Snapshot>,
    /// The zero of the plane's clock.
    pub(crate) epoch: Instant,
    /// Connections of clients that each worker has, as of its last tick.
    pub(crate) open: Box<[AtomicU64]>,
    /// Whether any service is logged.
    pub(crate) logging: AtomicBool,
    pub(crate) access_log: AccessLog,
    /// How to reach each worker.
    pub(crate) workers: std::sync::OnceLock<Vec<mpsc::UnboundedSender<Command>>>,
    /// Who compares passwords.
    pub(crate) guards: Guards,
}

impl Shared {
    /// Milliseconds of the plane's clock.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Microseconds of the plane's clock.
    pub(crate) fn micros(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Says the same to every worker.
    pub(crate) fn tell_all(&self, command: impl Fn() -> Command) {
        for worker in self.workers.get().into_iter().flatten() {
            // A worker that is gone has nothing to do any more.
            let _ = worker.send(command());
        }
    }
}

/// What a worker can be told.
pub(crate) enum Command {
    /// Accept from this socket.
    Listen {
        index: usize,
        port: Box<PortSeed>,
        socket: std::net::TcpListener,
    },
    /// Stop accepting on all ports of this listen, once its backlog is empty.
    Close(usize),
    /// Forget idle connections to backends that are not in use any more.
    Sweep,
    /// Close one idle connection to this backend: another core needs its place.
    Evict(u64),
    /// List flows.
    Flows(FlowFilter, oneshot::Sender<Vec<Flow>>),
    /// Accept no more, finish what there is, then end.
    Drain,
}

/// What a [`Port`] is made of, on its way to the worker.
pub(crate) struct PortSeed {
    pub(crate) index: usize,
    pub(crate) listen: plimsoll_model::Listen,
    pub(crate) port: u16,
    pub(crate) counts: Arc<Box<[crate::counts::ListenCounts]>>,
    pub(crate) listening: Arc<()>,
}

/// Bytes of a worker for the moment between a read and a write.
pub(crate) type Scratch = RefCell<Box<[u8]>>;

/// The state of one worker, for its own thread.
pub(crate) struct Worker {
    pub(crate) id: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) pool: Pool,
    pub(crate) engines: Engines,
    pub(crate) spares: Spares,
    pub(crate) forwarded: Recent,
    pub(crate) journal: Journal,
    /// The credentials that were found to be right.
    pub(crate) known: Known,
    /// Where TCP bytes pass through, between a read and the write that follows it.
    pub(crate) scratch: Scratch,
    pub(crate) pipes: crate::splice::Pipes,
    clock: Cell<u64>,
    random: Cell<u64>,
    conns: RefCell<Slab<Rc<Conn>>>,
    draining: Cell<bool>,
    /// No complaint before.
    quiet_until: Cell<u64>,
    idle: tokio::sync::Notify,
}

impl Worker {
    fn new(id: usize, shared: Arc<Shared>) -> Self {
        use std::hash::{BuildHasher, Hasher};
        let seed = std::hash::RandomState::new().build_hasher().finish();
        Self {
            id,
            clock: Cell::new(shared.now()),
            journal: Journal::new(shared.access_log.clone()),
            shared,
            pool: Pool::default(),
            engines: Engines::default(),
            spares: Spares::default(),
            forwarded: Recent::default(),
            known: Known::new(|| std::hash::RandomState::new().build_hasher().finish()),
            scratch: RefCell::new(vec![0; tcp::SCRATCH].into_boxed_slice()),
            pipes: crate::splice::Pipes::default(),
            random: Cell::new(seed | 1),
            conns: RefCell::new(Slab::new()),
            draining: Cell::new(false),
            quiet_until: Cell::new(0),
            idle: tokio::sync::Notify::new(),
        }
    }

    /// Milliseconds of the plane's clock, as of the last tick.
    pub(crate) fn now(&self) -> u64 {
        self.clock.get()
    }

    /// Lets others know how many connections this worker has.
    fn count_connections(&self) {
        if let Some(open) = self.shared.open.get(self.id) {
            let count = self.conns.borrow().len() as u64;
            open.store(count, Ordering::Relaxed);
        }
    }

    /// Connections of clients, of the others as of their last tick.
    pub(crate) fn connections(&self) -> u64 {
        self.count_connections();
        let open = self.shared.open.iter();
        open.map(|open| open.load(Ordering::Relaxed)).sum()
    }

    /// Whether the worker accepts no more and closes what is idle.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Says something about the host's limits, but not again and again.
    pub(crate) fn complain(&self, say: impl FnOnce()) {
        if self.now() >= self.quiet_until.get() {
            self.quiet_until.set(self.now() + QUIET);
            say();
        }
    }

    /// Does what can be done at any time, also while draining.
    fn obey(&self, command: Command) {
        match command {
            Command::Sweep => self.pool.sweep(self.now()),
            Command::Evict(backend) => {
                let conns = self.conns.borrow();
                let _ = self.pool.evict(backend) || conns.iter().any(|(_, c)| c.evict(backend));
            }
            Command::Flows(filter, reply) => {
                let now = self.now();
                let conns = self.conns.borrow();
                // Whoever asked may have lost patience.
                let _ = reply.send(
                    conns
                        .iter()
                        .filter_map(|(_, c)| c.flow(&filter, now))
                        .collect(),
                );
            }
            Command::Listen { .. } | Command::Close(_) | Command::Drain => {}
        }
    }

    /// A random number (xorshift64*), good enough to choose by.
    pub(crate) fn random(&self) -> u64 {
        let mut x = self.random.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random.set(x);
        x.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

/// A connection in the worker's list, for as long as this lives.
pub(crate) struct Listed {
    worker: Rc<Worker>,
    key: usize,
    pub(crate) conn: Rc<Conn>,
}

impl Listed {
    fn new(worker: &Rc<Worker>, conn: Conn) -> Self {
        let conn = Rc::new(conn);
        let key = worker.conns.borrow_mut().insert(conn.clone());
        Self {
            worker: worker.clone(),
            key,
            conn,
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        // Who leaves in the middle of a request is logged, too.
        self.conn.log(&self.worker);
        self.conn.clear();
        self.worker.conns.borrow_mut().try_remove(self.key);
        if let Some(counts) = self.conn.port.counts.get(self.worker.id) {
            counts.closed.add(1);
            // The runtime keeps a panic within its task; whoever holds something gives it back.
            if std::thread::panicking() {
                counts.panicked.add(1);
            }
        }
        if self.worker.is_draining() && self.worker.conns.borrow().is_empty() {
            self.worker.idle.notify_one();
        }
    }
}

/// An accept loop; ends when `_stop` is dropped.
struct Accepting {
    _stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

/// Starts a worker's thread.
pub(crate) fn spawn(
    id: usize,
    shared: Arc<Shared>,
    commands: mpsc::UnboundedReceiver<Command>,
) -> io::Result<std::thread::JoinHandle<()>> {
    let (ready, started) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new()
        .name(format!("worker-{id}"))
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(tokio::runtime::LocalOptions::default());
            match runtime {
                Ok(runtime) => {
                    let _ = ready.send(Ok(()));
                    runtime.block_on(run(id, shared, commands));
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        })?;
    started
        .recv()
        .map_err(|_| io::Error::other("the worker ended at its start"))??;
    Ok(thread)
}

async fn run(id: usize, shared: Arc<Shared>, mut commands: mpsc::UnboundedReceiver<Command>) {
    let worker = Rc::new(Worker::new(id, shared));
    tokio::task::spawn_local(tick_on(worker.clone()));
    let mut accepting: HashMap<usize, Vec<Accepting>> = HashMap::new();
    while let Some(command) = commands.recv().await {
        match command {
            Command::Listen {
                index,
                port,
                socket,
            } => {
                let PortSeed {
                    index: listen_index,
                    listen,
                    port,
                    counts,
                    listening,
                } = *port;
                let port = Rc::new(Port {
                    index: listen_index,
                    listen,
                    port,
                    counts,
                });
                match Acceptor::new(socket) {
                    Ok(listener) => {
                        let (stop, stopped) = oneshot::channel();
                        let accepting_here = accept(worker.clone(), port, listener, stopped);
                        let task = tokio::task::spawn_local(async move {
                            accepting_here.await;
                            drop(listening);
                        });
                        accepting
                            .entry(index)
                            .or_default()
                            .push(Accepting { _stop: stop, task });
                    }
                    Err(error) => {
                        tracing::error!(listen = %port.listen, %error, "cannot accept");
                    }
                }
            }
            Command::Close(index) => drop(accepting.remove(&index)),
            Command::Drain => break,
            other => worker.obey(other),
        }
    }
    worker.draining.set(true);
    // Told all at once, since each takes a moment.
    let stopping = accepting.into_values().flatten();
    let stopping: Vec<_> = stopping.map(|Accepting { task, .. }| task).collect();
    for task in stopping {
        // It ends once its backlog is empty; a panic in it has been reported already.
        let _ = task.await;
    }
    for (_, conn) in worker.conns.borrow().iter() {
        conn.wake();
    }
    while !worker.conns.borrow().is_empty() {
        tokio::select! {
            () = worker.idle.notified() => {}
            Some(command) = commands.recv() => worker.obey(command),
        }
    }
    worker.journal.flush();
    worker.pool.clear();
    worker.engines.clear();
}

/// Ticks for ever: without it nothing would time out any more, so a panic there does not end it.
async fn tick_on(worker: Rc<Worker>) {
    while let Err(error) = tokio::task::spawn_local(tick(worker.clone())).await
        && error.is_panic()
    {}
}

async fn tick(worker: Rc<Worker>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = worker.shared.now();
        worker.clock.set(now);
        for (_, conn) in worker.conns.borrow().iter() {
            conn.sweep(now);
        }
        worker.pool.sweep(now);
        worker.count_connections();
        worker.journal.flush();
    }
}

async fn accept(
    worker: Rc<Worker>,
    port: Rc<Port>,
    listener: Acceptor,
    mut stopped: oneshot::Receiver<()>,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.next() => accepted,
            _ = &mut stopped => break,
        };
        match accepted {
            Ok((stream, client)) => {
                let is_last = listener.is_last(&stream);
                take(&worker, &port, stream, client);
                if is_last {
                    worker.complain(|| {
                        let listen = &port.listen;
                        tracing::warn!(%listen, "few file descriptors are left: new clients wait");
                    });
                    tokio::select! {
                        () = room(&listener) => {}
                        _ = &mut stopped => break,
                    }
                }
            }
            Err(error) => pause_after(&error, &worker, &port).await,
        }
    }
    // Whoever is in the backlog has been promised service by the kernel, or is about to be.
    listener.begin_no_more();
    let mut settled = std::pin::pin!(tokio::time::sleep(HANDSHAKE));
    loop {
        tokio::select! {
            accepted = listener.next() => match accepted {
                Ok((stream, client)) => take(&worker, &port, stream, client),
                Err(error) => pause_after(&error, &worker, &port).await,
            },
            () = &mut settled => break,
        }
    }
    while let Some((stream, client)) = listener.waiting() {
        take(&worker, &port, stream, client);
    }
}

/// Errors of the one connection are passed over; those of the host (no file, no memory) would come
/// again at once.
async fn pause_after(error: &io::Error, worker: &Worker, port: &Port) {
    use rustix::io::Errno;
    let lasting = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    if error
        .raw_os_error()
        .is_some_and(|raw| lasting.iter().any(|e| e.raw_os_error() == raw))
    {
        worker.complain(|| {
            tracing::warn!(listen = %port.listen, %error, "cannot accept connections for now");
        });
        tokio::time::sleep(TICK).await;
    }
}

/// Waits until there are descriptors for more clients.
async fn room(listener: &Acceptor) {
    while !listener.has_room() {
        tokio::time::sleep(TICK).await;
    }
}

/// The address that a client connected to. The kernel is asked only where a scheduler goes by it and
/// the listen has several.
fn destination(snapshot: &Snapshot, port: &Port, stream: &std::net::TcpStream) -> IpAddr {
    let unspecified = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    match port.listen {
        plimsoll_model::Listen::Socket { ip: Some(ip), .. } if !ip.is_unspecified() => ip,
        _ if snapshot.by_destination => {
            let local = stream.local_addr();
            local.map_or(unspecified, |local| local.ip().to_canonical())
        }
        _ => unspecified,
    }
}

fn take(worker: &Rc<Worker>, port: &Rc<Port>, stream: std::net::TcpStream, client: SocketAddr) {
    if let Some(counts) = port.counts.get(worker.id) {
        counts.accepted.add(1);
    }
    // A dual-stack socket shows IPv4 clients as ::ffff:a.b.c.d.
    let client = SocketAddr::new(client.ip().to_canonical(), client.port());
    let snapshot = worker.shared.snapshot.load();
    let table = snapshot.tables.get(&port.index).cloned();
    let destination = destination(&snapshot, port, &stream);
    drop(snapshot);
    let list = |phase| {
        let conn = Conn::new(client, destination, port.clone(), phase, worker.now());
        Listed::new(worker, conn)
    };
    if let Some(table) = table.as_ref().filter(|t| t.is_introduced(client.ip())) {
        let (listed, table) = (list(Phase::Header), table.clone());
        tokio::task::spawn_local(proxied::serve(worker.clone(), listed, stream, table));
        return;
    }
    match table.as_deref() {
        Some(Table::Tcp(service)) => {
            let (listed, service) = (list(Phase::Tcp), service.clone());
            tokio::task::spawn_local(tcp::serve(worker.clone(), listed, stream, service));
        }
        Some(Table::Http(http)) => {
            let (listed, first) = (list(Phase::Idle), http.first.clone());
            tokio::task::spawn_local(http::serve(worker.clone(), listed, stream, first));
        }
        Some(Table::Closed) | None => {
            tcp::refuse(&stream);
            if let Some(counts) = port.counts.get(worker.id) {
                counts.closed.add(1);
            }
        }
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
