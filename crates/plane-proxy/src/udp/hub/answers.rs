//! From backends to clients.

use std::io;
use std::os::fd::AsFd;

use super::deliver::{deliver, is_of_peer};
use super::{Hub, ROUNDS, Source};
use crate::access::End;
use crate::udp::link::Link;
use crate::udp::sys::{BATCH, Outgoing};
use crate::udp::table::Id;
use crate::udp::train::{Piece, couple};
use crate::worker::Worker;

/// Slots a backend's answers find free at least, or what is there is sent first.
const FREE: usize = 8;

impl Hub {
    /// Reads what a backend sent to a client.
    pub(super) fn hear_backend(&mut self, worker: &Worker, id: Id) {
        self.at_work = Some(id);
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
            let room = session.room().min(BATCH - self.filled);
            self.pieces.clear();
            let heard = match room {
                1 => (self.mailbox).receive_one(link.socket(), self.filled, &mut self.pieces),
                _ => {
                    let (first, pieces) = (self.filled, &mut self.pieces);
                    self.mailbox
                        .receive_from_peer(link.socket(), first, room, pieces)
                }
            };
            match heard {
                Ok(n) => {
                    let datagrams: usize = self.pieces.iter().map(Piece::count).sum();
                    let bytes = self.pieces.iter().map(|piece| piece.len).sum();
                    session.count_out(worker, datagrams as u64, bytes);
                    session.adapt(&self.sockets, n, datagrams);
                    let done = session.is_done();
                    let again = session.link.as_ref().is_some_and(Link::tells_again);
                    self.moved += datagrams;
                    self.look_again |= again;
                    self.table.heard_backend(id, worker.now());
                    self.put_answers(id, n);
                    if done {
                        // What it has sent is on its way without it.
                        self.end(worker, id, End::CLEAN);
                        return;
                    }
                    if again || n < room {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_of_peer(&error) => return session.fail(worker, &error),
                // Of a datagram that was sent, such as one too large for a link on the way: told once,
                // and nothing of the backend.
                Err(_) => {}
            }
        }
        self.unread.push(Source::Session(id));
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
    pub(super) fn answer(&mut self, worker: &Worker) {
        self.filled = 0;
        let mut answers = std::mem::take(&mut self.answers);
        while let Some((number, _)) = answers.first() {
            let number = *number;
            let run = answers.iter().take_while(|(port, _)| *port == number);
            let run = run.count();
            self.outgoing.clear();
            self.outgoing
                .extend(answers.drain(..run).map(|(_, out)| out));
            let Some(open) = self.ports.get(&number) else {
                continue;
            };
            let (lost, _) = deliver(&mut self.mailbox, open.socket.as_fd(), &self.outgoing);
            if lost > 0
                && let Some(counts) = open.port.counts.get(worker.id)
            {
                counts.unsent.add(lost);
            }
        }
        self.answers = answers;
    }
}
