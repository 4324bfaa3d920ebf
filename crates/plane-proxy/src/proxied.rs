//! Clients that another proxy speaks for: their connections begin with a PROXY header.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::conn::{Conn, Phase};
use crate::proxy_header::{Ends, MAX_HEADER, Parsed, ProxyHeader, parse, write};
use crate::snapshot::{LiveService, Table};
use crate::worker::{Listed, Worker};
use crate::{door, http, tcp};

/// While the worker drains, how long a header may still take, in ms.
const PARTING: u64 = 1_000;

/// Reads the header, within the time for a head, and then serves the client it names. A connection
/// without one is closed, as HAProxy does.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    listed: Listed,
    stream: std::net::TcpStream,
    table: Arc<Table>,
) {
    let conn = listed.conn.clone();
    let limit = table.first().map_or(0, |first| first.timeouts.header);
    conn.enter_until(Phase::Header, worker.now(), limit);
    let refuse = |status, why: &dyn std::fmt::Display| {
        if let Some(counts) = conn.port.counts.get(worker.id) {
            counts.refuse(status);
        }
        worker.complain_of_header(|| {
            let (listen, peer) = (&conn.port.listen, conn.client().ip());
            tracing::warn!(
                %listen, %peer, %why,
                "closed a connection without its PROXY header: does `accept-proxy` name the right peers?"
            );
        });
    };
    match receive(&worker, &conn, stream).await {
        Ok((stream, header)) => {
            conn.introduce(header);
            // What holds now, and not what did when the header was begun.
            let snapshot = worker.shared.snapshot.load();
            let table = snapshot.tables.get(&conn.port.index).cloned();
            drop(snapshot);
            match table.as_deref() {
                Some(Table::Tcp(service)) => {
                    conn.enter(Phase::Tcp);
                    tcp::serve(worker, listed, stream, service.clone()).await;
                }
                Some(Table::Http(table)) if !door::let_in(&worker, &conn, &table.doors) => {
                    tcp::refuse(&stream);
                }
                Some(Table::Http(table)) => {
                    http::serve(worker, listed, stream, table.first.clone()).await;
                }
                // Nobody listens there any more; and datagrams have no connections.
                None | Some(Table::Closed | Table::Udp(_)) => tcp::refuse(&stream),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => refuse(400, &error),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            refuse(408, &"it did not come in time");
        }
        // Gone without a word, as other balancers look whether a port is open.
        Err(_) => {}
    }
}

/// The stream behind its header.
async fn receive(
    worker: &Worker,
    conn: &Conn,
    stream: std::net::TcpStream,
) -> io::Result<(std::net::TcpStream, ProxyHeader)> {
    // Mostly it is there along with the connection.
    match take(&stream, worker) {
        Ok(header) => return Ok((stream, header)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => return Err(error),
    }
    let stream = TcpStream::from_std(stream)?;
    let waiting = std::future::poll_fn(|cx| {
        conn.set_waker(cx.waker());
        if conn.take_expired() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if worker.is_draining() {
            conn.hasten(worker.now(), PARTING);
        }
        poll_take(&stream, worker, cx)
    });
    let header = waiting.await?;
    Ok((stream.into_std()?, header))
}

fn poll_take(
    stream: &TcpStream,
    worker: &Worker,
    cx: &mut Context<'_>,
) -> Poll<io::Result<ProxyHeader>> {
    loop {
        ready!(stream.poll_read_ready(cx))?;
        match stream.try_io(Interest::READABLE, || take(stream, worker)) {
            // The readiness is cleared: wait for more.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            taken => return Poll::Ready(taken),
        }
    }
}

/// Takes the header off the stream and nothing else.
///
/// # Errors
/// `WouldBlock` while it is not whole; `InvalidData` if there is none.
fn take(stream: impl AsFd, worker: &Worker) -> io::Result<ProxyHeader> {
    let mut scratch = worker.scratch.borrow_mut();
    let room = scratch.get_mut(..MAX_HEADER).unwrap_or_default();
    let flags = RecvFlags::DONTWAIT;
    let (_, n) = rustix::net::recv(&stream, &mut *room, flags | RecvFlags::PEEK)?;
    if n == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    match parse(room.get(..n).unwrap_or_default()) {
        Ok(Parsed::Part) if has_ended(&stream) => Err(io::ErrorKind::InvalidData.into()),
        Ok(Parsed::Part) => Err(io::ErrorKind::WouldBlock.into()),
        Ok(Parsed::Whole(header, length)) => {
            // All of it lies there.
            let header_bytes = room.get_mut(..length).unwrap_or_default();
            rustix::net::recv(&stream, header_bytes, flags)?;
            Ok(header)
        }
        Err(malformed) => Err(io::Error::new(io::ErrorKind::InvalidData, malformed)),
    }
}

/// Whether nothing more will come.
fn has_ended(stream: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&stream, PollFlags::RDHUP)];
    let asked = rustix::event::poll(&mut fds, Some(&Timespec::default()));
    let [fd] = fds;
    let ended = PollFlags::RDHUP | PollFlags::ERR | PollFlags::HUP;
    asked.is_ok() && fd.revents().intersects(ended)
}

/// What a connection to a backend of this service begins with, for this client. `local` is asked for
/// the client's own end of its connection.
pub(crate) fn preface(
    service: &LiveService,
    conn: &Conn,
    local: impl FnOnce() -> Option<SocketAddr>,
) -> Vec<u8> {
    let Some(version) = service.spec.proxy_headers.send else {
        return Vec::new();
    };
    let own_ends = || {
        let server = local()?;
        Some(Ends {
            client: conn.client(),
            server: SocketAddr::new(server.ip().to_canonical(), server.port()),
        })
    };
    match conn.introduced() {
        Some(header @ ProxyHeader { ends: Some(_), .. }) => write(version, header),
        header => write(
            version,
            &ProxyHeader {
                ends: own_ends(),
                ..header.cloned().unwrap_or_default()
            },
        ),
    }
}
