//! Reading a header.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::crc32c::crc32c;
use super::{Ends, MAX_HEADER, MAX_LINE, ProxyHeader, SIGNATURE, kind};

/// The part of version 2 before the addresses.
const FIXED: usize = 16;

/// What bytes are the beginning of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A part of a header; more is needed.
    Part,
    /// A whole header, which ends after so many bytes.
    Whole(ProxyHeader, usize),
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// They begin with neither version's mark.
    #[error("no PROXY header")]
    NoHeader,
    /// A line of version 1 that is not as it has to be.
    #[error("a PROXY line that is none")]
    Line,
    /// Version 2 with a version, command or family that there is not.
    #[error("an unknown version, command or family in a PROXY header")]
    Unknown,
    /// Lengths that do not fit.
    #[error("a length in a PROXY header that does not fit")]
    Length,
    /// The checksum is not that of the header.
    #[error("a PROXY header with a wrong checksum")]
    Checksum,
}

/// Reads what a connection begins with. At most [`MAX_HEADER`] bytes are a part.
///
/// # Errors
/// It is no header, whatever follows.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    if begins(bytes, SIGNATURE) {
        return match bytes.first_chunk::<FIXED>() {
            Some(fixed) => binary(bytes, *fixed),
            None => Ok(Parsed::Part),
        };
    }
    if begins(bytes, b"PROXY ") {
        return line(bytes);
    }
    Err(Malformed::NoHeader)
}

/// Whether the bytes and the mark are the same as far as both go.
fn begins(bytes: &[u8], mark: &[u8]) -> bool {
    bytes.iter().zip(mark).all(|(a, b)| a == b)
}

/// Version 1, §2.1.
fn line(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let Some(end) = bytes.iter().take(MAX_LINE).position(|b| *b == b'\n') else {
        return match bytes.len() {
            0..MAX_LINE => Ok(Parsed::Part),
            _ => Err(Malformed::Line),
        };
    };
    let text = bytes
        .get(..end)
        .and_then(|line| line.strip_suffix(b"\r"))
        .and_then(|line| std::str::from_utf8(line).ok())
        .ok_or(Malformed::Line)?;
    let mut words = text.split(' ').skip(1);
    let ends = match words.next() {
        // What follows it is to be ignored.
        Some("UNKNOWN") => None,
        Some(family @ ("TCP4" | "TCP6")) => {
            let ip = |text: Option<&str>| match family {
                "TCP4" => text?.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
                _ => text?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            };
            let ips = ip(words.next()).zip(ip(words.next()));
            let ports = port(words.next()).zip(port(words.next()));
            let ((client, server), (from, to)) = ips.zip(ports).ok_or(Malformed::Line)?;
            if words.next().is_some() {
                return Err(Malformed::Line);
            }
            Some(Ends {
                client: SocketAddr::new(client, from),
                server: SocketAddr::new(server, to),
            })
        }
        _ => return Err(Malformed::Line),
    };
    let header = ProxyHeader {
        ends,
        ..ProxyHeader::default()
    };
    Ok(Parsed::Whole(header, end + 1))
}

fn port(text: Option<&str>) -> Option<u16> {
    // The library would take a plus.
    let digits = text.filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok()
}

/// Version 2, §2.2.
fn binary(bytes: &[u8], fixed: [u8; FIXED]) -> Result<Parsed, Malformed> {
    let [.., command, family, high, low] = fixed;
    let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_HEADER {
        return Err(Malformed::Length);
    }
    let local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed::Unknown),
    };
    if !local && (family >> 4 > 3 || family & 15 > 2) {
        return Err(Malformed::Unknown);
    }
    let Some(whole) = bytes.get(..length) else {
        return Ok(Parsed::Part);
    };
    if local {
        // All else is to be ignored.
        return Ok(Parsed::Whole(ProxyHeader::default(), length));
    }
    let body = whole.get(FIXED..).unwrap_or_default();
    let (ends, taken) = match family >> 4 {
        1 => (ends4(body), 12),
        2 => (ends6(body), 36),
        3 => (None, 216),
        _ => (None, 0),
    };
    let extras = body.get(taken..).ok_or(Malformed::Length)?;
    let header = match read_extras(whole, extras) {
        Ok((extras, checksum)) => ProxyHeader {
            // Datagrams do not come by a stream.
            ends: ends.filter(|_| family & 15 == 1),
            extras,
            checksum,
        },
        // What comes with a family that is not said is to be ignored, whatever it is.
        Err(Malformed::Length) if family >> 4 == 0 => ProxyHeader::default(),
        Err(malformed) => return Err(malformed),
    };
    Ok(Parsed::Whole(header, length))
}

fn ends4(body: &[u8]) -> Option<Ends> {
    let (client, rest) = body.split_first_chunk::<4>()?;
    let (server, rest) = rest.split_first_chunk::<4>()?;
    let [a, b, c, d] = *rest.first_chunk()?;
    Some(Ends {
        client: (*client, u16::from_be_bytes([a, b])).into(),
        server: (*server, u16::from_be_bytes([c, d])).into(),
    })
}

fn ends6(body: &[u8]) -> Option<Ends> {
    let (client, rest) = body.split_first_chunk::<16>()?;
    let (server, rest) = rest.split_first_chunk::<16>()?;
    let [a, b, c, d] = *rest.first_chunk()?;
    Some(Ends {
        client: (*client, u16::from_be_bytes([a, b])).into(),
        server: (*server, u16::from_be_bytes([c, d])).into(),
    })
}

/// What is to be passed on, and whether there was a checksum.
fn read_extras(whole: &[u8], extras: &[u8]) -> Result<(Box<[u8]>, bool), Malformed> {
    let mut kept = Vec::new();
    let mut checksum = false;
    let mut rest = extras;
    while let [kind, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, after) = after.split_at_checked(length).ok_or(Malformed::Length)?;
        match *kind {
            kind::CRC32C => {
                let sum = value.try_into().map_err(|_| Malformed::Length)?;
                // Where the sum stands counts as zeros, and so a second one could not be right.
                let (head, _) = whole
                    .split_at_checked(whole.len() - after.len() - length)
                    .ok_or(Malformed::Length)?;
                if crc32c(&[head, &[0; 4], after]) != u32::from_be_bytes(sum) {
                    return Err(Malformed::Checksum);
                }
                checksum = true;
            }
            kind::NOOP => {}
            _ => {
                let entry = rest.get(..3 + length).unwrap_or_default();
                kept.extend_from_slice(entry);
            }
        }
        rest = after;
    }
    match rest.is_empty() {
        true => Ok((kept.into(), checksum)),
        false => Err(Malformed::Length),
    }
}
