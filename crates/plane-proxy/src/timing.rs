//! How long backends take to answer, for the schedulers that go by it.

use std::time::Duration;

use crate::backend::LiveBackend;
use crate::conn::Conn;
use crate::snapshot::LiveService;
use crate::worker::Worker;

/// The backend is asked now. Costs a comparison where the scheduler does not want to know.
pub(crate) fn time(worker: &Worker, conn: &Conn, service: &LiveService) {
    if service.spec.scheduler.kind.needs_latency() {
        conn.ask(worker.shared.micros());
    }
}

/// The backend has answered, or failed to. A failure never makes it look quicker.
pub(crate) fn timed(
    worker: &Worker,
    conn: &Conn,
    service: &LiveService,
    backend: &LiveBackend,
    answered: bool,
) {
    if !service.spec.scheduler.kind.needs_latency() {
        return;
    }
    let Some(asked) = conn.take_asked() else {
        return;
    };
    let now = worker.shared.micros();
    let taken = Duration::from_micros(now.saturating_sub(asked));
    let (now, decay) = (now / 1000, service.spec.scheduler.decay);
    match answered {
        true => backend.latency.observe(now, taken, decay),
        false => backend.latency.observe_failure(now, taken, decay),
    }
}
