//! From a service as it is wanted to what the programs go by; pure.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use plimsoll_balance::{Candidate, Table, Use};
use plimsoll_model::{
    Backend, BackendAddr, Forward, HashKey, Listen, MidStream, Mss, Ports, Proto, Service,
    ServiceSpec, State, Timeouts,
};

use crate::layout::{
    self, BACKEND_GONE, BACKEND_NEW, BACKEND_USED, Key, MIDSTREAM_DROP, MIDSTREAM_RESET,
    MIDSTREAM_SCHEDULE, MSS_FIT, Method, SERVICE_USED, STATES, Sched,
};

/// Numbers of the protocols in packets.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Times for states that no configuration knows, as IPVS 1.2.1's, but for `CLOSING`: both sides have
/// closed, and what comes late comes within two minutes.
const SYN: Duration = Duration::from_secs(60);
const MIDDLE: Duration = Duration::from_secs(60);
const FIN: Duration = Duration::from_secs(120);
const CLOSING: Duration = Duration::from_secs(120);
const RESET: Duration = Duration::from_secs(10);

/// A place where packets are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The VIP.
    pub(crate) ip: IpAddr,
    /// The protocol's number.
    pub(crate) proto: u8,
    /// The ports.
    pub(crate) ports: Ports,
}

/// The numbers of the protocols that there can be.
pub(crate) const PROTOCOLS: [u8; 2] = [TCP, UDP];

impl Place {
    /// All places of an address and protocol, in their order: single ports, ranges, all ports.
    pub(crate) fn any(ip: IpAddr, proto: u8) -> RangeInclusive<Self> {
        let of = |ports| Self { ip, proto, ports };
        of(Ports::One(0))..=of(Ports::All)
    }

    /// All ranges of ports of an address and protocol.
    pub(crate) fn all_ranges(ip: IpAddr, proto: u8) -> RangeInclusive<Self> {
        let of = |ports| Self { ip, proto, ports };
        of(Ports::Range(0, 0))..=of(Ports::Range(u16::MAX, u16::MAX))
    }

    /// Where a listen takes packets; none for listens that this plane cannot have.
    pub(crate) fn of(listen: &Listen) -> Option<Self> {
        let Listen::Socket {
            ip: Some(ip),
            ports,
            proto,
        } = listen
        else {
            return None;
        };
        let proto = match proto {
            Proto::Tcp => TCP,
            Proto::Udp => UDP,
            Proto::Sctp | Proto::Http => return None,
        };
        Some(Self {
            ip: *ip,
            proto,
            ports: *ports,
        })
    }
}

/// The protocol of this number.
pub(crate) fn proto_of(number: u8) -> Option<Proto> {
    match number {
        TCP => Some(Proto::Tcp),
        UDP => Some(Proto::Udp),
        _ => None,
    }
}

/// A service for the programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Compiled {
    /// But for its turn, its times in jiffies.
    pub(crate) service: layout::Service,
    /// How long a flow is remembered, by state.
    pub(crate) timeouts: [Duration; STATES],
    /// The backends in the order of their addresses, the sorry server last; slots are not given out
    /// here.
    pub(crate) backends: Vec<CompiledBackend>,
    /// The set: places in `backends`.
    pub(crate) set: Box<[u32]>,
}

/// One backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CompiledBackend {
    /// Its identity.
    pub(crate) addr: BackendAddr,
    /// But for its generation, its service and what is found out about the way there.
    pub(crate) value: layout::Backend,
    /// It is draining: its flows end when the time for that is over.
    pub(crate) draining: bool,
}

/// What the programs are to go by for a service that [`crate::check::service`] passes.
pub(crate) fn compile(service: &Service) -> Compiled {
    let spec = &service.spec;
    let backends: Vec<&Backend> = service.backends.values().map(AsRef::as_ref).collect();
    let candidates: Vec<Candidate> = backends
        .iter()
        .map(|backend| Candidate {
            addr: backend.addr.clone(),
            weight: if backend.takes_new() {
                backend.weight
            } else {
                0
            },
            ready_since: 0,
        })
        .collect();
    let mut compiled: Vec<CompiledBackend> = backends.iter().map(|backend| one(backend)).collect();
    let table = Table::new(&spec.scheduler, &candidates);
    let (by, mut set) = table.map_or((Use::Least, Box::default()), |t| (t.by, t.entries));
    let sorry = spec.sorry.as_ref().filter(|sorry| sorry.takes_new());
    if let Some(sorry) = sorry
        && !service.backends.contains_key(&sorry.addr)
    {
        if set.is_empty() {
            set = Box::new([compiled.len() as u32]);
        }
        compiled.push(one(sorry));
    }
    Compiled {
        service: values(spec, by),
        timeouts: timeouts(spec),
        backends: compiled,
        set,
    }
}

fn values(spec: &ServiceSpec, by: Use) -> layout::Service {
    let (sched, key) = match by {
        Use::Hash => (Sched::Hash, key_of(spec.scheduler.hash)),
        Use::HashDestination => (Sched::Hash, Key::Destination),
        Use::Turns => (Sched::Turn, Key::Source),
        Use::Chance => (Sched::Random, Key::Source),
        Use::TwoChances => (Sched::Twos, Key::Source),
        Use::LeastEqual => (Sched::Lc, Key::Source),
        Use::Least => (Sched::Least, Key::Source),
        Use::LeastToCome => (Sched::Sed, Key::Source),
        Use::IdleOrLeast => (Sched::Nq, Key::Source),
        Use::First => (Sched::First, Key::Source),
        Use::FirstWithRoom => (Sched::Ovf, Key::Source),
    };
    layout::Service {
        flags: SERVICE_USED,
        sched: sched as u32,
        key: key as u32,
        // A flow that lost its entry finds its backend again by its hash; by another scheduler it
        // would meet one that does not know it, so the client is told at once.
        midstream: match spec.packets.mid_stream {
            Some(MidStream::Rehash) => MIDSTREAM_SCHEDULE,
            Some(MidStream::Drop) => MIDSTREAM_DROP,
            Some(MidStream::Reset) => MIDSTREAM_RESET,
            None if sched == Sched::Hash => MIDSTREAM_SCHEDULE,
            None => MIDSTREAM_RESET,
        },
        mss: match spec.packets.mss {
            Some(Mss::Bytes(bytes)) => bytes.into(),
            Some(Mss::Fit) => MSS_FIT,
            None => 0,
        },
        seed: spec.scheduler.seed,
        ..layout::Service::default()
    }
}

fn key_of(hash: HashKey) -> Key {
    match hash {
        HashKey::Source => Key::Source,
        HashKey::SourcePort => Key::SourcePort,
    }
}

fn timeouts(spec: &ServiceSpec) -> [Duration; STATES] {
    // Zero is no limit, which jiffies have not: as long as they can count.
    let or_ever = |time: Duration| if time.is_zero() { Duration::MAX } else { time };
    let mut timeouts = [Duration::ZERO; STATES];
    for (state, time) in [
        (layout::State::Syn, SYN),
        (layout::State::Middle, MIDDLE),
        (
            layout::State::Established,
            or_ever(spec.timeouts.idle.unwrap_or(Timeouts::IDLE_PACKETS)),
        ),
        (layout::State::Fin, FIN),
        (layout::State::Closing, CLOSING),
        (layout::State::Reset, RESET),
        (layout::State::Udp, or_ever(spec.timeouts.udp)),
    ] {
        if let Some(place) = timeouts.get_mut(state as usize) {
            *place = time;
        }
    }
    timeouts
}

fn one(backend: &Backend) -> CompiledBackend {
    let mut value = layout::Backend {
        flags: BACKEND_USED,
        weight: backend.weight,
        upper: backend.upper,
        lower: backend.lower,
        method: match backend.forward {
            Forward::Proxy => Method::Local,
            Forward::Dr => Method::Dr,
            Forward::Tunnel(_) => Method::Tunnel,
            Forward::Nat => Method::Nat,
        } as u8,
        ..layout::Backend::default()
    };
    if backend.takes_new() {
        value.flags |= BACKEND_NEW;
    }
    if backend.status.state == State::Down {
        value.flags |= BACKEND_GONE;
    }
    if let BackendAddr::Ip(ip, port) = &backend.addr {
        value.family = if ip.is_ipv4() { 4 } else { 6 };
        value.addr = (*ip).into();
        if backend.forward == Forward::Nat {
            value.port = port.unwrap_or_default().to_be_bytes();
        }
    }
    CompiledBackend {
        addr: backend.addr.clone(),
        value,
        draining: backend.status.state == State::Draining,
    }
}

#[cfg(test)]
mod tests {
    use plimsoll_model::{Origin, SchedulerKind, Status};

    use super::*;

    fn service(kind: SchedulerKind, weights: &[u32]) -> Service {
        let origin = Origin::new("test", "web");
        let listens = vec!["10.0.0.9:80/tcp".parse().unwrap()];
        let mut spec = ServiceSpec::new("web".parse().unwrap(), origin.clone(), listens);
        spec.scheduler.kind = kind;
        let backends = weights.iter().enumerate().map(|(i, weight)| {
            let addr = format!("10.0.0.{}", i + 1).parse().unwrap();
            let mut backend = Backend::new(addr, origin.clone());
            backend.forward = Forward::Dr;
            backend.weight = *weight;
            backend
        });
        Service::new(spec, backends)
    }

    #[test]
    fn those_that_take_nothing_new_are_in_no_set() {
        let mut web = service(SchedulerKind::Rr, &[1, 0, 1, 1]);
        for (addr, state) in [("10.0.0.3", State::Draining), ("10.0.0.4", State::Down)] {
            let addr = addr.parse().unwrap();
            let backend = std::sync::Arc::make_mut(web.backends.get_mut(&addr).unwrap());
            backend.status = Status::new(state, "");
        }
        let compiled = compile(&web);
        assert_eq!(*compiled.set, [0]);
        let flags: Vec<u32> = compiled.backends.iter().map(|b| b.value.flags).collect();
        let used = BACKEND_USED;
        assert_eq!(flags, [used | BACKEND_NEW, used, used, used | BACKEND_GONE]);
        assert!(compiled.backends[2].draining);
    }

    #[test]
    fn the_sorry_server_stands_in_for_all() {
        let mut web = service(SchedulerKind::Wlc, &[0]);
        let spec = std::sync::Arc::make_mut(&mut web.spec);
        let mut sorry = Backend::new("10.0.0.7".parse().unwrap(), spec.origin.clone());
        sorry.forward = Forward::Dr;
        spec.sorry = Some(sorry);
        let compiled = compile(&web);
        assert_eq!(*compiled.set, [1]);
        assert_eq!(compiled.backends[1].addr, "10.0.0.7".parse().unwrap());
    }

    #[test]
    fn what_mid_stream_packets_lead_to_depends_on_the_scheduler() {
        let of = |kind| compile(&service(kind, &[1])).service.midstream;
        assert_eq!(of(SchedulerKind::Mh), MIDSTREAM_SCHEDULE);
        assert_eq!(of(SchedulerKind::Sh), MIDSTREAM_SCHEDULE);
        assert_eq!(of(SchedulerKind::Wlc), MIDSTREAM_RESET);
    }

    #[test]
    fn established_flows_outlive_common_keep_alives() {
        for (said, established) in [
            (None, Duration::from_secs(2 * 3600 + 4 * 60)),
            (Some(Duration::ZERO), Duration::MAX),
            (Some(Duration::from_secs(60)), Duration::from_secs(60)),
        ] {
            let mut web = service(SchedulerKind::Mh, &[1]);
            std::sync::Arc::make_mut(&mut web.spec).timeouts.idle = said;
            let timeouts = compile(&web).timeouts;
            assert_eq!(timeouts[layout::State::Established as usize], established);
        }
    }
}
