//! Long answers: made once for all who wait for them, and only few of them held at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

/// So many different texts may wait for slow readers.
const HELD: usize = 4;
/// The longest pause between two makings.
const PAUSE: Duration = Duration::from_millis(250);

/// Long answers of one kind. Everybody gets a text that was begun after they asked.
#[derive(Debug)]
pub(crate) struct Rendered {
    /// Gives everybody who asks a number.
    asked: AtomicU64,
    waiting: AtomicU64,
    held: Arc<Semaphore>,
    last: Mutex<Last>,
}

#[derive(Debug)]
struct Last {
    /// Who asked before this number may have the text.
    before: u64,
    text: Option<Bytes>,
    /// Whoever has to answer so often is left as long to itself as the last text took.
    next: Instant,
}

/// A text, and a place that it has until nobody needs it any more.
struct Held {
    text: Bytes,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

/// A text that has a place until it is sent.
pub(crate) fn held(text: impl Into<Bytes>, place: OwnedSemaphorePermit) -> Bytes {
    let text = text.into();
    Bytes::from_owner(Held {
        text,
        _place: place,
    })
}

/// One who waits.
struct Waiting<'a>(&'a AtomicU64);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }

    fn is_last(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 1
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Rendered {
    pub(crate) fn new() -> Self {
        Self {
            asked: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            held: Arc::new(Semaphore::new(HELD)),
            last: Mutex::new(Last {
                before: 0,
                text: None,
                next: Instant::now(),
            }),
        }
    }

    /// The text; waits as long as too many others are held.
    ///
    /// # Errors
    /// What `make` says.
    pub(crate) async fn get<E>(
        &self,
        make: impl AsyncFnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Bytes, E> {
        let waiting = Waiting::new(&self.waiting);
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let mut last = self.last.lock().await;
        let text = match last.text.take().filter(|_| number < last.before) {
            Some(text) => text,
            None => {
                sleep_until(last.next).await;
                let place = self.held.clone().acquire_owned().await;
                let before = self.asked.load(Ordering::Relaxed);
                let begun = Instant::now();
                let made = make().await;
                last.next = Instant::now() + begun.elapsed().min(PAUSE);
                let made = made?;
                last.before = before;
                match place {
                    Ok(place) => held(made, place),
                    // It is never closed.
                    Err(_) => made.into(),
                }
            }
        };
        // Nothing is kept for nobody.
        last.text = (!waiting.is_last()).then(|| text.clone());
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_asks_at_the_same_time_shares_and_nobody_gets_an_old_one() {
        let rendered = Rendered::new();
        let made = Cell::new(0u8);
        let get = || {
            rendered.get(async || {
                made.set(made.get() + 1);
                let text = vec![made.get()];
                tokio::time::sleep(Duration::from_millis(10)).await;
                Ok::<_, Infallible>(text)
            })
        };
        assert_eq!(*get().await.unwrap(), [1]);
        assert_eq!(*get().await.unwrap(), [2]);
        // The last one took a while, so there is a pause.
        let (a, b, c) = tokio::join!(get(), get(), get());
        let texts = [a, b, c].map(|text| text.unwrap()[0]);
        assert_eq!((texts[0], made.get()), (3, 3));
        assert_eq!(texts, [3, 3, 3], "all three asked before it was begun");
        let late = async {
            tokio::time::sleep(Duration::from_millis(15)).await;
            get().await
        };
        let (first, late) = tokio::join!(get(), late);
        assert_eq!((first.unwrap()[0], late.unwrap()[0]), (4, 5));
        assert!(rendered.last.lock().await.text.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn only_few_are_held() {
        let rendered = Rendered::new();
        let get = || rendered.get(async || Ok::<_, Infallible>(vec![0]));
        let mut held = Vec::new();
        for _ in 0..HELD {
            held.push(get().await.unwrap());
        }
        assert!(timeout(Duration::from_secs(5), get()).await.is_err());
        held.pop();
        assert!(timeout(Duration::from_secs(5), get()).await.is_ok());
    }
}
