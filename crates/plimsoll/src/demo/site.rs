//! HTTP as an application in a container serves it: until it is stopped, or killed.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What the system refused is tried again after this.
pub(super) const RETRY: Duration = Duration::from_millis(50);
/// How long a connection may stay without a request.
const HEAD: Duration = Duration::from_secs(60);

/// What a server is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Serve.
    Running,
    /// Answer what has been accepted, close what is idle: what SIGTERM asks for.
    Stopped,
    /// Reset all: what SIGKILL does.
    Killed,
}

/// Both ends of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) client: SocketAddr,
    pub(crate) server: SocketAddr,
}

/// What answers requests.
pub(crate) trait Site: Send + Sync + 'static {
    /// The answer to a request.
    fn answer(
        &self,
        request: Request<Incoming>,
        ends: Ends,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send;
}

/// Serves until the mode is another than running, and then until all that was accepted has ended.
/// `closed` is called as soon as nothing is listened on any more.
pub(crate) async fn serve(
    site: Arc<impl Site>,
    listener: TcpListener,
    mode: &mut watch::Receiver<Mode>,
    closed: impl FnOnce(),
) {
    let mut connections = JoinSet::new();
    let told = loop {
        tokio::select! {
            told = changed(mode) => break told,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(connection(site.clone(), stream, mode.clone()))),
                // No descriptors left: others have to end first.
                Err(_) => tokio::time::sleep(RETRY).await,
            },
            Some(_) = connections.join_next() => {}
        }
    };
    if told == Mode::Stopped {
        // Whoever is connected by now is a client like any other.
        for stream in waiting(listener) {
            connections.spawn(connection(site.clone(), stream, mode.clone()));
        }
    } else {
        drop(listener);
    }
    closed();
    while connections.join_next().await.is_some() {}
}

/// Connections that the system has accepted for us. Closes the listener.
fn waiting(listener: TcpListener) -> Vec<TcpStream> {
    let Ok(listener) = listener.into_std() else {
        return Vec::new();
    };
    let streams = std::iter::from_fn(|| Some(listener.accept().ok()?.0));
    let streams = streams.filter_map(|stream| {
        stream.set_nonblocking(true).ok()?;
        TcpStream::from_std(stream).ok()
    });
    streams.collect()
}

async fn connection(site: Arc<impl Site>, stream: TcpStream, mut mode: watch::Receiver<Mode>) {
    // The twin is there so that a kill can reset what hyper owns by then.
    let Ok((stream, twin, ends)) = twins(stream) else {
        return;
    };
    let service = service_fn(|request| {
        let answer = site.answer(request, ends);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let told = tokio::select! {
        _ = &mut connection => return,
        told = changed(&mut mode) => told,
    };
    if told == Mode::Stopped {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
        return;
    }
    // Closing with a linger of zero resets the connection.
    let _ = rustix::net::sockopt::set_socket_linger(&twin, Some(Duration::ZERO));
}

fn twins(stream: TcpStream) -> io::Result<(TcpStream, std::net::TcpStream, Ends)> {
    // A socket of both families shows IPv4 in a dress of IPv6.
    let plain = |addr: SocketAddr| SocketAddr::new(addr.ip().to_canonical(), addr.port());
    let ends = Ends {
        client: plain(stream.peer_addr()?),
        server: plain(stream.local_addr()?),
    };
    let stream = stream.into_std()?;
    let twin = stream.try_clone()?;
    Ok((TcpStream::from_std(stream)?, twin, ends))
}

/// Waits until the mode is another than running.
async fn changed(mode: &mut watch::Receiver<Mode>) -> Mode {
    let told = mode.wait_for(|mode| *mode != Mode::Running).await;
    told.map_or(Mode::Killed, |mode| *mode)
}
