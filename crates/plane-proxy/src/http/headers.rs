//! What a proxy changes in heads: hop-by-hop fields go, the client's address comes.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Fields that `Connection` may not name away: they say what a message is, whom it is from or for
/// whom it is. RFC 9110 §7.6.1 forbids to name them; a client that does so wants a backend to see
/// less than whoever decided in front of us.
fn is_protected(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::HOST
            | header::CONTENT_LENGTH
            | header::CONTENT_TYPE
            | header::CONTENT_ENCODING
            | header::CACHE_CONTROL
            | header::FORWARDED
            | header::AUTHORIZATION
            | header::COOKIE
            | header::SET_COOKIE
    ) || speaks_for_others(name)
}

/// Whether a field says for whom a request is made: `X-Forwarded-*`, `X-Real-IP`.
fn speaks_for_others(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("x-forwarded-") || name == "x-real-ip"
}

/// Takes out all fields that say for whom a request is made, but for `Forwarded`.
pub(crate) fn take_forwarded(headers: &mut HeaderMap) {
    let names = headers.keys().filter(|name| speaks_for_others(name));
    for name in names.cloned().collect::<Vec<_>>() {
        headers.remove(name);
    }
}

/// Whether a program that makes variables of fields takes it for one that says who the client is:
/// `X_Forwarded_For` and the like. Nobody means such a name well; nginx drops it as well.
fn is_lookalike(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    let starts = |with: &[u8]| {
        name.len() >= with.len()
            && with
                .iter()
                .zip(name)
                .all(|(w, n)| w == n || (*w == b'-' && *n == b'_'))
    };
    name.first() == Some(&b'x')
        && name.contains(&b'_')
        && (starts(b"x-forwarded-") || (name.len() == 9 && starts(b"x-real-ip")))
}

/// The hop-by-hop fields of a message (RFC 9110 §7.6.1), taken out of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hop {
    /// The value of `Upgrade`, if there is one and `Connection` names it.
    pub(crate) upgrade: Option<HeaderValue>,
    /// `TE: trailers` was there.
    pub(crate) trailers: bool,
    /// There was a `Transfer-Encoding` beside a `Content-Length`, of which one is wrong, or one that
    /// is not just `chunked`, or a `Content-Length` that is not just a number.
    pub(crate) ambiguous: bool,
    /// There was a `Transfer-Encoding`.
    pub(crate) coded: bool,
    /// There were fields that say for whom a request is made; they are still there.
    pub(crate) forwarded: bool,
}

/// Takes the hop-by-hop fields out, those named by `Connection` included.
pub(crate) fn take_hop(headers: &mut HeaderMap) -> Hop {
    let mut hop = Hop::default();
    let mut found = Found::default();
    for (name, value) in &*headers {
        match *name {
            header::CONTENT_LENGTH => {
                // Of a list of equal ones others may take another part than hyper.
                hop.ambiguous |= !value.as_bytes().iter().all(u8::is_ascii_digit);
            }
            header::CONNECTION => found.connection = true,
            header::UPGRADE => found.upgrade = true,
            header::TE => found.te = true,
            header::TRANSFER_ENCODING
            | header::PROXY_AUTHENTICATE
            | header::PROXY_AUTHORIZATION => found.other = true,
            _ if *name == KEEP_ALIVE || *name == PROXY_CONNECTION => found.other = true,
            _ => {
                found.lookalike |= is_lookalike(name);
                hop.forwarded |= speaks_for_others(name);
            }
        }
    }
    if found.te {
        let trailers = |v: &HeaderValue| {
            v.as_bytes()
                .split(|b| *b == b',')
                .any(|t| t.trim_ascii().eq_ignore_ascii_case(b"trailers"))
        };
        hop.trailers = headers.get_all(header::TE).iter().any(trailers);
        headers.remove(header::TE);
    }
    if found.connection {
        take_named(headers, &mut hop);
    }
    if found.lookalike {
        take_lookalikes(headers);
    }
    if found.upgrade {
        headers.remove(header::UPGRADE);
        headers.remove(HTTP2_SETTINGS);
    }
    if found.other {
        let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
        if let Some(coding) = codings.next() {
            hop.coded = true;
            // Of other codings the body would be left without a word of it.
            hop.ambiguous |= headers.contains_key(header::CONTENT_LENGTH)
                || codings.next().is_some()
                || !coding
                    .as_bytes()
                    .trim_ascii()
                    .eq_ignore_ascii_case(b"chunked");
            headers.remove(header::TRANSFER_ENCODING);
        }
        headers.remove(header::PROXY_AUTHENTICATE);
        headers.remove(header::PROXY_AUTHORIZATION);
        headers.remove(KEEP_ALIVE);
        headers.remove(PROXY_CONNECTION);
    }
    hop
}

#[derive(Default)]
struct Found {
    connection: bool,
    upgrade: bool,
    te: bool,
    other: bool,
    lookalike: bool,
}

/// Takes out what only looks like fields that we set.
fn take_lookalikes(headers: &mut HeaderMap) {
    let names: Vec<HeaderName> = headers
        .keys()
        .filter(|n| is_lookalike(n))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

fn take_named(headers: &mut HeaderMap, hop: &mut Hop) {
    let mut named: Vec<HeaderName> = Vec::new();
    let mut upgrade = false;
    for value in headers.get_all(header::CONNECTION) {
        for token in value
            .as_bytes()
            .split(|b| *b == b',')
            .map(<[u8]>::trim_ascii)
        {
            if token.eq_ignore_ascii_case(b"upgrade") {
                upgrade = true;
            } else if !token.eq_ignore_ascii_case(b"keep-alive")
                && !token.eq_ignore_ascii_case(b"close")
                && let Ok(name) = HeaderName::from_bytes(token)
            {
                named.push(name);
            }
        }
    }
    headers.remove(header::CONNECTION);
    if upgrade {
        // Of several nobody can tell which one is granted.
        let mut all = headers.get_all(header::UPGRADE).iter();
        hop.upgrade = all.next().filter(|_| all.next().is_none()).cloned();
    }
    for name in named.iter().filter(|name| !is_protected(name)) {
        headers.remove(name);
    }
}

/// Whether a protocol of an `Upgrade` field may be tunnelled. `h2c` may not: what follows would
/// pass by every rule that is applied to requests.
pub(crate) fn may_tunnel(upgrade: &HeaderValue) -> bool {
    !protocols(upgrade).any(|p| p.eq_ignore_ascii_case(b"h2c"))
        && protocols(upgrade).next().is_some()
}

/// Whether a backend's `Upgrade` names only what the client asked for.
pub(crate) fn is_granted(asked: &HeaderValue, answered: &HeaderValue) -> bool {
    protocols(answered).next().is_some()
        && protocols(answered).all(|p| protocols(asked).any(|q| q.eq_ignore_ascii_case(p)))
}

fn protocols(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value
        .as_bytes()
        .split(|b| *b == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|p| !p.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)))
            .collect()
    }

    #[test]
    fn hop_by_hop_fields_go_and_those_named_with_them() {
        let mut headers = map(&[
            ("connection", "close, X-Secret, host, x-forwarded-for"),
            ("connection", "other"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "x"),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("x-secret", "1"),
            ("other", "2"),
            ("host", "a"),
            ("x-forwarded-for", "1.2.3.4"),
            ("accept", "*/*"),
        ]);
        let hop = take_hop(&mut headers);
        assert!(hop.trailers && hop.upgrade.is_none());
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "host", "x-forwarded-for"]);
    }

    #[test]
    fn an_upgrade_needs_both_fields() {
        let mut both = map(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
        assert_eq!(take_hop(&mut both).upgrade.unwrap(), "websocket");
        assert!(both.is_empty());
        assert!(
            take_hop(&mut map(&[("upgrade", "websocket")]))
                .upgrade
                .is_none()
        );
    }

    #[test]
    fn only_what_was_asked_for_is_granted() {
        let value = HeaderValue::from_static;
        assert!(is_granted(&value("a, WebSocket"), &value("websocket")));
        assert!(!is_granted(&value("websocket"), &value("h2c")));
        assert!(!is_granted(&value("websocket"), &value("")));
        assert!(may_tunnel(&value("websocket")) && !may_tunnel(&value("websocket, h2c")));
    }
}
