//! Where an entry came from.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// Where an entry came from: which source, and which of its entries. Part of every service,
/// backend and route, so that whoever looks at a plane can find the text or the container behind
/// it. It holds nothing that changes without the entry changing (no line numbers).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Origin {
    /// The source, e.g. `file:/etc/plimsoll.toml`, `docker:unix:///var/run/docker.sock`, `demo`.
    pub source: Arc<str>,
    /// The entry in that source, e.g. `service web`, `container web-1`.
    pub entry: Arc<str>,
}

impl Origin {
    /// An origin in `source`, of its `entry`.
    pub fn new(source: impl Into<Arc<str>>, entry: impl Into<Arc<str>>) -> Self {
        Self {
            source: source.into(),
            entry: entry.into(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.source, self.entry)
    }
}
