//! The phases of a connection.

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Waiting for the PROXY header.
    Header,
    /// HTTP, between requests.
    Idle,
    /// HTTP, part of a head received.
    Head,
    /// HTTP, a request for which there is no response yet.
    Request,
    /// HTTP, a response on its way.
    Response,
    /// A tunnel after an upgrade.
    Tunnel,
    /// TCP.
    Tcp,
}

impl Phase {
    /// Its name.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Phase::Header => "header",
            Phase::Idle => "idle",
            Phase::Head => "head",
            Phase::Request => "request",
            Phase::Response => "response",
            Phase::Tunnel => "tunnel",
            Phase::Tcp => "tcp",
        }
    }
}
