//! Whether a client came over TLS, as those say who had it open: plimsoll itself takes none.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use plimsoll_model::Scheme;

use crate::conn::Conn;

pub(super) const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The scheme that a field names.
pub(super) fn named(proto: &HeaderValue) -> Scheme {
    match proto.as_bytes().eq_ignore_ascii_case(b"https") {
        true => Scheme::Https,
        false => Scheme::Http,
    }
}

/// By which scheme the client of a connection came itself; what it says of others is not asked.
///
/// Over TLS it can only have come to a proxy that introduced it. That proxy's header counts; where it
/// says nothing of TLS, its field, if the proxy is in one of `trusted`.
pub(super) fn of(conn: &Conn, headers: &HeaderMap, trusted: &[IpNet]) -> Scheme {
    let Some((header, proxy)) = conn.introduced().zip(conn.introducer()) else {
        return Scheme::Http;
    };
    match header.is_tls() {
        Some(true) => Scheme::Https,
        Some(false) => Scheme::Http,
        None if trusted.iter().any(|net| net.contains(&proxy)) => {
            headers.get(PROTO).map_or(Scheme::Http, named)
        }
        None => Scheme::Http,
    }
}
