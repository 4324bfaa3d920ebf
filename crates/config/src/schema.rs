//! The keys that the file knows, table by table.

/// The tables at the top of the file.
pub const FILE: &[&str] = &[
    "service",
    "route",
    "docker",
    "daemon",
    "ebpf",
    "error-pages",
];

/// Keys of `[[service]]`.
pub const SERVICE: &[&str] = &[
    "name",
    "listen",
    "vip",
    "backends",
    "scheduler",
    "slow-start",
    "plane",
    "persistence",
    "cookie",
    "check",
    "timeouts",
    "mid-stream",
    "mss",
    "sessions",
    "queue",
    "retries",
    "outlier",
    "body-limit",
    "trusted",
    "allow",
    "deny",
    "limits",
    "accept-proxy",
    "send-proxy",
    "listen-options",
    "to-backends",
    "sorry",
    "request-headers",
    "response-headers",
    "request-id",
    "compress",
    "maintenance",
    "error-pages",
    "intercept",
    "access-log",
];

/// Keys of a `vip` table.
pub const VIP: &[&str] = &["address", "interface"];

/// Keys of a backend, in `backends` and `sorry`.
pub const BACKEND: &[&str] = &[
    "address", "name", "weight", "maxconn", "upper", "lower", "forward", "ports", "node", "zone",
    "drain",
];

/// Keys of a `forward` table.
pub const FORWARD: &[&str] = &["tunnel", "port"];

/// Keys of a `scheduler` table.
pub const SCHEDULER: &[&str] = &["kind", "hash", "table", "seed", "bound", "decay"];

/// Keys of a `persistence` table.
pub const PERSISTENCE: &[&str] = &["timeout", "prefix-v4", "prefix-v6"];

/// Keys of a `cookie` table.
pub const COOKIE: &[&str] = &[
    "name", "mode", "indirect", "nocache", "httponly", "secure", "domain", "maxidle", "maxlife",
    "key",
];

/// Keys of a `check` table.
pub const CHECK: &[&str] = &[
    "kind", "path", "host", "status", "interval", "timeout", "rise", "fall", "port",
];

/// Keys of a `timeouts` table.
pub const TIMEOUTS: &[&str] = &[
    "connect",
    "header",
    "keepalive",
    "queue",
    "response",
    "stall",
    "idle",
    "peer",
    "udp",
    "drain",
];

/// Keys of a `limits` table.
pub const LIMITS: &[&str] = &[
    "connections",
    "connection-rate",
    "requests",
    "request-rate",
    "per-source",
];

/// Keys of a `per-source` table.
pub const PER_SOURCE: &[&str] = &[
    "connections",
    "connection-rate",
    "requests",
    "request-rate",
    "prefix-v4",
    "prefix-v6",
];

/// Keys of a `listen-options` table.
pub const LISTEN_OPTIONS: &[&str] = &["tcp-fast-open", "interface", "transparent"];

/// Keys of a `to-backends` table.
pub const TO_BACKENDS: &[&str] = &["tcp-fast-open", "mark", "interface", "source"];

/// Keys of a rate.
pub const RATE: &[&str] = &["rate", "burst"];

/// Keys of a `sessions` table.
pub const SESSIONS: &[&str] = &["limit", "per-source", "responses"];

/// Keys of a `retries` table.
pub const RETRIES: &[&str] = &["attempts", "on", "budget", "floor"];

/// Keys of an `outlier` table.
pub const OUTLIER: &[&str] = &["errors", "consecutive", "time", "max-percent"];

/// Keys of `[[route]]`.
pub const ROUTE: &[&str] = &[
    "name",
    "host",
    "path",
    "listen",
    "priority",
    "service",
    "allow",
    "deny",
    "redirect",
    "basic-auth",
    "strip-prefix",
    "add-prefix",
    "replace-prefix",
    "request-headers",
    "response-headers",
    "compress",
    "maintenance",
];

/// Keys of a `redirect` table.
pub const REDIRECT: &[&str] = &["to", "status", "keep-path", "keep-query"];

/// Keys of a `basic-auth` table.
pub const BASIC_AUTH: &[&str] = &["users", "realm"];

/// Keys of a `request-headers` or `response-headers` table.
pub const HEADERS: &[&str] = &["set", "add", "remove"];

/// Keys of a `request-id` table.
pub const REQUEST_ID: &[&str] = &["header", "response"];

/// Keys of a `compress` table.
pub const COMPRESS: &[&str] = &["algorithms", "types", "min-size", "level"];

/// Keys of a `maintenance` table.
pub const MAINTENANCE: &[&str] = &["on", "retry-after", "except", "page"];

/// Keys of a service that a route leads to.
pub const WEIGHTED_SERVICE: &[&str] = &["service", "weight"];

/// Keys of `[docker]`.
pub const DOCKER: &[&str] = &["host", "listen", "tls"];

/// Keys of `[daemon]`.
pub const DAEMON: &[&str] = &[
    "workers",
    "admin",
    "stats",
    "metrics",
    "drain",
    "log",
    "compress-memory",
    "access-log",
];

/// Keys of `[ebpf]`.
pub const EBPF: &[&str] = &["interfaces", "xdp", "flows", "tunnel-source"];

/// Keys of an `access-log` table.
pub const ACCESS_LOG: &[&str] = &["format", "to", "query"];

/// Every table with the words that name it in messages and in the headings of the manual.
pub const TABLES: &[(&str, &[&str])] = &[
    ("the file", FILE),
    ("a service", SERVICE),
    ("a vip table", VIP),
    ("a backend", BACKEND),
    ("a forward table", FORWARD),
    ("a scheduler table", SCHEDULER),
    ("a persistence table", PERSISTENCE),
    ("a cookie table", COOKIE),
    ("a check table", CHECK),
    ("a timeouts table", TIMEOUTS),
    ("a sessions table", SESSIONS),
    ("a retries table", RETRIES),
    ("an outlier table", OUTLIER),
    ("a limits table", LIMITS),
    ("a per-source table", PER_SOURCE),
    ("a rate table", RATE),
    ("a listen-options table", LISTEN_OPTIONS),
    ("a to-backends table", TO_BACKENDS),
    ("a route", ROUTE),
    ("a service of a route", WEIGHTED_SERVICE),
    ("a redirect table", REDIRECT),
    ("a basic-auth table", BASIC_AUTH),
    ("a headers table", HEADERS),
    ("a request-id table", REQUEST_ID),
    ("a compress table", COMPRESS),
    ("a maintenance table", MAINTENANCE),
    ("the docker table", DOCKER),
    ("the daemon table", DAEMON),
    ("the ebpf table", EBPF),
    ("an access-log table", ACCESS_LOG),
];
