//! The task that checks backends, and the channels to it.

use std::sync::Arc;

use plimsoll_health::{Finding, run_checks};
use plimsoll_model::Desired;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// Hears what is desired, says what it finds.
#[derive(Debug)]
pub(super) struct Checks {
    desired: watch::Sender<Arc<Desired>>,
    findings: mpsc::Receiver<Finding>,
    task: JoinHandle<()>,
}

impl Checks {
    /// Starts the task on this runtime. So many findings wait at most. The seed decides the jitter
    /// of the intervals.
    pub(super) fn start(waiting: usize, seed: u64) -> Self {
        let (desired, hear) = watch::channel(Arc::default());
        let (say, findings) = mpsc::channel(waiting);
        Self {
            desired,
            findings,
            task: tokio::spawn(run_checks(hear, say, seed)),
        }
    }

    /// This is desired now.
    pub(super) fn tell(&self, desired: &Arc<Desired>) {
        self.desired.send_if_modified(|known| {
            let other = !Arc::ptr_eq(known, desired);
            if other {
                *known = desired.clone();
            }
            other
        });
    }

    /// Waits for findings and takes up to `most` of them; how many. May be given up at any time.
    pub(super) async fn recv_many(&mut self, findings: &mut Vec<Finding>, most: usize) -> usize {
        self.findings.recv_many(findings, most).await
    }

    /// Checks nothing more.
    pub(super) fn stop(&self) {
        self.task.abort();
    }
}
