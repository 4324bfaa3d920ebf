//! What the scripted servers have in common: a listener that can be closed and opened again,
//! connections that can be cut, and counts.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::wire::Wire;
use crate::{Place, wait_until_async};

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With a FIN, as close(2) does (a RST if something was left unread).
    Close,
    /// With a RST.
    Reset,
}

/// Counts of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections accepted.
    pub connections: u64,
    /// Connections open now.
    pub open: u64,
    /// Requests received: HTTP heads, TCP exchanges.
    pub requests: u64,
    /// Requests being answered now.
    pub active: u64,
    /// The most requests that were ever being answered at the same time.
    pub most_active: u64,
    /// Connections that became tunnels (HTTP upgrades).
    pub upgrades: u64,
}

/// The counters behind [`Stats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    connections: AtomicU64,
    open: AtomicU64,
    requests: AtomicU64,
    active: AtomicU64,
    most_active: AtomicU64,
    upgrades: AtomicU64,
}

impl Counters {
    /// A request begins; it ends when the guard is dropped.
    pub(crate) fn request(&self) -> Active<'_> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let active = self.active.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_active.fetch_max(active, Ordering::SeqCst);
        Active(self)
    }

    pub(crate) fn upgrade(&self) {
        self.upgrades.fetch_add(1, Ordering::SeqCst);
    }

    fn stats(&self) -> Stats {
        Stats {
            connections: self.connections.load(Ordering::SeqCst),
            open: self.open.load(Ordering::SeqCst),
            requests: self.requests.load(Ordering::SeqCst),
            active: self.active.load(Ordering::SeqCst),
            most_active: self.most_active.load(Ordering::SeqCst),
            upgrades: self.upgrades.load(Ordering::SeqCst),
        }
    }
}

/// A request that is being answered.
pub(crate) struct Active<'a>(&'a Counters);

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Open(Arc<Counters>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A connection that a server has accepted.
pub(crate) struct Accepted {
    pub(crate) wire: Wire<TcpStream>,
    pub(crate) peer: SocketAddr,
}

/// Serves a connection to its end.
pub(crate) trait Serve: Send + Sync + 'static {
    fn serve<'a>(
        &'a self,
        conn: &'a mut Accepted,
    ) -> Pin<Box<dyn Future<Output = Ending> + Send + 'a>>;
}

/// A server; it stops when it is dropped.
pub(crate) struct Server {
    place: Place,
    address: SocketAddr,
    handler: Arc<dyn Serve>,
    counters: Arc<Counters>,
    /// Tells the connections of one life to end; the next life gets another channel.
    kill: Mutex<watch::Sender<Option<Ending>>>,
    accepting: Mutex<Option<Accepting>>,
}

/// A listener and the task that accepts from it.
struct Accepting {
    listener: Arc<TcpListener>,
    task: JoinHandle<()>,
}

impl Accepting {
    /// Refuses connections from now on. To close the listener is not enough: a process that another
    /// thread is just starting holds a copy of it until it executes its program.
    fn end(self) -> JoinHandle<()> {
        // Fails only if it does not listen.
        let _shut = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        self.task.abort();
        self.task
    }
}

impl Server {
    pub(crate) fn start(
        place: Place,
        address: SocketAddr,
        counters: Arc<Counters>,
        handler: Arc<dyn Serve>,
    ) -> io::Result<Self> {
        let listener = place.listen(address)?;
        let server = Self {
            place,
            address: listener.local_addr()?,
            handler,
            counters,
            kill: Mutex::new(watch::Sender::new(None)),
            accepting: Mutex::new(None),
        };
        server.accept_from(listener);
        Ok(server)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn stats(&self) -> Stats {
        self.counters.stats()
    }

    fn accept_from(&self, listener: TcpListener) {
        let handler = Arc::clone(&self.handler);
        let counters = Arc::clone(&self.counters);
        let kill = lock(&self.kill).subscribe();
        let listener = Arc::new(listener);
        let accept_from = Arc::clone(&listener);
        let task = tokio::spawn(async move {
            loop {
                // Out of file descriptors, or a connection that is gone again: try the next.
                let Ok((stream, peer)) = accept_from.accept().await else {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                };
                let handler = Arc::clone(&handler);
                counters.connections.fetch_add(1, Ordering::SeqCst);
                counters.open.fetch_add(1, Ordering::SeqCst);
                let open = Open(Arc::clone(&counters));
                let kill = kill.clone();
                tokio::spawn(async move {
                    serve(handler.as_ref(), stream, peer, kill).await;
                    drop(open);
                });
            }
        });
        *lock(&self.accepting) = Some(Accepting { listener, task });
    }

    /// Closes the listener: connections are refused from when this returns. Open ones stay.
    pub(crate) async fn refuse(&self) {
        let accepting = lock(&self.accepting).take();
        if let Some(accepting) = accepting {
            // Cancelled, as asked; the listener is closed once the task has ended.
            let _cancelled = accepting.end().await;
        }
    }

    /// Listens again after [`Self::refuse`] or [`Self::kill`].
    pub(crate) fn listen_again(&self) -> io::Result<()> {
        if lock(&self.accepting).is_none() {
            let listener = self.place.listen(self.address)?;
            self.accept_from(listener);
        }
        Ok(())
    }

    /// Ends all connections and closes the listener, as when its process is killed.
    pub(crate) async fn kill(&self, ending: Ending) {
        self.refuse().await;
        let old = std::mem::replace(&mut *lock(&self.kill), watch::Sender::new(None));
        old.send_replace(Some(ending));
        let counters = &self.counters;
        let gone = || counters.open.load(Ordering::SeqCst) == 0;
        wait_until_async(Duration::from_secs(5), gone).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(accepting) = lock(&self.accepting).take() {
            accepting.end();
        }
        lock(&self.kill).send_replace(Some(Ending::Close));
    }
}

async fn serve(
    handler: &dyn Serve,
    stream: TcpStream,
    peer: SocketAddr,
    mut kill: watch::Receiver<Option<Ending>>,
) {
    // It works without, just slower.
    let _nodelay = stream.set_nodelay(true);
    let mut conn = Accepted {
        wire: Wire::new(stream),
        peer,
    };
    let ending = tokio::select! {
        ending = handler.serve(&mut conn) => ending,
        killed = kill.wait_for(Option::is_some) => {
            killed.ok().and_then(|ending| *ending).unwrap_or(Ending::Close)
        }
    };
    if ending == Ending::Reset {
        // Fails only if the connection is gone already.
        let _reset = conn.wire.stream.set_zero_linger();
    }
}

/// A lock whose holder panicked guards nothing that could be half done here.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
