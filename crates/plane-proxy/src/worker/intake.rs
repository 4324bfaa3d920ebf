//! Takes clients in.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Listed, TICK, Worker};
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

/// Accepts connections until told to stop, and then those whom the kernel has promised service.
pub(super) async fn accept(
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
            if !door::let_in(&listed.conn, &http.doors) {
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
