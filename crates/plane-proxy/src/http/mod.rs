//! HTTP services: a client's connection from its first byte to its last.

mod admit;
mod again;
mod answer;
mod attempt;
pub(crate) mod auth;
pub(crate) mod body;
pub(crate) mod compress;
pub(crate) mod cookie;
pub(crate) mod engine;
mod exchange;
mod failure;
mod fallback;
mod farewell;
pub(crate) mod forwarded;
pub(crate) mod framing;
pub(crate) mod gate;
pub(crate) mod headers;
mod kept;
mod maintenance;
pub(crate) mod pages;
mod password;
pub(crate) mod plain;
pub(crate) mod pool;
pub(crate) mod quiet;
pub(crate) mod redirect;
mod replaced;
mod ruled;
pub(crate) mod rules;
mod scheme;
mod service;
pub(crate) mod spare;
pub(crate) mod target;

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use self::body::Upload;
use self::engine::Engine;
use self::forwarded::Forwarded;
use self::gate::Gate;
use self::pool::BackendConn;
use self::ruled::Ruled;
use self::spare::Spare;
use crate::access::End;
use crate::backend::{Open, Place};
use crate::conn::{Conn, Phase};
use crate::relay::{Ended, relay};
use crate::snapshot::LiveService;
use crate::socket::set_peer;
use crate::tcp::refuse;
use crate::worker::{Listed, Worker};

/// Buffers of a connection at most, in bytes: 64 KiB of a body and the head before it, at once.
const BUFFER: usize = 72 * 1024;

/// While the worker drains, how long a client may still begin a request, in ms: those that are on
/// their way when the drain begins are answered.
const PARTING: u64 = 1_000;

/// How long a client may still send what nobody reads, so that it gets to read the answer.
const LINGER: Duration = Duration::from_secs(1);

/// How much of it, in bytes.
const LINGER_BYTES: usize = 256 * 1024;

/// How long a client may do so whose backend has answered it: some send all they have before they read. A
/// pause as long as [`LINGER`] ends that.
const LINGER_UPLOAD: Duration = Duration::from_secs(30);

/// How hyper is set up towards backends.
pub(crate) fn client_builder() -> hyper::client::conn::http1::Builder {
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.max_buf_size(BUFFER);
    builder
}

/// What the requests of one client connection share.
pub(crate) struct Client {
    worker: Rc<Worker>,
    conn: Rc<Conn>,
    gate: Rc<Gate>,
    forwarded: Rc<Forwarded>,
    /// Time for the next request, in ms.
    keepalive: Cell<u64>,
    /// Time without a byte, in ms.
    idle: Cell<u64>,
    tunnel: RefCell<Option<Tunnel>>,
    spare: RefCell<Spare>,
    /// The rules for the request that is being served, if there are any.
    ruled: RefCell<Option<Box<Ruled>>>,
    /// A connection to a backend that this task has to drive besides the response.
    driven: RefCell<Weak<RefCell<Box<BackendConn>>>>,
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
    gate: &Gate,
    upload: Option<&Cell<Upload>>,
    keepalive: u64,
) {
    if upload.is_some_and(|upload| upload.get() != Upload::Done) {
        gate.set_unread();
        gate.set_uploading();
    }
    gate.resume();
    conn.set_backend(None);
    conn.enter_until(Phase::Idle, worker.now(), keepalive);
}

/// What became of a client while it had an engine.
enum Served {
    /// It has had all its answers.
    AtRest,
    /// It is over, or has become a tunnel.
    Over,
}

/// Serves one client connection to its end.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    listed: Listed,
    stream: std::net::TcpStream,
    first: Arc<LiveService>,
) {
    let conn = listed.conn.clone();
    let header = first.timeouts.header;
    set_peer(&stream, first.timeouts.peer);
    let gate = Rc::new(Gate::new(stream, worker.clone(), conn.clone(), header));
    let spare = worker.spares.take();
    let client = Rc::new(Client {
        forwarded: worker.forwarded.of(conn.client().ip()),
        worker,
        conn,
        gate,
        keepalive: Cell::new(first.timeouts.keepalive),
        idle: Cell::new(first.timeouts.idle),
        tunnel: RefCell::new(None),
        spare: RefCell::new(spare),
        ruled: RefCell::default(),
        driven: RefCell::default(),
    });
    drop(first);
    // A client that connects and says nothing gets the time of a head.
    client
        .conn
        .enter_until(Phase::Idle, client.worker.now(), header);
    while wait_for_bytes(&client).await {
        let mut engine = client.worker.engines.lend(&client);
        let mut closing = false;
        let served = std::future::poll_fn(|cx| {
            let driven = drive(&client, &mut engine, &mut closing, cx);
            if driven.is_pending() {
                client.gate.uncork();
            }
            driven
        });
        let served = served.await;
        match served {
            Served::AtRest if !closing => client.worker.engines.give_back(engine),
            _ => break,
        }
        if client.gate.is_last() {
            break;
        }
    }
    if client.conn.phase() == Phase::Head && client.conn.has_begun_head() {
        service::log_unread(&client, None);
    }
    client.worker.spares.give(client.spare.take());
    let tunnel = client.tunnel.borrow_mut().take();
    let broken_off = client.gate.is_broken_off();
    if tunnel.is_none() && !client.gate.has_unread() && !broken_off {
        return;
    }
    let Some(stream) = client.gate.take_stream() else {
        return;
    };
    // Boxed, for what is rare must not make the future of every connection larger.
    match tunnel {
        Some(tunnel) => Box::pin(run_tunnel(&client, stream, tunnel)).await,
        None if broken_off => refuse(&stream),
        None => Box::pin(linger(stream, client.gate.is_uploading())).await,
    }
}

/// Whether there is something to serve; false if the connection is to be closed.
async fn wait_for_bytes(client: &Client) -> bool {
    std::future::poll_fn(|cx| {
        client.conn.set_waker(cx.waker());
        if client.gate.has_ended() {
            return Poll::Ready(false);
        }
        if let Poll::Ready(readable) = client.gate.poll_readable(cx) {
            return Poll::Ready(readable.is_ok());
        }
        if client.worker.is_draining() && client.conn.phase() == Phase::Idle {
            client.conn.hasten(client.worker.now(), PARTING);
        }
        match client.conn.phase() {
            // The gate answers it.
            Phase::Head if client.conn.is_expired() => Poll::Ready(true),
            Phase::Idle if client.conn.take_expired() => Poll::Ready(false),
            _ => Poll::Pending,
        }
    })
    .await
}

fn drive(
    client: &Client,
    engine: &mut Engine,
    closing: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<Served> {
    client.conn.set_waker(cx.waker());
    // The head of the response says so. Without a request hyper would close at once, and with it lose
    // one that has just arrived; behind the head it would close without a word.
    if client.worker.is_draining() && !*closing && client.conn.phase() == Phase::Request {
        *closing = true;
        // To a last request it says so already.
        if !client.gate.is_last() {
            engine.close_after_response();
        }
    }
    if let Poll::Ready(result) = engine.poll(cx) {
        if let Err(error) = result
            && error.is_parse()
        {
            let status = match error.is_parse_too_large() {
                true => 431,
                false => 400,
            };
            if let Some(counts) = client.conn.port.counts.get(client.worker.id) {
                counts.requests.add(1);
                counts.refuse(status);
            }
            service::log_unread(client, Some(status));
            client.gate.set_unread();
        }
        return Poll::Ready(Served::Over);
    }
    let driven = client.driven.borrow().upgrade();
    if let Some(driven) = driven {
        // What comes of it is found in the response.
        let _ = client
            .conn
            .poll_quietly(cx, |cx| driven.borrow_mut().poll_drive(cx));
    }
    // While there is no answer yet, the service answers that.
    let stalled = client.conn.is_stalled() && client.conn.phase() != Phase::Request;
    if stalled && !client.gate.has_taken() {
        client.conn.note(|record, _| record.end(End::new(*b"cD")));
        client.gate.break_off();
        return Poll::Ready(Served::Over);
    }
    match client.conn.phase() {
        Phase::Request | Phase::Response if client.gate.is_gone(cx) => Poll::Ready(Served::Over),
        Phase::Idle | Phase::Head if client.gate.is_at_rest() => Poll::Ready(Served::AtRest),
        Phase::Idle | Phase::Head if client.gate.has_ended() => Poll::Ready(Served::Over),
        // The client is still reading the last response, or sending what nobody reads: it may, but
        // not for ever.
        Phase::Idle if client.conn.take_expired() => {
            if std::mem::replace(closing, true) {
                return Poll::Ready(Served::Over);
            }
            client
                .conn
                .set_deadline(client.worker.now(), client.idle.get());
            Poll::Pending
        }
        _ => Poll::Pending,
    }
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
    // It was let in when it asked.
    let worker = &client.worker;
    worker.judge(conn, &worker.shared.snapshot.load());
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
    conn.note(|record, _| record.end(ended.code()));
    if ended != Ended::Closed {
        refuse(&stream);
        refuse(&server);
    }
}

/// Reads on for a moment, so that closing does not reset the connection before the client has read
/// the answer (RFC 9112 §9.6).
async fn linger(mut stream: TcpStream, uploading: bool) {
    let _ = socket2::SockRef::from(&stream).shutdown(std::net::Shutdown::Write);
    let (time, mut left) = match uploading {
        true => (LINGER_UPLOAD, usize::MAX),
        false => (LINGER, LINGER_BYTES),
    };
    let mut waste = [0; 4096];
    let reading = async {
        while left > 0
            && let Ok(Ok(n @ 1..)) = tokio::time::timeout(LINGER, stream.read(&mut waste)).await
        {
            left = left.saturating_sub(n);
        }
    };
    // Whether it ended by itself or by the time-out makes no difference.
    let _ = tokio::time::timeout(time, reading).await;
}
