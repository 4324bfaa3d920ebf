//! A whole proxy plane between a client and a backend that are both played by the fuzz target, on
//! loopback and in one thread: real sockets, the code that serves real ones.

#![allow(dead_code, reason = "each target uses a part of it")]

#[path = "../../crates/plane-proxy/tests/proxy/desync/wire.rs"]
pub mod wire;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use plimsoll_model::{Backend, Desired, Listen, Origin, Proto, Service, ServiceSpec};
use plimsoll_plane::Plane;
use plimsoll_plane_proxy::{AccessLog, AccessOptions, Options, ProxyPlane};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Whatever is sent, it is over by then.
const BOUND: Duration = Duration::from_secs(8);

/// A scripted backend that has nothing more to say and is still waited for closes after this.
const PATIENCE: Duration = Duration::from_millis(15);

/// A plane of one worker with one HTTP service for every host, and its only backend.
pub struct Stage {
    plane: ProxyPlane,
    address: SocketAddr,
    listener: TcpListener,
    conns: Vec<Conn>,
}

/// A connection of the plane to the backend.
struct Conn {
    stream: TcpStream,
    unread: Vec<u8>,
    continued: bool,
    /// It has played its script.
    scripted: bool,
}

/// What the backend does instead of answering its first request.
pub struct Script<'a> {
    pub bytes: &'a [u8],
    pub close: bool,
}

/// What came of it.
#[derive(Default)]
pub struct Played {
    /// All that the client has received.
    pub answers: Vec<u8>,
    /// The connection ended with a reset: bytes may be missing.
    pub reset: bool,
    /// The requests that the backend heard, whole.
    pub heard: Vec<String>,
    /// Their fields, names in lower case.
    pub fields: Vec<Vec<(String, String)>>,
}

impl Stage {
    pub fn open() -> Self {
        Self::open_with(AccessOptions::default(), |listen, backend| {
            let listen = Listen::socket(listen.ip(), listen.port(), Proto::Http);
            let name = "web".parse().expect("a name");
            let spec = ServiceSpec::new(name, Origin::new("fuzz", "web"), vec![listen]);
            let backend = Backend::new(backend.into(), Origin::new("fuzz", "b"));
            let service = Service::new(spec, vec![backend]);
            Desired {
                services: [(service.name().clone(), service.into())].into(),
                ..Desired::default()
            }
        })
    }

    /// With what is made for the address to listen at and that of the backend.
    pub fn open_with(
        access: AccessOptions,
        made: impl FnOnce(SocketAddr, SocketAddr) -> Desired,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        listener.set_nonblocking(true).expect("not blocking");
        let backend = listener.local_addr().expect("an address");
        // Free a moment ago.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let options = Options {
            workers: 1,
            access_log: AccessLog::open(access).expect("a log"),
            ..Options::default()
        };
        let mut plane = ProxyPlane::start(options).expect("a plane");
        let desired = made(address, backend);
        for item in plane.apply(&Desired::default().diff(&desired)) {
            item.result.expect("a service");
        }
        Self {
            plane,
            address,
            listener,
            conns: Vec::new(),
        }
    }

    /// A client sends these bytes in pieces of so many bytes (0: whole), and no more; or it sends
    /// `next` once `first` says that it has had its answer.
    pub fn play(
        &mut self,
        bytes: &[u8],
        piece: usize,
        mut script: Option<Script<'_>>,
        mut next: Option<(&[u8], &dyn Fn(&[u8]) -> bool)>,
    ) -> Played {
        let start = Instant::now();
        let mut quiet_since = start;
        let mut played = Played::default();
        let mut client = TcpStream::connect(self.address).expect("a connection");
        client.set_nodelay(true).expect("no delay");
        client.set_nonblocking(true).expect("not blocking");
        let mut unsent = bytes;
        let mut finished = false;
        loop {
            assert!(
                start.elapsed() < BOUND,
                "it hangs: {}",
                played.answers.escape_ascii()
            );
            if unsent.is_empty() && !finished {
                let answered =
                    |(_, first): &(&[u8], &dyn Fn(&[u8]) -> bool)| first(&played.answers);
                if next.as_ref().is_some_and(answered) {
                    unsent = next.take().map_or(&[], |(bytes, _)| bytes);
                } else if next.is_none() {
                    // It may have been closed already.
                    let _ = client.shutdown(Shutdown::Write);
                    finished = true;
                }
            }
            let progress = self.wait(&client, !unsent.is_empty());
            if !unsent.is_empty() {
                let most = if piece == 0 {
                    unsent.len()
                } else {
                    piece.min(unsent.len())
                };
                match client.write(&unsent[..most]) {
                    Ok(n) => unsent = &unsent[n..],
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    // Closed: what it answered is still to be read.
                    Err(_) => (unsent, next) = (&[], None),
                }
            }
            self.serve(&mut script, &mut played);
            match read(&mut client, &mut played.answers) {
                Ok(false) => {}
                end => {
                    played.reset = end.is_err();
                    drop(client);
                    self.settle(&mut script, &mut played);
                    return played;
                }
            }
            if progress {
                quiet_since = Instant::now();
            } else if quiet_since.elapsed() > PATIENCE {
                self.conns.retain(|conn| !conn.scripted);
            }
        }
    }

    /// Hears what is still on its way of a client that is gone, so that it is not taken for what the
    /// next one sends.
    fn settle(&mut self, script: &mut Option<Script<'_>>, played: &mut Played) {
        let start = Instant::now();
        let busy = |stage: &Self| {
            let listens = stage.plane.counters().listens;
            listens.iter().any(|listen| listen.connections > 0)
        };
        while busy(self) {
            assert!(
                start.elapsed() < BOUND,
                "a connection is served that is gone"
            );
            self.serve(script, played);
            self.conns.retain(|conn| !conn.scripted);
            std::thread::yield_now();
        }
        self.serve(script, played);
        self.conns
            .retain(|conn| !conn.scripted && conn.unread.is_empty());
    }

    /// Waits for a moment until something can be read, or written.
    fn wait(&self, client: &TcpStream, writes: bool) -> bool {
        let asks = if writes {
            PollFlags::IN | PollFlags::OUT
        } else {
            PollFlags::IN
        };
        let mut fds = vec![
            PollFd::new(client, asks),
            PollFd::new(&self.listener, PollFlags::IN),
        ];
        let streams = self.conns.iter().map(|conn| conn.stream.as_fd());
        fds.extend(streams.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let most = Timespec {
            tv_sec: 0,
            tv_nsec: 5_000_000,
        };
        poll(&mut fds, Some(&most)).is_ok_and(|ready| ready > 0)
    }

    /// The backend takes connections and answers what it can.
    fn serve(&mut self, script: &mut Option<Script<'_>>, played: &mut Played) {
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(true).expect("not blocking");
            stream.set_nodelay(true).expect("no delay");
            self.conns.push(Conn {
                stream,
                unread: Vec::new(),
                continued: false,
                scripted: false,
            });
        }
        self.conns.retain_mut(|conn| conn.serve(script, played));
    }
}

impl Conn {
    /// Whether it goes on.
    fn serve(&mut self, script: &mut Option<Script<'_>>, played: &mut Played) -> bool {
        let ended = read(&mut self.stream, &mut self.unread) != Ok(false);
        loop {
            let bad = |why| format!("{why}: {}", self.unread.escape_ascii());
            match wire::request(&self.unread)
                .map_err(bad)
                .unwrap_or_else(|why| panic!("{why}"))
            {
                Some((asked, used)) => {
                    self.unread.drain(..used);
                    self.continued = false;
                    let head = asked.method == "HEAD";
                    // Its bytes come back in a field, which takes fewer of them than a target.
                    let what = asked.what().escape_default().to_string();
                    played.heard.push(what.clone());
                    played.fields.push(asked.fields);
                    if let Some(script) = script.take() {
                        self.scripted = true;
                        // Small enough for the socket; if it has gone nobody misses it.
                        let _ = self.stream.write_all(script.bytes);
                        if script.close {
                            return false;
                        }
                        continue;
                    }
                    let body = if head { "" } else { &what };
                    let length = what.len();
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\nX-Seen: {what}\r\nContent-Length: {length}\r\n\r\n{body}"
                    );
                    let _ = self.stream.write_all(answer.as_bytes());
                }
                None => {
                    let has = |what: &[u8]| self.unread.windows(what.len()).any(|w| w == what);
                    if !self.continued && has(b"\r\n\r\n") && has(b"expect: 100-continue") {
                        self.continued = true;
                        let _ = self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
                    }
                    return !ended;
                }
            }
        }
    }
}

/// Reads all there is; whether that is the end. An error is a reset.
fn read(stream: &mut TcpStream, into: &mut Vec<u8>) -> Result<bool, ()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(true),
            Ok(n) => into.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Err(()),
        }
    }
}

/// An answer as a client reads it that forgives nothing.
pub struct Answer {
    pub status: u16,
    /// What the backend says it saw.
    pub seen: Option<String>,
    pub used: usize,
}

/// The final answer at the beginning of these bytes, to a request of this method unless the backend
/// says it saw another; none if it is not whole.
pub fn answer(bytes: &[u8], asked: &str) -> Option<Answer> {
    let mut at = 0;
    loop {
        let rest = &bytes[at..];
        let end = rest.windows(4).position(|w| w == b"\r\n\r\n")?;
        let head: String = rest[..end].iter().map(|b| char::from(*b)).collect();
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status: u16 = first
            .strip_prefix("HTTP/1.1 ")
            .or(first.strip_prefix("HTTP/1.0 "))
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .unwrap_or_else(|| panic!("no first line of an answer: {first:?}"));
        let mut fields = Vec::new();
        for line in lines {
            assert!(!line.contains(['\r', '\n', '\0']), "{line:?}");
            let (name, value) = line.split_once(':').expect("a colon");
            assert!(!name.is_empty() && !name.contains([' ', '\t']), "{line:?}");
            fields.push((name.to_ascii_lowercase(), wire::trimmed(value)));
        }
        let all = |wanted: &str| -> Vec<&str> {
            let named = fields.iter().filter(|(name, _)| name == wanted);
            named.map(|(_, value)| value.as_str()).collect()
        };
        at += end + 4;
        if (100..200).contains(&status) && status != 101 {
            continue;
        }
        let seen = all("x-seen").first().map(|seen| (*seen).to_owned());
        let head_only = match &seen {
            Some(seen) => seen.starts_with("HEAD "),
            None => asked == "HEAD",
        };
        let (lengths, codings) = (all("content-length"), all("transfer-encoding"));
        assert!(lengths.len() + codings.len() <= 1, "{fields:?}");
        let body = if head_only || status < 200 || status == 204 || status == 304 {
            0
        } else if let [length] = lengths[..] {
            assert!(
                length.bytes().all(|digit| digit.is_ascii_digit()),
                "{length}"
            );
            let length = length.parse().expect("a length");
            bytes.get(at..)?.get(..length)?.len()
        } else if codings == ["chunked"] {
            wire::chunks(&bytes[at..]).expect("chunks")?.1
        } else {
            // To the end of the connection, in HTTP/1.0.
            return None;
        };
        return Some(Answer {
            status,
            seen,
            used: at + body,
        });
    }
}
