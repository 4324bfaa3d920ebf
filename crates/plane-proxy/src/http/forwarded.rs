//! `X-Forwarded-*` and `Forwarded` (RFC 7239): for whom a request is made.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use plimsoll_model::Scheme;

use super::headers::take_forwarded;
use super::scheme::PROTO;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What a client adds to its requests.
#[derive(Debug)]
pub(crate) struct Forwarded {
    ip: IpAddr,
    ip_value: HeaderValue,
    /// Host and scheme of the last request with the `Forwarded` made for it: most connections ask for
    /// one.
    last: RefCell<Option<(HeaderValue, Scheme, HeaderValue)>>,
}

impl Forwarded {
    pub(crate) fn new(ip: IpAddr) -> Self {
        let mut text = Vec::with_capacity(39);
        write_ip(&mut text, ip);
        let ip_value = HeaderValue::from_maybe_shared(Bytes::from(text))
            .unwrap_or(HeaderValue::from_static(""));
        Self {
            ip,
            ip_value,
            last: RefCell::new(None),
        }
    }

    /// The client's address.
    pub(crate) fn ip_value(&self) -> &HeaderValue {
        &self.ip_value
    }

    /// Whether the client is in one of these networks, so that it is believed what it says.
    pub(crate) fn is_trusted(&self, trusted: &[IpNet]) -> bool {
        !trusted.is_empty() && trusted.iter().any(|net| net.contains(&self.ip))
    }

    /// For whom a request is made: the client, or, where it is in one of `trusted`, whom it names in
    /// `X-Forwarded-For`, as long as those are in `trusted`, too. What is no address ends the way
    /// back, as in nginx (`real_ip_recursive`).
    pub(crate) fn speaks_for(&self, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
        let mut ip = self.ip;
        let is_trusted = |ip: IpAddr| trusted.iter().any(|net| net.contains(&ip));
        if trusted.is_empty() || !is_trusted(ip) {
            return ip;
        }
        // Each proxy adds the address of its own client at the end.
        let fields = headers.get_all(FOR).iter().rev();
        for said in fields.flat_map(|field| field.as_bytes().rsplit(|b| *b == b',')) {
            let Some(said) = read_ip(said) else {
                break;
            };
            ip = said;
            if !is_trusted(ip) {
                break;
            }
        }
        ip
    }

    /// Sets the fields. What the client says is believed if it is in one of `trusted`, and then
    /// added to; otherwise all of it goes. `said` tells whether there is something, `scheme` by which
    /// it came itself.
    pub(crate) fn set(
        &self,
        headers: &mut HeaderMap,
        host: &HeaderValue,
        trusted: &[IpNet],
        said: bool,
        scheme: Scheme,
    ) {
        let own = self.element(host, scheme);
        let proto = HeaderValue::from_static(scheme.as_str());
        if self.is_trusted(trusted) {
            append(headers, FOR, &self.ip_value);
            append(headers, header::FORWARDED, &own);
            headers.entry(PROTO).or_insert(proto);
            headers.entry(HOST).or_insert_with(|| host.clone());
        } else {
            if said {
                take_forwarded(headers);
            }
            headers.insert(FOR, self.ip_value.clone());
            headers.insert(PROTO, proto);
            headers.insert(HOST, host.clone());
            headers.insert(header::FORWARDED, own);
        }
    }

    fn element(&self, host: &HeaderValue, scheme: Scheme) -> HeaderValue {
        let mut last = self.last.borrow_mut();
        if let Some((of, by, element)) = &*last
            && (of, *by) == (host, scheme)
        {
            return element.clone();
        }
        // RFC 7239 §4 and §6: an IPv6 address is in brackets and so quoted, as is a host that is
        // more than a token.
        let ip = self.ip_value.as_bytes();
        let mut text = Vec::with_capacity(64);
        let (before, after): (&[u8], &[u8]) = if self.ip.is_ipv4() {
            (b"for=", b"")
        } else {
            (b"for=\"[", b"]\"")
        };
        for part in [before, ip, after] {
            text.extend_from_slice(part);
        }
        let name = host.as_bytes();
        let is_token = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
        let quote: &[u8] = if name.iter().all(is_token) {
            b""
        } else {
            b"\""
        };
        if !name.is_empty() {
            for part in [b";host=", quote, name, quote] {
                text.extend_from_slice(part);
            }
        }
        text.extend_from_slice(b";proto=");
        text.extend_from_slice(scheme.as_str().as_bytes());
        let element = HeaderValue::from_maybe_shared(Bytes::from(text))
            .unwrap_or(HeaderValue::from_static("for=unknown"));
        // A copy: the field itself is a part of the connection's read buffer, and would keep it.
        let of = HeaderValue::from_bytes(host.as_bytes()).unwrap_or_else(|_| host.clone());
        *last = Some((of, scheme, element.clone()));
        element
    }
}

/// What the clients that came last add, by address: one client opens several connections, and many
/// clients come by one address.
#[derive(Debug)]
pub(crate) struct Recent(RefCell<[Option<Rc<Forwarded>>; SLOTS]>);

/// Clients remembered per worker.
const SLOTS: usize = 64;

impl Default for Recent {
    fn default() -> Self {
        Self(RefCell::new(std::array::from_fn(|_| None)))
    }
}

impl Recent {
    /// What a client of this address adds.
    pub(crate) fn of(&self, ip: IpAddr) -> Rc<Forwarded> {
        let last = match ip {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(ip) => ip.octets()[15],
        };
        let mut slots = self.0.borrow_mut();
        let Some(slot) = slots.get_mut(usize::from(last) % SLOTS) else {
            return Rc::new(Forwarded::new(ip));
        };
        match slot {
            Some(known) if known.ip == ip => known.clone(),
            slot => slot.insert(Rc::new(Forwarded::new(ip))).clone(),
        }
    }
}

/// An address as text. Once per connection, so IPv4 does without the machinery of `fmt`.
fn write_ip(text: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            for (i, octet) in ip.octets().into_iter().enumerate() {
                if i > 0 {
                    text.push(b'.');
                }
                if octet >= 100 {
                    text.push(b'0' + octet / 100);
                }
                if octet >= 10 {
                    text.push(b'0' + octet / 10 % 10);
                }
                text.push(b'0' + octet % 10);
            }
        }
        IpAddr::V6(ip) => text.extend_from_slice(ip.to_string().as_bytes()),
    }
}

/// An address, which may have a port behind it, as some proxies write it.
fn read_ip(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?.trim_ascii();
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|addr| addr.ip());
    let ip: Option<IpAddr> = text.parse().ok().or_else(bare).or_else(with_port);
    ip.map(|ip| ip.to_canonical())
}

/// Adds to a list, which becomes one field.
fn append(headers: &mut HeaderMap, name: HeaderName, value: &HeaderValue) {
    let mut all: Vec<u8> = Vec::new();
    for before in headers.get_all(&name) {
        all.extend_from_slice(before.as_bytes());
        all.extend_from_slice(b", ");
    }
    all.extend_from_slice(value.as_bytes());
    headers.insert(
        name,
        HeaderValue::from_bytes(&all).unwrap_or_else(|_| value.clone()),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What others say of their clients, and backends may believe.
    const MORE: [&str; 4] = [
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-forwarded-user",
        "x-real-ip",
    ];

    fn set(ip: &str, trusted: &[&str], host: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(FOR, HeaderValue::from_static("6.6.6.6"));
        headers.insert(PROTO, HeaderValue::from_static("https"));
        for more in MORE {
            headers.insert(more, HeaderValue::from_static("evil"));
        }
        headers.insert(header::FORWARDED, HeaderValue::from_static("for=6.6.6.6"));
        let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().unwrap()).collect();
        let forwarded = Forwarded::new(ip.parse().unwrap());
        let host = HeaderValue::from_static(host);
        forwarded.set(&mut headers, &host, &trusted, true, Scheme::Http);
        headers
    }

    #[test]
    fn what_a_stranger_says_is_overwritten() {
        let headers = set("10.0.0.1", &["192.168.0.0/16"], "a.org");
        assert_eq!(headers[FOR], "10.0.0.1");
        assert_eq!(headers[PROTO], "http");
        assert_eq!(headers[HOST], "a.org");
        assert_eq!(headers.len(), 4, "{headers:?}");
        assert_eq!(
            headers[header::FORWARDED],
            "for=10.0.0.1;host=a.org;proto=http"
        );
    }

    #[test]
    fn what_a_trusted_client_says_is_added_to() {
        let headers = set("192.168.1.1", &["192.168.0.0/16"], "a.org:8080");
        assert_eq!(headers[FOR], "6.6.6.6, 192.168.1.1");

        assert_eq!(headers[PROTO], "https");
        assert!(MORE.iter().all(|name| headers[*name] == "evil"));
        assert_eq!(
            headers[header::FORWARDED],
            "for=6.6.6.6, for=192.168.1.1;host=\"a.org:8080\";proto=http"
        );
    }

    #[test]
    fn the_client_behind_trusted_proxies_is_who_the_last_of_them_names() {
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "fd00::/8"]
            .map(|n| n.parse().unwrap())
            .into();
        for (from, said, client) in [
            // A stranger is itself, whatever it says.
            ("192.0.2.1", &["6.6.6.6"][..], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["192.0.2.7"], "192.0.2.7"),
            // What a client itself has said stands before what the proxy adds.
            ("10.0.0.1", &["6.6.6.6, 192.0.2.7"], "192.0.2.7"),
            (
                "10.0.0.1",
                &["6.6.6.6", "192.0.2.7 , 10.0.0.2"],
                "192.0.2.7",
            ),
            ("10.0.0.1", &["10.0.0.3,10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["6.6.6.6, unknown, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["6.6.6.6,"], "10.0.0.1"),
            ("fd00::1", &["192.0.2.7:4711"], "192.0.2.7"),
            ("fd00::1", &["[2001:db8::7]:4711"], "2001:db8::7"),
            ("fd00::1", &["[2001:db8::7]"], "2001:db8::7"),
            ("fd00::1", &["::ffff:192.0.2.7"], "192.0.2.7"),
        ] {
            let mut headers = HeaderMap::new();
            for value in said {
                headers.append(FOR, HeaderValue::from_static(value));
            }
            let forwarded = Forwarded::new(from.parse().unwrap());
            let found = forwarded.speaks_for(&headers, &trusted);
            assert_eq!(found.to_string(), client, "{from} {said:?}");
        }
    }

    #[test]
    fn addresses_are_written_as_the_library_writes_them() {
        for ip in ["0.0.0.0", "1.20.100.255", "9.10.99.101", "::1", "fd00::1:2"] {
            let mut text = Vec::new();
            write_ip(&mut text, ip.parse().unwrap());
            assert_eq!(String::from_utf8(text).unwrap(), ip);
        }
    }

    #[test]
    fn clients_that_share_a_slot_are_told_apart() {
        let recent = Recent::default();
        for ip in [
            "10.0.0.1",
            "10.0.1.1",
            "10.0.0.65",
            "10.0.0.1",
            "fd00::1",
            "::ffff",
        ] {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!(recent.of(ip).ip, ip);
            assert!(Rc::ptr_eq(&recent.of(ip), &recent.of(ip)));
        }
    }

    #[test]
    fn an_ipv6_client_is_quoted() {
        let headers = set("fd00::1", &[], "a");
        assert_eq!(headers[FOR], "fd00::1");
        assert_eq!(
            headers[header::FORWARDED],
            "for=\"[fd00::1]\";host=a;proto=http"
        );
    }
}
