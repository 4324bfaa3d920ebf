//! Bodies on their way through.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Sleep;

use super::compress::Packed;
use super::gate::Gate;
use super::pool::BackendConn;
use super::replaced::{Replaced, Rest};
use crate::access::End;
use crate::backend::{LiveBackend, Place};
use crate::conn::{Conn, Phase};
use crate::snapshot::LiveService;
use crate::worker::Worker;

/// A backend that says nothing to `Expect: 100-continue` gets the body after this: RFC 9110
/// §10.1.1.
const CONTINUE_AFTER: Duration = Duration::from_secs(1);

/// Why a body ended before its end.
#[derive(Debug)]
pub(crate) enum BodyError {
    /// The side it comes from broke off.
    Source(hyper::Error),
    /// The client's is larger than the service allows.
    TooLarge,
    /// The backend's drain time-out has passed.
    Cut,
    /// It cannot be compressed.
    Encoder(std::io::Error),
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyError::Source(error) => error.fmt(f),
            BodyError::TooLarge => f.write_str("the body is larger than allowed"),
            BodyError::Cut => f.write_str("the backend's drain time-out has passed"),
            BodyError::Encoder(error) => write!(f, "it cannot be compressed: {error}"),
        }
    }
}

impl std::error::Error for BodyError {}

/// How a client's body is getting on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Upload {
    #[default]
    Running,
    Done,
    /// The client broke off.
    Failed,
    TooLarge,
}

/// A request's body, as it goes to a backend.
pub(crate) enum RequestBody {
    Empty,
    Stream(Box<Uploading>),
}

/// A body that is being received from a client.
pub(crate) struct Uploading {
    pub(crate) incoming: Incoming,
    pub(crate) worker: Rc<Worker>,
    pub(crate) conn: Rc<Conn>,
    pub(crate) backend: Arc<LiveBackend>,
    pub(crate) state: Rc<Cell<Upload>>,
    /// Bytes that may still come; `u64::MAX` is no limit.
    pub(crate) room: u64,
    /// Time for the response once the body has been sent, in ms.
    pub(crate) response: u64,
    pub(crate) expect: Option<Expect>,
}

/// A body that the client sends only when told to.
pub(crate) struct Expect {
    pub(crate) told: Arc<AtomicBool>,
    patience: Pin<Box<Sleep>>,
}

impl Expect {
    pub(crate) fn new() -> Self {
        let told = Arc::new(AtomicBool::new(false));
        Self {
            told,
            patience: Box::pin(tokio::time::sleep(CONTINUE_AFTER)),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.told.load(Ordering::Relaxed) {
            return Poll::Ready(());
        }
        self.patience.as_mut().poll(cx)
    }
}

impl Uploading {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(expect) = &mut self.expect {
            if expect.poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.expect = None;
        }
        let frame = std::task::ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    let n = data.len() as u64;
                    if n > self.room {
                        self.state.set(Upload::TooLarge);
                        return Poll::Ready(Some(Err(BodyError::TooLarge)));
                    }
                    if self.room != u64::MAX {
                        self.room -= n;
                    }
                    self.backend.count(self.worker.id).bytes_in.add(n);
                    self.conn.add_received(n);
                }
                // Nobody asks for what comes after trailers.
                if self.incoming.is_end_stream() || frame.is_trailers() {
                    self.done();
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                self.state.set(Upload::Failed);
                Some(Err(BodyError::Source(error)))
            }
            None => {
                self.done();
                None
            }
        })
    }

    fn done(&mut self) {
        self.state.set(Upload::Done);
        self.conn.ask_again(|| self.worker.shared.micros());
        if self.conn.phase() == Phase::Request {
            self.conn.set_deadline(self.worker.now(), self.response);
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            RequestBody::Empty => Poll::Ready(None),
            RequestBody::Stream(upload) => upload.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Empty => true,
            RequestBody::Stream(upload) => upload.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Empty => SizeHint::with_exact(0),
            RequestBody::Stream(upload) => upload.incoming.size_hint(),
        }
    }
}

/// A response's body, as it goes to a client.
pub(crate) enum ResponseBody {
    Empty,
    /// One of our own.
    Text(Bytes),
    Stream(Box<Download>),
    /// The same, compressed.
    Packed(Box<Packed>),
    /// A page in its place.
    Replaced(Box<Replaced>),
}

/// A body that is being received from a backend. Drives the backend's connection.
pub(crate) struct Download {
    pub(crate) incoming: Incoming,
    pub(crate) worker: Rc<Worker>,
    pub(crate) client: Rc<Conn>,
    pub(crate) service: Arc<LiveService>,
    pub(crate) gate: Rc<Gate>,
    /// Time for the next request, in ms.
    pub(crate) keepalive: u64,
    pub(crate) upload: Option<Rc<Cell<Upload>>>,
    /// The end of the connection tells the client where the body ends.
    pub(crate) until_close: bool,
    /// The response is an error of the backend: it does not make it good again.
    pub(crate) errored: bool,
    pub(crate) flow: Option<(Driven, Place)>,
    /// It broke off; said once what came before is on its way to the client.
    pub(crate) broken: Option<hyper::Error>,
}

/// The connection that a response comes by.
pub(crate) enum Driven {
    /// Driven with the response.
    Alone(Box<BackendConn>),
    /// Driven by the task as well: the request's body is still on its way, and must not wait for a
    /// client that reads the response only once it has sent it all.
    Both(Rc<RefCell<Box<BackendConn>>>),
}

impl Driven {
    fn poll(&mut self, cx: &mut Context<'_>) {
        // What came of it is found in the body.
        let _ = match self {
            Driven::Alone(conn) => conn.poll_drive(cx),
            Driven::Both(conn) => conn.borrow_mut().poll_drive(cx),
        };
    }

    fn into_conn(self) -> Option<Box<BackendConn>> {
        match self {
            Driven::Alone(conn) => Some(conn),
            Driven::Both(conn) => Rc::try_unwrap(conn).ok().map(RefCell::into_inner),
        }
    }
}

impl Download {
    /// Whether it has been read to its end, or broken off.
    pub(crate) fn has_ended(&self) -> bool {
        self.flow.is_none()
    }

    /// The next piece of the backend's body.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.client.is_cut() {
            self.client.note(|record, _| record.end(End::new(*b"KD")));
            self.flow = None;
            self.break_off();
            return Poll::Ready(Some(Err(BodyError::Cut)));
        }
        if let Some(error) = self.broken.take() {
            self.break_off();
            return Poll::Ready(Some(Err(BodyError::Source(error))));
        }
        let Self {
            incoming,
            flow,
            client,
            ..
        } = self;
        let polled = client.poll_quietly(cx, |cx| {
            // The connection is driven here and nowhere else, so nobody needs to be woken by the
            // channel between it and its body.
            let mut noop = Context::from_waker(Waker::noop());
            match Pin::new(&mut *incoming).poll_frame(&mut noop) {
                Poll::Pending => {
                    if let Some((conn, _)) = flow {
                        conn.poll(cx);
                    }
                    Pin::new(&mut *incoming).poll_frame(&mut noop)
                }
                ready => ready,
            }
        });
        match std::task::ready!(polled) {
            Some(Ok(frame)) => {
                if let (Some(data), Some((_, place))) = (frame.data_ref(), &self.flow) {
                    self.client.add_sent(data.len() as u64);
                    place
                        .backend()
                        .count(self.worker.id)
                        .bytes_out
                        .add(data.len() as u64);
                }
                if self.incoming.is_end_stream() || frame.is_trailers() {
                    self.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.client.note(|record, _| record.end(End::new(*b"SD")));
                if let Some((_, place)) = self.flow.take() {
                    place.backend().count(self.worker.id).failures.add(1);
                    place
                        .backend()
                        .was_reset(format!("broke off a response: {error}"));
                }
                // An error ends the client's connection with what it holds for it: whoever waits is
                // given the time to write.
                self.broken = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => {
                self.finish();
                Poll::Ready(None)
            }
        }
    }

    /// The body ends before its end.
    fn break_off(&self) {
        if self.until_close {
            self.gate.break_off();
        }
    }

    /// The rest of the body is not wanted, or does not come: its connection ends with it, and the
    /// client gets something else.
    pub(crate) fn give_up(&mut self) {
        (self.flow, self.broken) = (None, None);
        self.end_request();
        self.client.note(|record, _| record.end(End::CLEAN));
        self.client.log(&self.worker);
    }

    /// The client gets something else at once, so that the response has ended for it. What is left to
    /// be read if the connection can be used again after it.
    pub(crate) fn part(mut self) -> Option<Rest> {
        let flow = self.flow.take();
        if let Some(latency) = self.service.shared.latency(self.worker.id) {
            latency.duration.record(self.client.taken());
        }
        self.give_up();
        let uploaded = self.upload.as_ref().is_none_or(|u| u.get() == Upload::Done);
        let (driven, place) = flow.filter(|_| uploaded)?;
        Some(Rest {
            conn: driven.into_conn()?,
            place,
            incoming: self.incoming,
            worker: self.worker,
            client: self.client,
            errored: self.errored,
        })
    }

    fn end_request(&self) {
        super::finish(
            &self.worker,
            &self.client,
            &self.gate,
            self.upload.as_deref(),
            self.keepalive,
        );
    }

    /// Ends the response: the connection goes back, the place comes free.
    pub(crate) fn finish(&mut self) {
        if let Some((conn, place)) = self.flow.take() {
            if let Some(latency) = self.service.shared.latency(self.worker.id) {
                latency.duration.record(self.client.taken());
            }
            self.end_request();
            let uploaded = self.upload.as_ref().is_none_or(|u| u.get() == Upload::Done);
            if uploaded && let Some(conn) = conn.into_conn() {
                let pool = match conn.is_personal() {
                    true => self.client.pool(),
                    false => &self.worker.pool,
                };
                pool.give(conn, self.worker.now());
            }
            // Not before: one that breaks off every body would be good again with every head.
            if !self.errored {
                place.backend().served();
            }
            drop(place);
            self.client.note(|record, _| record.end(End::CLEAN));
            self.client.log(&self.worker);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            ResponseBody::Empty => Poll::Ready(None),
            ResponseBody::Text(text) if text.is_empty() => Poll::Ready(None),
            ResponseBody::Text(text) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(text))))),
            ResponseBody::Stream(download) => download.poll(cx),
            ResponseBody::Packed(packed) => packed.poll(cx),
            ResponseBody::Replaced(replaced) => replaced.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ResponseBody::Empty => true,
            ResponseBody::Text(text) => text.is_empty(),
            ResponseBody::Stream(download) => download.incoming.is_end_stream(),
            ResponseBody::Packed(packed) => packed.has_ended(),
            ResponseBody::Replaced(replaced) => replaced.has_ended(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ResponseBody::Empty => SizeHint::with_exact(0),
            ResponseBody::Text(text) => SizeHint::with_exact(text.len() as u64),
            ResponseBody::Stream(download) => download.incoming.size_hint(),
            ResponseBody::Packed(_) => SizeHint::default(),
            ResponseBody::Replaced(replaced) => SizeHint::with_exact(replaced.length()),
        }
    }
}
