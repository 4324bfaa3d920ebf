//! What a route or a service does with a request beside passing it on.

use std::net::IpAddr;

use http::Uri;
use plimsoll_model::{Compress, Maintenance, NetSet, PathPrefix, RouteHttp, Scheme, ServiceHttp};
use plimsoll_plane::{Explanation, Tuple};

use crate::http::redirect::{Site, location};
use crate::http::target::host_of;

/// Says what a route does with a request. False if it answers the request itself.
pub(super) fn by_route(
    told: &mut Explanation,
    http: &RouteHttp,
    path: &PathPrefix,
    tuple: &Tuple,
) -> bool {
    let asked = tuple.path.as_deref().unwrap_or("/");
    let host = tuple.host.as_deref().unwrap_or_default();
    let mut lower = [0; 255];
    if let Some(redirect) = &http.redirect {
        let site = Site {
            scheme: Scheme::Http,
            authority: host.as_bytes(),
            host: host_of(host.as_bytes(), &mut lower).unwrap_or_default(),
        };
        let to = asked
            .parse::<Uri>()
            .map(|uri| location(redirect, path, &site, &uri));
        let status = match to {
            Ok(Ok(Some(to))) => {
                let to = String::from_utf8_lossy(&to);
                told.nowhere = Some(format!("the route redirects to {to}"));
                redirect.status
            }
            Ok(Ok(None)) => {
                let step = "the redirect of the route would lead here: it is passed on";
                told.steps.push(step.into());
                0
            }
            Ok(Err(())) => {
                let why = "the route redirects to the host that was asked for, and none was";
                told.nowhere = Some(why.into());
                400
            }
            Err(_) => 0,
        };
        if let Some(why) = &told.nowhere {
            told.steps.push(format!("{why}: {status}"));
            told.status = Some(status);
            return false;
        }
    }
    if is_maintained(told, "the route", http.maintenance.as_ref(), tuple) {
        return false;
    }
    if let Some(auth) = &http.basic_auth {
        told.steps.push(format!(
            "the route asks for a user and a password of {:?}: 401 for others",
            auth.realm
        ));
    }
    if !http.prefix.is_empty() {
        let becomes = http.prefix.apply(asked);
        let step = format!("path {asked:?} becomes {becomes:?} for the backend");
        told.steps.push(step);
    }
    fields(told, "the route", http.changes());
    compressed(told, "the route", http.compress.as_ref());
    true
}

/// Says what a service does with requests. False if it answers the request itself.
pub(super) fn by_service(
    told: &mut Explanation,
    name: &str,
    http: &ServiceHttp,
    tuple: &Tuple,
) -> bool {
    let who = format!("service `{name}`");
    if is_maintained(told, &who, http.maintenance.as_ref(), tuple) {
        return false;
    }
    fields(told, &who, http.changes());
    compressed(told, &who, http.compress.as_ref());
    if !http.error_pages.is_empty() {
        let pages = &http.error_pages;
        told.steps.push(format!("{who} has error pages: {pages}"));
    }
    if !http.intercept.is_empty() {
        let statuses = &http.intercept;
        told.steps.push(format!(
            "{who} puts error pages in the place of backends' answers with {statuses}"
        ));
    }
    true
}

/// Whether a client is sent away.
pub(super) fn keeps_out(maintenance: Option<&Maintenance>, client: IpAddr) -> bool {
    maintenance.is_some_and(|m| m.on && !NetSet::new(&m.except).contains(client))
}

/// Whether the request is answered with 503.
fn is_maintained(
    told: &mut Explanation,
    who: &str,
    maintenance: Option<&Maintenance>,
    tuple: &Tuple,
) -> bool {
    let client = tuple.client.ip();
    let Some(maintenance) = maintenance.filter(|maintenance| maintenance.on) else {
        return false;
    };
    if !keeps_out(Some(maintenance), client) {
        let step = format!("{who} is in maintenance, but not for {client}");
        told.steps.push(step);
        return false;
    }
    let why = format!("{who} is in maintenance");
    told.steps.push(format!("{why}: 503"));
    told.nowhere = Some(why);
    told.status = Some(503);
    true
}

fn compressed(told: &mut Explanation, who: &str, compress: Option<&Compress>) {
    if let Some(compress) = compress {
        let algorithms = compress.algorithms.iter().map(ToString::to_string);
        let algorithms = algorithms.collect::<Vec<_>>().join(", ");
        told.steps.push(format!(
            "{who} compresses responses for clients that accept {algorithms}"
        ));
    }
}

/// The changes of headers.
fn fields(told: &mut Explanation, who: &str, changes: Vec<String>) {
    let steps = changes.into_iter();
    told.steps
        .extend(steps.map(|change| format!("{who} changes {change}")));
}
