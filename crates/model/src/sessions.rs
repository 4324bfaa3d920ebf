//! What a service remembers of those who send it datagrams.

use serde::Serialize;

/// What is remembered of the clients of UDP listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Sessions {
    /// Sessions at most, over all cores, 1 or more.
    pub limit: u32,
    /// Sessions of one source at most: of an IPv4 address, or an IPv6 network of 64 bits; 0 is no
    /// limit.
    pub per_source: u32,
    /// A session ends once its backend has sent so many datagrams for each of the client's, as
    /// nginx's `proxy_responses`; 0: it ends when it has been quiet for long enough.
    pub responses: u32,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            limit: 65_536,
            per_source: 4096,
            responses: 0,
        }
    }
}
