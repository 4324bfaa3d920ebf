//! How long backends take to answer, for the schedulers that go by it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use plimsoll_balance::PeakEwma;
use plimsoll_model::Scheduler;

use crate::backend::LiveBackend;
use crate::conn::Conn;
use crate::http::body::Upload;
use crate::worker::Worker;

/// A backend that was asked and has not answered yet. If it is dropped nobody waits any longer: the
/// backend takes at least as long as that.
pub(crate) struct Asked<'a>(Option<Waiting<'a>>);

struct Waiting<'a> {
    worker: &'a Worker,
    conn: &'a Conn,
    backend: &'a LiveBackend,
    decay: Duration,
    /// The body, before whose end the backend need not answer.
    upload: Option<Rc<Cell<Upload>>>,
}

/// The backend is asked now. Costs a comparison where the scheduler does not want to know.
pub(crate) fn ask<'a>(
    worker: &'a Worker,
    conn: &'a Conn,
    scheduler: &Scheduler,
    backend: &'a LiveBackend,
) -> Asked<'a> {
    Asked(scheduler.kind.needs_latency().then(|| {
        conn.ask(worker.shared.micros());
        Waiting {
            worker,
            conn,
            backend,
            decay: scheduler.decay,
            upload: None,
        }
    }))
}

impl Asked<'_> {
    /// Its time begins when this body has been sent.
    pub(crate) fn once_sent(mut self, upload: Option<&Rc<Cell<Upload>>>) -> Self {
        if let Some(waiting) = &mut self.0 {
            waiting.upload = upload.cloned();
        }
        self
    }

    /// It has answered.
    pub(crate) fn answered(self) {
        if let Some(waiting) = &self.0 {
            waiting.end(PeakEwma::observe);
        }
    }

    /// It has failed. That never makes it look quicker.
    pub(crate) fn failed(self) {
        if let Some(waiting) = &self.0 {
            waiting.end(PeakEwma::observe_failure);
        }
    }

    /// It was not asked after all.
    pub(crate) fn forget(self) {
        if let Some(waiting) = &self.0 {
            waiting.conn.take_asked();
        }
    }
}

impl Waiting<'_> {
    fn end(&self, observe: impl FnOnce(&PeakEwma, u64, Duration, Duration)) {
        let Some(asked) = self.conn.take_asked() else {
            return;
        };
        let now = self.worker.shared.micros();
        let taken = Duration::from_micros(now.saturating_sub(asked));
        observe(&self.backend.latency, now / 1000, taken, self.decay);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let sent = |upload: &Rc<Cell<Upload>>| upload.get() == Upload::Done;
        if self.upload.as_ref().is_none_or(sent) {
            self.end(PeakEwma::observe_wait);
        } else {
            self.conn.take_asked();
        }
    }
}
