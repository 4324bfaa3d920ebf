//! HTTP/1.1 messages, read strictly and without any library: what is tested must not be judged by
//! itself.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};

/// A head is at most so long, in bytes.
const MAX_HEAD: usize = 1024 * 1024;

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;

/// Why a message could not be read.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The other side closed in the middle.
    #[error("closed {place}, after {} bytes of it: {}", .got.len(), excerpt(.got))]
    Closed {
        /// Where in the message.
        place: &'static str,
        /// What had come of that part.
        got: Vec<u8>,
    },
    /// The other side reset the connection.
    #[error("reset {place}, after {} bytes of it: {}", .got.len(), excerpt(.got))]
    Reset {
        /// Where in the message.
        place: &'static str,
        /// What had come of that part.
        got: Vec<u8>,
    },
    /// It took longer than allowed.
    #[error("timed out after {after:?}, with {} bytes unread: {}", .got.len(), excerpt(.got))]
    TimedOut {
        /// The bound.
        after: Duration,
        /// What had come and is not read yet.
        got: Vec<u8>,
    },
    /// It is not HTTP/1.1.
    #[error("malformed: {0}")]
    Malformed(String),
    /// Anything else the system says.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The beginning of some bytes, for people.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    let start = bytes.get(..bytes.len().min(120)).unwrap_or_default();
    format!("\"{}\"", start.escape_ascii())
}

/// The head of a request or response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The request line or status line.
    pub start: String,
    /// Names as they came, and values, in their order.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// Reads a head from its bytes, without the empty line.
    fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let bad = |why: &str| WireError::Malformed(format!("{why}: {}", excerpt(bytes)));
        let text = std::str::from_utf8(bytes).map_err(|_| bad("a head that is not UTF-8"))?;
        let mut lines = text.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        if !start.contains("HTTP/1.") {
            return Err(bad("no start line of HTTP/1"));
        }
        let headers = lines.map(header).collect::<Option<_>>();
        let headers = headers.ok_or_else(|| bad("a line that is no header"))?;
        Ok(Self { start, headers })
    }

    /// The status of a response.
    ///
    /// # Errors
    /// The first line is not a status line.
    pub fn status(&self) -> Result<u16, WireError> {
        let mut words = self.start.split(' ');
        let version = words.next().unwrap_or_default();
        let status = words.next().filter(|word| word.len() == 3);
        match status.and_then(|word| word.parse().ok()) {
            Some(status) if version.starts_with("HTTP/1.") => Ok(status),
            _ => Err(WireError::Malformed(format!(
                "no status line: {:?}",
                self.start
            ))),
        }
    }

    /// The method of a request.
    pub fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    /// The target of a request.
    pub fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// The first header of this name, in any case of letters.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All headers of this name, in any case of letters.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Whether a header that is a list holds this word.
    pub fn has_word(&self, name: &str, word: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(','))
            .any(|other| other.trim().eq_ignore_ascii_case(word))
    }

    /// How the body is framed (RFC 9112 §6.3). `method` is that of the request that a response
    /// answers; none means this is a request itself.
    pub(crate) fn framing(&self, method: Option<&str>) -> Result<Framing, WireError> {
        if let Some(method) = method {
            let status = self.status()?;
            if method == "HEAD" || status < 200 || status == 204 || status == 304 {
                return Ok(Framing::Length(0));
            }
        }
        let mut lengths = self.all("content-length");
        let length = lengths.next();
        if lengths.any(|other| Some(other) != length) {
            return Err(WireError::Malformed(
                "several lengths that differ".to_owned(),
            ));
        }
        if self.has_word("transfer-encoding", "chunked") {
            if length.is_some() {
                let both = "both Content-Length and Transfer-Encoding";
                return Err(WireError::Malformed(both.to_owned()));
            }
            return Ok(Framing::Chunked);
        }
        match length {
            Some(length) => length
                .parse()
                .map(Framing::Length)
                .map_err(|_| WireError::Malformed(format!("Content-Length: {length}"))),
            None if method.is_some() => Ok(Framing::Close),
            None => Ok(Framing::Length(0)),
        }
    }
}

/// Splits a header line (RFC 9112 §5: no space before the colon, no folding).
fn header(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    (!name.is_empty() && name.chars().all(token))
        .then(|| (name.to_owned(), value.trim().to_owned()))
}

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
    Close,
}

/// A body with what came behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// The payload, unchunked.
    pub bytes: Vec<u8>,
    /// The trailers of a chunked body.
    pub trailers: Vec<(String, String)>,
}

/// A whole response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Its head.
    pub head: Head,
    /// Its body.
    pub body: Body,
    /// Responses of 1xx that came before it, 101 excepted: that is a final one.
    pub interim: Vec<Head>,
}

impl Response {
    /// The body as text, for people.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body.bytes).into_owned()
    }

    /// Whether the connection ends with this response.
    pub fn closes(&self) -> bool {
        self.head.has_word("connection", "close")
            || (self.head.start.starts_with("HTTP/1.0")
                && !self.head.has_word("connection", "keep-alive"))
    }
}

/// A stream of messages, with what was received but not read yet.
#[derive(Debug)]
pub(crate) struct Wire<S> {
    pub(crate) stream: S,
    pub(crate) buffer: Vec<u8>,
}

impl<S: AsyncRead + Unpin> Wire<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Receives more; 0 is the end. May be cancelled without loss.
    pub(crate) async fn fill(&mut self) -> io::Result<usize> {
        self.buffer.reserve(CHUNK);
        self.stream.read_buf(&mut self.buffer).await
    }

    /// Receives more, or says what was cut off.
    async fn more(&mut self, place: &'static str) -> Result<(), WireError> {
        match self.fill().await {
            Ok(0) => Err(WireError::Closed {
                place,
                got: std::mem::take(&mut self.buffer),
            }),
            Ok(_) => Ok(()),
            Err(error) if is_reset(&error) => Err(WireError::Reset {
                place,
                got: std::mem::take(&mut self.buffer),
            }),
            Err(error) => Err(error.into()),
        }
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.buffer.split_off(count.min(self.buffer.len()));
        std::mem::replace(&mut self.buffer, rest)
    }

    /// Reads up to a mark and takes the mark away. May be cancelled without loss.
    async fn until(
        &mut self,
        mark: &[u8],
        most: usize,
        place: &'static str,
    ) -> Result<Vec<u8>, WireError> {
        let mut searched: usize = 0;
        loop {
            let from = searched.saturating_sub(mark.len());
            let found = self
                .buffer
                .get(from..)
                .unwrap_or_default()
                .windows(mark.len())
                .position(|window| window == mark);
            if let Some(position) = found {
                let mut part = self.take(from + position + mark.len());
                part.truncate(from + position);
                return Ok(part);
            }
            searched = self.buffer.len();
            if searched > most {
                return Err(WireError::Malformed(format!(
                    "more than {most} bytes {place}"
                )));
            }
            self.more(place).await?;
        }
    }

    /// Reads a head. [`WireError::Closed`] with nothing got is a close between messages. May be
    /// cancelled without loss.
    pub(crate) async fn head(&mut self) -> Result<Head, WireError> {
        Head::parse(&self.until(b"\r\n\r\n", MAX_HEAD, "in the head").await?)
    }

    /// Reads a line that ends with a line feed, which is taken away.
    pub(crate) async fn line(&mut self) -> Result<String, WireError> {
        let line = self.until(b"\n", MAX_HEAD, "in a line").await?;
        String::from_utf8(line).map_err(|error| WireError::Malformed(excerpt(error.as_bytes())))
    }

    /// Reads so many bytes.
    pub(crate) async fn exactly(&mut self, count: usize) -> Result<Vec<u8>, WireError> {
        while self.buffer.len() < count {
            self.more("in the body").await?;
        }
        Ok(self.take(count))
    }

    /// Reads a body.
    pub(crate) async fn body(&mut self, framing: Framing) -> Result<Body, WireError> {
        match framing {
            Framing::Length(length) => Ok(Body {
                bytes: self.exactly(length).await?,
                trailers: Vec::new(),
            }),
            Framing::Chunked => self.chunked().await,
            Framing::Close => loop {
                match self.more("in the body").await {
                    Ok(()) => {}
                    Err(WireError::Closed { got, .. }) => {
                        return Ok(Body {
                            bytes: got,
                            trailers: Vec::new(),
                        });
                    }
                    Err(error) => return Err(error),
                }
            },
        }
    }

    /// RFC 9112 §7.1.
    async fn chunked(&mut self) -> Result<Body, WireError> {
        let mut body = Body::default();
        loop {
            let line = self.until(b"\r\n", MAX_HEAD, "in a chunk's size").await?;
            let text = String::from_utf8_lossy(&line);
            let size = text.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16)
                .map_err(|_| WireError::Malformed(format!("chunk size {text:?}")))?;
            if size == 0 {
                break;
            }
            let mut chunk = self.exactly(size).await?;
            body.bytes.append(&mut chunk);
            if self.exactly(2).await? != b"\r\n" {
                return Err(WireError::Malformed("a chunk that does not end".to_owned()));
            }
        }
        loop {
            let line = self.until(b"\r\n", MAX_HEAD, "in the trailers").await?;
            if line.is_empty() {
                return Ok(body);
            }
            let line = String::from_utf8_lossy(&line).into_owned();
            let trailer = header(&line);
            body.trailers
                .push(trailer.ok_or_else(|| WireError::Malformed(format!("trailer {line:?}")))?);
        }
    }

    /// Reads a whole response to a request of this method.
    pub(crate) async fn response(&mut self, method: &str) -> Result<Response, WireError> {
        let mut interim = Vec::new();
        loop {
            let head = self.head().await?;
            let status = head.status()?;
            if (100..200).contains(&status) && status != 101 {
                interim.push(head);
                continue;
            }
            let body = self.body(head.framing(Some(method))?).await?;
            return Ok(Response {
                status,
                head,
                body,
                interim,
            });
        }
    }
}

/// Whether the other side, or the way to it, cut the connection off.
pub(crate) fn is_reset(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn response(bytes: &[u8], method: &str) -> Result<Response, WireError> {
        Wire::new(bytes).response(method).await
    }

    #[tokio::test]
    async fn framings_are_told_apart() {
        let got = response(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd", "GET")
            .await
            .unwrap();
        assert_eq!(got.body.bytes, b"abc");
        let got = response(b"HTTP/1.1 200 OK\r\n\r\nabcd", "GET")
            .await
            .unwrap();
        assert_eq!(got.body.bytes, b"abcd");
        let got = response(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "HEAD")
            .await
            .unwrap();
        assert_eq!(got.body.bytes, b"");
        let chunked = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\
            \r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nSum: 7\r\n\r\n";
        let got = response(chunked, "GET").await.unwrap();
        assert_eq!(got.body.bytes, b"abc0123456789");
        assert_eq!(got.body.trailers, [("Sum".to_owned(), "7".to_owned())]);
        assert_eq!(got.interim.len(), 1);
    }

    #[tokio::test]
    async fn what_is_cut_off_or_wrong_is_an_error() {
        let short = response(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", "GET").await;
        assert!(matches!(short, Err(WireError::Closed { got, .. }) if got == b"ab"));
        let head = response(b"HTTP/1.1 200 OK\r\nContent-", "GET").await;
        assert!(matches!(head, Err(WireError::Closed { .. })));
        let chunk = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
        assert!(matches!(
            response(chunk, "GET").await,
            Err(WireError::Closed { .. })
        ));
        for bad in [
            b"SSH-2.0-x\r\n\r\n".as_slice(),
            b"HTTP/1.1 2000 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nname : x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        ] {
            let got = response(bad, "GET").await;
            assert!(matches!(got, Err(WireError::Malformed(_))), "{got:?}");
        }
    }
}
