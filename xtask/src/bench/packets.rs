//! `cargo xtask bench packets`: traffic through a director between namespaces, beside the kernel's own ways
//! there: plain routing, and nftables' DNAT.
//!
//! A client, a director and a server in a row, on veth with all offloads. Rounds are short and interleaved (route,
//! dnat, nat, dr, route, …); what counts is the median of the ratios to plain routing within a round. CPU time is
//! that of the whole machine, in which both ends have their part. The programs stay attached meanwhile, so what
//! is routed past them pays for their look at it; nftables' table is there in its own turns only.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use plimsoll_model::{
    Backend, BackendAddr, Desired, Forward, Listen, Origin, Proto, Service, ServiceSpec,
};
use plimsoll_plane::Plane;
use plimsoll_plane_ebpf::{EbpfPlane, Interfaces, Options, Sizes, TunnelSources};
use plimsoll_testkit::Namespace;
use serde_json::{Value, json};

use super::measure::median;
use super::{Args, Error, progress};

/// Clients that ask at the same time.
const CLIENTS: usize = 8;
/// Bytes of a request and of its answer.
const MESSAGE: usize = 64;
/// A read or connect that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(5);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 1);

/// A way from the client to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Route,
    Dnat,
    Nat,
    Dr,
}

impl Way {
    const ALL: [Self; 4] = [Self::Route, Self::Dnat, Self::Nat, Self::Dr];

    fn name(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Dnat => "dnat",
            Self::Nat => "nat",
            Self::Dr => "dr",
        }
    }

    /// The port where the server answers requests this way, and before it the one where it takes all that
    /// comes. Each way has its own: the same port of the client towards the same one of the server is one
    /// connection to who translates.
    fn port(self) -> u16 {
        match self {
            Self::Route => 1001,
            Self::Dnat => 1003,
            Self::Nat => 1005,
            Self::Dr => 1007,
        }
    }

    /// What the client connects to.
    fn address(self) -> Ipv4Addr {
        match self {
            Self::Route => SERVER,
            Self::Dnat => Ipv4Addr::new(203, 0, 113, 1),
            Self::Nat => Ipv4Addr::new(203, 0, 113, 2),
            Self::Dr => Ipv4Addr::new(203, 0, 113, 3),
        }
    }
}

/// What one way did in one round.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    /// Requests in a second, each on a connection of its own, and CPU time of each in µs.
    requests: f64,
    cpu_us: f64,
    /// Gbit in a second, and CPU time of a MiB in µs.
    gbits: f64,
    mib_us: f64,
}

/// Measures, and gives the figures as JSON.
///
/// # Errors
/// There is no root, `ip` or `nft` is missing, or traffic does not get through.
pub(crate) fn run(args: &Args) -> Result<Value, Error> {
    if args.profile || args.ours.is_some() {
        let text = "bench packets has no --profile and no --ours";
        return Err(Error::Setup(text.to_owned()));
    }
    let ways: Vec<Way> = (Way::ALL.into_iter())
        .filter(|way| args.only.is_empty() || args.only.iter().any(|name| name == way.name()))
        .collect();
    if let Some(unknown) = (args.only.iter()).find(|name| !ways.iter().any(|w| w.name() == **name))
    {
        let text = format!("bench packets has no row `{unknown}`; there are route, dnat, nat, dr");
        return Err(Error::Setup(text));
    }
    let (rounds, window) = if args.quick { (3, 0.5) } else { (7, 1.0) };
    let rounds = args.rounds.unwrap_or(rounds);
    let window = Duration::from_secs_f64(args.seconds.unwrap_or(window));
    let row = Row::new()?;
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); ways.len()];
    for round in 1..=rounds {
        progress(&format!("round {round} of {rounds}"));
        for (way, samples) in ways.iter().zip(&mut samples) {
            samples.push(row.measure(*way, window)?);
        }
    }
    let base = (ways.iter().zip(&samples)).find(|(way, _)| **way == Way::Route);
    let base: Vec<Sample> = base.map(|(_, base)| base.clone()).unwrap_or_default();
    let rows: Vec<Value> = (ways.iter().zip(&samples))
        .map(|(way, samples)| figures(*way, samples, &base))
        .collect();
    if !args.json {
        print(&rows);
    }
    Ok(
        json!({ "bench": "packets", "rounds": rounds, "seconds": window.as_secs_f64(), "rows": rows }),
    )
}

fn figures(way: Way, samples: &[Sample], base: &[Sample]) -> Value {
    let mid = |of: fn(&Sample) -> f64| median(samples.iter().map(of));
    let ratio = |of: fn(&Sample) -> f64| {
        median(
            samples
                .iter()
                .zip(base)
                .map(|(one, base)| of(one) / of(base)),
        )
    };
    json!({
        "way": way.name(),
        "requests_per_s": mid(|s| s.requests),
        "cpu_us_per_request": mid(|s| s.cpu_us),
        "gbit_per_s": mid(|s| s.gbits),
        "cpu_us_per_mib": mid(|s| s.mib_us),
        "to_route": {
            "requests": ratio(|s| s.requests),
            "cpu_per_request": ratio(|s| s.cpu_us),
            "gbit": ratio(|s| s.gbits),
            "cpu_per_mib": ratio(|s| s.mib_us),
        },
    })
}

fn print(rows: &[Value]) {
    println!(
        "way     requests/s  CPU µs each   Gbit/s  CPU µs/MiB   to routing: requests, CPU, Gbit, CPU"
    );
    for row in rows {
        let number = |at: &str| row.pointer(at).and_then(Value::as_f64).unwrap_or(f64::NAN);
        println!(
            "{:<6}  {:>10.0}  {:>11.1}  {:>7.2}  {:>10.1}   {:>20.2} {:>4.2} {:>5.2} {:>4.2}",
            row.pointer("/way")
                .and_then(Value::as_str)
                .unwrap_or_default(),
            number("/requests_per_s"),
            number("/cpu_us_per_request"),
            number("/gbit_per_s"),
            number("/cpu_us_per_mib"),
            number("/to_route/requests"),
            number("/to_route/cpu_per_request"),
            number("/to_route/gbit"),
            number("/to_route/cpu_per_mib"),
        );
    }
}

/// The namespaces, with a server at work and a director that forwards.
struct Row {
    client: Namespace,
    director: Namespace,
    taken: Arc<AtomicU64>,
    // Held for their namespaces and threads.
    _server: Namespace,
    _plane: Held,
}

/// The plane lives on the thread of its namespace; what it left in the kernel goes with that.
struct Held {
    _ends: std::sync::mpsc::Sender<()>,
}

impl Row {
    fn new() -> Result<Self, Error> {
        let make = |label: &str| Namespace::new(label).map_err(setup);
        let (client, director, server) = (make("client")?, make("director")?, make("server")?);
        for (leg, end) in [("eth0", &client), ("eth1", &server)] {
            let words = [
                "link",
                "add",
                leg,
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                end.name(),
            ];
            director.ip(&words).map_err(setup)?;
        }
        for (namespace, lines) in [
            (
                &director,
                &[
                    "address add 10.1.0.2/24 dev eth0",
                    "address add 10.2.0.2/24 dev eth1",
                    "link set eth0 up",
                    "link set eth1 up",
                ][..],
            ),
            (
                &client,
                &[
                    "address add 10.1.0.1/24 dev eth0",
                    "link set eth0 up",
                    "route add default via 10.1.0.2",
                ],
            ),
            (
                &server,
                &[
                    "address add 10.2.0.1/24 dev eth0",
                    "link set eth0 up",
                    "route add default via 10.2.0.2",
                    "address add 203.0.113.3/32 dev lo",
                ],
            ),
        ] {
            for line in lines {
                let words: Vec<&str> = line.split_whitespace().collect();
                namespace.ip(&words).map_err(setup)?;
            }
        }
        let forwards = director.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"));
        forwards
            .map_err(setup)?
            .map_err(|error| Error::Io("ip_forward", error))?;
        let taken = Arc::new(AtomicU64::new(0));
        serve(&server, &taken)?;
        let plane = steer(&director)?;
        Ok(Self {
            client,
            director,
            taken,
            _server: server,
            _plane: plane,
        })
    }

    fn measure(&self, way: Way, window: Duration) -> Result<Sample, Error> {
        if way == Way::Dnat {
            self.nft("add table ip bench; add chain ip bench pre { type nat hook prerouting priority -100; }; \
                      add rule ip bench pre ip daddr 203.0.113.1 dnat to 10.2.0.1")?;
        }
        let measured = self
            .requests(way, window)
            .and_then(|sample| self.bulk(way, window, sample));
        if way == Way::Dnat {
            self.nft("delete table ip bench")?;
        }
        measured.map_err(|error| Error::Run(format!("{}: {error}", way.name())))
    }

    fn nft(&self, rules: &str) -> Result<(), Error> {
        let done = self.director.command("nft").arg(rules).output();
        let done = done.map_err(|error| Error::Io("nft", error))?;
        match done.status.success() {
            true => Ok(()),
            false => Err(Error::Setup(format!(
                "nft: {}",
                String::from_utf8_lossy(&done.stderr)
            ))),
        }
    }

    fn requests(&self, way: Way, window: Duration) -> Result<Sample, Error> {
        let to = SocketAddr::new(way.address().into(), way.port());
        let (begun, busy) = (Instant::now(), busy()?);
        let asking = (0..CLIENTS).map(|_| self.inside(move || ask(to, window)));
        let asking: Vec<_> = asking.collect::<Result<_, _>>()?;
        let mut done = 0;
        for one in asking {
            done += joined(one)?;
        }
        let (seconds, spent) = (begun.elapsed().as_secs_f64(), busy_since(busy)?);
        if done == 0 {
            return Err(Error::Run(format!(
                "{}: no request was answered",
                way.name()
            )));
        }
        Ok(Sample {
            requests: done as f64 / seconds,
            cpu_us: spent / done as f64,
            ..Sample::default()
        })
    }

    fn bulk(&self, way: Way, window: Duration, sample: Sample) -> Result<Sample, Error> {
        let to = SocketAddr::new(way.address().into(), way.port() - 1);
        let (before, begun, busy) = (self.taken.load(Ordering::Relaxed), Instant::now(), busy()?);
        joined(self.inside(move || pour(to, window))?)?;
        let (seconds, spent) = (begun.elapsed().as_secs_f64(), busy_since(busy)?);
        let bytes = (self.taken.load(Ordering::Relaxed) - before) as f64;
        Ok(Sample {
            gbits: bytes * 8.0 / 1e9 / seconds,
            mib_us: spent / (bytes / f64::from(1 << 20)),
            ..sample
        })
    }

    /// Runs something on a thread of its own in the client's namespace.
    fn inside<T: Send + 'static>(
        &self,
        body: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> Result<std::thread::JoinHandle<std::io::Result<T>>, Error> {
        // A thread begins in the namespace of the one that starts it.
        self.client
            .run(move || std::thread::spawn(body))
            .map_err(setup)
    }
}

fn setup(error: impl ToString) -> Error {
    Error::Setup(error.to_string())
}

fn joined<T>(thread: std::thread::JoinHandle<std::io::Result<T>>) -> Result<T, Error> {
    let done = thread
        .join()
        .map_err(|_| Error::Run("a client panicked".to_owned()))?;
    done.map_err(|error| Error::Io("traffic", error))
}

/// One request after the other, each on a connection of its own; how many were answered.
fn ask(to: SocketAddr, window: Duration) -> std::io::Result<u64> {
    let until = Instant::now() + window;
    let mut answered = 0;
    let mut bytes = [0; MESSAGE];
    while Instant::now() < until {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&[1; MESSAGE])?;
        stream.read_exact(&mut bytes)?;
        // Reset: ports are free at once, for more rounds than there are ports.
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
        answered += 1;
    }
    Ok(answered)
}

/// As much as goes through.
fn pour(to: SocketAddr, window: Duration) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let bytes = vec![7; 1 << 17];
    let until = Instant::now() + window;
    while Instant::now() < until {
        stream.write_all(&bytes)?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    // All of it has been taken when the server closes.
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.read(&mut [0]).map(drop)
}

/// Answers requests, and takes what comes; until the process ends.
fn serve(server: &Namespace, taken: &Arc<AtomicU64>) -> Result<(), Error> {
    for (port, answers) in Way::ALL
        .iter()
        .flat_map(|w| [(w.port(), true), (w.port() - 1, false)])
    {
        let listener = server.run(move || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)));
        let listener = listener
            .map_err(setup)?
            .map_err(|error| Error::Io("listening", error))?;
        let taken = Arc::clone(taken);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let taken = Arc::clone(&taken);
                std::thread::spawn(move || take(stream, answers, &taken));
            }
        });
    }
    Ok(())
}

fn take(mut stream: TcpStream, answers: bool, taken: &AtomicU64) {
    let mut bytes = vec![0; 1 << 17];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return,
            Ok(len) if answers => {
                let answer = bytes.get(..len).unwrap_or_default();
                if stream.write_all(answer).is_err() {
                    return;
                }
            }
            Ok(len) => drop(taken.fetch_add(len as u64, Ordering::Relaxed)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Starts a plane in the director's namespace with a service for each of its ways.
fn steer(director: &Namespace) -> Result<Held, Error> {
    let (ends, end) = std::sync::mpsc::channel::<()>();
    let (tells, told) = std::sync::mpsc::channel();
    let started = director.run(move || {
        std::thread::spawn(move || {
            let plane = started();
            let _waits = tells.send(plane.as_ref().map(drop).map_err(ToString::to_string));
            // The other end is dropped with the benchmark.
            let _dropped = end.recv();
            drop(plane);
        });
    });
    started.map_err(setup)?;
    let told = told
        .recv()
        .map_err(|_| Error::Setup("no plane".to_owned()))?;
    told.map_err(Error::Setup)?;
    Ok(Held { _ends: ends })
}

fn started() -> Result<EbpfPlane, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let options = Options {
        sizes: Sizes::small().with_flows(1_000_000),
        tunnels: TunnelSources::default(),
        interfaces: Interfaces::default(),
    };
    let mut plane = EbpfPlane::start(options).map_err(|error| text(&error))?;
    let mut to = Desired::default();
    for (way, forward) in [(Way::Nat, Forward::Nat), (Way::Dr, Forward::Dr)] {
        let name: plimsoll_model::Name = way.name().parse().map_err(|_| "a name".to_owned())?;
        let origin = Origin::new("bench", way.name());
        let listen = |port| Listen::socket(IpAddr::V4(way.address()), port, Proto::Tcp);
        let listens = vec![listen(way.port()), listen(way.port() - 1)];
        let spec = ServiceSpec::new(name.clone(), origin.clone(), listens);
        let mut backend = Backend::new(BackendAddr::Ip(SERVER.into(), None), origin);
        backend.forward = forward;
        to.services
            .insert(name, Service::new(spec, [backend]).into());
    }
    let plan = plane.read().map_err(|error| text(&error))?.diff(&to);
    for item in plane.apply(&plan) {
        item.result.map_err(|error| text(&error))?;
    }
    match plane.faults().first_key_value() {
        Some((interface, fault)) => Err(format!("{interface}: {fault}")),
        None => Ok(plane),
    }
}

/// For how long the processors of the machine have been at work, in µs.
fn busy() -> Result<f64, Error> {
    let stat = std::fs::read_to_string("/proc/stat");
    let stat = stat.map_err(|error| Error::Io("/proc/stat", error))?;
    let first = stat.lines().next().unwrap_or_default();
    // proc_stat(5): user nice system idle iowait irq softirq steal, in hundredths of a second.
    let fields = first.split_whitespace().skip(1).take(7).enumerate();
    let ticks = fields.filter(|(at, _)| !matches!(at, 3 | 4));
    let ticks = ticks
        .filter_map(|(_, text)| text.parse::<u64>().ok())
        .sum::<u64>();
    Ok(ticks as f64 * 10_000.0)
}

fn busy_since(before: f64) -> Result<f64, Error> {
    Ok(busy()? - before)
}
