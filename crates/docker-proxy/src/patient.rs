//! A connection whose other side has to read.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// Fails with [`io::ErrorKind::TimedOut`] once something could not be written, and it took longer
/// than a while until all that there was had been. However slowly something is read, that is the
/// end of it.
///
/// That all is written is known by the flush after it: hyper flushes what is below it only when it
/// has nothing left itself.
#[derive(Debug)]
pub(crate) struct Patient<T> {
    inner: T,
    patience: Duration,
    /// Runs while something waits to be written.
    waits: Option<Pin<Box<Sleep>>>,
}

impl<T> Patient<T> {
    /// `patience` is counted from the first write that has to wait.
    pub(crate) fn new(inner: T, patience: Duration) -> Self {
        Self {
            inner,
            patience,
            waits: None,
        }
    }

    /// What came of a write, unless that took too long.
    fn bound<R>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if written.is_pending() && self.waits.is_none() {
            self.waits = Some(Box::pin(sleep(self.patience)));
        }
        let late = match &mut self.waits {
            None => false,
            // It is woken by this, too.
            Some(waits) if written.is_pending() => waits.as_mut().poll(context).is_ready(),
            Some(waits) => waits.deadline() <= Instant::now(),
        };
        match late {
            true => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            false => written,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Patient<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, into)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Patient<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.bound(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.bound(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(context);
        let flushed = self.bound(context, flushed);
        if let Poll::Ready(Ok(())) = flushed {
            self.waits = None;
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.inner).poll_shutdown(context);
        self.bound(context, ended)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// How long it takes to write this much and flush it, if nothing goes wrong.
    async fn write(into: &mut (impl AsyncWrite + Unpin), length: usize) -> (Duration, bool) {
        let begin = Instant::now();
        let written = async {
            into.write_all(&vec![b'x'; length]).await?;
            into.flush().await
        };
        let failed = written.await.err().map(|why| why.kind());
        assert!(matches!(failed, None | Some(io::ErrorKind::TimedOut)));
        (begin.elapsed(), failed.is_none())
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_given_up() {
        let (ours, _theirs) = duplex(10);
        let (took, all) = write(&mut Patient::new(ours, PATIENCE), 11).await;
        assert!(!all && took >= PATIENCE && took < PATIENCE * 2, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_a_little_at_a_time_is_given_up_too() {
        let (ours, mut theirs) = duplex(10);
        let reader = tokio::spawn(async move {
            while theirs.read_u8().await.is_ok() {
                sleep(PATIENCE / 10).await;
            }
        });
        let mut ours = Patient::new(ours, PATIENCE);
        let (took, all) = write(&mut ours, 100).await;
        assert!(!all && took >= PATIENCE && took < PATIENCE * 2, "{took:?}");
        drop(ours);
        reader.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_all_there_is_may_take_as_long_each_time() {
        let (ours, mut theirs) = duplex(10);
        let reader = tokio::spawn(async move {
            let mut read = 0;
            while theirs.read_u8().await.is_ok() {
                read += 1;
                sleep(PATIENCE / 10).await;
            }
            read
        });
        let mut ours = Patient::new(ours, PATIENCE);
        let mut took = Duration::ZERO;
        for _ in 0..20 {
            let (this, all) = write(&mut ours, 15).await;
            assert!(all, "after {took:?}");
            took += this;
            sleep(PATIENCE * 2).await;
        }
        assert!(took > PATIENCE, "{took:?}");
        drop(ours);
        assert_eq!(reader.await.unwrap(), 20 * 15);
    }
}
