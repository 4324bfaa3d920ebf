//! A small web server that can be stopped as a container is, killed, and started again.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What the system refused is tried again after this.
const RETRY: Duration = Duration::from_millis(50);

/// What an instance is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Serve.
    Running,
    /// Accept nothing, answer what is in flight, close what is idle: what SIGTERM asks for.
    Stopped,
    /// Reset all: what SIGKILL does.
    Killed,
}

/// One server.
pub(super) struct Instance {
    pub(super) name: &'static str,
    pub(super) addr: SocketAddr,
    mode: watch::Sender<Mode>,
    /// Whether it listens.
    listening: watch::Sender<bool>,
    answered: AtomicU64,
}

impl Instance {
    /// Starts one on a free port of loopback.
    pub(super) fn start(name: &'static str, world: &Handle) -> io::Result<Arc<Self>> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let instance = Arc::new(Self {
            name,
            addr: listener.local_addr()?,
            mode: watch::Sender::new(Mode::Running),
            listening: watch::Sender::new(true),
            answered: AtomicU64::new(0),
        });
        let _in_world = world.enter();
        let listener = TcpListener::from_std(listener)?;
        world.spawn(instance.clone().live(listener));
        Ok(instance)
    }

    pub(super) fn mode(&self) -> Mode {
        *self.mode.borrow()
    }

    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Makes it do this, and waits until it does.
    pub(super) async fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
        let wanted = mode == Mode::Running;
        let mut listening = self.listening.subscribe();
        // Its sender is ours: it is not gone.
        let _ = listening.wait_for(|is| *is == wanted).await;
    }

    async fn live(self: Arc<Self>, first: TcpListener) {
        let mut mode = self.mode.subscribe();
        let mut listener = Some(first);
        loop {
            let open = match listener.take() {
                Some(open) => open,
                None => match TcpListener::bind(self.addr).await {
                    Ok(open) => open,
                    Err(_) => {
                        tokio::time::sleep(RETRY).await;
                        continue;
                    }
                },
            };
            self.listening.send_replace(true);
            self.serve(open, &mut mode).await;
            if mode.wait_for(|mode| *mode == Mode::Running).await.is_err() {
                return;
            }
        }
    }

    /// Serves until the mode is another.
    async fn serve(self: &Arc<Self>, listener: TcpListener, mode: &mut watch::Receiver<Mode>) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                _ = changed(mode) => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => drop(connections.spawn(self.clone().connection(stream))),
                    // No descriptors left: others have to end first.
                    Err(_) => tokio::time::sleep(RETRY).await,
                },
                Some(_) = connections.join_next() => {}
            }
        }
        drop(listener);
        self.listening.send_replace(false);
        while connections.join_next().await.is_some() {}
    }

    async fn connection(self: Arc<Self>, stream: TcpStream) {
        let mut mode = self.mode.subscribe();
        // Taken here so that a kill can reset what hyper owns by then.
        let Ok(twin) = stream.into_std().and_then(|s| Ok((s.try_clone()?, s))) else {
            return;
        };
        let (twin, Ok(stream)) = (twin.0, TcpStream::from_std(twin.1)) else {
            return;
        };
        let service = service_fn(|request| self.clone().answer(request));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
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
        let _ = socket_reset(&twin);
    }

    async fn answer<B>(
        self: Arc<Self>,
        request: Request<B>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let count = self.answered.fetch_add(1, Ordering::Relaxed);
        // Real servers take a while, and not always the same.
        tokio::time::sleep(Duration::from_millis(1 + count % 4)).await;
        let text = match request.uri().path().strip_prefix("/check/") {
            Some(id) => format!("{} {id}\n", self.name),
            None => format!(
                "Instance {} answers. Ask again, and another one may.\n",
                self.name
            ),
        };
        Ok(Response::new(Full::new(text.into())))
    }
}

/// Waits until the mode is another than running.
async fn changed(mode: &mut watch::Receiver<Mode>) -> Mode {
    let told = mode.wait_for(|mode| *mode != Mode::Running).await;
    told.map_or(Mode::Killed, |mode| *mode)
}

fn socket_reset(stream: &std::net::TcpStream) -> io::Result<()> {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).map_err(io::Error::from)
}
