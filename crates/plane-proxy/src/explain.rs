//! Where a request would go now, and why.

use std::collections::BTreeMap;

use plimsoll_model::{Listen, Ports};
use plimsoll_plane::{Explanation, Tuple};

use crate::listener::Bound;
use crate::router::Routed;
use crate::snapshot::{Snapshot, Table};

/// Where something would go by this snapshot.
pub(crate) fn explain(
    snapshot: &Snapshot,
    listens: &BTreeMap<Listen, Bound>,
    tuple: &Tuple,
) -> Explanation {
    let mut told = Explanation::default();
    let destination = tuple.destination;
    let takes = |listen: &Listen| match listen {
        Listen::Socket { ip, ports, proto } => {
            proto.transport() == tuple.proto.transport()
                && ports.overlaps(Ports::One(destination.port()))
                && ip.is_none_or(|ip| ip.is_unspecified() || ip == destination.ip())
        }
        Listen::Mark { .. } => false,
    };
    // The kernel prefers a socket on the address itself.
    let exact = |listen: &Listen| matches!(listen, Listen::Socket { ip: Some(ip), .. } if *ip == destination.ip());
    let found = listens
        .iter()
        .filter(|(listen, _)| takes(listen))
        .max_by_key(|(listen, _)| exact(listen));
    let Some((listen, bound)) = found else {
        told.steps.push(format!("nothing listens on {destination}"));
        return told;
    };
    told.steps.push(format!("{destination} is listen {listen}"));
    let table = snapshot.tables.get(&bound.index);
    let service = match table.map(|t| &**t) {
        Some(Table::Tcp(service)) => service.clone(),
        Some(Table::Http(http)) => {
            let host = tuple
                .host
                .as_deref()
                .unwrap_or_default()
                .to_ascii_lowercase();
            let path = tuple.path.as_deref().unwrap_or("/");
            match http.router.route(&host, path) {
                Routed::Rule(rule) => {
                    told.route = Some(rule.name.clone());
                    told.steps.push(format!(
                        "host {host:?} and path {path:?} match route `{}`",
                        rule.name
                    ));
                    for (weight, service) in rule.shares() {
                        told.steps.push(format!(
                            "to service `{}` by weight {weight}",
                            service.spec.name
                        ));
                    }
                    match rule.shares().next() {
                        Some((_, only)) if rule.shares().count() == 1 => only.clone(),
                        Some(_) => return told,
                        None => {
                            told.steps
                                .push("the route leads to no service that is there: 503".into());
                            return told;
                        }
                    }
                }
                Routed::CatchAll(service) => {
                    told.steps.push(format!(
                        "no route matches; service `{}` takes the rest",
                        service.spec.name
                    ));
                    service.clone()
                }
                Routed::None => {
                    told.steps.push(format!(
                        "no route matches host {host:?} and path {path:?}: 404"
                    ));
                    return told;
                }
            }
        }
        Some(Table::Closed) | None => {
            told.steps.push("no service is behind this listen".into());
            return told;
        }
    };
    told.service = Some(service.spec.name.clone());
    let kind = service.spec.scheduler.kind;
    told.steps.push(format!(
        "service `{}`: scheduler {kind} over {} backends that may get something new",
        service.spec.name,
        service.members.len()
    ));
    for member in &service.members {
        told.steps.push(format!(
            "backend {}: weight {}, {} in flight, {} waiting, limit {}",
            member.backend.addr,
            member.backend.weight,
            member.live.admission.active(),
            member.live.admission.waiting(),
            member.live.admission.limit(),
        ));
    }
    let client = plimsoll_balance::Client {
        ip: tuple.client.ip(),
        port: tuple.client.port(),
    };
    if let Some(member) = service
        .balancer
        .hashed(&client)
        .and_then(|at| service.members.get(at))
    {
        told.steps.push(format!(
            "the hash of {} leads to {}",
            tuple.client, member.backend.addr
        ));
        told.backend = Some(member.backend.addr.clone());
    }
    told
}
