//! Whether a request is let in.

use std::sync::Arc;

use http::StatusCode;
use http::request::Parts;

use super::Client;
use super::service::Failure;
use crate::router::Rule;
use crate::snapshot::LiveService;

/// Lets a request in, or says why not. Of `others`, the services that may take it if this one cannot,
/// those stay that would let it in, too.
pub(super) fn admit(
    client: &Client,
    service: &LiveService,
    others: &mut Vec<Arc<LiveService>>,
    rule: Option<&Rule>,
    parts: &Parts,
) -> Result<(), Failure> {
    let rules = rule.and_then(|rule| rule.http.as_ref());
    let lists = rules.and_then(|rules| rules.lists.as_ref());
    let guarded = |other: &Arc<LiveService>| other.door.is_some();
    if lists.is_none() && service.door.is_none() && !others.iter().any(guarded) {
        return Ok(());
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
    Ok(())
}
