//! Asks control, and waits for the answer, not for ever.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::Ask;

/// How long control may take to answer.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unanswered {
    /// Control has ended.
    #[error("plimsoll is stopping")]
    Stopping,
    /// It took longer than [`ANSWER`].
    #[error("control did not answer within {} s", ANSWER.as_secs())]
    Late,
}

/// Asks control, and waits for the answer.
pub(crate) async fn ask<T>(
    asks: &mpsc::Sender<Ask>,
    make: impl FnOnce(oneshot::Sender<T>) -> Ask,
) -> Result<T, Unanswered> {
    let (reply, answer) = oneshot::channel();
    let exchange = async {
        asks.send(make(reply)).await.ok()?;
        answer.await.ok()
    };
    match timeout(ANSWER, exchange).await {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(Unanswered::Stopping),
        Err(_) => Err(Unanswered::Late),
    }
}

/// Makes a long answer where control does not have to wait for it.
pub(crate) async fn off_thread<T: Send + 'static>(
    make: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Unanswered> {
    let made = tokio::task::spawn_blocking(make).await;
    made.map_err(|_| Unanswered::Stopping)
}
