//! `[[service]]`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_model::{
    HashKey, Limits, Listen, Name, Origin, Persistence, PlaneChoice, Proto, ProxyVersion,
    Scheduler, SchedulerKind, Service, ServiceSpec, Sessions, Timeouts,
};

use crate::access;
use crate::backend::{self, ReadBackend};
use crate::cookie;
use crate::fields::{Faults, Node, Place, Table};
use crate::health;
use crate::http;
use crate::limits;
use crate::nearest::nearest;
use crate::networks;
use crate::options;
use crate::outlier;
use crate::packets;
use crate::retry;
use crate::schema;
use crate::sockets::Sockets;
use crate::vip;

/// Listens of one service, and of one route, at most.
pub(crate) const MAX_LISTENS: usize = 256;
/// The greatest `mh` table: 64 MiB, enough for 167 000 backends.
const MAX_TABLE: u32 = 1 << 24;

const LISTEN: &str =
    "ADDR:PORT/PROTO, such as \"0.0.0.0:80/http\", \"[::]:443/tcp\" or \"*:53/tcp+udp\"";

/// What could be read of a service.
pub(crate) struct ReadService {
    /// Its header.
    pub(crate) place: Place,
    pub(crate) name: Option<(Name, Place)>,
    pub(crate) listens: Vec<(Listen, Place)>,
    /// Where each VIP of the service stands.
    pub(crate) vips: Vec<Place>,
    /// The service, if nothing is wrong with it by itself.
    pub(crate) service: Option<Service>,
}

pub(crate) fn read(source: &Arc<str>, table: &Table<'_>, faults: &mut Faults) -> ReadService {
    let before = faults.count();
    table.check_keys(schema::SERVICE, faults);
    let name = read_name(table, faults);
    let label = name.as_ref().map_or("?", |(name, _)| name.as_str());
    let listens = read_listens(table, faults);
    check_own_listens(&listens, faults);
    let origin = Origin::new(source.clone(), format!("service {label}"));
    let placeholder = || "unnamed".parse::<Name>().ok();
    let mut vips = Vec::new();
    let service = name
        .as_ref()
        .map(|(name, _)| name.clone())
        .or_else(placeholder)
        .and_then(|name| {
            let sockets = listens.iter().map(|(listen, _)| *listen).collect();
            let mut spec = ServiceSpec::new(name, origin, sockets);
            (spec.vips, vips) = vip::read(table, faults);
            vip::check_own(&spec, &vips, faults);
            fill(&mut spec, table, faults);
            let backends = read_backends(source, label, table, &spec, faults);
            check_plane(&spec, table, &listens, faults);
            spec.sorry = table
                .get("sorry")
                .and_then(|node| backend::read(source, label, "sorry", &node, faults))
                .map(|read| read.backend);
            let sound = faults.count() == before;
            sound.then(|| Service::new(spec, backends))
        })
        .filter(|service| {
            if !health::check_ports(service, table, faults) {
                return false;
            }
            let valid = service.validate();
            if let Err(error) = &valid {
                faults.push(table.place.fault(&*error.0));
            }
            valid.is_ok()
        });
    ReadService {
        place: table.place.clone(),
        name,
        listens,
        vips,
        service,
    }
}

/// `name`, which is a name.
pub(crate) fn read_name(table: &Table<'_>, faults: &mut Faults) -> Option<(Name, Place)> {
    let node = table.need("name", "name = \"…\", unique in the file", faults)?;
    let name = node.parsed(
        "a string of 1 to 255 visible ASCII characters, no quotes",
        faults,
    )?;
    Some((name, node.place))
}

/// `listen`: one or a list, each of one protocol or several joined by `+`.
pub(crate) fn read_listens(table: &Table<'_>, faults: &mut Faults) -> Vec<(Listen, Place)> {
    let Some(node) = table.get("listen") else {
        return Vec::new();
    };
    let mut listens = Vec::new();
    for node in node.one_or_many(MAX_LISTENS, faults) {
        let Some(text) = node.string(LISTEN, faults) else {
            continue;
        };
        match expand(text) {
            Ok(found) => listens.extend(found.into_iter().map(|l| (l, node.place.clone()))),
            Err(error) => {
                let fault = node.invalid(&error, LISTEN);
                faults.push(fault.nearest(meant(text)));
            }
        }
    }
    listens
}

fn check_own_listens(listens: &[(Listen, Place)], faults: &mut Faults) {
    let mut sockets = Sockets::new();
    for (listen, place) in listens {
        let message = match sockets.find(listen) {
            None => {
                sockets.claim(*listen, ());
                continue;
            }
            Some(claim) if claim.listen == *listen => {
                format!("listen {listen} is in this service twice")
            }
            Some(claim) => format!(
                "{listen} is the same socket as {} of this service",
                claim.listen
            ),
        };
        faults.push(place.fault(message).expected("every socket once"));
    }
}

/// `0.0.0.0:53/tcp+udp` is two listens.
fn expand(text: &str) -> Result<Vec<Listen>, plimsoll_model::Invalid> {
    match text.rsplit_once('/') {
        Some((address, protos)) if protos.contains('+') => protos
            .split('+')
            .take(MAX_LISTENS)
            .map(|proto| format!("{address}/{proto}").parse())
            .collect(),
        _ => text.parse().map(|listen| vec![listen]),
    }
}

/// What a wrong listen was probably meant to be.
fn meant(text: &str) -> Option<String> {
    let (address, proto) = text.rsplit_once('/').unwrap_or((text, "http"));
    let proto = nearest(proto, Proto::NAMES.map(|(name, _)| name)).unwrap_or(proto);
    let with = |address: &str| format!("{address}/{proto}");
    let candidates = [
        with(address),
        with(&format!("*:{address}")),
        with(&address.replace("localhost", "127.0.0.1")),
        match address.rsplit_once(':') {
            Some((ip, port)) => with(&format!("[{ip}]:{port}")),
            None => with(address),
        },
    ];
    candidates
        .into_iter()
        .find(|candidate| candidate != text && candidate.parse::<Listen>().is_ok())
}

fn fill(spec: &mut ServiceSpec, table: &Table<'_>, faults: &mut Faults) {
    if let Some(node) = table.get("plane") {
        spec.plane = node
            .word("plane", &PlaneChoice::NAMES, faults)
            .unwrap_or_default();
    }
    if let Some(node) = table.get("scheduler") {
        spec.scheduler = scheduler(&node, faults).unwrap_or_default();
    }
    if let Some(node) = table.get("slow-start") {
        spec.slow_start = node.duration(Duration::ZERO, faults).unwrap_or_default();
    }
    if let Some(node) = table.get("persistence") {
        spec.persistence = persistence(&node, faults);
    }
    if let Some(node) = table.get("cookie") {
        spec.cookie = cookie::read(&node, faults);
    }
    if let Some(node) = table.get("check") {
        spec.check = health::read(&node, faults);
    }
    if let Some(node) = table.get("timeouts") {
        timeouts(&mut spec.timeouts, &node, faults);
    }
    spec.packets = packets::of_service(table, faults);
    if let Some(node) = table.get("sessions") {
        sessions(&mut spec.sessions, &node, faults);
    }
    if let Some(node) = table.get("queue") {
        spec.queue = node
            .integer(0, i128::from(u32::MAX), faults)
            .unwrap_or_default();
    }
    if let Some(node) = table.get("retries") {
        retry::read(&node, spec, faults);
    }
    if let Some(node) = table.get("outlier") {
        spec.outlier = outlier::read(&node, faults);
    }
    if let Some(node) = table.get("body-limit") {
        // The greatest whole number of TOML.
        spec.max_body = node
            .integer(0, i128::from(i64::MAX), faults)
            .unwrap_or_default();
    }
    spec.http = http::service(table, faults);
    spec.trusted = networks::list(table, "trusted", faults);
    spec.proxy_headers.accept = networks::list(table, "accept-proxy", faults);
    spec.clients = networks::clients(table, faults);
    if let Some(node) = table.get("limits") {
        let limits = limits::read(&node, faults);
        spec.limits = limits.filter(|limits| *limits != Limits::default());
        let fits = spec.limits.map_or(Ok(()), |l| l.validate(&spec.listens));
        if let Err(error) = fits {
            faults.push(
                node.fault(error.0)
                    .expected("limits of what the service has"),
            );
        }
    }
    if let Some(node) = table.get("access-log") {
        spec.access_log = access::format(&node, faults);
    }
    if let Some(node) = table.get("listen-options") {
        spec.listen_options = options::listen(&node, faults);
    }
    if let Some(node) = table.get("to-backends") {
        spec.to_backends = options::to_backends(&node, faults);
    }
    if let Some(node) = table.get("send-proxy") {
        spec.proxy_headers.send = node.word(
            "version of the PROXY protocol",
            &ProxyVersion::NAMES,
            faults,
        );
    }
}

fn scheduler(node: &Node<'_>, faults: &mut Faults) -> Option<Scheduler> {
    let mut scheduler = Scheduler::default();
    if node.is_string() {
        scheduler.kind = node.word("scheduler", &SchedulerKind::NAMES, faults)?;
        return Some(scheduler);
    }
    let expected = "the name of a scheduler, or a table such as { kind = \"mh\", table = 65537 }";
    let table = node.table(expected, faults)?;
    table.check_keys(schema::SCHEDULER, faults);
    if let Some(kind) = table
        .need("kind", "kind = \"wrr\" or another scheduler", faults)
        .and_then(|node| node.word("scheduler", &SchedulerKind::NAMES, faults))
    {
        scheduler.kind = kind;
    }
    if let Some(hash) = table
        .get("hash")
        .and_then(|node| node.word("hash", &HashKey::NAMES, faults))
    {
        scheduler.hash = hash;
    }
    if let Some(node) = table.get("table")
        && let Some(size) = node.integer::<u32>(0, i128::from(MAX_TABLE), faults)
    {
        if size != 0 && !is_prime(size) {
            let fault = node.fault(format!("{size} is not a prime number"));
            let fault = fault.expected("a prime number, or 0 to choose one");
            faults.push(fault.nearest(prime_from(size)));
        }
        scheduler.table = size;
    }
    if let Some(seed) = table
        .get("seed")
        .and_then(|node| node.integer(0, i128::from(u64::MAX), faults))
    {
        scheduler.seed = seed;
    }
    if let Some(node) = table.get("bound")
        && let Some(bound) = node.integer::<u32>(0, i128::from(Scheduler::MAX_BOUND), faults)
    {
        if (1..=100).contains(&bound) {
            let why = format!("{bound} % of their share is less than backends need together");
            let fault = node
                .fault(why)
                .expected("a percentage from 101, or 0 for no bound");
            faults.push(fault);
        }
        scheduler.bound = bound;
    }
    if let Some(decay) = table
        .get("decay")
        .and_then(|node| node.duration(Duration::from_millis(1), faults))
    {
        scheduler.decay = decay;
    }
    Some(scheduler)
}

fn is_prime(n: u32) -> bool {
    n >= 2
        && (2..)
            .take_while(|d: &u32| d.saturating_mul(*d) <= n)
            .all(|d| !n.is_multiple_of(d))
}

/// The first prime that is not below `n`.
fn prime_from(n: u32) -> Option<u32> {
    (n..MAX_TABLE).find(|n| is_prime(*n))
}

fn persistence(node: &Node<'_>, faults: &mut Faults) -> Option<Persistence> {
    let least = Duration::from_millis(1);
    let mut persistence = Persistence::new(Duration::ZERO);
    if !node.is_table() {
        persistence.timeout = node.duration(least, faults)?;
        return Some(persistence);
    }
    let table = node.table("a table", faults)?;
    table.check_keys(schema::PERSISTENCE, faults);
    for (key, max, value) in [
        ("prefix-v4", 32, &mut persistence.prefix_v4),
        ("prefix-v6", 128, &mut persistence.prefix_v6),
    ] {
        if let Some(read) = table.get(key).and_then(|node| node.integer(1, max, faults)) {
            *value = read;
        }
    }
    persistence.timeout = table
        .need("timeout", "timeout = \"5m\" or another time", faults)?
        .duration(least, faults)?;
    Some(persistence)
}

fn timeouts(timeouts: &mut Timeouts, node: &Node<'_>, faults: &mut Faults) {
    let Some(table) = node.table("a table such as { connect = \"5s\" }", faults) else {
        return;
    };
    table.check_keys(schema::TIMEOUTS, faults);
    let zero = Duration::ZERO;
    for (key, least, value) in [
        ("connect", Duration::from_millis(1), &mut timeouts.connect),
        ("header", zero, &mut timeouts.header),
        ("keepalive", zero, &mut timeouts.keepalive),
        ("queue", zero, &mut timeouts.queue),
        ("response", zero, &mut timeouts.response),
        ("stall", zero, &mut timeouts.stall),
        ("peer", zero, &mut timeouts.peer),
        ("udp", zero, &mut timeouts.udp),
        ("drain", zero, &mut timeouts.drain),
    ] {
        if let Some(read) = table.get(key).and_then(|node| node.duration(least, faults)) {
            *value = read;
        }
    }
    if let Some(idle) = table
        .get("idle")
        .and_then(|node| node.duration(zero, faults))
    {
        timeouts.idle = Some(idle);
    }
}

fn sessions(sessions: &mut Sessions, node: &Node<'_>, faults: &mut Faults) {
    let most = i128::from(u32::MAX);
    if node.is_integer() {
        if let Some(limit) = node.integer(1, most, faults) {
            sessions.limit = limit;
        }
        return;
    }
    let expected = "a number of sessions, or a table such as { limit = 65536, responses = 1 }";
    let Some(table) = node.table(expected, faults) else {
        return;
    };
    table.check_keys(schema::SESSIONS, faults);
    for (key, least, value) in [
        ("limit", 1, &mut sessions.limit),
        ("per-source", 0, &mut sessions.per_source),
        ("responses", 0, &mut sessions.responses),
    ] {
        if let Some(read) = table
            .get(key)
            .and_then(|node| node.integer(least, most, faults))
        {
            *value = read;
        }
    }
}

fn read_backends(
    source: &Arc<str>,
    label: &str,
    table: &Table<'_>,
    spec: &ServiceSpec,
    faults: &mut Faults,
) -> Vec<plimsoll_model::Backend> {
    let advice = "at least one, or backends = [] to answer 503 until there are some";
    let Some(node) = table.need("backends", advice, faults) else {
        return Vec::new();
    };
    let expected = "a list such as [\"10.0.0.1:80\", \"10.0.0.2:80\"]";
    let items = node.items(expected, faults).unwrap_or_default();
    let http = spec.listens.iter().find(|listen| listen.is_http());
    let mut seen = BTreeMap::new();
    let mut backends = Vec::new();
    for (i, item) in items.iter().enumerate() {
        if faults.is_full() {
            break;
        }
        let Some(read) = backend::read(source, label, "backend", item, faults) else {
            continue;
        };
        check_http(http, &read, faults);
        let addr = read.backend.addr.clone();
        if let Some(first) = seen.insert(addr.clone(), i) {
            let message = format!("backend {addr} is in this service twice");
            let fault = read.address.fault(message);
            let path = &node.place.path;
            faults.push(fault.expected(format!("it once; the other is {path}[{first}]")));
        }
        backends.push(read.backend);
    }
    check_table(table, spec, items.len(), faults);
    backends
}

fn check_http(http: Option<&Listen>, read: &ReadBackend<'_>, faults: &mut Faults) {
    if let (Some(listen), Some(forward)) = (http, &read.forward)
        && read.backend.forward != plimsoll_model::Forward::Proxy
    {
        let message = format!("listen {listen} is layer 7, which only the proxy forwards");
        faults.push(forward.fault(message).expected("\"proxy\""));
    }
}

/// The `mh` table has at least 100 slots for each backend.
fn check_table(table: &Table<'_>, spec: &ServiceSpec, backends: usize, faults: &mut Faults) {
    let size = spec.scheduler.table;
    let least = backends.saturating_mul(100);
    if size == 0 || size as usize >= least {
        return;
    }
    if let Some(node) = table
        .get("scheduler")
        .and_then(|node| node.table("a table", faults))
        .and_then(|table| table.get("table"))
    {
        let fault = node.fault(format!("{size} slots are too few for {backends} backends"));
        let fault = fault.expected(format!("a prime of at least {least}, or 0 to choose one"));
        faults.push(fault.nearest(u32::try_from(least).ok().and_then(prime_from)));
    }
}

fn check_plane(
    spec: &ServiceSpec,
    table: &Table<'_>,
    listens: &[(Listen, Place)],
    faults: &mut Faults,
) {
    let http = listens.iter().find(|(listen, _)| listen.is_http());
    if let (Some((listen, _)), Some(node)) = (http, table.get("plane"))
        && matches!(spec.plane, PlaneChoice::Ebpf | PlaneChoice::Ipvs)
    {
        let message = format!("listen {listen} is layer 7, which only the proxy plane carries");
        faults.push(node.fault(message).expected("\"proxy\" or \"auto\""));
    }
}
