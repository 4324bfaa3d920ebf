//! A connection of the counting client: one request, one answer, checked.

use rustix::io::Errno;
use rustix::net::RecvFlags;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::{ClientPlan, Protocol};
use crate::exchange::Ask;
use crate::payload::{self, BACKEND_HEADER, ID_HEADER, WANT_HEADER};
use crate::wire::{Response, Wire, excerpt};

/// A connection that is about to be closed has so long to show that nothing more comes.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// A request.
pub(crate) struct Request {
    pub(crate) id: String,
    /// Bytes of the body of a POST, or of a TCP exchange; none is a GET.
    pub(crate) post: Option<usize>,
    /// Bytes the answer shall have.
    pub(crate) want: usize,
    /// Whether it is the last one on its connection.
    pub(crate) last: bool,
}

/// An answer that was right.
pub(crate) struct Answered {
    pub(crate) backend: String,
    /// Whether the connection is at its end.
    pub(crate) closes: bool,
}

/// What a look at an idle connection shows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Quiet,
    Closed,
    Bytes,
}

/// A connection.
pub(crate) struct Conn {
    wire: Wire<TcpStream>,
}

impl Conn {
    pub(crate) async fn open(plan: &ClientPlan) -> Result<Self, String> {
        match plan.place.connect(plan.target).await {
            Ok(stream) => Ok(Self {
                wire: Wire::new(stream),
            }),
            Err(error) => Err(format!("cannot connect: {error}")),
        }
    }

    /// Looks, without waiting, whether something happened that nobody asked for.
    pub(crate) fn look(&self) -> Look {
        if !self.wire.buffer.is_empty() {
            return Look::Bytes;
        }
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        match rustix::net::recv(&self.wire.stream, &mut [0; 1], flags) {
            Ok((_, 0)) => Look::Closed,
            Ok(_) => Look::Bytes,
            Err(Errno::AGAIN | Errno::INTR) => Look::Quiet,
            Err(_) => Look::Closed,
        }
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn request(
        &mut self,
        plan: &ClientPlan,
        request: &Request,
    ) -> Result<Answered, String> {
        let exchange = async {
            match &plan.protocol {
                Protocol::Http { host, path } => self.http(plan, host, path, request).await,
                Protocol::Tcp => self.tcp(request).await,
            }
        };
        match tokio::time::timeout(plan.bound, exchange).await {
            Ok(result) => result,
            Err(_) => Err(format!(
                "no whole answer within {:?}; unread: {}",
                plan.bound,
                excerpt(&self.wire.buffer)
            )),
        }
    }

    async fn tcp(&mut self, request: &Request) -> Result<Answered, String> {
        let ask = Ask::new(&request.id, request.want);
        self.send(&ask.bytes()).await?;
        Ok(Answered {
            backend: ask.read_answer(&mut self.wire).await?,
            closes: false,
        })
    }

    async fn http(
        &mut self,
        plan: &ClientPlan,
        host: &str,
        path: &str,
        request: &Request,
    ) -> Result<Answered, String> {
        let Request { id, want, .. } = request;
        let method = if request.post.is_some() {
            "POST"
        } else {
            "GET"
        };
        let sent = payload::filler(id, request.post.unwrap_or(0));
        let mut bytes = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{ID_HEADER}: {id}\r\n{WANT_HEADER}: {want}\r\n"
        )
        .into_bytes();
        if request.last {
            bytes.extend_from_slice(b"Connection: close\r\n");
        }
        match request.post {
            None => bytes.extend_from_slice(b"\r\n"),
            Some(_) if plan.chunked => {
                bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                for chunk in sent.chunks(1000) {
                    bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    bytes.extend_from_slice(chunk);
                    bytes.extend_from_slice(b"\r\n");
                }
                bytes.extend_from_slice(b"0\r\n\r\n");
            }
            Some(length) => {
                bytes.extend_from_slice(format!("Content-Length: {length}\r\n\r\n").as_bytes());
                bytes.extend_from_slice(&sent);
            }
        }
        self.send(&bytes).await?;
        let response = self
            .wire
            .response(method)
            .await
            .map_err(|error| error.to_string())?;
        let backend = check(plan, request, method, &sent, &response)?;
        if !self.wire.buffer.is_empty() {
            return Err(format!(
                "bytes behind the answer: {}",
                excerpt(&self.wire.buffer)
            ));
        }
        Ok(Answered {
            backend,
            closes: response.closes(),
        })
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.wire
            .stream
            .write_all(bytes)
            .await
            .map_err(|error| format!("cannot send: {error}"))
    }

    /// Closes, and makes sure that nothing comes that nobody asked for.
    pub(crate) async fn close(mut self) -> Result<(), String> {
        // The other side may have closed before.
        let _finished = self.wire.stream.shutdown().await;
        let end = async { while let Ok(1..) = self.wire.fill().await {} };
        // Some leave the connection open for longer: nothing has come of it in that time.
        let _ended = tokio::time::timeout(LAST_LOOK, end).await;
        if self.wire.buffer.is_empty() {
            Ok(())
        } else {
            Err(format!(
                "bytes behind the last answer: {}",
                excerpt(&self.wire.buffer)
            ))
        }
    }
}

/// Compares a response with what it must be; the backend it comes from.
fn check(
    plan: &ClientPlan,
    request: &Request,
    method: &str,
    sent: &[u8],
    response: &Response,
) -> Result<String, String> {
    if response.status != plan.status {
        let body = excerpt(&response.body.bytes);
        return Err(format!(
            "status {} instead of {}: {body}",
            response.status, plan.status
        ));
    }
    let ids: Vec<&str> = response.head.all(ID_HEADER).collect();
    if ids != [request.id.as_str()] {
        return Err(format!("the answer to {ids:?} instead of {:?}", request.id));
    }
    let mut backends = response.head.all(BACKEND_HEADER);
    let (Some(backend), None) = (backends.next(), backends.next()) else {
        return Err(format!("not exactly one {BACKEND_HEADER}"));
    };
    let must = payload::answer(backend, method, &request.id, sent, request.want);
    payload::compare(&response.body.bytes, &must)?;
    Ok(backend.to_owned())
}
