//! TCP services: a connection to a backend for each of a client's.

use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use plimsoll_balance::limits::What;
use plimsoll_model::RetryOn;
use tokio::net::TcpStream;

use crate::access::{End, Record};
use crate::choose::{Tried, choose};
use crate::conn::Conn;
use crate::connect::{ConnectError, connect};
use crate::door::Door;
use crate::proxied::preface;
use crate::relay::{Ended, relay};
use crate::snapshot::LiveService;
use crate::socket::{has_failed, set_peer, watch_over};
use crate::timing::{time, timed};
use crate::worker::{Listed, TICK, Worker};

/// Bytes read at once.
pub(crate) const SCRATCH: usize = 64 * 1024;

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
    loop {
        let choosing = choose(&worker, &service, conn, &tried, None);
        let place = match unless_gone(conn, &client, choosing).await {
            Some(Ok(place)) => place,
            Some(Err(none)) => {
                conn.note(|record, _| record.end(none.code()));
                break;
            }
            None => break,
        };
        let backend = place.backend();
        conn.set_backend(Some(backend.clone()));
        conn.note(|record, at| record.place(backend, at));
        let preface = preface(&service, conn, || client.local_addr().ok());
        time(&worker, conn, &service);
        let begun = Instant::now();
        match connect(&worker, backend, &conn.port, &service.timeouts, preface).await {
            Ok((mut server, _open)) => {
                conn.note(|record, at| record.connect(at));
                let latency = service.shared.latency(worker.id);
                if let Some(latency) = latency {
                    latency.connect.record(begun.elapsed());
                }
                backend.count(worker.id).requests.add(1);
                backend.served();
                timed(&worker, conn, &service, backend, true);
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
                drop(place);
                let pause = Box::pin(tokio::time::sleep(TICK));
                if unless_gone(conn, &client, pause).await.is_none() {
                    break;
                }
            }
            Err(ConnectError::Local) => {
                conn.note(|record, _| record.end(End::new(*b"RC")));
                break;
            }
            Err(error) => {
                timed(&worker, conn, &service, backend, false);
                let refused = matches!(error, ConnectError::Refused | ConnectError::Itself);
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
    if let Some(counts) = service.shared.count(worker.id) {
        counts.unserved.add(1);
    }
    refuse(&client);
}

/// Waits for the future, but not for longer than the client does; none if it has gone. One that has
/// only said all it has to say is still there.
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
        if has_failed(client) {
            return Poll::Ready(None);
        }
        conn.look_again();
        Poll::Pending
    })
    .await
}
