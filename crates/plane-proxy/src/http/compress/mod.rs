//! Compression of responses, where a service or route asks for it.

mod accept;
mod encoder;
mod memory;
mod packed;

use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use plimsoll_model::{Coding, Compress};

pub(crate) use encoder::Encoder;
pub(crate) use memory::Memory;
use memory::cost;
pub(crate) use packed::Packed;

/// Digests of what a backend has sent, which would not be those of what is sent on (RFC 9530).
const DIGESTS: [HeaderName; 3] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
];

/// What a request says that matters to how its response is compressed.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// What its client accepts, of what there is.
    coding: Option<Coding>,
    /// `If-None-Match`, as it came.
    tags: Vec<HeaderValue>,
}

impl Wanted {
    /// HTTP/1.0 has no way to send a body of unknown length and keep the connection: it gets no coding.
    pub(crate) fn new(rules: &Compress, headers: &HeaderMap, http10: bool) -> Self {
        let coding = match http10 {
            true => None,
            false => accept::preferred(headers, &rules.algorithms),
        };
        let tags = headers.get_all(header::IF_NONE_MATCH).iter();
        Self {
            coding,
            tags: tags.cloned().collect(),
        }
    }

    /// Whether the client has the weak form of this strong tag, and not the tag itself.
    fn has_weak(&self, tag: &HeaderValue) -> bool {
        let texts = self.tags.iter().filter_map(|tags| tags.to_str().ok());
        let mut weak = false;
        // Tags may hold commas, but then none of their parts is the whole of one.
        for known in texts.flat_map(|text| text.split(',')).map(str::trim) {
            if known.as_bytes() == tag.as_bytes() {
                return false;
            }
            weak |= (known.strip_prefix("W/")).is_some_and(|known| known.as_bytes() == tag);
        }
        weak
    }
}

/// How a response is sent on.
#[derive(Debug)]
pub(crate) enum Compression {
    /// As it is.
    None,
    /// As it is, because all encoders hold as much memory as they may.
    NoMemory,
    /// Compressed by this.
    Packed(Box<Encoder>),
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
    /// Whether such a resource is compressed for clients that accept that, as far as its header says.
    fn is_fit(&self, rules: &Compress) -> bool {
        let has = |name: &HeaderName| self.headers.contains_key(name);
        let short = self
            .length
            .is_some_and(|length| length < rules.min_size.max(1));
        // What is said of a part or of nothing is not said of the whole.
        let short = short && !self.is_partial();
        let own = has(&header::CONTENT_ENCODING);
        let bound = has(&header::TRAILER) || DIGESTS.iter().any(has);
        if short || own || bound || says(self.headers, &header::CACHE_CONTROL, "no-transform") {
            return false;
        }
        let media_type = self.headers.get(header::CONTENT_TYPE);
        let media_type = media_type.and_then(|value| value.to_str().ok());
        let media_type = media_type.map(|text| text.split(';').next().unwrap_or_default().trim());
        match media_type {
            // Parts say their type themselves.
            Some("multipart/byteranges") if self.is_partial() => true,
            Some(text) => rules.types.iter().any(|types| types.has(text)),
            // RFC 9110 §15.4.5: it need not be said of what the client has.
            None => self.status == StatusCode::NOT_MODIFIED,
        }
    }

    /// Whether it tells of a resource that another answer has the whole of.
    fn is_partial(&self) -> bool {
        matches!(
            self.status,
            StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED
        )
    }

    /// Says in the header that the response is compressed, if it is: with what. To HEAD it says what it
    /// would to GET.
    pub(crate) fn compress(
        &mut self,
        rules: &Compress,
        wanted: &Wanted,
        memory: &Arc<Memory>,
    ) -> Compression {
        let none = matches!(
            self.status,
            StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT
        );
        // RFC 9110 §14.4: only a part has a range; what else says so is left alone.
        let odd = !self.is_partial() && self.headers.contains_key(header::CONTENT_RANGE);
        if none || odd || self.status.is_informational() || !self.is_fit(rules) {
            return Compression::None;
        }
        // It would have been another one for another client, whatever this one gets.
        vary(self.headers);
        if self.is_partial() {
            // RFC 9110 §15.3.7: parts are of what was asked for before. §15.4.5: nothing has the tag
            // that all would have had.
            let tag = self.headers.get(header::ETAG);
            let nothing = self.status == StatusCode::NOT_MODIFIED;
            if nothing && tag.is_some_and(|tag| wanted.has_weak(tag)) {
                weaken(self.headers);
            }
            return Compression::None;
        }
        let Some(coding) = wanted.coding else {
            return Compression::None;
        };
        let mut compression = Compression::None;
        if *self.method != Method::HEAD {
            let Some(share) = memory.take(cost(coding, rules.level)) else {
                return Compression::NoMemory;
            };
            match Encoder::new(coding, rules.level, share) {
                Ok(encoder) => compression = Compression::Packed(encoder.into()),
                Err(_) => return Compression::NoMemory,
            }
        }
        let headers = &mut *self.headers;
        let name = HeaderValue::from_static(coding.as_str());
        headers.insert(header::CONTENT_ENCODING, name);
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::ACCEPT_RANGES);
        headers.remove(HeaderName::from_static("content-md5"));
        weaken(headers);
        compression
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
        let memory = Memory::new(0);
        let (result, headers) = with(&memory, &[], (status, method, length), fields);
        (matches!(result, Compression::Packed(_)), headers)
    }

    /// For a client that accepts `br` and has what has these tags.
    fn with(
        memory: &Arc<Memory>,
        tags: &[&'static str],
        (status, method, length): (u16, Method, Option<u64>),
        fields: &[(&'static str, &'static str)],
    ) -> (Compression, HeaderMap) {
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
        let wanted = Wanted {
            coding: Some(Coding::Br),
            tags: tags.iter().copied().map(HeaderValue::from_static).collect(),
        };
        let result = answer.compress(&Compress::default(), &wanted, memory);
        (result, headers)
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
            (206, long, &[("content-type", "image/png")]),
            (206, long, &[TEXT, ("content-encoding", "gzip")]),
            (304, None, &[("content-type", "image/png")]),
            (304, None, &[("cache-control", "no-transform")]),
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

    #[test]
    fn parts_and_what_the_client_has_vary_as_the_whole_would() {
        for (status, fields) in [
            (206, &[TEXT, ("content-range", "bytes 0-1/2")][..]),
            (206, &[("content-type", "multipart/byteranges; boundary=a")]),
            (304, &[TEXT]),
            (304, &[]),
        ] {
            for length in [None, Some(2)] {
                let (packed, headers) = compressed(status, Method::GET, length, fields);
                assert!(!packed, "{status} {fields:?}");
                assert_eq!(headers.get("vary").unwrap(), "Accept-Encoding");
                assert_eq!(headers.len(), fields.len() + 1, "{headers:?}");
            }
        }
    }

    #[test]
    fn what_the_client_has_keeps_the_tag_that_it_has() {
        let memory = Memory::new(0);
        for (status, tags, wanted) in [
            (304, &["W/\"a\""][..], "W/\"a\""),
            (304, &["\"b\", W/\"a\" , W/\"c\""], "W/\"a\""),
            (304, &["\"b\"", "W/\"a\""], "W/\"a\""),
            (304, &["W/\"a\", \"a\""], "\"a\""),
            (304, &["\"a\""], "\"a\""),
            (304, &["W/\"b\""], "\"a\""),
            (304, &["*"], "\"a\""),
            (304, &[], "\"a\""),
            (206, &["W/\"a\""], "\"a\""),
        ] {
            let fields = [TEXT, ("etag", "\"a\"")];
            let (_, headers) = with(&memory, tags, (status, Method::GET, None), &fields);
            assert_eq!(headers.get("etag").unwrap(), wanted, "{status} {tags:?}");
        }
    }

    #[test]
    fn without_memory_it_stays_as_it_is_and_says_that_it_varies() {
        let memory = Memory::new(cost(Coding::Br, Compress::default().level));
        let fields = [TEXT, ("etag", "\"a\""), ("content-length", "5000")];
        let get = |method: Method| with(&memory, &[], (200, method, Some(5000)), &fields);
        let (first, _) = get(Method::GET);
        assert!(matches!(first, Compression::Packed(_)));
        let (second, headers) = get(Method::GET);
        assert!(matches!(second, Compression::NoMemory));
        assert_eq!(headers.get("vary").unwrap(), "Accept-Encoding");
        assert_eq!(headers.get("etag").unwrap(), "\"a\"");
        assert_eq!(headers.get("content-length").unwrap(), "5000");
        assert!(!headers.contains_key("content-encoding"));
        // Nothing is held for an answer without a body.
        let (head, headers) = get(Method::HEAD);
        assert!(matches!(head, Compression::None));
        assert_eq!(headers.get("content-encoding").unwrap(), "br");
        drop(first);
        assert_eq!(memory.held(), 0);
        assert!(matches!(get(Method::GET).0, Compression::Packed(_)));
    }
}
