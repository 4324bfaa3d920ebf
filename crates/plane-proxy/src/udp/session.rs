//! A session: what a client's datagrams go to, and how the answers find the client.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use plimsoll_balance::Client;
use plimsoll_model::{Listen, Name};
use plimsoll_plane::{Flow, FlowFilter};
use socket2::Socket;

use super::link::{Failure, Link, connect, unreachable};
use super::note::Note;
use super::quota::Room;
use super::sockets::Sockets;
use super::sys::Local;
use super::table::Id;
use crate::access::End;
use crate::backend::LiveBackend;
use crate::choose::{Tried, choose_at_once};
use crate::listener::Port;
use crate::snapshot::{LiveService, SharedService};
use crate::worker::Worker;

/// How a session ends that no backend can take, and one for which this host has no socket.
pub(crate) const NO_BACKEND: End = End::new(*b"SC");
pub(crate) const NO_ROOM: End = End::new(*b"RC");

/// Who a session belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// The number of the socket by which the client came.
    pub(crate) port: u32,
    /// As that socket shows it: an IPv4 client of a dual-stack socket is `::ffff:a.b.c.d`.
    pub(crate) client: SocketAddr,
    /// What the client sent to, where the socket takes several addresses.
    pub(crate) local: Option<Local>,
}

impl Key {
    pub(crate) fn ip(&self) -> IpAddr {
        self.client.ip().to_canonical()
    }

    /// The client, as it is shown.
    pub(crate) fn client(&self) -> SocketAddr {
        SocketAddr::new(self.ip(), self.client.port())
    }

    /// Who a backend is chosen for.
    fn whom(&self, port: &Port) -> Client {
        let listened = match port.listen {
            Listen::Socket { ip, .. } => ip,
            Listen::Mark { .. } => None,
        };
        let local = self.local.map(|local| local.ip.to_canonical());
        Client {
            ip: self.ip(),
            port: self.client.port(),
            destination: local.or(listened).unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
        }
    }
}

/// A client's session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) link: Option<Link>,
    /// What the backend before was, if it failed.
    failed: Option<Arc<LiveBackend>>,
    /// It had a backend before: the next is a move.
    bound: bool,
    /// Datagrams of the client and of backends.
    asked: u64,
    answered: u64,
    /// Answers to each datagram of the client that end the session; 0: they do not.
    responses: u32,
    since: u64,
    /// Only where the scheduler goes by how long backends take.
    timing: Option<Timing>,
    /// Only where it will be a line of the access log.
    note: Option<Box<Note>>,
    pub(crate) shared: Arc<SharedService>,
    pub(crate) port: Arc<Port>,
    _room: Room,
}

/// How long the backend takes to answer.
#[derive(Clone, Copy, Debug)]
struct Timing {
    decay: Duration,
    /// Of the first datagram that has no answer yet, in µs of the plane's clock.
    asked: Option<u64>,
}

impl Timing {
    fn ask(&mut self, worker: &Worker) {
        self.asked.get_or_insert_with(|| worker.shared.micros());
    }

    /// The backend has answered, or failed to.
    fn end(&mut self, worker: &Worker, backend: &LiveBackend, answered: bool) {
        let Some(asked) = self.asked.take() else {
            return;
        };
        let now = worker.shared.micros();
        let taken = Duration::from_micros(now.saturating_sub(asked));
        match answered {
            true => backend.latency.observe(now / 1000, taken, self.decay),
            false => (backend.latency).observe_failure(now / 1000, taken, self.decay),
        }
    }
}

impl Session {
    pub(crate) fn new(
        worker: &Worker,
        service: &Arc<LiveService>,
        port: &Arc<Port>,
        room: Room,
    ) -> Self {
        let scheduler = &service.spec.scheduler;
        let timing = || Timing {
            decay: scheduler.decay,
            asked: None,
        };
        Self {
            link: None,
            failed: None,
            bound: false,
            asked: 0,
            answered: 0,
            responses: service.spec.sessions.responses,
            since: worker.now(),
            timing: scheduler.kind.needs_latency().then(timing),
            note: Note::new(worker, service),
            shared: service.shared.clone(),
            port: port.clone(),
            _room: room,
        }
    }

    /// The service whose backend it uses.
    pub(crate) fn served_by(&self) -> Option<&Name> {
        self.link.as_ref().map(|link| &link.backend().service)
    }

    /// Gives up a backend that is gone, or whose time to drain is over. Whether it did.
    pub(crate) fn leave_gone(&mut self, now: u64) -> bool {
        let over = |link: &Link| link.backend().is_gone() || link.backend().cut_at() <= now;
        let leaves = self.link.as_ref().is_some_and(over);
        if leaves {
            self.link = None;
        }
        leaves
    }

    /// Gives up a backend that has failed: the next datagram goes to another.
    pub(crate) fn fail(&mut self, worker: &Worker, error: &io::Error) {
        let Some(link) = self.link.take() else {
            return;
        };
        let backend = link.backend();
        if let Some(timing) = &mut self.timing {
            timing.end(worker, backend, false);
        }
        backend.count(worker.id).connect_failures.add(1);
        backend.was_reset(unreachable(error));
        self.failed = Some(backend.clone());
    }

    /// Takes note of datagrams of the client that went to the backend.
    pub(crate) fn count_in(&mut self, worker: &Worker, datagrams: u64, bytes: usize) {
        self.asked += datagrams;
        if let Some(timing) = &mut self.timing {
            timing.ask(worker);
        }
        if let Some(note) = &mut self.note {
            note.hear_client(bytes);
        }
        if let Some(link) = &self.link {
            let counts = link.backend().count(worker.id);
            counts.bytes_in.add(bytes as u64);
            counts.datagrams_in.add(datagrams);
        }
    }

    /// Takes note of datagrams from the backend.
    pub(crate) fn count_out(&mut self, worker: &Worker, datagrams: u64, bytes: usize) {
        self.answered += datagrams;
        let Some(link) = &mut self.link else {
            return;
        };
        let backend = link.backend();
        if let Some(timing) = &mut self.timing {
            timing.end(worker, backend, true);
            self.shared.udp.has_answered();
        }
        if let Some(note) = &mut self.note {
            note.hear_backend(worker, bytes);
        }
        let counts = backend.count(worker.id);
        counts.bytes_out.add(bytes as u64);
        counts.datagrams_out.add(datagrams);
        backend.served();
    }

    /// How many messages to read from the backend by one call.
    pub(crate) fn room(&self) -> usize {
        let link = self.link.as_ref();
        link.map_or(1, |link| link.room(self.responses > 0, self.answered))
    }

    /// Reads from now on as what was just read suggests.
    pub(crate) fn adapt(&mut self, sockets: &Sockets, messages: usize, datagrams: usize) {
        if let Some(link) = &mut self.link {
            link.adapt(sockets, self.answered, messages, datagrams);
        }
    }

    /// Whether the client has had all its answers.
    pub(crate) fn is_done(&self) -> bool {
        let responses = u64::from(self.responses);
        responses > 0 && self.answered >= self.asked.saturating_mul(responses)
    }

    /// Datagrams from the client and from backends that went on.
    pub(crate) fn datagrams(&self) -> (u64, u64) {
        (self.asked, self.answered)
    }

    /// It has ended: a line of the access log, if it is to be one. What was its socket, and the address
    /// it was connected to, if another session can use it.
    pub(crate) fn close(
        mut self,
        worker: &Worker,
        key: &Key,
        end: End,
    ) -> Option<(Socket, SocketAddr)> {
        if let Some(counts) = self.port.counts.get(worker.id) {
            counts.closed.add(1);
        }
        if let (Some(timing), Some(link)) = (&mut self.timing, &self.link)
            && self.shared.udp.answers()
        {
            // Whoever is still owed an answer will get none.
            timing.end(worker, link.backend(), false);
        }
        if let Some(note) = &self.note {
            note.write(worker, key, &self, end);
        }
        self.link.take()?.left()
    }

    /// Finds a backend and connects to it.
    ///
    /// # Errors
    /// There is none for now: how the session ends.
    pub(crate) fn bind(
        &mut self,
        worker: &Worker,
        service: &LiveService,
        (id, key): (Id, &Key),
        sockets: &mut Sockets,
    ) -> Result<(), End> {
        let mut tried = Tried::default();
        let failed = self.failed.take();
        if let Some(failed) = &failed {
            tried.failed(failed, true, u32::MAX);
        }
        let client = &key.whom(&self.port);
        let mut place = choose_at_once(worker, service, client, &tried);
        if place.is_none() && failed.is_some() {
            // What failed was an earlier datagram; the only backend may be back.
            tried = Tried::default();
            place = choose_at_once(worker, service, client, &tried);
        }
        while let Some(chosen) = place {
            let backend = chosen.backend().clone();
            let now = worker.shared.micros();
            let refused = match connect(service, &backend, &self.port, key, sockets, now) {
                Ok(connected) => {
                    sockets.own(&connected.socket, id);
                    let counts = backend.count(worker.id);
                    counts.connections.add(1);
                    counts.requests.add(1);
                    if std::mem::replace(&mut self.bound, true)
                        && let Some(counts) = self.shared.count(worker.id)
                    {
                        counts.moved.add(1);
                    }
                    if let Some(note) = &mut self.note {
                        note.bind(&backend);
                    }
                    self.link = Some(Link::new(chosen, connected));
                    return Ok(());
                }
                Err(Failure::Host(error)) => {
                    worker.complain(|| {
                        tracing::warn!(backend = %backend.addr, %error, "cannot open a session for now");
                    });
                    return Err(NO_ROOM);
                }
                Err(Failure::Short(error)) => {
                    worker.complain(|| {
                        tracing::warn!(backend = %backend.addr, %error, "cannot open a session for now");
                    });
                    true
                }
                Err(Failure::Client(error)) => {
                    worker.complain(|| {
                        tracing::warn!(backend = %backend.addr, %error, "no session for this client");
                    });
                    // As if there were one backend fewer.
                    true
                }
                Err(Failure::Backend(reason)) => {
                    backend.count(worker.id).connect_failures.add(1);
                    // Not as a failed connection: nobody can knock at a port for datagrams.
                    backend.was_reset(reason);
                    true
                }
            };
            drop(chosen);
            if !tried.failed(&backend, refused, service.spec.retries) {
                break;
            }
            backend.count(worker.id).retries.add(1);
            place = choose_at_once(worker, service, client, &tried);
        }
        Err(NO_BACKEND)
    }

    /// The flow that this session is, if it passes the filter.
    pub(crate) fn flow(&self, key: &Key, filter: &FlowFilter, now: u64) -> Option<Flow> {
        let backend = self.link.as_ref().map(Link::backend);
        let service = backend.map(|b| &b.service);
        let addr = backend.map(|b| &b.addr);
        let wanted = filter.service.as_ref().is_none_or(|s| Some(s) == service)
            && filter.backend.as_ref().is_none_or(|b| Some(b) == addr);
        wanted.then(|| Flow {
            client: key.client(),
            listen: self.port.listen,
            service: service.cloned(),
            backend: addr.cloned(),
            phase: "udp",
            age: Duration::from_millis(now.saturating_sub(self.since)),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use plimsoll_model::{Backend, Origin};

    use super::*;
    use crate::worker::tests::worker;

    #[test]
    fn how_long_a_backend_takes_is_known_from_its_answers() {
        let (worker, decay) = (worker(), Duration::from_secs(10));
        let (events, _heard) = tokio::sync::mpsc::channel(1);
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let backend = Backend::new(addr.into(), Origin::new("test", "b"));
        let service = "dns".parse().unwrap();
        let backend = LiveBackend::new(1, service, &backend, 1, 0, events);
        let mut timing = Timing { decay, asked: None };
        timing.end(&worker, &backend, true);
        assert_eq!(backend.latency.estimate(0, decay), None, "nobody asked");
        timing.ask(&worker);
        let first = timing.asked;
        timing.ask(&worker);
        assert_eq!(timing.asked, first, "from the first datagram on");
        timing.end(&worker, &backend, true);
        assert!(backend.latency.estimate(0, decay).is_some());
        assert_eq!(timing.asked, None);
    }
}
