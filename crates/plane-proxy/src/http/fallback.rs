//! Another service of the same route, where the one whose turn it was cannot serve.

use std::rc::Rc;
use std::sync::Arc;

use http::StatusCode;
use http::request::Parts;
use hyper::Request;
use hyper::body::Body;

use super::Client;
use super::admit::{enter, refusal};
use super::body::RequestBody;
use super::exchange::Exchange;
use super::failure::Failure;
use super::headers::Hop;
use super::ruled::Ruled;
use super::service::{dress, max_body};
use crate::router::Rule;
use crate::snapshot::LiveService;

/// A request as it was before what one service wants was done to it: what another gets is made of
/// this, so that no secret, cookie or trust of the one comes to the other.
pub(super) struct Undressed {
    parts: Parts,
    hop: Hop,
    rule: Option<Arc<Rule>>,
}

impl Undressed {
    /// Keeps the request if it may come to another of these services, and any of them does
    /// something of its own with it.
    pub(super) fn keep(
        services: (&Arc<LiveService>, &[Arc<LiveService>]),
        rule: Option<&Arc<Rule>>,
        parts: &Parts,
        hop: &Hop,
    ) -> Option<Box<Self>> {
        let (first, others) = services;
        let own = |service: &Arc<LiveService>| {
            service.http.is_some() || service.cookie.is_some() || !service.spec.trusted.is_empty()
        };
        let wanted = !others.is_empty() && (own(first) || others.iter().any(own));
        wanted.then(|| {
            Box::new(Self {
                parts: parts.clone(),
                hop: hop.clone(),
                rule: rule.cloned(),
            })
        })
    }
}

impl Exchange<'_> {
    /// Goes on with the next service, of which no backend has been tried, whose limits let it.
    ///
    /// # Errors
    /// There is none: that one was at its limit, if there is nothing else to say.
    pub(super) fn fall_back(&mut self) -> Result<(), Failure> {
        while let Some(other) = self.others.next() {
            if let Some(undressed) = &self.undressed {
                let (said, trusted) = (&undressed.parts.headers, &other.spec.trusted);
                self.options.source = self.client.forwarded.speaks_for(said, trusted);
            }
            match enter(&other, self.options.source) {
                Ok(permit) => {
                    self.permit = permit;
                    return self.go_on_with(other);
                }
                // The next one may have room.
                Err(too_much) => self.refused = Some(Box::new((other, refusal(too_much)))),
            }
        }
        let unserved = self.unserved("no backend can serve now");
        Err(match self.refused.take() {
            Some(refused) => {
                let (limited, failure) = *refused;
                self.client.conn.route(&limited);
                failure
            }
            None => unserved,
        })
    }

    fn go_on_with(&mut self, other: Arc<LiveService>) -> Result<(), Failure> {
        let client: &Rc<Client> = self.client;
        client.conn.route(&other);
        client.keepalive.set(other.timeouts.keepalive);
        client.idle.set(other.timeouts.idle);
        client.gate.set_patience(other.timeouts.stall);
        if let Some(counts) = other.shared.count(client.worker.id) {
            counts.total.add(1);
        }
        self.options.limit = max_body(&other);
        if (self.body.as_ref()).is_some_and(|body| body.size_hint().lower() > self.options.limit) {
            return Err(Failure::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the body is larger than allowed",
            ));
        }
        if let Some(undressed) = &self.undressed {
            let mut parts = undressed.parts.clone();
            let ruled = (undressed.rule.is_some() || other.http.is_some())
                .then(|| Ruled::new(client, undressed.rule.clone(), &other, &parts));
            client.ruled.replace(ruled.map(Box::new));
            self.visit = dress(client, &other, &mut parts, &undressed.hop);
            self.request = Some(Request::from_parts(parts, RequestBody::Empty));
        }
        self.service = other;
        Ok(())
    }
}
