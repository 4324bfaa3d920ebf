//! A small web server that can be stopped as a container is, killed, and started again.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;

pub(super) use super::site::Mode;
use super::site::{self, Ends, RETRY, Site};

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
            let closed = || _ = self.listening.send_replace(false);
            site::serve(self.clone(), open, &mut mode, closed).await;
            if mode.wait_for(|mode| *mode == Mode::Running).await.is_err() {
                return;
            }
        }
    }
}

impl Site for Instance {
    async fn answer(&self, request: Request<Incoming>, _: Ends) -> Response<Full<Bytes>> {
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
        Response::new(Full::new(text.into()))
    }
}
