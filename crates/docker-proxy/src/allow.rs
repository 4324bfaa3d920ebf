//! Which requests are passed on.

use std::fmt::Write;

use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::Value;

/// What may be asked of an engine. All of it only reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/_ping`
    Ping,
    /// `/version`
    Version,
    /// `/info`
    Info,
    /// `/events`
    Events,
    /// `/containers/json`
    Containers,
    /// `/containers/{id}/json`
    Container,
    /// `/networks`
    Networks,
    /// `/networks/{id}`
    Network,
    /// `/services`, of a Swarm
    Services,
    /// `/tasks`, of a Swarm
    Tasks,
    /// `/nodes`, of a Swarm
    Nodes,
}

impl Endpoint {
    /// The parameters that are passed on.
    fn parameters(self) -> &'static [(&'static str, Parameter)] {
        use Parameter::{Filters, Flag, Time};
        match self {
            Self::Ping | Self::Version | Self::Info | Self::Container | Self::Network => &[],
            Self::Events => &[("filters", Filters), ("since", Time), ("until", Time)],
            Self::Containers => &[("all", Flag), ("filters", Filters)],
            Self::Networks | Self::Tasks | Self::Nodes => &[("filters", Filters)],
            Self::Services => &[("filters", Filters), ("status", Flag)],
        }
    }
}

/// What the value of a parameter looks like.
#[derive(Clone, Copy)]
enum Parameter {
    /// A JSON object.
    Filters,
    /// A truth value.
    Flag,
    /// Seconds since 1970, with a fraction or without.
    Time,
}

/// The longest value of a parameter, in bytes.
const MAX_VALUE: usize = 8 << 10;
/// The longest name or id. Engines take names of any length, but file systems do not.
const MAX_ID: usize = 255;
/// Digits of seconds since 1970: some ten thousand years.
const MAX_SECONDS: usize = 12;
/// What stands in a value of a query as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

/// A request that is passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// What it asks.
    pub endpoint: Endpoint,
    /// GET, or HEAD for [`Endpoint::Ping`].
    pub method: Method,
    /// The path and query to send, written anew: asked for again, it stays as it is.
    pub target: String,
}

/// Why a request is not passed on, for whoever sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(pub String);

/// Whether a request is passed on, and as what; `target` is its path and query as they arrived.
///
/// # Errors
/// It is not on the list.
pub fn decide(method: &Method, target: &str) -> Result<Allowed, Refused> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (version, rest) = version(path);
    let endpoint = endpoint(rest).ok_or_else(|| {
        let shown: String = path.escape_debug().take(200).collect();
        Refused(format!(
            "{shown} is not passed on: only what a load balancer reads is (ping, version, info, \
             events, and lists of containers, networks, services, tasks and nodes)"
        ))
    })?;
    let reads = *method == Method::GET || *method == Method::HEAD && endpoint == Endpoint::Ping;
    if !reads {
        let shown: String = method.as_str().chars().take(20).collect();
        return Err(Refused(format!(
            "{shown} is not passed on: nothing can be changed here"
        )));
    }
    let mut target = format!("{version}{rest}");
    for (at, (key, value)) in parameters(endpoint, query)?.into_iter().enumerate() {
        let before = if at == 0 { '?' } else { '&' };
        // Writing to a string does not fail.
        let _ = write!(
            target,
            "{before}{key}={}",
            utf8_percent_encode(&value, PLAIN)
        );
    }
    Ok(Allowed {
        endpoint,
        method: method.clone(),
        target,
    })
}

/// Splits `/v1.NN` off.
fn version(path: &str) -> (&str, &str) {
    let split = || {
        let digits = path.strip_prefix("/v1.")?;
        let length = digits.find('/')?;
        let minor = digits.get(..length)?;
        let is_one = (1..=3).contains(&length) && minor.bytes().all(|b| b.is_ascii_digit());
        is_one.then(|| path.split_at("/v1.".len() + length))
    };
    split().unwrap_or(("", path))
}

/// The endpoint of a path without version. What is not written exactly so is none: no escapes, no
/// dots, no slash too many.
fn endpoint(path: &str) -> Option<Endpoint> {
    let mut parts = path.strip_prefix('/')?.split('/');
    let all = [(); 4].map(|()| parts.next());
    match all {
        [Some("_ping"), None, ..] => Some(Endpoint::Ping),
        [Some("version"), None, ..] => Some(Endpoint::Version),
        [Some("info"), None, ..] => Some(Endpoint::Info),
        [Some("events"), None, ..] => Some(Endpoint::Events),
        [Some("containers"), Some("json"), None, ..] => Some(Endpoint::Containers),
        [Some("containers"), Some(id), Some("json"), None] if is_id(id) => {
            Some(Endpoint::Container)
        }
        [Some("networks"), None, ..] => Some(Endpoint::Networks),
        [Some("networks"), Some(id), None, _] if is_id(id) => Some(Endpoint::Network),
        [Some("services"), None, ..] => Some(Endpoint::Services),
        [Some("tasks"), None, ..] => Some(Endpoint::Tasks),
        [Some("nodes"), None, ..] => Some(Endpoint::Nodes),
        _ => None,
    }
}

/// Whether this is a name or an id: letters, digits, and `_`, `.` or `-` behind the first.
fn is_id(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    text.len() <= MAX_ID
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(plain)
}

/// The parameters of a query, decoded.
fn parameters(endpoint: Endpoint, query: &str) -> Result<Vec<(&'static str, String)>, Refused> {
    let mut read: Vec<(&'static str, String)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let shown: String = key.escape_debug().take(50).collect();
        let refuse = |why: &str| Refused(format!("parameter `{shown}` is not passed on: {why}"));
        let known = endpoint
            .parameters()
            .iter()
            .find(|(known, _)| *known == key);
        let (key, kind) = known.ok_or_else(|| refuse("it is not needed to balance load"))?;
        if read.iter().any(|(known, _)| known == key) {
            return Err(refuse("it is there twice"));
        }
        if value.len() > MAX_VALUE {
            return Err(refuse("its value is too long"));
        }
        // As Go's net/url reads it, which the engine does.
        let value = value.replace('+', " ");
        let value = percent_decode_str(&value).decode_utf8();
        let value = value.map_err(|_| refuse("its value is not UTF-8 text"))?;
        let value = match kind {
            Parameter::Filters => filters(&value).ok_or_else(|| {
                refuse("its value is no JSON object of lists, such as {\"label\":[\"a=b\"]}")
            })?,
            Parameter::Flag if matches!(&*value, "0" | "1" | "true" | "false") => value.into(),
            Parameter::Flag => return Err(refuse("its value is neither true nor false")),
            Parameter::Time if is_time(&value) => value.into(),
            Parameter::Time => {
                let shown: String = value.escape_debug().take(50).collect();
                return Err(refuse(&format!(
                    "`{shown}` is no time in seconds since 1970, such as 1700000000.000000001"
                )));
            }
        };
        read.push((key, value));
    }
    Ok(read)
}

/// `1700000000` or `1700000000.000000001`. Of other lengths engines make nothing, or nonsense.
fn is_time(text: &str) -> bool {
    let digits = |text: &str, most: usize| {
        (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
    };
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    digits(seconds, MAX_SECONDS) && digits(fraction, 9)
}

/// Filters written anew: an object of lists of texts, or of objects of truth values, which older
/// clients send.
fn filters(text: &str) -> Option<String> {
    let value: Value = serde_json::from_str(text).ok()?;
    let good = value.as_object()?.values().all(|values| match values {
        Value::Array(values) => values.iter().all(Value::is_string),
        Value::Object(values) => values.values().all(Value::is_boolean),
        _ => false,
    });
    good.then(|| value.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn get(target: &str) -> Result<Allowed, Refused> {
        decide(&Method::GET, target)
    }

    #[test]
    fn what_a_balancer_reads_is_passed_on() {
        for (target, endpoint) in [
            ("/_ping", Endpoint::Ping),
            ("/version", Endpoint::Version),
            ("/v1.41/info", Endpoint::Info),
            ("/v1.52/events?since=1700000000.000000001", Endpoint::Events),
            ("/v1.41/containers/json?all=1", Endpoint::Containers),
            ("/containers/json", Endpoint::Containers),
            ("/v1.41/containers/0123456789ab/json", Endpoint::Container),
            ("/containers/a-b_c.d/json", Endpoint::Container),
            ("/containers/json/json", Endpoint::Container),
            ("/networks", Endpoint::Networks),
            ("/networks/front", Endpoint::Network),
            ("/v1.41/services?status=true", Endpoint::Services),
            ("/tasks", Endpoint::Tasks),
            ("/nodes", Endpoint::Nodes),
        ] {
            let allowed = get(target).unwrap();
            assert_eq!(
                (allowed.endpoint, allowed.target.as_str()),
                (endpoint, target)
            );
        }
        assert!(decide(&Method::HEAD, "/_ping").is_ok());
        assert!(decide(&Method::HEAD, "/v1.41/_ping").is_ok());
    }

    #[test]
    fn nothing_else_is() {
        for target in [
            "",
            "/",
            "//_ping",
            "/_ping/",
            "/v1.41",
            "/v1.41//info",
            "/v2.0/info",
            "/v1./info",
            "/v1.1234/info",
            "/v1.4a/info",
            "/v1.41/v1.41/info",
            "/V1.41/info",
            "/containers",
            "/containers/",
            "/containers/a",
            "/containers/a/",
            "/containers/a/json/",
            "/containers//json",
            "/containers/../json",
            "/containers/./json",
            "/containers/.a/json",
            "/containers/-a/json",
            "/containers/a%2fb/json",
            "/containers/a%2e%2e/json",
            "/%63ontainers/json",
            "/containers/é/json",
            "/containers/a/archive",
            "/containers/a/export",
            "/containers/a/logs",
            "/containers/a/top",
            "/containers/a/stats",
            "/containers/a/attach/ws",
            "/containers/a/json/../archive",
            "/networks/a/b",
            "/networks/",
            "/services/a",
            "/services/a/logs",
            "/secrets",
            "/configs",
            "/swarm",
            "/swarm/unlockkey",
            "/images/json",
            "/volumes",
            "/system/df",
            "/exec/a/json",
            "/plugins",
            "/session",
            "/containers/a/json#",
            "http://a/_ping",
            "*",
        ] {
            let refused = get(target).unwrap_err();
            assert!(
                refused.0.contains("is not passed on"),
                "{target}: {}",
                refused.0
            );
        }
        let long = format!("/containers/{}/json", "a".repeat(MAX_ID + 1));
        assert!(get(&long).is_err());
        for method in [
            "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "CONNECT", "get",
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert!(decide(&method, "/containers/json").is_err(), "{method}");
        }
    }

    #[test]
    fn parameters_are_listed_by_endpoint_and_written_anew() {
        let target = "/events?filters=%7B%22type%22%3A%5b%22container%22]}&&until=5";
        assert_eq!(
            get(target).unwrap().target,
            "/events?filters=%7B%22type%22%3A%5B%22container%22%5D%7D&until=5"
        );
        assert!(get("/containers/json?filters={\"label\":{\"a=b\":true}}").is_ok());
        for (target, why) in [
            (
                "/containers/a/json?size=1",
                "`size` is not passed on: it is not needed",
            ),
            ("/containers/json?size=true", "`size`"),
            ("/containers/json?limit=5", "`limit`"),
            ("/containers/json?%61ll=1", "`%61ll`"),
            ("/containers/json?ALL=1", "`ALL`"),
            ("/containers/json?all=1&all=0", "twice"),
            ("/containers/json?all=2", "neither"),
            ("/containers/json?all", "neither"),
            ("/containers/json?filters=5", "no JSON object"),
            ("/containers/json?filters={\"a\":1}", "no JSON object"),
            ("/containers/json?filters={\"a\":[1]}", "no JSON object"),
            ("/containers/json?filters=%ff", "UTF-8"),
            ("/containers/json?all=1%00", "neither"),
            (
                "/events?since=yesterday",
                "parameter `since` is not passed on: `yesterday` is no time",
            ),
            ("/events?since=1.", "`1.` is no time"),
            ("/events?since=", "`` is no time"),
            (
                "/events?since=-1",
                "parameter `since` is not passed on: `-1` is no time in seconds",
            ),
            (
                "/events?since=5&until=9999999999999",
                "parameter `until` is not passed on: `9999999999999` is no time",
            ),
            ("/events?since=1.0000000001", "parameter `since`"),
            ("/_ping?a=b", "`a`"),
            ("/version?a", "`a`"),
            ("/containers/json?all=1;size=1", "neither"),
        ] {
            let refused = get(target).unwrap_err().0;
            assert!(refused.contains(why), "{target}: {refused}");
        }
        let long = format!("/events?filters={}", "a".repeat(MAX_VALUE + 1));
        assert!(get(&long).unwrap_err().0.contains("too long"));
    }

    proptest! {
        #[test]
        fn what_is_allowed_stays_as_it_is(
            path in "(/v1\\.[0-9]{1,3})?/(events|containers/json|networks|containers/[a-z0-9.%/_-]{0,6}/json)",
            query in "(\\?(filters=\\{\"[a-z%+&]{0,3}\":\\[\"[ -~é]{0,5}\"\\]\\}|all=1|since=[0-9.]{1,4}|[a-z=&]{0,6}))?",
        ) {
            if let Ok(allowed) = get(&format!("{path}{query}")) {
                let again = get(&allowed.target);
                prop_assert_eq!(again.as_ref(), Ok(&allowed));
                let sent = allowed.target.split('?').next().unwrap_or_default();
                prop_assert_eq!(sent, path.as_str());
                prop_assert!(!sent.contains("..") || sent.contains(|c: char| c.is_ascii_alphanumeric()));
                prop_assert!(!sent.contains('%') && !sent.contains("//"));
                prop_assert!(allowed.target.bytes().all(|b| b.is_ascii_graphic()));
            }
        }
    }
}
