//! The PROXY protocol: how one proxy tells the next for whom it opens a connection.

use ipnet::IpNet;
use serde::Serialize;

/// How the proxy plane uses the PROXY protocol (haproxy.org, `proxy-protocol.txt`) for a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct ProxyHeaders {
    /// Connections from these networks have to begin with a header, as with HAProxy's
    /// `expect-proxy layer4`. What others send is data. Services that share an `http` listen share
    /// these networks there.
    pub accept: Vec<IpNet>,
    /// Connections to backends begin with a header of this version.
    pub send: Option<ProxyVersion>,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary, with room for more than addresses.
    V2,
}

impl ProxyVersion {
    /// Every version by its name.
    pub const NAMES: [(&'static str, ProxyVersion); 2] =
        [("v1", ProxyVersion::V1), ("v2", ProxyVersion::V2)];

    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            ProxyVersion::V1 => "v1",
            ProxyVersion::V2 => "v2",
        }
    }

    /// The header of a connection that is made for nobody else, such as that of a check: `UNKNOWN`
    /// in version 1, the command `LOCAL` in version 2.
    pub fn own_header(self) -> &'static [u8] {
        match self {
            ProxyVersion::V1 => b"PROXY UNKNOWN\r\n",
            ProxyVersion::V2 => b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
        }
    }
}
