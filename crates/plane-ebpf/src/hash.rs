//! The hashes of the programs, as `bpf/flows.h` and `bpf/schedule.h` have them; pure.

use std::net::{IpAddr, SocketAddr};

use crate::layout::{Addr, Key};

fn stir(hash: u64, word: u64) -> u64 {
    let hash = hash ^ word;
    let hash = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let hash = (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Clients as they are in life: one with many ports, many of one network, both going up together.
    #[test]
    fn flows_are_spread_over_buckets() {
        const BUCKETS: usize = 1024;
        let to: SocketAddr = "10.0.200.1:80".parse().unwrap();
        let at = |host: u32, port: u32| {
            let ip = IpAddr::from((0x0a00_0000 + host).to_be_bytes());
            SocketAddr::new(ip, 1024 + port as u16)
        };
        let clients: [fn(u32) -> (u32, u32); 5] = [
            |i| (7, i),
            |i| (i, 7),
            |i| (i, i),
            |i| (i % 250, i + 1),
            |i| (i << 8, i << 3),
        ];
        for (kind, client) in clients.into_iter().enumerate() {
            for shift in [0, 20, 48] {
                let mut met = [0_u32; BUCKETS];
                for i in 0..4096 {
                    let (host, port) = client(i);
                    let hash = flow(0x1234_5678_9abc_def0, at(host, port), to, 6);
                    met[(hash >> shift) as usize % BUCKETS] += 1;
                }
                // Four each; of so many draws by chance hardly one bucket is met by more than 16.
                let most = met.into_iter().max().unwrap();
                assert!(most <= 18, "{kind} {shift}: {most}");
                let none = met.into_iter().filter(|n| *n == 0).count();
                assert!(none < 60, "{kind} {shift}: {none} are never met");
            }
        }
    }
}
