//! Connecting to a backend.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_model::BackendAddr;
use rustix::io::Errno;
use socket2::{Protocol, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::backend::{LiveBackend, Open};
use crate::conn::Conn;
use crate::itself::{self, Itself, is_itself};
use crate::snapshot::{LiveService, TimeoutsMs};
use crate::socket::watch_peer;
use crate::unix;
use crate::way::Way;
use crate::worker::Worker;

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// This host could not even try: no file, no memory. Not the backend's doing, and others
    /// may give back theirs: worth another try after a tick, as long as a connection may take.
    Local,
    /// The same, but towards this backend: no port is left for it, or a rule of this host forbids it.
    /// Others may be free.
    Short,
    /// The device or the address that it is to be reached by is not there.
    NoWay,
    /// The backend refused at once.
    Refused,
    /// The backend cannot be reached.
    Unreachable,
    /// The backend did not answer in time.
    TimedOut,
    /// The backend is the very port that the client came by.
    Itself,
    /// The backend is to be reached from the client's address, or one of this host, but there is none
    /// of its family.
    Unfit,
}

impl ConnectError {
    /// Whether the backend could not serve this connection however often it were tried: it is passed
    /// over, as if there were one backend fewer.
    pub(crate) fn is_unfit(&self) -> bool {
        matches!(self, Self::Itself | Self::Unfit | Self::NoWay)
    }
}

/// Connects within the time for that, for a client's connection; that to the backend begins with
/// `preface`. Counts, and reports a backend that fails.
pub(crate) async fn connect(
    worker: &Worker,
    service: &LiveService,
    backend: &Arc<LiveBackend>,
    conn: &Conn,
    preface: Vec<u8>,
) -> Result<(TcpStream, Open), ConnectError> {
    #[cfg(test)]
    assert!(backend.service.as_str() != crate::panic_tests::PANICS);
    let port = &*conn.port;
    let addr = backend.socket_addr(port.port);
    let open = Open::new(backend.clone());
    let TimeoutsMs {
        connect: limit,
        peer,
        ..
    } = service.timeouts;
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
    let way = addr.map_or(Ok(None), |addr| Way::of(&service.spec, addr, conn.client()));
    let way = match way {
        Ok(way) => way,
        Err(error) => {
            worker.complain(|| {
                tracing::warn!(backend = %backend.addr, %error, "cannot connect for this client");
            });
            return Err(ConnectError::Unfit);
        }
    };
    let socket = match &way {
        None => None,
        Some(way) => match way.socket(Type::STREAM, Protocol::TCP) {
            Ok(socket) => Some(socket),
            Err(error) if is_local(&error) || error.kind() == io::ErrorKind::AddrInUse => {
                complain(worker, backend, &error);
                return Err(ConnectError::Local);
            }
            Err(error) => {
                failed(way.describe(&error));
                return Err(ConnectError::NoWay);
            }
        },
    };
    let opening = async {
        let mut preface = preface.as_slice();
        let mut stream = match (addr, &backend.addr) {
            (None, BackendAddr::Unix(path)) => Box::pin(unix::connect(path)).await?,
            (None, BackendAddr::Ip(..)) => return Err(io::ErrorKind::Unsupported.into()),
            (Some(addr), _) => {
                let stream = match way.as_ref().zip(socket) {
                    None => TcpStream::connect(addr).await?,
                    Some((way, socket)) => {
                        let (stream, sent) = Box::pin(way.connect(socket, preface)).await?;
                        preface = preface.get(sent..).unwrap_or_default();
                        stream
                    }
                };
                let tells = way.as_ref().is_none_or(|way| !way.is_clients());
                let may_be = itself == Itself::IfLocal && tells;
                if may_be && backend.whereabouts.came_back(&stream, addr) {
                    return Ok(None);
                }
                // A socket without it only answers later.
                let _ = stream.set_nodelay(true);
                watch_peer(&stream, peer);
                stream
            }
        };
        if !preface.is_empty() {
            Box::pin(stream.write_all(preface)).await?;
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
            complain(worker, backend, &error);
            Err(ConnectError::Local)
        }
        Ok(Err(error)) if is_short(&error) => {
            complain(worker, backend, &error);
            Err(ConnectError::Short)
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

fn complain(worker: &Worker, backend: &LiveBackend, error: &io::Error) {
    worker.complain(|| {
        tracing::warn!(backend = %backend.addr, %error, "cannot open a connection for now");
    });
}

/// Whether it was this host that could not even try, whichever backend it is.
pub(crate) fn is_local(error: &io::Error) -> bool {
    is_any(
        error,
        &[Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM],
    )
}

/// Whether it was this host that could not connect to this backend: all ports towards it are taken
/// (connect(2), `EADDRNOTAVAIL`), or it is not allowed to. Another backend may be reached.
pub(crate) fn is_short(error: &io::Error) -> bool {
    is_any(error, &[Errno::ADDRNOTAVAIL, Errno::PERM])
}

pub(crate) fn is_any(error: &io::Error, wanted: &[Errno]) -> bool {
    let raw = error.raw_os_error();
    raw.is_some_and(|raw| wanted.iter().any(|e| e.raw_os_error() == raw))
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
