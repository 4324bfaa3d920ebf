//! `cargo xtask bench director`: nanoseconds per packet of the director's programs by
//! `BPF_PROG_TEST_RUN`, beside two yardsticks of our own (`bpf/yardsticks.c`): `empty` looks at a packet
//! as far as layer 4, `floor` does the least that forwarding an established flow can be.
//!
//! Every run is on a fresh packet; a figure is the median over rounds of the mean of many runs. Packets of known
//! flows have all been there once before, just now: they find in the caches what fits there. Those of unknown flows
//! meet a table that their like has not filled, but for `tcp-syn-full`. The kernel's
//! timer shows steps of some nanoseconds and costs some itself: what counts is `net`, the mean less that of
//! `empty` in the same round. Scenarios are those of the kernel's `xdp-lb` benchmark. Needs root.

mod frame;

use std::collections::BTreeMap;
use std::net::IpAddr;

use plimsoll_plane_ebpf::kernel::{Kernel, Sizes};
use plimsoll_plane_ebpf::layout::{
    Addr, BACKEND_NEW, BACKEND_USED, Backend, Listen, Live, Method, NEXTHOP_VALID, NEXTHOP_XDP,
    NextHop, SERVICE_USED, STATES, Sched, Service, Vip,
};
use plimsoll_plane_ebpf::sys::{Map, MapKind, MapSpec, Netlink, Object, Program, TestContext};
use plimsoll_testkit::Namespace;
use serde_json::{Value, json};

use frame::frame;

use super::measure::median;
use super::{Args, Error, progress, scale};

static YARDSTICKS: &[u8] = include_bytes!("../../../crates/plane-ebpf/objects/yardsticks.o");

const TCP: u8 = 6;
const UDP: u8 = 17;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const RST: u8 = 0x04;

/// VIPs by what their backends are: 10.0.0.9 and fd00::9 tunnels, .10 direct routing, .11 NAT, .12 a tunnel
/// over IPv6.
const TUNNEL: &str = "10.0.0.9";
const DIRECT: &str = "10.0.0.10";
const NAT: &str = "10.0.0.11";
const TUNNEL6: &str = "10.0.0.12";
const TUNNEL66: &str = "fd00::9";

/// What is measured.
struct Scenario {
    name: &'static str,
    to: &'static str,
    proto: u8,
    /// TCP flags.
    flags: u8,
    /// Flows that the packets belong to.
    flows: u32,
    /// They are established before.
    known: bool,
    /// Half-open flows have filled the table before.
    full: bool,
    /// Net nanoseconds that are aimed at.
    aim: Option<f64>,
}

const fn hit(name: &'static str, to: &'static str, aim: Option<f64>) -> Scenario {
    Scenario {
        name,
        to,
        proto: TCP,
        flags: ACK,
        flows: 1,
        known: true,
        full: false,
        aim,
    }
}

const SCENARIOS: [Scenario; 16] = [
    hit("tcp-hit", TUNNEL, Some(90.0)),
    hit("tcp-hit-dr", DIRECT, None),
    hit("tcp-hit-nat", NAT, None),
    hit("tcp6-hit", TUNNEL66, None),
    hit("tcp-hit-in-ipv6", TUNNEL6, None),
    Scenario {
        proto: UDP,
        ..hit("udp-hit", TUNNEL, Some(115.0))
    },
    Scenario {
        flows: 4096,
        ..hit("tcp-4k-flows", TUNNEL, Some(95.0))
    },
    Scenario {
        proto: UDP,
        flows: 4096,
        ..hit("udp-4k-flows", TUNNEL, None)
    },
    Scenario {
        flows: 1_000_000,
        ..hit("tcp-1m-flows", TUNNEL, None)
    },
    Scenario {
        flags: SYN,
        flows: u32::MAX,
        known: false,
        ..hit("tcp-syn", TUNNEL, Some(230.0))
    },
    Scenario {
        flags: SYN,
        flows: u32::MAX,
        known: false,
        full: true,
        ..hit("tcp-syn-full", TUNNEL, None)
    },
    Scenario {
        flows: u32::MAX,
        known: false,
        ..hit("tcp-miss", TUNNEL, None)
    },
    Scenario {
        proto: UDP,
        flows: u32::MAX,
        known: false,
        ..hit("udp-miss", TUNNEL, None)
    },
    Scenario {
        flags: RST,
        ..hit("tcp-reset", TUNNEL, None)
    },
    Scenario {
        known: false,
        ..hit("other-address", "10.0.0.8", Some(42.0))
    },
    Scenario {
        proto: 0,
        known: false,
        ..hit("not-ip", "10.0.0.8", None)
    },
];

/// Measures, and shows each row when it is done unless the figures are wanted as JSON.
///
/// # Errors
/// There is no root, or the kernel refuses the programs.
pub(crate) fn run(args: &Args) -> Result<Value, Error> {
    if args.profile || args.ours.is_some() || args.seconds.is_some() {
        let text = "bench director has no --profile, no --ours and no --seconds";
        return Err(Error::Setup(text.to_owned()));
    }
    let rounds = args.rounds.unwrap_or(if args.quick { 5 } else { 25 });
    let only = args.only.clone();
    if let Some(unknown) = only
        .iter()
        .find(|row| *row != scale::ROW && !SCENARIOS.iter().any(|s| s.name == **row))
    {
        return Err(Error::Setup(format!(
            "bench director has no row {unknown:?}"
        )));
    }
    let namespace = Namespace::new("bench").map_err(|error| Error::Setup(error.to_string()))?;
    let mut rows = Vec::new();
    let mut empty = None;
    if only.iter().any(|row| row != scale::ROW) || only.is_empty() {
        let measured = namespace.run(move || measure(rounds, &only));
        let measured = measured.map_err(|error| Error::Run(error.to_string()))??;
        if !args.json {
            print(&measured);
        }
        empty = measured.empty;
        rows = measured.rows;
    }
    if args.only.is_empty() || args.only.iter().any(|row| row == scale::ROW) {
        let row = scale::measure(rounds)?;
        if !args.json {
            scale::print(&row);
        }
        rows.push(row);
    }
    Ok(json!({
        "bench": "director",
        "rounds": rounds,
        "runs": RUNS,
        "empty_ns": empty,
        "rows": rows,
    }))
}

fn failed(error: impl ToString) -> Error {
    Error::Run(error.to_string())
}

/// The programs, with services to steer to.
struct Bench {
    kernel: Kernel,
    empty: Program,
    floor: Program,
}

impl Bench {
    /// With room for so many flows.
    fn new(flows: u64) -> Result<Self, Error> {
        let sizes = Sizes::small().with_flows(flows);
        let mut netlink = Netlink::open().map_err(failed)?;
        let (kernel, _) = Kernel::open(&mut netlink, sizes).map_err(failed)?;
        let mut object = Object::parse(YARDSTICKS).map_err(failed)?;
        let loaded = object.load(&kernel.maps.0, &BTreeMap::new());
        let mut programs = loaded.map_err(failed)?;
        let mut take = |name: &str| {
            let program = programs.remove(name);
            program.ok_or_else(|| Error::Run(format!("there is no program {name}")))
        };
        let bench = Self {
            empty: take("plimsoll_empty")?,
            floor: take("plimsoll_floor")?,
            kernel,
        };
        bench.configure()?;
        Ok(bench)
    }

    /// A service on port 80 of each VIP, with ten backends each and a Maglev-sized table.
    fn configure(&self) -> Result<(), Error> {
        let maps = &self.kernel.maps;
        // Next hops are given, and never asked for: a second of the programs is an hour.
        let mut config = self.kernel.config().map_err(failed)?;
        config.hz *= 3600;
        self.kernel.set_config(&config).map_err(failed)?;
        let vips = [
            (TUNNEL, Method::Tunnel, "10.1.0."),
            (DIRECT, Method::Dr, "10.1.0."),
            (NAT, Method::Nat, "10.2.0."),
            (TUNNEL6, Method::Tunnel, "fd01::"),
            (TUNNEL66, Method::Tunnel, "fd01::"),
        ];
        for (id, (vip, method, backends)) in (0_u32..).zip(vips) {
            let ip: IpAddr = vip.parse().map_err(failed)?;
            let key = Addr::from(ip);
            let value = Vip { id, flags: 0 };
            let written = match ip {
                IpAddr::V4(_) => maps.put("vips4", &key.words[0], &value),
                IpAddr::V6(_) => maps.put("vips6", &key, &value),
            };
            written.map_err(failed)?;
            maps.put("vip_addrs", &id, &key).map_err(failed)?;
            for proto in [TCP, UDP] {
                let listen = Listen {
                    vip: id,
                    port: 80_u16.to_be_bytes(),
                    proto,
                    pad: 0,
                };
                maps.put("listens", &listen, &id).map_err(failed)?;
            }
            let service = Service {
                flags: SERVICE_USED,
                sched: Sched::Hash as u32,
                key: 1,
                timeouts: [self.kernel.clock.hz() * 3600; STATES],
                ..Service::default()
            };
            maps.put("services", &id, &service).map_err(failed)?;
            for n in 0..10 {
                self.backend(id, id * 10 + n, method, &format!("{backends}{}", n + 1))?;
            }
            self.set(id)?;
        }
        Ok(())
    }

    fn backend(&self, service: u32, slot: u32, method: Method, ip: &str) -> Result<(), Error> {
        let ip: IpAddr = ip.parse().map_err(failed)?;
        let source: IpAddr = match ip {
            IpAddr::V4(_) => [10, 0, 0, 1].into(),
            IpAddr::V6(_) => [0xfd00, 0, 0, 0, 0, 0, 0, 1].into(),
        };
        let backend = Backend {
            flags: BACKEND_USED | BACKEND_NEW,
            generation: 1,
            method: method as u8,
            family: if ip.is_ipv4() { 4 } else { 6 },
            service,
            addr: ip.into(),
            weight: 1,
            outer: source.into(),
            ..Backend::default()
        };
        // The interface that test runs come by, so that XDP sends back.
        let hop = NextHop {
            dst: [2, 0, 0, 0, 0, 1],
            src: [2, 0, 0, 0, 0, 2],
            ifindex: 1,
            mtu: 1500,
            flags: NEXTHOP_XDP | NEXTHOP_VALID,
            result: 0,
        };
        let clock = self.kernel.clock;
        let live = Live {
            refresh: clock.now().wrapping_add(clock.hz() * 3599),
            hops: [hop; 2],
            ..Live::default()
        };
        let maps = &self.kernel.maps;
        maps.put("lives", &slot, &live).map_err(failed)?;
        maps.put("backends", &slot, &backend).map_err(failed)
    }

    fn set(&self, service: u32) -> Result<(), Error> {
        const SLOTS: u32 = 4093;
        let spec = MapSpec::new(MapKind::Array, "set", 4, 4, SLOTS + 1).flags(Map::INNER_MAP);
        let map = Map::create(&spec).map_err(failed)?;
        let slots = (0..SLOTS).map(|n| (service * 10 + n * 7 % 10) | 1 << 24);
        let values: Vec<u8> = std::iter::once(SLOTS)
            .chain(slots)
            .flat_map(u32::to_ne_bytes)
            .collect();
        let keys: Vec<u8> = (0..=SLOTS).flat_map(u32::to_ne_bytes).collect();
        map.update_many(&keys, &values).map_err(failed)?;
        let sets = self.kernel.maps.map("sets").map_err(failed)?;
        sets.set_inner(&service.to_ne_bytes(), &map).map_err(failed)
    }
}

/// Runs of one scenario in one round.
const RUNS: u32 = 4096;

/// Flows that there is room for: for all rows but those of more flows, and for those.
const FEW: u64 = 65_536;
const MANY: u64 = 4_000_000;

/// What was measured: the mean of `empty` in nanoseconds, and a row of each scenario.
struct Measured {
    empty: Option<f64>,
    rows: Vec<Value>,
}

fn measure(rounds: u32, only: &[String]) -> Result<Measured, Error> {
    let [small, fresh, full] = [Bench::new(FEW)?, Bench::new(FEW)?, Bench::new(FEW)?];
    let large = Bench::new(MANY)?;
    let of = |scenario: &Scenario| match scenario.known {
        true if u64::from(scenario.flows) > FEW => &large,
        true => &small,
        false if scenario.full => &full,
        false => &fresh,
    };
    let wanted = |s: &&Scenario| only.is_empty() || only.iter().any(|row| row == s.name);
    let scenarios: Vec<&Scenario> = SCENARIOS.iter().filter(wanted).collect();
    let context = TestContext {
        ingress_ifindex: 1,
        ..TestContext::default()
    };
    for scenario in scenarios.iter().filter(|s| s.known) {
        let to: IpAddr = scenario.to.parse().map_err(failed)?;
        for flow in 0..scenario.flows {
            for flags in [SYN, ACK] {
                let frame = frame(scenario, to, flow, flags);
                of(scenario)
                    .kernel
                    .xdp
                    .test_run(&frame, 1, &context)
                    .map_err(failed)?;
            }
        }
    }
    for scenario in scenarios.iter().filter(|s| s.full) {
        let to: IpAddr = scenario.to.parse().map_err(failed)?;
        for flow in 0..2 * FEW as u32 {
            let frame = frame(scenario, to, flow, scenario.flags);
            let program = &full.kernel.xdp;
            program.test_run(&frame, 1, &context).map_err(failed)?;
        }
    }
    // Nets of each, and of `floor`, round by round.
    let mut nets: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut empties = Vec::new();
    let mut next = 0;
    for round in 1..=rounds {
        progress(&format!("round {round} of {rounds}"));
        let tcp = &SCENARIOS[0];
        let to: IpAddr = tcp.to.parse().map_err(failed)?;
        let one = vec![frame(tcp, to, 0, ACK)];
        let empty = mean(&small.empty, &one, &context)?;
        empties.push(empty);
        if only.is_empty() {
            let floor = mean(&small.floor, &one, &context)?;
            nets.entry("floor").or_default().push(floor - empty);
            // What a table costs by itself as soon as its entries do not fit the nearest cache.
            let many: Vec<Vec<u8>> = (0..RUNS).map(|flow| frame(tcp, to, flow, ACK)).collect();
            mean(&small.floor, &many, &context)?;
            let floor = mean(&small.floor, &many, &context)?;
            nets.entry("floor-4k-flows")
                .or_default()
                .push(floor - empty);
        }
        for scenario in &scenarios {
            let to: IpAddr = scenario.to.parse().map_err(failed)?;
            let frames: Vec<Vec<u8>> = match scenario.flows {
                1 => vec![frame(scenario, to, 0, scenario.flags)],
                // As many flows as there are runs: none is that of the packet before.
                flows => (0..RUNS)
                    .map(|run| {
                        let flow = match scenario.known {
                            true => (run + next).wrapping_mul(2_654_435_761) % flows,
                            // From clients that no other scenario has.
                            false => 0x4000_0000 + next + run,
                        };
                        frame(scenario, to, flow, scenario.flags)
                    })
                    .collect(),
            };
            next = next.wrapping_add(RUNS);
            let kernel = &of(scenario).kernel;
            if scenario.known {
                mean(&kernel.xdp, &frames, &context)?;
            } else if !scenario.full {
                clear(kernel)?;
            }
            let mean = mean(&kernel.xdp, &frames, &context)?;
            nets.entry(scenario.name).or_default().push(mean - empty);
        }
    }
    progress("");
    let floor = nets
        .get("floor")
        .map(|nets| median(nets.clone()).unwrap_or_default());
    let rows = [("floor", None), ("floor-4k-flows", None)]
        .into_iter()
        .chain(scenarios.iter().map(|s| (s.name, s.aim)))
        .filter_map(|(name, aim)| {
            let net = median(nets.get(name)?.clone())?;
            let per_floor = floor.map(|floor| net / floor);
            Some(json!({"row": name, "net_ns": net, "aim_ns": aim, "per_floor": per_floor}))
        });
    let rows: Vec<Value> = rows.collect();
    Ok(Measured {
        empty: median(empties),
        rows,
    })
}

/// Forgets all flows.
fn clear(kernel: &Kernel) -> Result<(), Error> {
    for table in ["flows4", "flows6"] {
        let map = kernel.maps.map(table).map_err(failed)?;
        let info = map.info();
        let keys: Vec<u8> = (0..info.max_entries).flat_map(u32::to_ne_bytes).collect();
        let values = vec![0; info.max_entries as usize * info.value_size as usize];
        map.update_many(&keys, &values).map_err(failed)?;
    }
    Ok(())
}

/// The mean duration of runs, each on a packet of its own, without the slowest twentieth: a run that was
/// interrupted says nothing of the program.
fn mean(program: &Program, frames: &[Vec<u8>], context: &TestContext) -> Result<f64, Error> {
    let mut times = Vec::new();
    for frame in frames.iter().cycle().take(RUNS as usize) {
        let run = program.test_run(frame, 1, context).map_err(failed)?;
        times.push(run.duration_ns);
    }
    times.sort_unstable();
    times.truncate(times.len() - times.len() / 20);
    let sum: f64 = times.iter().map(|ns| f64::from(*ns)).sum();
    Ok(sum / times.len() as f64)
}

fn print(measured: &Measured) {
    println!(
        "ns per packet, net of `empty` ({:.1} ns with the timer's cost)\n",
        measured.empty.unwrap_or_default()
    );
    println!("{:<20} {:>8} {:>8} {:>8}", "row", "net", "aim", "× floor");
    for row in &measured.rows {
        let aim = row["aim_ns"]
            .as_f64()
            .map_or(String::new(), |ns| format!("{ns:.0}"));
        println!(
            "{:<20} {:>8.1} {:>8} {:>8.2}",
            row["row"].as_str().unwrap_or_default(),
            row["net_ns"].as_f64().unwrap_or_default(),
            aim,
            row["per_floor"].as_f64().unwrap_or_default(),
        );
    }
}
