//! The hashes of the programs, as `bpf/flows.h` and `bpf/schedule.h` have them; pure.

use std::net::{IpAddr, SocketAddr};

use crate::layout::{Addr, Key};

fn stir(hash: u64, word: u64) -> u64 {
    let hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ (hash >> 32)
}

/// The hash of a flow: of the packets that go from `src` to `dst`.
pub(crate) fn flow(seed: u64, src: SocketAddr, dst: SocketAddr, proto: u8) -> u64 {
    let (from, to) = (Addr::from(src.ip()).words, Addr::from(dst.ip()).words);
    let words = if src.is_ipv4() { 1 } else { 4 };
    let mut hash = seed;
    for (from, to) in from.into_iter().zip(to).take(words) {
        hash = stir(hash, u64::from(from) << 32 | u64::from(to));
    }
    let ports = u64::from(src.port().to_be()) << 16 | u64::from(dst.port().to_be());
    stir(hash, u64::from(proto) << 32 | ports)
}

/// The hash of a client, by which it is scheduled.
pub(crate) fn client(seed: u64, key: Key, client: SocketAddr, destination: IpAddr) -> u64 {
    let ip = match key {
        Key::Destination => destination,
        Key::Source | Key::SourcePort => client.ip(),
    };
    let [a, b, c, d] = Addr::from(ip).words;
    let mut hash = stir(seed, a.into());
    if ip.is_ipv6() {
        hash = stir(hash, u64::from(b) << 32 | u64::from(c));
        hash = stir(hash, d.into());
    }
    if key == Key::SourcePort {
        hash = stir(hash, client.port().to_be().into());
    }
    stir(hash, 0)
}

/// Where a hash leads in a table of so many entries, and after so many other tries.
pub(crate) fn place(hash: u64, len: usize) -> usize {
    (((hash & 0xffff_ffff) * len as u64) >> 32) as usize
}

/// The hash for the next try, the first being 0.
pub(crate) fn again(hash: u64, attempt: u32) -> u64 {
    stir(hash, u64::from(attempt) + 1)
}
