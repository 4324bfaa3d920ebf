//! A copy of a request's head for another attempt.
//!
//! Nearly every copy is thrown away unused, so it is made to be cheap to make: bytes into a buffer
//! that the connection keeps.

use std::cell::RefCell;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri};

use super::body::RequestBody;

/// Room for a head of usual size, in bytes.
const BYTES: usize = 512;

/// The copy.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    method: Option<Method>,
    uri_end: usize,
    /// The target and the fields, one after the other: copies, since what hyper gives are parts of
    /// the connection's read buffer and would keep it.
    bytes: Vec<u8>,
    /// Where each name and each value ends.
    ends: Vec<(usize, usize)>,
}

impl Spare {
    /// Copies a head.
    pub(crate) fn save(&mut self, request: &Request<RequestBody>) {
        self.bytes.clear();
        self.ends.clear();
        self.bytes.reserve(BYTES);
        self.ends.reserve(request.headers().len());
        // Targets that get here are in origin form or `*`.
        let uri = request.uri();
        self.bytes.extend_from_slice(uri.path().as_bytes());
        if let Some(query) = uri.query() {
            self.bytes.push(b'?');
            self.bytes.extend_from_slice(query.as_bytes());
        }
        self.uri_end = self.bytes.len();
        for (name, value) in request.headers() {
            self.bytes.extend_from_slice(name.as_str().as_bytes());
            let name_end = self.bytes.len();
            self.bytes.extend_from_slice(value.as_bytes());
            self.ends.push((name_end, self.bytes.len()));
        }
        self.method = Some(request.method().clone());
    }

    /// Forgets the copy.
    pub(crate) fn clear(&mut self) {
        self.method = None;
    }

    /// The request again, if there is a copy; it has no body.
    pub(crate) fn take(&mut self) -> Option<Request<RequestBody>> {
        let method = self.method.take()?;
        let uri = Uri::try_from(self.bytes.get(..self.uri_end)?).ok()?;
        let mut headers = HeaderMap::with_capacity(self.ends.len());
        let mut at = self.uri_end;
        for (name_end, value_end) in &self.ends {
            let name = HeaderName::from_bytes(self.bytes.get(at..*name_end)?).ok()?;
            let value = HeaderValue::from_bytes(self.bytes.get(*name_end..*value_end)?).ok()?;
            headers.append(name, value);
            at = *value_end;
        }
        let mut request = Request::new(RequestBody::Empty);
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Some(request)
    }
}

/// Copies of connections that have ended, with room for those of others.
#[derive(Debug, Default)]
pub(crate) struct Spares(RefCell<Vec<Spare>>);

impl Spares {
    /// Copies kept per worker.
    const KEPT: usize = 64;

    pub(crate) fn take(&self) -> Spare {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    pub(crate) fn give(&self, mut spare: Spare) {
        let mut kept = self.0.borrow_mut();
        // One that had to hold a large head is not kept for small ones.
        if kept.len() < Self::KEPT && spare.bytes.capacity() <= 4 * BYTES {
            spare.clear();
            kept.push(spare);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_what_was_saved_and_only_once() {
        let mut request = Request::new(RequestBody::Empty);
        *request.method_mut() = Method::HEAD;
        *request.uri_mut() = "/a?b".parse().unwrap();
        for (name, value) in [
            ("host", "x"),
            ("cookie", "a"),
            ("cookie", "b"),
            ("x-empty", ""),
        ] {
            request.headers_mut().append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        let mut spare = Spare::default();
        spare.save(&Request::new(RequestBody::Empty));
        spare.save(&request);
        let taken = spare.take().unwrap();
        assert_eq!(taken.method(), request.method());
        assert_eq!(taken.uri(), request.uri());
        assert_eq!(taken.headers(), request.headers());
        assert!(spare.take().is_none());
        spare.save(&request);
        spare.clear();
        assert!(spare.take().is_none());
    }
}
