//! A plane with one service `web`, and backends for which the kit has no script.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use plimsoll_model::{
    Backend, Desired, Listen, Name, Origin, PathPrefix, Proto, Route, Service, ServiceSpec,
    WeightedService,
};
use plimsoll_plane::{BackendCounters, Flow, FlowFilter, ListenState, Plane, ServiceCounters};
use plimsoll_plane_proxy::{AccessLog, Options, ProxyPlane};
use plimsoll_testkit::{Ending, Port, Raw, Response, wait_until_async};
use tokio::net::{TcpListener, TcpStream};

/// Nothing here takes so long unless it is broken.
pub(crate) const BOUND: Duration = Duration::from_secs(10);

/// How long to look for what must not happen.
pub(crate) const MOMENT: Duration = Duration::from_millis(150);

/// What a time-out may come late by: the plane looks at its clock every 100 ms, and the machine is
/// busy.
pub(crate) const LATE: Duration = Duration::from_secs(3);

pub(crate) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A backend there.
pub(crate) fn at(address: SocketAddr) -> Backend {
    Backend::new(address.into(), Origin::new("test", "backend"))
}

/// A backend there that takes so many at once.
pub(crate) fn limited(address: SocketAddr, maxconn: u32) -> Backend {
    Backend {
        maxconn,
        ..at(address)
    }
}

/// A service without listens.
pub(crate) fn service(text: &str, backends: Vec<Backend>) -> Service {
    let spec = ServiceSpec::new(name(text), Origin::new("test", text), Vec::new());
    Service::new(spec, backends)
}

/// A route of this name from a host and a path to services by weight.
pub(crate) fn route(text: &str, host: &str, path: &str, services: &[(&str, u32)]) -> Route {
    let weighted = |(service, weight): &(&str, u32)| WeightedService {
        service: name(service),
        weight: *weight,
    };
    Route {
        name: name(text),
        origin: Origin::new("test", text),
        hosts: vec![host.parse().unwrap()],
        path: path.parse::<PathPrefix>().unwrap(),
        listens: Vec::new(),
        priority: 0,
        services: services.iter().map(weighted).collect(),
        http: None,
    }
}

/// A plane of two workers that holds `desired`.
pub(crate) struct Proxy {
    pub(crate) plane: ProxyPlane,
    pub(crate) desired: Desired,
    port: Port,
}

impl Proxy {
    /// A plane with the service `web` for HTTP, which takes every host.
    pub(crate) fn http(backends: &[SocketAddr]) -> Self {
        Self::http_with(backends.iter().copied().map(at).collect(), |_| {})
    }

    pub(crate) fn http_with(backends: Vec<Backend>, set: impl FnOnce(&mut ServiceSpec)) -> Self {
        Self::start(Proto::Http, backends, set)
    }

    /// A plane with the service `web` for TCP.
    pub(crate) fn tcp(backends: &[SocketAddr]) -> Self {
        Self::tcp_with(backends.iter().copied().map(at).collect(), |_| {})
    }

    pub(crate) fn tcp_with(backends: Vec<Backend>, set: impl FnOnce(&mut ServiceSpec)) -> Self {
        Self::start(Proto::Tcp, backends, set)
    }

    /// A plane with the service `web` for UDP.
    pub(crate) fn udp(backends: &[SocketAddr]) -> Self {
        Self::udp_with(backends.iter().copied().map(at).collect(), |_| {})
    }

    pub(crate) fn udp_with(backends: Vec<Backend>, set: impl FnOnce(&mut ServiceSpec)) -> Self {
        Self::start(Proto::Udp, backends, set)
    }

    fn start(proto: Proto, backends: Vec<Backend>, set: impl FnOnce(&mut ServiceSpec)) -> Self {
        Self::logged(AccessLog::default(), proto, backends, set)
    }

    /// A plane with the service `web` and this access log.
    pub(crate) fn logged(
        access_log: AccessLog,
        proto: Proto,
        backends: Vec<Backend>,
        set: impl FnOnce(&mut ServiceSpec),
    ) -> Self {
        let workers = 2;
        Self::of(
            Options {
                workers,
                access_log,
                ..Options::default()
            },
            proto,
            backends,
            set,
        )
    }

    /// A plane with the service `web` and these options.
    pub(crate) fn of(
        options: Options,
        proto: Proto,
        backends: Vec<Backend>,
        set: impl FnOnce(&mut ServiceSpec),
    ) -> Self {
        let port = Port::take().unwrap();
        let mut proxy = Self {
            plane: ProxyPlane::start(options).unwrap(),
            desired: Desired::default(),
            port,
        };
        let address = proxy.address();
        let listen = Listen::socket(address.ip(), address.port(), proto);
        let mut spec = ServiceSpec::new(name("web"), Origin::new("test", "web"), vec![listen]);
        set(&mut spec);
        proxy.change(|desired| put(desired, Service::new(spec, backends)));
        proxy
    }

    /// Where `web` listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Brings what `edit` makes of the desired state into force; every step has to go well.
    pub(crate) fn change(&mut self, edit: impl FnOnce(&mut Desired)) {
        let mut to = self.desired.clone();
        edit(&mut to);
        for item in self.plane.apply(&self.desired.diff(&to)) {
            assert_eq!(item.result, Ok(()), "{}", item.subject);
        }
        self.desired = to;
    }

    /// Changes `web`.
    pub(crate) fn edit(&mut self, edit: impl FnOnce(&mut Service)) {
        self.change(|desired| edit(Arc::make_mut(desired.services.get_mut("web").unwrap())));
    }

    /// Changes a backend of `web`.
    pub(crate) fn edit_backend(&mut self, address: SocketAddr, edit: impl FnOnce(&mut Backend)) {
        self.edit(|web| {
            edit(Arc::make_mut(
                web.backends.get_mut(&address.into()).unwrap(),
            ))
        });
    }

    pub(crate) fn add_backend(&mut self, backend: Backend) {
        self.edit(|web| drop(web.backends.insert(backend.addr.clone(), backend.into())));
    }

    pub(crate) fn remove_backend(&mut self, address: SocketAddr) {
        self.edit(|web| drop(web.backends.remove(&address.into())));
    }

    /// The counters of `web`.
    pub(crate) fn counters(&self) -> ServiceCounters {
        let mut all = self.plane.counters().services;
        let at = all.iter().position(|service| service.name == "web");
        all.swap_remove(at.unwrap())
    }

    /// The counters of a backend of `web`.
    pub(crate) fn counters_of(&self, address: SocketAddr) -> BackendCounters {
        let all = self.counters().backends;
        let found = all.into_iter().find(|(addr, _)| *addr == address.into());
        found.unwrap().1
    }

    /// The state of the listen of `web`.
    pub(crate) fn listen(&self) -> ListenState {
        let all = self.plane.counters().listens;
        let mine = |state: &ListenState| {
            matches!(state.listen, Listen::Socket { ip, ports, .. }
                if ip == Some(self.address().ip())
                    && ports.bounds() == (self.address().port(), self.address().port()))
        };
        all.into_iter().find(mine).unwrap()
    }

    /// How many requests were refused with this status before any service was chosen.
    pub(crate) fn refused(&self, status: u16) -> u64 {
        let refused = self.listen().refused;
        refused
            .iter()
            .find(|(s, _)| *s == status)
            .map_or(0, |(_, n)| *n)
    }

    /// All live flows.
    pub(crate) fn flows(&mut self) -> Vec<Flow> {
        self.plane.flows(&FlowFilter::default(), 0).unwrap().flows
    }

    /// Waits until nothing is in flight or queued any more.
    #[track_caller]
    pub(crate) fn settled(&self) -> impl Future<Output = ()> {
        let from = std::panic::Location::caller();
        async move {
            let quiet = wait_until_async(BOUND, || {
                let all = self.counters().backends;
                all.iter().all(|(_, b)| (b.active, b.queued) == (0, 0))
            });
            assert!(
                quiet.await,
                "in flight for ever, {from}: {:?}",
                self.counters()
            );
        }
    }

    /// A connection to `web`.
    pub(crate) async fn connect(&self) -> Raw {
        Raw::connect(self.address()).await.unwrap()
    }

    /// Whether a connection is reset at once: before it is known to be made, or right after.
    pub(crate) async fn refuses(&self) -> bool {
        match Raw::connect(self.address()).await {
            Ok(mut client) => {
                let end = client.read_to_end(BOUND).await.unwrap();
                end == (Vec::new(), Ending::Reset)
            }
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    /// A GET on a connection of its own.
    pub(crate) async fn get(&self, host: &str, path: &str) -> Response {
        self.connect().await.get(host, path, BOUND).await.unwrap()
    }

    /// The service serves as if nothing had happened.
    #[track_caller]
    pub(crate) fn serves(&self) -> impl Future<Output = ()> {
        let from = std::panic::Location::caller();
        async move {
            let answer = self
                .connect()
                .await
                .get("after.example", "/after", BOUND)
                .await;
            assert!(
                matches!(&answer, Ok(r) if r.status == 200),
                "{from}: {answer:?}"
            );
        }
    }
}

/// Puts a service into a desired state.
pub(crate) fn put(desired: &mut Desired, service: Service) {
    desired
        .services
        .insert(service.name().clone(), service.into());
}

/// Puts a route into a desired state.
pub(crate) fn put_route(desired: &mut Desired, route: Route) {
    desired.routes.insert(route.name.clone(), route.into());
}

/// Loopback.
pub(crate) fn loopback() -> IpAddr {
    std::net::Ipv4Addr::LOCALHOST.into()
}

/// A backend that serves each connection as `serve` does.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Scripted {
    /// Connections side by side.
    pub(crate) async fn start<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::listen(move |stream| drop(tokio::spawn(serve(stream)))).await
    }

    async fn listen(take: impl Fn(TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind((loopback(), 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicU64::new(0));
        let count = accepted.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                take(stream);
            }
        });
        Self {
            address,
            accepted,
            task,
        }
    }

    /// One connection after the other: the next is taken when the one before it has been served.
    pub(crate) async fn one_by_one<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((loopback(), 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicU64::new(0));
        let count = accepted.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                serve(stream).await;
            }
        });
        Self {
            address,
            accepted,
            task,
        }
    }

    /// Connections accepted.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An address where connections are neither taken nor refused: its backlog is full. Good for as
/// long as this lives.
pub(crate) struct BlackHole {
    pub(crate) address: SocketAddr,
    _held: Vec<std::net::TcpStream>,
    _listener: socket2::Socket,
}

impl BlackHole {
    pub(crate) fn open() -> Self {
        use socket2::{Domain, Socket, Type};
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener
            .bind(&SocketAddr::new(loopback(), 0).into())
            .unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut held = Vec::new();
        while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, ms(100)) {
            held.push(stream);
            assert!(held.len() < 100, "the backlog does not fill");
        }
        Self {
            address,
            _held: held,
            _listener: listener,
        }
    }
}

/// How long something takes.
pub(crate) async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    (future.await, start.elapsed())
}

/// Bytes that differ from place to place.
pub(crate) fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|i| (i * 7 + i / 251) as u8).collect()
}
