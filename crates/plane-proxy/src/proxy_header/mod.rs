//! The PROXY protocol, versions 1 and 2 (haproxy.org, `proxy-protocol.txt`): bytes in, headers out,
//! and back. Pure.

mod crc32c;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::net::SocketAddr;

pub use self::read::{Malformed, Parsed, parse};
pub use self::write::write;

/// The longest header that is taken, in bytes. Version 1 has at most 107; in version 2 it is what
/// comes with the addresses that takes room. HAProxy takes as much as one of its buffers, 16 KiB.
pub const MAX_HEADER: usize = 16 * 1024;

/// What every header of version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The longest header of version 1 with its end of line (§2.1).
const MAX_LINE: usize = 107;

/// Types of what follows the addresses in version 2 (§2.2).
mod kind {
    /// A checksum over the header.
    pub(super) const CRC32C: u8 = 0x03;
    /// Nothing, for alignment.
    pub(super) const NOOP: u8 = 0x04;
    /// About TLS.
    pub(super) const SSL: u8 = 0x20;
}

/// What a header says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyHeader {
    /// The connection it speaks of. None if it speaks of itself, or does not say: `LOCAL`, `UNKNOWN`,
    /// `UNSPEC`, and families that are not TCP over IP. Then the connection's own ends count.
    pub ends: Option<Ends>,
    /// What else it says (type, length, value, as it stood there), to be passed on to backends.
    /// Padding and the checksum are left out.
    pub extras: Box<[u8]>,
    /// It had a checksum, which was right; or shall have one.
    pub checksum: bool,
}

/// In the first byte of [`kind::SSL`]: the client came over TLS (`PP2_CLIENT_SSL`).
const CLIENT_SSL: u8 = 0x01;

impl ProxyHeader {
    /// Whether the client came over TLS (§2.2, `PP2_TYPE_SSL`); none if the header does not say.
    pub fn is_tls(&self) -> Option<bool> {
        let mut rest = &*self.extras;
        while let [kind, high, low, after @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            let (value, after) = after.split_at_checked(length)?;
            if *kind == kind::SSL {
                return value.first().map(|flags| flags & CLIENT_SSL != 0);
            }
            rest = after;
        }
        None
    }
}

/// The two ends of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The client.
    pub client: SocketAddr,
    /// What it connected to.
    pub server: SocketAddr,
}
