//! What is asked of the engine: GETs only.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use tokio::time::{Instant, timeout};

use super::connect::{Connection, Ends};
use super::error::{EngineError, clean, innermost};
use super::events::{EVENTS, Events};
use super::host::{ApiVersion, EngineHost, VERSIONS};
use super::read::{Inspected, Listed, read_inspect, read_list, read_networks};
use super::time::http_nanos;
use super::wire::{Network, Version};

/// The head of an answer may take so long: lists of many containers take the engine a while.
const ANSWER: Duration = Duration::from_secs(30);
/// The whole answer about one container may take so long: the engine holds it back while
/// something in that container hangs.
const INSPECTION: Duration = Duration::from_secs(5);
/// Bytes of an answer about one thing, and of a list.
const MAX_ONE: usize = 4 << 20;
const MAX_LIST: usize = 64 << 20;
/// So many connections are kept for the next requests, each for so long after its last one.
const KEPT: usize = 16;
const KEPT_FOR: Duration = Duration::from_secs(60);

/// The process that a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// There is no such container.
    Gone,
    /// It does not run.
    None,
    /// It is not told: a filter before the engine keeps it back.
    Unknown,
    /// This one, as the engine's host numbers it.
    Runs(u32),
}

/// An engine that can be asked: its version is agreed on.
#[derive(Debug)]
pub struct Engine {
    host: EngineHost,
    name: Arc<str>,
    version: ApiVersion,
    clock: Option<i64>,
    ends: Option<Ends>,
    /// Connections without a request, and since when; the one used last at the end.
    idle: Mutex<Vec<(Instant, Connection)>>,
}

impl Engine {
    /// Connects and agrees on a version: the newest that both sides speak, or the one of
    /// `DOCKER_API_VERSION`.
    ///
    /// # Errors
    /// There is no connection, no such version, or its containers are not Linux'.
    pub async fn negotiate(host: &EngineHost) -> Result<Self, EngineError> {
        let first = Connection::open(host).await?;
        let mut engine = Self {
            host: host.clone(),
            name: host.to_string().into(),
            version: VERSIONS.0,
            clock: None,
            ends: first.ends(),
            idle: Mutex::new(vec![(Instant::now(), first)]),
        };
        let pinged = engine.ping().await?;
        engine.clock = pinged.clock;
        // Only this says the oldest version. A filter before the socket may keep it from us.
        let about = match engine.fetch("/version", MAX_ONE).await {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| engine.unreadable("/version", &error))?,
            Err(EngineError::Refused { .. }) => Version::default(),
            Err(error) => return Err(error),
        };
        let os = if pinged.os.is_empty() {
            &about.os
        } else {
            &pinged.os
        };
        if !os.is_empty() && !os.eq_ignore_ascii_case("linux") {
            let host = engine.name;
            return Err(EngineError::NotLinux {
                host,
                os: clean(os),
            });
        }
        let newest = pinged.newest.or_else(|| about.api_version.parse().ok());
        let oldest = about.min_api_version.parse().ok();
        engine.version = engine.agree(newest, oldest, &about.version)?;
        Ok(engine)
    }

    fn agree(
        &self,
        newest: Option<ApiVersion>,
        oldest: Option<ApiVersion>,
        engine: &str,
    ) -> Result<ApiVersion, EngineError> {
        let name = || Arc::clone(&self.name);
        // An engine that does not say is asked in the oldest version, and says itself if it minds.
        let newest = newest.unwrap_or(VERSIONS.0);
        if newest < VERSIONS.0 {
            return Err(EngineError::too_old(name(), engine, newest));
        }
        let ours = match self.host.version {
            Some(pinned) if pinned > newest => {
                return Err(EngineError::pinned(name(), pinned, newest));
            }
            Some(pinned) => pinned,
            None => newest.min(VERSIONS.1),
        };
        match oldest {
            Some(oldest) if ours < oldest => Err(EngineError::too_new(name(), ours, oldest)),
            _ => Ok(ours),
        }
    }

    /// The version that was agreed on.
    pub fn version(&self) -> ApiVersion {
        self.version
    }

    /// What the engine's clock showed when it was connected to, in whole seconds, as nanoseconds
    /// since 1970; none if it did not say.
    pub fn clock(&self) -> Option<i64> {
        self.clock
    }

    /// The addresses of the TCP connection to the engine; none for a Unix socket.
    pub fn ends(&self) -> Option<Ends> {
        self.ends
    }

    /// All containers, running or not.
    ///
    /// # Errors
    /// There is no answer, or it is no list.
    pub async fn containers(&self) -> Result<Vec<Listed>, EngineError> {
        let path = self.path("/containers/json?all=1");
        let bytes = self.fetch(&path, MAX_LIST).await?;
        read_list(&bytes).map_err(|error| self.unreadable(&path, &error))
    }

    /// One container, by its id or its name.
    ///
    /// # Errors
    /// There is no answer within 5 s, or another than that it is there or not.
    pub async fn inspect(&self, id: &str) -> Result<Inspected, EngineError> {
        let answer = self.about(id).await?;
        Ok(answer.map_or(Inspected::Gone, |(_, bytes)| read_inspect(&bytes)))
    }

    /// What there is to say of a container, and what was asked for it; none if there is no such one.
    async fn about(&self, id: &str) -> Result<Option<(String, Bytes)>, EngineError> {
        // What is no id or name would ask for something else.
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if id.is_empty() || id.starts_with('.') || !id.bytes().all(plain) {
            return Ok(None);
        }
        let path = self.path(&format!("/containers/{id}/json"));
        let fetched = timeout(INSPECTION, self.fetch(&path, MAX_ONE)).await;
        match fetched.unwrap_or_else(|_| Err(self.late(&path, INSPECTION))) {
            Err(error) if error.is_not_found() => Ok(None),
            fetched => Ok(Some((path, fetched?))),
        }
    }

    /// The process that a container is, by its id or its name.
    ///
    /// # Errors
    /// As [`Self::inspect`]; or the answer cannot be read.
    pub async fn process(&self, id: &str) -> Result<Process, EngineError> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        struct Answer {
            state: State,
        }
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        struct State {
            pid: Option<u32>,
        }
        let Some((path, bytes)) = self.about(id).await? else {
            return Ok(Process::Gone);
        };
        let answer: Answer =
            serde_json::from_slice(&bytes).map_err(|error| self.unreadable(&path, &error))?;
        Ok(match answer.state.pid {
            None => Process::Unknown,
            Some(0) => Process::None,
            Some(pid) => Process::Runs(pid),
        })
    }

    /// The networks.
    ///
    /// # Errors
    /// There is no answer, or it is no list.
    pub async fn networks(&self) -> Result<Vec<Network>, EngineError> {
        let path = self.path("/networks");
        let bytes = self.fetch(&path, MAX_LIST).await?;
        read_networks(&bytes).map_err(|error| self.unreadable(&path, &error))
    }

    /// What happens from now on, or since a time in nanoseconds after 1970, if it is one (the engine
    /// remembers 256 events). Has a connection of its own.
    ///
    /// # Errors
    /// There is no answer, or no stream.
    pub async fn events(&self, since: Option<i64>) -> Result<Events, EngineError> {
        let since = since.filter(|nanos| *nanos > 0).map(|nanos| {
            let (seconds, rest) = (
                nanos.div_euclid(1_000_000_000),
                nanos.rem_euclid(1_000_000_000),
            );
            format!("&since={seconds}.{rest:09}")
        });
        let path = self.path(&format!(
            "/events?filters={EVENTS}{}",
            since.unwrap_or_default()
        ));
        let mut connection = Connection::open(&self.host).await?;
        let answer = self
            .in_time(&path, connection.send(Method::GET, &path))
            .await?;
        if answer.status() != StatusCode::OK {
            let status = answer.status();
            let body = self.read(&path, answer.into_body(), MAX_ONE).await?;
            return Err(self.refusal(&path, status, &body));
        }
        Ok(Events::new(
            Arc::clone(&self.name),
            connection,
            answer.into_body(),
        ))
    }

    fn path(&self, rest: &str) -> String {
        format!("/v{}{rest}", self.version)
    }

    async fn ping(&self) -> Result<Ping, EngineError> {
        let path = "/_ping";
        // Engines before 18.09 and some filters do not know HEAD.
        for method in [Method::HEAD, Method::GET] {
            let (answer, connection) = self.send(&method, path).await?;
            let (head, body) = answer.into_parts();
            let body = self.read(path, body, MAX_ONE).await?;
            if head.status == StatusCode::OK {
                self.put(connection);
                return Ok(Ping::of(&head.headers));
            }
            if method == Method::GET {
                return Err(self.refusal(path, head.status, &body));
            }
        }
        Ok(Ping::default())
    }

    fn unreadable(&self, path: &str, error: &serde_json::Error) -> EngineError {
        self.broken(path, format!("the answer cannot be read: {error}"))
    }

    async fn fetch(&self, path: &str, limit: usize) -> Result<Bytes, EngineError> {
        let (answer, connection) = self.send(&Method::GET, path).await?;
        let status = answer.status();
        let limit = if status == StatusCode::OK {
            limit
        } else {
            MAX_ONE
        };
        let body = self.read(path, answer.into_body(), limit).await?;
        self.put(connection);
        if status == StatusCode::OK {
            Ok(body)
        } else {
            Err(self.refusal(path, status, &body))
        }
    }

    /// Sends a request on a connection that is there already, or on a new one.
    async fn send(
        &self,
        method: &Method,
        path: &str,
    ) -> Result<(Response<Incoming>, Connection), EngineError> {
        while let Some(mut connection) = self.take() {
            let answer = self
                .in_time(path, connection.send(method.clone(), path))
                .await;
            match answer {
                Ok(answer) => return Ok((answer, connection)),
                // It may have been closed while it was idle.
                Err(EngineError::Broken { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let mut connection = Connection::open(&self.host).await?;
        let answer = self
            .in_time(path, connection.send(method.clone(), path))
            .await?;
        Ok((answer, connection))
    }

    fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(since, idle)| !idle.is_closed() && since.elapsed() < KEPT_FOR);
        Some(idle.pop()?.1)
    }

    /// Keeps a connection whose last answer was read to its end.
    fn put(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push((Instant::now(), connection));
        }
    }

    async fn read(&self, path: &str, body: Incoming, limit: usize) -> Result<Bytes, EngineError> {
        let whole = Limited::new(body, limit).collect();
        let Ok(whole) = timeout(ANSWER, whole).await else {
            return Err(self.late(path, ANSWER));
        };
        match whole {
            Ok(whole) => Ok(whole.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => {
                Err(self.broken(path, format!("the answer is longer than {limit} bytes")))
            }
            Err(error) => Err(self.broken(
                path,
                format!("the answer broke off: {}", innermost(&*error)),
            )),
        }
    }

    async fn in_time<T>(
        &self,
        path: &str,
        answer: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        timeout(ANSWER, answer)
            .await
            .unwrap_or_else(|_| Err(self.late(path, ANSWER)))
    }

    /// What an answer other than 200 says.
    fn refusal(&self, path: &str, status: StatusCode, body: &[u8]) -> EngineError {
        #[derive(Deserialize)]
        struct Message {
            message: String,
        }
        let text = match serde_json::from_slice::<Message>(body) {
            Ok(said) => said.message,
            Err(_) => String::from_utf8_lossy(body).into_owned(),
        };
        let mut message = clean(&text);
        if message.is_empty() {
            message = status
                .canonical_reason()
                .unwrap_or("no reason given")
                .to_owned();
        }
        if message.contains("HTTP request to an HTTPS server") {
            message.push_str(": set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH");
        } else if status == StatusCode::FORBIDDEN {
            message.push_str(": a filter before the engine has to allow GET of /_ping, /version, /events, /containers and /networks");
        }
        EngineError::Refused {
            host: Arc::clone(&self.name),
            path: path.to_owned(),
            status: status.as_u16(),
            message,
        }
    }

    fn late(&self, path: &str, after: Duration) -> EngineError {
        EngineError::TimedOut {
            host: Arc::clone(&self.name),
            path: path.to_owned(),
            after,
        }
    }

    fn broken(&self, path: &str, why: String) -> EngineError {
        EngineError::Broken {
            host: Arc::clone(&self.name),
            path: path.to_owned(),
            why,
        }
    }
}

/// What the answer to a ping says in its head.
#[derive(Debug, Default)]
struct Ping {
    newest: Option<ApiVersion>,
    os: String,
    clock: Option<i64>,
}

impl Ping {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        Self {
            newest: text("api-version").and_then(|text| text.parse().ok()),
            os: text("ostype").unwrap_or_default().to_owned(),
            clock: text("date").and_then(http_nanos),
        }
    }
}
