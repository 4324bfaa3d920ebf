//! One connection to the engine.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::error::{EngineError, innermost};
use super::host::{EngineHost, Place, Tls};
use super::tls;

/// A connection, the handshake of TLS included, may take so long.
const CONNECT: Duration = Duration::from_secs(5);

/// The two ends of a TCP connection to an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Ours.
    pub local: IpAddr,
    /// The engine's.
    pub peer: IpAddr,
}

/// A connection to an engine on which requests go one after the other. It is open for as long as
/// this value, or the body of an answer, is there.
#[derive(Debug)]
pub struct Connection {
    host: Arc<str>,
    requests: SendRequest<Empty<Bytes>>,
    ends: Option<Ends>,
}

impl Connection {
    /// Connects to an engine within 5 seconds, with TLS if it says so. Must be called within a
    /// tokio runtime, which drives the connection.
    ///
    /// # Errors
    /// [`EngineError::Connect`] says what is in the way and what to do.
    pub async fn open(host: &EngineHost) -> Result<Self, EngineError> {
        let name: Arc<str> = host.to_string().into();
        let late = || EngineError::Connect {
            host: Arc::clone(&name),
            why: format!("no connection within {CONNECT:?}"),
        };
        let opened = timeout(CONNECT, Self::connect(host, &name)).await;
        opened.unwrap_or_else(|_| Err(late()))
    }

    async fn connect(host: &EngineHost, name: &Arc<str>) -> Result<Self, EngineError> {
        let fail = |why: String| EngineError::Connect {
            host: Arc::clone(name),
            why,
        };
        let (stream, ends) = match &host.place {
            Place::Unix(path) => (unix(path, name).await?, None),
            Place::Tcp { host: peer, port } => {
                let (stream, ends) = tcp(peer, host.port(*port)).await.map_err(fail)?;
                let stream = match &host.tls {
                    Some(tls) => encrypted(stream, peer, tls.clone()).await.map_err(fail)?,
                    None => Stream(Box::new(stream)),
                };
                (stream, Some(ends))
            }
        };
        let shaken = http1::handshake(TokioIo::new(stream)).await;
        let (requests, connection) = shaken.map_err(|error| fail(innermost(&error)))?;
        // It ends when the last request and the last body are gone; whoever waits for an answer is
        // told what went wrong.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self {
            host: Arc::clone(name),
            requests,
            ends,
        })
    }

    /// Sends a request without a body, once the answer before has been read to its end; the answer's
    /// body is a stream. `target` is the path and what follows it. No time-out: whoever calls sets
    /// one.
    ///
    /// # Errors
    /// The target is none, or the connection broke.
    pub async fn send(
        &mut self,
        method: Method,
        target: &str,
    ) -> Result<Response<Incoming>, EngineError> {
        let broken = |why: String| EngineError::Broken {
            host: Arc::clone(&self.host),
            path: target.to_owned(),
            why,
        };
        let mut request = Request::new(Empty::new());
        *request.method_mut() = method;
        *request.uri_mut() = target.parse().map_err(|error| broken(format!("{error}")))?;
        let headers = request.headers_mut();
        // The name is of no use to the engine, but HTTP/1.1 wants one (RFC 9112 §3.2).
        headers.insert(header::HOST, HeaderValue::from_static("docker"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static("plimsoll"));
        let ready = self.requests.ready().await;
        ready.map_err(|error| broken(explain(&error)))?;
        let sent = self.requests.send_request(request).await;
        sent.map_err(|error| broken(explain(&error)))
    }

    /// Whether nothing can be sent on it any more.
    pub fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }

    /// The addresses of a TCP connection.
    pub fn ends(&self) -> Option<Ends> {
        self.ends
    }
}

/// Why there was no answer.
fn explain(error: &hyper::Error) -> String {
    if error.is_parse() {
        return format!("it does not answer in HTTP ({error}): is this a Docker Engine?");
    }
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return "it closed the connection before it answered".into();
    }
    innermost(error)
}

async fn unix(path: &Path, host: &Arc<str>) -> Result<Stream, EngineError> {
    let stream = UnixStream::connect(path).await;
    let stream = stream.map_err(|error| EngineError::socket(Arc::clone(host), path, &error))?;
    Ok(Stream(Box::new(stream)))
}

async fn tcp(host: &str, port: u16) -> Result<(TcpStream, Ends), String> {
    let found = tokio::net::lookup_host((host, port)).await;
    let found = found.map_err(|error| {
        format!("the name `{host}` cannot be resolved ({error}): check the engine's address (DOCKER_HOST, --docker, or host in [docker]), or \
             write numbers instead of the name")
    })?;
    let mut why = format!("the name `{host}` has no address");
    for address in found {
        match TcpStream::connect(address)
            .await
            .and_then(|stream| Ok((ends(&stream)?, stream)))
        {
            Ok((ends, stream)) => {
                // Requests are small and wait for answers.
                let _best_effort = stream.set_nodelay(true);
                return Ok((stream, ends));
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                why = format!(
                    "nobody listens on {address}: is the engine running, and told to listen there (`dockerd -H`)?"
                );
            }
            Err(error) => why = format!("{address}: {error}"),
        }
    }
    Err(why)
}

fn ends(stream: &TcpStream) -> std::io::Result<Ends> {
    let plain = |address: SocketAddr| address.ip().to_canonical();
    Ok(Ends {
        local: plain(stream.local_addr()?),
        peer: plain(stream.peer_addr()?),
    })
}

async fn encrypted(stream: TcpStream, host: &str, tls: Tls) -> Result<Stream, String> {
    let read = tokio::task::spawn_blocking(move || tls::client(&tls)).await;
    let config = read.map_err(|_| "stopping".to_owned())?;
    let config = config.map_err(|error| error.to_string())?;
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, stream).await;
    Ok(Stream(Box::new(stream.map_err(|error| innermost(&error))?)))
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A Unix socket, a TCP connection, or TLS on one.
struct Stream(Box<dyn Duplex>);

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
