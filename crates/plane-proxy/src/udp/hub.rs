//! What one worker does with datagrams: reads them in batches, finds or begins their sessions, and
//! sends them on in as few calls as can be.
//!
//! All its sockets are in a polling set of their own (epoll, edge-triggered), which the runtime
//! watches as one: so a session costs no task and no entry in the runtime.

mod answers;
mod clients;
mod deliver;

use std::collections::HashMap;
use std::io;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;

use plimsoll_plane::{Flow, FlowFilter};
use rustix::event::{Timespec, epoll};

use super::pace::Pace;
use super::session::{Key, Session};
use super::sockets::Sockets;
use super::sys::{BATCH, Mailbox, Outgoing, Received};
use super::table::{Id, Table};
use super::train::Piece;
use crate::access::End;
use crate::listener::Port;
use crate::snapshot::{LiveService, Snapshot};
use crate::worker::{Worker, responsible};

/// Sockets looked at in one pass.
const EVENTS: usize = 128;

/// Batches read from one socket in one pass: others want their turn.
const ROUNDS: usize = 4;

/// How a session ends that makes room for another, or whose client is let in no more.
const PUT_OUT: End = End::new(*b"PD");

/// Datagrams, and passes, after which the other tasks of the worker have their turn.
const TURN: usize = 128;
const PASSES: usize = 64;

/// How a session ends whose client waits for an answer, one whose listen is closed or whose plane
/// stops, and one that a defect of our own ends.
const UNANSWERED: End = End::new(*b"sD");
const CLOSED: End = End::new(*b"KD");
const DEFECT: End = End::new(*b"ID");

/// A listening socket.
struct Listening {
    socket: UdpSocket,
    port: Arc<Port>,
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
    sockets: Sockets,
    mailbox: Mailbox,
    /// Slots that hold answers to be sent.
    filled: usize,
    /// Answers to be sent, each by its listening socket.
    answers: Vec<(u32, Outgoing)>,
    /// From whom not all was read.
    unread: Vec<Source>,
    /// A socket was read that tells of what is left, if it is asked again.
    look_again: bool,
    /// Datagrams read since others had their turn.
    moved: usize,
    pace: Pace,
    /// Whose datagrams are being passed on.
    at_work: Option<Id>,
    got: Vec<Received>,
    pieces: Vec<Piece>,
    outgoing: Vec<Outgoing>,
}

/// Who sends datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The clients at a port.
    Port(u32),
    /// The backend of a session.
    Session(Id),
}

/// Of what an event tells: a port, or else a socket to a backend.
const PORT: u64 = 1 << 32;

impl Hub {
    /// Keeps at most so many sockets for sessions to come, of each family.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(crate) fn new(resting: usize) -> io::Result<Self> {
        let set = Rc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        Ok(Self {
            sockets: Sockets::new(set.clone(), resting),
            set,
            events: Vec::with_capacity(EVENTS),
            ports: HashMap::new(),
            next_port: 0,
            table: Table::new(),
            mailbox: Mailbox::new(),
            filled: 0,
            answers: Vec::new(),
            unread: Vec::new(),
            look_again: false,
            moved: 0,
            pace: Pace::default(),
            at_work: None,
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

    /// Serves a socket.
    ///
    /// # Errors
    /// It cannot be watched.
    pub(crate) fn listen(
        &mut self,
        port: Arc<Port>,
        socket: UdpSocket,
        listening: Arc<()>,
    ) -> io::Result<()> {
        let number = self.next_port;
        let data = epoll::EventData::new_u64(PORT | u64::from(number));
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&self.set, &socket, data, flags)?;
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
            self.end(worker, id, CLOSED);
        }
    }

    fn end(&mut self, worker: &Worker, id: Id, end: End) {
        if let Some((key, session)) = self.table.remove(id) {
            let left = session.close(worker, &key, end);
            // The sessions of a flood, which are put out for each other, leave nothing behind.
            if let Some((socket, addr)) = left
                && end == End::CLEAN
            {
                self.sockets.give_back(socket, addr, worker.shared.micros());
            }
        }
    }

    /// Ends what has been quiet for too long.
    pub(crate) fn tick(&mut self, worker: &Worker, now: u64) {
        self.sockets.shrink();
        while let Some(id) = self.table.expired(now) {
            let end = match self.table.waits_since(id) {
                Some(_) => UNANSWERED,
                None => End::CLEAN,
            };
            self.end(worker, id, end);
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

    /// Ends the sessions of clients that the lists of their services let in no more.
    pub(crate) fn review(&mut self, worker: &Worker, snapshot: &Snapshot) {
        let denied = self.table.iter().filter_map(|(id, key, session)| {
            let service = responsible(session.served_by(), session.port.index, snapshot)?;
            let admitted = service
                .door
                .as_ref()
                .is_none_or(|door| door.admits(key.ip()));
            (!admitted).then(|| (id, service.shared.clone()))
        });
        let denied: Vec<_> = denied.collect();
        for (id, service) in denied {
            if let Some(counts) = service.count(worker.id) {
                counts.denied.add(1);
            }
            self.end(worker, id, PUT_OUT);
        }
    }

    /// Ends the sessions that wait for no answer, or have waited for `patience` ms.
    pub(crate) fn end_quiet(&mut self, worker: &Worker, patience: u64) {
        let now = worker.now();
        let ids: Vec<Id> = self.table.iter().map(|(id, ..)| id).collect();
        for id in ids {
            match self.table.waits_since(id) {
                Some(since) if now < since.saturating_add(patience) => {}
                Some(_) => self.end(worker, id, CLOSED),
                None => self.end(worker, id, End::CLEAN),
            }
        }
    }

    /// Adds the flows that pass the filter.
    pub(crate) fn flows(&self, filter: &FlowFilter, now: u64, flows: &mut Vec<Flow>) {
        let found = self.table.iter();
        flows.extend(found.filter_map(|(_, key, session)| session.flow(key, filter, now)));
    }

    /// Reads from a socket. A panic there ends the one session that was at work, and is counted; what
    /// else there is to read is read in the next pass.
    fn contain(&mut self, worker: &Worker, source: Source, read: impl FnOnce(&mut Self)) {
        self.at_work = None;
        // What is lent out in the middle of it is only room that is made anew.
        let done = std::panic::catch_unwind(AssertUnwindSafe(|| read(self)));
        if done.is_ok() {
            return;
        }
        self.unread.push(source);
        let Some(id) = self.at_work.take() else {
            return;
        };
        if let Some(session) = self.table.get_mut(id)
            && let Some(counts) = session.port.counts.get(worker.id)
        {
            counts.panicked.add(1);
        }
        self.end(worker, id, DEFECT);
    }

    /// Serves what there is, until nothing is left or others want their turn. Whether more is left.
    pub(crate) fn serve(&mut self, worker: &Worker) -> bool {
        self.moved = 0;
        for _ in 0..PASSES {
            if !self.pass(worker) {
                return false;
            }
            if self.moved >= TURN {
                break;
            }
        }
        true
    }

    /// Whether more should come together before it is served, now that nothing is left.
    pub(crate) fn gathers(&mut self, worker: &Worker) -> bool {
        self.pace.gathers(self.moved, worker.shared.micros())
    }

    /// Serves once who has something. Whether more may be left that no event will tell of.
    fn pass(&mut self, worker: &Worker) -> bool {
        self.events.clear();
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let mut events = std::mem::take(&mut self.events);
        // After a panic it is a new one.
        events.reserve(EVENTS);
        let room = rustix::buffer::spare_capacity(&mut events);
        // An interrupted call is a pass without anything new; the set stays as it was.
        let interrupted = epoll::wait(&self.set, room, Some(&at_once)).is_err();
        let mut unread = std::mem::take(&mut self.unread);
        let many = events.len() == EVENTS || interrupted;
        self.look_again = false;
        for event in &events {
            if let Ok(number) = u32::try_from(event.data.u64())
                && let Some(id) = self.sockets.owner(number)
            {
                self.contain(worker, Source::Session(id), |hub| {
                    hub.hear_backend(worker, id)
                });
            }
        }
        for source in &unread {
            if let Source::Session(id) = *source {
                self.contain(worker, *source, |hub| hub.hear_backend(worker, id));
            }
        }
        self.answer(worker);
        let told = events.iter().map(|event| event.data.u64());
        let told = told.filter_map(|data| u32::try_from(data.checked_sub(PORT)?).ok());
        let left = unread.iter().filter_map(|source| match source {
            Source::Port(number) => Some(*number),
            Source::Session(_) => None,
        });
        for number in told.chain(left) {
            self.contain(worker, Source::Port(number), |hub| {
                hub.hear_clients(worker, number)
            });
        }
        unread.clear();
        if self.unread.is_empty() {
            self.unread = unread;
        }
        self.events = events;
        many || self.look_again || !self.unread.is_empty()
    }
}

/// The list of a service's sessions, by what its sessions keep alive.
fn lane(service: &LiveService) -> u64 {
    Arc::as_ptr(&service.shared.udp).addr() as u64
}

#[cfg(test)]
mod tests;
