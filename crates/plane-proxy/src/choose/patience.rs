//! How long something that looks for a backend waits in queues.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::NoPlace;
use crate::snapshot::LiveService;

/// The queue time-out of one search for a backend, over all the queues that it leads to.
pub(super) struct Patience {
    limit: Option<Duration>,
    /// Known from the first wait on: most searches have none, and need no clock.
    until: Cell<Option<Instant>>,
}

impl Patience {
    /// As long as the service's time-out says.
    pub(super) fn of(service: &LiveService) -> Self {
        let limit = service.timeouts.queue;
        Self {
            limit: (limit > 0).then(|| Duration::from_millis(limit)),
            until: Cell::new(None),
        }
    }

    /// Waits for something, but no longer than there is patience left.
    pub(super) async fn bear<T>(&self, waiting: impl Future<Output = T>) -> Result<T, NoPlace> {
        let until = self.until.get();
        // What cannot be added is no limit.
        let until = until.or_else(|| Instant::now().checked_add(self.limit?));
        self.until.set(until);
        match until {
            None => Ok(waiting.await),
            Some(until) => {
                let waited = timeout_at(until, waiting).await;
                waited.map_err(|_| NoPlace::QueueTimeout)
            }
        }
    }
}
