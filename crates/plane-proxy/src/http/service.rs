//! One request: route it, choose a backend, pass it on, pass the response back.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode, Uri, Version};
use hyper::body::{Body, Incoming};
use hyper::{Request, Response};

use super::admit::admit;
use super::body::{RequestBody, ResponseBody};
use super::cookie::{Jar, Visit};
use super::exchange::{Exchange, Options};
use super::failure::{Failure, own_response};
use super::fallback::Undressed;
use super::gate::REFUSED;
use super::headers::{Hop, may_tunnel, take_hop};
use super::maintenance::maintain;
use super::pages::page_for;
use super::ruled::Ruled;
use super::scheme;
use super::target::{check_form, host_of};
use super::{Client, finish};
use crate::access::{End, Record};
use crate::conn::Phase;
use crate::router::{Routed, Rule};
use crate::snapshot::{LiveService, Table};

/// Fields that are usually added to a request.
const ADDED: usize = 4;

/// Answers a request, whatever happens.
pub(super) async fn respond(
    client: &Rc<Client>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    client.conn.enter(Phase::Request);
    client.conn.begin();
    if let Some(counts) = client.conn.port.counts.get(client.worker.id) {
        counts.requests.add(1);
    }
    if client.worker.shared.logging.load(Ordering::Relaxed) {
        record(client, &request);
    }
    client.gate.serve();
    let body_follows = !request.body().is_end_stream();
    let head_only = request.method() == Method::HEAD;
    match pass_on(client, request).await {
        Ok(response) => {
            answered(client, &response);
            response
        }
        Err(failure) => {
            if let Some(counts) = client.conn.port.counts.get(client.worker.id) {
                counts.refuse(failure.status.as_u16());
            }
            if body_follows {
                client.gate.set_unread();
            }
            finish(
                &client.worker,
                &client.conn,
                &client.gate,
                None,
                client.keepalive.get(),
            );
            let (status, end) = (failure.status.as_u16(), failure.end);
            let ruled = client.ruled.take();
            let ruled = ruled.as_deref();
            let page = page_for(client, failure.page(), ruled, failure.status);
            let mut response = own_response(failure, page, client.gate.is_unread());
            if let Some(ruled) = ruled {
                ruled.mark(response.headers_mut());
            }
            let length = response.body().size_hint().exact();
            client
                .conn
                .add_sent(length.filter(|_| !head_only).unwrap_or_default());
            client.conn.note(|record, _| {
                record.status(status);
                record.end(end.unwrap_or_else(|| End::of_status(status, record.stage())));
            });
            client.conn.log(&client.worker);
            response
        }
    }
}

/// Begins what will be a line of the access log.
fn record(client: &Client, request: &Request<Incoming>) {
    let bad = request.method().as_str() == REFUSED && client.gate.refusal().is_some();
    let query = client.worker.journal.has_query();
    let head = client.conn.take_head_time();
    client.conn.keep(Record::http(request, bad, query, head));
}

/// Logs a request of which nothing could be read, with the status of its answer; none if its client
/// left in the middle of its head.
pub(super) fn log_unread(client: &Client, status: Option<u16>) {
    if !client.worker.shared.logging.load(Ordering::Relaxed) {
        return;
    }
    let mut record = Record::unread(client.conn.take_head_time());
    client.conn.begin();
    match status {
        Some(status) => {
            record.status(status);
            record.end(End::new(*b"PR"));
        }
        None => record.end(End::new(*b"CR")),
    }
    client.conn.keep(record);
    client.conn.log(&client.worker);
}

/// An answer that nobody will end: it has no body, or one of our own.
fn answered(client: &Client, response: &Response<ResponseBody>) {
    let streams = matches!(
        response.body(),
        ResponseBody::Stream(_) | ResponseBody::Packed(_) | ResponseBody::Replaced(_)
    );
    if streams || client.tunnel.borrow().is_some() {
        return;
    }
    let status = response.status().as_u16();
    client.conn.note(|record, _| {
        record.status(status);
        record.end(End::of_status(status.min(399), record.stage()));
    });
    client.conn.log(&client.worker);
}

/// The answer to a request that nobody made.
pub(super) fn nobody() -> Response<ResponseBody> {
    own_response(
        Failure::new(StatusCode::BAD_REQUEST, "no client"),
        None,
        true,
    )
}

async fn pass_on(
    client: &Rc<Client>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Failure> {
    let (mut parts, body) = request.into_parts();
    let Found {
        service,
        mut others,
        rule,
    } = find_service(client, &mut parts).inspect_err(|failure| {
        let status = failure.status;
        if matches!(
            status,
            StatusCode::BAD_REQUEST | StatusCode::NOT_IMPLEMENTED
        ) {
            // What such a client means by what it sends next cannot be known.
            client.gate.set_unread();
        }
    })?;
    client.conn.route(&service);
    client.keepalive.set(service.timeouts.keepalive);
    client.idle.set(service.timeouts.idle);
    client.gate.set_patience(service.timeouts.stall);
    if let Some(counts) = service.shared.count(client.worker.id) {
        counts.total.add(1);
    }
    let mut redirect = None;
    if rule.is_some() || service.http.is_some() {
        let ruled = Ruled::new(client, rule.clone(), &service, &parts);
        redirect = ruled.redirect();
        client.ruled.replace(Some(Box::new(ruled)));
    }
    let (source, permit) = admit(client, &service, &mut others, rule.as_deref(), &parts)?;
    // Before anybody is asked for a password: it may be a redirect to TLS.
    if let Some(redirect) = redirect {
        return Err(redirect);
    }
    let rules = rule.as_ref().and_then(|rule| rule.http.as_deref());
    maintain(client, &service, &mut others, rules, &parts)?;
    if let Some(auth) = rules.and_then(|rules| rules.auth.as_ref()) {
        Box::pin(auth.check(&client.worker, client.conn.client().ip(), &parts.headers)).await?;
    }
    let limit = max_body(&service);
    if body.size_hint().lower() > limit {
        return Err(Failure::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is larger than allowed",
        ));
    }
    let mut hop = take_hop(&mut parts.headers);
    let no_body = body.is_end_stream();
    hop.upgrade = hop
        .upgrade
        .filter(|upgrade| no_body && parts.version == Version::HTTP_11 && may_tunnel(upgrade));
    let source = match hop.upgrade {
        // Lists that come later judge it for whom it was granted.
        Some(_) => (client.forwarded).speaks_for(&parts.headers, &service.spec.trusted),
        None => source,
    };
    let http10 = parts.version == Version::HTTP_10;
    let expects = expects_continue(&mut parts, http10)? && !no_body;
    let undressed = Undressed::keep((&service, &others), rule.as_ref(), &parts, &hop);
    let visit = dress(client, &service, &mut parts, &hop);
    let repeatable = no_body && is_idempotent(&parts.method);
    let options = Options {
        repeatable,
        limit,
        http10,
        expects,
        upgrade: hop.upgrade,
        source,
    };
    let request = Request::from_parts(parts, RequestBody::Empty);
    let mut exchange = Exchange::new(client, service, others, options);
    (exchange.visit, exchange.undressed, exchange.permit) = (visit, undressed, permit);
    let answer = exchange.run(request, (!no_body).then_some(body)).await;
    if let Err(failure) = &answer {
        exchange.count(failure.status);
    }
    answer
}

/// Bytes of a body at most.
pub(super) fn max_body(service: &LiveService) -> u64 {
    match service.spec.max_body {
        0 => u64::MAX,
        limit => limit,
    }
}

/// Does to a request what a service wants, and reads its cookie.
pub(super) fn dress(
    client: &Client,
    service: &LiveService,
    parts: &mut Parts,
    hop: &Hop,
) -> Option<Box<Visit>> {
    let jar = service.cookie.as_deref();
    let visit = jar.map(|jar| Box::new(jar.read(&mut parts.headers, wall(jar))));
    set_fields(client, service, parts, hop);
    if let Some(ruled) = &*client.ruled.borrow() {
        ruled.change_request(parts);
    }
    visit
}

/// The Unix time in seconds, if the cookie needs it.
pub(super) fn wall(jar: &Jar) -> u64 {
    if !jar.is_dated() {
        return 0;
    }
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Who serves a request.
struct Found {
    service: Arc<LiveService>,
    /// The others of its route.
    others: Vec<Arc<LiveService>>,
    /// The route, if it has rules for its requests.
    rule: Option<Arc<Rule>>,
}

/// Checks what the request is for, and finds who serves it.
fn find_service(client: &Client, parts: &mut Parts) -> Result<Found, Failure> {
    if parts.method.as_str() == REFUSED
        && let Some(status) = client.gate.refusal()
    {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        return Err(Failure::new(status, "the request cannot be taken as it is"));
    }
    if parts.method == Method::CONNECT {
        return Err(Failure::new(
            StatusCode::NOT_IMPLEMENTED,
            "CONNECT is not served",
        ));
    }
    let bad = |why| Failure::new(StatusCode::BAD_REQUEST, why);
    check_form(&parts.method, &parts.uri).map_err(bad)?;
    let field = parts.headers.get(header::HOST);
    let authority = match (parts.uri.authority(), field) {
        // RFC 9112 §3.2.2 says that the target decides; two names that differ are a trick.
        (Some(target), Some(field))
            if !target
                .as_str()
                .as_bytes()
                .eq_ignore_ascii_case(field.as_bytes()) =>
        {
            return Err(bad("Host and the request's target differ"));
        }
        (Some(target), _) => target.as_str().as_bytes(),
        (None, Some(field)) => field.as_bytes(),
        (None, None) => b"",
    };
    let mut lower = [0; 255];
    let host = host_of(authority, &mut lower).ok_or_else(|| bad("Host is not a host"))?;
    let path = parts.uri.path();
    let snapshot = client.worker.shared.snapshot.load();
    let table = snapshot.tables.get(&client.conn.port.index);
    let Some(Table::Http(http)) = table.map(|table| &**table) else {
        return Err(Failure::new(
            StatusCode::NOT_FOUND,
            "nothing is served here any more",
        ));
    };
    if http.router.is_evasive(host, path) {
        return Err(bad("the path may be read as one of another route"));
    }
    let found = match http.router.route(host, path) {
        Routed::CatchAll(service) => Found {
            service: service.clone(),
            others: Vec::new(),
            rule: None,
        },
        Routed::Rule(rule) => match rule.service() {
            Some(service) => {
                let others = rule.others().filter(|other| !Arc::ptr_eq(other, service));
                Found {
                    service: service.clone(),
                    others: others.cloned().collect(),
                    rule: rule.http.is_some().then(|| rule.clone()),
                }
            }
            None => {
                return Err(Failure::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the service of this host is not there",
                ));
            }
        },
        Routed::None => {
            return Err(Failure::new(
                StatusCode::NOT_FOUND,
                "no service for this host and path",
            ));
        }
    };
    if parts.uri.authority().is_some() {
        to_origin_form(parts).map_err(|()| bad("the request's target is not a URI"))?;
    }
    Ok(found)
}

/// Whether the client waits for `100 Continue`. RFC 9110 §10.1.1: 417 for what is not known, and one
/// of HTTP/1.0 expects nothing.
fn expects_continue(parts: &mut Parts, http10: bool) -> Result<bool, Failure> {
    if !parts.headers.contains_key(header::EXPECT) {
        return Ok(false);
    }
    if http10 {
        parts.headers.remove(header::EXPECT);
        return Ok(false);
    }
    let known = |e: &HeaderValue| e.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if parts.headers.get_all(header::EXPECT).iter().all(known) {
        Ok(true)
    } else {
        Err(Failure::new(
            StatusCode::EXPECTATION_FAILED,
            "only 100-continue can be expected",
        ))
    }
}

/// Makes an absolute target one for an origin server, and its authority the `Host`.
fn to_origin_form(parts: &mut Parts) -> Result<(), ()> {
    let authority = parts
        .uri
        .authority()
        .map(|a| HeaderValue::from_str(a.as_str()));
    if let Some(Ok(host)) = authority {
        parts.headers.insert(header::HOST, host);
    }
    let path = parts.uri.path_and_query().map_or("/", |p| p.as_str());
    parts.uri = if path.starts_with('/') {
        path.parse::<Uri>().map_err(|_| ())?
    } else {
        // RFC 9112 §3.2.1: an empty path is a slash.
        Uri::try_from(format!("/{path}")).map_err(|_| ())?
    };
    Ok(())
}

/// RFC 9110 §9.2.2.
fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::PUT | Method::DELETE | Method::OPTIONS | Method::TRACE
    )
}

/// The fields that a backend gets beside the client's own.
fn set_fields(client: &Client, service: &LiveService, parts: &mut Parts, hop: &Hop) {
    let scheme = scheme::of(&client.conn, &parts.headers, &service.spec.trusted);
    // At once what would else be made in two steps.
    parts.headers.reserve(ADDED);
    let host = match parts.headers.get(header::HOST) {
        Some(host) => host.clone(),
        // HTTP/1.0 without a Host: 1.1 has to have one.
        None => {
            let host = HeaderValue::from_static("");
            parts.headers.insert(header::HOST, host.clone());
            host
        }
    };
    client.forwarded.set(
        &mut parts.headers,
        &host,
        &service.spec.trusted,
        hop.forwarded,
        scheme,
    );
    parts.version = Version::HTTP_11;
    if hop.trailers {
        parts
            .headers
            .insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if let Some(upgrade) = &hop.upgrade {
        parts.headers.insert(header::UPGRADE, upgrade.clone());
        parts
            .headers
            .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
}
