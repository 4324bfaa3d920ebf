//! HTTP services: a client's connection from its first byte to its last.

pub(crate) mod body;
mod exchange;
pub(crate) mod forwarded;
pub(crate) mod framing;
pub(crate) mod gate;
pub(crate) mod headers;
pub(crate) mod pool;
pub(crate) mod quiet;
mod service;
mod spare;
mod target;

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::http1::Connection;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

use self::body::{ResponseBody, Upload};
use self::forwarded::Forwarded;
use self::gate::{Gate, GateState};
use self::spare::Spare;
use crate::backend::{Open, Place};
use crate::conn::{Conn, Phase};
use crate::relay::{Ended, relay};
use crate::snapshot::LiveService;
use crate::tcp::refuse;
use crate::worker::{Listed, Worker};

/// Buffers of a connection at most, in bytes.
const BUFFER: usize = 64 * 1024;

/// A connection that has been idle this long, in ms, gives its buffers back.
const PARK_AFTER: u64 = 2_000;

/// How long a client may still send what nobody reads, so that it gets to read the answer.
const LINGER: Duration = Duration::from_secs(1);

/// How much of it, in bytes.
const LINGER_BYTES: usize = 256 * 1024;

/// How hyper is set up towards backends.
pub(crate) fn client_builder() -> hyper::client::conn::http1::Builder {
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.max_buf_size(BUFFER);
    builder
}

fn server_builder() -> hyper::server::conn::http1::Builder {
    let mut builder = hyper::server::conn::http1::Builder::new();
    // The gate has time-outs of its own, that answer; and limits that are below hyper's.
    // Whether the client is gone is looked at in `drive`, which needs no buffer for it.
    builder
        .max_buf_size(BUFFER)
        .header_read_timeout(None)
        .half_close(true);
    builder
}

/// What the requests of one client connection share.
pub(crate) struct Client {
    worker: Rc<Worker>,
    conn: Rc<Conn>,
    gate: Rc<GateState>,
    forwarded: Forwarded,
    /// Time for the next request, in ms.
    keepalive: Cell<u64>,
    tunnel: RefCell<Option<Tunnel>>,
    spare: RefCell<Spare>,
}

/// A backend's side of a tunnel that a response has just granted.
struct Tunnel {
    stream: TcpStream,
    /// What the backend has sent already.
    first: Bytes,
    open: Open,
    place: Place,
    idle: u64,
}

/// Ends a request: from here on the connection waits for the next.
pub(crate) fn finish(
    worker: &Worker,
    conn: &Conn,
    gate: &GateState,
    upload: Option<&Cell<Upload>>,
    keepalive: u64,
) {
    if upload.is_some_and(|upload| upload.get() != Upload::Done) {
        gate.set_unread();
    }
    gate.resume();
    conn.set_backend(None);
    let limit = if keepalive == 0 {
        PARK_AFTER
    } else {
        keepalive.min(PARK_AFTER)
    };
    conn.enter_until(Phase::Idle, worker.now(), limit);
}

/// How a run of hyper on a connection ended.
enum Served {
    /// It is idle: its buffers can go.
    Idle,
    /// It is over, or has become a tunnel.
    Over,
}

/// Serves one client connection to its end.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    listed: Listed,
    stream: TcpStream,
    first: Arc<LiveService>,
) {
    let conn = listed.conn.clone();
    let state = Rc::new(GateState::new(stream));
    let client = Rc::new(Client {
        worker: worker.clone(),
        conn: conn.clone(),
        gate: state.clone(),
        forwarded: Forwarded::new(conn.client.ip()),
        keepalive: Cell::new(first.timeouts.keepalive),
        tunnel: RefCell::new(None),
        spare: RefCell::default(),
    });
    // A client that connects and says nothing gets the time of a head.
    conn.enter_until(Phase::Idle, worker.now(), first.timeouts.header);
    let mut gate = Gate::new(worker, conn, state, first.timeouts.header);
    drop(first);
    loop {
        if !wait_for_bytes(&client).await {
            return;
        }
        let (after, served) = run(&client, gate).await;
        gate = after;
        match served {
            Served::Idle => {
                let left = match client.keepalive.get() {
                    0 => 0,
                    keepalive => keepalive.saturating_sub(PARK_AFTER).max(1),
                };
                client
                    .conn
                    .enter_until(Phase::Idle, client.worker.now(), left);
            }
            Served::Over => break,
        }
    }
    let Some(stream) = client.gate.take_stream() else {
        return;
    };
    let tunnel = client.tunnel.borrow_mut().take();
    match tunnel {
        Some(tunnel) => run_tunnel(&client, stream, tunnel).await,
        None if client.gate.has_unread() => linger(stream).await,
        None => {}
    }
}

/// Whether there is something to read; false if the connection is to be closed first.
async fn wait_for_bytes(client: &Client) -> bool {
    std::future::poll_fn(|cx| {
        client.conn.set_waker(cx.waker());
        if let Poll::Ready(readable) = client.gate.poll_readable(cx) {
            return Poll::Ready(readable.is_ok());
        }
        if client.worker.is_draining() || client.conn.take_expired() {
            return Poll::Ready(false);
        }
        Poll::Pending
    })
    .await
}

async fn run(client: &Rc<Client>, gate: Gate) -> (Gate, Served) {
    let handler = service_fn(|request| {
        let client = client.clone();
        async move { Ok::<_, Infallible>(service::respond(&client, request).await) }
    });
    let mut http = Box::new(server_builder().serve_connection(TokioIo::new(gate), handler));
    let mut told = Told::default();
    let served = std::future::poll_fn(|cx| drive(client, &mut http, &mut told, cx)).await;
    (http.into_parts().io.into_inner(), served)
}

#[derive(Default)]
struct Told {
    draining: bool,
    /// The keep-alive time-out passed while a response was still being read by the client.
    late: bool,
}

fn drive<S>(
    client: &Client,
    http: &mut Connection<TokioIo<Gate>, S>,
    told: &mut Told,
    cx: &mut Context<'_>,
) -> Poll<Served>
where
    S: HttpService<Incoming, ResBody = ResponseBody, Error = Infallible>,
{
    client.conn.set_waker(cx.waker());
    if client.worker.is_draining() && !told.draining {
        told.draining = true;
        Pin::new(&mut *http).graceful_shutdown();
    }
    if let Poll::Ready(result) = Pin::new(&mut *http).poll(cx) {
        if let Err(error) = result
            && error.is_parse()
            && let Some(counts) = client.conn.port.counts.get(client.worker.id)
        {
            counts.refuse(if error.is_parse_too_large() { 431 } else { 400 });
            client.gate.set_unread();
        }
        return Poll::Ready(Served::Over);
    }
    match client.conn.phase() {
        Phase::Request | Phase::Response if client.gate.is_gone(cx) => Poll::Ready(Served::Over),
        Phase::Idle if client.conn.take_expired() => expire(client, told),
        _ => Poll::Pending,
    }
}

/// The idle connection of a client that has had its time.
fn expire(client: &Client, told: &mut Told) -> Poll<Served> {
    let keepalive = client.keepalive.get();
    if !client.gate.is_flushed() {
        // The client is still reading the last response.
        if told.late {
            return Poll::Ready(Served::Over);
        }
        told.late = true;
        client.conn.set_deadline(client.worker.now(), keepalive);
        return Poll::Pending;
    }
    if keepalive != 0 && keepalive <= PARK_AFTER {
        return Poll::Ready(Served::Over);
    }
    Poll::Ready(Served::Idle)
}

async fn run_tunnel(client: &Client, mut stream: TcpStream, tunnel: Tunnel) {
    let Tunnel {
        stream: mut server,
        first,
        open: _open,
        place,
        idle,
    } = tunnel;
    let conn = &client.conn;
    conn.enter(Phase::Tunnel);
    conn.set_backend(Some(place.backend().clone()));
    let backend = place.backend();
    let ended = relay(
        &client.worker,
        conn,
        backend,
        &mut stream,
        &mut server,
        first,
        idle,
    )
    .await;
    if ended != Ended::Closed {
        refuse(&stream);
        refuse(&server);
    }
}

/// Reads on for a moment, so that closing does not reset the connection before the client has read
/// the answer (RFC 9112 §9.6).
async fn linger(mut stream: TcpStream) {
    let _ = socket2::SockRef::from(&stream).shutdown(std::net::Shutdown::Write);
    let mut left = LINGER_BYTES;
    let mut waste = [0; 4096];
    let reading = std::future::poll_fn(|cx| {
        loop {
            let mut buf = ReadBuf::new(&mut waste);
            match Pin::new(&mut stream).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() && left > 0 => {
                    left = left.saturating_sub(buf.filled().len());
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    });
    // Whether it ended by itself or by the time-out makes no difference.
    let _ = tokio::time::timeout(LINGER, reading).await;
}
