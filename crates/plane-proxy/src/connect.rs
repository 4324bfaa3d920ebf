//! Connecting to a backend.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::backend::{LiveBackend, Open};
use crate::itself::{self, Itself, is_itself};
use crate::listener::{Port, keepalive};
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

/// Connects within `limit` milliseconds, for a client that came by `port`; the connection begins with
/// `preface`. Counts, and reports a backend that fails.
pub(crate) async fn connect(
    worker: &Worker,
    backend: &Arc<LiveBackend>,
    port: &Port,
    limit: u64,
    preface: Vec<u8>,
) -> Result<(TcpStream, Open), ConnectError> {
    // The plane's check refuses Unix sockets, so there is an address.
    let Some(addr) = backend.socket_addr(port.port) else {
        return Err(ConnectError::Unreachable);
    };
    let open = Open::new(backend.clone());
    let limit_as_time = Duration::from_millis(limit.max(1));
    let failed = |reason: String| {
        backend.count(worker.id).connect_failures.add(1);
        backend.connect_failed(reason);
    };
    let itself = is_itself(port, addr);
    let known = match itself {
        Itself::No => false,
        Itself::Yes => true,
        Itself::IfLocal => backend.whereabouts.is_here(addr),
    };
    if known {
        failed(itself::REASON.into());
        return Err(ConnectError::Itself);
    }
    let opening = async {
        let mut stream = TcpStream::connect(addr).await?;
        if itself == Itself::IfLocal && backend.whereabouts.came_back(&stream, addr) {
            return Ok(None);
        }
        // A socket without them only answers later, or is missed later.
        let _ = stream.set_nodelay(true);
        let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive());
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
                io::ErrorKind::ConnectionRefused => Err(ConnectError::Refused),
                _ => Err(ConnectError::Unreachable),
            }
        }
        Err(_) => {
            failed(format!("no answer to a connection within {limit} ms"));
            Err(ConnectError::TimedOut)
        }
    }
}

fn is_local(error: &io::Error) -> bool {
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
        _ => error.to_string(),
    }
}
