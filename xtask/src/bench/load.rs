//! The load: connections that ask, check every answer's status and length, and ask again.

use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::net::{
    AddressFamily, Ipv4Addr, RecvFlags, SendFlags, SocketAddrV4, SocketFlags, SocketType,
};

use super::Mode;
use super::backend::{READ, SEND_BUFFER};
use super::engine::Poll;

/// A head of an answer is at most so long, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// After so many failures a run is given up.
const MAX_FAILURES: u64 = 1000;

/// How often a connection is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// For one request after the other.
    Keep,
    /// For one request; the next one opens another.
    Never,
    /// For one request; then it stays open, idle.
    Once,
}

/// What to ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec {
    /// HTTP requests or TCP exchanges.
    pub(crate) mode: Mode,
    /// Bytes of an HTTP body, or of a TCP request and its answer.
    pub(crate) bytes: usize,
    /// How often a connection is used.
    pub(crate) reuse: Reuse,
    /// Where the proxy listens on 127.0.0.1.
    pub(crate) port: u16,
    /// Connections that ask at the same time.
    pub(crate) connections: usize,
}

/// What was counted in a window.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counted {
    /// Nanoseconds from the request (with a new connection: from its opening) to the end of its
    /// answer, one per answer.
    pub(crate) latencies: Vec<u32>,
    /// Answers that were wrong or never came.
    pub(crate) failures: u64,
    /// Why the first of them failed.
    pub(crate) first_failure: Option<String>,
}

/// The clients.
pub(crate) struct Load {
    spec: Spec,
    request: Vec<u8>,
    conns: Vec<Option<Conn>>,
    free: Vec<usize>,
    /// Connections that are yet to be opened.
    wanted: usize,
    /// Connections that shall end up idle.
    keep_idle: usize,
    idle: usize,
    answered: u64,
    counted: Counted,
    counting: bool,
    buffer: Vec<u8>,
}

struct Conn {
    fd: OwnedFd,
    since: Instant,
    phase: Phase,
    /// The beginning of a head that came in pieces.
    head: Vec<u8>,
    /// Whether the socket is watched for room to write.
    awaits_room: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Bytes of the request that are sent.
    Send(usize),
    Head,
    /// Bytes of the body that are yet to come.
    Body(usize),
    /// The answer was whole; the proxy has to close.
    Eof,
    Idle,
}

/// What became of a connection.
enum Step {
    Wait,
    Answered,
    Closed,
    Failed(String),
}

impl Load {
    /// A load that opens nothing yet.
    pub(crate) fn new(spec: Spec) -> Self {
        let request = match spec.mode {
            Mode::Http => {
                let close = if spec.reuse == Reuse::Never {
                    "Connection: close\r\n"
                } else {
                    ""
                };
                format!(
                    "GET /bench HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: plimsoll-bench\r\n\
                     Accept: */*\r\n{close}\r\n"
                )
                .into_bytes()
            }
            Mode::Tcp | Mode::Udp => vec![b'q'; spec.bytes],
        };
        Self {
            spec,
            request,
            conns: Vec::new(),
            free: Vec::new(),
            wanted: 0,
            keep_idle: 0,
            idle: 0,
            answered: 0,
            counted: Counted::default(),
            counting: false,
            buffer: vec![0; READ],
        }
    }

    /// Wants all of its connections open.
    pub(crate) fn open_all(&mut self) {
        self.wanted = self.spec.connections;
    }

    /// Closes all connections.
    pub(crate) fn close_all(&mut self) {
        self.conns.clear();
        self.free.clear();
        self.wanted = 0;
        self.idle = 0;
    }

    /// How many connections [`Reuse::Once`] shall leave idle.
    pub(crate) fn keep_idle(&mut self, count: usize) {
        self.keep_idle = count;
    }

    /// Connections that are idle now.
    pub(crate) fn idle(&self) -> usize {
        self.idle
    }

    /// Answers so far, counted or not.
    pub(crate) fn answered(&self) -> u64 {
        self.answered
    }

    /// Begins a window.
    pub(crate) fn start_counting(&mut self) {
        self.counted.latencies.clear();
        self.counting = true;
    }

    /// Ends a window. Failures since the last one are among its failures, those of the warm-up
    /// too.
    pub(crate) fn stop_counting(&mut self) -> Counted {
        self.counting = false;
        std::mem::take(&mut self.counted)
    }

    /// Why the first failure failed, for people.
    pub(crate) fn first_failure(&self) -> &str {
        self.counted
            .first_failure
            .as_deref()
            .unwrap_or("no failure seen")
    }

    /// Why it makes no sense to go on.
    pub(crate) fn hopeless(&self) -> Option<String> {
        (self.counted.failures >= MAX_FAILURES).then(|| {
            format!(
                "{} failures, the first: {}",
                self.counted.failures,
                self.first_failure()
            )
        })
    }

    /// Opens the connections that are wanted.
    pub(crate) fn open_wanted(&mut self, poll: &Poll<'_>) {
        for _ in 0..std::mem::take(&mut self.wanted) {
            let slot = self.free.pop().unwrap_or_else(|| {
                self.conns.push(None);
                self.conns.len() - 1
            });
            match Conn::open(poll, slot, self.spec.port) {
                Ok(conn) => {
                    if let Some(place) = self.conns.get_mut(slot) {
                        *place = Some(conn);
                    }
                    // On loopback the other side has mostly answered by now.
                    self.ready(poll, slot);
                }
                Err(errno) => {
                    self.free.push(slot);
                    self.fail(format!("cannot connect: {errno}"));
                }
            }
        }
    }

    /// Something happened on a connection.
    pub(crate) fn ready(&mut self, poll: &Poll<'_>, slot: usize) {
        let Some(Some(conn)) = self.conns.get_mut(slot) else {
            return;
        };
        match conn.step(&self.spec, &self.request, poll, slot, &mut self.buffer) {
            Step::Wait => {}
            Step::Answered => self.answered_on(poll, slot),
            Step::Closed => {
                self.drop_conn(slot);
                self.wanted += 1;
            }
            Step::Failed(why) => {
                self.drop_conn(slot);
                self.fail(why);
            }
        }
    }

    fn answered_on(&mut self, poll: &Poll<'_>, slot: usize) {
        self.answered += 1;
        let Some(Some(conn)) = self.conns.get_mut(slot) else {
            return;
        };
        let now = Instant::now();
        if self.counting {
            let nanos = (now - conn.since).as_nanos();
            self.counted
                .latencies
                .push(u32::try_from(nanos).unwrap_or(u32::MAX));
        }
        match (self.spec.reuse, self.spec.mode) {
            (Reuse::Keep, _) => {
                conn.since = now;
                conn.phase = Phase::Send(0);
                self.ready(poll, slot);
            }
            (Reuse::Never, Mode::Http) => conn.phase = Phase::Eof,
            (Reuse::Never, Mode::Tcp | Mode::Udp) => {
                self.drop_conn(slot);
                self.wanted += 1;
            }
            (Reuse::Once, _) => {
                conn.phase = Phase::Idle;
                self.idle += 1;
                if self.idle < self.keep_idle {
                    self.wanted += 1;
                }
            }
        }
    }

    fn drop_conn(&mut self, slot: usize) {
        if let Some(place) = self.conns.get_mut(slot)
            && let Some(conn) = place.take()
        {
            if conn.phase == Phase::Idle {
                self.idle -= 1;
            }
            self.free.push(slot);
        }
    }

    /// Notes a failure, and wants another connection instead.
    fn fail(&mut self, why: String) {
        self.counted.failures += 1;
        self.counted.first_failure.get_or_insert(why);
        self.wanted += 1;
    }
}

impl Conn {
    fn open(poll: &Poll<'_>, slot: usize, port: u16) -> Result<Self, Errno> {
        let since = Instant::now();
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&fd, true)?;
        sockopt::set_socket_send_buffer_size(&fd, SEND_BUFFER)?;
        match rustix::net::connect(&fd, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(errno) => return Err(errno),
        }
        poll.add(&fd, slot, false)?;
        Ok(Self {
            fd,
            since,
            phase: Phase::Send(0),
            head: Vec::new(),
            awaits_room: false,
        })
    }

    fn step(
        &mut self,
        spec: &Spec,
        request: &[u8],
        poll: &Poll<'_>,
        slot: usize,
        buffer: &mut [u8],
    ) -> Step {
        match self.phase {
            Phase::Send(sent) => self.send(spec, request, sent, poll, slot),
            Phase::Head => self.head(spec, buffer),
            Phase::Body(left) => match self.receive(buffer, RecvFlags::TRUNC) {
                Ok(count) => self.body(left, count),
                Err(step) => step,
            },
            Phase::Eof => match rustix::net::recv(&self.fd, buffer, RecvFlags::empty()) {
                Ok((_, 0)) => Step::Closed,
                Ok(_) => Step::Failed("more bytes than the answer has".to_owned()),
                Err(Errno::AGAIN | Errno::INTR) => Step::Wait,
                Err(errno) => Step::Failed(format!("instead of the end: {errno}")),
            },
            Phase::Idle => match self.receive(buffer, RecvFlags::empty()) {
                Ok(_) => Step::Failed("bytes on an idle connection".to_owned()),
                Err(step) => step,
            },
        }
    }

    fn send(
        &mut self,
        spec: &Spec,
        request: &[u8],
        sent: usize,
        poll: &Poll<'_>,
        slot: usize,
    ) -> Step {
        let rest = request.get(sent..).unwrap_or_default();
        match rustix::net::send(&self.fd, rest, SendFlags::NOSIGNAL) {
            Ok(count) if count == rest.len() => {
                self.phase = match spec.mode {
                    Mode::Http => Phase::Head,
                    Mode::Tcp | Mode::Udp => Phase::Body(spec.bytes),
                };
                self.await_room(poll, slot, false)
            }
            Ok(count) => {
                self.phase = Phase::Send(sent + count);
                self.await_room(poll, slot, true)
            }
            Err(Errno::AGAIN | Errno::INTR) => self.await_room(poll, slot, true),
            Err(errno) => Step::Failed(format!("cannot send: {errno}")),
        }
    }

    fn await_room(&mut self, poll: &Poll<'_>, slot: usize, room: bool) -> Step {
        if std::mem::replace(&mut self.awaits_room, room) == room {
            return Step::Wait;
        }
        match poll.modify(&self.fd, slot, room) {
            Ok(()) => Step::Wait,
            Err(errno) => Step::Failed(format!("epoll: {errno}")),
        }
    }

    /// Reads the head of an answer and what came with it of the body.
    fn head(&mut self, spec: &Spec, buffer: &mut [u8]) -> Step {
        let count = match self.receive(buffer, RecvFlags::empty()) {
            Ok(count) => count,
            Err(step) => return step,
        };
        let came = buffer.get(..count).unwrap_or_default();
        let checked = if self.head.is_empty() {
            check_head(came, spec.bytes)
        } else {
            self.head.extend_from_slice(came);
            check_head(&self.head, spec.bytes)
        };
        match checked {
            Ok(Some(head)) => {
                let all = self.head.len().max(count);
                self.head.clear();
                self.body(spec.bytes, all - head)
            }
            Ok(None) => {
                if self.head.is_empty() {
                    self.head.extend_from_slice(came);
                }
                Step::Wait
            }
            Err(why) => Step::Failed(why),
        }
    }

    fn body(&mut self, left: usize, came: usize) -> Step {
        match left.checked_sub(came) {
            Some(0) => Step::Answered,
            Some(left) => {
                self.phase = Phase::Body(left);
                Step::Wait
            }
            None => Step::Failed(format!("{} bytes more than the answer has", came - left)),
        }
    }

    fn receive(&self, buffer: &mut [u8], flags: RecvFlags) -> Result<usize, Step> {
        match rustix::net::recv(&self.fd, buffer, flags) {
            Ok((_, 0)) => Err(Step::Failed(
                "closed before the end of the answer".to_owned(),
            )),
            Ok((_, count)) => Ok(count),
            Err(Errno::AGAIN | Errno::INTR) => Err(Step::Wait),
            Err(errno) => Err(Step::Failed(format!("cannot receive: {errno}"))),
        }
    }
}

/// The length of the head, once it is whole.
///
/// # Errors
/// It is not a 200, or does not announce a body of `bytes`.
fn check_head(came: &[u8], bytes: usize) -> Result<Option<usize>, String> {
    let Some(end) = came.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if came.len() > MAX_HEAD {
            Err("an endless head".to_owned())
        } else {
            Ok(None)
        };
    };
    let head = String::from_utf8_lossy(came.get(..end).unwrap_or_default());
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 200") {
        return Err(format!("answered `{status}`"));
    }
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map(|(_, value)| value.trim().to_owned());
    if length.as_deref() != Some(bytes.to_string().as_str()) {
        return Err(format!(
            "announced a body of {length:?} bytes instead of {bytes}"
        ));
    }
    Ok(Some(end + 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_head_gives_its_length() {
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n";
        assert_eq!(check_head(head, 3), Ok(Some(head.len())));
        let more = [head.as_slice(), b"abc"].concat();
        assert_eq!(check_head(&more, 3), Ok(Some(head.len())));
        assert_eq!(check_head(&head[..20], 3), Ok(None));
    }

    #[test]
    fn a_wrong_status_or_length_is_a_failure() {
        let unavailable = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\n\r\n";
        assert!(check_head(unavailable, 3).is_err());
        assert!(check_head(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", 3).is_err());
        assert!(check_head(b"HTTP/1.1 200 OK\r\n\r\n", 3).is_err());
        assert!(check_head(&vec![b'a'; MAX_HEAD + 1], 3).is_err());
    }
}
