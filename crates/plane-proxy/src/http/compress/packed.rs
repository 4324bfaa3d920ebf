//! A response that is compressed on its way.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::Frame;

use super::encoder::Encoder;
use crate::http::body::{BodyError, Download};
use crate::snapshot::SharedService;

/// So much is compressed at once before others have their turn, in bytes.
const TURN: usize = 128 << 10;

/// So much is handed on at once, in bytes.
const PIECE: usize = 8 << 10;

/// A backend's body with its encoder.
pub(crate) struct Packed {
    download: Box<Download>,
    /// None once all has come out.
    encoder: Option<Box<Encoder>>,
    /// Something has gone in since the last flush.
    dirty: bool,
    /// Bytes that went in since others had their turn.
    turn: usize,
    counts: Counts,
}

/// Where what goes in and out is counted.
struct Counts {
    service: Arc<SharedService>,
    worker: usize,
}

impl Counts {
    fn add(&self, read: usize, written: usize) {
        if let Some(counts) = self.service.count(self.worker) {
            counts.compress_in.add(read as u64);
            counts.compress_out.add(written as u64);
        }
    }
}

impl Packed {
    pub(crate) fn new(download: Box<Download>, encoder: Box<Encoder>) -> Self {
        let (service, worker) = (download.service.shared.clone(), download.worker.id);
        if let Some(counts) = service.count(worker) {
            counts.compressed.add(1);
        }
        Self {
            download,
            encoder: Some(encoder),
            dirty: false,
            turn: 0,
            counts: Counts { service, worker },
        }
    }

    /// Whether nothing more comes.
    pub(crate) fn has_ended(&self) -> bool {
        self.encoder.is_none()
    }

    /// The next piece. The last one comes with the end of the backend's body: once that has been read
    /// the request counts as done.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let Some(encoder) = &mut self.encoder else {
                return Poll::Ready(None);
            };
            if self.turn >= TURN {
                self.turn = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let data = match self.download.poll(cx) {
                // Trailers that nobody announced end it as well.
                Poll::Ready(Some(Ok(frame))) => frame.into_data().ok(),
                Poll::Ready(None) => None,
                Poll::Ready(Some(Err(error))) => {
                    self.encoder = None;
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Pending => {
                    self.turn = 0;
                    // The backend pauses: what it has said is not held back.
                    if !std::mem::take(&mut self.dirty) {
                        return Poll::Pending;
                    }
                    let flushed = encoder.flush();
                    let out = encoder.take();
                    match self.hand_on(flushed, out) {
                        Some(out) => return Poll::Ready(Some(out)),
                        None => return Poll::Pending,
                    }
                }
            };
            let ended = data.is_none() || self.download.has_ended();
            let data = data.unwrap_or_default();
            self.counts.add(data.len(), 0);
            self.dirty |= !data.is_empty();
            self.turn += data.len();
            let mut written = encoder.write(&data);
            let mut out = Bytes::new();
            if ended {
                match self.encoder.take().map(|encoder| encoder.finish()) {
                    Some(Ok(rest)) => out = rest,
                    Some(Err(error)) => written = written.and(Err(error)),
                    None => {}
                }
            } else if encoder.ready() >= PIECE {
                out = encoder.take();
            }
            if let Some(out) = self.hand_on(written, out) {
                return Poll::Ready(Some(out));
            }
        }
    }

    /// What came out, if it is anything, or why nothing more does.
    fn hand_on(
        &mut self,
        done: io::Result<()>,
        out: Bytes,
    ) -> Option<Result<Frame<Bytes>, BodyError>> {
        if let Err(error) = done {
            self.encoder = None;
            return Some(Err(BodyError::Encoder(error)));
        }
        self.counts.add(0, out.len());
        (!out.is_empty()).then(|| Ok(Frame::data(out)))
    }
}
