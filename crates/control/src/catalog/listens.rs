//! Which service has which listen.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use plimsoll_model::{Listen, Name, Ports, Proto, Service, Subject};

use super::merge::Accepted;
use crate::Aside;

/// A listen that is taken.
struct Claim<'a> {
    listen: Listen,
    first: &'a Service,
    /// The service that gets the requests no route decides.
    catch_all: Option<&'a Service>,
}

/// Where to look for what a listen on one port can conflict with: transport, port and address;
/// no address for those that mean any.
type Key = (Proto, u16, Option<IpAddr>);

/// Listens that are taken, found without looking at all of them.
#[derive(Default)]
struct Claims<'a> {
    ports: BTreeMap<Key, Vec<Claim<'a>>>,
    /// Ranges and marks.
    others: Vec<Claim<'a>>,
}

/// The services that cannot have their listens, with the reason. Hand-made before files before
/// engines, then by name. An HTTP listen may be shared, but by one service at most that no route
/// names, valid or not.
pub(super) fn losers<'a>(
    services: impl Iterator<Item = &'a Accepted>,
    named: &BTreeSet<&Name>,
) -> BTreeMap<Name, Aside> {
    let mut order: Vec<&Accepted> = services.collect();
    order.sort_by_key(|a| (a.precedence, a.service.name()));
    let mut claims = Claims::default();
    let mut losers = BTreeMap::new();
    for Accepted { service, .. } in order {
        let catch_all = !named.contains(service.name());
        let listens = &service.spec.listens;
        let mut conflicts = listens.iter().filter_map(|l| claims.conflict(l, catch_all));
        match conflicts.next() {
            Some(reason) => {
                let subject = Subject::Service(service.name().clone());
                let aside = Aside::new(subject, &service.spec.origin, reason);
                losers.insert(service.name().clone(), aside);
            }
            None => listens
                .iter()
                .for_each(|listen| claims.add(*listen, service, catch_all)),
        }
    }
    losers
}

fn key(listen: &Listen) -> Option<Key> {
    match listen {
        Listen::Socket {
            ip,
            ports: Ports::One(port),
            proto,
        } => {
            let ip = ip.filter(|ip| !ip.is_unspecified());
            Some((proto.transport(), *port, ip))
        }
        _ => None,
    }
}

impl<'a> Claims<'a> {
    /// Why a listen cannot be had.
    fn conflict(&self, listen: &Listen, catch_all: bool) -> Option<String> {
        match key(listen) {
            Some(key) => {
                let near = self.ports.get(&key).into_iter().flatten();
                Self::first_conflict(near.chain(&self.others), listen, catch_all)
            }
            None => {
                let all = self.ports.values().flatten().chain(&self.others);
                Self::first_conflict(all, listen, catch_all)
            }
        }
    }

    fn first_conflict<'b>(
        mut claims: impl Iterator<Item = &'b Claim<'a>>,
        listen: &Listen,
        catch_all: bool,
    ) -> Option<String>
    where
        'a: 'b,
    {
        claims.find_map(|claim| {
            if listen.is_http() && claim.listen == *listen {
                let other = claim.catch_all.filter(|_| catch_all)?;
                Some(format!(
                    "service `{}` of {} takes all requests of listen {listen} that no route \
                     decides, which only one can: name this service in a route",
                    other.name(),
                    other.spec.origin
                ))
            } else if claim.listen.conflicts(listen) {
                Some(format!(
                    "listen {listen} is taken by service `{}` of {} with listen {}: change one",
                    claim.first.name(),
                    claim.first.spec.origin,
                    claim.listen
                ))
            } else {
                None
            }
        })
    }

    fn add(&mut self, listen: Listen, service: &'a Service, catch_all: bool) {
        let list = match key(&listen) {
            Some(key) => self.ports.entry(key).or_default(),
            None => &mut self.others,
        };
        let catch_all = catch_all.then_some(service);
        match list.iter_mut().find(|claim| claim.listen == listen) {
            Some(claim) => claim.catch_all = claim.catch_all.or(catch_all),
            None => list.push(Claim {
                listen,
                first: service,
                catch_all,
            }),
        }
    }
}
