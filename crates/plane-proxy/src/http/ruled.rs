//! A request whose route or service has rules for it. What is here is made for such requests only.

use std::rc::Rc;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, StatusCode, Uri, Version};
use plimsoll_model::{Compress, Scheme, Variable};

use super::Client;
use super::compress::{self, Compression, Memory, Wanted};
use super::failure::Failure;
use super::forwarded::Forwarded;
use super::pages::Page;
use super::redirect::{Site, location};
use super::rules::{Changes, RouteRules, ServiceRules};
use super::scheme::{self, PROTO, named};
use super::target::host_of;
use crate::router::Rule;
use crate::snapshot::LiveService;
use crate::worker::Worker;

const PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// Bytes of an id that is taken over at most.
const MAX_ID: usize = 128;

/// A request as its client sent it, with the rules for it.
pub(super) struct Ruled {
    rule: Option<Arc<Rule>>,
    service: Arc<LiveService>,
    client: Rc<Forwarded>,
    /// Whether the client is believed what it says of others.
    trusted: bool,
    /// By which the client made the request.
    scheme: Scheme,
    host: HeaderValue,
    method: Method,
    uri: Uri,
    id: Option<HeaderValue>,
    /// What the client says of codings; none if its answer is not to have any.
    wanted: Option<Wanted>,
}

impl Ruled {
    pub(super) fn new(
        client: &Client,
        rule: Option<Arc<Rule>>,
        service: &Arc<LiveService>,
        parts: &Parts,
    ) -> Self {
        let trusted = client.forwarded.is_trusted(&service.spec.trusted);
        let said = |name: &HeaderName| parts.headers.get(name).filter(|_| trusted);
        let own = || scheme::of(&client.conn, &parts.headers, &service.spec.trusted);
        let field = service
            .http
            .as_ref()
            .and_then(|http| http.request_id.as_ref());
        let id = field.map(|field| {
            let taken = said(&field.name).filter(|id| is_id(id));
            taken.cloned().unwrap_or_else(|| new_id(&client.worker))
        });
        let rules = compression(rule.as_deref(), service);
        let http10 = parts.version == Version::HTTP_10;
        let wanted = rules.map(|rules| Wanted::new(rules, &parts.headers, http10));
        Self {
            wanted,
            rule,
            service: service.clone(),
            client: client.forwarded.clone(),
            trusted,
            scheme: said(&PROTO).map_or_else(own, named),
            host: match parts.headers.get(header::HOST) {
                Some(host) => host.clone(),
                None => HeaderValue::from_static(""),
            },
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            id,
        }
    }

    fn of_route(&self) -> Option<&RouteRules> {
        self.rule.as_ref()?.http.as_deref()
    }

    fn of_service(&self) -> Option<&ServiceRules> {
        self.service.http.as_deref()
    }

    /// The answer that sends the client elsewhere, if the route has one.
    pub(super) fn redirect(&self) -> Option<Failure> {
        let redirect = self.of_route()?.redirect.as_ref()?;
        let path = &self.rule.as_ref()?.path;
        let mut lower = [0; 255];
        let site = Site {
            scheme: self.scheme,
            authority: self.host.as_bytes(),
            host: host_of(self.host.as_bytes(), &mut lower).unwrap_or_default(),
        };
        let to = match location(redirect, path, &site, &self.uri) {
            Ok(to) => HeaderValue::from_maybe_shared(bytes::Bytes::from(to?)).ok(),
            Err(()) => None,
        };
        let Some(to) = to else {
            let why = "it is to be redirected, and names no host";
            return Some(Failure::new(StatusCode::BAD_REQUEST, why));
        };
        let status = StatusCode::from_u16(redirect.status).ok()?;
        Some(Failure::new(status, "see Location").with(header::LOCATION, to))
    }

    /// Changes what the backend gets.
    pub(super) fn change_request(&self, parts: &mut Parts) {
        if let Some(rules) = self.of_route().filter(|rules| !rules.prefix.is_empty()) {
            self.change_path(rules, parts);
        }
        let headers = &mut parts.headers;
        if let (Some(rules), Some(id)) = (self.of_service(), &self.id)
            && let Some(field) = &rules.request_id
        {
            headers.insert(&field.name, id.clone());
        }
        self.apply(self.of_service().map(|rules| &rules.request), headers);
        self.apply(self.of_route().map(|rules| &rules.request), headers);
    }

    fn change_path(&self, rules: &RouteRules, parts: &mut Parts) {
        let mut text = rules.prefix.apply(self.uri.path());
        if let Some(query) = self.uri.query() {
            text.push('?');
            text.push_str(query);
        }
        if let Ok(path) = PathAndQuery::from_maybe_shared(bytes::Bytes::from(text)) {
            parts.uri = Uri::from(path);
        }
        let Some(strip) = rules.prefix.strip.as_ref().filter(|s| s.as_str() != "/") else {
            return;
        };
        let before = parts.headers.get(&PREFIX).filter(|_| self.trusted);
        let mut prefix = before.map_or(Vec::new(), |before| before.as_bytes().to_vec());
        prefix.extend_from_slice(strip.as_str().as_bytes());
        if let Ok(prefix) = HeaderValue::from_bytes(&prefix) {
            parts.headers.insert(PREFIX, prefix);
        }
    }

    /// Changes what the client gets of a backend's response.
    pub(super) fn change_response(&self, headers: &mut HeaderMap) {
        self.apply(self.of_service().map(|rules| &rules.response), headers);
        self.apply(self.of_route().map(|rules| &rules.response), headers);
        self.mark(headers);
    }

    /// Says in the header of a backend's response that it is compressed, if it is: with what.
    pub(super) fn compress(
        &self,
        status: StatusCode,
        headers: &mut HeaderMap,
        memory: &Arc<Memory>,
    ) -> Compression {
        let rules = compression(self.rule.as_deref(), &self.service);
        let (Some(rules), Some(wanted)) = (rules, &self.wanted) else {
            return Compression::None;
        };
        let length = headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let mut answer = compress::Answer {
            method: &self.method,
            status,
            headers,
            length,
        };
        answer.compress(rules, wanted, memory)
    }

    /// The request's id, if it has one.
    pub(super) fn id(&self) -> Option<&HeaderValue> {
        self.id.as_ref()
    }

    /// The page of the service for answers of this status.
    pub(super) fn error_page(&self, status: StatusCode) -> Option<&Page> {
        self.of_service()?.error_pages.get(status)
    }

    /// Whether a backend's answer of this status gets a page, if there is one.
    pub(super) fn intercepts(&self, status: StatusCode) -> bool {
        let rules = self.of_service();
        rules.is_some_and(|rules| rules.intercept.has(status.as_u16()))
    }

    /// Puts the request's id into a response, if the client is to get it.
    pub(super) fn mark(&self, headers: &mut HeaderMap) {
        if let (Some(rules), Some(id)) = (self.of_service(), &self.id)
            && let Some(field) = rules.request_id.as_ref().filter(|field| field.respond)
        {
            headers.insert(&field.name, id.clone());
        }
    }

    fn apply(&self, changes: Option<&Changes>, headers: &mut HeaderMap) {
        if let Some(changes) = changes {
            changes.apply(headers, &|variable, text| self.write(variable, text));
        }
    }

    fn write(&self, variable: Variable, text: &mut Vec<u8>) {
        text.extend_from_slice(match variable {
            Variable::Client => self.client.ip_value().as_bytes(),
            Variable::Host => self.host.as_bytes(),
            Variable::Method => self.method.as_str().as_bytes(),
            Variable::Path => self.uri.path().as_bytes(),
            Variable::Query => self.uri.query().unwrap_or_default().as_bytes(),
            Variable::RequestId => self.id.as_ref().map_or(b"", HeaderValue::as_bytes),
            Variable::Scheme => self.scheme.as_str().as_bytes(),
        });
    }
}

/// How answers are compressed, if they are: what the route says goes before what the service says.
fn compression<'a>(rule: Option<&'a Rule>, service: &'a LiveService) -> Option<&'a Compress> {
    let of_route = rule.and_then(|rule| rule.http.as_ref()?.compress.as_ref());
    of_route.or_else(|| service.http.as_ref()?.compress.as_ref())
}

/// Whether a text can be taken over as an id: short, and nothing but visible ASCII.
fn is_id(id: &HeaderValue) -> bool {
    let id = id.as_bytes();
    (1..=MAX_ID).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

/// 128 bits as 32 hexadecimal digits, as nginx's `$request_id`. To be told apart, not to be kept
/// secret.
fn new_id(worker: &Worker) -> HeaderValue {
    let text = format!("{:032x}", worker.id());
    HeaderValue::from_maybe_shared(bytes::Bytes::from(text))
        .unwrap_or(HeaderValue::from_static("0"))
}
