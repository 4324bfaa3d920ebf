//! A page in place of a backend's body.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};

use super::body::{BodyError, Download};
use super::pool::BackendConn;
use crate::backend::Place;
use crate::conn::Conn;
use crate::worker::Worker;

/// So much of the backend's body is read, in bytes, so that its connection can be used again. One that
/// is longer ends with it.
const READ: usize = 64 << 10;

/// It is read for so long behind the page. One that takes longer ends with its connection.
const PATIENCE: Duration = Duration::from_secs(3);

/// A page that waits for nothing: what has not come of the backend's body is read behind it.
pub(crate) struct Replaced {
    /// None once there is nothing more to read here.
    download: Option<Box<Download>>,
    read: usize,
    /// Empty once the client has it.
    page: Bytes,
}

impl Replaced {
    /// The page is not empty.
    pub(crate) fn new(download: Box<Download>, page: Bytes) -> Self {
        Self {
            download: Some(download),
            read: 0,
            page,
        }
    }

    /// Whether nothing more comes.
    pub(crate) fn has_ended(&self) -> bool {
        self.page.is_empty()
    }

    /// Bytes that are still to come.
    pub(crate) fn length(&self) -> u64 {
        self.page.len() as u64
    }

    /// The page, whatever becomes of the backend's body.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        while let Some(mut download) = self.download.take() {
            match download.poll(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.read += frame.data_ref().map_or(0, Bytes::len);
                    if self.read > READ {
                        download.give_up();
                    }
                    if !download.has_ended() {
                        self.download = Some(download);
                    }
                }
                Poll::Ready(Some(Err(_))) => download.give_up(),
                Poll::Ready(None) => {}
                // It broke off.
                Poll::Pending if download.has_ended() => download.give_up(),
                Poll::Pending => {
                    if let Some(rest) = download.part() {
                        tokio::task::spawn_local(rest.read(self.read));
                    }
                }
            }
        }
        let page = std::mem::take(&mut self.page);
        Poll::Ready((!page.is_empty()).then(|| Ok(Frame::data(page))))
    }
}

/// What is left of a body that nobody wants, with the connection it comes by.
pub(crate) struct Rest {
    pub(super) conn: Box<BackendConn>,
    pub(super) place: Place,
    pub(super) incoming: Incoming,
    pub(super) worker: Rc<Worker>,
    /// Who keeps the connection if it is for this client alone.
    pub(super) client: Rc<Conn>,
    /// The response is an error of the backend: it does not make it good again.
    pub(super) errored: bool,
}

impl Rest {
    /// Reads it, of which so many bytes were read before, and keeps the connection if it ends soon.
    async fn read(mut self, mut read: usize) {
        let reading = std::future::poll_fn(|cx| self.poll(cx, &mut read));
        if !matches!(tokio::time::timeout(PATIENCE, reading).await, Ok(true)) {
            return;
        }
        if !self.errored {
            self.place.backend().served();
        }
        let pool = match self.conn.is_personal() {
            true => self.client.pool(),
            false => &self.worker.pool,
        };
        pool.give(self.conn, self.worker.now());
    }

    /// Whether it came to its end, and was not too long.
    fn poll(&mut self, cx: &mut Context<'_>, read: &mut usize) -> Poll<bool> {
        loop {
            let mut polled = Pin::new(&mut self.incoming).poll_frame(cx);
            if polled.is_pending() {
                // What came of it is found in the body.
                let _ = self.conn.poll_drive(cx);
                polled = Pin::new(&mut self.incoming).poll_frame(cx);
            }
            let counts = self.place.backend().count(self.worker.id);
            match ready!(polled) {
                None => return Poll::Ready(true),
                Some(Ok(frame)) => {
                    let length = frame.data_ref().map_or(0, Bytes::len);
                    counts.bytes_out.add(length as u64);
                    *read += length;
                    if *read > READ {
                        return Poll::Ready(false);
                    }
                    // Nobody asks for what comes after trailers.
                    if self.incoming.is_end_stream() || frame.is_trailers() {
                        return Poll::Ready(true);
                    }
                }
                Some(Err(error)) => {
                    counts.failures.add(1);
                    let backend = self.place.backend();
                    backend.was_reset(format!("broke off a response: {error}"));
                    return Poll::Ready(false);
                }
            }
        }
    }
}
