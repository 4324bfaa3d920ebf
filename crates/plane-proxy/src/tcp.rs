//! TCP services: a connection to a backend for each of a client's.

use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use plimsoll_balance::limits::What;
use plimsoll_model::RetryOn;
use rustix::net::RecvFlags;
use tokio::net::TcpStream;

use crate::access::{End, Record};
use crate::choose::{NoPlace, Tried, choose};
use crate::conn::Conn;
use crate::connect::{ConnectError, connect};
use crate::door::Door;
use crate::proxied::preface;
use crate::relay::{Ended, relay};
use crate::snapshot::LiveService;
use crate::socket::{has_failed, set_peer, watch_over};
use crate::timing::ask;
use crate::worker::{Listed, TICK, Worker};

/// Bytes read at once.
pub(crate) const SCRATCH: usize = 64 * 1024;

/// Bytes of a client that go along with the first packet at most.
const EARLY: usize = 1_400;

/// Ends a connection by a reset: the nearest to a refusal that is left once it was accepted.
pub(crate) fn refuse(stream: &impl AsFd) {
    // If it fails the connection is gone already.
    let _ = socket2::SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO));
}

/// Whether lists and limits let a client in.
fn may_enter(door: &Door, worker: &Worker, conn: &Conn, service: &LiveService) -> bool {
    let client = conn.client().ip();
    if !door.admits(client) {
        if let Some(counts) = service.shared.count(worker.id) {
            counts.denied.add(1);
        }
        return false;
    }
    match door.enter(client, What::Connection) {
        Ok(permit) => {
            permit.into_iter().for_each(|permit| conn.hold(*permit));
            true
        }
        Err(_) => false,
    }
}

/// Serves one client connection to its end.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    listed: Listed,
    client: std::net::TcpStream,
    service: Arc<LiveService>,
) {
    let conn = &*listed.conn;
    if let Some(counts) = service.shared.count(worker.id) {
        counts.total.add(1);
    }
    if service.log.is_some() {
        conn.keep(Record::tcp(service.clone()));
    }
    if (service.door.as_ref()).is_some_and(|door| !may_enter(door, &worker, conn, &service)) {
        conn.note(|record, _| record.end(End::new(*b"PR")));
        refuse(&client);
        return;
    }
    watch_over(&client);
    set_peer(&client, service.timeouts.peer);
    let Ok(mut client) = TcpStream::from_std(client) else {
        return;
    };
    let until = worker.now() + service.timeouts.connect;
    let mut tried = Tried::default();
    let early = early(&service, &client);
    loop {
        if tried.round_is_over() && !Box::pin(pause(&worker, conn, &client, &mut tried)).await {
            break;
        }
        let choosing = choose(&worker, &service, conn, &tried, None);
        let place = match unless_gone(conn, &client, choosing).await {
            Some(Ok(place)) => place,
            Some(Err(NoPlace::NoBackend)) if tried.has_passed_over() => {
                match Box::pin(pause(&worker, conn, &client, &mut tried)).await {
                    true => continue,
                    false => break,
                }
            }
            Some(Err(none)) => {
                conn.note(|record, _| record.end(none.code()));
                break;
            }
            None => break,
        };
        let backend = place.backend();
        conn.set_backend(Some(backend.clone()));
        conn.note(|record, at| record.place(backend, at));
        let mut preface = preface(&service, conn, || client.local_addr().ok());
        preface.extend_from_slice(&early);
        let asked = ask(&worker, conn, &service.spec.scheduler, backend);
        let begun = Instant::now();
        match connect(&worker, &service, backend, conn, preface).await {
            Ok((mut server, _open)) => {
                conn.note(|record, at| record.connect(at));
                let latency = service.shared.latency(worker.id);
                if let Some(latency) = latency {
                    latency.connect.record(begun.elapsed());
                }
                let counts = backend.count(worker.id);
                counts.requests.add(1);
                counts.bytes_in.add(early.len() as u64);
                conn.add_received(early.len() as u64);
                drop(early);
                backend.served();
                asked.answered();
                let idle = service.timeouts.idle;
                let ended = relay(
                    &worker,
                    conn,
                    backend,
                    &mut client,
                    &mut server,
                    Bytes::new(),
                    idle,
                )
                .await;
                if let Some(latency) = latency {
                    latency.duration.record(conn.taken());
                }
                conn.note(|record, _| record.end(ended.code()));
                if ended != Ended::Closed {
                    refuse(&client);
                    refuse(&server);
                }
                return;
            }
            Err(ConnectError::Local) if worker.now() < until => {
                asked.forget();
                drop(place);
                let pause = Box::pin(tokio::time::sleep(TICK));
                if unless_gone(conn, &client, pause).await.is_none() {
                    break;
                }
            }
            Err(ConnectError::Short) => {
                asked.forget();
                tried.pass_over(backend, until);
            }
            Err(ConnectError::Local) => {
                asked.forget();
                conn.note(|record, _| record.end(End::new(*b"RC")));
                break;
            }
            Err(error) => {
                let passed_over = error.is_unfit();
                match passed_over {
                    true => asked.forget(),
                    false => asked.failed(),
                }
                let refused = passed_over || matches!(error, ConnectError::Refused);
                let again = service.spec.retry.on.has(RetryOn::CONNECT_FAILURE)
                    && tried.failed(backend, refused, service.spec.retries)
                    && (refused || service.may_retry(worker.id, worker.now()));
                if !again {
                    let code = match error {
                        ConnectError::TimedOut => *b"sC",
                        _ => *b"SC",
                    };
                    conn.note(|record, _| record.end(End::new(code)));
                    break;
                }
                backend.count(worker.id).retries.add(1);
                conn.note(|record, _| record.fail());
            }
        }
    }
    if conn.is_denied() {
        conn.note(|record, _| record.end(End::new([b'P', record.stage()])));
    } else if let Some(counts) = service.shared.count(worker.id) {
        counts.unserved.add(1);
    }
    refuse(&client);
}

/// Waits a tick for backends that were passed over; whether to go on, which is not so where the client has
/// gone or the time for that has passed.
async fn pause(worker: &Worker, conn: &Conn, client: &TcpStream, tried: &mut Tried) -> bool {
    if !tried.may_wait(worker.now()) {
        conn.note(|record, _| record.end(End::new(*b"RC")));
        return false;
    }
    tried.look_again();
    let pause = Box::pin(tokio::time::sleep(TICK));
    unless_gone(conn, client, pause).await.is_some()
}

/// What the client has said already, where it may go along with the first packet to a backend. As
/// much as fits into that at least (RFC 9293 §3.7.1, with the options of the first packet).
fn early(service: &LiveService, client: &TcpStream) -> Vec<u8> {
    let to = service.spec.to_backends.as_ref();
    if !to.is_some_and(|to| to.fast_open) {
        return Vec::new();
    }
    let mut bytes = vec![0; EARLY];
    let read = rustix::net::recv(client, bytes.as_mut_slice(), RecvFlags::DONTWAIT);
    // Whatever is wrong shows again when it is read from the next time.
    bytes.truncate(read.map_or(0, |(_, n)| n));
    bytes
}

/// Waits for the future, but not for longer than the client does, or may; none if it has gone. One that
/// has only said all it has to say is still there.
async fn unless_gone<T>(
    conn: &Conn,
    client: &TcpStream,
    future: impl Future<Output = T>,
) -> Option<T> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        conn.set_waker(cx.waker());
        if let Poll::Ready(done) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(done));
        }
        if conn.is_denied() || has_failed(client) {
            return Poll::Ready(None);
        }
        conn.look_again();
        Poll::Pending
    })
    .await
}
