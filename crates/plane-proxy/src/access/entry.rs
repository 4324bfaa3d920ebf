//! What a line of the access log says, whatever its format.

use std::net::SocketAddr;
use std::time::Duration;

use plimsoll_model::{BackendAddr, Listen};

use crate::listener::Port;
use crate::snapshot::LiveService;
use crate::worker::Worker;

/// How a request or connection ended: the first two of HAProxy's termination codes (its manual, 8.5
/// "Session state at disconnection").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// What made it end: `-` nothing, `C` the client, `S` the backend, `c` and `s` their time-outs,
    /// `P` we refused, `R` we lacked something, `K` a drain, `L` we answered ourselves.
    pub(crate) cause: u8,
    /// When: `-` after the end, `R` in the request, `Q` in a queue, `C` on the way to a backend, `H`
    /// before the head of the answer, `D` in the body.
    pub(crate) state: u8,
}

impl End {
    /// As it should.
    pub(crate) const CLEAN: End = End::new(*b"--");

    pub(crate) const fn new(code: [u8; 2]) -> Self {
        let [cause, state] = code;
        Self { cause, state }
    }

    /// For an answer of our own to a request that had come as far as `state`.
    pub(crate) fn of_status(status: u16, state: u8) -> Self {
        match status {
            408 => Self::new(*b"cR"),
            // The client's body broke off under way.
            400 if state == b'H' => Self::new(*b"CH"),
            502 => Self::new([b'S', state]),
            503 => Self::new(*b"SC"),
            504 => Self::new([b's', state]),
            ..400 => Self::new([b'L', if state == b'Q' { b'R' } else { state }]),
            _ => Self::new([b'P', if state == b'Q' { b'R' } else { state }]),
        }
    }
}

/// A stage that was not reached: HAProxy writes it as -1.
pub(crate) type NoTime = Option<Duration>;

/// The request of an entry. Text as the client sent it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// Nothing of it could be read: it was refused for its form.
    pub(crate) bad: bool,
    pub(crate) method: &'a [u8],
    pub(crate) target: &'a [u8],
    /// E.g. `HTTP/1.1`.
    pub(crate) version: &'static str,
    pub(crate) host: &'a [u8],
    pub(crate) referer: &'a [u8],
    pub(crate) agent: &'a [u8],
    /// Of the answer; 0 if there was none.
    pub(crate) status: u16,
}

/// A line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) client: SocketAddr,
    pub(crate) listen: &'a Listen,
    pub(crate) service: Option<&'a str>,
    pub(crate) backend: Option<&'a BackendAddr>,
    /// When the request, connection or session began: the time since 1970 in UTC.
    pub(crate) since: Duration,
    /// None for TCP and UDP.
    pub(crate) asked: Option<Asked<'a>>,
    /// Of a UDP session: from the client, and to it.
    pub(crate) datagrams: Option<(u64, u64)>,
    /// Of the body, or of the connection: from the client, and to it.
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// From the first byte of the request to the end of its head.
    pub(crate) head: Duration,
    pub(crate) queue: NoTime,
    pub(crate) connect: NoTime,
    pub(crate) response: NoTime,
    /// From the first byte of the request to the end.
    pub(crate) total: Duration,
    pub(crate) retries: u32,
    /// The last retry was at another backend.
    pub(crate) elsewhere: bool,
    pub(crate) end: End,
    pub(crate) load: Load,
}

/// How much there was to do when it ended. A connection is one of TCP, or a session of UDP.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Load {
    /// Connections of clients of this process, as of the last tick of each worker.
    pub(crate) process: u64,
    /// Connections of clients of the listen.
    pub(crate) listen: u64,
    /// In flight at the service's backends.
    pub(crate) service: u64,
    /// In flight at the backend.
    pub(crate) backend: u64,
    /// Waiting for a place at the backend.
    pub(crate) waiting: u64,
}

impl Load {
    /// As it is now. Walks over all backends of the service. `place` is what is in flight and what
    /// waits at the backend.
    pub(crate) fn new(
        worker: &Worker,
        port: &Port,
        service: Option<&LiveService>,
        place: (u32, u32),
    ) -> Self {
        let members = service.map_or(&[][..], |s| &s.members).iter();
        Self {
            process: worker.connections(),
            listen: port.connections(),
            service: members.map(|m| u64::from(m.live.admission.active())).sum(),
            backend: place.0.into(),
            waiting: place.1.into(),
        }
    }
}
