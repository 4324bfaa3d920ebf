//! Requests to what is in maintenance.

use std::net::IpAddr;
use std::sync::Arc;

use http::StatusCode;
use http::header::{HeaderValue, RETRY_AFTER};
use http::request::Parts;
use plimsoll_model::NetSet;

use super::Client;
use super::failure::Failure;
use super::pages::Page;
use super::rules::RouteRules;
use crate::snapshot::LiveService;

/// [`plimsoll_model::Maintenance`] that is on, ready.
#[derive(Debug)]
pub(crate) struct Maintenance {
    except: NetSet,
    retry_after: HeaderValue,
    page: Option<Arc<Page>>,
}

impl Maintenance {
    /// None if it is off.
    pub(crate) fn new(maintenance: Option<&plimsoll_model::Maintenance>) -> Option<Self> {
        let maintenance = maintenance.filter(|maintenance| maintenance.on)?;
        Some(Self {
            except: NetSet::new(&maintenance.except),
            retry_after: maintenance.retry_after.as_secs().into(),
            page: (maintenance.page.as_ref()).map(|page| Arc::new(Page::new(page))),
        })
    }

    fn is_for(&self, client: IpAddr) -> bool {
        !self.except.contains(client)
    }
}

fn of(service: &LiveService) -> Option<&Maintenance> {
    service.http.as_ref()?.maintenance.as_ref()
}

/// Answers a request to what is in maintenance. Of `others`, the services that may take it if this one
/// cannot, those stay that are not.
pub(super) fn maintain(
    client: &Client,
    service: &LiveService,
    others: &mut Vec<Arc<LiveService>>,
    rules: Option<&RouteRules>,
    parts: &Parts,
) -> Result<(), Failure> {
    let route = rules.and_then(|rules| rules.maintenance.as_ref());
    if route.is_none() && of(service).is_none() && !others.iter().any(|o| of(o).is_some()) {
        return Ok(());
    }
    let from = |service: &LiveService| {
        (client.forwarded).speaks_for(&parts.headers, &service.spec.trusted)
    };
    let ip = from(service);
    let mut both = route.into_iter().chain(of(service));
    if let Some(maintenance) = both.find(|maintenance| maintenance.is_for(ip)) {
        if let Some(counts) = service.shared.count(client.worker.id) {
            counts.maintained.add(1);
        }
        let why = "in maintenance, please come back later";
        let failure = Failure::new(StatusCode::SERVICE_UNAVAILABLE, why);
        let after = maintenance.retry_after.clone();
        let failure = failure.with(RETRY_AFTER, after);
        let failure = failure.showing(maintenance.page.clone());
        // As HAProxy logs what it answers itself.
        return Err(failure.ending(*b"LR"));
    }
    others.retain(|other| of(other).is_none_or(|m| !m.is_for(from(other))));
    Ok(())
}
