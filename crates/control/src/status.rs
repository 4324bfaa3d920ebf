//! What can be looked at from outside: a snapshot in plain types, for the admin API and whoever
//! reads it. Times are seconds before the snapshot, with fractions.

pub use plimsoll_plane::{
    CompressionCounters, CookieCounters, LimitCounters, PacketCounters, PersistenceCounters,
    QuotaCounters,
};

pub use plimsoll_plane::VipState;
use plimsoll_plane::{AccessLogCounters, BackendCounters, Histogram, Latencies, UdpCounters};
use serde::{Deserialize, Serialize};

use crate::Halt;

/// All there is to see.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The services in force, by name.
    pub services: Vec<ServiceStatus>,
    /// The routes in force, by name.
    pub routes: Vec<RouteStatus>,
    /// What is put aside.
    pub quarantine: Vec<AsideStatus>,
    /// The sources, in the order of precedence.
    pub sources: Vec<SourceStatus>,
    /// The planes, the preferred one first.
    pub planes: Vec<PlaneStatus>,
    /// The addresses that services bring along.
    #[serde(default)]
    pub vips: Vec<VipStatus>,
}

/// An address that services bring along.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VipStatus {
    /// The address with its network's length, e.g. `203.0.113.9/32`.
    pub address: String,
    /// The interface it is to be at.
    pub interface: String,
    /// `added`, `was-there` (and is left to whoever added it) or `missing`.
    pub state: VipState,
    /// Why it is missing or not announced; empty if there is nothing to say.
    pub reason: String,
    /// How long it has been in this state, in seconds.
    pub since: f64,
    /// How often it was announced to its neighbours.
    pub announced: u64,
    /// How often it was found gone, and added again.
    pub restored: u64,
    /// The services that bring it along.
    pub services: Vec<String>,
}

/// Where something came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginStatus {
    /// The source, e.g. `file:/etc/plimsoll.toml`.
    pub source: String,
    /// The entry in that source, e.g. `service web`.
    pub entry: String,
}

/// A service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// Who said so; of several fragments, the first.
    pub origin: OriginStatus,
    /// The plane that carries it.
    pub plane: String,
    /// Why this one.
    #[serde(default)]
    pub plane_reason: String,
    /// The scheduler, e.g. `wrr`.
    pub scheduler: String,
    /// Whether its backends are under check.
    #[serde(default)]
    pub checked: bool,
    /// What clients connect to.
    pub listens: Vec<ListenStatus>,
    /// Why its plane does not hold it as it should, if so.
    pub error: Option<String>,
    /// Connections (TCP) or requests (HTTP) so far.
    pub total: u64,
    /// Of these, those that no backend could serve.
    pub unserved: u64,
    /// Of these, requests (HTTP) that went to a backend and were answered with 502 or 504.
    #[serde(default)]
    pub failed: u64,
    /// Of these, those that lists of clients turned away.
    #[serde(default)]
    pub denied: u64,
    /// Retries for which there was no budget.
    #[serde(default)]
    pub unretried: u64,
    /// Of its limits; none if it has none.
    #[serde(default)]
    pub limits: Option<LimitCounters>,
    /// What it does with its requests, for people; empty if it only passes them on.
    #[serde(default)]
    pub does: Vec<String>,
    /// Whether it is in maintenance: its clients get 503.
    #[serde(default)]
    pub maintenance: bool,
    /// Requests answered so.
    #[serde(default)]
    pub maintained: u64,
    /// Of its compression.
    #[serde(default)]
    pub compression: CompressionCounters,
    /// How long things took.
    #[serde(default)]
    pub latency: LatencyStatus,
    /// Of its persistence by source address; none if it has none.
    #[serde(default)]
    pub persistence: Option<PersistenceCounters>,
    /// Of its persistence by cookie; none if it has none.
    #[serde(default)]
    pub cookie: Option<CookieCounters>,
    /// Its UDP sessions.
    #[serde(default)]
    pub udp: UdpCounters,
    /// What happens per second, filled in by the daemon; none until it knows.
    #[serde(default)]
    pub rates: Option<Rates>,
    /// The address of its sorry server, if it has one.
    pub sorry: Option<String>,
    /// The networks whose connections begin with a PROXY header.
    #[serde(default)]
    pub accept_proxy: Vec<String>,
    /// The version of the PROXY header that connections to its backends begin with, if they do.
    #[serde(default)]
    pub send_proxy: Option<String>,
    /// Its backends, by address.
    pub backends: Vec<BackendStatus>,
}

/// How long things took at a service since its plane began to count.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencyStatus {
    /// Requests that a backend answered, from their whole head to the end of the answer, without
    /// tunnels; TCP connections that reached a backend, from their acceptance to their end.
    pub duration: TimesStatus,
    /// Requests that a backend answered, from their whole head to the head of the answer.
    pub first_byte: TimesStatus,
    /// Connections to backends, until they stood.
    pub connect: TimesStatus,
    /// Waits for a place below `maxconn`; who did not have to wait is left out.
    pub queue: TimesStatus,
}

impl From<&Latencies> for LatencyStatus {
    fn from(latency: &Latencies) -> Self {
        Self {
            duration: (&latency.duration).into(),
            first_byte: (&latency.first_byte).into(),
            connect: (&latency.connect).into(),
            queue: (&latency.queue).into(),
        }
    }
}

/// How long one kind of thing took, in seconds. Half of all took at most `p50`, and so on, as far as
/// fixed buckets can tell; none before there was one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TimesStatus {
    /// How many there were.
    pub count: u64,
    /// All of them together.
    pub sum: f64,
    /// Half took at most this.
    pub p50: Option<f64>,
    /// Nine of ten took at most this.
    pub p90: Option<f64>,
    /// 99 of 100 took at most this.
    pub p99: Option<f64>,
    /// What these were read from. For the metrics, and not in the JSON.
    #[serde(skip)]
    pub histogram: Histogram,
}

impl From<&Histogram> for TimesStatus {
    fn from(histogram: &Histogram) -> Self {
        // To the microsecond: more was not measured.
        let quantile = |q| histogram.quantile(q).map(|s| (s * 1e6).round() / 1e6);
        Self {
            count: histogram.count(),
            sum: histogram.sum as f64 / 1e6,
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            histogram: *histogram,
        }
    }
}

/// A listen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenStatus {
    /// The listen, e.g. `*:80/http`.
    pub listen: String,
    /// Why it is not open, if so.
    pub error: Option<String>,
    /// Connections open now, of all services that share it.
    pub connections: u64,
    /// Connections accepted so far, of all services that share it.
    pub accepted: u64,
    /// Connections that ended because of a defect of plimsoll's own, each by itself.
    #[serde(default)]
    pub panicked: u64,
    /// HTTP requests, those that could not be read included, of all services that share it.
    #[serde(default)]
    pub requests: u64,
    /// Requests refused for what they are, by status, of all services that share it.
    pub refused: Vec<(u16, u64)>,
    /// Datagrams that could not be sent on, of all services that share it.
    #[serde(default)]
    pub unsent: u64,
    /// Datagrams of clients that were not even tried to be sent on, by the reason.
    #[serde(default)]
    pub lost: Vec<(String, u64)>,
}

/// A backend.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BackendStatus {
    /// Its address.
    pub addr: String,
    /// Its name; empty if it has none.
    pub name: String,
    /// Who said so.
    pub origin: OriginStatus,
    /// `starting`, `ready`, `draining` or `down`.
    pub state: String,
    /// Why; empty where there is nothing to say.
    pub reason: String,
    /// How long it has been in this state for this reason, in seconds.
    pub since: f64,
    /// What an admin has taken it out for, if so.
    #[serde(default)]
    pub halted: Option<Halt>,
    /// The weight in force.
    pub weight: u32,
    /// The weight that its source says.
    pub weight_configured: u32,
    /// In flight at most; 0 is no limit.
    pub maxconn: u32,
    /// With so many in flight and waiting it gets nothing new; 0 is no such threshold.
    #[serde(default)]
    pub upper: u32,
    /// With less than so many it gets something again; 0 is ¾ of `upper`.
    #[serde(default)]
    pub lower: u32,
    /// The node it runs on; empty if unknown.
    pub node: String,
    /// The zone of that node; empty if unknown.
    pub zone: String,
    /// How often failures put it out.
    pub ejections: u64,
    /// How often failures did not put it out because it was the last.
    pub spared: u64,
    /// Why its plane does not hold it as it should, if so.
    pub error: Option<String>,
    /// What its plane counted.
    pub counters: BackendCounters,
    /// What happens per second, filled in by the daemon; none until it knows.
    #[serde(default)]
    pub rates: Option<Rates>,
}

/// What happened per second lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Requests (HTTP) or connections (TCP).
    pub requests: f64,
    /// Of a backend: connections refused and requests it failed to answer. Of a service: those that
    /// no backend could serve.
    pub failures: f64,
    /// Bytes sent to backends.
    pub bytes_in: f64,
    /// Bytes received from backends.
    pub bytes_out: f64,
}

/// A route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteStatus {
    /// Its name.
    pub name: String,
    /// Who said so.
    pub origin: OriginStatus,
    /// The plane that carries it.
    pub plane: String,
    /// Its hosts.
    pub hosts: Vec<String>,
    /// Its path.
    pub path: String,
    /// The listens it is for; empty for those of its services.
    pub listens: Vec<String>,
    /// Its priority.
    pub priority: i32,
    /// Where it leads: services and their weights.
    pub services: Vec<(String, u32)>,
    /// What it does with its requests, for people; empty if it only passes them on.
    #[serde(default)]
    pub does: Vec<String>,
    /// Why its plane does not hold it as it should, if so.
    pub error: Option<String>,
}

/// Something put aside.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AsideStatus {
    /// What, e.g. ``service `web` ``.
    pub subject: String,
    /// Who said it.
    pub origin: OriginStatus,
    /// Why, and what to do.
    pub reason: String,
    /// For how long, in seconds.
    pub since: f64,
}

/// A source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// Its name, e.g. `file:/etc/plimsoll.toml`.
    pub name: String,
    /// `hand`, `file` or `engine`.
    pub precedence: String,
    /// `waiting` (nothing heard yet), `fresh` or `stale`.
    pub state: String,
    /// Why it is stale; empty otherwise.
    pub reason: String,
    /// For how long, in seconds.
    pub since: f64,
    /// How many entries it has.
    pub entries: usize,
}

/// A plane.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlaneStatus {
    /// Its name, e.g. `proxy`.
    pub name: String,
    /// Services it is to carry.
    pub services: usize,
    /// How often it was read back.
    pub audits: u64,
    /// How many things were found changed behind our back, and repaired.
    pub repairs: u64,
    /// When it was last read back, in seconds before now; none if never.
    pub last_audit: Option<f64>,
    /// Why it could not be read back last time, if so.
    pub error: Option<String>,
    /// Lines of its access log.
    #[serde(default)]
    pub access_log: AccessLogCounters,
    /// Bytes that its encoders hold now, of those that they may (`compress-memory`).
    #[serde(default)]
    pub compress_memory: u64,
    /// Connections of clients that each of its workers has, in their order.
    #[serde(default)]
    pub workers: Vec<u64>,
    /// What becomes of packets; none where none are looked at, or its programs are not loaded.
    #[serde(default)]
    pub packets: Option<PacketCounters>,
    /// What it failed to do and is asked again at every audit.
    pub failures: Vec<FailureStatus>,
}

/// Something a plane failed to do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FailureStatus {
    /// What it was about.
    pub subject: String,
    /// Why it failed.
    pub reason: String,
    /// For how long, in seconds.
    pub since: f64,
}
