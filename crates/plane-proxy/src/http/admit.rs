//! Whether a request is let in.

use std::net::IpAddr;
use std::sync::Arc;

use http::StatusCode;
use http::header::{HeaderValue, RETRY_AFTER};
use http::request::Parts;
use plimsoll_balance::limits::{Limit, What};

use super::Client;
use super::failure::Failure;
use crate::limits::{Permit, TooMuch, Whose};
use crate::router::Rule;
use crate::snapshot::LiveService;

/// Lets a request in, or says why not: for whom it is made, and what it holds of the service's limits
/// until it ends. Of `others`, the services that may take it if this one cannot, those stay whose lists
/// would let it in, too.
pub(super) fn admit(
    client: &Client,
    service: &LiveService,
    others: &mut Vec<Arc<LiveService>>,
    rule: Option<&Rule>,
    parts: &Parts,
) -> Result<(IpAddr, Option<Box<Permit>>), Failure> {
    let rules = rule.and_then(|rule| rule.http.as_ref());
    let lists = rules.and_then(|rules| rules.lists.as_ref());
    let guarded = |other: &Arc<LiveService>| other.door.is_some();
    if lists.is_none() && service.door.is_none() && !others.iter().any(guarded) {
        return Ok((client.conn.client().ip(), None));
    }
    let from = |service: &LiveService| {
        (client.forwarded).speaks_for(&parts.headers, &service.spec.trusted)
    };
    let ip = from(service);
    let admitted = |service: &LiveService, ip| {
        let door = service.door.as_ref();
        door.is_none_or(|door| door.admits(ip))
    };
    if !admitted(service, ip) || !lists.is_none_or(|lists| lists.admit(ip)) {
        if let Some(counts) = service.shared.count(client.worker.id) {
            counts.denied.add(1);
        }
        return Err(Failure::new(
            StatusCode::FORBIDDEN,
            "this is not for your address",
        ));
    }
    others.retain(|other| admitted(other, from(other)));
    let permit = enter(service, ip).map_err(refusal)?;
    Ok((ip, permit))
}

/// Takes what a request needs of a service's limits.
pub(super) fn enter(service: &LiveService, ip: IpAddr) -> Result<Option<Box<Permit>>, TooMuch> {
    match &service.door {
        Some(door) => door.enter(ip, What::Request),
        None => Ok(None),
    }
}

/// RFC 6585 §4: 429 is for who has sent too much himself. What others have used up is 503.
pub(super) fn refusal(too_much: TooMuch) -> Failure {
    let (status, why) = match (too_much.whose, too_much.refused.limit) {
        (Whose::Source, Limit::AtOnce) => (429, "too many requests of yours at once"),
        (Whose::Source, Limit::Rate) => (429, "too many requests of yours"),
        (Whose::Service, _) => (503, "too many requests for this service"),
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let seconds = too_much.refused.wait.div_ceil(1_000_000_000).max(1);
    let failure = Failure::new(status, why).with(RETRY_AFTER, HeaderValue::from(seconds));
    failure.ending(*b"PR")
}
