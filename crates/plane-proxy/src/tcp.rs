//! TCP services: a connection to a backend for each of a client's.

use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::TcpStream;

use crate::choose::{Tried, choose};
use crate::connect::{ConnectError, connect};
use crate::relay::{Ended, relay};
use crate::snapshot::LiveService;
use crate::worker::{Listed, Worker};

/// Bytes read at once.
pub(crate) const SCRATCH: usize = 64 * 1024;

/// Ends a connection by a reset: the nearest to a refusal that is left once it was accepted.
pub(crate) fn refuse(stream: &impl AsFd) {
    // If it fails the connection is gone already.
    let _ = socket2::SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO));
}

/// Serves one client connection to its end.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    listed: Listed,
    client: std::net::TcpStream,
    service: Arc<LiveService>,
) {
    let Ok(mut client) = TcpStream::from_std(client) else {
        return;
    };
    let conn = &*listed.conn;
    if let Some(counts) = service.shared.count(worker.id) {
        counts.total.add(1);
    }
    let mut tried = Tried::default();
    loop {
        let Ok(place) = choose(&worker, &service, conn.client, &tried).await else {
            break;
        };
        let backend = place.backend();
        conn.set_backend(Some(backend.clone()));
        match connect(&worker, backend, conn.port.port, service.timeouts.connect).await {
            Ok((mut server, _open)) => {
                backend.count(worker.id).requests.add(1);
                backend.served();
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
                if ended != Ended::Closed {
                    refuse(&client);
                    refuse(&server);
                }
                return;
            }
            Err(ConnectError::Local) => break,
            Err(ConnectError::Refused | ConnectError::TimedOut) => {
                if tried.count() >= service.spec.retries {
                    break;
                }
                backend.count(worker.id).retries.add(1);
                tried.add(backend);
            }
        }
    }
    if let Some(counts) = service.shared.count(worker.id) {
        counts.unserved.add(1);
    }
    refuse(&client);
}
