//! Access logs: what is written about each request or connection.

use std::path::PathBuf;

use serde::Serialize;

/// The format of the lines that tell of requests (HTTP) and connections (TCP) when they end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessLog {
    /// No lines.
    #[default]
    Off,
    /// As Apache's and nginx's `combined`.
    Combined,
    /// One JSON object a line.
    Json,
    /// As HAProxy's `option httplog`; for TCP as its `option tcplog`.
    Httplog,
}

impl AccessLog {
    /// Every format by its name.
    pub const NAMES: [(&'static str, AccessLog); 4] = [
        ("off", AccessLog::Off),
        ("combined", AccessLog::Combined),
        ("json", AccessLog::Json),
        ("httplog", AccessLog::Httplog),
    ];

    /// The name.
    pub fn as_str(self) -> &'static str {
        let mut names = Self::NAMES.iter();
        names
            .find(|(_, format)| *format == self)
            .map_or("", |(name, _)| name)
    }
}

/// Where access logs go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LogTo {
    /// Standard output.
    #[default]
    Stdout,
    /// A file, which is appended to.
    File(PathBuf),
    /// A syslog daemon's Unix datagram socket, such as `/dev/log`; lines are sent as RFC 3164 has
    /// them, facility `local0`, severity `info`.
    Syslog(PathBuf),
}
