//! What passes through the seam.

use std::net::SocketAddr;
use std::time::Duration;

use crate::Latencies;
use plimsoll_model::{BackendAddr, Listen, Name, Subject};
use serde::{Deserialize, Serialize};

/// A plane cannot carry something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {plane} plane has no {feature}: {instead}")]
pub struct Unsupported {
    /// The plane.
    pub plane: &'static str,
    /// What it lacks, e.g. `firewall marks`.
    pub feature: String,
    /// What to use instead.
    pub instead: String,
    /// After what time the answer may be another though the configuration is the same, as when another
    /// process is in the way now; none where only another configuration mends it.
    pub again: Option<Duration>,
}

/// Why a plane could not do something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaneError {
    /// The step does not fit what the plane holds; an audit will find out what it does hold.
    #[error(transparent)]
    Plan(#[from] plimsoll_model::PlanError),
    /// It has no such feature.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// A listen could not be opened. Worth trying again.
    #[error("cannot listen on {listen}: {reason}")]
    Listen {
        /// The listen.
        listen: Listen,
        /// Why, and what to do.
        reason: String,
    },
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// How one step of a plan went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemResult {
    /// What the step was about.
    pub subject: Subject,
    /// How it went. A step that failed left what it is about as it was.
    pub result: Result<(), PlaneError>,
}

/// Something that happened to traffic and that control may act on. Planes may drop events when
/// nobody reads them; they carry no state that cannot be had otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A backend refused a connection, could not be reached, or did not answer in time.
    ConnectFailed {
        /// The service.
        service: Name,
        /// The backend.
        backend: BackendAddr,
        /// Why, e.g. `connection refused`.
        reason: String,
    },
    /// A backend reset or closed a connection before it answered, or a datagram did not get there.
    Reset {
        /// The service.
        service: Name,
        /// The backend.
        backend: BackendAddr,
        /// Why, e.g. `connection reset before a response`.
        reason: String,
    },
    /// A backend has answered with errors, as often in a row as its service takes
    /// ([`plimsoll_model::Outlier`]).
    Errors {
        /// The service.
        service: Name,
        /// The backend.
        backend: BackendAddr,
        /// What kind, e.g. `5 answers in a row with errors, the last with 503`.
        reason: String,
    },
    /// A backend that had failed before has served.
    Served {
        /// The service.
        service: Name,
        /// The backend.
        backend: BackendAddr,
    },
    /// An audit found something of the plane that is no service's, such as its programs or their
    /// configuration, not as it was, and has mended it.
    Repaired {
        /// The plane's name.
        plane: &'static str,
        /// What it was.
        what: String,
    },
    /// A draining backend has nothing in flight any more.
    Drained {
        /// The service.
        service: Name,
        /// The backend.
        backend: BackendAddr,
    },
}

/// Counts of one backend since the plane started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendCounters {
    /// Requests (HTTP) or connections (TCP) in flight now.
    pub active: u64,
    /// Waiting for a place now.
    pub queued: u64,
    /// Connections opened to it.
    pub connections: u64,
    /// Requests (HTTP) or connections (TCP) given to it.
    pub requests: u64,
    /// Bytes sent to it: bodies and TCP payload; by a plane that forwards packets, those with their
    /// headers from the network's on.
    pub bytes_in: u64,
    /// Bytes received from it, as before.
    pub bytes_out: u64,
    /// Responses by class: 1xx to 5xx.
    pub responses: [u64; 5],
    /// Connections that it refused or did not take in time.
    pub connect_failures: u64,
    /// Requests it failed to answer: reset, garbage, time-out.
    pub failures: u64,
    /// Requests tried again elsewhere after it failed.
    pub retries: u64,
    /// Whether it has reached its upper threshold, and not been below its lower one since.
    #[serde(default)]
    pub overloaded: bool,
    /// During its slow start: how much of its share it has come to by now, in percent, 0..=99.
    #[serde(default)]
    pub slow_start: Option<u8>,
    /// Datagrams sent to it.
    #[serde(default)]
    pub datagrams_in: u64,
    /// Datagrams received from it.
    #[serde(default)]
    pub datagrams_out: u64,
    /// Packets sent to it, by a plane that forwards packets; several that the kernel has put together
    /// are one.
    #[serde(default)]
    pub packets_in: u64,
    /// Packets received from it, as far as replies come by such a plane.
    #[serde(default)]
    pub packets_out: u64,
}

/// Counts of the UDP sessions of one service. All 0 without UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UdpCounters {
    /// Sessions now.
    pub sessions: u64,
    /// Sessions put out for others because a limit was reached.
    pub evicted: u64,
    /// Datagrams dropped because a limit was reached and nothing could be put out.
    pub dropped: u64,
    /// Sessions that went on at another backend.
    pub moved: u64,
}

/// Counts of the persistence of one service since the plane started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersistenceCounters {
    /// Clients that are remembered now.
    pub clients: u64,
    /// Connections or requests that went to the backend that their client stays on.
    pub kept: u64,
    /// Those that went to another one, for the client's took nothing new, failed, or was full.
    pub moved: u64,
    /// Clients forgotten before their time because the table was full.
    pub forgotten: u64,
}

/// Answers of backends of one service since the plane started, by what the cookie of the request
/// said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CookieCounters {
    /// There was none.
    pub none: u64,
    /// It named no backend of the service.
    pub unknown: u64,
    /// It was older than `maxidle` or `maxlife` allow.
    pub expired: u64,
    /// The backend that it named took the request.
    pub kept: u64,
    /// The backend that it named could not take the request: another one did.
    pub moved: u64,
}

/// How often each limit of a quota was met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaCounters {
    /// Connections at once.
    pub connections: u64,
    /// New connections.
    pub connection_rate: u64,
    /// Requests at once.
    pub requests: u64,
    /// New requests.
    pub request_rate: u64,
}

impl QuotaCounters {
    /// Each limit by its key in the configuration, with its count.
    pub fn named(&self) -> [(&'static str, u64); 4] {
        [
            ("connections", self.connections),
            ("connection-rate", self.connection_rate),
            ("requests", self.requests),
            ("request-rate", self.request_rate),
        ]
    }
}

/// Counts of the limits of one service since the plane started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitCounters {
    /// Connections and requests refused by the limits for all clients together.
    pub total: QuotaCounters,
    /// Those refused by the limits for each source.
    pub per_source: QuotaCounters,
    /// Sources that are known now.
    pub sources: u64,
    /// Let in without being counted for their source, because the table was full of sources that
    /// are held back.
    pub unknown: u64,
}

/// Counts of the compression of one service since the plane started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompressionCounters {
    /// Answers of backends that were compressed.
    pub responses: u64,
    /// Bytes of their bodies.
    pub bytes_in: u64,
    /// Bytes that became of them.
    pub bytes_out: u64,
    /// Answers that would have been compressed, if all encoders together had not held as much memory as
    /// they may.
    #[serde(default)]
    pub no_memory: u64,
}

/// Counts of one service since the plane started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ServiceCounters {
    /// The service.
    pub name: String,
    /// Connections accepted on its listens (TCP), or requests routed to it (HTTP).
    pub total: u64,
    /// Connections or requests for which no backend could serve.
    pub unserved: u64,
    /// Requests (HTTP) that went to a backend and failed there: answered with 502 or 504. Those of
    /// backends that are gone are in it.
    pub failed: u64,
    /// Those that its lists of clients, or those of a route to it, turned away.
    pub denied: u64,
    /// Retries for which there was no budget.
    pub unretried: u64,
    /// Of its limits; none if it has none.
    pub limits: Option<LimitCounters>,
    /// Requests that got 503 because the service, or a route to it, is in maintenance.
    pub maintained: u64,
    /// Of its compression.
    pub compression: CompressionCounters,
    /// Of its persistence by source address; none if it has none.
    pub persistence: Option<PersistenceCounters>,
    /// How long things took.
    pub latency: Latencies,
    /// Of its persistence by cookie; none if it has none.
    pub cookie: Option<CookieCounters>,
    /// Its UDP sessions.
    pub udp: UdpCounters,
    /// By backend, in the order of their addresses. Backends that are gone are left out.
    pub backends: Vec<(BackendAddr, BackendCounters)>,
}

/// One socket that the plane listens on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListenState {
    /// The listen.
    pub listen: Listen,
    /// Connections open now.
    pub connections: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections that ended because of a defect of the plane's own, each by itself.
    pub panicked: u64,
    /// HTTP requests, those that could not be read included.
    pub requests: u64,
    /// Requests refused for what they are, by status (400, 404, 408, …).
    pub refused: Vec<(u16, u64)>,
    /// Datagrams that could not be sent on, to either side.
    pub unsent: u64,
    /// Datagrams of clients that were not even tried to be sent on, by the reason; those that lists or
    /// limits turned away are counted with their service.
    pub lost: Vec<(&'static str, u64)>,
}

/// What a plane that looks at single packets counts of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketCounters {
    /// Packets to VIPs that something is to be said of, by what it is: drops, and more.
    pub noted: Vec<(String, u64)>,
    /// Connections and sessions at backends that services have now.
    pub flows: u64,
    /// Flows over IPv4 that there is room for; one by NAT takes the room of two.
    pub room_v4: u64,
    /// The same over IPv6.
    pub room_v6: u64,
}

/// Counts of a plane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// By service, in the order of their names.
    pub services: Vec<ServiceCounters>,
    /// By listen.
    pub listens: Vec<ListenState>,
    /// Of the access log.
    pub access_log: AccessLogCounters,
    /// Bytes that its encoders hold now, of those that they may.
    pub compress_memory: u64,
    /// Connections of clients that each of its workers has now, in their order; empty where a plane
    /// has no workers.
    pub workers: Vec<u64>,
    /// What becomes of packets; none where none are looked at.
    pub packets: Option<PacketCounters>,
}

/// Counts of an access log since the plane started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessLogCounters {
    /// Lines written.
    pub lines: u64,
    /// Lines dropped: they came faster than they could be written, or could not be written at all.
    pub dropped: u64,
}

/// Which flows to list. Unset fields match all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowFilter {
    /// Of this service.
    pub service: Option<Name>,
    /// To this backend.
    pub backend: Option<BackendAddr>,
    /// At most so many; 0 is 1000.
    pub limit: usize,
}

/// A live connection, tunnel or request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flow {
    /// The client.
    pub client: SocketAddr,
    /// What it connected to.
    pub listen: Listen,
    /// The service, once one is chosen.
    pub service: Option<Name>,
    /// The backend, once one is chosen.
    pub backend: Option<BackendAddr>,
    /// `idle`, `head`, `queued`, `request`, `response`, `tunnel`, `tcp`, `udp`.
    pub phase: &'static str,
    /// How long it has been there.
    pub age: Duration,
}

/// A part of the list of flows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowPage {
    /// The flows.
    pub flows: Vec<Flow>,
    /// Where to go on; none at the end.
    pub next: Option<u64>,
}

/// A packet or request to explain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// The client.
    pub client: SocketAddr,
    /// What it connects to.
    pub destination: SocketAddr,
    /// Its protocol.
    pub proto: plimsoll_model::Proto,
    /// For HTTP: the host it asks for.
    pub host: Option<String>,
    /// For HTTP: the path it asks for.
    pub path: Option<String>,
}

/// Where something would go, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The route that decides, if one does.
    pub route: Option<Name>,
    /// The service.
    pub service: Option<Name>,
    /// The backend, where the choice depends on nothing but the tuple.
    pub backend: Option<BackendAddr>,
    /// The name of that backend; empty if it has none.
    pub backend_name: String,
    /// Why it goes nowhere, if so, e.g. ``no backend of service `web` can serve``.
    pub nowhere: Option<String>,
    /// For HTTP that goes nowhere: the status that it is answered with.
    pub status: Option<u16>,
    /// Every step of the decision, for people.
    pub steps: Vec<String>,
}
