//! What the plane tells: counts, flows, and where a packet would go.

use std::net::{IpAddr, SocketAddr};

use plimsoll_model::{BackendAddr, Listen, Name, Ports};
use plimsoll_plane::{
    BackendCounters, Counters, Explanation, Flow, FlowFilter, FlowPage, PacketCounters,
    ServiceCounters, Tuple,
};

use crate::books::slot_of;
use crate::compile::{Place, proto_of};
use crate::hash;
use crate::layout::{
    self, BACKEND_NEW, Bucket4, Bucket6, FLOW_REPLY, Flow4, Flow6, Key, Sched, State, Traffic,
};
use crate::path::{self, Path};
use crate::plane::{EbpfPlane, Entry};
use crate::reasons::REASONS;
use crate::sys::net::RouteKind;
use crate::sys::{Netlink, Result};

/// Flows of a page, if nothing is said.
const PAGE: usize = 1000;
/// `SCHED_HASH`'s tries, as `bpf/schedule.h` has them.
const TRIES: u32 = 128;
/// So many backends are told of where any of them may be chosen.
const SHOWN: usize = 16;

/// One flow of either family, of the client's direction.
struct Seen {
    client: SocketAddr,
    vip: SocketAddr,
    word: u32,
    slot: u32,
    seen: u32,
}

impl From<&Flow4> for Seen {
    fn from(flow: &Flow4) -> Self {
        let ip = |word: u32| IpAddr::V4(word.to_ne_bytes().into());
        Self {
            client: SocketAddr::new(ip(flow.src), u16::from_be_bytes(flow.sport)),
            vip: SocketAddr::new(ip(flow.dst), u16::from_be_bytes(flow.dport)),
            word: flow.word,
            slot: flow.slot,
            seen: flow.seen,
        }
    }
}

impl From<&Flow6> for Seen {
    fn from(flow: &Flow6) -> Self {
        let ip = |words: [u32; 4]| layout::Addr { words }.ip(6);
        Self {
            client: SocketAddr::new(ip(flow.src), u16::from_be_bytes(flow.sport)),
            vip: SocketAddr::new(ip(flow.dst), u16::from_be_bytes(flow.dport)),
            word: flow.word,
            slot: flow.slot,
            seen: flow.seen,
        }
    }
}

impl EbpfPlane {
    /// Counts of all services. What cannot be read counts as nothing.
    pub(crate) fn count(&self) -> Counters {
        let services = self.held.services.values().map(|service| {
            let entry = self.entries.get(service.name());
            let backends: Vec<_> = (service.backends.keys())
                .map(|addr| {
                    let slot = entry.and_then(|entry| entry.slots.get(addr));
                    let counts = slot.map(|slot| self.count_backend(*slot));
                    (addr.clone(), counts.unwrap_or_default())
                })
                .collect();
            ServiceCounters {
                name: service.name().to_string(),
                total: backends.iter().map(|(_, counts)| counts.connections).sum(),
                backends,
                ..ServiceCounters::default()
            }
        });
        let services: Vec<_> = services.collect();
        Counters {
            packets: Some(self.count_packets()),
            services,
            ..Counters::default()
        }
    }

    fn count_packets(&self) -> PacketCounters {
        let maps = &self.kernel.maps;
        let noted = (0_u32..).zip(REASONS).map(|(index, name)| {
            let counts: Vec<u64> = maps.on_each_cpu("reasons", &index).unwrap_or_default();
            (name.to_owned(), counts.into_iter().sum())
        });
        let slots = self.entries.values().flat_map(|entry| entry.slots.values());
        let flows = slots.map(|slot| {
            let live: Option<layout::Live> = maps.get("lives", slot).ok().flatten();
            live.map_or(0, |l| u64::from(l.active) + u64::from(l.inactive))
        });
        let room = |buckets: u32| u64::from(buckets) * layout::WAYS as u64;
        PacketCounters {
            noted: noted.collect(),
            flows: flows.sum(),
            room_v4: room(self.kernel.sizes.buckets4),
            room_v6: room(self.kernel.sizes.buckets6),
        }
    }

    fn count_backend(&self, slot: u32) -> BackendCounters {
        let maps = &self.kernel.maps;
        let live: Option<layout::Live> = maps.get("lives", &slot).ok().flatten();
        let live = live.unwrap_or_default();
        let traffic: Vec<Traffic> = maps.on_each_cpu("traffic", &slot).unwrap_or_default();
        let sum = |of: fn(&Traffic) -> u64| traffic.iter().map(of).sum();
        let flows = sum(|t| t.flows);
        BackendCounters {
            active: live.active.into(),
            connections: flows,
            requests: flows,
            bytes_in: sum(|t| t.bytes_in),
            bytes_out: sum(|t| t.bytes_out),
            packets_in: sum(|t| t.packets_in),
            packets_out: sum(|t| t.packets_out),
            overloaded: live.overloaded != 0,
            ..BackendCounters::default()
        }
    }

    /// Flows from a cursor on: the IPv4 table's buckets, then the IPv6 table's.
    pub(crate) fn list_flows(&self, filter: &FlowFilter, cursor: u64) -> Result<FlowPage> {
        let limit = match filter.limit {
            0 => PAGE,
            limit => limit,
        };
        let (end4, end6) = (
            u64::from(self.kernel.sizes.buckets4),
            u64::from(self.kernel.sizes.buckets6),
        );
        let mut page = FlowPage::default();
        let mut at = cursor;
        while at < end4 + end6 {
            if page.flows.len() >= limit {
                page.next = Some(at);
                break;
            }
            let seen = match at.checked_sub(end4) {
                None => self.bucket(true, at as u32)?,
                Some(at) => self.bucket(false, at as u32)?,
            };
            page.flows
                .extend(seen.iter().filter_map(|seen| self.flow(seen, filter)));
            at += 1;
        }
        Ok(page)
    }

    /// The flows in a bucket of one family's table.
    fn bucket(&self, v4: bool, index: u32) -> Result<Vec<Seen>> {
        fn used<F>(tags: &[u16], flows: &[F]) -> Vec<Seen>
        where
            for<'f> Seen: From<&'f F>,
        {
            let flows = tags.iter().zip(flows);
            let used = flows.filter(|(tag, _)| **tag != 0);
            used.map(|(_, flow)| flow.into()).collect()
        }
        let maps = &self.kernel.maps;
        Ok(if v4 {
            let bucket = maps.get::<Bucket4>("flows4", &index)?.unwrap_or_default();
            used(&bucket.tags, &bucket.flows)
        } else {
            let bucket = maps.get::<Bucket6>("flows6", &index)?.unwrap_or_default();
            used(&bucket.tags, &bucket.flows)
        })
    }

    fn flow(&self, seen: &Seen, filter: &FlowFilter) -> Option<Flow> {
        if seen.word & FLOW_REPLY != 0 {
            return None;
        }
        let (service, backend) = self.owner_of(seen.slot)?;
        let unwanted = |wanted: bool| !wanted;
        if filter
            .service
            .as_ref()
            .is_some_and(|name| unwanted(name == service))
            || filter
                .backend
                .as_ref()
                .is_some_and(|addr| unwanted(addr == backend))
        {
            return None;
        }
        Some(Flow {
            client: seen.client,
            listen: Listen::Socket {
                ip: Some(seen.vip.ip()),
                ports: Ports::One(seen.vip.port()),
                proto: proto_of((seen.word & 0xff) as u8)?,
            },
            service: Some(service.clone()),
            backend: Some(backend.clone()),
            phase: State::of_word(seen.word).as_str(),
            age: self.kernel.clock.since(seen.seen),
        })
    }

    /// Where a packet would go now, and why.
    pub(crate) fn tell(&self, tuple: &Tuple) -> Explanation {
        let mut told = Explanation::default();
        let proto = match tuple.proto.transport() {
            plimsoll_model::Proto::Tcp => 6,
            plimsoll_model::Proto::Udp => 17,
            _ => 0,
        };
        let Some((place, name)) = self.place_of(tuple.destination, proto) else {
            let why = format!("no service of this plane listens on {}", tuple.destination);
            told.steps.push(why.clone());
            told.nowhere = Some(why);
            return told;
        };
        let taken = Listen::Socket {
            ip: Some(place.ip),
            ports: place.ports,
            proto: tuple.proto.transport(),
        };
        told.steps.push(format!(
            "{} is listen {taken} of service `{name}`",
            tuple.destination
        ));
        told.service = Some(name.clone());
        if self.is_own(tuple.client.ip()) {
            let why = format!(
                "{} is an address of this host: what it sends to itself does not pass an interface's \
                 ingress, where packets are taken",
                tuple.client.ip()
            );
            told.steps.push(why.clone());
            told.nowhere = Some(why);
            return told;
        }
        if !self.faults.is_empty() {
            let faults = self
                .faults
                .iter()
                .map(|(link, why)| format!("{link}: {why}"));
            told.steps.push(format!(
                "packets are not taken at every interface: {}",
                faults.collect::<Vec<_>>().join("; ")
            ));
        }
        let Some(entry) = self.entries.get(name) else {
            return told;
        };
        match self.known_flow(tuple, proto) {
            Some((slot, state)) => {
                told.steps
                    .push(format!("its flow is known and {}", state.as_str()));
                self.tell_backend(&mut told, slot);
            }
            None => self.tell_choice(&mut told, entry, tuple),
        }
        told
    }

    fn place_of(&self, to: SocketAddr, proto: u8) -> Option<(&Place, &Name)> {
        let ip = to.ip();
        let one = Ports::One(to.port());
        let takes =
            |place: &&Place| place.ip == ip && place.proto == proto && place.ports.overlaps(one);
        let rank = |place: &&Place| match place.ports {
            Ports::One(_) => 2,
            Ports::Range(..) => 1,
            Ports::All => 0,
        };
        let place = self.places.keys().filter(takes).max_by_key(rank)?;
        Some((place, self.places.get(place)?))
    }

    fn known_flow(&self, tuple: &Tuple, proto: u8) -> Option<(u32, State)> {
        let config = self.kernel.config().ok()?;
        let (client, vip) = (tuple.client, tuple.destination);
        let hash = hash::flow(config.seed, client, vip, proto);
        let is = |seen: &Seen| {
            seen.client == client && seen.vip == vip && seen.word & 0xff == u32::from(proto)
        };
        for half in [hash, hash >> 20] {
            let mask = match vip.is_ipv4() {
                true => config.buckets4,
                false => config.buckets6,
            };
            let seen = self.bucket(vip.is_ipv4(), half as u32 & mask).ok()?;
            if let Some(found) = seen.into_iter().find(is) {
                return Some((found.slot, State::of_word(found.word)));
            }
        }
        None
    }

    fn tell_choice(&self, told: &mut Explanation, entry: &Entry, tuple: &Tuple) {
        let can = |slot: u32| {
            let (index, _) = slot_of(slot);
            let live: Option<layout::Live> = self.kernel.maps.get("lives", &index).ok().flatten();
            let backend = entry.backends.get(&index);
            let new = backend.is_some_and(|b| b.flags & BACKEND_NEW != 0);
            let bounded = backend.is_some_and(|b| b.upper != 0);
            new && live.is_some_and(|live| live.overloaded == 0 || !bounded)
        };
        if !entry.set.iter().any(|slot| can(*slot)) {
            let name = told.service.as_ref().map_or("", |name| name.as_str());
            let why = format!("no backend of service `{name}` can take a new flow");
            told.steps
                .push(format!("{why}: TCP is refused, UDP is dropped"));
            told.nowhere = Some(why);
            return;
        }
        if entry.service.sched != Sched::Hash as u32 {
            told.steps
                .push("its flow is new: who has the next turn or the least load gets it".into());
            for slot in entry.backends.keys().take(SHOWN) {
                if let Some((_, addr)) = self.owner_of(*slot) {
                    let chance = match can(*slot) {
                        true => "can get it",
                        false => "cannot get it now",
                    };
                    let how = self.how(*slot, addr);
                    told.steps.push(format!("  {addr} {chance}{how}"));
                }
            }
            return;
        }
        let key = match entry.service.key {
            1 => Key::SourcePort,
            2 => Key::Destination,
            _ => Key::Source,
        };
        let ip = tuple.destination.ip();
        let mut hash = hash::client(entry.service.seed, key, tuple.client, ip);
        for attempt in 0..TRIES {
            let slot = entry.set.get(hash::place(hash, entry.set.len()));
            if let Some(slot) = slot.filter(|slot| can(**slot)) {
                told.steps.push(match attempt {
                    0 => "its flow is new: its hash leads to a backend".to_owned(),
                    _ => format!(
                        "its flow is new: its hash leads to a backend at try {}",
                        attempt + 1
                    ),
                });
                self.tell_backend(told, *slot);
                return;
            }
            hash = hash::again(hash, attempt);
        }
    }

    fn tell_backend(&self, told: &mut Explanation, slot: u32) {
        let Some((name, addr)) = self.owner_of(slot) else {
            return;
        };
        let (name, addr): (Name, BackendAddr) = (name.clone(), addr.clone());
        let service = self.held.services.get(&name);
        if let Some(backend) = service.and_then(|service| service.backends.get(&addr)) {
            told.backend_name = backend.name.to_string();
        }
        told.steps
            .push(format!("backend {addr}{}", self.how(slot, &addr)));
        told.backend = Some(addr);
    }

    /// How packets get to a backend, for people.
    fn how(&self, slot: u32, addr: &BackendAddr) -> String {
        let (index, _) = slot_of(slot);
        let maps = &self.kernel.maps;
        let value: Option<layout::Backend> = maps.get("backends", &index).ok().flatten();
        let live: Option<layout::Live> = maps.get("lives", &index).ok().flatten();
        let (value, live) = (value.unwrap_or_default(), live.unwrap_or_default());
        let method = path::method(&value);
        let BackendAddr::Ip(ip, _) = *addr else {
            return format!(", {method}");
        };
        match Netlink::open().and_then(|mut netlink| Path::to(&mut netlink, ip)) {
            Ok(Some(path)) if path.kind == RouteKind::Local => ", on this host".to_owned(),
            Ok(path) => format!(", {method}: {}", path::words(&live, path.as_ref())),
            Err(error) => format!(", {method}; its way cannot be told: {error}"),
        }
    }

    /// Whether an address is one of this host's own.
    fn is_own(&self, ip: IpAddr) -> bool {
        let route = Netlink::open().and_then(|mut netlink| netlink.route_to(ip, None));
        matches!(route, Ok(Some(route)) if route.kind == RouteKind::Local)
    }
}
