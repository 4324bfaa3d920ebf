//! The parts of a request's target.

use std::net::{IpAddr, SocketAddr};

use percent_encoding::percent_decode_str;
use plimsoll_model::Proto;
use plimsoll_plane::{FlowFilter, Tuple};

use crate::ErrorBody;

/// The segments of a path, decoded. None if one is not UTF-8.
pub(crate) fn segments(path: &str) -> Option<Vec<String>> {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.split('/').map(decode).collect()
}

fn decode(text: &str) -> Option<String> {
    let text = percent_decode_str(text).decode_utf8().ok()?;
    Some(text.into_owned())
}

/// The parameters of a query, in which every one is known and there once.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query whose keys are among `known`.
    ///
    /// # Errors
    /// A key is unknown or doubled, or a value is not UTF-8.
    pub(crate) fn parse(query: &str, known: &[&str]) -> Result<Self, ErrorBody> {
        let hint = || match known {
            [] => "this takes no parameters".to_owned(),
            _ => format!("known are {}", known.join(", ")),
        };
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = value.replace('+', " ");
            let (Some(key), Some(value)) = (decode(key), decode(&value)) else {
                return Err(ErrorBody::new("the query is not UTF-8", ""));
            };
            if !known.contains(&key.as_str()) {
                return Err(ErrorBody::new(format!("unknown parameter {key:?}"), hint()));
            }
            if pairs.iter().any(|(k, _)| *k == key) {
                let error = format!("parameter {key:?} is there twice");
                return Err(ErrorBody::new(error, "leave one out"));
            }
            pairs.push((key, value));
        }
        Ok(Self(pairs))
    }

    fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().find(|(k, _)| k == key);
        found.map(|(_, value)| value.as_str())
    }

    fn parsed<T: std::str::FromStr>(
        &self,
        key: &str,
        wanted: &str,
    ) -> Result<Option<T>, ErrorBody> {
        let parse = |text: &str| {
            let error = || ErrorBody::new(format!("parameter {key}={text:?}"), wanted);
            text.parse().map_err(|_| error())
        };
        self.get(key).map(parse).transpose()
    }
}

/// Flows at most in one answer.
const MAX_FLOWS: usize = 10_000;

/// The filter and the cursor of `/v1/flows`.
pub(crate) fn flows(query: &str) -> Result<(FlowFilter, u64), ErrorBody> {
    let query = Query::parse(query, &["service", "backend", "limit", "cursor"])?;
    let limit: Option<usize> = query.parsed("limit", "expected a number")?;
    let filter = FlowFilter {
        service: query.parsed("service", "expected the name of a service")?,
        backend: query.parsed("backend", "expected the address of a backend")?,
        limit: limit.unwrap_or(0).min(MAX_FLOWS),
    };
    let cursor = query.parsed("cursor", "expected `next` of the answer before")?;
    Ok((filter, cursor.unwrap_or(0)))
}

/// The tuple of `/v1/explain`.
pub(crate) fn tuple(query: &str) -> Result<Tuple, ErrorBody> {
    const CLIENT: &str =
        "expected the client's address: 192.0.2.7, 192.0.2.7:40000, [2001:db8::7]:40000";
    const TO: &str =
        "expected what it connects to: 192.0.2.1:80, [2001:db8::1]:80, 192.0.2.1:53/udp";
    let query = Query::parse(query, &["client", "to", "host", "path"])?;
    let missing = |key, wanted| ErrorBody::new(format!("parameter {key:?} is missing"), wanted);
    let client = query
        .get("client")
        .ok_or_else(|| missing("client", CLIENT))?;
    let client = match client.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, 0),
        Err(_) => query
            .parsed("client", CLIENT)?
            .ok_or_else(|| missing("client", CLIENT))?,
    };
    let to = query.get("to").ok_or_else(|| missing("to", TO))?;
    let (address, udp) = match to.strip_suffix("/udp") {
        Some(address) => (address, true),
        None => (to, false),
    };
    let destination = address
        .parse()
        .map_err(|_| ErrorBody::new(format!("parameter to={to:?}"), TO))?;
    let host = query.get("host").map(str::to_owned);
    let path = query.get("path").map(str::to_owned);
    let proto = match host.is_some() || path.is_some() {
        _ if udp => Proto::Udp,
        true => Proto::Http,
        false => Proto::Tcp,
    };
    Ok(Tuple {
        client,
        destination,
        proto,
        host,
        path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_decoded_one_by_one() {
        let path = "/v1/services/a%2Fb/backends/%5Bfd00%3A%3A1%5D:80/drain";
        let parts = segments(path).unwrap();
        assert_eq!(parts[2], "a/b");
        assert_eq!(parts[4], "[fd00::1]:80");
        assert_eq!(segments("/%ff"), None);
    }

    #[test]
    fn a_query_says_what_is_wrong() {
        for (query, why) in [
            ("servce=web", "unknown parameter \"servce\""),
            ("limit=x", "parameter limit=\"x\""),
            ("limit=1&limit=2", "twice"),
            ("service=%ff", "UTF-8"),
            ("backend=web:80", "parameter backend"),
        ] {
            let error = flows(query).unwrap_err();
            assert!(error.error.contains(why), "{query}: {error:?}");
        }
        let (filter, cursor) = flows("service=web&limit=99999&cursor=5").unwrap();
        assert_eq!((filter.limit, cursor), (MAX_FLOWS, 5));
        assert_eq!(filter.service.unwrap().as_str(), "web");
    }

    #[test]
    fn a_tuple_needs_both_ends() {
        assert!(
            tuple("to=192.0.2.1:80")
                .unwrap_err()
                .error
                .contains("client")
        );
        assert!(tuple("client=192.0.2.7").unwrap_err().error.contains("to"));
        assert!(
            tuple("client=me&to=192.0.2.1:80")
                .unwrap_err()
                .hint
                .contains("address")
        );
        let found = tuple("client=192.0.2.7&to=192.0.2.1:80&host=a.example").unwrap();
        assert_eq!(found.proto, Proto::Http);
        assert_eq!(found.client, "192.0.2.7:0".parse().unwrap());
        let found = tuple("client=[2001:db8::7]:1&to=[2001:db8::1]:80").unwrap();
        assert_eq!(found.proto, Proto::Tcp);
        let found = tuple("client=[2001:db8::7]:1&to=[2001:db8::1]:53/udp").unwrap();
        assert_eq!(found.proto, Proto::Udp);
        assert_eq!(found.destination, "[2001:db8::1]:53".parse().unwrap());
        let error = tuple("client=192.0.2.7&to=192.0.2.1/udp").unwrap_err();
        assert_eq!(error.error, "parameter to=\"192.0.2.1/udp\"");
    }
}
