//! Seeded hashes, the same in every process and on every machine (XXH3).

use std::net::IpAddr;

use plimsoll_model::{BackendAddr, HashKey};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use crate::Client;

/// What of a client is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Its address.
    Source,
    /// Its address and port.
    SourcePort,
    /// The address it connected to.
    Destination,
}

impl From<HashKey> for Part {
    fn from(key: HashKey) -> Self {
        match key {
            HashKey::Source => Part::Source,
            HashKey::SourcePort => Part::SourcePort,
        }
    }
}

/// The hash of a client: over the 4 or 16 bytes of the address, then with [`Part::SourcePort`] the
/// 2 bytes of its port, in network order.
pub(crate) fn client(client: &Client, part: Part, seed: u64) -> u64 {
    let mut bytes = [0u8; 18];
    let mut len = 0;
    let mut put = |part: &[u8]| {
        for (to, from) in bytes.iter_mut().skip(len).zip(part) {
            *to = *from;
        }
        len += part.len();
    };
    let ip = match part {
        Part::Source | Part::SourcePort => client.ip,
        Part::Destination => client.destination,
    };
    match ip.to_canonical() {
        IpAddr::V4(ip) => put(&ip.octets()),
        IpAddr::V6(ip) => put(&ip.octets()),
    }
    if part == Part::SourcePort {
        put(&client.port.to_be_bytes());
    }
    xxh3_64_with_seed(bytes.get(..len).unwrap_or_default(), seed)
}

/// The hash of a backend: over its address as text.
pub(crate) fn backend(addr: &BackendAddr, seed: u64) -> u128 {
    xxh3_128_with_seed(addr.to_string().as_bytes(), seed)
}

/// Another hash of what `hash` is of, for the `attempt`th try; the first, 0, is `hash` itself.
/// (The finaliser of SplitMix64.)
pub(crate) fn again(hash: u64, attempt: u64) -> u64 {
    if attempt == 0 {
        return hash;
    }
    let mut z = hash.wrapping_add(attempt.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(ip: &str, port: u16) -> Client {
        Client {
            ip: ip.parse().unwrap(),
            port,
            destination: "203.0.113.9".parse().unwrap(),
        }
    }

    #[test]
    fn a_mapped_address_hashes_as_ipv4() {
        let hash = |ip| client(&from(ip, 1), Part::SourcePort, 9);
        assert_eq!(hash("10.0.0.1"), hash("::ffff:10.0.0.1"));
        assert_ne!(hash("10.0.0.1"), hash("::10.0.0.1"));
    }

    #[test]
    fn the_port_counts_only_where_asked_for() {
        let (a, b) = (from("fd00::1", 1), from("fd00::1", 2));
        assert_eq!(client(&a, Part::Source, 0), client(&b, Part::Source, 0));
        assert_ne!(
            client(&a, Part::SourcePort, 0),
            client(&b, Part::SourcePort, 0)
        );
    }

    #[test]
    fn the_values_never_change() {
        // Two nodes of different builds must agree, so these are part of the contract.
        let v4 = client(&from("192.0.2.1", 443), Part::Source, 0);
        let seeded = client(&from("192.0.2.1", 443), Part::SourcePort, 7);
        let addr = "192.0.2.1:443".parse().unwrap();
        assert_eq!(v4, xxh3_64_with_seed(&[192, 0, 2, 1], 0));
        assert_eq!(seeded, xxh3_64_with_seed(&[192, 0, 2, 1, 1, 187], 7));
        let to = client(&from("192.0.2.1", 443), Part::Destination, 7);
        assert_eq!(to, xxh3_64_with_seed(&[203, 0, 113, 9], 7));
        assert_eq!(backend(&addr, 7), xxh3_128_with_seed(b"192.0.2.1:443", 7));
    }
}
