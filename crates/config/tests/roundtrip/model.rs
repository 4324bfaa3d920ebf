//! Random configurations that are valid.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ipnet::{Ipv4Net, Ipv6Net};
use plimsoll_config::{AccessLogSettings, Config, Daemon, Docker, LogFormat, Packets};
use plimsoll_model::*;
use proptest::prelude::*;
use proptest::{collection::vec, option, sample::select};

/// The source of all origins.
pub(crate) const SOURCE: &str = "file:/etc/plimsoll.toml";

const SHARED: &str = "*:60000/http";

fn label() -> BoxedStrategy<Arc<str>> {
    prop_oneof![Just(""), Just("node-1"), Just("é \"quoted\" \\ 🚢 #")]
        .prop_map(Arc::from)
        .boxed()
}

fn millis(least: u64) -> BoxedStrategy<Duration> {
    prop_oneof![least..2000, least..31_536_000_000]
        .prop_map(Duration::from_millis)
        .boxed()
}

fn number() -> BoxedStrategy<u32> {
    prop_oneof![Just(0), 0..100u32, Just(u32::MAX)].boxed()
}

fn addr() -> BoxedStrategy<BackendAddr> {
    let port = || 1..=u16::MAX;
    prop_oneof![
        4 => (0..9u8, port()).prop_map(|(a, p)| format!("10.0.0.{a}:{p}")),
        1 => (0..9u8).prop_map(|a| format!("10.0.1.{a}")),
        1 => port().prop_map(|p| format!("[fd00::1]:{p}")),
        1 => Just("fd00::2".to_owned()),
        1 => Just("unix:/run/a b.sock".to_owned()),
    ]
    .prop_map(|text| text.parse().unwrap())
    .boxed()
}

fn forward() -> BoxedStrategy<Forward> {
    prop_oneof![
        Just(Forward::Proxy),
        Just(Forward::Nat),
        Just(Forward::Dr),
        Just(Forward::Tunnel(Tunnel::Ipip)),
        Just(Forward::Tunnel(Tunnel::Gre)),
        (1..=u16::MAX).prop_map(|port| Forward::Tunnel(Tunnel::Gue { port })),
    ]
    .boxed()
}

/// A backend; its origin is set where its service is known.
fn backend() -> BoxedStrategy<Backend> {
    let labels = (label(), label(), label());
    let weight = prop_oneof![Just(1), 0..1000u32, Just(MAX_WEIGHT)];
    let ports = prop_oneof![
        2 => Just(BTreeMap::new()),
        1 => prop::collection::btree_map(1..=u16::MAX, 1..=u16::MAX, 1..4),
    ];
    let plain = addr().prop_map(|addr| Backend::new(addr, Origin::new(SOURCE, "")));
    let full = (
        addr(),
        labels,
        weight,
        forward(),
        (number(), number(), number()),
        ports,
        any::<bool>(),
    )
        .prop_map(|(addr, labels, weight, forward, limits, ports, drain)| {
            let mut b = Backend::new(addr, Origin::new(SOURCE, ""));
            (b.name, b.node, b.zone) = labels;
            (b.maxconn, b.upper, b.lower) = limits;
            b.lower = b.lower.min(b.upper);
            b.weight = weight;
            if matches!(b.addr, BackendAddr::Ip(..)) {
                b.forward = forward;
            }
            if matches!(b.addr, BackendAddr::Ip(_, None)) {
                b.ports = ports;
            }
            if drain {
                b.status = Status::new(State::Draining, "set in the file");
            }
            b
        });
    prop_oneof![plain, full].boxed()
}

/// A listen that conflicts with none of another `id`.
fn listen(id: u16) -> BoxedStrategy<Listen> {
    let port = 100 * (id + 1);
    let protos = || select(vec!["tcp", "udp", "sctp", "http"]);
    let addresses = select(vec!["*", "0.0.0.0", "[::]", "10.9.9.9", "[fd00::9]"]);
    prop_oneof![
        3 => (addresses, protos()).prop_map(move |(a, p)| format!("{a}:{port}/{p}")),
        1 => protos().prop_map(move |p| format!("*:{port}-{}/{p}", port + 99)),
        1 => protos().prop_map(move |p| format!("10.8.0.{id}:*/{p}")),
        1 => Just(format!("mark:{port}")),
        1 => Just(format!("mark:{port}/ipv6")),
    ]
    .prop_map(|text| text.parse().unwrap())
    .boxed()
}

fn scheduler() -> BoxedStrategy<Scheduler> {
    let kind = select(SchedulerKind::NAMES.to_vec()).prop_map(|(_, kind)| kind);
    let hash = select(vec![HashKey::Source, HashKey::SourcePort]);
    let table = select(vec![0, 1009, 65537, 16_777_213]);
    let seed = prop_oneof![Just(0), any::<u64>()];
    let bound = select(vec![0, 101, 125, Scheduler::MAX_BOUND]);
    let decay = prop_oneof![Just(Duration::from_secs(10)), millis(1)];
    let full = (kind.clone(), hash, table, seed, bound, decay);
    prop_oneof![
        kind.prop_map(|kind| Scheduler {
            kind,
            ..Scheduler::default()
        }),
        full.prop_map(|(kind, hash, table, seed, bound, decay)| Scheduler {
            kind,
            hash,
            table,
            seed,
            bound,
            decay,
        }),
    ]
    .boxed()
}

fn timeouts() -> BoxedStrategy<Timeouts> {
    let some = (
        millis(1),
        millis(0),
        millis(0),
        millis(0),
        millis(0),
        millis(0),
        (millis(0), millis(0), millis(0), millis(0)),
    );
    let some = some.prop_map(
        |(connect, header, keepalive, queue, response, idle, (stall, peer, udp, drain))| Timeouts {
            connect,
            header,
            keepalive,
            queue,
            response,
            stall,
            idle: (!idle.is_zero()).then_some(idle),
            peer,
            udp,
            drain,
        },
    );
    prop_oneof![Just(Timeouts::default()), some].boxed()
}

fn persistence() -> BoxedStrategy<Persistence> {
    let prefixes = prop_oneof![Just((32, 128)), (1..=32u8, 1..=128u8)];
    (millis(1), prefixes)
        .prop_map(|(timeout, (prefix_v4, prefix_v6))| Persistence {
            timeout,
            prefix_v4,
            prefix_v6,
        })
        .boxed()
}

fn cookie() -> BoxedStrategy<Cookie> {
    let seconds = || option::of((1..=365 * 86_400u64).prop_map(Duration::from_secs));
    let mode = select(CookieMode::NAMES.map(|(_, mode)| mode).to_vec());
    let full = (
        any::<[bool; 4]>(),
        option::of(select(vec!["example.com", ".example.com"])),
        (seconds(), seconds()),
        select(vec!["", "secret \"key\""]),
    );
    let names = select(vec!["SRV", "__Host-a.b"]);
    (names, mode, option::of(full))
        .prop_map(|(name, mode, full)| {
            let mut cookie = Cookie::new(name.into(), mode);
            if let (CookieMode::Insert, Some((flags, domain, times, key))) = (mode, full) {
                let Cookie {
                    indirect,
                    nocache,
                    httponly,
                    secure,
                    ..
                } = &mut cookie;
                [*indirect, *nocache, *httponly, *secure] = flags;
                cookie.domain = domain.map(Into::into);
                (cookie.maxidle, cookie.maxlife) = times;
                cookie.key = key.into();
            }
            cookie
        })
        .boxed()
}

fn check() -> BoxedStrategy<Check> {
    let path = select(vec!["/", "/health", "/a b?c=\"d\"&e"]);
    let path = path.prop_map(|path| path.replace([' ', '"'], "%20").parse().unwrap());
    let host = select(vec!["example.com", "[fd00::1]:80"]).prop_map(|h| h.parse().unwrap());
    let status = select(vec!["200-399", "204", "200-299,401"]).prop_map(|s| s.parse().unwrap());
    let http = (path.clone(), option::of(host), status)
        .prop_map(|(path, host, status)| CheckKind::Http { path, host, status });
    let kind = prop_oneof![Just(CheckKind::Tcp), path.prop_map(CheckKind::http), http];
    let times = (100u64..=86_400_000, 1u64..=60_000);
    let full = (
        kind.clone(),
        times,
        (1..=1000u32, 1..=1000u32),
        1..=u16::MAX,
    );
    let full = full.prop_map(|(kind, (interval, timeout), (rise, fall), port)| Check {
        kind,
        interval: Duration::from_millis(interval),
        timeout: Duration::from_millis(timeout),
        rise,
        fall,
        port: Some(port),
    });
    prop_oneof![kind.prop_map(Check::new), full].boxed()
}

/// A service with listens of its own, and maybe the shared one.
fn service(id: u16) -> BoxedStrategy<(ServiceSpec, Vec<Backend>)> {
    let planes = vec![
        PlaneChoice::Auto,
        PlaneChoice::Proxy,
        PlaneChoice::Ebpf,
        PlaneChoice::Ipvs,
    ];
    let nets = select(vec!["10.0.0.0/8", "fd00::/8", "192.0.2.7/32", "::/0"]);
    let nets = vec(nets.prop_map(|net| net.parse().unwrap()), 0..3);
    let listens = (
        listen(3 * id),
        listen(3 * id + 1),
        listen(3 * id + 2),
        0..4usize,
    );
    let rest = (
        number(),
        number(),
        nets,
        option::of(backend()),
        vec(backend(), 0..5),
        (crate::http::service(), crate::limits::limits()),
    );
    (
        listens,
        any::<bool>(),
        select(planes),
        (scheduler(), prop_oneof![Just(Duration::ZERO), millis(0)]),
        (
            option::of(persistence()),
            option::of(cookie()),
            option::of(check()),
        ),
        timeouts(),
        rest,
    )
        .prop_map(
            move |(
                own,
                shared,
                plane,
                (scheduler, slow),
                (persistence, cookie, check),
                timeouts,
                rest,
            )| {
                let end = if shared { "-._/@:#" } else { "" };
                let name: Name = format!("s{id}{end}").parse().unwrap();
                let mut listens = vec![own.0, own.1, own.2];
                listens.truncate(own.3);
                if shared || id == 0 {
                    listens.push(SHARED.parse().unwrap());
                }
                let origin = |entry: &str| Origin::new(SOURCE, format!("service {name}{entry}"));
                let mut spec = ServiceSpec::new(name.clone(), origin(""), listens);
                let http = spec.listens.iter().any(Listen::is_http);
                spec.plane = if http { PlaneChoice::Proxy } else { plane };
                (spec.scheduler, spec.persistence, spec.timeouts) =
                    (scheduler, persistence, timeouts);
                spec.slow_start = slow;
                let (queue, retries, trusted, sorry, mut backends, (of_http, limits)) = rest;
                spec.limits = limits;
                spec.http = of_http;
                (spec.queue, spec.retries, spec.trusted) = (queue, retries, trusted);
                spec.packets = packet_rules(retries);
                if retries % 4 != 0 {
                    let causes = RetryOn::NAMES.iter().skip(retries as usize % 13);
                    spec.retry = Retry {
                        on: causes.fold(RetryOn::none(), |all, (_, cause)| all.and(*cause)),
                        budget: queue % (Retry::MAX_BUDGET + 1),
                        floor: queue,
                    };
                }
                if retries % 3 == 0 {
                    let mut outlier = Outlier::new(OutlierErrors::Connect);
                    if spec.listens.iter().all(Listen::is_http) {
                        outlier.errors = OutlierErrors::NAMES[queue as usize % 3].1;
                    }
                    if queue % 2 == 0 {
                        outlier.consecutive = 1 + queue % Outlier::MAX_CONSECUTIVE;
                        outlier.max_percent = 1 + (queue % 100) as u8;
                        outlier.time = Duration::from_millis(100 + u64::from(queue % 3_000_000));
                    }
                    spec.outlier = Some(outlier);
                }
                let udp = spec.listens.iter().any(Listen::is_udp);
                let fits = |b: &Backend| !(udp && matches!(b.addr, BackendAddr::Unix(_)));
                // The shared listen may be taken away again.
                let others = |l: &Listen| !l.is_udp() && l.to_string() != SHARED;
                spec.proxy_headers = ProxyHeaders {
                    // Something that is there as often as not.
                    accept: spec.trusted.iter().rev().skip(1).copied().collect(),
                    send: match queue % 3 {
                        0 => None,
                        1 => Some(ProxyVersion::V1),
                        _ => Some(ProxyVersion::V2),
                    },
                };
                spec.vips = crate::options::vips(&spec.listens);
                let shares = spec.listens.iter().any(|l| l.to_string() == SHARED);
                if !shares && !spec.listens.is_empty() {
                    spec.listen_options = crate::options::listen(retries).map(Arc::new);
                }
                spec.to_backends = crate::options::to_backends(queue).map(Arc::new);
                if matches!(spec.plane, PlaneChoice::Ebpf | PlaneChoice::Ipvs) {
                    (spec.listen_options, spec.to_backends) = (None, None);
                }
                spec.clients = ClientRules {
                    allow: spec.trusted.iter().skip(1).copied().collect(),
                    deny: spec.trusted.iter().take(1).copied().collect(),
                };
                if udp && !spec.listens.iter().any(others) {
                    spec.proxy_headers.accept.clear();
                }
                spec.access_log = match retries % 5 {
                    0 => None,
                    n => Some(AccessLog::NAMES[n as usize - 1].1),
                };
                spec.max_body = u64::from(queue) * u64::from(retries) / 2;
                spec.sessions = Sessions {
                    limit: queue.max(1),
                    per_source: match retries % 2 {
                        0 => Sessions::default().per_source,
                        _ => queue / 2,
                    },
                    responses: retries / 2,
                };
                backends.retain(fits);
                spec.sorry = sorry.filter(fits).map(|mut b| {
                    b.origin = origin(&format!(", sorry {}", b.addr));
                    b
                });
                for b in &mut backends {
                    b.origin = origin(&format!(", backend {}", b.addr));
                    if http {
                        b.forward = Forward::Proxy;
                    }
                }
                spec.check = check;
                spec.cookie = cookie.filter(|_| spec.listens.iter().all(Listen::is_http));
                (spec, backends)
            },
        )
        .boxed()
}

/// With a port in its check where one is needed, and limits of what it has.
fn checkable(mut service: Service) -> Service {
    let spec = Arc::make_mut(&mut service.spec);
    spec.limits = (spec.limits).filter(|limits| limits.validate(&spec.listens).is_ok());
    let mut backends = service.backends.values();
    if backends.any(|b| service.check_addr(b).is_none())
        && let Some(check) = &mut Arc::make_mut(&mut service.spec).check
    {
        check.port = Some(80);
    }
    // A source of another family than a backend's, and such.
    if service.validate().is_err() {
        Arc::make_mut(&mut service.spec).to_backends = None;
    }
    service
}

fn route(id: usize) -> BoxedStrategy<Route> {
    let hosts = prop_oneof![
        Just(vec!["*"]),
        Just(vec!["example.com", "*.example.com"]),
        Just(vec!["b.org", "a.org", "[::1]"]),
    ];
    let priority = prop_oneof![Just(0), any::<i32>()];
    let weights = vec(
        prop_oneof![Just(1), number().prop_map(|n| n.min(MAX_WEIGHT))],
        3,
    );
    let http = crate::http::route(id);
    (hosts, priority, weights, any::<bool>(), any::<bool>(), http)
        .prop_map(
            move |(hosts, priority, weights, named, listen, http)| Route {
                http,
                // The name is set by `config` where there is none of its own.
                name: if named { format!("r{id}") } else { "?".into() }
                    .parse()
                    .unwrap(),
                origin: Origin::new(SOURCE, ""),
                hosts: hosts.iter().map(|h| h.parse().unwrap()).collect(),
                path: format!("/{id}").parse().unwrap(),
                listens: listen
                    .then(|| SHARED.parse().unwrap())
                    .into_iter()
                    .collect(),
                priority,
                services: weights
                    .into_iter()
                    .map(|weight| WeightedService {
                        service: "?".parse().unwrap(),
                        weight,
                    })
                    .collect(),
            },
        )
        .boxed()
}

/// The name that a route gets that says none.
fn derived(route: &Route) -> String {
    let sorted = |mut items: Vec<String>| {
        items.sort();
        items.join(",")
    };
    let mut name = sorted(route.hosts.iter().map(ToString::to_string).collect());
    name.push_str(route.path.as_str());
    if route.priority != 0 {
        name.push_str(&format!("#{}", route.priority));
    }
    if !route.listens.is_empty() {
        name.push('@');
        name.push_str(&sorted(
            route.listens.iter().map(ToString::to_string).collect(),
        ));
    }
    name
}

fn daemon() -> BoxedStrategy<Daemon> {
    let log = option::of(select(vec![LogFormat::Text, LogFormat::Json]));
    let metrics = option::of((60001..=u16::MAX).prop_map(|port| ([127, 0, 0, 1], port).into()));
    let workers = option::of(1..=Daemon::MAX_WORKERS);
    let format = select(AccessLog::NAMES.map(|(_, format)| format).to_vec());
    let to = select(vec![
        LogTo::Stdout,
        LogTo::File("/var/log/a \"b\".log".into()),
        LogTo::Syslog("/dev/log".into()),
    ]);
    let access = (format, to, any::<bool>());
    (
        workers,
        option::of(Just("/run/a b.sock".into())),
        option::of(Just("/run/stats.sock".into())),
        metrics,
        millis(0),
        log,
        0..=i64::MAX as u64,
        access,
    )
        .prop_map(
            |(workers, admin, stats, metrics, drain, log, compress_memory, (format, to, query))| {
                Daemon {
                    workers,
                    admin,
                    stats,
                    metrics,
                    drain,
                    log,
                    compress_memory,
                    access_log: AccessLogSettings { format, to, query },
                }
            },
        )
        .boxed()
}

fn docker() -> BoxedStrategy<Option<Docker>> {
    let named = option::of((
        Just("tcp://a\"b:1".to_owned()),
        option::of(Just("/a b".into())),
    ));
    let listen = option::of(select(vec!["*:80/http", "[::1]:8080/http"]));
    let docker = (named, listen).prop_map(|(named, listen)| {
        let (host, tls) = named.unzip();
        Docker {
            host,
            listen: listen.map(|text| text.parse().unwrap()),
            tls: tls.flatten(),
        }
    });
    option::of(docker).boxed()
}

/// Rules that follow from a number.
fn packet_rules(number: u32) -> PacketRules {
    let mids = MidStream::NAMES.map(|(_, mid)| mid);
    PacketRules {
        mid_stream: mids.get(number as usize % 4).copied(),
        mss: [None, Some(Mss::Fit), Mss::bytes(number as u16).ok()][number as usize / 4 % 3],
    }
}

fn packets() -> BoxedStrategy<Packets> {
    let names = || proptest::collection::btree_set("[a-z]{1,12}[0-9]{0,3}", 0..4);
    let flows = option::of(Packets::MIN_FLOWS..=Packets::MAX_FLOWS);
    let v4 = (any::<u32>(), 8..=30u8).prop_map(|(bits, len)| {
        let unicast = 0x0100_0000 | bits & 0x3fff_ffff;
        Ipv4Net::new(unicast.into(), len).unwrap().trunc()
    });
    let v6 = (any::<u64>(), 16..=96u8).prop_map(|(bits, len)| {
        let unicast = 0xfd << 120 | u128::from(bits) << 56;
        Ipv6Net::new(unicast.into(), len).unwrap().trunc()
    });
    (names(), names(), flows, option::of(v4), option::of(v6))
        .prop_map(|(interfaces, xdp, flows, v4, v6)| Packets {
            tunnel_source_v4: v4,
            tunnel_source_v6: v6,
            interfaces: interfaces.into_iter().collect(),
            xdp: xdp.into_iter().collect(),
            flows,
        })
        .boxed()
}

pub(crate) fn config() -> BoxedStrategy<Config> {
    let services = (service(0), service(1), service(2), service(3), 0..5usize);
    let routes = (route(0), route(1), route(2), 0..4usize);
    let pages = crate::http::error_pages();
    (services, routes, docker(), daemon(), pages, packets())
        .prop_map(|(services, routes, docker, daemon, error_pages, packets)| {
            let mut made = vec![services.0, services.1, services.2, services.3];
            made.truncate(services.4);
            let mut said = vec![routes.0, routes.1, routes.2];
            said.truncate(if made.is_empty() { 0 } else { routes.3 });
            let shared: Listen = SHARED.parse().unwrap();
            if said.is_empty() {
                // Without routes, one service has the shared listen, and each has one.
                for (spec, _) in made.iter_mut().skip(1) {
                    spec.listens.retain(|listen| *listen != shared);
                }
                made.retain(|(spec, _)| !spec.listens.is_empty());
            }
            let names: Vec<Name> = made.iter().map(|(spec, _)| spec.name.clone()).collect();
            for (i, route) in said.iter_mut().enumerate() {
                // The first leads to all services, so that every one is led to.
                let count = if i == 0 { names.len() } else { 1 };
                let weights: Vec<u32> = route.services.iter().map(|s| s.weight).collect();
                let weights = weights.into_iter().cycle();
                route.services = std::iter::zip(names.iter().take(count).cloned(), weights)
                    .map(|(service, weight)| WeightedService { service, weight })
                    .collect();
                if route.name.as_str() == "?" {
                    route.name = derived(route).parse().unwrap();
                }
                route.origin = Origin::new(SOURCE, format!("route {}", route.name));
            }
            Config {
                packets,
                error_pages,
                services: made
                    .into_iter()
                    .map(|(spec, backends)| checkable(Service::new(spec, backends)))
                    .collect(),
                routes: said,
                docker,
                daemon,
            }
        })
        .boxed()
}
