//! What one worker does with datagrams: reads them in batches, finds or begins their sessions, and
//! sends them on in as few calls as can be.
//!
//! All its sockets are in a polling set of their own (epoll, edge-triggered), which the runtime
//! watches as one: so a session costs no task and no entry in the runtime.

use std::collections::HashMap;
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use plimsoll_plane::{Flow, FlowFilter};
use rustix::event::{Timespec, epoll};

use super::quota::{self, Full};
use super::session::{Key, Session};
use super::sys::{BATCH, Mailbox, Outgoing, Received};
use super::table::{GENERATIONS, Id, Table};
use super::train::{Piece, couple};
use crate::listener::Port;
use crate::snapshot::{LiveService, Snapshot, Table as Behind};
use crate::worker::Worker;

/// Sockets looked at in one pass.
const EVENTS: usize = 128;

/// Batches read from one socket in one pass: others want their turn.
const ROUNDS: usize = 4;

/// Slots a backend's answers find free at least, or what is there is sent first.
const FREE: usize = 8;

/// A listening socket.
struct Listening {
    socket: UdpSocket,
    port: Rc<Port>,
    /// Whether it takes several addresses, so that an answer has to say from which it comes.
    any: bool,
    _listening: Arc<()>,
}

/// The datagrams of one worker.
pub(crate) struct Hub {
    set: Rc<OwnedFd>,
    events: Vec<epoll::Event>,
    ports: HashMap<u32, Listening>,
    next_port: u32,
    table: Table<Key, Session>,
    mailbox: Mailbox,
    /// Slots that hold answers to be sent.
    filled: usize,
    /// Answers to be sent, each by its listening socket.
    answers: Vec<(u32, Outgoing)>,
    /// Sockets from which not all was read.
    unread: Vec<u64>,
    got: Vec<Received>,
    pieces: Vec<Piece>,
    outgoing: Vec<Outgoing>,
}

fn tag_of_port(port: u32) -> u64 {
    u64::from(GENERATIONS + 1) << 32 | u64::from(port)
}

fn tag_of(id: Id) -> u64 {
    u64::from(id.generation) << 32 | u64::from(id.at)
}

/// The session, or else the port, of a tag.
fn of_tag(tag: u64) -> Result<Id, u32> {
    let at = (tag & u64::from(u32::MAX)) as u32;
    match (tag >> 32) as u32 {
        generation if generation <= GENERATIONS => Ok(Id { at, generation }),
        _ => Err(at),
    }
}

impl Hub {
    /// # Errors
    /// No descriptor is left.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            set: Rc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?),
            events: Vec::with_capacity(EVENTS),
            ports: HashMap::new(),
            next_port: 0,
            table: Table::new(),
            mailbox: Mailbox::new(),
            filled: 0,
            answers: Vec::new(),
            unread: Vec::new(),
            got: Vec::with_capacity(BATCH),
            pieces: Vec::with_capacity(BATCH),
            outgoing: Vec::with_capacity(BATCH),
        })
    }

    /// The polling set.
    pub(crate) fn set(&self) -> Rc<OwnedFd> {
        self.set.clone()
    }

    /// Sessions now.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    fn watch(&self, socket: impl AsFd, tag: u64) -> io::Result<()> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        let data = epoll::EventData::new_u64(tag);
        Ok(epoll::add(&self.set, socket, data, flags)?)
    }

    /// Serves a socket.
    ///
    /// # Errors
    /// It cannot be watched.
    pub(crate) fn listen(
        &mut self,
        port: Rc<Port>,
        socket: UdpSocket,
        listening: Arc<()>,
    ) -> io::Result<()> {
        let number = self.next_port;
        self.watch(&socket, tag_of_port(number))?;
        self.next_port = self.next_port.wrapping_add(1);
        let any = socket.local_addr()?.ip().is_unspecified();
        let listening = Listening {
            socket,
            port,
            any,
            _listening: listening,
        };
        self.ports.insert(number, listening);
        Ok(())
    }

    /// Closes all ports of a listen, and ends their sessions, which could be answered no more.
    pub(crate) fn close(&mut self, index: usize, worker: &Worker) {
        self.ports.retain(|_, open| open.port.index != index);
        self.end_if(worker, |_, session| session.port.index == index);
    }

    fn end_if(&mut self, worker: &Worker, is: impl Fn(&Key, &Session) -> bool) {
        let matching = self
            .table
            .iter()
            .filter(|(_, key, session)| is(key, session));
        let ids: Vec<Id> = matching.map(|(id, ..)| id).collect();
        for id in ids {
            self.end(worker, id);
        }
    }

    fn end(&mut self, worker: &Worker, id: Id) {
        if let Some((_, session)) = self.table.remove(id)
            && let Some(counts) = session.port.counts.get(worker.id)
        {
            counts.closed.add(1);
        }
    }

    /// Ends what has been quiet for too long.
    pub(crate) fn tick(&mut self, worker: &Worker, now: u64) {
        while let Some(id) = self.table.expired(now) {
            self.end(worker, id);
        }
    }

    /// Brings new settings into force, and has sessions leave backends that are gone or whose time to
    /// drain is over.
    pub(crate) fn sweep(&mut self, snapshot: &Snapshot, now: u64) {
        for service in snapshot.services.values() {
            self.table.set_idle(lane(service), service.timeouts.udp);
        }
        let all: Vec<Id> = self.table.iter().map(|(id, ..)| id).collect();
        for id in all {
            if let Some(session) = self.table.get_mut(id) {
                session.leave_gone(now);
            }
        }
    }

    /// Ends the sessions that wait for no answer, or have waited for `patience` ms.
    pub(crate) fn end_quiet(&mut self, worker: &Worker, patience: u64) {
        let now = worker.now();
        let ids: Vec<Id> = self.table.iter().map(|(id, ..)| id).collect();
        for id in ids {
            let waits = |since: u64| now < since.saturating_add(patience);
            if !self.table.waits_since(id).is_some_and(waits) {
                self.end(worker, id);
            }
        }
    }

    /// Adds the flows that pass the filter.
    pub(crate) fn flows(&self, filter: &FlowFilter, now: u64, flows: &mut Vec<Flow>) {
        let found = self.table.iter();
        flows.extend(found.filter_map(|(_, key, session)| session.flow(key, filter, now)));
    }

    /// Serves the sockets that have something. Whether more is left.
    pub(crate) fn pass(&mut self, worker: &Worker) -> bool {
        self.events.clear();
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let mut events = std::mem::take(&mut self.events);
        let room = rustix::buffer::spare_capacity(&mut events);
        // An interrupted call is a pass without anything new; the set stays as it was.
        let interrupted = epoll::wait(&self.set, room, Some(&at_once)).is_err();
        let mut unread = std::mem::take(&mut self.unread);
        let tags = || {
            let new = events.iter().map(|event| event.data.u64());
            new.chain(unread.iter().copied())
        };
        for tag in tags() {
            if let Ok(id) = of_tag(tag) {
                self.hear_backend(worker, id);
            }
        }
        self.answer(worker);
        for tag in tags() {
            if let Err(port) = of_tag(tag) {
                self.hear_clients(worker, port);
            }
        }
        let all_seen = events.len() < EVENTS && !interrupted;
        unread.clear();
        if self.unread.is_empty() {
            self.unread = unread;
        }
        self.events = events;
        !all_seen || !self.unread.is_empty()
    }

    /// Reads what a backend sent to a client.
    fn hear_backend(&mut self, worker: &Worker, id: Id) {
        for _ in 0..ROUNDS {
            if self.filled + FREE > BATCH {
                self.answer(worker);
            }
            let Some(session) = self.table.get_mut(id) else {
                return;
            };
            let Some(link) = &session.link else {
                return;
            };
            let room = BATCH - self.filled;
            self.got.clear();
            match self
                .mailbox
                .receive(link.socket(), self.filled, room, &mut self.got)
            {
                Ok(n) => {
                    self.pieces.clear();
                    self.pieces.extend(self.got.iter().map(|got| got.piece));
                    let datagrams: usize = self.pieces.iter().map(Piece::count).sum();
                    let bytes = self.pieces.iter().map(|piece| piece.len).sum();
                    session.count_out(worker, datagrams as u64, bytes);
                    let done = session.is_done();
                    self.table.heard_backend(id, worker.now());
                    self.put_answers(id, n);
                    if done {
                        // What it has sent is on its way without it.
                        self.end(worker, id);
                        return;
                    }
                    if n < room {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return session.fail(worker, &error),
            }
        }
        self.unread.push(tag_of(id));
    }

    /// Puts what was just received into the answers, in `n` slots.
    fn put_answers(&mut self, id: Id, n: usize) {
        self.filled += n;
        let Some(key) = self.table.key(id).copied() else {
            return;
        };
        couple(&self.pieces, |train| {
            let (to, from) = (Some(key.client), key.local);
            self.answers.push((key.port, Outgoing { train, to, from }));
        });
    }

    /// Sends the answers that are there.
    fn answer(&mut self, worker: &Worker) {
        self.filled = 0;
        let mut answers = std::mem::take(&mut self.answers);
        for run in answers.chunk_by(|(a, _), (b, _)| a == b) {
            let Some((number, _)) = run.first() else {
                continue;
            };
            let Some(open) = self.ports.get(number) else {
                continue;
            };
            self.outgoing.clear();
            self.outgoing.extend(run.iter().map(|(_, out)| out.clone()));
            let (lost, _) = deliver(&mut self.mailbox, open.socket.as_fd(), &self.outgoing);
            if lost > 0
                && let Some(counts) = open.port.counts.get(worker.id)
            {
                counts.unsent.add(lost);
            }
        }
        answers.clear();
        self.answers = answers;
    }

    /// Reads what clients sent to a port.
    fn hear_clients(&mut self, worker: &Worker, number: u32) {
        let snapshot = worker.shared.snapshot.load();
        for _ in 0..ROUNDS {
            let Some(open) = self.ports.get(&number) else {
                return;
            };
            let behind = snapshot.tables.get(&open.port.index).map(|table| &**table);
            let service = match behind {
                Some(Behind::Udp(service)) => Some(service.clone()),
                _ => None,
            };
            let (any, port) = (open.any, open.port.clone());
            let mut got = std::mem::take(&mut self.got);
            got.clear();
            let n = match self.mailbox.receive(&open.socket, 0, BATCH, &mut got) {
                Ok(n) => n,
                Err(error) => {
                    self.got = got;
                    if error.kind() == io::ErrorKind::WouldBlock {
                        return;
                    }
                    // What the kernel has to tell of an earlier answer.
                    continue;
                }
            };
            if let Some(service) = service {
                let key = |got: &Received| Key {
                    port: number,
                    client: got.from,
                    local: got.to.filter(|_| any),
                };
                for run in got.chunk_by(|a, b| key(a) == key(b)) {
                    let Some(first) = run.first() else {
                        continue;
                    };
                    self.pieces.clear();
                    self.pieces.extend(run.iter().map(|got| got.piece));
                    self.take(worker, &service, &port, key(first));
                }
            }
            self.got = got;
            if n < BATCH {
                return;
            }
        }
        self.unread.push(tag_of_port(number));
    }

    /// Sends the pieces at hand on for a client.
    fn take(&mut self, worker: &Worker, service: &LiveService, port: &Rc<Port>, key: Key) {
        let known = self.table.find(&key);
        let Some(id) = known.or_else(|| self.begin(worker, service, port, key)) else {
            return;
        };
        if known.is_some() {
            self.table.heard_client(id, worker.now());
        }
        if !self.forward(worker, service, id, &key) {
            if let Some(counts) = service.shared.count(worker.id) {
                counts.unserved.add(1);
            }
            self.end(worker, id);
        }
    }

    /// Begins a session, if there is room or somebody can be put out for it.
    fn begin(
        &mut self,
        worker: &Worker,
        service: &LiveService,
        port: &Rc<Port>,
        key: Key,
    ) -> Option<Id> {
        if worker.is_draining() {
            return None;
        }
        if (service.door.as_ref()).is_some_and(|door| !door.admits(key.ip())) {
            if let Some(counts) = service.shared.count(worker.id) {
                counts.denied.add(1);
            }
            return None;
        }
        let (all, ours) = (&worker.shared.udp, &service.shared.udp);
        let limits = service.spec.sessions;
        let enter = || quota::enter(all, ours, key.ip(), limits.limit, limits.per_source);
        let counts = service.shared.count(worker.id);
        let mut entered = enter();
        // Each limit may have to be met in turn.
        for _ in 0..3 {
            let Err(full) = &entered else {
                break;
            };
            let lane = lane(service);
            let source = quota::source(key.ip());
            let spare = match full {
                Full::All => self.table.spare_of_all(),
                Full::Service => self.table.spare(lane),
                Full::Source => self
                    .table
                    .spare_of(lane, |other| quota::source(other.ip()) == source),
            };
            let Some(spare) = spare else {
                break;
            };
            if let Some(counts) = counts {
                counts.evicted.add(1);
            }
            self.end(worker, spare);
            entered = enter();
        }
        let Ok(room) = entered else {
            if let Some(counts) = counts {
                counts.no_room.add(1);
            }
            return None;
        };
        if let Some(counts) = counts {
            counts.total.add(1);
        }
        if let Some(counts) = port.counts.get(worker.id) {
            counts.accepted.add(1);
        }
        let now = worker.now();
        let session = Session::new(service, port, room, now);
        let idle = service.timeouts.udp;
        Some(self.table.insert(key, lane(service), idle, session, now))
    }

    /// Sends the pieces at hand to the session's backend, or to another if that is gone. False if there
    /// is none.
    fn forward(&mut self, worker: &Worker, service: &LiveService, id: Id, key: &Key) -> bool {
        let mut outgoing = std::mem::take(&mut self.outgoing);
        outgoing.clear();
        couple(&self.pieces, |train| {
            outgoing.push(Outgoing {
                train,
                to: None,
                from: None,
            });
        });
        let mut rest = outgoing.as_slice();
        let mut served = false;
        // The kernel tells of an earlier datagram when the next is to be sent, which then has not been.
        for _ in 0..=service.spec.retries.min(8) + 1 {
            let Some(session) = self.table.get_mut(id) else {
                break;
            };
            session.leave_gone(worker.now());
            if session.link.is_none() {
                if !session.bind(worker, service, key) {
                    break;
                }
                let Some(link) = &session.link else {
                    break;
                };
                let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
                let data = epoll::EventData::new_u64(tag_of(id));
                if epoll::add(&self.set, link.socket(), data, flags).is_err() {
                    break;
                }
            }
            let Some(link) = &session.link else {
                break;
            };
            served = true;
            let (lost, stopped) = deliver(&mut self.mailbox, link.socket(), rest);
            if lost > 0
                && let Some(counts) = session.port.counts.get(worker.id)
            {
                counts.unsent.add(lost);
            }
            let sent = stopped.as_ref().map_or(rest.len(), |(at, _)| *at);
            let (gone, left) = rest.split_at_checked(sent).unwrap_or((rest, &[]));
            let datagrams: usize = gone.iter().map(|out| out.train.count()).sum();
            let bytes = gone.iter().map(|out| out.train.bytes()).sum();
            session.count_in(worker, (datagrams as u64).saturating_sub(lost), bytes);
            rest = left;
            match stopped {
                Some((_, error)) => session.fail(worker, &error),
                None => break,
            }
        }
        self.outgoing = outgoing;
        served
    }
}

/// The list of a service's sessions, by what its sessions keep alive.
fn lane(service: &LiveService) -> u64 {
    Arc::as_ptr(&service.shared.udp).addr() as u64
}

/// Sends all messages that can be sent: how many datagrams could not, and for a connected socket the
/// error and the message at which its peer turned out not to be there.
fn deliver(
    mailbox: &mut Mailbox,
    socket: impl AsFd + Copy,
    messages: &[Outgoing],
) -> (u64, Option<(usize, io::Error)>) {
    let (mut at, mut lost) = (0, 0);
    while let Some(rest @ [first, ..]) = messages.get(at..) {
        match mailbox.send(socket, rest) {
            Ok(n) => at += n.max(1),
            Err(error) if first.to.is_none() && is_of_peer(&error) => {
                return (lost, Some((at, error)));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                lost += rest.iter().map(|m| m.train.count() as u64).sum::<u64>();
                break;
            }
            Err(_) if first.train.segment.is_some() => {
                // Larger than the link carries, or a device that cannot: one by one they may pass.
                for train in first.train.uncouple() {
                    let (to, from) = (first.to, first.from);
                    let alone = [Outgoing { train, to, from }];
                    lost += u64::from(mailbox.send(socket, &alone).is_err());
                }
                at += 1;
            }
            Err(_) => {
                lost += 1;
                at += 1;
            }
        }
    }
    (lost, None)
}

/// Whether an error says that nothing is there, or no way leads to it.
fn is_of_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
    )
}
