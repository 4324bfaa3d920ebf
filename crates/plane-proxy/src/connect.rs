//! Connecting to a backend.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_model::BackendAddr;
use rustix::io::Errno;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::backend::{LiveBackend, Open};
use crate::itself::{self, Itself, is_itself};
use crate::listener::Port;
use crate::snapshot::TimeoutsMs;
use crate::socket::watch_peer;
use crate::unix;
use crate::worker::Worker;

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// This host could not even try: no file, no port, no memory. Not the backend's doing, and others
    /// may give back theirs: worth another try after a tick, as long as a connection may take.
    Local,
    /// The backend refused at once.
    Refused,
    /// The backend cannot be reached.
    Unreachable,
    /// The backend did not answer in time.
    TimedOut,
    /// The backend is the very port that the client came by.
    Itself,
}

/// Connects within the time for that, for a client that came by `port`; the connection begins with
/// `preface`. Counts, and reports a backend that fails.
pub(crate) async fn connect(
    worker: &Worker,
    backend: &Arc<LiveBackend>,
    port: &Port,
    timeouts: &TimeoutsMs,
    preface: Vec<u8>,
) -> Result<(TcpStream, Open), ConnectError> {
    #[cfg(test)]
    assert!(backend.service.as_str() != crate::panic_tests::PANICS);
    let addr = backend.socket_addr(port.port);
    let open = Open::new(backend.clone());
    let TimeoutsMs {
        connect: limit,
        peer,
        ..
    } = *timeouts;
    let limit_as_time = Duration::from_millis(limit.max(1));
    let failed = |reason: String| {
        backend.count(worker.id).connect_failures.add(1);
        backend.connect_failed(reason);
    };
    let itself = addr.map_or(Itself::No, |addr| is_itself(port, addr));
    let known = match itself {
        Itself::No => false,
        Itself::Yes => true,
        Itself::IfLocal => addr.is_some_and(|addr| backend.whereabouts.is_here(addr)),
    };
    if known {
        failed(itself::REASON.into());
        return Err(ConnectError::Itself);
    }
    let opening = async {
        let mut stream = match (addr, &backend.addr) {
            (None, BackendAddr::Unix(path)) => Box::pin(unix::connect(path)).await?,
            (None, BackendAddr::Ip(..)) => return Err(io::ErrorKind::Unsupported.into()),
            (Some(addr), _) => {
                let stream = TcpStream::connect(addr).await?;
                if itself == Itself::IfLocal && backend.whereabouts.came_back(&stream, addr) {
                    return Ok(None);
                }
                // A socket without it only answers later.
                let _ = stream.set_nodelay(true);
                watch_peer(&stream, peer);
                stream
            }
        };
        if !preface.is_empty() {
            Box::pin(stream.write_all(&preface)).await?;
        }
        Ok(Some(stream))
    };
    match tokio::time::timeout(limit_as_time, opening).await {
        Ok(Ok(Some(stream))) => {
            backend.count(worker.id).connections.add(1);
            Ok((stream, open))
        }
        Ok(Ok(None)) => {
            failed(itself::REASON.into());
            Err(ConnectError::Itself)
        }
        Ok(Err(error)) if is_local(&error) => {
            worker.complain(|| {
                tracing::warn!(backend = %backend.addr, %error, "cannot open a connection for now");
            });
            Err(ConnectError::Local)
        }
        Ok(Err(error)) => {
            failed(describe(&error));
            match error.kind() {
                // A Unix socket that is not there takes as little time as a port that is closed.
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
                    Err(ConnectError::Refused)
                }
                _ => Err(ConnectError::Unreachable),
            }
        }
        Err(_) => {
            failed(format!("no answer to a connection within {limit} ms"));
            Err(ConnectError::TimedOut)
        }
    }
}

/// Whether it was this host that could not even try.
pub(crate) fn is_local(error: &io::Error) -> bool {
    let local = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::ADDRNOTAVAIL,
        Errno::PERM,
    ];
    error
        .raw_os_error()
        .is_some_and(|raw| local.iter().any(|e| e.raw_os_error() == raw))
}

/// An error in the words of the field, without its number.
pub(crate) fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        io::ErrorKind::ConnectionReset => "connection reset".into(),
        io::ErrorKind::HostUnreachable => "host unreachable".into(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".into(),
        io::ErrorKind::TimedOut => "connection timed out".into(),
        io::ErrorKind::NotFound => "no such socket".into(),
        _ => error.to_string(),
    }
}
