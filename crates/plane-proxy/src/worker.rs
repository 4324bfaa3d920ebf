//! A worker: one thread, one single-threaded runtime, its share of every listen.

mod intake;
mod listed;
mod review;
mod tick;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use plimsoll_plane::{Flow, FlowFilter};
use slab::Slab;
use tokio::sync::{mpsc, oneshot};

use crate::accept::Acceptor;
use crate::access::{AccessLog, Journal};
use crate::conn::Conn;
use crate::http::auth::{Guards, Known};
use crate::http::compress::Memory;
use crate::http::engine::Engines;
use crate::http::forwarded::Recent;
use crate::http::pages::CommonPages;
use crate::http::pool::Pool;
use crate::http::spare::Spares;
use crate::listener::{Opened, Port};
use crate::load::Load;
use crate::snapshot::Snapshot;
use crate::tcp;
use crate::udp::{self, Udp};
use intake::{Handed, accept, take};
pub(crate) use listed::Listed;
pub(crate) use review::responsible;

/// How often deadlines are looked at, and so their precision.
pub(crate) const TICK: Duration = Duration::from_millis(TICK_MS);

/// The same in milliseconds.
pub(crate) const TICK_MS: u64 = 100;

/// Between two complaints of a worker about one thing, in ms.
const QUIET: u64 = 10_000;

/// What all workers and the plane share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) snapshot: ArcSwap<Snapshot>,
    /// The zero of the plane's clock.
    pub(crate) epoch: Instant,
    /// Connections of clients that each worker has.
    pub(crate) load: Load,
    /// Whether any service is logged.
    pub(crate) logging: AtomicBool,
    pub(crate) access_log: AccessLog,
    /// Pages for all services.
    pub(crate) pages: CommonPages,
    /// What encoders may hold.
    pub(crate) compress_memory: Arc<Memory>,
    /// UDP sessions of all services.
    pub(crate) udp: Arc<udp::All>,
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
        socket: Opened,
    },
    /// Stop accepting on all ports of this listen, once its backlog is empty.
    Close(usize),
    /// Serve a connection that another worker has accepted, and has counted as this one's.
    Take(Handed),
    /// Forget idle connections to backends that are not in use any more.
    Sweep,
    /// Hold what is open against lists and limits that are new.
    Review,
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
    pub(crate) transparent: bool,
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
    pub(crate) udp: Udp,
    clock: Cell<u64>,
    random: Cell<u64>,
    /// Counts ids, from where nobody can guess.
    ids: Cell<u64>,
    conns: RefCell<Slab<Rc<Conn>>>,
    draining: Cell<bool>,
    /// No complaint before.
    quiet_until: Cell<u64>,
    /// The same about PROXY headers.
    quiet_on_headers_until: Cell<u64>,
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
            udp: Udp::default(),
            random: Cell::new(seed | 1),
            ids: Cell::new(std::hash::RandomState::new().build_hasher().finish()),
            conns: RefCell::new(Slab::new()),
            draining: Cell::new(false),
            quiet_until: Cell::new(0),
            quiet_on_headers_until: Cell::new(0),
            idle: tokio::sync::Notify::new(),
        }
    }

    /// Milliseconds of the plane's clock, as of the last tick.
    pub(crate) fn now(&self) -> u64 {
        self.clock.get()
    }

    /// Connections of clients, of all workers.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.load.all()
    }

    /// Whether any client has a connection to this worker.
    pub(crate) fn has_connections(&self) -> bool {
        !self.conns.borrow().is_empty()
    }

    /// Whether the worker accepts no more and closes what is idle.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Says something about the host's limits, but not again and again.
    pub(crate) fn complain(&self, say: impl FnOnce()) {
        self.say_seldom(&self.quiet_until, say);
    }

    /// Says something about connections without their PROXY header, but not again and again.
    pub(crate) fn complain_of_header(&self, say: impl FnOnce()) {
        self.say_seldom(&self.quiet_on_headers_until, say);
    }

    fn say_seldom(&self, quiet_until: &Cell<u64>, say: impl FnOnce()) {
        if self.now() >= quiet_until.get() {
            quiet_until.set(self.now() + QUIET);
            say();
        }
    }

    /// Does what can be done at any time, also while draining.
    fn obey(self: &Rc<Self>, command: Command) {
        match command {
            Command::Take(handed) => {
                // In the list it is counted anew.
                self.shared.load.remove(self.id);
                // A panic is counted, and was reported where it happened: others are served on.
                let _ = catch_unwind(AssertUnwindSafe(|| take(self, handed)));
            }
            Command::Sweep => {
                self.pool.sweep(self.now());
                self.udp.sweep(self);
            }
            Command::Review => self.review(),
            Command::Evict(backend) => {
                let conns = self.conns.borrow();
                let _ = self.pool.evict(backend) || conns.iter().any(|(_, c)| c.evict(backend));
            }
            Command::Flows(filter, reply) => {
                let now = self.now();
                let conns = self.conns.borrow();
                let mut flows = conns
                    .iter()
                    .filter_map(|(_, c)| c.flow(&filter, now))
                    .collect();
                self.udp.flows(&filter, now, &mut flows);
                // Whoever asked may have lost patience.
                let _ = reply.send(flows);
            }
            Command::Listen { .. } | Command::Close(_) | Command::Drain => {}
        }
    }

    /// 128 bits that are not given twice: a count from a random beginning, mixed (SplitMix64), beside a
    /// random number.
    pub(crate) fn id(&self) -> u128 {
        let count = self.ids.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.ids.set(count);
        let mut mixed = count;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        u128::from(mixed) << 64 | u128::from(self.random())
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
    tokio::task::spawn_local(tick::tick(worker.clone()));
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
                    transparent,
                    counts,
                    listening,
                } = *port;
                let port = Arc::new(Port {
                    index: listen_index,
                    listen,
                    port,
                    transparent,
                    counts,
                });
                let socket = match socket {
                    Opened::Stream(socket) => socket,
                    Opened::Datagram(socket) => {
                        let listen = port.listen;
                        if let Err(error) = worker.udp.listen(&worker, port, socket, listening) {
                            tracing::error!(%listen, %error, "cannot take datagrams");
                        }
                        continue;
                    }
                };
                match Acceptor::new(socket) {
                    Ok(listener) => {
                        let (stop, stopped) = oneshot::channel();
                        let accepting_here = accept(worker.clone(), port, listener, stopped, take);
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
            Command::Close(index) => {
                accepting.remove(&index);
                worker.udp.close(&worker, index);
            }
            Command::Drain => break,
            other => worker.obey(other),
        }
    }
    worker.draining.set(true);
    worker.shared.load.leave(worker.id);
    let udp = tokio::task::spawn_local({
        let worker = worker.clone();
        async move { worker.udp.drain(&worker).await }
    });
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
    finish(&worker, &mut commands).await;
    commands.close();
    // Who was on the way from another worker has been accepted, and so is served.
    while let Some(command) = commands.recv().await {
        worker.obey(command);
    }
    finish(&worker, &mut commands).await;
    worker.journal.flush();
    // It ends by itself; a panic in it has been reported already.
    let _ = udp.await;
    worker.pool.clear();
    worker.engines.clear();
}

/// Waits until all connections have ended.
async fn finish(worker: &Rc<Worker>, commands: &mut mpsc::UnboundedReceiver<Command>) {
    while !worker.conns.borrow().is_empty() {
        tokio::select! {
            () = worker.idle.notified() => {}
            Some(command) = commands.recv() => worker.obey(command),
        }
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
pub(crate) mod tests;
