//! From clients to backends.

use std::io;
use std::sync::Arc;

use super::deliver::deliver;
use super::{Hub, PUT_OUT, ROUNDS, Source, lane};
use crate::access::End;
use crate::counts::Lost;
use crate::listener::Port;
use crate::snapshot::{LiveService, Table as Behind};
use crate::udp::quota::{self, Full};
use crate::udp::session::{Key, NO_BACKEND, NO_ROOM, Session};
use crate::udp::sys::{BATCH, Outgoing, Received};
use crate::udp::table::Id;
use crate::udp::train::couple;
use crate::worker::Worker;

impl Hub {
    /// Reads what clients sent to a port.
    pub(super) fn hear_clients(&mut self, worker: &Worker, number: u32) {
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
            if service.is_none() {
                let datagrams = got.iter().map(|got| got.piece.count() as u64).sum();
                lose(worker, &port, Lost::NoService, datagrams);
            }
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
            self.moved += n;
            if n < BATCH {
                return;
            }
        }
        self.unread.push(Source::Port(number));
    }

    /// Sends the pieces at hand on for a client.
    fn take(&mut self, worker: &Worker, service: &Arc<LiveService>, port: &Arc<Port>, key: Key) {
        let known = self.table.find(&key);
        let Some(id) = known.or_else(|| self.begin(worker, service, port, key)) else {
            return;
        };
        if known.is_some() {
            self.table.heard_client(id, worker.now());
        }
        self.at_work = Some(id);
        if let Err(end) = self.forward(worker, service, port, id, &key) {
            if let Some(counts) = service.shared.count(worker.id) {
                counts.unserved.add(1);
            }
            self.end(worker, id, end);
        }
        self.at_work = None;
    }

    /// Begins a session, if there is room or somebody can be put out for it.
    fn begin(
        &mut self,
        worker: &Worker,
        service: &Arc<LiveService>,
        port: &Arc<Port>,
        key: Key,
    ) -> Option<Id> {
        let datagrams = self.pieces.iter().map(|piece| piece.count() as u64).sum();
        if worker.is_draining() {
            lose(worker, port, Lost::Ending, datagrams);
            return None;
        }
        if (service.door.as_ref()).is_some_and(|door| !door.admits(key.ip())) {
            if let Some(counts) = service.shared.count(worker.id) {
                counts.denied.add(datagrams);
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
            self.end(worker, spare, PUT_OUT);
            entered = enter();
        }
        let Ok(room) = entered else {
            if let Some(counts) = counts {
                counts.no_room.add(datagrams);
            }
            return None;
        };
        if let Some(counts) = counts {
            counts.total.add(1);
        }
        if let Some(counts) = port.counts.get(worker.id) {
            counts.accepted.add(1);
        }
        let session = Session::new(worker, service, port, room);
        let (idle, now) = (service.timeouts.udp, worker.now());
        Some(self.table.insert(key, lane(service), idle, session, now))
    }

    /// Sends the pieces at hand to the session's backend, or to another if that is gone.
    ///
    /// # Errors
    /// There is none: how the session ends.
    fn forward(
        &mut self,
        worker: &Worker,
        service: &LiveService,
        port: &Port,
        id: Id,
        key: &Key,
    ) -> Result<(), End> {
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
        let mut served = Err(NO_BACKEND);
        let mut why = Lost::Gone;
        // The kernel tells of an earlier datagram when the next is to be sent, which then has not been.
        for _ in 0..=service.spec.retries.min(8) + 1 {
            let Some(session) = self.table.get_mut(id) else {
                break;
            };
            session.leave_gone(worker.now());
            if session.link.is_none() {
                let bound = session.bind(worker, service, (id, key), &mut self.sockets);
                if let Err(end) = bound {
                    served = served.or(Err(end));
                    why = match end == NO_ROOM {
                        true => Lost::NoSocket,
                        false => Lost::NoBackend,
                    };
                    break;
                }
            }
            let Some(link) = &session.link else {
                break;
            };
            served = Ok(());
            let (lost, stopped) = deliver(&mut self.mailbox, link.socket(), rest);
            if lost > 0
                && let Some(counts) = port.counts.get(worker.id)
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
        if !rest.is_empty() {
            let datagrams = rest.iter().map(|out| out.train.count() as u64).sum();
            lose(worker, port, why, datagrams);
        }
        self.outgoing = outgoing;
        served
    }
}

/// Counts datagrams that are lost.
fn lose(worker: &Worker, port: &Port, why: Lost, datagrams: u64) {
    if let Some(counts) = port.counts.get(worker.id) {
        counts.lose(why, datagrams);
    }
}
