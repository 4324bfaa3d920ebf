//! Compression of responses, where a service or route asks for it.

mod accept;
mod encoder;
mod packed;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use plimsoll_model::{Coding, Compress};

pub(crate) use encoder::Encoder;
pub(crate) use packed::Packed;

/// Digests of what a backend has sent, which would not be those of what is sent on (RFC 9530).
const DIGESTS: [HeaderName; 3] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
];

/// What the client of a request accepts, of what there is. HTTP/1.0 has no way to send a body of
/// unknown length and keep the connection: it gets none.
pub(crate) fn preferred(rules: &Compress, headers: &HeaderMap, http10: bool) -> Option<Coding> {
    match http10 {
        true => None,
        false => accept::preferred(headers, &rules.algorithms),
    }
}

/// A response as it comes from a backend.
pub(crate) struct Answer<'a> {
    pub(crate) method: &'a Method,
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a mut HeaderMap,
    /// The length of its body, if it is said.
    pub(crate) length: Option<u64>,
}

impl Answer<'_> {
    /// Whether such a response is compressed for clients that accept that.
    fn is_fit(&self, rules: &Compress) -> bool {
        // RFC 9110 §15.3.7: parts are of what was asked for before. 304 has no body, and neither
        // have 204 and 205.
        let status = match self.status {
            StatusCode::NO_CONTENT
            | StatusCode::RESET_CONTENT
            | StatusCode::PARTIAL_CONTENT
            | StatusCode::NOT_MODIFIED => false,
            status => !status.is_informational(),
        };
        let has = |name: &HeaderName| self.headers.contains_key(name);
        let short = self
            .length
            .is_some_and(|length| length < rules.min_size.max(1));
        let own = has(&header::CONTENT_ENCODING) || has(&header::CONTENT_RANGE);
        let bound = has(&header::TRAILER) || DIGESTS.iter().any(has);
        if !status
            || short
            || own
            || bound
            || says(self.headers, &header::CACHE_CONTROL, "no-transform")
        {
            return false;
        }
        let media_type = self.headers.get(header::CONTENT_TYPE);
        let media_type = media_type.and_then(|value| value.to_str().ok());
        let media_type = media_type.map(|text| text.split(';').next().unwrap_or_default().trim());
        media_type.is_some_and(|text| rules.types.iter().any(|types| types.has(text)))
    }

    /// Says in the header that the response is compressed, if it is: with what. To HEAD it says what it
    /// would to GET.
    pub(crate) fn compress(&mut self, rules: &Compress, coding: Option<Coding>) -> Option<Encoder> {
        if !self.is_fit(rules) {
            return None;
        }
        // It would have been another one for another client, whatever this one gets.
        vary(self.headers);
        let coding = coding?;
        let encoder = Encoder::new(coding, rules.level).ok()?;
        let headers = &mut *self.headers;
        let name = HeaderValue::from_static(coding.as_str());
        headers.insert(header::CONTENT_ENCODING, name);
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::ACCEPT_RANGES);
        headers.remove(HeaderName::from_static("content-md5"));
        weaken(headers);
        (*self.method != Method::HEAD).then_some(encoder)
    }
}

/// Whether a list in the header has this element.
fn says(headers: &HeaderMap, name: &HeaderName, element: &str) -> bool {
    let values = headers.get_all(name).iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    let mut elements = texts.flat_map(|text| text.split(','));
    elements.any(|text| text.trim().eq_ignore_ascii_case(element))
}

/// The response depends on what the client accepts: RFC 9110 §12.5.5.
fn vary(headers: &mut HeaderMap) {
    let known = says(headers, &header::VARY, "*")
        || says(headers, &header::VARY, header::ACCEPT_ENCODING.as_str());
    if !known {
        headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

/// The bytes are not those that the backend made its tag of: RFC 9110 §8.8.1.
fn weaken(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(header::ETAG) else {
        return;
    };
    if tag.as_bytes().starts_with(b"W/") {
        return;
    }
    let weak = [b"W/", tag.as_bytes()].concat();
    match HeaderValue::from_maybe_shared(bytes::Bytes::from(weak)) {
        Ok(weak) => drop(headers.insert(header::ETAG, weak)),
        Err(_) => drop(headers.remove(header::ETAG)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compressed(
        status: u16,
        method: Method,
        length: Option<u64>,
        fields: &[(&'static str, &'static str)],
    ) -> (bool, HeaderMap) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        let mut answer = Answer {
            method: &method,
            status: StatusCode::from_u16(status).unwrap(),
            headers: &mut headers,
            length,
        };
        let encoder = answer.compress(&Compress::default(), Some(Coding::Br));
        (encoder.is_some(), headers)
    }

    const TEXT: (&str, &str) = ("content-type", "Text/HTML; charset=utf-8");

    #[test]
    fn what_is_fit_says_so_in_its_header() {
        let fields = [
            TEXT,
            ("content-length", "5000"),
            ("etag", "\"abc\""),
            ("vary", "Origin"),
            ("accept-ranges", "bytes"),
        ];
        let (packed, headers) = compressed(200, Method::GET, Some(5000), &fields);
        assert!(packed);
        let get = |name: &str| headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(get("content-encoding"), Some("br"));
        assert_eq!(get("etag"), Some("W/\"abc\""));
        assert_eq!((get("content-length"), get("accept-ranges")), (None, None));
        let vary: Vec<_> = headers.get_all("vary").iter().collect();
        assert_eq!(vary, ["Origin", "Accept-Encoding"]);
        // HEAD is told the same, and has no body.
        let (packed, of_head) = compressed(200, Method::HEAD, Some(5000), &fields);
        assert!(!packed);
        assert_eq!(of_head, headers);
    }

    #[test]
    fn what_is_not_fit_is_left_alone() {
        let long = Some(5000);
        for (status, length, fields) in [
            (204, None, &[TEXT][..]),
            (206, long, &[TEXT]),
            (304, None, &[TEXT]),
            (200, Some(1023), &[TEXT]),
            (200, long, &[]),
            (200, long, &[("content-type", "image/png")]),
            (200, long, &[TEXT, ("content-encoding", "gzip")]),
            (
                200,
                long,
                &[TEXT, ("cache-control", "public, No-Transform")],
            ),
            (200, long, &[TEXT, ("content-range", "bytes 0-1/2")]),
            (200, long, &[TEXT, ("trailer", "x")]),
            (200, long, &[TEXT, ("repr-digest", "x")]),
        ] {
            let (packed, headers) = compressed(status, Method::GET, length, fields);
            assert!(!packed, "{status} {fields:?}");
            assert_eq!(
                headers.len(),
                fields.len(),
                "{status} {fields:?}: {headers:?}"
            );
        }
        assert!(
            compressed(200, Method::GET, None, &[TEXT]).0,
            "of unknown length"
        );
        assert!(compressed(404, Method::POST, long, &[TEXT]).0);
        let (_, headers) = compressed(200, Method::GET, None, &[TEXT, ("vary", "*")]);
        assert_eq!(headers.get_all("vary").iter().count(), 1);
        let (_, headers) = compressed(200, Method::GET, None, &[TEXT, ("etag", "W/\"a\"")]);
        assert_eq!(headers.get("etag").unwrap(), "W/\"a\"");
    }
}
