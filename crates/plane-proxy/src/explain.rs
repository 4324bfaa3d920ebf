//! Where a request would go now, and why.

mod http;

use std::collections::BTreeMap;

use plimsoll_model::{Backend, ClientRules, Listen, Ports, State, Verdict};
use plimsoll_plane::{Explanation, Tuple};

use crate::http::target::host_of;
use crate::listener::Bound;
use crate::router::{Routed, Rule};
use crate::snapshot::{LiveService, Member, Snapshot, Table};

/// Where something would go by this snapshot, at `now` of the plane's clock.
pub(crate) fn explain(
    snapshot: &Snapshot,
    listens: &BTreeMap<Listen, Bound>,
    tuple: &Tuple,
    now: u64,
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
        let why = format!("nothing listens on {destination}");
        told.steps.push(why.clone());
        told.nowhere = Some(why);
        return told;
    };
    told.steps.push(format!("{destination} is listen {listen}"));
    let table = snapshot.tables.get(&bound.index);
    if table.is_some_and(|table| table.is_introduced(tuple.client.ip())) {
        told.steps.push(format!(
            "connections from {} begin with a PROXY header (`accept-proxy`): ask with the client that it names",
            tuple.client.ip()
        ));
    }
    match table.map(|t| &**t) {
        Some(Table::Tcp(service) | Table::Udp(service)) => {
            to_service(&mut told, snapshot, service, tuple, now);
            told.status = None;
        }
        Some(Table::Http(http)) => {
            let said = tuple.host.as_deref().unwrap_or_default();
            let mut lower = [0; 255];
            let host = host_of(said.as_bytes(), &mut lower).unwrap_or_default();
            let path = tuple.path.as_deref().unwrap_or("/");
            if http.router.is_evasive(host, path) {
                let why = format!("path {path:?} may be read as one of another route");
                told.steps.push(format!("{why}, which is guarded: 400"));
                told.nowhere = Some(why);
                told.status = Some(400);
                return told;
            }
            match http.router.route(host, path) {
                Routed::Rule(rule) => {
                    told.route = Some(rule.name.clone());
                    told.steps.push(format!(
                        "host {host:?} and path {path:?} match route `{}`",
                        rule.name
                    ));
                    to_rule(&mut told, snapshot, rule, tuple, now);
                }
                Routed::CatchAll(service) => {
                    told.steps.push(format!(
                        "no route matches; service `{}` takes the rest",
                        service.spec.name
                    ));
                    to_service(&mut told, snapshot, service, tuple, now);
                }
                Routed::None => {
                    let why = format!("no route matches host {host:?} and path {path:?}");
                    told.steps.push(format!("{why}: 404"));
                    told.nowhere = Some(why);
                    told.status = Some(404);
                }
            }
            if told.nowhere.is_some() {
                told.status = told.status.or(Some(503));
            }
        }
        Some(Table::Closed) | None => {
            let why = "no service is behind this listen";
            told.steps.push(why.into());
            told.nowhere = Some(why.into());
        }
    }
    told
}

/// Whether lists let the client in. If not, why it goes nowhere.
fn admits(told: &mut Explanation, rules: &ClientRules, of: String, tuple: &Tuple) -> bool {
    let client = tuple.client.ip();
    let why = match rules.judge(client) {
        _ if rules.is_empty() => return true,
        Verdict::Served => {
            told.steps.push(format!("{client} is let in by {of}"));
            return true;
        }
        Verdict::Denied(net) => format!("{client} is in {net}, which `deny` of {of} names"),
        Verdict::NotAllowed => format!("{client} is in no network that `allow` of {of} names"),
    };
    told.status = Some(403);
    told.steps.push(why.clone());
    told.nowhere = Some(why);
    false
}

fn to_rule(told: &mut Explanation, snapshot: &Snapshot, rule: &Rule, tuple: &Tuple, now: u64) {
    let route = snapshot.held.routes.get(&rule.name);
    if let Some(http) = route.and_then(|route| route.http.as_ref())
        && !admits(told, &http.clients, format!("route `{}`", rule.name), tuple)
    {
        return;
    }
    if let Some(http) = route.and_then(|route| route.http.as_ref())
        && !http::by_route(told, http, &rule.path, tuple)
    {
        return;
    }
    for (weight, service) in rule.shares() {
        let name = &service.spec.name;
        let but = match serves(service) {
            Serves::Anyone => "",
            Serves::Staying => ", but it serves only clients that stay on a backend of weight 0",
            Serves::Nobody => ", but no backend of it can serve",
        };
        let step = format!("to service `{name}` by weight {weight}{but}");
        told.steps.push(step);
    }
    let mut shares = rule.shares();
    match (shares.next(), shares.next()) {
        (Some((_, only)), None) => to_service(told, snapshot, only, tuple, now),
        (Some(_), Some(_)) => {
            let mut served = false;
            for (_, service) in rule.shares() {
                let (step, member) = stays_on(service, tuple).unzip();
                let name = &service.spec.name;
                let step = step.map(|step| format!("service `{name}`: {step}"));
                told.steps.extend(step);
                let http = service.spec.http.as_ref();
                let maintenance = http.and_then(|http| http.maintenance.as_ref());
                if http::keeps_out(maintenance, tuple.client.ip()) {
                    let step = "is in maintenance: 503 for the requests that are its share";
                    told.steps.push(format!("service `{name}` {step}"));
                }
                served |= match serves(service) {
                    Serves::Anyone => true,
                    Serves::Staying => service.cookie.is_some() || member.flatten().is_some(),
                    Serves::Nobody => false,
                };
            }
            if !served {
                told.nowhere = Some("no backend of these services can serve".into());
            }
        }
        (None, _) => {
            let why = "the route leads to no service that is there";
            told.steps.push(format!("{why}: 503"));
            told.nowhere = Some(why.into());
        }
    }
}

/// Whom a service can serve.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Serves {
    Anyone,
    /// Clients that stay on a backend of weight 0.
    Staying,
    Nobody,
}

fn serves(service: &LiveService) -> Serves {
    if !service.members.is_empty() || service.sorry.is_some() {
        Serves::Anyone
    } else if service.clients_stay() && !service.resting.is_empty() {
        Serves::Staying
    } else {
        Serves::Nobody
    }
}

/// A backend for people: its address, and its name if it has one.
fn called(backend: &Backend) -> String {
    match backend.name.is_empty() {
        true => backend.addr.to_string(),
        false => format!("{} ({})", backend.addr, backend.name),
    }
}

fn to_service(
    told: &mut Explanation,
    snapshot: &Snapshot,
    service: &LiveService,
    tuple: &Tuple,
    now: u64,
) {
    let name = &service.spec.name;
    told.service = Some(name.clone());
    let rules = &service.spec.clients;
    if !admits(told, rules, format!("service `{name}`"), tuple) {
        return;
    }
    if let Some(limiter) = service.door.as_ref().and_then(|door| door.limiter()) {
        told.steps.extend(limiter.tell(tuple.client.ip()));
    }
    if let Some(http) = &service.spec.http
        && !http::by_service(told, name.as_str(), http, tuple)
    {
        return;
    }
    let kind = service.spec.scheduler.kind;
    let over = match service.members.len() {
        0 => "no backend".into(),
        1 => "1 backend".into(),
        n => format!("{n} backends"),
    };
    told.steps.push(format!(
        "service `{name}`: scheduler {kind} over {over} that may get something new"
    ));
    for member in &service.members {
        let mut step = format!(
            "backend {}: weight {}, {} in flight, {} waiting, limit {}",
            called(&member.backend),
            member.backend.weight,
            member.live.admission.active(),
            member.live.admission.waiting(),
            member.live.admission.limit(),
        );
        if member.live.admission.is_overloaded() {
            step += ", nothing new until it is below its lower threshold";
        }
        if kind.needs_latency() {
            let decay = service.spec.scheduler.decay;
            step += &match member.live.latency.estimate(now, decay) {
                Some(micros) => format!(", answers in {:.1} ms", micros / 1000.0),
                None => ", has not answered yet".into(),
            };
        }
        if let Some(percent) = service.slow_start(&member.backend.addr, now) {
            step += &format!(", slow start: {percent} % of its share");
        }
        told.steps.push(step);
    }
    let held = snapshot.held.services.get(name);
    let backends = held
        .into_iter()
        .flat_map(|service| service.backends.values());
    for backend in backends.filter(|backend| !backend.takes_new()) {
        told.steps.push(unused(backend, service.clients_stay()));
    }
    if let Some(jar) = &service.cookie {
        let cookie = jar.name();
        let step = format!("cookie {cookie}: a client that has it goes to the backend it names");
        told.steps.push(step);
    }
    let client = plimsoll_balance::Client {
        ip: tuple.client.ip(),
        port: tuple.client.port(),
        destination: tuple.destination.ip(),
    };
    let (step, stays) = stays_on(service, tuple).unzip();
    told.steps.extend(step);
    let hashed = service.balancer.hashed(&client, now);
    let decided = match (
        hashed.and_then(|at| service.members.get(at)),
        &service.sorry,
    ) {
        _ if let Some(member) = stays.flatten() => member,
        (Some(member), _) => {
            let of = match kind.needs_destination() {
                true => tuple.destination,
                false => tuple.client,
            };
            let step = format!("the hash of {of} leads to {}", called(&member.backend));
            told.steps.push(step);
            member
        }
        (None, Some(sorry)) if service.members.is_empty() => {
            let step = format!("the sorry server {} takes it", called(&sorry.backend));
            told.steps.push(step);
            sorry
        }
        _ => {
            match serves(service) {
                Serves::Anyone => {}
                Serves::Staying if service.cookie.is_some() => {
                    let step = "only clients with the cookie of a backend of weight 0 are served";
                    told.steps.push(step.into());
                }
                Serves::Staying => {
                    let why = format!("service `{name}` serves only clients that stay there");
                    told.nowhere = Some(why);
                }
                Serves::Nobody => {
                    told.nowhere = Some(format!("no backend of service `{name}` can serve"));
                }
            }
            return;
        }
    };
    told.backend = Some(decided.backend.addr.clone());
    told.backend_name = decided.backend.name.to_string();
}

/// What persistence does with the client, and the backend that it stays on, if it does; none if the
/// service has no persistence.
fn stays_on<'a>(service: &'a LiveService, tuple: &Tuple) -> Option<(String, Option<&'a Member>)> {
    let sticky = service.sticky.as_ref()?;
    let client = sticky.net(tuple.client.ip());
    let Some(stays) = sticky.find(client) else {
        let step = format!("persistence: {client} is not remembered, and stays where it goes now");
        return Some((step, None));
    };
    let Some(member) = service.member(&stays.backend) else {
        let step = format!(
            "persistence: {client} stayed on {}, which takes nothing new: it moves",
            stays.backend
        );
        return Some((step, None));
    };
    let backend = called(&member.backend);
    let step = match stays.open {
        0 => format!(
            "persistence: {client} stays on {backend} for {} s more",
            stays.left.div_ceil(1000)
        ),
        open => format!("persistence: {client} stays on {backend}, where it has {open} open"),
    };
    Some((step, Some(member)))
}

/// Why a backend gets nothing new; `stay`: its clients come back to it all the same.
fn unused(backend: &Backend, stay: bool) -> String {
    let status = &backend.status;
    let called = called(backend);
    match (status.state, &*status.reason) {
        (State::Ready, _) if stay => {
            format!("backend {called}: gets only what clients that stay there bring: weight 0")
        }
        (State::Ready, _) => format!("backend {called}: gets nothing new: weight 0"),
        (state, "") => format!("backend {called}: {state}"),
        (state, reason) => format!("backend {called}: {state}: {reason}"),
    }
}
