//! Settings of the kernel, and small files of `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Of IPv4, for each interface and `all`.
const V4: [&str; 6] = [
    "accept_local",
    "arp_announce",
    "arp_ignore",
    "forwarding",
    "rp_filter",
    "send_redirects",
];
/// Of IPv6.
const V6: [&str; 3] = ["accept_ra", "disable_ipv6", "forwarding"];
/// Of the namespace.
const OTHERS: [&str; 3] = [
    "net/ipv4/ip_forward",
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
];

/// All that matter, by their names with slashes; those that the kernel lacks are not there.
pub(super) fn all(interfaces: &[&str]) -> BTreeMap<String, i64> {
    let mut names: Vec<String> = OTHERS.map(str::to_owned).into();
    for interface in interfaces.iter().chain(&["all"]) {
        names.extend(V4.map(|key| format!("net/ipv4/conf/{interface}/{key}")));
        names.extend(V6.map(|key| format!("net/ipv6/conf/{interface}/{key}")));
    }
    let read = names.into_iter().filter_map(|name| {
        let text = fs::read_to_string(format!("/proc/sys/{name}")).ok()?;
        Some((name, text.trim().parse().ok()?))
    });
    read.collect()
}

/// Whether `/proc/sys/net` is mounted so that root may write to it.
pub(super) fn writable() -> Option<bool> {
    let about = rustix::fs::statvfs("/proc/sys/net").ok()?;
    Some(!about.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// The word in brackets of a list such as `none [integrity] confidentiality`.
pub(super) fn chosen(list: &str) -> Option<String> {
    let (_, rest) = list.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

/// Sockets that listen, of `/proc/net/tcp` or `tcp6`.
pub(super) fn listening(table: &str) -> Vec<SocketAddr> {
    let lines = table.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let local = words.next()?;
        // TCP_LISTEN
        (words.nth(1)? == "0A").then(|| socket(local))?
    });
    lines.collect()
}

/// An address as it stands there: words of 32 bits in the machine's order, in hexadecimal.
fn socket(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let word = u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (number, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(number * 8)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn sockets_that_listen() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n   \
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000\n   \
             1: 0202A8C0:0050 0100A8C0:1234 01 00000000:00000000\n";
        assert_eq!(listening(table), ["127.0.0.1:8080".parse().unwrap()]);
        let table = "  sl  local_address                         remote_address                        st\n   \
             0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A\n   \
             1: B80D0120000000000000000001000000:0016 00000000000000000000000000000000:0000 0A\n   \
             2: broken 0 0A\n";
        let expected = [
            "[::]:80".parse().unwrap(),
            "[2001:db8::1]:22".parse().unwrap(),
        ];
        assert_eq!(listening(table), expected);
    }

    #[test]
    fn modes_in_brackets() {
        let list = "none [integrity] confidentiality\n";
        assert_eq!(chosen(list).as_deref(), Some("integrity"));
        assert_eq!(chosen("none"), None);
    }
}
