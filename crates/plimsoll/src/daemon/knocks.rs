//! The task that knocks at backends that cannot be connected to, and the channels to it.

use std::sync::Arc;

use plimsoll_health::{Door, Doors, run_knocks};
use plimsoll_model::{BackendAddr, Desired, Name};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// Hears who is out, says who opens.
#[derive(Debug)]
pub(super) struct Knocks {
    doors: watch::Sender<Arc<Doors>>,
    opened: mpsc::Receiver<Door>,
    task: JoinHandle<()>,
}

impl Knocks {
    /// Starts the task on this runtime. So many answers wait at most.
    pub(super) fn start(waiting: usize) -> Self {
        let (doors, hear) = watch::channel(Arc::default());
        let (say, opened) = mpsc::channel(waiting);
        Self {
            doors,
            opened,
            task: tokio::spawn(run_knocks(hear, say)),
        }
    }

    /// These are out now.
    pub(super) fn tell<'a>(
        &self,
        desired: &Desired,
        out: impl Iterator<Item = (&'a Name, &'a BackendAddr)>,
    ) {
        let out: Doors = out
            .map(|(name, addr)| {
                let service = desired.services.get(name);
                let to = service.and_then(|service| service.spec.to_backends.clone());
                ((name.clone(), addr.clone()), to)
            })
            .collect();
        self.doors.send_if_modified(|known| {
            let other = **known != out;
            if other {
                *known = Arc::new(out);
            }
            other
        });
    }

    /// Waits for answers and takes up to `most` of them; how many. May be given up at any time.
    pub(super) async fn recv_many(&mut self, opened: &mut Vec<Door>, most: usize) -> usize {
        self.opened.recv_many(opened, most).await
    }

    /// Knocks no more.
    pub(super) fn stop(&self) {
        self.task.abort();
    }
}
