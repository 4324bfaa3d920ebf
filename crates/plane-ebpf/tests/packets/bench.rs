//! A director that packets are given to one by one.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::Stdio;
use std::sync::Arc;

use plimsoll_model::{
    Backend, Desired, Forward, Origin, SchedulerKind, Service, ServiceSpec, Tunnel,
};
use plimsoll_plane::Plane;
use plimsoll_plane_ebpf::kernel::Clock;
use plimsoll_plane_ebpf::layout::{self, Config, Live, Traffic};
use plimsoll_plane_ebpf::sys::{Map, Netlink, Program, TestContext, hooks};
use plimsoll_plane_ebpf::{EbpfPlane, Interfaces, Options, Sizes, TunnelSources};
use plimsoll_testkit::{Namespace, root_or_skip};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use crate::build::Packet;
use crate::read::{Sent, read};

pub(crate) const VIP: &str = "10.0.200.1";
pub(crate) const VIP6: &str = "fd00::200:1";
pub(crate) const IPIP: Forward = Forward::Tunnel(Tunnel::Ipip);

const REASONS: &str = include_str!("../../../../bpf/reasons.h");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    Tc,
    Xdp,
}

/// What became of a packet.
#[derive(Clone, Debug)]
pub(crate) enum Became {
    /// Left to the host, as it was.
    Passed,
    Dropped,
    Sent(Box<Sent>),
}

impl Became {
    /// The packet that was sent.
    pub(crate) fn sent(self) -> Sent {
        match self {
            Became::Sent(sent) => *sent,
            other => panic!("not sent: {other:?}"),
        }
    }

    pub(crate) fn is_passed(&self) -> bool {
        matches!(self, Became::Passed)
    }

    pub(crate) fn is_dropped(&self) -> bool {
        matches!(self, Became::Dropped)
    }
}

pub(crate) struct Bench {
    pub(crate) hook: Hook,
    plane: Option<EbpfPlane>,
    link: u32,
    netlink: Netlink,
    maps: BTreeMap<String, Map>,
    program: Option<Program>,
}

/// A test and its name.
pub(crate) type Test = (&'static str, fn(&mut Bench));

/// Runs tests with either program, each time in a namespace of its own. The director is 10.0.0.1 and
/// fd00::1 on `eth0`; backends are 10.0.1.N and fd00::1:N, clients behind the router 10.0.0.254.
/// The tests of one call share it, and each begins with nothing in it.
pub(crate) fn both(group: &str, tests: &'static [Test]) {
    if !root_or_skip(group) {
        return;
    }
    for hook in [Hook::Tc, Hook::Xdp] {
        let namespace = Namespace::new("packets").unwrap();
        wire(&namespace);
        let all = move || {
            let mut bench = Bench::new(hook);
            for (name, test) in tests {
                eprintln!("{hook:?}: {name}");
                test(&mut bench);
                bench.clear();
            }
        };
        let result = namespace
            .run(move || std::panic::catch_unwind(all))
            .unwrap();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    }
}

fn wire(namespace: &Namespace) {
    let mut batch = String::from(
        "link add eth0 address 02:00:00:00:00:01 type veth peer name eth1\n\
         link set eth1 up\nlink set eth0 up\n\
         address add 10.0.0.1/16 dev eth0\n\
         address add fd00::1/64 dev eth0 nodad\n\
         neighbour add 10.0.0.254 lladdr 02:00:00:00:00:fe nud permanent dev eth0\n\
         neighbour add fd00::fe lladdr 02:00:00:00:00:fe nud permanent dev eth0\n\
         route add default via 10.0.0.254\nroute add ::/0 via fd00::fe\n",
    );
    for n in 1..10 {
        batch += &format!(
            "neighbour add 10.0.1.{n} lladdr 02:00:00:00:04:0{n} nud permanent dev eth0\n\
             neighbour add fd00::1:{n} lladdr 02:00:00:00:06:0{n} nud permanent dev eth0\n"
        );
    }
    let mut ip = namespace.command("ip");
    let mut ip = ip
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    ip.stdin
        .take()
        .unwrap()
        .write_all(batch.as_bytes())
        .unwrap();
    assert!(ip.wait().unwrap().success());
    let sysctls = || {
        for path in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{path}"), "1").unwrap();
        }
    };
    namespace.run(sysctls).unwrap();
}

/// The link-layer address of a backend.
pub(crate) fn mac(n: u8) -> [u8; 6] {
    [2, 0, 0, 0, 4, n]
}

pub(crate) fn mac6(n: u8) -> [u8; 6] {
    [2, 0, 0, 0, 6, n]
}

fn options(hook: Hook) -> Options {
    let xdp = match hook {
        Hook::Xdp => vec!["eth0".to_owned()],
        Hook::Tc => Vec::new(),
    };
    Options {
        sizes: Sizes::small(),
        tunnels: TunnelSources::default(),
        interfaces: Interfaces {
            tc: vec!["eth0".to_owned()],
            xdp,
        },
    }
}

impl Bench {
    fn new(hook: Hook) -> Self {
        let mut netlink = Netlink::open().unwrap();
        let link = netlink.link_named("eth0").unwrap().index;
        let plane = Some(EbpfPlane::start(options(hook)).unwrap());
        Self {
            hook,
            plane,
            link,
            netlink,
            maps: BTreeMap::new(),
            program: None,
        }
    }

    /// Forgets all services and flows.
    pub(crate) fn clear(&mut self) {
        self.bring([]);
        for index in 0..self.map("flows4").info().max_entries {
            self.put("flows4", &index, &layout::Bucket4::default());
        }
        for index in 0..self.map("flows6").info().max_entries {
            self.put("flows6", &index, &layout::Bucket6::default());
        }
        for slot in 0..Sizes::small().backends {
            self.put("lives", &slot, &Live::default());
        }
        let mut config: Config = self.get("config", &0u32).unwrap();
        (config.sweep4, config.sweep6) = (1, 1);
        self.put("config", &0u32, &config);
        self.plane().read().unwrap();
    }

    /// Brings the plane to these services.
    pub(crate) fn bring(&mut self, services: impl IntoIterator<Item = Service>) {
        let services = services
            .into_iter()
            .map(|s| (s.name().clone(), Arc::new(s)));
        let to = Desired {
            services: services.collect(),
            routes: BTreeMap::new(),
        };
        let plan = self.plane().read().unwrap().diff(&to);
        for item in self.plane().apply(&plan) {
            assert_eq!(item.result, Ok(()), "{}", item.subject);
        }
        assert_eq!(self.plane().read().unwrap(), to);
        assert_eq!(self.plane().faults(), &BTreeMap::new());
        if self.program.is_none() {
            self.find_program();
        }
    }

    pub(crate) fn plane(&mut self) -> &mut EbpfPlane {
        self.plane.as_mut().unwrap()
    }

    /// Ends the plane's process, so to speak, does something, and starts another. What is attached in
    /// between is given packets by whoever does something.
    pub(crate) fn restart(&mut self, between: impl FnOnce(&mut Self)) {
        self.plane = None;
        self.program = None;
        self.maps.clear();
        between(self);
        self.plane = Some(EbpfPlane::start(options(self.hook)).unwrap());
        if !self.attached().is_empty() {
            self.find_program();
        }
    }

    pub(crate) fn netlink(&mut self) -> &mut Netlink {
        &mut self.netlink
    }

    /// The programs that are attached at the hook, in their order.
    pub(crate) fn attached(&mut self) -> Vec<u32> {
        let name = match self.hook {
            Hook::Tc => "plimsoll_tc",
            Hook::Xdp => "plimsoll_xdp",
        };
        let ours = hooks::ours(&mut self.netlink).unwrap();
        let here = ours.iter().filter(|(_, attached)| attached.name == name);
        here.map(|(_, attached)| attached.id).collect()
    }

    /// Gives packets to the first program that is attached, and looks into its maps.
    pub(crate) fn find_program(&mut self) {
        let program = Program::from_id(self.attached()[0]).unwrap();
        let maps = program.maps().unwrap();
        self.maps = maps.into_iter().map(|m| (m.name().to_owned(), m)).collect();
        self.program = Some(program);
    }

    fn context(&self) -> TestContext {
        match self.hook {
            Hook::Tc => TestContext {
                ifindex: self.link,
                ..TestContext::default()
            },
            Hook::Xdp => TestContext {
                ingress_ifindex: self.link,
                ..TestContext::default()
            },
        }
    }

    /// Gives the program a frame, and reads what it made of it.
    pub(crate) fn send_frame(&self, frame: &[u8]) -> Became {
        self.try_frame(frame).unwrap()
    }

    /// The same; what is wrong with the packet that was sent.
    pub(crate) fn try_frame(&self, frame: &[u8]) -> Result<Became, String> {
        let program = self.program.as_ref().unwrap();
        let run = program.test_run(frame, 1, &self.context());
        let run = run.map_err(|error| error.to_string())?;
        // Passed, dropped, sent back, sent on.
        let (pass, drop, sent) = match self.hook {
            Hook::Tc => (u32::MAX, 2, [7, 7]),
            Hook::Xdp => (2, 1, [3, 4]),
        };
        if run.retval == drop {
            return Ok(Became::Dropped);
        }
        if run.retval == pass {
            return match run.data_out == frame {
                true => Ok(Became::Passed),
                false => Err("passed, and not as it was".to_owned()),
            };
        }
        if !sent.contains(&run.retval) {
            return Err(format!("verdict {}", run.retval));
        }
        match read(&run.data_out) {
            Ok(sent) => Ok(Became::Sent(Box::new(sent))),
            Err(wrong) => Err(format!("{wrong}: {:02x?}", run.data_out)),
        }
    }

    pub(crate) fn send(&self, packet: &Packet) -> Became {
        self.send_frame(&packet.frame())
    }

    /// What the program made of a frame that it sent on.
    pub(crate) fn send_raw(&self, frame: &[u8]) -> Vec<u8> {
        assert!(matches!(self.send_frame(frame), Became::Sent(_)));
        let program = self.program.as_ref().unwrap();
        program
            .test_run(frame, 1, &self.context())
            .unwrap()
            .data_out
    }

    /// Gives outer headers of tunnels these sources.
    pub(crate) fn set_tunnel_sources(&self, sources: TunnelSources) {
        let mut config: Config = self.get("config", &0u32).unwrap();
        config.set_tunnel_sources(sources);
        self.put("config", &0u32, &config);
    }

    /// Lets what routers said of the way to a backend be forgotten, as after its time.
    pub(crate) fn forget_path(&self, addr: &str) {
        let mut live = self.live(addr);
        assert_ne!(live.path_mtu, 0);
        live.path_until = live.refresh.wrapping_sub(1 << 19);
        self.put("lives", &self.slot(addr), &live);
        self.refresh(addr);
    }

    /// Has the way to a backend looked up again by its next packet.
    pub(crate) fn refresh(&self, addr: &str) {
        let mut live = self.live(addr);
        live.refresh = live.refresh.wrapping_sub(1 << 20);
        self.put("lives", &self.slot(addr), &live);
    }

    /// As if the way to a backend had never been looked up, by a clock that was so far ahead.
    pub(crate) fn never_looked_up(&self, addr: &str, ahead: u32) {
        let live = layout::Live {
            refresh: self.now().wrapping_add(ahead),
            ..layout::Live::default()
        };
        self.put("lives", &self.slot(addr), &live);
    }

    /// What the clock of the programs says.
    pub(crate) fn now(&self) -> u32 {
        Clock::read().unwrap().now()
    }

    /// Sends a packet by direct routing; the number of the backend that got it.
    pub(crate) fn chosen(&self, packet: &Packet) -> u8 {
        self.send(packet).sent().to[5]
    }

    /// Gives the program a frame that has to be dropped, or at least counted, for this reason alone.
    pub(crate) fn counted(&self, reason: &str, frame: &[u8]) -> Became {
        let before = self.reasons();
        let became = self.send_frame(frame);
        let rose: Vec<(&str, u64)> = (self.reasons().into_iter().zip(before))
            .filter(|((_, after), (_, before))| after != before)
            .map(|((name, after), (_, before))| (name, after - before))
            .collect();
        assert_eq!(rose, [(reason, 1)], "{became:?}");
        became
    }

    /// How often each reason was counted.
    pub(crate) fn reasons(&self) -> Vec<(&'static str, u64)> {
        let names = REASONS
            .lines()
            .filter_map(|line| line.strip_prefix("REASON("));
        let names = names
            .filter_map(|line| line.split_once(','))
            .map(|(name, _)| name);
        let map = self.map("reasons");
        let mut sums = vec![0; map.info().max_entries as usize];
        map.for_each(|key, value| {
            let place = u32::read_from_bytes(key).unwrap() as usize;
            let values = map.per_cpu(value).map(|v| u64::read_from_bytes(v).unwrap());
            sums[place] = values.sum();
        })
        .unwrap();
        names.zip(sums).collect()
    }

    pub(crate) fn map(&self, name: &str) -> &Map {
        &self.maps[name]
    }

    pub(crate) fn get<V>(&self, map: &str, key: &(impl IntoBytes + Immutable)) -> Option<V>
    where
        V: FromZeros + FromBytes + IntoBytes,
    {
        let mut value = V::new_zeroed();
        let found = self
            .map(map)
            .lookup_into(key.as_bytes(), value.as_mut_bytes());
        found.unwrap().then_some(value)
    }

    pub(crate) fn put(
        &self,
        map: &str,
        key: &(impl IntoBytes + Immutable),
        value: &(impl IntoBytes + Immutable),
    ) {
        self.map(map)
            .update(key.as_bytes(), value.as_bytes(), 0)
            .unwrap();
    }

    pub(crate) fn on_each_cpu<V: FromBytes>(
        &self,
        map: &str,
        key: &(impl IntoBytes + Immutable),
    ) -> Vec<V> {
        let all = self
            .map(map)
            .lookup_per_cpu(key.as_bytes())
            .unwrap()
            .unwrap();
        all.iter()
            .map(|value| V::read_from_bytes(value).unwrap())
            .collect()
    }

    /// The slot that has a backend of this address.
    pub(crate) fn slot(&self, addr: &str) -> u32 {
        let wanted = layout::Addr::from(addr.parse::<std::net::IpAddr>().unwrap());
        let is = |slot: &u32| {
            let backend: layout::Backend = self.get("backends", slot).unwrap();
            backend.flags & layout::BACKEND_USED != 0 && backend.addr == wanted
        };
        (0..Sizes::small().backends).find(is).unwrap()
    }

    pub(crate) fn live(&self, addr: &str) -> Live {
        self.get("lives", &self.slot(addr)).unwrap()
    }

    /// Active and other flows of a backend.
    pub(crate) fn counts(&self, addr: &str) -> (u32, u32) {
        let live = self.live(addr);
        (live.active, live.inactive)
    }

    /// What a backend was given, over all cores.
    pub(crate) fn traffic(&self, addr: &str) -> Traffic {
        let mut sum = Traffic::default();
        for one in self.on_each_cpu::<Traffic>("traffic", &self.slot(addr)) {
            sum.packets_in += one.packets_in;
            sum.bytes_in += one.bytes_in;
            sum.packets_out += one.packets_out;
            sum.bytes_out += one.bytes_out;
            sum.flows += one.flows;
            sum.resets += one.resets;
        }
        sum
    }
}

/// A service of these listens and backends, which take flows in turn.
pub(crate) fn service(
    name: &str,
    listens: &[&str],
    forward: Forward,
    backends: &[&str],
) -> Service {
    by(SchedulerKind::Rr, name, listens, forward, backends)
}

pub(crate) fn by(
    kind: SchedulerKind,
    name: &str,
    listens: &[&str],
    forward: Forward,
    backends: &[&str],
) -> Service {
    let origin = Origin::new("test", "packets");
    let listens = listens.iter().map(|l| l.parse().unwrap()).collect();
    let mut spec = ServiceSpec::new(name.parse().unwrap(), origin.clone(), listens);
    spec.scheduler.kind = kind;
    let backends = backends.iter().map(|addr| {
        let mut backend = Backend::new(addr.parse().unwrap(), origin.clone());
        backend.forward = forward;
        backend
    });
    Service::new(spec, backends)
}

/// Changes a backend of a service.
pub(crate) fn change(service: &mut Service, addr: &str, change: impl FnOnce(&mut Backend)) {
    let backend = service.backends.get_mut(&addr.parse().unwrap()).unwrap();
    change(Arc::make_mut(backend));
}
