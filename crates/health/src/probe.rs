//! One check of one backend: the only place here that opens sockets.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Body;
use hyper_util::rt::TokioIo;
use plimsoll_model::{BackendAddr, Check, CheckHost, CheckKind, CheckPath, StatusSet, ToBackends};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::connect::connect;

/// Bytes of a head, and of a body, that are read at most.
const MAX_READ: usize = 16 << 10;
/// Headers of an answer at most.
const MAX_HEADERS: usize = 100;
/// So long is waited for the end of an answer whose status is known, to leave the backend without
/// cutting it off. What goes on for longer is cut.
const LINGER: Duration = Duration::from_millis(100);

/// Checks a backend once, at an address with a port or a Unix socket. The connection leaves as `to`
/// says, where a service says it, and begins with `header`, the PROXY header of one's own if the
/// backend expects any. Ends within the check's time-out.
///
/// # Errors
/// It failed: which check and why, for people, e.g. `check http:/health: status 500`.
pub async fn probe(
    addr: &BackendAddr,
    check: &Check,
    header: &[u8],
    to: Option<&ToBackends>,
) -> Result<(), Arc<str>> {
    let why = match timeout(check.timeout, attempt(addr, check, header, to)).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(why)) => why,
        Err(_) => format!("timed out after {:?}", check.timeout),
    };
    Err(match check.port {
        Some(port) => format!("check {check} at port {port}: {why}"),
        None => format!("check {check}: {why}"),
    }
    .into())
}

async fn attempt(
    addr: &BackendAddr,
    check: &Check,
    header: &[u8],
    to: Option<&ToBackends>,
) -> Result<(), String> {
    match addr {
        BackendAddr::Ip(ip, Some(port)) => {
            let addr = SocketAddr::new(*ip, *port);
            let stream = connect(addr, to).await.map_err(io_reason)?;
            if stream.local_addr().is_ok_and(|local| local == addr) {
                // On one's own host a connection to a free port can meet itself: RFC 9293 §3.5,
                // simultaneous open.
                return Err("connection refused".into());
            }
            talk(stream, &addr.to_string(), check, header).await
        }
        BackendAddr::Unix(path) => {
            let stream = UnixStream::connect(&**path).await.map_err(io_reason)?;
            talk(stream, "localhost", check, header).await
        }
        BackendAddr::Ip(_, None) => Err("no port to check".into()),
    }
}

async fn talk<S>(mut stream: S, here: &str, check: &Check, header: &[u8]) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    stream.write_all(header).await.map_err(io_reason)?;
    match &check.kind {
        CheckKind::Tcp => Ok(()),
        CheckKind::Http { path, host, status } => {
            let host = host.as_ref().map_or(here, CheckHost::as_str);
            exchange(stream, path, host, status).await
        }
    }
}

/// Asks for a path and judges the status of the answer.
async fn exchange<S>(
    stream: S,
    path: &CheckPath,
    host: &str,
    status: &StatusSet,
) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let request = Request::get(path.as_str())
        .header(header::HOST, host)
        .header(header::USER_AGENT, "plimsoll-check")
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(MAX_READ)
        .max_headers(MAX_HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(http_reason)?;
    let question = async move {
        let answer = sender.send_request(request).await.map_err(http_reason)?;
        let code = answer.status().as_u16();
        // What follows the status changes nothing.
        let _ = timeout(LINGER, read_on(answer.into_body())).await;
        match status.contains(code) {
            true => Ok(()),
            false => Err(format!("status {code}")),
        }
    };
    alongside(connection, question).await
}

/// Drives a connection while a question is asked on it.
async fn alongside<T>(connection: impl Future, question: impl Future<Output = T>) -> T {
    tokio::pin!(connection, question);
    tokio::select! {
        biased;
        answer = &mut question => return answer,
        _ = &mut connection => {}
    }
    // The connection has ended: what the question waits for has come, or never will.
    question.await
}

async fn read_on<B: Body<Data = Bytes> + Unpin>(mut body: B) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read >= MAX_READ {
            return;
        }
    }
}

fn http_reason(error: hyper::Error) -> String {
    if error.is_parse() || error.is_parse_too_large() || error.is_parse_status() {
        return "the answer is not HTTP/1.1".into();
    }
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return "closed without an answer".into();
    }
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return reason(io.kind()).unwrap_or_else(|| io.to_string());
        }
        source = cause.source();
    }
    error.to_string()
}

fn io_reason(error: io::Error) -> String {
    reason(error.kind()).unwrap_or_else(|| error.to_string())
}

/// The usual ones in the words that the proxy has for them.
fn reason(kind: io::ErrorKind) -> Option<String> {
    let text = match kind {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::ConnectionReset => "connection reset",
        io::ErrorKind::HostUnreachable => "host unreachable",
        io::ErrorKind::NetworkUnreachable => "network unreachable",
        io::ErrorKind::TimedOut => "connection timed out",
        io::ErrorKind::NotFound => "no such socket",
        _ => return None,
    };
    Some(text.into())
}
