//! The client of the API, for the commands.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::{
    Done, ErrorBody, ExplainReport, FlowsReport, Maintained, MaintenanceBody, Report, WeightBody,
};

/// A whole exchange may take so long.
const EXCHANGE: Duration = Duration::from_secs(30);
/// Bytes of an answer at most.
const MAX_ANSWER: usize = 1 << 30;

/// What stands in a path or a query as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A text as it stands in one segment of a path or one value of a query.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

/// Why there is no answer, or no good one.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody is there.
    #[error(
        "no plimsoll listens on {path}: {source}; start one with `plimsoll run`, or name its socket with --admin"
    )]
    NoDaemon {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The socket may not be used, or is somebody else's.
    #[error("{path}: {why}")]
    Forbidden {
        /// The socket.
        path: PathBuf,
        /// Why, and what to do.
        why: &'static str,
    },
    /// It was refused.
    #[error("{}{}{}", .body.error, if .body.hint.is_empty() { "" } else { ": " }, .body.hint)]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Why.
        body: ErrorBody,
    },
    /// The answer is none.
    #[error("{path}: {why}")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// Asks one daemon.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// A client of the daemon behind this socket. Connects for each question.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// All there is to see.
    ///
    /// # Errors
    /// Nobody answers, or not as expected.
    pub async fn status(&self) -> Result<Report, ClientError> {
        self.ask(Method::GET, "/v1/status", Bytes::new()).await
    }

    /// Live flows; `query` without its question mark.
    ///
    /// # Errors
    /// Nobody answers, or it was refused.
    pub async fn flows(&self, query: &str) -> Result<FlowsReport, ClientError> {
        let target = format!("/v1/flows?{query}");
        self.ask(Method::GET, &target, Bytes::new()).await
    }

    /// Where something would go; `query` without its question mark.
    ///
    /// # Errors
    /// Nobody answers, or it was refused.
    pub async fn explain(&self, query: &str) -> Result<ExplainReport, ClientError> {
        let target = format!("/v1/explain?{query}");
        self.ask(Method::GET, &target, Bytes::new()).await
    }

    /// `drain` or `ready` for a backend.
    ///
    /// # Errors
    /// Nobody answers, or it was refused.
    pub async fn command(
        &self,
        service: &str,
        backend: &str,
        verb: &str,
    ) -> Result<Done, ClientError> {
        let target = command_target(service, backend, verb);
        self.ask(Method::POST, &target, Bytes::new()).await
    }

    /// A weight for a backend; none is what its source says.
    ///
    /// # Errors
    /// Nobody answers, or it was refused.
    pub async fn weight(
        &self,
        service: &str,
        backend: &str,
        weight: Option<u32>,
    ) -> Result<Done, ClientError> {
        let target = command_target(service, backend, "weight");
        let body =
            serde_json::to_vec(&WeightBody { weight }).map_err(|error| self.broken(error))?;
        self.ask(Method::POST, &target, body.into()).await
    }

    /// Whether a service is to be in maintenance; none is what its source says.
    ///
    /// # Errors
    /// Nobody answers, or it was refused.
    pub async fn maintain(
        &self,
        service: &str,
        on: Option<bool>,
    ) -> Result<Maintained, ClientError> {
        let target = format!("/v1/services/{}/maintenance", encode(service));
        let body =
            serde_json::to_vec(&MaintenanceBody { on }).map_err(|error| self.broken(error))?;
        self.ask(Method::POST, &target, body.into()).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        target: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let exchange = self.exchange(method, target, body);
        let (status, body) = timeout(EXCHANGE, exchange)
            .await
            .map_err(|_| self.broken(format!("no answer within {} s", EXCHANGE.as_secs())))??;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| {
                self.broken(format!(
                    "the answer is not what this version expects ({error}): is the daemon of another version?"
                ))
            });
        }
        let body = serde_json::from_slice(&body)
            .unwrap_or_else(|_| ErrorBody::new(format!("the daemon answered {status}"), ""));
        Err(ClientError::Refused {
            status: status.as_u16(),
            body,
        })
    }

    async fn exchange(
        &self,
        method: Method,
        target: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let stream = self.connect().await?;
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, "plimsoll")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| self.broken(error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.broken(error))?;
        let talk = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER)
                .collect()
                .await;
            body.map(|body| (status, body.to_bytes()))
        };
        // The connection moves the bytes, and may end before the answer has been taken.
        let drive = async {
            let _ = connection.await;
            std::future::pending().await
        };
        let answer: Result<_, Box<dyn std::error::Error + Send + Sync>> = tokio::select! {
            answer = talk => answer,
            never = drive => never,
        };
        answer.map_err(|error| self.broken(error))
    }

    async fn connect(&self) -> Result<UnixStream, ClientError> {
        not_a_strangers(&self.path)?;
        UnixStream::connect(&self.path).await.map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => ClientError::Forbidden {
                path: self.path.clone(),
                why: "permission denied: run this as the user that plimsoll runs as, or as root",
            },
            _ => ClientError::NoDaemon {
                path: self.path.clone(),
                source,
            },
        })
    }

    fn broken(&self, why: impl ToString) -> ClientError {
        ClientError::Broken {
            path: self.path.clone(),
            why: why.to_string(),
        }
    }
}

/// Anybody can make a socket in `/tmp`: believe only our own, root's, and if we are root all.
fn not_a_strangers(path: &Path) -> Result<(), ClientError> {
    let me = rustix::process::geteuid().as_raw();
    match std::fs::metadata(path) {
        Ok(file) if me != 0 && file.uid() != me && file.uid() != 0 => Err(ClientError::Forbidden {
            path: path.into(),
            why: "it belongs to another user: run this as the user that plimsoll runs as, or as root",
        }),
        _ => Ok(()),
    }
}

fn command_target(service: &str, backend: &str, verb: &str) -> String {
    let (service, backend) = (encode(service), encode(backend));
    format!("/v1/services/{service}/backends/{backend}/{verb}")
}
