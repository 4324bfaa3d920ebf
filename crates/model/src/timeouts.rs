//! How long a service waits for what.

use std::time::Duration;

use serde::Serialize;

/// How long to wait for what. Zero is no limit, but for `connect`, which is at least 1 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Timeouts {
    /// For a backend to accept a connection.
    pub connect: Duration,
    /// For a client to send the whole head of a request, from its first byte.
    pub header: Duration,
    /// For a client's next request on a kept-alive connection.
    pub keepalive: Duration,
    /// For a place at a backend that is at its `maxconn`.
    pub queue: Duration,
    /// For the head of a backend's response, from the end of the request.
    pub response: Duration,
    /// For an HTTP client to send more of a request's body, or to take more of an answer.
    pub stall: Duration,
    /// For a byte in either direction on a TCP connection or a tunnel (WebSocket); none: as long as the
    /// plane that carries them thinks right, [`Timeouts::IDLE`] in the proxy, and
    /// [`Timeouts::IDLE_PACKETS`] where packets are forwarded.
    pub idle: Option<Duration>,
    /// For the host at the other end of a connection to acknowledge what was sent, and to make room
    /// for what is to be sent; on both sides (tcp(7), `TCP_USER_TIMEOUT`). A silent one is asked after
    /// half of that whether it is still there.
    pub peer: Duration,
    /// For a datagram in either direction of a UDP session, which is forgotten then.
    pub udp: Duration,
    /// For connections and requests of a draining or removed backend to end by themselves.
    pub drain: Duration,
}

impl Timeouts {
    /// For how long an idle connection is kept in the proxy, whose own keep-alives find ends that are gone.
    pub const IDLE: Duration = Duration::from_secs(3600);
    /// For how long an idle connection is remembered where packets are forwarded: longer than the two
    /// hours after which hosts commonly ask whether the other end is there (RFC 5382 REQ-5).
    pub const IDLE_PACKETS: Duration = Duration::from_secs(7440);
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            header: Duration::from_secs(15),
            keepalive: Duration::from_secs(75),
            queue: Duration::from_secs(10),
            response: Duration::from_secs(120),
            stall: Duration::from_secs(60),
            idle: None,
            peer: Duration::from_secs(120),
            udp: Duration::from_secs(60),
            drain: Duration::from_secs(300),
        }
    }
}
