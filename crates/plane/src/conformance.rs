//! What every plane must do, whatever carries its traffic.
//!
//! A plane's own tests call [`run`] with its kind, a way to make fresh planes and a way to get free
//! ports. The suite sends no traffic.

use std::net::{IpAddr, Ipv4Addr};

use plimsoll_model::{
    Backend, BackendAddr, Desired, Forward, Listen, Name, Op, Origin, PathPrefix, Plan, PlanError,
    Proto, Route, SchedulerKind, Service, ServiceSpec, State, Status, Subject, WeightedService,
};

use crate::{FlowFilter, ItemResult, Plane, PlaneError, Tuple};

/// What a plane is made for, so what it must be able to carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Connections and requests: TCP and HTTP on 127.0.0.1, routes, and limits of what is in flight.
    Proxy,
    /// Packets: TCP and UDP at an address of its own, forwarded by direct routing, with thresholds.
    Packets,
}

/// What a case has beside its plane.
pub struct Ground<'a> {
    kind: Kind,
    port: &'a mut dyn FnMut() -> u16,
}

/// One case: a fresh plane, and what to try there.
pub type Case = fn(&mut dyn Plane, &mut Ground<'_>);

/// Every case by its name.
pub const CASES: &[(&str, Case)] = &[
    ("starts_empty", starts_empty),
    ("holds_what_was_applied", holds_what_was_applied),
    ("changes_in_place", changes_in_place),
    ("removes", removes),
    ("one_failure_stops_no_other", one_failure_stops_no_other),
    ("unknown_subjects_are_errors", unknown_subjects_are_errors),
    ("results_in_order", results_in_order),
    ("listens_can_move", listens_can_move),
    ("checks_agree_with_apply", checks_agree_with_apply),
    ("counts_what_it_holds", counts_what_it_holds),
    ("flows_of_nothing", flows_of_nothing),
    ("explains_the_unknown", explains_the_unknown),
    ("gives_events_out_once", gives_events_out_once),
];

/// Runs every case, each on a plane of its own. `port` gives a TCP port of 127.0.0.1 that nothing
/// else will use, a new one at each call.
///
/// # Panics
/// A case does not hold; its name is printed with the assertion's.
pub fn run(kind: Kind, make: &mut dyn FnMut() -> Box<dyn Plane>, port: &mut dyn FnMut() -> u16) {
    let mut ground = Ground { kind, port };
    for (name, case) in CASES {
        let guard = Named(name);
        case(&mut *make(), &mut ground);
        drop(guard);
    }
}

/// Names the case when its assertion fails.
struct Named(&'static str);

impl Drop for Named {
    #[allow(clippy::print_stderr, reason = "a test's output")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("conformance case `{}` does not hold", self.0);
        }
    }
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// RFC 5737: an address that nobody has.
const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

fn origin() -> Origin {
    Origin::new("test", "conformance")
}

#[allow(clippy::expect_used, reason = "constants of the suite")]
fn name(text: &str) -> Name {
    text.parse().expect("a valid name")
}

impl Ground<'_> {
    fn port(&mut self) -> u16 {
        (self.port)()
    }

    /// A backend for each number.
    fn addr(&self, number: u16) -> BackendAddr {
        match self.kind {
            Kind::Proxy => std::net::SocketAddr::new(LOOPBACK, number).into(),
            // RFC 2544: 198.18.0.0/15.
            Kind::Packets => {
                let [high, low] = number.to_be_bytes();
                BackendAddr::Ip(Ipv4Addr::new(198, 18, high, low).into(), None)
            }
        }
    }

    fn backend(&self, number: u16) -> Backend {
        let mut backend = Backend::new(self.addr(number), origin());
        if self.kind == Kind::Packets {
            backend.forward = Forward::Dr;
        }
        backend
    }

    /// At a new port.
    fn listen(&mut self, proto: Proto) -> Listen {
        match self.kind {
            Kind::Proxy => Listen::socket(LOOPBACK, self.port(), proto),
            Kind::Packets => Listen::socket(VIP, self.port(), proto),
        }
    }

    /// HTTP, or the other protocol there is.
    fn other(&mut self) -> Listen {
        match self.kind {
            Kind::Proxy => self.listen(Proto::Http),
            Kind::Packets => self.listen(Proto::Udp),
        }
    }

    /// None where a service needs none, and one where it does.
    fn no_listens(&mut self) -> Vec<Listen> {
        match self.kind {
            Kind::Proxy => Vec::new(),
            Kind::Packets => vec![self.listen(Proto::Tcp)],
        }
    }

    /// With so many backends.
    fn service(&mut self, text: &str, listens: Vec<Listen>, backends: usize) -> Service {
        let backends: Vec<Backend> = (0..backends)
            .map(|_| {
                let number = self.port();
                self.backend(number)
            })
            .collect();
        Service::new(ServiceSpec::new(name(text), origin(), listens), backends)
    }

    /// Two services with listens, one that only routes lead to, and two routes where there are any.
    fn full(&mut self) -> Desired {
        let tcp = vec![self.listen(Proto::Tcp)];
        let others = vec![self.other(), self.other()];
        let none = self.no_listens();
        let services = vec![
            self.service("db", tcp, 2),
            self.service("web", others, 2),
            self.service("api", none, 1),
        ];
        let routes = match self.kind {
            Kind::Proxy => vec![
                route("www", "www.example.com", "web"),
                route("api", "*.example.com", "api"),
            ],
            Kind::Packets => Vec::new(),
        };
        state(services, routes)
    }
}

#[allow(clippy::expect_used, reason = "constants of the suite")]
fn route(text: &str, host: &str, to: &str) -> Route {
    Route {
        name: name(text),
        origin: origin(),
        hosts: vec![host.parse().expect("a valid host")],
        path: PathPrefix::root(),
        listens: Vec::new(),
        priority: 0,
        services: vec![WeightedService {
            service: name(to),
            weight: 1,
        }],
        http: None,
    }
}

fn state(services: Vec<Service>, routes: Vec<Route>) -> Desired {
    let services = services.into_iter().map(|s| (s.name().clone(), s.into()));
    let routes = routes.into_iter().map(|r| (r.name.clone(), r.into()));
    Desired {
        services: services.collect(),
        routes: routes.collect(),
    }
}

#[allow(clippy::expect_used, reason = "the suite's verdict")]
fn read(plane: &mut dyn Plane) -> Desired {
    plane.read().expect("the plane can be read")
}

/// Brings the plane from what it holds to `to`; every step has to go well.
fn bring(plane: &mut dyn Plane, to: &Desired) {
    let plan = read(plane).diff(to);
    for item in plane.apply(&plan) {
        assert_eq!(item.result, Ok(()), "{}", item.subject);
    }
    assert_eq!(&read(plane), to, "the plane holds what was applied");
}

fn starts_empty(plane: &mut dyn Plane, _: &mut Ground<'_>) {
    assert!(!plane.name().is_empty());
    assert_eq!(read(plane), Desired::default());
    assert_eq!(plane.apply(&Plan::default()), Vec::new());
    assert_eq!(read(plane), Desired::default());
}

fn holds_what_was_applied(plane: &mut dyn Plane, ground: &mut Ground<'_>) {
    let to = ground.full();
    bring(plane, &to);
    assert_eq!(plane.apply(&Plan::default()), Vec::new());
    assert_eq!(read(plane), to, "an empty plan changes nothing");
}

fn changes_in_place(plane: &mut dyn Plane, ground: &mut Ground<'_>) {
    let mut to = ground.full();
    bring(plane, &to);
    for service in to.services.values_mut() {
        let service = std::sync::Arc::make_mut(service);
        let spec = std::sync::Arc::make_mut(&mut service.spec);
        spec.scheduler.kind = SchedulerKind::Lc;
        spec.retries = 1;
        for backend in service.backends.values_mut() {
            let backend = std::sync::Arc::make_mut(backend);
            backend.weight = 7;
            match ground.kind {
                Kind::Proxy => backend.maxconn = 3,
                Kind::Packets => backend.upper = 3,
            }
            backend.status = Status::new(State::Draining, "conformance");
        }
        let number = ground.port();
        let more = ground.backend(number);
        service.backends.insert(more.addr.clone(), more.into());
    }
    for route in to.routes.values_mut() {
        std::sync::Arc::make_mut(route).priority = 5;
    }
    bring(plane, &to);
    for service in to.services.values_mut() {
        for backend in std::sync::Arc::make_mut(service).backends.values_mut() {
            std::sync::Arc::make_mut(backend).status = Status::new(State::Down, "conformance");
        }
    }
    bring(plane, &to);
}

fn removes(plane: &mut dyn Plane, ground: &mut Ground<'_>) {
    let mut to = ground.full();
    bring(plane, &to);
    for service in to.services.values_mut() {
        std::sync::Arc::make_mut(service).backends.pop_first();
    }
    to.routes.pop_first();
    bring(plane, &to);
    to.services.pop_first();
    bring(plane, &to);
    bring(plane, &Desired::default());
}

fn one_failure_stops_no_other(plane: &mut dyn Plane, ground: &mut Ground<'_>) {
    let to = ground.full();
    let missing = name("missing");
    let mut plan = Plan::default();
    for op in Desired::default().diff(&to).ops {
        plan.ops
            .push(Op::RemoveBackend(missing.clone(), ground.addr(1)));
        plan.ops.push(op);
        plan.ops
            .push(Op::AddBackend(missing.clone(), ground.backend(1).into()));
    }
    for (op, item) in plan.ops.iter().zip(plane.apply(&plan)) {
        let about_missing = matches!(&item.subject, Subject::Backend(name, _) if *name == missing);
        assert_eq!(item.result.is_err(), about_missing, "{op:?}: {item:?}");
    }
    assert_eq!(read(plane), to);
}

fn unknown_subjects_are_errors(plane: &mut dyn Plane, ground: &mut Ground<'_>) {
    let held = ground.full();
    bring(plane, &held);
    let (gone, web) = (name("missing"), name("web"));
    let missing = |op: Op| (op.clone(), PlanError::Missing(op.subject()));
    let exists = |op: Op| (op.clone(), PlanError::Exists(op.subject()));
    let listens = ground.no_listens();
    let mut cases = vec![
        missing(Op::SetSpec(ground.service("missing", listens, 0).spec)),
        missing(Op::AddBackend(gone.clone(), ground.backend(1).into())),
        missing(Op::SetBackend(gone.clone(), ground.backend(1).into())),
        missing(Op::RemoveBackend(gone.clone(), ground.addr(1))),
        missing(Op::SetBackend(web.clone(), ground.backend(1).into())),
        missing(Op::RemoveBackend(web.clone(), ground.addr(1))),
        missing(Op::RemoveService(gone.clone())),
        missing(Op::RemoveRoute(gone)),
    ];
    if let Some(service) = held.services.get(&web) {
        cases.push(exists(Op::AddService(service.clone())));
        let backends = service.backends.values().cloned();
        cases.extend(backends.map(|b| exists(Op::AddBackend(web.clone(), b))));
    }
    for (op, error) in cases {
        let results = plane.apply(&Plan {
            ops: vec![op.clone()],
        });
        let expected = ItemResult {
            subject: op.subject(),
            result: Err(PlaneError::Plan(error)),
        };
        assert_eq!(results, vec![expected], "{op:?}");
        assert_eq!(read(plane), held, "a failed step changes nothing: {op:?}");
    }
}

fn results_in_order(plane: &mut dyn Plane, ground: &mut Ground<'_>) {
    let plan = Desired::default().diff(&ground.full());
    let subjects: Vec<Subject> = plan.ops.iter().map(Op::subject).collect();
    for round in ["all succeed", "services are there already"] {
        let results: Vec<Subject> = plane.apply(&plan).into_iter().map(|i| i.subject).collect();
        assert_eq!(results, subjects, "{round}");
    }
}

/// Within one plan a listen may go from any service to any other: what is in force at its end
/// counts.
fn listens_can_move(plane: &mut dyn Plane, ground: &mut Ground<'_>) {
    let (tcp, third) = (ground.listen(Proto::Tcp), ground.listen(Proto::Tcp));
    let other = ground.other();
    let backend = ground.backend(9);
    let mut to = |plane: &mut dyn Plane, lists: [Vec<Listen>; 2]| {
        let services = ["a", "b"].into_iter().zip(lists).map(|(text, listens)| {
            let listens = match listens.is_empty() {
                true => ground.no_listens(),
                false => listens,
            };
            let spec = ServiceSpec::new(name(text), origin(), listens);
            Service::new(spec, [backend.clone()])
        });
        bring(plane, &state(services.collect(), Vec::new()));
    };
    to(plane, [vec![tcp], vec![other]]);
    to(plane, [vec![tcp, other], Vec::new()]);
    to(plane, [Vec::new(), vec![other]]);
    to(plane, [vec![tcp], Vec::new()]);
    to(plane, [vec![tcp], vec![third]]);
    to(plane, [vec![third], vec![tcp]]);
}

fn checks_agree_with_apply(plane: &mut dyn Plane, ground: &mut Ground<'_>) {
    for service in exotic(ground) {
        let checked = plane.check(&service);
        let mut results = plane.apply(&Plan {
            ops: vec![Op::AddService(service.clone().into())],
        });
        let result = results.pop().map(|item| item.result);
        let held = read(plane).services.contains_key(service.name());
        assert_eq!(
            held,
            result == Some(Ok(())),
            "{}: held only if applied",
            service.name()
        );
        match (checked, result) {
            (Ok(()), Some(Err(PlaneError::Unsupported(error)))) => {
                assert_eq!(
                    error.feature,
                    "",
                    "{}: checked, then refused",
                    service.name()
                );
            }
            (Ok(()), _) => {}
            (Err(error), result) => {
                assert!(
                    !error.feature.is_empty() && !error.instead.is_empty(),
                    "{error:?}"
                );
                assert_eq!(result, Some(Err(error.into())), "{}", service.name());
            }
        }
    }
    let route = route("r", "example.com", "web");
    if plane.check_route(&route).is_ok() {
        let results = plane.apply(&Plan {
            ops: vec![Op::PutRoute(route.into())],
        });
        assert!(
            results.iter().all(|item| item.result.is_ok()),
            "{results:?}"
        );
    }
}

/// Services that not every plane can carry.
fn exotic(ground: &mut Ground<'_>) -> Vec<Service> {
    use plimsoll_model::{Family, Persistence, Ports, Tunnel};
    use std::num::NonZeroU32;

    let plain = ground.backend(9);
    let with = |text: &str, listens, change: &dyn Fn(&mut Backend)| {
        let mut backend = plain.clone();
        change(&mut backend);
        Service::new(ServiceSpec::new(name(text), origin(), listens), [backend])
    };
    let mark = Listen::Mark {
        mark: NonZeroU32::MIN,
        family: Family::V4,
    };
    let first = ground.port().min(u16::MAX - 1);
    let ip = match ground.kind {
        Kind::Proxy => LOOPBACK,
        Kind::Packets => VIP,
    };
    let range = Listen::Socket {
        ip: Some(ip),
        ports: Ports::Range(first, first + 1),
        proto: Proto::Tcp,
    };
    let mut one = |proto| vec![ground.listen(proto)];
    let mut sticky = ServiceSpec::new(name("sticky"), origin(), one(Proto::Tcp));
    sticky.persistence = Some(Persistence::new(std::time::Duration::from_secs(1)));
    vec![
        with("mark", vec![mark], &|_| {}),
        with("range", vec![range], &|_| {}),
        with("udp", one(Proto::Udp), &|_| {}),
        with("sctp", one(Proto::Sctp), &|_| {}),
        with("dr", one(Proto::Tcp), &|b| b.forward = Forward::Dr),
        with("nat", one(Proto::Tcp), &|b| b.forward = Forward::Nat),
        with("tunnel", one(Proto::Tcp), &|b| {
            b.forward = Forward::Tunnel(Tunnel::Ipip);
        }),
        with("unix", one(Proto::Tcp), &|b| {
            b.addr = BackendAddr::Unix("/nonexistent/conformance.sock".into());
        }),
        with("portless", one(Proto::Tcp), &|b| {
            b.addr = BackendAddr::Ip(LOOPBACK, None);
        }),
        with("thresholds", one(Proto::Tcp), &|b| b.upper = 10),
        Service::new(sticky, [plain.clone()]),
    ]
}

fn counts_what_it_holds(plane: &mut dyn Plane, ground: &mut Ground<'_>) {
    assert_eq!(plane.counters().services, Vec::new());
    let to = ground.full();
    bring(plane, &to);
    let expected: Vec<(String, Vec<BackendAddr>)> = (to.services.values())
        .map(|s| (s.name().to_string(), s.backends.keys().cloned().collect()))
        .collect();
    let counted: Vec<(String, Vec<BackendAddr>)> = (plane.counters().services.into_iter())
        .map(|s| (s.name, s.backends.into_iter().map(|(a, _)| a).collect()))
        .collect();
    assert_eq!(counted, expected);
    bring(plane, &Desired::default());
    assert_eq!(plane.counters().services, Vec::new());
}

#[allow(clippy::expect_used, reason = "the suite's verdict")]
fn flows_of_nothing(plane: &mut dyn Plane, ground: &mut Ground<'_>) {
    bring(plane, &ground.full());
    for cursor in [0, u64::MAX] {
        let page = plane.flows(&FlowFilter::default(), cursor);
        let page = page.expect("flows can be listed");
        assert_eq!((page.flows, page.next), (Vec::new(), None));
    }
}

fn explains_the_unknown(plane: &mut dyn Plane, ground: &mut Ground<'_>) {
    let tuple = |port, proto, host: Option<&str>| Tuple {
        client: (LOOPBACK, 1).into(),
        destination: (LOOPBACK, port).into(),
        proto,
        host: host.map(Into::into),
        path: host.map(|_| "/x?".into()),
    };
    let unknown = ground.port();
    for proto in [Proto::Tcp, Proto::Udp, Proto::Sctp, Proto::Http] {
        for host in [None, Some(""), Some("unknown.example")] {
            let explanation = plane.explain(&tuple(unknown, proto, host));
            assert_eq!(explanation.service, None);
            assert_eq!(explanation.backend, None);
            assert!(!explanation.steps.is_empty(), "it says why");
        }
    }
}

fn gives_events_out_once(plane: &mut dyn Plane, _: &mut Ground<'_>) {
    assert!(plane.events().is_some());
    assert!(plane.events().is_none());
}
