//! `cargo xtask bench director --only scale`: 10 000 services of 10 backends each through all of control.
//!
//! Measured are the load of all of them; one change of one of them, from what its source says until a packet goes
//! by it (seen) and until control is free again (done: in between the kernel waits until no packet uses what was
//! replaced); and an audit. The share of the packet plane is told beside it: the rest is catalog, overlay and
//! reconcile.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use plimsoll_control::{Control, Settings};
use plimsoll_model::{
    Backend, BackendAddr, Desired, Entry, EntryKey, Forward, Item, Listen, Origin, Plan, Ports,
    Precedence, Proto, Route, SchedulerKind, Service, ServiceSpec, SourceId, SourceUpdate, Tunnel,
    Update,
};
use plimsoll_plane::{
    Counters, Event, Explanation, FlowFilter, FlowPage, ItemResult, Plane, PlaneError, Tuple,
    Unsupported,
};
use plimsoll_plane_ebpf::sys::{Netlink, Program, TestContext, hooks};
use plimsoll_plane_ebpf::{EbpfPlane, Interfaces, Options, Sizes, TunnelSources};
use plimsoll_testkit::Namespace;
use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;

use super::measure::median;
use super::{Error, progress};

/// The row's name.
pub(super) const ROW: &str = "scale";

const SERVICES: u32 = 10_000;
const BACKENDS: u32 = 10;
/// A change that is not seen by then never is.
const PATIENCE: Duration = Duration::from_secs(10);
/// Milliseconds that are aimed at.
const AIM_CHANGE: f64 = 5.0;
const AIM_AUDIT: f64 = 1000.0;

/// The packet plane, and how long it was at work since it was last asked.
struct Timed {
    plane: EbpfPlane,
    spent: Arc<AtomicU64>,
}

impl Timed {
    fn time<T>(&mut self, body: impl FnOnce(&mut EbpfPlane) -> T) -> T {
        let begun = Instant::now();
        let done = body(&mut self.plane);
        let spent = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.spent.fetch_add(spent, Ordering::Relaxed);
        done
    }
}

impl Plane for Timed {
    fn name(&self) -> &'static str {
        self.plane.name()
    }

    fn check(&self, service: &Service) -> Result<(), Unsupported> {
        self.plane.check(service)
    }

    fn check_route(&self, route: &Route) -> Result<(), Unsupported> {
        self.plane.check_route(route)
    }

    fn read(&mut self) -> Result<Desired, PlaneError> {
        self.time(Plane::read)
    }

    fn apply(&mut self, plan: &Plan) -> Vec<ItemResult> {
        self.time(|plane| plane.apply(plan))
    }

    fn counters(&self) -> Counters {
        self.plane.counters()
    }

    fn flows(&mut self, filter: &FlowFilter, cursor: u64) -> Result<FlowPage, PlaneError> {
        self.plane.flows(filter, cursor)
    }

    fn explain(&self, tuple: &Tuple) -> Explanation {
        self.plane.explain(tuple)
    }

    fn events(&mut self) -> Option<Receiver<Event>> {
        self.plane.events()
    }
}

fn failed(error: impl ToString) -> Error {
    Error::Run(error.to_string())
}

/// Measures so many changes and a few audits.
pub(super) fn measure(rounds: u32) -> Result<Value, Error> {
    let namespace = Namespace::new("scale").map_err(failed)?;
    for command in [
        "link add eth0 address 02:00:00:00:00:01 type veth peer name eth1",
        "link set eth1 up",
        "link set eth0 up",
        "address add 10.0.0.1/16 dev eth0",
        "neighbour add 10.0.0.254 lladdr 02:00:00:00:00:fe nud permanent dev eth0",
        "route add default via 10.0.0.254",
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        namespace.ip(&words).map_err(failed)?;
    }
    let measured = namespace.run(move || {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").map_err(failed)?;
        inside(rounds)
    });
    measured.map_err(failed)?
}

fn inside(rounds: u32) -> Result<Value, Error> {
    let options = Options {
        sizes: Sizes::for_memory(1 << 30),
        tunnels: TunnelSources::default(),
        interfaces: Interfaces::default(),
    };
    let spent = Arc::new(AtomicU64::new(0));
    let plane = Timed {
        plane: EbpfPlane::start(options).map_err(failed)?,
        spent: spent.clone(),
    };
    let mut control = Control::new(vec![Box::new(plane)], Settings::default());
    let source = SourceId::new(Precedence::File, "bench");
    let mut now = Instant::now();
    control.expect(now, source.clone());
    // The plane is read, and found empty.
    control.step(now);

    progress("scale: loading");
    let entries = (0..SERVICES).map(|n| entry(n, BACKENDS)).collect();
    let load = timed(&mut control, &spent, |control| {
        let update = SourceUpdate {
            source: source.clone(),
            update: Update::Reset(entries),
        };
        control.update(now, update);
        control.step(now);
        Ok(())
    })?;
    let mut netlink = Netlink::open().map_err(failed)?;
    let link = netlink.link_named("eth0").map_err(failed)?.index;
    let attached = hooks::tc(&mut netlink, link).map_err(failed)?;
    let attached = attached.iter().find(|attached| attached.is_ours());
    let attached = attached.ok_or_else(|| Error::Run("no program is attached".to_owned()))?;
    let program = Program::from_id(attached.id).map_err(failed)?;

    let mut changes = Vec::new();
    let mut visible = Vec::new();
    for round in 1..=rounds {
        progress(&format!("scale: change {round} of {rounds}"));
        // Of another service each time: one more backend, which comes before all others.
        let service = (round * 997) % SERVICES;
        let update = SourceUpdate {
            source: source.clone(),
            update: Update::Upsert(entry(service, BACKENDS + 1)),
        };
        let wanted = backend_ip(service, BACKENDS);
        let (seen, times) = std::thread::scope(|scope| {
            // The packets come from elsewhere while the change is made.
            let watch = scope.spawn(|| watch(&program, link, service, wanted));
            let begun = Instant::now();
            let times = timed(&mut control, &spent, |control| {
                control.update(now, update);
                control.step(now);
                Ok(())
            });
            let seen = watch.join().map_err(|_| failed("the watch panicked"))??;
            Ok::<_, Error>((seen.saturating_duration_since(begun), times?))
        })?;
        visible.push(ms(seen));
        changes.push(times);
    }
    let mut audits = Vec::new();
    for _ in 0..rounds.min(5) {
        progress("scale: auditing");
        now += Settings::default().audit;
        audits.push(timed(&mut control, &spent, |control| {
            let step = control.step(now);
            match step.planes.is_empty() {
                true => Ok(()),
                false => Err(Error::Run(format!("an audit mends: {:?}", step.planes))),
            }
        })?);
    }
    progress("");
    let middle =
        |of: fn(&Times) -> Duration, all: &[Times]| median(all.iter().map(|times| ms(of(times))));
    Ok(json!({
        "row": ROW,
        "services": SERVICES,
        "backends": SERVICES * BACKENDS,
        "load_ms": ms(load.all),
        "load_plane_ms": ms(load.plane),
        "change_ms": median(visible),
        "change_aim_ms": AIM_CHANGE,
        "change_done_ms": middle(|t| t.all, &changes),
        "change_done_plane_ms": middle(|t| t.plane, &changes),
        "audit_ms": middle(|t| t.all, &audits),
        "audit_plane_ms": middle(|t| t.plane, &audits),
        "audit_aim_ms": AIM_AUDIT,
    }))
}

/// How long something took, and the plane's share.
struct Times {
    all: Duration,
    plane: Duration,
}

fn timed(
    control: &mut Control,
    spent: &AtomicU64,
    body: impl FnOnce(&mut Control) -> Result<(), Error>,
) -> Result<Times, Error> {
    spent.store(0, Ordering::Relaxed);
    let begun = Instant::now();
    body(control)?;
    Ok(Times {
        all: begun.elapsed(),
        plane: Duration::from_nanos(spent.load(Ordering::Relaxed)),
    })
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The VIP of a service: 250 services share one, by ports.
fn vip(service: u32) -> (Ipv4Addr, u16) {
    let ip = Ipv4Addr::from(0x0a40_0000 + service / 250);
    (ip, 1000 + (service % 250) as u16)
}

fn backend_ip(service: u32, backend: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0b00_0000 + service * 16 + backend)
}

/// A service with so many backends, of which the last comes first.
fn entry(service: u32, backends: u32) -> Entry {
    let key = format!("service s{service}");
    let origin = Origin::new("bench", key.clone());
    let (ip, port) = vip(service);
    let listen = Listen::Socket {
        ip: Some(ip.into()),
        ports: Ports::One(port),
        proto: Proto::Tcp,
    };
    // A name of letters, digits and dashes always is one.
    let name = format!("s{service}").parse();
    let name = name.unwrap_or_else(|_| unreachable!("s{service} is a name"));
    let mut spec = ServiceSpec::new(name, origin.clone(), vec![listen]);
    spec.scheduler.kind = SchedulerKind::Fo;
    let backends = (0..backends).map(|n| {
        let addr = BackendAddr::Ip(IpAddr::V4(backend_ip(service, n)), None);
        let mut backend = Backend::new(addr, origin.clone());
        backend.forward = Forward::Tunnel(Tunnel::Ipip);
        backend.weight = n + 1;
        backend
    });
    Entry {
        key: EntryKey::new(key),
        item: Item::Service(Arc::new(Service::new(spec, backends))),
    }
}

/// Sends SYNs to a service until one goes to this backend; when that was.
fn watch(program: &Program, link: u32, service: u32, to: Ipv4Addr) -> Result<Instant, Error> {
    let (ip, port) = vip(service);
    let context = TestContext {
        ifindex: link,
        ..TestContext::default()
    };
    let begun = Instant::now();
    for client in (1..=u16::MAX).cycle() {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0xfe, 8, 0];
        frame.extend([0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 7]);
        frame.extend(ip.octets());
        frame.extend(client.to_be_bytes());
        frame.extend(port.to_be_bytes());
        frame.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
        let run = program.test_run(&frame, 1, &context).map_err(failed)?;
        // The destination of the outer header.
        if run.data_out.get(30..34) == Some(&to.octets()) {
            return Ok(Instant::now());
        }
        if begun.elapsed() > PATIENCE {
            break;
        }
    }
    Err(failed(format!(
        "no packet of service s{service} goes to {to}"
    )))
}

/// Shows the figures.
pub(super) fn print(row: &Value) {
    let figure = |key: &str| row.get(key).and_then(Value::as_f64);
    println!("\n{SERVICES} services of {BACKENDS} backends through control\n");
    println!("{:<20} {:>10} {:>10} {:>8}", ROW, "ms", "plane's", "aim");
    for (what, about) in [
        ("load", "load"),
        ("change", "change seen"),
        ("change_done", "change done"),
        ("audit", "audit"),
    ] {
        let text = |part: &str, digits: usize| {
            let figure = figure(&format!("{what}{part}_ms"));
            figure.map_or(String::new(), |ms| format!("{ms:.digits$}"))
        };
        println!(
            "{about:<20} {:>10} {:>10} {:>8}",
            text("", 2),
            text("_plane", 2),
            text("_aim", 0)
        );
    }
}
