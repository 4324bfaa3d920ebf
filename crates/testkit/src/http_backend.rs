//! An HTTP server that behaves as told.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use crate::Place;
use crate::http_behaviour::{Answer, Continue, HttpBehaviour, Phase};
use crate::payload::{self, BACKEND_HEADER, ID_HEADER, WANT_HEADER};
use crate::server::{Accepted, Counters, Ending, Serve, Server, Stats, lock};
use crate::wire::{Body, Framing, Head, WireError};

/// So many of the last requests are kept to be looked at.
const KEPT: usize = 1000;

/// A request as it reached a backend.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its head.
    pub head: Head,
    /// The length of its body, and its trailers; none if the body was not read to its end.
    pub body: Option<(usize, Vec<(String, String)>)>,
    /// Who sent it.
    pub peer: SocketAddr,
}

/// An HTTP/1.1 server that answers each request with its own id and the request's, in head and
/// body, and misbehaves as it is told. It stops when it is dropped.
pub struct HttpBackend {
    server: Server,
    shared: Arc<Shared>,
}

struct Shared {
    id: String,
    behaviour: watch::Sender<Arc<HttpBehaviour>>,
    adjust: OnceLock<Adjust>,
    counters: Arc<Counters>,
    seen: Mutex<VecDeque<Seen>>,
}

/// Changes the behaviour for one request.
type Adjust = Box<dyn Fn(&Head, &mut HttpBehaviour) + Send + Sync>;

impl HttpBackend {
    /// Starts one on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// It cannot listen.
    pub fn start(id: &str) -> io::Result<Self> {
        Self::start_at(id, &Place::Here, (Ipv4Addr::LOCALHOST, 0).into())
    }

    /// Starts one at an address of a place; port 0 is any free one.
    ///
    /// # Errors
    /// It cannot listen.
    pub fn start_at(id: &str, place: &Place, address: SocketAddr) -> io::Result<Self> {
        let counters = Arc::new(Counters::default());
        let shared = Arc::new(Shared {
            id: id.to_owned(),
            behaviour: watch::Sender::new(Arc::default()),
            adjust: OnceLock::new(),
            counters: Arc::clone(&counters),
            seen: Mutex::default(),
        });
        let handler: Arc<dyn Serve> = Arc::clone(&shared) as _;
        let server = Server::start(place.clone(), address, counters, handler)?;
        Ok(Self { server, shared })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Its name in the answers.
    pub fn id(&self) -> &str {
        &self.shared.id
    }

    /// Its counts.
    pub fn stats(&self) -> Stats {
        self.server.stats()
    }

    /// The last requests, up to 1000, the oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).iter().cloned().collect()
    }

    /// Behaves so from the next request on; idle connections take it at once.
    pub fn behave(&self, behaviour: HttpBehaviour) {
        self.shared.behaviour.send_replace(Arc::new(behaviour));
    }

    /// Lets this change the behaviour for each request by itself, on top of [`Self::behave`]. It can
    /// be set once; another is ignored.
    pub fn adjust(&self, by: impl Fn(&Head, &mut HttpBehaviour) + Send + Sync + 'static) {
        // As said.
        let _ignored = self.shared.adjust.set(Box::new(by));
    }

    /// Closes the listener: connections are refused from when this returns. Open ones stay.
    pub async fn refuse(&self) {
        self.server.refuse().await;
    }

    /// Listens again, at the same address.
    ///
    /// # Errors
    /// It cannot listen.
    pub fn listen_again(&self) -> io::Result<()> {
        self.server.listen_again()
    }

    /// Ends all connections and closes the listener, as when its process is killed; back when they
    /// are gone.
    pub async fn kill(&self, ending: Ending) {
        self.server.kill(ending).await;
    }
}

impl Serve for Shared {
    fn serve<'a>(
        &'a self,
        conn: &'a mut Accepted,
    ) -> Pin<Box<dyn Future<Output = Ending> + Send + 'a>> {
        Box::pin(async move {
            if let Answer::Cut(Phase::Accept, ending) = self.behaviour.borrow().answer {
                return ending;
            }
            let mut served = 0;
            loop {
                match self.request(conn, served).await {
                    Ok(Then::Next) => served += 1,
                    Ok(Then::End(ending)) => return ending,
                    Err(_) => return Ending::Close,
                }
            }
        })
    }
}

/// What happens after a request.
enum Then {
    Next,
    End(Ending),
}

impl Shared {
    /// Waits for the head of the next request; none when the connection has been idle too long.
    async fn next_head(&self, conn: &mut Accepted) -> Result<Option<Head>, WireError> {
        let mut changes = self.behaviour.subscribe();
        loop {
            let idle = changes.borrow_and_update().idle;
            tokio::select! {
                // What has come before the time was over is served.
                biased;
                head = conn.wire.head() => return head.map(Some),
                () = sleep(idle), if conn.wire.buffer.is_empty() => return Ok(None),
                _ = changes.changed() => {}
            }
        }
    }

    async fn request(&self, conn: &mut Accepted, served: u32) -> Result<Then, WireError> {
        let Some(head) = self.next_head(conn).await? else {
            return Ok(Then::End(Ending::Close));
        };
        let _active = self.counters.request();
        let mut behaviour = Arc::clone(&self.behaviour.borrow());
        if let Some(adjust) = self.adjust.get() {
            adjust(&head, Arc::make_mut(&mut behaviour));
        }
        self.remember(&head, None, conn.peer);
        if head.get("upgrade").is_some() && behaviour.upgrade {
            return self.upgrade(conn, &head).await;
        }
        let framing = head.framing(None)?;
        let early = matches!(behaviour.answer, Answer::Early { .. });
        if head.has_word("expect", "100-continue") && !early {
            match behaviour.expect {
                Continue::Send => send(conn, b"HTTP/1.1 100 Continue\r\n\r\n").await?,
                Continue::Ignore => {}
                Continue::Refuse => {
                    let refusal = b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\
                                    Connection: close\r\n\r\n";
                    send(conn, refusal).await?;
                    return Ok(Then::End(Ending::Close));
                }
            }
        }
        let body = if early {
            Body::default()
        } else {
            self.body(conn, &head, framing).await?
        };
        tokio::time::sleep(behaviour.delay).await;
        let reply = Reply::new(&self.id, &behaviour, &head, &body.bytes);
        match self.answer(conn, &behaviour, &reply).await? {
            Then::Next if early && behaviour.answer == (Answer::Early { read_body: false }) => {
                return Ok(Then::End(Ending::Close));
            }
            Then::Next => {}
            end @ Then::End(_) => return Ok(end),
        }
        if early {
            self.body(conn, &head, framing).await?;
        }
        let enough = behaviour.close_after.is_some_and(|most| served + 1 >= most);
        let close = enough || behaviour.announce_close || head.has_word("connection", "close");
        Ok(if close {
            Then::End(Ending::Close)
        } else {
            Then::Next
        })
    }

    async fn body(
        &self,
        conn: &mut Accepted,
        head: &Head,
        framing: Framing,
    ) -> Result<Body, WireError> {
        let body = conn.wire.body(framing).await?;
        self.remember(head, Some(&body), conn.peer);
        Ok(body)
    }

    /// Notes a request; with its body, in the place of its head alone.
    fn remember(&self, head: &Head, body: Option<&Body>, peer: SocketAddr) {
        let mut seen = lock(&self.seen);
        let body = body.map(|body| (body.bytes.len(), body.trailers.clone()));
        if body.is_some() {
            let same = |one: &&mut Seen| one.peer == peer && one.head == *head;
            if let Some(noted) = seen.iter_mut().rev().find(same) {
                noted.body = body;
                return;
            }
        }
        if seen.len() >= KEPT {
            seen.pop_front();
        }
        let head = head.clone();
        seen.push_back(Seen { head, body, peer });
    }

    async fn answer(
        &self,
        conn: &mut Accepted,
        behaviour: &HttpBehaviour,
        reply: &Reply,
    ) -> Result<Then, WireError> {
        let length = reply.body.len();
        let whole = || [reply.head(Some(length)).as_slice(), &reply.body].concat();
        match &behaviour.answer {
            Answer::Length | Answer::Early { .. } | Answer::Mixed(_) => {
                send(conn, &whole()).await?;
            }
            Answer::Doubled => send(conn, &whole().repeat(2)).await?,
            Answer::Chunked { chunk, trailers } => {
                send(conn, &reply.chunked((*chunk).max(1), trailers)).await?;
            }
            Answer::UntilClose => {
                send(conn, &[reply.head(None).as_slice(), &reply.body].concat()).await?;
                return Ok(Then::End(Ending::Close));
            }
            Answer::Slow { piece, pause } => {
                send(conn, &reply.head(Some(length))).await?;
                for piece in reply.body.chunks((*piece).max(1)) {
                    tokio::time::sleep(*pause).await;
                    send(conn, piece).await?;
                }
            }
            Answer::Never => return Ok(Then::End(until_gone(conn).await)),
            Answer::Garbage(bytes) => {
                send(conn, bytes).await?;
                return Ok(Then::End(until_gone(conn).await));
            }
            Answer::TooMuch(more) => {
                let head = reply.head(Some(length.saturating_sub(*more)));
                let more = vec![b'!'; more.saturating_sub(length)];
                send(conn, &[head.as_slice(), &reply.body, &more].concat()).await?;
            }
            Answer::TooLittle(less) => {
                let head = reply.head(Some(length + less));
                send(conn, &[head.as_slice(), &reply.body].concat()).await?;
                return Ok(Then::End(Ending::Close));
            }
            Answer::Cut(phase, ending) => {
                let head = reply.head(Some(length));
                let bytes = match phase {
                    Phase::Accept | Phase::Request => Vec::new(),
                    Phase::Head => head.get(..head.len() / 2).unwrap_or_default().to_vec(),
                    Phase::Body => {
                        let half = reply.body.get(..length / 2).unwrap_or_default();
                        [head.as_slice(), half].concat()
                    }
                };
                send(conn, &bytes).await?;
                if !bytes.is_empty() {
                    // A RST overtakes what the other side has not read yet; it has to see the
                    // beginning first.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                return Ok(Then::End(*ending));
            }
        }
        Ok(Then::Next)
    }

    /// Switches protocols (RFC 9110 §7.8) and echoes until the other side is done.
    async fn upgrade(&self, conn: &mut Accepted, head: &Head) -> Result<Then, WireError> {
        self.counters.upgrade();
        let id = head.get(ID_HEADER).unwrap_or("-");
        let protocol = head.get("upgrade").unwrap_or("-");
        let (key, accept) = payload::WEBSOCKET;
        let accept = match head.get("sec-websocket-key") {
            Some(asked) if asked == key => format!("Sec-WebSocket-Accept: {accept}\r\n"),
            _ => String::new(),
        };
        let switch = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\
             {BACKEND_HEADER}: {}\r\n{ID_HEADER}: {id}\r\n{accept}\r\n",
            self.id
        );
        send(conn, switch.as_bytes()).await?;
        let early = std::mem::take(&mut conn.wire.buffer);
        send(conn, &early).await?;
        echo(conn).await?;
        Ok(Then::End(Ending::Close))
    }
}

/// Sends back what comes, until the other side is done.
pub(crate) async fn echo(conn: &mut Accepted) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = conn.wire.stream.read(&mut buffer).await?;
        if count == 0 {
            return conn.wire.stream.shutdown().await;
        }
        conn.wire
            .stream
            .write_all(buffer.get(..count).unwrap_or_default())
            .await?;
    }
}

/// Reads and forgets until the other side closes.
pub(crate) async fn until_gone(conn: &mut Accepted) -> Ending {
    while let Ok(1..) = conn.wire.fill().await {
        conn.wire.buffer.clear();
    }
    Ending::Close
}

/// Sends bytes.
pub(crate) async fn send(conn: &mut Accepted, bytes: &[u8]) -> io::Result<()> {
    conn.wire.stream.write_all(bytes).await
}

async fn sleep(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

/// An answer before it is framed.
struct Reply {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

impl Reply {
    fn new(backend: &str, behaviour: &HttpBehaviour, head: &Head, received: &[u8]) -> Self {
        let id = match &behaviour.answer {
            Answer::Mixed(other) => other.as_str(),
            _ => head.get(ID_HEADER).unwrap_or("-"),
        };
        let asked = head.get(WANT_HEADER).and_then(|want| want.parse().ok());
        let want = behaviour.bytes.max(asked.unwrap_or(0));
        let mut headers = format!("{BACKEND_HEADER}: {backend}\r\n{ID_HEADER}: {id}\r\n");
        for (name, value) in &behaviour.headers {
            headers.push_str(&format!("{name}: {value}\r\n"));
        }
        if behaviour.announce_close {
            headers.push_str("Connection: close\r\n");
        }
        let bodiless = head.method() == "HEAD" || matches!(behaviour.status, 204 | 304);
        let body = if bodiless {
            Vec::new()
        } else {
            payload::answer(backend, head.method(), id, received, want)
        };
        Self {
            status: behaviour.status,
            headers,
            body,
        }
    }

    fn head(&self, length: Option<usize>) -> Vec<u8> {
        let length = match length {
            Some(_) if matches!(self.status, 204 | 304) => String::new(),
            Some(length) => format!("Content-Length: {length}\r\n"),
            None => String::new(),
        };
        format!(
            "HTTP/1.1 {} Scripted\r\n{}{length}\r\n",
            self.status, self.headers
        )
        .into_bytes()
    }

    fn chunked(&self, chunk: usize, trailers: &[(String, String)]) -> Vec<u8> {
        let mut bytes = format!(
            "HTTP/1.1 {} Scripted\r\n{}Transfer-Encoding: chunked\r\n\r\n",
            self.status, self.headers
        )
        .into_bytes();
        for chunk in self.body.chunks(chunk) {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n");
        for (name, value) in trailers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    }
}
