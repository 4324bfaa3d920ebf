//! The socket: one connection to the engine for each request that is passed on.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Either, Empty, Full, LengthLimitError, Limited};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http1 as client;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, spawn};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::patient::Patient;
use crate::{Allowed, Endpoint, Events, Refused, decide, redact};

/// Connections at once.
const CONNECTIONS: usize = 64;
/// Whole answers held at once, until they are read.
const ANSWERS: usize = 16;
/// Bytes of a request's head at most.
const MAX_HEAD: usize = 32 << 10;
/// Bytes of a list at most: some thousands of containers.
const MAX_LIST: usize = 16 << 20;
/// Bytes of another whole answer at most.
const MAX_ANSWER: usize = 4 << 20;
/// How long a connection may stay without a request.
const IDLE: Duration = Duration::from_secs(60);
/// How long a client may take to read what there is for it, unless something else is said.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long a connection to the engine may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the engine may take for an answer; for events, until they begin.
const ANSWER: Duration = Duration::from_secs(60);
/// After the system refused a connection (no descriptors left), this long until the next try.
const RETRY: Duration = Duration::from_millis(100);

/// Headers of answers that are passed on: what versions are negotiated by.
const HEADERS: [HeaderName; 6] = [
    HeaderName::from_static("api-version"),
    HeaderName::from_static("builder-version"),
    HeaderName::from_static("docker-experimental"),
    HeaderName::from_static("ostype"),
    HeaderName::from_static("server"),
    HeaderName::from_static("swarm"),
];

/// A connection to the engine.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

type Dialled = Pin<Box<dyn Future<Output = io::Result<Box<dyn Connection>>> + Send>>;

/// Makes a connection to the engine.
pub type Dial = Box<dyn Fn() -> Dialled + Send + Sync>;

/// Answers on a Unix socket what may be asked of the engine, for ever. `engine` is its name in
/// messages, such as `unix:///var/run/docker.sock`. Clients are cut off that have not read all there
/// is for them, be it one answer or some events, `patience` after they had to: see [`PATIENCE`].
pub async fn serve(listener: UnixListener, engine: String, dial: Dial, patience: Duration) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let proxy = Arc::new(Proxy {
        engine,
        dial,
        answers: Arc::new(Semaphore::new(ANSWERS)),
        away: AtomicBool::new(false),
    });
    // It is never closed.
    while let Ok(place) = places.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let stream = Patient::new(stream, patience);
                drop(spawn(connection(proxy.clone(), stream, place)));
            }
            Err(_) => sleep(RETRY).await,
        }
    }
}

async fn connection(proxy: Arc<Proxy>, stream: Patient<UnixStream>, _place: OwnedSemaphorePermit) {
    let service = service_fn(|request| {
        let proxy = proxy.clone();
        async move { Ok::<_, Infallible>(proxy.answer(request).await) }
    });
    let connection = server::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    // How a client leaves is its own affair.
    let _ = connection.await;
}

type Answer = Response<Either<Full<Bytes>, Stream>>;

/// Why there is no answer of the engine.
struct Failed(StatusCode, String);

struct Proxy {
    engine: String,
    dial: Dial,
    answers: Arc<Semaphore>,
    /// Whether the last connection to the engine failed.
    away: AtomicBool,
}

impl Proxy {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let answer = match allowed(&request) {
            Ok(allowed) => self.pass(allowed).await,
            Err(Refused(why)) => {
                debug!("refused: {why}");
                Err(Failed(StatusCode::FORBIDDEN, why))
            }
        };
        answer.unwrap_or_else(|Failed(status, why)| {
            let message = format!("plimsoll docker-proxy: {why}");
            let mut body = serde_json::json!({ "message": message }).to_string();
            body.push('\n');
            json(status, Either::Left(body.into()))
        })
    }

    async fn pass(&self, allowed: Allowed) -> Result<Answer, Failed> {
        if allowed.endpoint == Endpoint::Events {
            return self.events(&allowed).await;
        }
        let whole = async {
            let Ok(place) = self.answers.clone().acquire_owned().await else {
                return Err(self.failed("is not asked any more"));
            };
            let (head, body, engine) = self.ask(&allowed).await?;
            let most = longest(allowed.endpoint);
            let too_long = || self.failed(format!("answers more than {most} bytes"));
            if body.size_hint().lower() > most as u64 {
                return Err(too_long());
            }
            let body = Limited::new(body, most).collect().await;
            drop(engine);
            let body = body.map_err(|why| match why.downcast::<LengthLimitError>() {
                Ok(_) => too_long(),
                Err(why) => self.failed(format!("broke off its answer: {why}")),
            })?;
            Ok((head, body.to_bytes(), place))
        };
        let (head, body, place) = match timeout(ANSWER, whole).await {
            Ok(answer) => answer?,
            Err(_) => return Err(self.late()),
        };
        let body = redact(allowed.endpoint, head.status, &body).map_err(|_| {
            self.failed(format!(
                "answers {} with something else than expected",
                head.status
            ))
        })?;
        let text = allowed.endpoint == Endpoint::Ping && head.status.is_success();
        let body = Bytes::from_owner(Held(body, place));
        let mut answer = json(head.status, Either::Left(body.into()));
        if text {
            let kind = HeaderValue::from_static("text/plain; charset=utf-8");
            answer.headers_mut().insert(header::CONTENT_TYPE, kind);
        }
        copy(&head.headers, answer.headers_mut());
        Ok(answer)
    }

    async fn events(&self, allowed: &Allowed) -> Result<Answer, Failed> {
        let asked = timeout(ANSWER, self.ask(allowed)).await;
        let (head, body, engine) = asked.map_err(|_| self.late())??;
        if !head.status.is_success() {
            let body = Limited::new(body, MAX_HEAD).collect();
            let body = timeout(ANSWER, body).await.map_err(|_| self.late())?;
            let body = body.map(|body| body.to_bytes()).unwrap_or_default();
            let body = redact(allowed.endpoint, head.status, &body)
                .map_err(|_| self.failed(format!("answers {}", head.status)))?;
            return Ok(json(head.status, Either::Left(body.into())));
        }
        let stream = Stream {
            body,
            events: Events::default(),
            _engine: engine,
        };
        let mut answer = json(head.status, Either::Right(stream));
        copy(&head.headers, answer.headers_mut());
        Ok(answer)
    }

    /// The head and the body of the engine's answer, on a connection that lives as long as what is
    /// given with them.
    async fn ask(
        &self,
        allowed: &Allowed,
    ) -> Result<(http::response::Parts, Incoming, OnDrop), Failed> {
        let dialled = timeout(CONNECT, (self.dial)()).await;
        let dialled = dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let stream = match dialled {
            Ok(stream) => {
                if self.away.swap(false, Ordering::Relaxed) {
                    info!(engine = %self.engine, "the engine answers again");
                }
                stream
            }
            Err(why) => {
                if !self.away.swap(true, Ordering::Relaxed) {
                    warn!(engine = %self.engine, "the engine cannot be reached: {why}");
                }
                return Err(self.failed(format!("cannot be reached: {why}; does it run?")));
            }
        };
        let broken = |why: hyper::Error| self.failed(format!("breaks off: {why}"));
        let request = Request::builder()
            .method(allowed.method.clone())
            .uri(&allowed.target)
            .header(header::HOST, "docker")
            .header(header::ACCEPT, "application/json")
            .body(Empty::<Bytes>::new())
            .map_err(|why| self.failed(format!("cannot be asked: {why}")))?;
        let (mut sender, connection) = client::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let engine = OnDrop(spawn(connection).abort_handle());
        let (head, body) = sender
            .send_request(request)
            .await
            .map_err(broken)?
            .into_parts();
        Ok((head, body, engine))
    }

    fn failed(&self, why: impl std::fmt::Display) -> Failed {
        let why = format!("the engine at {} {why}", self.engine);
        Failed(StatusCode::BAD_GATEWAY, why)
    }

    fn late(&self) -> Failed {
        let why = format!("the engine at {} does not answer", self.engine);
        Failed(StatusCode::GATEWAY_TIMEOUT, why)
    }
}

/// Bytes of a whole answer at most.
fn longest(endpoint: Endpoint) -> usize {
    match endpoint {
        Endpoint::Containers
        | Endpoint::Networks
        | Endpoint::Services
        | Endpoint::Tasks
        | Endpoint::Nodes => MAX_LIST,
        Endpoint::Ping
        | Endpoint::Version
        | Endpoint::Info
        | Endpoint::Events
        | Endpoint::Container
        | Endpoint::Network => MAX_ANSWER,
    }
}

/// Whether a request is passed on. Its body never is.
fn allowed(request: &Request<Incoming>) -> Result<Allowed, Refused> {
    let uri = request.uri();
    if uri.authority().is_some() || uri.scheme().is_some() {
        return Err(Refused(
            "a whole URL is not passed on: send the path alone".into(),
        ));
    }
    let target = uri.path_and_query().map_or("", |target| target.as_str());
    let allowed = decide(request.method(), target)?;
    match request.body().is_end_stream() {
        true => Ok(allowed),
        false => Err(Refused("the body of a request is not passed on".into())),
    }
}

fn json(status: StatusCode, body: Either<Full<Bytes>, Stream>) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

fn copy(from: &HeaderMap, to: &mut HeaderMap) {
    for name in &HEADERS {
        if let Some(value) = from.get(name) {
            to.insert(name, value.clone());
        }
    }
}

/// Ends the connection to the engine.
struct OnDrop(AbortHandle);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A text, and the place that it has as long as somebody has it.
struct Held(
    Vec<u8>,
    #[allow(dead_code, reason = "held")] OwnedSemaphorePermit,
);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Events as they happen, as far as they are passed on.
struct Stream {
    body: Incoming,
    events: Events,
    _engine: OnDrop,
}

impl Body for Stream {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        loop {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                None => return Poll::Ready(None),
                Some(Err(why)) => return Poll::Ready(Some(Err(io::Error::other(why)))),
                Some(Ok(frame)) => frame,
            };
            // Trailers say nothing.
            let Ok(bytes) = frame.into_data() else {
                continue;
            };
            let passed = self.events.feed(&bytes);
            if !passed.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(passed.into()))));
            }
        }
    }
}
