//! Lists and limits that are new, held against the connections that there are.

use plimsoll_model::Name;

use super::Worker;
use crate::conn::{Conn, Phase};
use crate::snapshot::{LiveService, Snapshot, Table};

impl Worker {
    /// Holds all connections and sessions against the lists and limits that are in force now.
    pub(super) fn review(&self) {
        let snapshot = self.shared.snapshot.load();
        for (_, conn) in self.conns.borrow().iter() {
            self.judge(conn, &snapshot);
            recount(conn, &snapshot);
        }
        self.udp.review(self, &snapshot);
    }

    /// Has a connection over TCP, or a tunnel, end that the lists of its service let in no more. What asks
    /// over HTTP is judged with each request.
    pub(crate) fn judge(&self, conn: &Conn, snapshot: &Snapshot) {
        let served_by = match conn.phase() {
            Phase::Tcp | Phase::Tunnel => conn.served_by(),
            _ => return,
        };
        let Some(service) = responsible(served_by.as_ref(), conn.port.index, snapshot) else {
            return;
        };
        let door = service.door.as_ref();
        if door.is_some_and(|door| !door.admits(conn.judged()))
            && conn.deny()
            && let Some(counts) = service.shared.count(self.id)
        {
            counts.denied.add(1);
        }
    }
}

/// The service that somebody is served by; who has no backend yet waits for that of the listen.
pub(crate) fn responsible<'a>(
    served_by: Option<&Name>,
    listen: usize,
    snapshot: &'a Snapshot,
) -> Option<&'a LiveService> {
    if let Some(name) = served_by {
        return snapshot.services.get(name).map(|service| &**service);
    }
    match snapshot.tables.get(&listen).map(|table| &**table) {
        Some(Table::Tcp(service) | Table::Udp(service)) => Some(service),
        _ => None,
    }
}

/// Has a connection count for the limits of connections that are in force now.
fn recount(conn: &Conn, snapshot: &Snapshot) {
    let count = |service: &LiveService| {
        if let Some(limiter) = service.door.as_ref().and_then(|door| door.limiter()) {
            conn.held(|permits| limiter.recount(conn.client().ip(), permits));
        }
    };
    match snapshot.tables.get(&conn.port.index).map(|table| &**table) {
        // It is counted once it is known for whom it is.
        _ if conn.phase() == Phase::Header => {}
        Some(Table::Tcp(service)) => count(service),
        Some(Table::Http(http)) => http.doors.iter().for_each(|service| count(service)),
        Some(Table::Closed | Table::Udp(_)) | None => {}
    }
}
