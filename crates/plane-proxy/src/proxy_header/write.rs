//! Writing a header.

use std::net::IpAddr;

use plimsoll_model::ProxyVersion;

use super::crc32c::crc32c;
use super::{MAX_HEADER, ProxyHeader, SIGNATURE, kind};

/// Type and length of a checksum.
const CHECKSUM: [u8; 3] = [kind::CRC32C, 0, 4];

/// The header as a connection begins with it. Version 1 has no room for more than the addresses. What
/// else was said is left out where it would become longer than [`MAX_HEADER`] by it, since nobody would
/// take it: addresses may have become longer on their way.
pub fn write(version: ProxyVersion, header: &ProxyHeader) -> Vec<u8> {
    let Some(ends) = header.ends else {
        return version.own_header().to_vec();
    };
    let (client, server) = alike(ends.client.ip(), ends.server.ip());
    let (from, to) = (ends.client.port(), ends.server.port());
    if version == ProxyVersion::V1 {
        let family = if client.is_ipv4() { 4 } else { 6 };
        return format!("PROXY TCP{family} {client} {server} {from} {to}\r\n").into_bytes();
    }
    let mut out = SIGNATURE.to_vec();
    // PROXY of version 2, and a stream over one of the families.
    out.extend_from_slice(&[0x21, if client.is_ipv4() { 0x11 } else { 0x21 }, 0, 0]);
    let fixed = out.len();
    for ip in [client, server] {
        match ip {
            IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
        }
    }
    for port in [from, to] {
        out.extend_from_slice(&port.to_be_bytes());
    }
    let sum = match header.checksum {
        true => CHECKSUM.len() + 4,
        false => 0,
    };
    if out.len() + header.extras.len() + sum <= MAX_HEADER {
        out.extend_from_slice(&header.extras);
    }
    if header.checksum {
        out.extend_from_slice(&CHECKSUM);
        out.extend_from_slice(&[0; 4]);
    }
    // It is short enough: `MAX_HEADER`.
    let length = u16::try_from(out.len() - fixed).unwrap_or(u16::MAX);
    if let Some(place) = out.get_mut(fixed - 2..fixed) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    if header.checksum {
        let sum = crc32c(&[&out]).to_be_bytes();
        if let Some(place) = out.last_chunk_mut() {
            *place = sum;
        }
    }
    out
}

/// Two addresses of one family: where they differ, IPv4 as a part of IPv6, as HAProxy does.
fn alike(a: IpAddr, b: IpAddr) -> (IpAddr, IpAddr) {
    let wide = |ip| match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    match a.is_ipv4() == b.is_ipv4() {
        true => (a, b),
        false => (wide(a).into(), wide(b).into()),
    }
}
