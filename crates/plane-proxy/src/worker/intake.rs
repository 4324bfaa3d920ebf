//! Takes clients in: the accept loops of a worker, and what becomes of a connection.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Command, Listed, TICK, Worker};
use crate::accept::Acceptor;
use crate::conn::{Conn, Phase};
use crate::door;
use crate::http;
use crate::listener::Port;
use crate::proxied;
use crate::snapshot::{Snapshot, Table};
use crate::tcp;

/// How long clients have to complete a handshake when a port is closed.
const HANDSHAKE: Duration = Duration::from_millis(100);

/// A connection on its way from the worker that accepted it to another, which has less to do.
pub(crate) struct Handed {
    port: Arc<Port>,
    stream: std::net::TcpStream,
    client: SocketAddr,
}

impl Handed {
    /// It is this worker's from now on.
    pub(super) fn arrive(&self, worker: &Rc<Worker>) -> Arrival {
        if let Some(counts) = self.port.counts.get(worker.id) {
            counts.accepted.add(1);
        }
        Arrival {
            worker: worker.id,
            port: self.port.clone(),
        }
    }
}

/// Accepts until told to stop, and then what has been promised service already. A panic ends nothing
/// but the connection that it befell; it is counted, and whoever comes next is accepted.
pub(super) async fn accept(
    worker: Rc<Worker>,
    port: Arc<Port>,
    listener: Acceptor,
    mut stopped: oneshot::Receiver<()>,
    take: impl Fn(&Rc<Worker>, Handed),
) {
    loop {
        let mut running = Box::pin(run(&worker, &port, &listener, &mut stopped, &take));
        let ended = std::future::poll_fn(|cx| {
            match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(cx))) {
                Ok(polled) => polled.map(Ok),
                Err(panic) => Poll::Ready(Err(panic)),
            }
        });
        if ended.await.is_ok() {
            return;
        }
        // One that panics again and again must not keep the worker from everything else.
        tokio::task::yield_now().await;
    }
}

async fn run(
    worker: &Rc<Worker>,
    port: &Arc<Port>,
    listener: &Acceptor,
    stopped: &mut oneshot::Receiver<()>,
    take: impl Fn(&Rc<Worker>, Handed),
) {
    let handed = |stream, client| Handed {
        port: port.clone(),
        stream,
        client,
    };
    // After a panic it may have been told already.
    while !stopped.is_terminated() {
        let accepted = tokio::select! {
            biased;
            accepted = listener.next() => accepted,
            _ = &mut *stopped => break,
        };
        match accepted {
            Ok((stream, client)) => {
                let is_last = listener.is_last(&stream);
                if let Some(here) = hand_over(worker, handed(stream, client)) {
                    take(worker, here);
                }
                if is_last {
                    worker.complain(|| {
                        let listen = &port.listen;
                        tracing::warn!(%listen, "few file descriptors are left: new clients wait");
                    });
                    tokio::select! {
                        () = room(listener) => {}
                        _ = &mut *stopped => break,
                    }
                }
            }
            Err(error) => pause_after(&error, worker, port).await,
        }
    }
    // Whoever is in the backlog has been promised service by the kernel, or is about to be.
    listener.begin_no_more();
    let mut settled = std::pin::pin!(tokio::time::sleep(HANDSHAKE));
    loop {
        tokio::select! {
            accepted = listener.next() => match accepted {
                Ok((stream, client)) => take(worker, handed(stream, client)),
                Err(error) => pause_after(&error, worker, port).await,
            },
            () = &mut settled => break,
        }
    }
    while let Some((stream, client)) = listener.waiting() {
        take(worker, handed(stream, client));
    }
}

/// Gives a connection to a worker that has clearly less to do; back if it is to be served here.
fn hand_over(worker: &Worker, handed: Handed) -> Option<Handed> {
    let load = &worker.shared.load;
    let Some(lighter) = load.lighter(worker.id, || worker.random()) else {
        return Some(handed);
    };
    let Some(other) = worker.shared.workers.get().and_then(|all| all.get(lighter)) else {
        return Some(handed);
    };
    // Counted from now on, so that the next one is not sent after it as if it were not there.
    load.add(lighter);
    match other.send(Command::Take(handed)) {
        Ok(()) => None,
        // That worker has ended.
        Err(back) => {
            load.remove(lighter);
            match back.0 {
                Command::Take(handed) => Some(handed),
                _ => None,
            }
        }
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

/// Counts a connection that a panic ends before it is in the worker's list.
pub(super) struct Arrival {
    worker: usize,
    port: Arc<Port>,
}

impl Arrival {
    /// It ends at once, or the list counts it.
    fn over(self) {}
}

impl Drop for Arrival {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(counts) = self.port.counts.get(self.worker)
        {
            counts.closed.add(1);
            counts.panicked.add(1);
        }
    }
}

/// Serves a connection on this worker.
pub(super) fn take(worker: &Rc<Worker>, handed: Handed) {
    let arrival = handed.arrive(worker);
    let Handed {
        port,
        stream,
        client,
    } = handed;
    // A dual-stack socket shows IPv4 clients as ::ffff:a.b.c.d.
    let client = SocketAddr::new(client.ip().to_canonical(), client.port());
    let snapshot = worker.shared.snapshot.load();
    let table = snapshot.tables.get(&port.index).cloned();
    let destination = destination(&snapshot, &port, &stream);
    drop(snapshot);
    let list = |phase| {
        arrival.over();
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
            if !door::let_in(worker, &listed.conn, &http.doors) {
                tcp::refuse(&stream);
                return;
            }
            tokio::task::spawn_local(http::serve(worker.clone(), listed, stream, first));
        }
        Some(Table::Closed | Table::Udp(_)) | None => {
            tcp::refuse(&stream);
            if let Some(counts) = port.counts.get(worker.id) {
                counts.closed.add(1);
            }
        }
    }
}
