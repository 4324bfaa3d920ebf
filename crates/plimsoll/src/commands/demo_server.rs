//! `plimsoll demo-server`: something to balance.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use plimsoll_model::{Listen, Ports};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::demo::site::{self, Ends, Mode, Site};
use crate::error::Error;
use crate::out;
use crate::probe::Probe;

/// Serve HTTP that tells who answers: something to try a balancer with.
///
/// Every answer names this host, both ends of the connection, and the request as it arrived.
/// `?wait=TIME` in any path answers so much later, 60s at most. `/health` answers 200, or what was last sent there: `curl -d 503
/// localhost/health` makes it unhealthy. After SIGTERM it goes on serving for a moment, so that
/// whoever still sends to it can learn that it stops; then it answers what has been accepted, and
/// ends. A second SIGTERM ends it at once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  plimsoll demo-server --listen 127.0.0.1:3001 --name one
  docker run -d -l plimsoll.host=whoami.localhost plimsoll-demo")]
pub(crate) struct DemoServer {
    /// Where to listen; `*` is any address of this host. May be given several times
    #[arg(long, value_name = "ADDR:PORT", default_value = "*:80", value_parser = crate::cli::http_listen)]
    listen: Vec<Listen>,
    /// The name in answers [default: the name of this host]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How long to go on serving after SIGTERM, with `Connection: close` in every answer
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = crate::cli::duration)]
    linger: Duration,
}

/// The longest wait that can be asked for.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Bytes of a status that is sent to `/health`.
const MAX_STATUS: usize = 16;

impl DemoServer {
    pub(crate) fn run(self) -> Result<(), Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|why| Error::Failed(format!("the runtime cannot be started: {why}")))?;
        runtime.block_on(self.serve())
    }

    /// How to ask whether it is well.
    pub(crate) fn probe(&self) -> Option<Probe> {
        let addr = addresses(self.listen.first()?).next()?;
        let ip = match addr.ip() {
            ip if !ip.is_unspecified() => ip,
            ip if ip.is_ipv4() => Ipv4Addr::LOCALHOST.into(),
            _ => Ipv6Addr::LOCALHOST.into(),
        };
        Some(Probe::tcp(SocketAddr::new(ip, addr.port()), "/health"))
    }

    async fn serve(self) -> Result<(), Error> {
        let cannot = |why: std::io::Error| Error::Failed(format!("signals: {why}"));
        let mut term = signal(SignalKind::terminate()).map_err(cannot)?;
        let mut int = signal(SignalKind::interrupt()).map_err(cannot)?;
        let site = Arc::new(Whoami {
            name: self.name.unwrap_or_else(host_name),
            health: AtomicU16::new(StatusCode::OK.as_u16()),
            leaving: AtomicBool::new(false),
        });
        let mode = watch::Sender::new(Mode::Running);
        let mut servers = JoinSet::new();
        for listen in &self.listen {
            let listener = bind(listen)?;
            let (served, mut mode) = (site.clone(), mode.subscribe());
            servers.spawn(async move { site::serve(served, listener, &mut mode, || ()).await });
            out::warn(&format!("plimsoll: {} serves {listen}\n", site.name));
        }
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        // A request that is on its way on a kept connection is lost if that is closed now.
        site.leaving.store(true, Ordering::Relaxed);
        let finish = async {
            tokio::time::sleep(self.linger).await;
            mode.send_replace(Mode::Stopped);
            while servers.join_next().await.is_some() {}
        };
        tokio::select! {
            () = finish => {}
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        Ok(())
    }
}

/// Tells who answers.
struct Whoami {
    name: String,
    /// The status of `/health`.
    health: AtomicU16,
    /// Told to stop: no connection is kept any more.
    leaving: AtomicBool,
}

impl Site for Whoami {
    async fn answer(&self, request: Request<Incoming>, ends: Ends) -> Response<Full<Bytes>> {
        let mut response = self.say(request, ends).await;
        if self.leaving.load(Ordering::Relaxed) {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        response
    }
}

impl Whoami {
    async fn say(&self, request: Request<Incoming>, ends: Ends) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        if head.uri.path() == "/health" {
            return match head.method {
                Method::POST | Method::PUT => self.set_health(body).await,
                _ => {
                    let status = StatusCode::from_u16(self.health.load(Ordering::Relaxed));
                    text(status.unwrap_or_default(), format!("{}\n", self.name))
                }
            };
        }
        match wait(head.uri.query().unwrap_or("")) {
            Ok(wait) => tokio::time::sleep(wait).await,
            Err(why) => return text(StatusCode::BAD_REQUEST, format!("?wait: {why}\n")),
        }
        let mut said = format!(
            "Hostname: {}\nAddress: {}\nClient: {}\n\n{} {} {:?}\n",
            self.name, ends.server, ends.client, head.method, head.uri, head.version
        );
        for (name, value) in &head.headers {
            said.push_str(&format!("{name}: {}\n", value.as_bytes().escape_ascii()));
        }
        text(StatusCode::OK, said)
    }

    async fn set_health(&self, body: Incoming) -> Response<Full<Bytes>> {
        let body = Limited::new(body, MAX_STATUS).collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        let status = std::str::from_utf8(&body)
            .ok()
            .and_then(|t| t.trim().parse().ok());
        match status.filter(|status| (200..=599).contains(status)) {
            Some(status) => {
                self.health.store(status, Ordering::Relaxed);
                text(
                    StatusCode::OK,
                    format!("/health answers {status} from now on\n"),
                )
            }
            None => text(
                StatusCode::BAD_REQUEST,
                "send a status from 200 to 599, such as 503\n".into(),
            ),
        }
    }
}

/// What a query says of waiting.
fn wait(query: &str) -> Result<Duration, String> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix("wait="));
    match value.map(crate::cli::duration).transpose()? {
        Some(wait) if wait > MAX_WAIT => Err("60s at most".into()),
        wait => Ok(wait.unwrap_or_default()),
    }
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// Addresses for a listen, in the order to try them: `*` is both families, or IPv4 alone where
/// there is no IPv6.
fn addresses(listen: &Listen) -> impl Iterator<Item = SocketAddr> {
    let Listen::Socket { ip, ports, .. } = listen else {
        return Vec::new().into_iter();
    };
    let port = match ports {
        Ports::One(port) => *port,
        other => other.bounds().0,
    };
    let ips = match ip {
        Some(ip) => vec![*ip],
        None => vec![Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()],
    };
    let addresses: Vec<_> = ips
        .into_iter()
        .map(|ip| SocketAddr::new(ip, port))
        .collect();
    addresses.into_iter()
}

fn bind(listen: &Listen) -> Result<tokio::net::TcpListener, Error> {
    let mut failed = None;
    for addr in addresses(listen) {
        let bound = TcpListener::bind(addr).and_then(|listener| {
            listener.set_nonblocking(true)?;
            tokio::net::TcpListener::from_std(listener)
        });
        match bound {
            Ok(listener) => return Ok(listener),
            Err(why) => failed = Some(format!("{addr}: {why}")),
        }
    }
    let why = failed.unwrap_or_default();
    Err(Error::Failed(format!(
        "--listen {why}; choose another with --listen ADDR:PORT"
    )))
}
