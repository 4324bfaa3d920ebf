//! A worker's list of connections.

use std::rc::Rc;

use super::Worker;
use crate::conn::Conn;

/// A connection in the worker's list, for as long as this lives.
pub(crate) struct Listed {
    pub(super) worker: Rc<Worker>,
    key: usize,
    pub(crate) conn: Rc<Conn>,
}

impl Listed {
    pub(super) fn new(worker: &Rc<Worker>, conn: Conn) -> Self {
        let conn = Rc::new(conn);
        let key = worker.conns.borrow_mut().insert(conn.clone());
        worker.shared.load.add(worker.id);
        Self {
            worker: worker.clone(),
            key,
            conn,
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        // Who leaves in the middle of a request is logged, too.
        self.conn.log(&self.worker);
        self.conn.clear();
        self.worker.conns.borrow_mut().try_remove(self.key);
        self.worker.shared.load.remove(self.worker.id);
        if let Some(counts) = self.conn.port.counts.get(self.worker.id) {
            counts.closed.add(1);
            // The runtime keeps a panic within its task; whoever holds something gives it back.
            if std::thread::panicking() {
                counts.panicked.add(1);
            }
        }
        if self.worker.is_draining() && self.worker.conns.borrow().is_empty() {
            self.worker.idle.notify_one();
        }
    }
}
