//! A backend that writes down what it is sent, read as strictly as can be and with no parser of the
//! plane's or the kit's.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::Scripted;

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// A whole request.
    Whole(Asked),
    /// The first line of one whose body has no end.
    Broken(String),
    /// What is not a request.
    Bad(String),
}

/// A whole request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// Which connection it came by, counted from 0.
    pub(super) conn: u64,
    /// Method, target and the length of the body.
    pub(super) what: String,
    /// Names in lower case, and values.
    pub(super) fields: Vec<(String, String)>,
}

/// What a connection does instead of answering its first request as usual.
#[derive(Clone, Debug)]
pub(super) struct Script {
    /// The pieces to send.
    pub(super) pieces: Vec<Vec<u8>>,
    /// Close behind them.
    pub(super) close: bool,
}

#[derive(Default)]
struct Book {
    seen: Vec<Seen>,
    scripts: VecDeque<Script>,
    conns: u64,
    /// First lines of requests whose bodies may have no end.
    allowed: Vec<String>,
}

pub(super) struct Recorder {
    backend: Scripted,
    book: Arc<Mutex<Book>>,
}

impl Recorder {
    pub(super) async fn start() -> Self {
        let book = Arc::new(Mutex::new(Book::default()));
        let of_backend = book.clone();
        let backend = Scripted::start(move |stream| serve(stream, of_backend.clone())).await;
        Self { backend, book }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.backend.address
    }

    /// The next request is answered so.
    pub(super) fn script(&self, script: Script) {
        self.book.lock().unwrap().scripts.push_back(script);
    }

    /// From here on requests that begin so may break off. When they do is not known: a case may be
    /// over before its backend notices.
    pub(super) fn allow(&self, line: &str) {
        self.book.lock().unwrap().allowed.push(line.to_owned());
    }

    /// What came since this was asked last.
    pub(super) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.book.lock().unwrap().seen)
    }
}

async fn serve(mut stream: TcpStream, book: Arc<Mutex<Book>>) {
    let _ = stream.set_nodelay(true);
    let conn = {
        let mut book = book.lock().unwrap();
        book.conns += 1;
        book.conns - 1
    };
    let note = |seen| book.lock().unwrap().seen.push(seen);
    let mut buffer = Vec::new();
    let mut continued = false;
    loop {
        match request(&buffer) {
            Ok(Some((asked, used))) => {
                buffer.drain(..used);
                let what = asked.what();
                note(Seen::Whole(Asked {
                    conn,
                    what: what.clone(),
                    fields: asked.fields,
                }));
                continued = false;
                let script = book.lock().unwrap().scripts.pop_front();
                let close = match script {
                    None => {
                        let length = what.len();
                        let body = if asked.method == "HEAD" { "" } else { &what };
                        let answer = format!(
                            "HTTP/1.1 200 OK\r\nX-Seen: {what}\r\nContent-Length: {length}\r\n\r\n{body}"
                        );
                        stream.write_all(answer.as_bytes()).await.is_err()
                    }
                    Some(script) => play(&mut stream, &script).await,
                };
                if close {
                    return;
                }
            }
            Err(why) => return note(Seen::Bad(format!("{why}: {}", buffer.escape_ascii()))),
            Ok(None) => {
                let expects = buffer.windows(12).any(|w| w == b"100-continue");
                if expects && !continued && buffer.windows(4).any(|w| w == b"\r\n\r\n") {
                    continued = true;
                    let _ = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await;
                }
                if let Ok(0) | Err(_) = stream.read_buf(&mut buffer).await {
                    if !buffer.is_empty() {
                        let line = buffer.split(|b| *b == b'\r').next().unwrap_or_default();
                        let line = String::from_utf8_lossy(line).replace(" HTTP/1.1", "");
                        let allowed = book.lock().unwrap().allowed.contains(&line);
                        if !allowed {
                            note(Seen::Broken(line));
                        }
                    }
                    return;
                }
            }
        }
    }
}

/// Whether to close.
async fn play(stream: &mut TcpStream, script: &Script) -> bool {
    for piece in &script.pieces {
        if stream.write_all(piece).await.is_err() {
            return true;
        }
        super::breathe(script.pieces.len()).await;
    }
    script.close
}

struct Parsed {
    method: String,
    target: String,
    body: usize,
    fields: Vec<(String, String)>,
}

impl Parsed {
    fn what(&self) -> String {
        format!("{} {} {}", self.method, self.target, self.body)
    }
}

/// A request at the beginning of these bytes and its length; none if it is not whole.
fn request(bytes: &[u8]) -> Result<Option<(Parsed, usize)>, String> {
    let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
        return Ok(None);
    };
    // Fields may have bytes that are no UTF-8; one char for each.
    let head: String = bytes[..end].iter().map(|b| char::from(*b)).collect();
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let words: Vec<&str> = first.split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else {
        return Err(format!("first line {first:?}"));
    };
    let mut fields = Vec::new();
    for line in lines {
        if line.contains(['\r', '\n', '\0']) {
            return Err(format!("line {line:?}"));
        }
        let (name, value) = line.split_once(':').ok_or(format!("line {line:?}"))?;
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(token) {
            return Err(format!("name {name:?}"));
        }
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let all = |wanted: &str| -> Vec<&str> {
        let named = fields.iter().filter(|(name, _)| name == wanted);
        named.map(|(_, value)| value.as_str()).collect()
    };
    if all("host").len() != 1 {
        return Err("not one Host".to_owned());
    }
    let (lengths, codings) = (all("content-length"), all("transfer-encoding"));
    let body = end + 4;
    let (length, used) = match (&lengths[..], &codings[..]) {
        ([], []) => (0, body),
        ([length], []) if length.bytes().all(|b| b.is_ascii_digit()) => {
            let length: usize = length.parse().map_err(|_| "a length".to_owned())?;
            if bytes.len() < body + length {
                return Ok(None);
            }
            (length, body + length)
        }
        ([], ["chunked"]) => match chunks(&bytes[body..])? {
            Some((length, used)) => (length, body + used),
            None => return Ok(None),
        },
        both => return Err(format!("framed by {both:?}")),
    };
    let (method, target) = (method.to_owned(), target.to_owned());
    let parsed = Parsed {
        method,
        target,
        body: length,
        fields,
    };
    Ok(Some((parsed, used)))
}

/// The payload's length and that of all chunks and trailers; none if they are not whole.
fn chunks(bytes: &[u8]) -> Result<Option<(usize, usize)>, String> {
    let (mut at, mut length) = (0, 0);
    let line = |at: usize| bytes[at..].windows(2).position(|w| w == b"\r\n");
    loop {
        let Some(end) = line(at) else {
            return Ok(None);
        };
        let digits = std::str::from_utf8(&bytes[at..at + end]).map_err(|e| e.to_string())?;
        let size = usize::from_str_radix(digits, 16).map_err(|e| format!("{digits:?}: {e}"))?;
        at += end + 2;
        if size == 0 {
            break;
        }
        length += size;
        match bytes.get(at + size..at + size + 2) {
            None => return Ok(None),
            Some(b"\r\n") => at += size + 2,
            Some(_) => return Err("a chunk without its end".to_owned()),
        }
    }
    loop {
        let Some(end) = line(at) else {
            return Ok(None);
        };
        at += end + 2;
        if end == 0 {
            return Ok(Some((length, at)));
        }
    }
}
