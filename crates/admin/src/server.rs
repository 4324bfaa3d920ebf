//! The server of the API.
//!
//! One request per connection, each connection bounded in time, their number bounded, answers
//! made whole before they are sent: a reader that is slow or goes away costs one small task and
//! nobody else anything. Whoever connects and asks nothing gives way to those who come after, and
//! long answers have only some of the places: health and commands are always answered.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use plimsoll_control::{Command, CommandError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::asking::{ANSWER, Unanswered, ask, off_thread};
use crate::rendered::{self, Rendered};
use crate::{Ask, ErrorBody, MaintenanceBody, NotTaken, WeightBody, metrics, parameters};

/// Connections at once.
const CONNECTIONS: usize = 64;
/// So many of them may read long answers.
const LONG: usize = 48;
/// How long a whole exchange may take.
const EXCHANGE: Duration = Duration::from_secs(30);
/// How long a head may take.
const HEAD: Duration = Duration::from_secs(2);
/// Bytes of a head at most.
const MAX_HEAD: usize = 16 << 10;
/// Bytes of a body at most.
const MAX_BODY: usize = 4 << 10;
/// After the system refused a connection (no descriptors left), this long until the next try.
const RETRY: Duration = Duration::from_millis(100);

type Asks = mpsc::Sender<Ask>;
type Answer = Response<Full<Bytes>>;

/// Answers the whole API on a Unix socket, for ever.
pub async fn serve_admin(listener: UnixListener, asks: mpsc::Sender<Ask>) {
    let accept = async || listener.accept().await.map(|(stream, _)| stream);
    serve(accept, asks, Part::All).await;
}

/// Answers `/metrics`, `/healthz` and `/readyz` on a TCP socket, for ever.
pub async fn serve_metrics(listener: TcpListener, asks: mpsc::Sender<Ask>) {
    let accept = async || listener.accept().await.map(|(stream, _)| stream);
    serve(accept, asks, Part::Observe).await;
}

/// How much of the API there is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    All,
    Observe,
}

/// What the connections of a listener share.
struct Office {
    asks: Asks,
    part: Part,
    long: Arc<Semaphore>,
    status: Rendered,
    metrics: Rendered,
    silent: Silent,
}

/// Connections that have not asked anything yet, the oldest first.
#[derive(Default)]
struct Silent(Mutex<BTreeMap<u64, AbortHandle>>);

impl Silent {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, AbortHandle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the oldest give way.
    fn drop_oldest(&self) {
        if let Some((_, oldest)) = self.lock().pop_first() {
            oldest.abort();
        }
    }
}

async fn serve<S, F>(accept: impl Fn() -> F, asks: Asks, part: Part)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = io::Result<S>>,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let office = Arc::new(Office {
        asks,
        part,
        long: Arc::new(Semaphore::new(LONG)),
        status: Rendered::new(),
        metrics: Rendered::new(),
        silent: Silent::default(),
    });
    for id in 0.. {
        let stream = match accept().await {
            Ok(stream) => stream,
            Err(_) => {
                sleep(RETRY).await;
                continue;
            }
        };
        if places.available_permits() == 0 {
            office.silent.drop_oldest();
        }
        // It is never closed.
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        // Held, so that the task cannot leave the list before it is in it.
        let mut silent = office.silent.lock();
        let task = tokio::spawn(exchange(id, stream, office.clone(), place));
        silent.insert(id, task.abort_handle());
    }
}

async fn exchange<S>(id: u64, stream: S, office: Arc<Office>, _place: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // A reader that goes away early or is too slow is its own affair.
    let _ = timeout(EXCHANGE, connection(id, stream, &office)).await;
    office.silent.lock().remove(&id);
}

async fn connection<S>(id: u64, stream: S, office: &Office) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| async move {
        office.silent.lock().remove(&id);
        Ok::<_, Infallible>(respond(request, office).await)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    pin!(connection).await
}

/// Why there is no other answer.
struct Refusal(StatusCode, ErrorBody);

impl Refusal {
    fn new(status: StatusCode, error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self(status, ErrorBody::new(error, hint))
    }
}

impl From<ErrorBody> for Refusal {
    fn from(body: ErrorBody) -> Self {
        Self(StatusCode::BAD_REQUEST, body)
    }
}

impl From<Unanswered> for Refusal {
    fn from(why: Unanswered) -> Self {
        let (status, hint) = match why {
            Unanswered::Stopping => (StatusCode::SERVICE_UNAVAILABLE, ""),
            Unanswered::Late => (StatusCode::GATEWAY_TIMEOUT, "try again"),
        };
        Self::new(status, why.to_string(), hint)
    }
}

impl From<NotTaken> for Refusal {
    fn from(NotTaken { error, nearest }: NotTaken) -> Self {
        let status = match error {
            CommandError::UnknownService(_) | CommandError::UnknownBackend { .. } => {
                StatusCode::NOT_FOUND
            }
            CommandError::ServiceAside(_) | CommandError::Ambiguous { .. } => StatusCode::CONFLICT,
            CommandError::Weight(_) | CommandError::NotHttp(_) => StatusCode::BAD_REQUEST,
        };
        let text = error.to_string();
        // Texts for people have the form `what is wrong: what to do`.
        let (error, advice) = text.split_once(": ").unwrap_or((&text, ""));
        let hint = match nearest {
            Some(name) => format!("did you mean `{name}`?"),
            None => advice.to_owned(),
        };
        Self::new(status, error, hint)
    }
}

impl Office {
    /// A long answer, if there is a place for one more; it has that until it is sent.
    async fn long(
        &self,
        make: impl Future<Output = Result<Bytes, Refusal>>,
    ) -> Result<Bytes, Refusal> {
        let busy = || {
            let error = "too many answers are waiting to be read";
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error, "try again")
        };
        let place = self.long.clone().try_acquire_owned().map_err(|_| busy())?;
        let text = timeout(ANSWER, make).await.map_err(|_| busy())??;
        Ok(rendered::held(text, place))
    }
}

async fn respond(request: Request<Incoming>, office: &Office) -> Answer {
    match answer(request, office).await {
        Ok(answer) => answer,
        Err(Refusal(status, body)) => {
            let mut answer = json(status, &body);
            if status == StatusCode::METHOD_NOT_ALLOWED
                && let Ok(allow) = HeaderValue::from_str(&body.hint)
            {
                answer.headers_mut().insert(header::ALLOW, allow);
            }
            answer
        }
    }
}

async fn answer(request: Request<Incoming>, office: &Office) -> Result<Answer, Refusal> {
    let (asks, part) = (&office.asks, office.part);
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let query = head.uri.query().unwrap_or("");
    let none = || parameters::Query::parse(query, &[]).map(drop);
    let unknown = || {
        let hint = match part {
            Part::All => "docs/admin-api.md lists what there is",
            Part::Observe => "here are /metrics, /healthz and /readyz",
        };
        Refusal::new(StatusCode::NOT_FOUND, format!("nothing is at {path}"), hint)
    };
    let reading = matches!(head.method, Method::GET | Method::HEAD);
    let only = |method: &Method| match method {
        &Method::GET if reading => Ok(()),
        method if *method == head.method => Ok(()),
        _ => {
            let error = format!("{} is not for {path}", head.method);
            let allow = if *method == Method::GET {
                "GET, HEAD"
            } else {
                method.as_str()
            };
            Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, error, allow))
        }
    };
    let parts = parameters::segments(path).ok_or_else(unknown)?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match (parts.as_slice(), part) {
        (["metrics"], _) => {
            only(&Method::GET)?;
            let make = async || {
                let report = ask(asks, Ask::Status).await?;
                Ok(off_thread(move || metrics::render(&report).into_bytes()).await?)
            };
            let text = office.long(office.metrics.get(make)).await?;
            Ok(with_type(StatusCode::OK, metrics::CONTENT_TYPE, text))
        }
        (["healthz"], _) => {
            only(&Method::GET)?;
            // Only control that still turns can answer this.
            ask(asks, Ask::Readiness).await?;
            Ok(with_type(StatusCode::OK, "text/plain", "ok\n"))
        }
        (["readyz"], _) => {
            only(&Method::GET)?;
            let readiness = ask(asks, Ask::Readiness).await?;
            let status = match readiness.ready {
                true => StatusCode::OK,
                false => StatusCode::SERVICE_UNAVAILABLE,
            };
            Ok(json(status, &readiness))
        }
        (["v1", "status"], Part::All) => {
            only(&Method::GET)?;
            none()?;
            let make = async || {
                let report = ask(asks, Ask::Status).await?;
                Ok(off_thread(move || to_json(&report)).await?)
            };
            let text = office.long(office.status.get(make)).await?;
            Ok(with_type(StatusCode::OK, "application/json", text))
        }
        (["v1", "flows"], Part::All) => {
            only(&Method::GET)?;
            let (filter, cursor) = parameters::flows(query)?;
            let busy = |why| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why, "try again");
            let flows = async {
                let flows = ask(asks, |reply| Ask::Flows(filter, cursor, reply)).await?;
                flows.map(|flows| to_json(&flows).into()).map_err(busy)
            };
            let text = office.long(flows).await?;
            Ok(with_type(StatusCode::OK, "application/json", text))
        }
        (["v1", "explain"], Part::All) => {
            only(&Method::GET)?;
            let tuple = parameters::tuple(query)?;
            let explanation = ask(asks, |reply| Ask::Explain(tuple, reply)).await?;
            Ok(json(StatusCode::OK, &explanation))
        }
        (["v1", "reload"], Part::All) => {
            only(&Method::POST)?;
            none()?;
            ask(asks, Ask::Reload).await?;
            Ok(json(
                StatusCode::ACCEPTED,
                &serde_json::json!({ "reload": true }),
            ))
        }
        (["v1", "services", service, "maintenance"], Part::All) => {
            only(&Method::POST)?;
            none()?;
            let hint =
                "send {\"on\": true}, {\"on\": false}, or {\"on\": null} for what the source says";
            let MaintenanceBody { on } = read(body, hint).await?;
            let service = (*service).to_owned();
            let done = ask(asks, |reply| Ask::Maintain { service, on, reply });
            Ok(json(StatusCode::OK, &done.await??))
        }
        (["v1", "services", service, "backends", backend, verb], Part::All) => {
            let known = matches!(*verb, "drain" | "ready" | "weight");
            if !known {
                return Err(unknown());
            }
            only(&Method::POST)?;
            none()?;
            let command = match *verb {
                "drain" => Command::Drain,
                "ready" => Command::Ready,
                _ => Command::Weight(weight(body).await?),
            };
            let (service, backend) = ((*service).to_owned(), (*backend).to_owned());
            let done = ask(asks, |reply| Ask::Command {
                service,
                backend,
                command,
                reply,
            });
            Ok(json(StatusCode::OK, &done.await??))
        }
        _ => Err(unknown()),
    }
}

/// The body of a change of weight.
async fn weight(body: Incoming) -> Result<Option<u32>, Refusal> {
    const HINT: &str = "send {\"weight\": 5}, or {\"weight\": null} for what the source says";
    let body: WeightBody = read(body, HINT).await?;
    Ok(body.weight)
}

/// A body that is JSON; `hint` says what it should be.
async fn read<T: DeserializeOwned>(body: Incoming, hint: &str) -> Result<T, Refusal> {
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            let error = format!("the body is longer than {MAX_BODY} bytes");
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, error, hint));
        }
        Err(_) => return Err(ErrorBody::new("the body is cut off", hint).into()),
    };
    let read = serde_json::from_slice(&body);
    Ok(read.map_err(|error| ErrorBody::new(format!("the body: {error}"), hint))?)
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    // Our own types have string keys and finite numbers only, so this does not fail.
    let mut text = serde_json::to_vec(value).unwrap_or_default();
    text.push(b'\n');
    text
}

fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    with_type(status, "application/json", to_json(value))
}

fn with_type(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}
