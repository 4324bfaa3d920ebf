//! `[daemon]`: settings of the process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use plimsoll_model::Compress;

use crate::access::{self, AccessLogSettings};
use crate::fields::{Faults, Node, Place};
use crate::schema;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl LogFormat {
    /// Every format by its name.
    pub const NAMES: [(&'static str, LogFormat); 2] =
        [("text", LogFormat::Text), ("json", LogFormat::Json)];
}

/// Settings of the process. What the command line says goes before them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// Threads of the proxy plane, 1..=256; none is one for each core.
    pub workers: Option<usize>,
    /// Absolute path of the admin API's Unix socket, 107 bytes at most; none leaves it to the
    /// command line.
    pub admin: Option<PathBuf>,
    /// Absolute path of the Unix socket that speaks as HAProxy's does, 107 bytes at most; none is off.
    pub stats: Option<PathBuf>,
    /// TCP address of `/metrics`, `/healthz` and `/readyz`; none is off. The port is not 0.
    pub metrics: Option<SocketAddr>,
    /// How long connections and requests may take to end after SIGTERM; zero cuts them at once.
    pub drain: Duration,
    /// How log lines are written; none leaves it to the command line.
    pub log: Option<LogFormat>,
    /// Bytes that all responses that are being compressed may hold together; 0 is no limit.
    pub compress_memory: u64,
    /// How requests and connections are logged, and where to.
    pub access_log: AccessLogSettings,
}

impl Daemon {
    /// The greatest number of workers.
    pub const MAX_WORKERS: usize = 256;
}

impl Default for Daemon {
    fn default() -> Self {
        Self {
            workers: None,
            admin: None,
            stats: None,
            metrics: None,
            drain: Duration::from_secs(30),
            log: None,
            compress_memory: Compress::MEMORY,
            access_log: AccessLogSettings::default(),
        }
    }
}

/// What was read of `[daemon]`.
#[derive(Default)]
pub(crate) struct ReadDaemon {
    pub(crate) daemon: Daemon,
    /// `metrics`, and where it stands.
    pub(crate) metrics: Option<(SocketAddr, Place)>,
}

pub(crate) fn read(node: &Node<'_>, faults: &mut Faults) -> ReadDaemon {
    let mut read = ReadDaemon::default();
    let Some(table) = node.table("one table, [daemon] in single brackets", faults) else {
        return read;
    };
    table.check_keys(schema::DAEMON, faults);
    let daemon = &mut read.daemon;
    daemon.workers = table
        .get("workers")
        .and_then(|node| node.integer(1, Daemon::MAX_WORKERS as i128, faults));
    daemon.admin = table
        .get("admin")
        .and_then(|node| socket_path(&node, faults));
    daemon.stats = table
        .get("stats")
        .and_then(|node| socket_path(&node, faults));
    if let Some(node) = table.get("metrics") {
        daemon.metrics = socket_address(&node, faults);
        read.metrics = daemon.metrics.map(|addr| (addr, node.place));
    }
    if let Some(drain) = table
        .get("drain")
        .and_then(|node| node.duration(Duration::ZERO, faults))
    {
        daemon.drain = drain;
    }
    daemon.log = table
        .get("log")
        .and_then(|node| node.word("log format", &LogFormat::NAMES, faults));
    if let Some(bytes) = table
        .get("compress-memory")
        .and_then(|node| node.integer(0, i64::MAX.into(), faults))
    {
        daemon.compress_memory = bytes;
    }
    if let Some(node) = table.get("access-log") {
        daemon.access_log = access::read(&node, faults);
    }
    read
}

fn socket_path(node: &Node<'_>, faults: &mut Faults) -> Option<PathBuf> {
    let expected = "the absolute path of a Unix socket, such as \"/run/plimsoll.sock\"";
    let text = node.label(faults)?;
    // 108 bytes with the closing NUL: unix(7).
    let why = match text {
        _ if !text.starts_with('/') => "a path that is not absolute",
        _ if text.len() > 107 => "a path longer than 107 bytes",
        _ => return Some(text.into()),
    };
    faults.push(node.fault(why).expected(expected));
    None
}

fn socket_address(node: &Node<'_>, faults: &mut Faults) -> Option<SocketAddr> {
    let expected = "ADDR:PORT, such as \"127.0.0.1:9100\"";
    let text = node.string(expected, faults)?;
    let why = match text.parse::<SocketAddr>() {
        Ok(addr) if addr.port() == 0 => "port 0 cannot be listened on",
        Ok(addr) => return Some(addr),
        Err(_) => "not an IP address and port",
    };
    faults.push(node.fault(why).expected(expected));
    None
}
