//! The keys that labels have.

/// What every label of ours begins with.
pub const PREFIX: &str = "plimsoll.";

/// The label by which a container says that it is a node for VIPs. It is no matter of services:
/// `plimsoll node --docker` reads it.
pub const NODE_VIP: &str = "plimsoll.node.vip";

/// Keys of `plimsoll.KEY` that speak of a whole container.
pub const CONTAINER: &[&str] = &["enable", "service", "network", "drain"];

/// Keys of `plimsoll.KEY`, for the container's default service, and of `plimsoll.NAME.KEY`, for a
/// further one.
pub const SERVICE: &[&str] = &[
    "service",
    "port",
    "protocol",
    "listen",
    "host",
    "path",
    "priority",
    "forward",
    "weight",
    "maxconn",
    "upper",
    "lower",
    "queue",
    "retries",
    "retries.on",
    "retries.budget",
    "retries.floor",
    "outlier",
    "outlier.consecutive",
    "outlier.time",
    "outlier.max-percent",
    "scheduler",
    "scheduler.hash",
    "scheduler.table",
    "scheduler.seed",
    "scheduler.bound",
    "scheduler.decay",
    "slow-start",
    "persistence",
    "persistence.prefix-v4",
    "persistence.prefix-v6",
    "cookie",
    "cookie.mode",
    "cookie.indirect",
    "cookie.nocache",
    "cookie.httponly",
    "cookie.secure",
    "cookie.domain",
    "cookie.maxidle",
    "cookie.maxlife",
    "cookie.key",
    "body-limit",
    "trusted",
    "allow",
    "deny",
    "limits.connections",
    "limits.connection-rate",
    "limits.connection-rate.burst",
    "limits.requests",
    "limits.request-rate",
    "limits.request-rate.burst",
    "limits.per-source.connections",
    "limits.per-source.connection-rate",
    "limits.per-source.connection-rate.burst",
    "limits.per-source.requests",
    "limits.per-source.request-rate",
    "limits.per-source.request-rate.burst",
    "limits.per-source.prefix-v4",
    "limits.per-source.prefix-v6",
    "accept-proxy",
    "send-proxy",
    "access-log",
    "sorry",
    "plane",
    "check",
    "check.path",
    "check.host",
    "check.status",
    "check.interval",
    "check.timeout",
    "check.rise",
    "check.fall",
    "check.port",
    "network",
    "drain",
    "timeouts.connect",
    "timeouts.queue",
    "timeouts.response",
    "timeouts.stall",
    "timeouts.idle",
    "timeouts.udp",
    "mid-stream",
    "mss",
    "sessions",
    "sessions.per-source",
    "sessions.responses",
    "redirect",
    "redirect.status",
    "redirect.keep-path",
    "redirect.keep-query",
    "basic-auth",
    "basic-auth.realm",
    "strip-prefix",
    "add-prefix",
    "replace-prefix",
    "request-headers.set",
    "request-headers.add",
    "request-headers.remove",
    "response-headers.set",
    "response-headers.add",
    "response-headers.remove",
    "request-id",
    "request-id.response",
    "compress",
    "compress.algorithms",
    "compress.types",
    "compress.min-size",
    "compress.level",
    "maintenance",
    "maintenance.retry-after",
    "maintenance.except",
    "intercept",
];

/// Keys that a service of the file has and no label: on a listen that services share they hold
/// for all clients, since it is not known yet which service a client wants.
pub const FILE_ONLY: &[&str] = &["timeouts.header", "timeouts.keepalive", "timeouts.peer"];

/// Every key, of either kind.
pub fn keys() -> impl Iterator<Item = &'static str> + Clone {
    let service = SERVICE.iter().copied();
    let others = CONTAINER.iter().filter(|key| !SERVICE.contains(key));
    service.chain(others.copied())
}

/// The words that begin a key. None of them can name a further service.
pub fn heads() -> impl Iterator<Item = &'static str> {
    keys().map(|key| key.split_once('.').map_or(key, |(head, _)| head))
}
