//! Which service has which listen.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use plimsoll_model::{Listen, Name, Ports, Proto, Service, Subject};

use super::merge::Accepted;
use super::words;
use crate::Aside;

/// A listen that is taken.
struct Claim<'a> {
    listen: Listen,
    first: &'a Accepted,
    /// The service that gets the requests no route decides.
    catch_all: Option<&'a Accepted>,
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
/// engines, then those with backends before those without any, then by name. An HTTP listen may be
/// shared, but by one service at most that no route names, valid or not.
pub(super) fn losers<'a>(
    services: impl Iterator<Item = &'a Accepted>,
    named: &BTreeSet<&Name>,
) -> BTreeMap<Name, Aside> {
    let mut order: Vec<&Accepted> = services.collect();
    order.sort_by_key(|a| (a.precedence, !a.has_backends(), a.service.name()));
    let mut claims = Claims::default();
    let mut losers = BTreeMap::new();
    for accepted in order {
        let service = &accepted.service;
        let catch_all = !named.contains(service.name());
        let listens = &service.spec.listens;
        let conflict = |l| claims.conflict(accepted, l, catch_all);
        let mut conflicts = listens.iter().filter_map(conflict);
        match conflicts.next() {
            Some(reason) => {
                let subject = Subject::Service(service.name().clone());
                let aside = Aside::new(subject, &service.spec.origin, reason);
                losers.insert(service.name().clone(), aside);
            }
            None => listens
                .iter()
                .for_each(|listen| claims.add(*listen, accepted, catch_all)),
        }
    }
    losers
}

/// A service as it is, but for its HTTP listens; the same if it has none.
pub(super) fn without_http(service: &Arc<Service>) -> Arc<Service> {
    if !service.spec.listens.iter().any(Listen::is_http) {
        return service.clone();
    }
    let mut rest = Service::clone(service);
    let spec = Arc::make_mut(&mut rest.spec);
    spec.listens.retain(|listen| !listen.is_http());
    rest.into()
}

/// Who said a service, behind its name, for one that was said by another.
fn of_whom(first: &Accepted, other: &Accepted) -> String {
    let (origin, reader) = (&first.service.spec.origin, &other.service.spec.origin);
    match words::has_labels(other.precedence) && origin.source == reader.source {
        true => format!(" ({})", origin.entry),
        false => format!(" of {origin}"),
    }
}

/// Why one service comes before another of the same precedence, where it is not by its name.
fn first_because(first: &Accepted, other: &Accepted) -> &'static str {
    match first.precedence == other.precedence && first.service.name() > other.service.name() {
        true => ", which comes first because it has backends,",
        false => "",
    }
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
    /// Why a service cannot have a listen.
    fn conflict(&self, of: &Accepted, listen: &Listen, catch_all: bool) -> Option<String> {
        match key(listen) {
            Some(key) => {
                let near = self.ports.get(&key).into_iter().flatten();
                Self::first_conflict(near.chain(&self.others), of, listen, catch_all)
            }
            None => {
                let all = self.ports.values().flatten().chain(&self.others);
                Self::first_conflict(all, of, listen, catch_all)
            }
        }
    }

    fn first_conflict<'b>(
        mut claims: impl Iterator<Item = &'b Claim<'a>>,
        of: &Accepted,
        listen: &Listen,
        catch_all: bool,
    ) -> Option<String>
    where
        'a: 'b,
    {
        claims.find_map(|claim| {
            if listen.is_http() && claim.listen == *listen {
                let other = claim.catch_all.filter(|_| catch_all)?;
                let instead = match words::has_labels(of.precedence) {
                    true => "give this one a plimsoll.host or plimsoll.path",
                    false => "name this service in a route",
                };
                Some(format!(
                    "service `{}`{}{} takes all requests of listen {listen} that no route \
                     decides, which only one can: {instead}",
                    other.service.name(),
                    of_whom(other, of),
                    first_because(other, of)
                ))
            } else if claim.listen.conflicts(listen) {
                let first = claim.first;
                let instead = match words::has_labels(of.precedence) {
                    true => "choose another plimsoll.listen",
                    false => "change one",
                };
                Some(format!(
                    "listen {listen} is taken by service `{}`{}{} with listen {}: {instead}",
                    first.service.name(),
                    of_whom(first, of),
                    first_because(first, of),
                    claim.listen
                ))
            } else {
                None
            }
        })
    }

    fn add(&mut self, listen: Listen, service: &'a Accepted, catch_all: bool) {
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
