//! Answers of our own to requests that are not passed on.

use std::sync::Arc;

use http::StatusCode;
use http::header::{self, HeaderName, HeaderValue};
use hyper::Response;

use super::body::ResponseBody;
use super::pages::{Page, Shown};
use crate::access::End;

/// Seconds after which a client may try again where nothing can serve.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// A request that gets an answer of our own.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    why: &'static str,
    /// What else belongs to the answer. Boxed, for it is rare.
    more: Option<Box<More>>,
    /// How it is logged; none: as its status suggests.
    pub(super) end: Option<End>,
}

/// What belongs to some answers of our own.
#[derive(Debug, PartialEq, Eq)]
struct More {
    name: HeaderName,
    value: HeaderValue,
    page: Option<Arc<Page>>,
}

impl Failure {
    pub(super) const fn new(status: StatusCode, why: &'static str) -> Self {
        Self {
            status,
            why,
            more: None,
            end: None,
        }
    }

    /// With a field in the answer's header.
    pub(super) fn with(self, name: HeaderName, value: HeaderValue) -> Self {
        let page = None;
        let more = Some(Box::new(More { name, value, page }));
        Self { more, ..self }
    }

    /// The same, with a page of its own if there is a field, too.
    pub(super) fn showing(mut self, page: Option<Arc<Page>>) -> Self {
        if let Some(more) = &mut self.more {
            more.page = page;
        }
        self
    }

    /// The page of its own.
    pub(super) fn page(&self) -> Option<&Page> {
        self.more.as_ref()?.page.as_deref()
    }

    /// The same, logged with this termination code.
    pub(super) fn ending(mut self, code: [u8; 2]) -> Self {
        self.end = Some(End::new(code));
        self
    }
}

/// The answer, with a page in place of the line of text that says why.
pub(super) fn own_response(
    failure: Failure,
    page: Option<Shown>,
    close: bool,
) -> Response<ResponseBody> {
    let Shown { media_type, body } = page.unwrap_or_else(|| Shown {
        media_type: HeaderValue::from_static("text/plain; charset=utf-8"),
        body: format!("{}: {}\n", failure.status, failure.why).into(),
    });
    let mut response = Response::new(ResponseBody::Text(body));
    *response.status_mut() = failure.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, media_type);
    if failure.status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, RETRY_AFTER);
    }
    if let Some(more) = failure.more {
        headers.insert(more.name, more.value);
    }
    if close {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
