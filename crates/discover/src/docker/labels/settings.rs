//! From the labels of one service to the container's share of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use plimsoll_model::{
    AccessLog, Backend, BackendAddr, HashKey, HostPattern, Listen, MAX_WEIGHT, MidStream, Name,
    Origin, PacketRules, PathPrefix, Persistence, PlaneChoice, Proto, ProxyVersion, Scheduler,
    SchedulerKind, ServiceSpec, canonical_net,
};

use super::Common;
use super::check;
use super::cookie;
use super::elsewhere;
use super::forward;
use super::group::Group;
use super::host;
use super::http;
use super::limits;
use super::listen::{self, Listens};
use super::naming::Base;
use super::outlier;
use super::reserved;
use super::retry;
use super::value::{Faults, Value, cut};
use crate::docker::port;
use crate::docker::share::{MAX_ROUTES, Share, routes};
use crate::docker::view::Settings;
use crate::docker::wire::Inspect;

/// Networks in one list of a service at most.
pub(crate) const MAX_NETWORKS: usize = 1024;
/// The greatest `mh` table, a prime. One takes memory by the megabyte and is filled again with every
/// change of a backend, while other services wait; only a file may ask for more.
const MAX_TABLE: u32 = 131_071;
/// The least `mh` table that can serve anyone: each backend needs 100 slots.
const MIN_TABLE: u64 = 100;

/// Keys that only mean something for HTTP, beside those of [`http`].
const HTTP_ONLY: [&str; 6] = [
    "host",
    "path",
    "priority",
    "cookie",
    "body-limit",
    "trusted",
];

/// Makes the shares of one container.
pub(crate) struct Maker<'a> {
    pub(crate) container: &'a Inspect,
    pub(crate) settings: &'a Settings,
    pub(crate) origin: &'a Origin,
    /// What the names of its services begin with.
    pub(crate) base: &'a Base,
    pub(crate) common: &'a Common,
}

impl Maker<'_> {
    /// The container's share of a service. `known` says whether another service of the container
    /// has that name.
    pub(crate) fn share(
        &self,
        name: &str,
        group: &Group<'_>,
        known: impl Fn(&Name) -> bool,
    ) -> Result<Share, String> {
        let mut faults = group.faults();
        let name = match self.name(name, group) {
            Ok(name) if known(&name) => {
                let fault = format!("another service of this container is called {name}, too");
                faults.push(match group.get("service") {
                    Some(value) => value.fault(fault),
                    None => format!(
                        "{fault}: give one of them another host, path or listen, or a name with \
                         label {}.service",
                        group.prefix
                    ),
                });
                Some(name)
            }
            Ok(name) => Some(name),
            Err(fault) => {
                faults.push(fault);
                None
            }
        };
        let listens = listen::read(group, &mut faults);
        let share = name
            .zip(listens)
            .and_then(|(name, listens)| self.fill(name, listens, group, &mut faults));
        match (share, faults.reason()) {
            (Some(share), None) => Ok(share),
            (_, reason) => Err(reason.unwrap_or_default()),
        }
    }

    fn fill(
        &self,
        name: Name,
        listens: Listens,
        group: &Group<'_>,
        faults: &mut Faults,
    ) -> Option<Share> {
        let Listens { proto, mut listens } = listens;
        let forward = forward::read(group, proto, faults);
        let port = match group.get("port") {
            Some(value) => Ok(value.number(1, u16::MAX, faults)?),
            None => match forward::own_port(forward, &listens) {
                Some(port) => Ok(port),
                None => {
                    let label = format!("{}.port", group.prefix);
                    port::guess(self.container, proto, &label)
                }
            },
        };
        let keeps_port =
            forward::own_port(forward, &listens).is_some() && group.get("port").is_none();
        if listens.is_empty() {
            listens.push(match (proto, &port) {
                (Proto::Http, _) => self.settings.http,
                (proto, Ok(port)) => Listen::socket(None, *port, proto),
                (_, Err(why)) => {
                    faults.push(why);
                    return None;
                }
            });
        }
        reserved::check(group, &listens, &self.settings.http, faults);
        if proto != Proto::Http {
            let keys = HTTP_ONLY.iter().chain(&http::OF_ROUTES);
            let keys = keys.chain(&http::OF_SERVICES);
            for value in keys.filter_map(|key| group.get(key)) {
                let why = format!("only for http services, this one is {proto}");
                faults.push(value.fault(why));
            }
        } else if let Some(value) = group.get("accept-proxy") {
            faults.push(value.fault(
                "not for http services, whose listens are the operator's: say it in the \
                 configuration file, or make it a tcp service",
            ));
        }
        let mut spec = ServiceSpec::new(name, self.origin.clone(), listens);
        tune(&mut spec, group, faults);
        spec.limits = limits::read(group, proto, faults);
        if let Some(drain) = self.common.drain.filter(|_| group.get("drain").is_none()) {
            spec.timeouts.drain = drain;
        }
        let mut number = |key: &str, max: u32, default: u32| match group.get(key) {
            Some(value) => value.number(0, max, faults).unwrap_or_default(),
            None => default,
        };
        let (weight, maxconn) = (
            number("weight", MAX_WEIGHT, 1),
            number("maxconn", u32::MAX, 0),
        );
        let (upper, lower) = (number("upper", u32::MAX, 0), number("lower", u32::MAX, 0));
        if let Some(value) = group.get("lower").filter(|_| lower > upper) {
            faults.push(value.fault(format!(
                "the lower threshold {lower} is above `upper`, which is {upper}"
            )));
        }
        let network = match group.get("network") {
            Some(value) => network(value, faults),
            None => self.common.network.clone(),
        };
        if let Err(error) = spec.validate() {
            faults.push(error.0);
        }
        let routes = match self.routes(&spec, group, faults) {
            Ok(routes) => routes,
            Err(why) => {
                faults.push(why);
                Vec::new()
            }
        };
        Some(Share {
            spec,
            routes,
            port,
            transport: proto.transport(),
            forward,
            keeps_port,
            weight,
            maxconn,
            thresholds: (upper, lower),
            network,
        })
    }

    fn routes(
        &self,
        spec: &ServiceSpec,
        group: &Group<'_>,
        faults: &mut Faults,
    ) -> Result<Vec<plimsoll_model::Route>, String> {
        let path: Option<PathPrefix> = group.get("path").and_then(|v| v.parsed(faults));
        let priority = group.get("priority");
        let mut hosts: Vec<HostPattern> = Vec::new();
        if let Some(value) = group.get("host") {
            let rule = elsewhere::rule(value.text, &group.prefix);
            let items = match rule {
                Some(why) => {
                    faults.push(value.fault(why));
                    Vec::new()
                }
                None => value.items(MAX_ROUTES, faults),
            };
            for item in items {
                match host::read(item, &group.prefix) {
                    Ok(host) if hosts.contains(&host) => {
                        faults.push(value.fault(format!("{host} is said twice")));
                    }
                    Ok(host) => hosts.push(host),
                    Err(why) => faults.push(value.fault(why)),
                }
            }
        } else if group.get("path").is_some() {
            hosts.push(HostPattern::Any);
        } else if let Some(value) = priority {
            let prefix = &group.prefix;
            let why = format!("it orders routes, and there is none without {prefix}.host");
            faults.push(value.fault(why));
        }
        let priority = priority.and_then(|v| v.number(i32::MIN, i32::MAX, faults));
        if !spec.listens.iter().all(Listen::is_http) {
            return Ok(Vec::new());
        }
        let path = path.unwrap_or_else(PathPrefix::root);
        let http = http::route(group, &path, hosts.is_empty(), faults);
        routes(spec, &hosts, &path, priority.unwrap_or_default(), http)
    }
}

/// The settings of a service that are the same in the file.
fn tune(spec: &mut ServiceSpec, group: &Group<'_>, faults: &mut Faults) {
    if let Some(plane) = group
        .get("plane")
        .and_then(|v| v.word(&PlaneChoice::NAMES, faults))
    {
        spec.plane = plane;
    }
    scheduler(spec, group, faults);
    if let Some(time) = (group.get("slow-start")).and_then(|v| v.duration(Duration::ZERO, faults)) {
        spec.slow_start = time;
    }
    spec.persistence = persistence(group, faults);
    spec.cookie = cookie::read(group, faults);
    spec.check = check::read(group, faults);
    let timeouts = &mut spec.timeouts;
    let zero = Duration::ZERO;
    for (key, least, time) in [
        (
            "timeouts.connect",
            Duration::from_millis(1),
            &mut timeouts.connect,
        ),
        ("timeouts.queue", zero, &mut timeouts.queue),
        ("timeouts.response", zero, &mut timeouts.response),
        ("timeouts.stall", zero, &mut timeouts.stall),
        ("timeouts.udp", zero, &mut timeouts.udp),
        ("drain", zero, &mut timeouts.drain),
    ] {
        if let Some(read) = group.get(key).and_then(|v| v.duration(least, faults)) {
            *time = read;
        }
    }
    let idle = group.get("timeouts.idle");
    if let Some(idle) = idle.and_then(|v| v.duration(zero, faults)) {
        timeouts.idle = Some(idle);
    }
    spec.packets = PacketRules {
        mid_stream: (group.get("mid-stream")).and_then(|v| v.word(&MidStream::NAMES, faults)),
        mss: group.get("mss").and_then(|v| v.parsed(faults)),
    };
    let sessions = &mut spec.sessions;
    for (key, least, number) in [
        ("queue", 0, &mut spec.queue),
        ("retries", 0, &mut spec.retries),
        ("sessions", 1, &mut sessions.limit),
        ("sessions.per-source", 0, &mut sessions.per_source),
        ("sessions.responses", 0, &mut sessions.responses),
    ] {
        let read = group
            .get(key)
            .and_then(|v| v.number(least, u32::MAX, faults));
        if let Some(read) = read {
            *number = read;
        }
    }
    spec.retry = retry::read(group, faults);
    spec.outlier = outlier::read(group, faults);
    // The greatest number of the file.
    let greatest = i64::MAX.unsigned_abs();
    if let Some(value) = group.get("body-limit") {
        spec.max_body = value.number(0, greatest, faults).unwrap_or_default();
    }
    for (key, networks) in [
        ("trusted", &mut spec.trusted),
        ("allow", &mut spec.clients.allow),
        ("deny", &mut spec.clients.deny),
        ("accept-proxy", &mut spec.proxy_headers.accept),
    ] {
        if let Some(value) = group.get(key) {
            let items = value.items(MAX_NETWORKS, faults);
            let read = items
                .into_iter()
                .filter_map(|item| network_of(value, item, faults));
            *networks = read.collect();
        }
    }
    if let Some(value) = group.get("access-log") {
        spec.access_log = value.word(&AccessLog::NAMES, faults);
    }
    if let Some(value) = group.get("send-proxy") {
        spec.proxy_headers.send = value.word(&ProxyVersion::NAMES, faults);
    }
    spec.http = http::service(group, faults);
    if let Some(value) = group.get("sorry") {
        let mut addr: Option<BackendAddr> = value.parsed(faults);
        if let Some(BackendAddr::Unix(_)) = addr {
            // The engine's own socket may be among those that plimsoll can reach.
            let why = "Unix sockets are the operator's: use an address, or a file";
            faults.push(value.fault(why));
            addr = None;
        }
        spec.sorry = addr.map(|addr| Backend::new(addr, spec.origin.clone()));
    }
}

fn scheduler(spec: &mut ServiceSpec, group: &Group<'_>, faults: &mut Faults) {
    let kinds = &SchedulerKind::NAMES;
    let scheduler = &mut spec.scheduler;
    let theirs = &elsewhere::SCHEDULERS;
    if let Some(value) = group.get("scheduler")
        && let Some(kind) = value.word_or(kinds, theirs, faults)
    {
        scheduler.kind = kind;
    }
    if let Some(hash) = (group.get("scheduler.hash")).and_then(|v| v.word(&HashKey::NAMES, faults))
    {
        scheduler.hash = hash;
    }
    if let Some(value) = group.get("scheduler.table") {
        match value.text.parse::<u64>() {
            Ok(slots) if slots > u64::from(MAX_TABLE) => faults.push(value.fault(format!(
                "a label may ask for at most {MAX_TABLE} slots, since filling more takes time from \
                 all services: use {MAX_TABLE}, or a service in the configuration file"
            ))),
            Ok(slots @ 1..MIN_TABLE) => faults.push(value.fault(format!(
                "{slots} slots are too few: use a prime of at least {MIN_TABLE} for one container \
                 and 100 more for each other, or 0 to choose one"
            ))),
            _ => scheduler.table = value.number(0, MAX_TABLE, faults).unwrap_or_default(),
        }
    }
    if let Some(value) = group.get("scheduler.seed") {
        scheduler.seed = value.number(0, u64::MAX, faults).unwrap_or_default();
    }
    if let Some(value) = group.get("scheduler.bound")
        && let Some(bound) = value.number(0, Scheduler::MAX_BOUND, faults)
    {
        match bound {
            1..=100 => faults.push(value.fault(format!(
                "{bound} % of their share is less than containers need together: use at least 101, \
                 or 0 for no bound"
            ))),
            _ => scheduler.bound = bound,
        }
    }
    let least = Duration::from_millis(1);
    if let Some(decay) = (group.get("scheduler.decay")).and_then(|v| v.duration(least, faults)) {
        scheduler.decay = decay;
    }
}

fn persistence(group: &Group<'_>, faults: &mut Faults) -> Option<Persistence> {
    let plain = Persistence::new(Duration::ZERO);
    let mut prefix = |key, max: u8, plain| {
        let value = group.get(key);
        value
            .and_then(|value| value.number(1, max, faults))
            .unwrap_or(plain)
    };
    let (v4, v6) = ("persistence.prefix-v4", "persistence.prefix-v6");
    let prefix_v4 = prefix(v4, 32, plain.prefix_v4);
    let prefix_v6 = prefix(v6, 128, plain.prefix_v6);
    let Some(value) = group.get("persistence") else {
        if let Some(value) = group.get(v4).or(group.get(v6)) {
            let why = format!("it needs label {}.persistence with a time", group.prefix);
            faults.push(value.fault(why));
        }
        return None;
    };
    Some(Persistence {
        timeout: value.duration(Duration::from_millis(1), faults)?,
        prefix_v4,
        prefix_v6,
    })
}

pub(crate) fn network_of(value: &Value<'_>, item: &str, faults: &mut Faults) -> Option<IpNet> {
    let single = || item.parse::<IpAddr>().ok().map(IpNet::from);
    let Some(net) = item.parse::<IpNet>().ok().or_else(single) else {
        let what = "expected networks (10.0.0.0/8, fd00::/8) or addresses";
        faults.push(value.fault(format!("`{}` is no network: {what}", cut(item))));
        return None;
    };
    if net != net.trunc() {
        let meant = net.trunc();
        let why = format!("{net} has bits set beyond its prefix: did you mean `{meant}`?");
        faults.push(value.fault(why));
        return None;
    }
    // One of IPv4-mapped addresses is that of IPv4.
    Some(canonical_net(net))
}

/// The name of a network.
pub(crate) fn network(value: &Value<'_>, faults: &mut Faults) -> Option<Arc<str>> {
    if value
        .text
        .chars()
        .any(|c| c.is_control() || c.is_whitespace())
    {
        faults.push(value.fault("expected the name of one network"));
        return None;
    }
    Some(value.text.into())
}
