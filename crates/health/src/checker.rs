//! The task that checks: it hears what is desired and says what it finds.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use plimsoll_model::Desired;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::{Finding, Job, Schedule, probe};

/// Checks the backends of all services in `desired` that have a check, and sends what is found, as
/// long as both channels are open. The seed decides the jitter of the intervals.
///
/// Needs a tokio runtime with I/O and time.
pub async fn run_checks(
    mut desired: watch::Receiver<Arc<Desired>>,
    findings: mpsc::Sender<Finding>,
    seed: u64,
) {
    let mut schedule = Schedule::new(seed);
    let mut running = JoinSet::new();
    let mut handles = HashMap::new();
    // What is there already counts as a change.
    desired.mark_changed();
    loop {
        while let Some(job) = schedule.next(Instant::now()) {
            let number = job.number;
            handles.insert(number, running.spawn(run(job)));
        }
        let deadline = schedule.next_deadline();
        tokio::select! {
            changed = desired.changed() => {
                if changed.is_err() {
                    return;
                }
                let desired = desired.borrow_and_update().clone();
                for number in schedule.set(Instant::now(), &desired) {
                    if let Some(handle) = handles.remove(&number) {
                        handle.abort();
                    }
                }
            }
            Some(ended) = running.join_next() => {
                // One that was broken off has nothing to say.
                let Ok((job, outcome)) = ended else {
                    continue;
                };
                handles.remove(&job.number);
                if let Some(finding) = schedule.outcome(Instant::now(), job, outcome)
                    && findings.send(finding).await.is_err()
                {
                    return;
                }
            }
            () = async {
                match deadline {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            } => {}
        }
    }
}

async fn run(job: Job) -> (Job, Result<(), Arc<str>>) {
    let outcome = probe(&job.addr, &job.check, job.header, job.to.as_deref()).await;
    (job, outcome)
}
