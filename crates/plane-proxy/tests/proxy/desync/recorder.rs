//! A backend that writes down what it is sent.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::wire::request;
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
