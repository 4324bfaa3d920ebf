//! hyper's side of client connections, lent to those that are being served.
//!
//! An engine is a hyper connection with its buffers, some 20 KiB. Most connections are idle at any
//! time, and between two requests hyper keeps nothing of them: so an engine goes from one client to
//! the next, and an idle client holds none.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use hyper::body::Incoming;
use hyper::server::conn::http1::{Builder, Connection};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::body::ResponseBody;
use super::{BUFFER, Client, service};

/// Engines kept per worker for the next client.
const KEPT: usize = 64;

/// The client that an engine serves now.
type Slot = RefCell<Option<Rc<Client>>>;

/// A hyper connection without a client of its own.
pub(crate) struct Engine {
    http: Box<dyn Drive>,
    slot: Rc<Slot>,
}

impl Engine {
    fn new() -> Self {
        let slot = Rc::new(Slot::default());
        let of_service = slot.clone();
        let handler = service_fn(move |request| {
            let client = of_service.borrow().clone();
            async move {
                match client {
                    Some(client) => Ok::<_, Infallible>(service::respond(&client, request).await),
                    // hyper reads requests from the client only.
                    None => Ok(service::nobody()),
                }
            }
        });
        let mut builder = Builder::new();
        // The gate has time-outs of its own, that answer, and limits that are below hyper's.
        // Whether the client is gone is looked at by `drive`, which needs no buffer for it.
        builder
            .max_buf_size(BUFFER)
            .header_read_timeout(None)
            .half_close(true);
        let http = builder.serve_connection(TokioIo::new(SlotIo(slot.clone())), handler);
        Self {
            http: Box::new(http),
            slot,
        }
    }

    /// Serves the client as far as possible; ready when hyper is done with it, and then the engine
    /// is of no more use.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.http.poll(cx)
    }

    /// Closes the connection after the response that is on its way.
    pub(crate) fn close_after_response(&mut self) {
        self.http.close_after_response();
    }
}

trait Drive {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>>;
    fn close_after_response(&mut self);
}

impl<S> Drive for Connection<TokioIo<SlotIo>, S>
where
    S: HttpService<Incoming, ResBody = ResponseBody, Error = Infallible>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        Future::poll(Pin::new(self), cx)
    }

    fn close_after_response(&mut self) {
        Pin::new(self).graceful_shutdown();
    }
}

/// The engines of a worker that serve nobody; the last used is used first.
#[derive(Default)]
pub(crate) struct Engines(RefCell<Vec<Engine>>);

impl Engines {
    /// Lends one to a client.
    pub(crate) fn lend(&self, client: &Rc<Client>) -> Engine {
        let engine = self.0.borrow_mut().pop().unwrap_or_else(Engine::new);
        *engine.slot.borrow_mut() = Some(client.clone());
        client.gate.lend();
        engine
    }

    /// Takes one back whose client has had all its answers: nothing of the client is left in it.
    pub(crate) fn give_back(&self, engine: Engine) {
        *engine.slot.borrow_mut() = None;
        let mut kept = self.0.borrow_mut();
        if kept.len() < KEPT {
            kept.push(engine);
        }
    }

    /// Drops all.
    pub(crate) fn clear(&self) {
        self.0.borrow_mut().clear();
    }
}

/// What hyper takes for the client's stream: that of whoever the engine serves.
struct SlotIo(Rc<Slot>);

impl SlotIo {
    fn with<T>(&self, io: impl FnOnce(&Client) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match &*self.0.borrow() {
            Some(client) => io(client),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl AsyncRead for SlotIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with(|client| client.gate.poll_read(cx, buf))
    }
}

impl AsyncWrite for SlotIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with(|client| client.gate.poll_write(cx, &[io::IoSlice::new(buf)]))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.with(|client| client.gate.poll_write(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|client| {
            client.gate.flushed();
            Poll::Ready(Ok(()))
        })
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The socket is closed right after, which says the same; where the client may still be
        // sending, its end lingers.
        Poll::Ready(Ok(()))
    }
}
