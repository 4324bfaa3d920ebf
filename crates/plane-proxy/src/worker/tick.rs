//! The beat of a worker: deadlines, and what is done now and then.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use super::{TICK, Worker};

/// Beats for ever.
pub(super) async fn tick(worker: Rc<Worker>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        beat(&worker);
    }
}

/// One beat. Without it nothing would time out any more, so a panic keeps to the part that it is in;
/// a connection that makes one is ended.
fn beat(worker: &Worker) {
    let now = worker.shared.now();
    worker.clock.set(now);
    for (_, conn) in worker.conns.borrow().iter() {
        if !ends_well(|| conn.sweep(now)) {
            let first = !conn.is_cut();
            if let Some(counts) = conn.port.counts.get(worker.id).filter(|_| first) {
                counts.panicked.add(1);
            }
            ends_well(|| conn.abandon());
        }
    }
    ends_well(|| worker.pool.sweep(now));
    ends_well(|| worker.journal.flush());
    ends_well(|| worker.udp.tick(worker, now));
}

/// Whether a part ends without a panic, which the panic hook has reported already.
fn ends_well(part: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(part)).is_ok()
}
