//! A page in place of a backend's body.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::Frame;

use super::body::{BodyError, Download};

/// So much of the backend's body is read, in bytes, so that its connection can be used again. One that
/// is longer ends with it.
const READ: usize = 64 << 10;

/// A page that comes when the backend's body has been read, or enough of it.
pub(crate) struct Replaced {
    download: Box<Download>,
    read: usize,
    /// Empty once the client has it.
    page: Bytes,
}

impl Replaced {
    /// The page is not empty.
    pub(crate) fn new(download: Box<Download>, page: Bytes) -> Self {
        Self {
            download,
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
        while !self.download.has_ended() || self.download.broken.is_some() {
            match ready!(self.download.poll(cx)) {
                Some(Ok(frame)) => {
                    self.read += frame.data_ref().map_or(0, Bytes::len);
                    if self.read > READ {
                        self.download.give_up();
                    }
                }
                Some(Err(_)) => self.download.give_up(),
                None => {}
            }
        }
        let page = std::mem::take(&mut self.page);
        Poll::Ready((!page.is_empty()).then(|| Ok(Frame::data(page))))
    }
}
