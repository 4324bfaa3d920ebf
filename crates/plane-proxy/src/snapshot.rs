//! What the workers work by: an immutable picture of listens, routes, services and backends.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use ipnet::IpNet;
use plimsoll_balance::{Balancer, Candidate, Shared, SlowStart};
use plimsoll_model::{
    AccessLog, Backend, BackendAddr, Cookie, Desired, Listen, Name, Route, Service, ServiceSpec,
    State, Timeouts,
};

use crate::backend::LiveBackend;
use crate::budget::Budget;
use crate::counts::{LatencyCounts, ServiceCounts, per_worker};
use crate::door::Door;
use crate::http::cookie::Jar;
use crate::http::rules::ServiceRules;
use crate::limits::Had;
use crate::router::Router;
use crate::sticky::{Clients, Sticky};
use crate::udp;

/// One backend as a service sees it now.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) backend: Arc<Backend>,
    pub(crate) live: Arc<LiveBackend>,
}

/// A service at run time, as of one snapshot.
#[derive(Debug)]
pub(crate) struct LiveService {
    pub(crate) spec: Arc<ServiceSpec>,
    /// Those that may get something new, in the order the balancer knows them by.
    pub(crate) members: Vec<Member>,
    /// Those of weight 0. They get nothing but what clients that stay there bring back.
    pub(crate) resting: Vec<Member>,
    pub(crate) balancer: Balancer,
    pub(crate) sorry: Option<Member>,
    /// Who stays where, if clients do.
    pub(crate) sticky: Option<Sticky>,
    /// The same by a cookie. Boxed, for most have none.
    pub(crate) cookie: Option<Box<Jar>>,
    pub(crate) shared: Arc<SharedService>,
    /// Who gets in, if not everybody does.
    pub(crate) door: Option<Box<Door>>,
    /// How its requests or connections are logged; none if they are not.
    pub(crate) log: Option<AccessLog>,
    /// The time-outs in milliseconds; 0 is no limit.
    pub(crate) timeouts: TimeoutsMs,
    /// What it does with its HTTP requests, if that is anything.
    pub(crate) http: Option<Box<ServiceRules>>,
}

/// What a service keeps over all snapshots.
#[derive(Debug)]
pub(crate) struct SharedService {
    pub(crate) balance: Arc<Shared>,
    pub(crate) counts: Box<[ServiceCounts]>,
    budget: Budget,
    /// There from the first time that the service has persistence.
    clients: OnceLock<Arc<Clients>>,
    /// There from the first time that the service has limits.
    had: OnceLock<Arc<Had>>,
    /// Its UDP sessions.
    pub(crate) udp: Arc<udp::OfService>,
}

impl SharedService {
    /// For so many workers.
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            balance: Arc::default(),
            counts: per_worker(workers),
            budget: Budget::default(),
            clients: OnceLock::new(),
            had: OnceLock::new(),
            udp: Arc::default(),
        }
    }

    /// The clients that stay on their backends, by a clock with this zero.
    fn clients(&self, epoch: Instant) -> Arc<Clients> {
        let clients = self.clients.get_or_init(|| Arc::new(Clients::new(epoch)));
        clients.clone()
    }

    /// What clients have of what is limited, by a clock with this zero.
    fn had(&self, epoch: Instant) -> Arc<Had> {
        self.had.get_or_init(|| Arc::new(Had::new(epoch))).clone()
    }

    /// What one worker keeps of how long things take.
    pub(crate) fn latency(&self, worker: usize) -> Option<&LatencyCounts> {
        self.counts.get(worker).map(|counts| &counts.latency)
    }

    /// The counters of one worker.
    pub(crate) fn count(&self, worker: usize) -> Option<&ServiceCounts> {
        self.counts.get(worker)
    }
}

/// [`plimsoll_model::Timeouts`] in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeoutsMs {
    pub(crate) connect: u64,
    pub(crate) header: u64,
    pub(crate) keepalive: u64,
    pub(crate) queue: u64,
    pub(crate) response: u64,
    pub(crate) stall: u64,
    pub(crate) idle: u64,
    pub(crate) peer: u64,
    pub(crate) udp: u64,
}

/// A time in milliseconds. Anything below one but above zero is one.
fn ms(time: std::time::Duration) -> u64 {
    match time.as_millis() {
        0 if !time.is_zero() => 1,
        ms => u64::try_from(ms).unwrap_or(u64::MAX),
    }
}

impl From<&Timeouts> for TimeoutsMs {
    fn from(timeouts: &Timeouts) -> Self {
        Self {
            connect: ms(timeouts.connect),
            header: ms(timeouts.header),
            keepalive: ms(timeouts.keepalive),
            queue: ms(timeouts.queue),
            response: ms(timeouts.response),
            stall: ms(timeouts.stall),
            idle: ms(timeouts.idle.unwrap_or(Timeouts::IDLE)),
            peer: ms(timeouts.peer),
            udp: ms(timeouts.udp),
        }
    }
}

impl LiveService {
    /// A service, from `now` on, whose backends are at run time what `live` says.
    pub(crate) fn new(
        service: &Service,
        shared: Arc<SharedService>,
        epoch: Instant,
        now: u64,
        mut live: impl FnMut(&Name, &Arc<Backend>) -> Arc<LiveBackend>,
    ) -> Self {
        let name = service.name();
        let members: Vec<Member> = service
            .backends
            .values()
            .filter(|backend| backend.takes_new())
            .map(|backend| Member {
                backend: backend.clone(),
                live: live(name, backend),
            })
            .collect();
        let candidates: Vec<Candidate> = members
            .iter()
            .map(|m| Candidate {
                addr: m.backend.addr.clone(),
                weight: m.backend.weight,
                ready_since: m.live.ready_since(),
            })
            .collect();
        let resting: Vec<Member> = service
            .backends
            .values()
            .filter(|backend| rests(backend))
            .map(|backend| Member {
                backend: backend.clone(),
                live: live(name, backend),
            })
            .collect();
        let jar = |cookie: Cookie| {
            let backends = service.backends.values().map(|backend| &**backend);
            Box::new(Jar::new(cookie, name, backends))
        };
        let over = ms(service.spec.slow_start);
        let slow_start = (over > 0).then_some(SlowStart { over, now });
        let balance = shared.balance.clone();
        let sorry = service.spec.sorry.clone().map(Arc::new);
        Self {
            spec: service.spec.clone(),
            balancer: Balancer::new(&service.spec.scheduler, &candidates, balance, slow_start),
            members,
            resting,
            cookie: service.spec.cookie.clone().map(jar),
            sticky: (service.spec.persistence)
                .map(|settings| Sticky::new(shared.clients(epoch), settings)),
            sorry: sorry.map(|backend| Member {
                live: live(name, &backend),
                backend,
            }),
            timeouts: (&service.spec.timeouts).into(),
            http: (service.spec.http.as_deref()).map(|http| Box::new(ServiceRules::new(http))),
            door: Door::new(&service.spec, || shared.had(epoch)),
            shared,
            log: None,
        }
    }

    /// The backend at this address, if it may get something new, or something of a client that stays
    /// there.
    pub(crate) fn member(&self, addr: &BackendAddr) -> Option<&Member> {
        // Both are in the order of their addresses.
        let find = |members: &'_ [Member]| members.binary_search_by(|m| m.backend.addr.cmp(addr));
        match (find(&self.members), find(&self.resting)) {
            (Ok(at), _) => self.members.get(at),
            (_, Ok(at)) => self.resting.get(at),
            _ => None,
        }
    }

    /// How much of its share a backend has come to at this time, in percent, if it is in its slow
    /// start.
    pub(crate) fn slow_start(&self, addr: &BackendAddr, now: u64) -> Option<u8> {
        let at = (self.members).binary_search_by(|m| m.backend.addr.cmp(addr));
        let warmth = self.balancer.warmth(at.ok()?, now);
        // It is from 0 to 1.
        (warmth < 1.0).then_some((warmth * 100.0) as u8)
    }

    /// Whether clients stay on their backend.
    pub(crate) fn clients_stay(&self) -> bool {
        self.sticky.is_some() || self.cookie.is_some()
    }

    /// Whether there may be another retry now, `now` being that of the plane's clock in ms. Counts
    /// it, for this worker, if there may not.
    pub(crate) fn may_retry(&self, worker: usize, now: u64) -> bool {
        let counts = &self.shared.counts;
        let requests = counts.iter().map(|counts| counts.total.get()).sum();
        let may = self.shared.budget.take(&self.spec.retry, now, requests);
        if !may && let Some(counts) = self.shared.count(worker) {
            counts.unretried.add(1);
        }
        may
    }

    /// Whether a connection to a backend is for one client alone, since the backend is told of whom, or
    /// sees it.
    pub(crate) fn is_personal(&self) -> bool {
        let to = self.spec.to_backends.as_ref();
        self.spec.proxy_headers.send.is_some() || to.is_some_and(|to| to.source.is_client())
    }

    #[cfg(test)]
    pub(crate) fn for_test(name: &str) -> Self {
        let spec = ServiceSpec::new(
            name.parse().unwrap(),
            plimsoll_model::Origin::new("test", name),
            Vec::new(),
        );
        let shared = SharedService::new(0);
        Self::new(
            &Service::new(spec, []),
            Arc::new(shared),
            Instant::now(),
            0,
            |_, _| unreachable!(),
        )
    }
}

/// Whether a backend gets nothing but what its own clients bring back, where clients stay on their
/// backend: it could serve, and is of weight 0.
fn rests(backend: &Backend) -> bool {
    backend.status.state == State::Ready && backend.weight == 0
}

/// What a listen does with what it accepts.
#[derive(Debug)]
pub(crate) enum Table {
    /// Nothing yet, or nothing any more.
    Closed,
    /// Layer 4: everything goes to one service.
    Tcp(Arc<LiveService>),
    /// Layer 4: datagrams go to one service.
    Udp(Arc<LiveService>),
    /// Layer 7.
    Http(HttpTable),
}

impl Table {
    /// The service whose settings hold before anything has been read.
    pub(crate) fn first(&self) -> Option<&Arc<LiveService>> {
        match self {
            Table::Closed => None,
            Table::Tcp(service) | Table::Udp(service) => Some(service),
            Table::Http(http) => Some(&http.first),
        }
    }

    /// Whether connections from there begin with a PROXY header.
    pub(crate) fn is_introduced(&self, ip: IpAddr) -> bool {
        let networks = match self {
            Table::Closed | Table::Udp(_) => return false,
            Table::Tcp(service) => &service.spec.proxy_headers.accept,
            Table::Http(http) => &http.accept_proxy,
        };
        !networks.is_empty() && networks.iter().any(|net| net.contains(&ip))
    }
}

/// The HTTP side of a listen.
#[derive(Debug)]
pub(crate) struct HttpTable {
    pub(crate) router: Router,
    /// The service whose settings hold until a request has been routed (header and keep-alive
    /// time-outs, trusted networks).
    pub(crate) first: Arc<LiveService>,
    /// The networks of all services here whose connections begin with a PROXY header.
    pub(crate) accept_proxy: Vec<IpNet>,
    /// The services here that limit connections.
    pub(crate) doors: Vec<Arc<LiveService>>,
}

/// All of it. Replaced as a whole.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// What all this was made from.
    pub(crate) held: Arc<Desired>,
    pub(crate) services: BTreeMap<Name, Arc<LiveService>>,
    /// Whether a scheduler goes by the address that clients connect to.
    pub(crate) by_destination: bool,
    /// By the number of the listen.
    pub(crate) tables: BTreeMap<usize, Arc<Table>>,
}

/// The services and routes that a listen of this plane serves.
pub(crate) fn table_of(
    listen: &Listen,
    held: &Desired,
    services: &BTreeMap<Name, Arc<LiveService>>,
    turns: &HashMap<Name, Arc<AtomicU64>>,
) -> Table {
    let mut here = services
        .values()
        .filter(|service| service.spec.listens.iter().any(|l| l == listen));
    if !listen.is_http() {
        let to = match listen.is_udp() {
            true => Table::Udp,
            false => Table::Tcp,
        };
        return here
            .next()
            .map_or(Table::Closed, |service| to(service.clone()));
    }
    let routes: Vec<Arc<Route>> = held
        .routes
        .values()
        .filter(|route| serves(route, listen, held))
        .cloned()
        .collect();
    let routed: HashSet<&Name> = held
        .routes
        .values()
        .flat_map(|route| &route.services)
        .map(|s| &s.service)
        .collect();
    let catch_all = here
        .clone()
        .find(|service| !routed.contains(&service.spec.name))
        .cloned();
    // Before a request is read nobody knows for which of them it is.
    let accept_proxy = here.clone().flat_map(|s| &s.spec.proxy_headers.accept);
    let accept_proxy = accept_proxy.copied().collect();
    let is_door = |service: &&Arc<LiveService>| {
        let door = service.door.as_ref();
        door.is_some_and(|door| door.limits_connections())
    };
    let doors = here.clone().filter(is_door).cloned().collect();
    match catch_all.clone().or_else(|| here.next().cloned()) {
        Some(first) => Table::Http(HttpTable {
            router: Router::new(&routes, services, turns, catch_all),
            first,
            accept_proxy,
            doors,
        }),
        None => Table::Closed,
    }
}

/// Whether a route is served on a listen: see [`Route::listens`].
fn serves(route: &Route, listen: &Listen, held: &Desired) -> bool {
    if !route.listens.is_empty() {
        return route.listens.contains(listen);
    }
    let mut own = route
        .services
        .iter()
        .filter_map(|w| held.services.get(&w.service))
        .flat_map(|service| &service.spec.listens)
        .filter(|l| l.is_http())
        .peekable();
    own.peek().is_none() || own.any(|l| l == listen)
}
