//! Who gets in: lists of clients, ready to be looked at, and limits.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_balance::limits::What;
use plimsoll_model::{ClientRules, NetSet, ServiceSpec};

use crate::access::{End, Record};
use crate::conn::Conn;
use crate::limits::{Had, Limiter, Permit, TooMuch};
use crate::snapshot::LiveService;
use crate::worker::Worker;

/// [`ClientRules`], ready.
#[derive(Debug)]
pub(crate) struct Lists {
    /// None: everybody.
    allow: Option<NetSet>,
    deny: NetSet,
}

impl Lists {
    /// None if everybody is served.
    pub(crate) fn new(rules: &ClientRules) -> Option<Self> {
        (!rules.is_empty()).then(|| Self {
            allow: (!rules.allow.is_empty()).then(|| NetSet::new(&rules.allow)),
            deny: NetSet::new(&rules.deny),
        })
    }

    /// Whether a client is served.
    pub(crate) fn admit(&self, client: IpAddr) -> bool {
        let allowed = self.allow.as_ref().is_none_or(|nets| nets.contains(client));
        allowed && !self.deny.contains(client)
    }
}

/// What stands between clients and a service.
#[derive(Debug)]
pub(crate) struct Door {
    lists: Option<Lists>,
    limiter: Option<Limiter>,
}

impl Door {
    /// None if it would be open for everybody. Boxed, for most services have none.
    pub(crate) fn new(spec: &ServiceSpec, had: impl FnOnce() -> Arc<Had>) -> Option<Box<Self>> {
        let lists = Lists::new(&spec.clients);
        let limiter = spec.limits.map(|limits| Limiter::new(had(), limits));
        let any = lists.is_some() || limiter.is_some();
        any.then(|| Box::new(Self { lists, limiter }))
    }

    /// Whether the lists let a client in.
    pub(crate) fn admits(&self, client: IpAddr) -> bool {
        self.lists.as_ref().is_none_or(|lists| lists.admit(client))
    }

    /// The limits, if there are any.
    pub(crate) fn limiter(&self) -> Option<&Limiter> {
        self.limiter.as_ref()
    }

    /// Whether it is shut in the face of some connections.
    pub(crate) fn limits_connections(&self) -> bool {
        self.limiter().is_some_and(|l| l.limits(What::Connection))
    }

    /// Something of a client begins, if the limits let it.
    pub(crate) fn enter(&self, client: IpAddr, what: What) -> Result<Option<Box<Permit>>, TooMuch> {
        match &self.limiter {
            Some(limiter) => limiter.enter(client, what),
            None => Ok(None),
        }
    }
}

/// Whether a connection of HTTP may begin, by the limits of all services that it may be for. Nobody
/// knows yet for which of them it is, nor, behind trusted proxies, for whom. If not it has taken nothing
/// of any limit, and is a line of the access log as the service says whose limit was met.
pub(crate) fn let_in(worker: &Worker, conn: &Conn, services: &[Arc<LiveService>]) -> bool {
    let ip = conn.client().ip();
    for (at, service) in services.iter().enumerate() {
        let Some(door) = &service.door else {
            continue;
        };
        match door.enter(ip, What::Connection) {
            Ok(permit) => permit.into_iter().for_each(|permit| conn.hold(*permit)),
            Err(_) => {
                conn.held(Vec::clear);
                let before = services.iter().take(at);
                let limiters = before.filter_map(|service| service.door.as_ref()?.limiter());
                limiters.for_each(|limiter| limiter.give_back(ip, What::Connection));
                if service.log.is_some() {
                    conn.keep(Record::unread(Duration::ZERO));
                    conn.route(service);
                    conn.note(|record, _| record.end(End::new(*b"PR")));
                    conn.log(worker);
                }
                return false;
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_lists_say_what_their_model_says() {
        let list = |nets: &[&str]| nets.iter().map(|net| net.parse().unwrap()).collect();
        let nets: [&[&str]; 4] = [
            &[],
            &["10.0.0.0/8"],
            &["fd00::/8"],
            &["10.9.0.0/16", "::/0"],
        ];
        for (allow, deny) in nets.iter().flat_map(|a| nets.iter().map(move |d| (a, d))) {
            let (allow, deny) = (list(allow), list(deny));
            let rules = ClientRules { allow, deny };
            let lists = Lists::new(&rules);
            assert_eq!(lists.is_none(), rules.is_empty());
            for ip in [
                "10.0.0.1",
                "10.9.0.1",
                "192.0.2.1",
                "fd00::1",
                "2001:db8::1",
            ] {
                let ip = ip.parse().unwrap();
                let wanted = rules.judge(ip) == plimsoll_model::Verdict::Served;
                let admitted = lists.as_ref().is_none_or(|lists| lists.admit(ip));
                assert_eq!(admitted, wanted, "{ip} by {rules:?}");
            }
        }
    }
}
