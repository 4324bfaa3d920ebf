//! UDP services: sessions from a client to a backend, and the way back.
//!
//! The backend's answers to different clients can only be told apart by the port that they come to,
//! so each session has a socket of its own, also where `sh` or `mh` choose the backend without any
//! memory. What memory is not needed for there is the choice: a session that was put out, a plimsoll
//! that was started again and another director send the client to the same backend as before.

mod hub;
mod link;
mod note;
mod pace;
mod quota;
mod session;
mod sockets;
mod sys;
mod table;
mod train;

use std::cell::RefCell;
use std::io;
use std::net::UdpSocket;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use plimsoll_plane::{Flow, FlowFilter};
use tokio::io::unix::AsyncFd;

use crate::listener::Port;
use crate::snapshot::Snapshot;
use crate::worker::{TICK, TICK_MS, Worker};
use hub::Hub;
pub(crate) use quota::{All, OfService};

/// Ticks between two looks at the backends of all sessions.
const SWEEP: u64 = 10;

/// How long a worker that ends waits for the answer to a datagram, in ms.
const PATIENCE: u64 = 5_000;

/// By how many ns a worker may be woken too late, with others (`PR_SET_TIMERSLACK`, prctl(2)).
const SLACK: u64 = 1_000;

/// Bytes that wait to be read or sent of a listen, per worker; the kernel caps it at
/// `net.core.rmem_max` and `wmem_max`.
const ROOM: usize = 4 << 20;

/// The UDP side of a worker. Costs nothing until there is a listen for it.
#[derive(Default)]
pub(crate) struct Udp(RefCell<Option<Box<Hub>>>);

/// Prepares a socket to listen on, before it is given to a worker.
///
/// # Errors
/// The kernel cannot tell what a datagram was sent to.
pub(crate) fn prepare(socket: &socket2::Socket) -> io::Result<()> {
    let bound = socket.local_addr()?;
    sys::receive_trains(socket);
    // Smaller buffers lose more in a burst, and nothing else.
    let _ = socket.set_recv_buffer_size(ROOM);
    let _ = socket.set_send_buffer_size(ROOM);
    match bound.as_socket() {
        Some(addr) if addr.ip().is_unspecified() => {
            sys::tell_destination(socket.as_fd(), addr.is_ipv6())
        }
        _ => Ok(()),
    }
}

impl Udp {
    /// Serves a socket.
    ///
    /// # Errors
    /// It cannot be watched.
    pub(crate) fn listen(
        &self,
        worker: &Rc<Worker>,
        port: Arc<Port>,
        socket: UdpSocket,
        listening: Arc<()>,
    ) -> io::Result<()> {
        let mut slot = self.0.borrow_mut();
        let hub = match &mut *slot {
            Some(hub) => hub,
            slot => {
                let workers = worker.shared.workers.get().map_or(1, Vec::len);
                let hub = Hub::new(worker.shared.udp.resting(workers))?;
                let set = sys::watched(hub.set())?;
                // Or a sleep of some µs takes four times as long; it does no harm to the others.
                let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(SLACK));
                tokio::task::spawn_local(serve_on(worker.clone(), Rc::new(set)));
                slot.insert(Box::new(hub))
            }
        };
        hub.listen(port, socket, listening)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Hub) -> T) -> Option<T> {
        self.0.borrow_mut().as_deref_mut().map(act)
    }

    /// Closes the ports of a listen.
    pub(crate) fn close(&self, worker: &Worker, index: usize) {
        self.with(|hub| hub.close(index, worker));
    }

    /// Adds the flows that pass the filter.
    pub(crate) fn flows(&self, filter: &FlowFilter, now: u64, flows: &mut Vec<Flow>) {
        self.with(|hub| hub.flows(filter, now, flows));
    }

    /// Looks at time-outs.
    pub(crate) fn tick(&self, worker: &Worker, now: u64) {
        self.with(|hub| hub.tick(worker, now));
        if (now / TICK_MS).is_multiple_of(SWEEP) {
            self.sweep(worker);
        }
    }

    /// Looks at all settings and backends.
    pub(crate) fn sweep(&self, worker: &Worker) {
        self.with(|hub| hub.sweep(&worker.shared.snapshot.load(), worker.now()));
    }

    /// Ends the sessions of clients that the lists of their services let in no more.
    pub(crate) fn review(&self, worker: &Worker, snapshot: &Snapshot) {
        self.with(|hub| hub.review(worker, snapshot));
    }

    /// Waits until no client waits for an answer any more, or has for too long.
    pub(crate) async fn drain(&self, worker: &Worker) {
        loop {
            let left = self.with(|hub| {
                hub.end_quiet(worker, PATIENCE);
                hub.len()
            });
            if left.is_none_or(|left| left == 0) {
                return;
            }
            tokio::time::sleep(TICK).await;
        }
    }
}

/// Serves for ever: a panic ends a session at most, and never those of all others.
async fn serve_on(worker: Rc<Worker>, set: Rc<AsyncFd<Rc<OwnedFd>>>) {
    while let Err(error) = tokio::task::spawn_local(serve(worker.clone(), set.clone())).await
        && error.is_panic()
    {}
}

/// Serves all sockets of a worker.
async fn serve(worker: Rc<Worker>, set: Rc<AsyncFd<Rc<OwnedFd>>>) {
    while let Ok(mut ready) = set.readable().await {
        while worker.udp.with(|hub| hub.serve(&worker)) == Some(true) {
            tokio::task::yield_now().await;
        }
        // What has come since is told again: the runtime has not asked for it yet.
        ready.clear_ready();
        // Whoever has a connection here must not wait for datagrams.
        if worker.udp.with(|hub| hub.gathers(&worker)) == Some(true) && !worker.has_connections() {
            std::thread::sleep(pace::GATHER);
        }
    }
}
