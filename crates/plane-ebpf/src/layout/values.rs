//! The values of the maps.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{NOTE, RANGES, STATES, WAYS};

macro_rules! shared {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }
    };
}

shared! {
    /// An address.
    Addr {
        /// IPv4: the first.
        words: [u32; 4],
    }
}

impl From<IpAddr> for Addr {
    fn from(ip: IpAddr) -> Self {
        let mut bytes = [0; 16];
        match ip {
            IpAddr::V4(ip) => {
                let [a, b, c, d] = ip.octets();
                [bytes[0], bytes[1], bytes[2], bytes[3]] = [a, b, c, d];
            }
            IpAddr::V6(ip) => bytes = ip.octets(),
        }
        Self {
            words: zerocopy::transmute!(bytes),
        }
    }
}

impl Addr {
    /// As an IPv4 address.
    pub fn v4(self) -> Ipv4Addr {
        let [a, b, c, d] = self.words[0].to_ne_bytes();
        Ipv4Addr::new(a, b, c, d)
    }

    /// As an IPv6 address.
    pub fn v6(self) -> Ipv6Addr {
        let bytes: [u8; 16] = zerocopy::transmute!(self.words);
        Ipv6Addr::from(bytes)
    }

    /// As an address of family 4 or 6.
    pub fn ip(self, family: u8) -> IpAddr {
        match family {
            4 => self.v4().into(),
            _ => self.v6().into(),
        }
    }
}

shared! {
    /// The one value of `config`.
    Config {
        /// [`VERSION`](super::VERSION).
        layout: u32,
        /// Jiffies in a second.
        hz: u32,
        /// Buckets of `flows4` less one.
        buckets4: u32,
        /// Buckets of `flows6` less one.
        buckets6: u32,
        /// Of the hash of flows.
        seed: u64,
        /// `CONFIG_…`.
        flags: u32,
        /// Buckets of `flows4` looked through in a jiffy.
        sweep4: u32,
        /// The same of `flows6`.
        sweep6: u32,
        /// Network of outer IPv4 source addresses; 0 is none.
        tunnel4: [u8; 4],
        /// The bits of them that are the flow's.
        host4: [u8; 4],
        /// 0.
        pad: u32,
        /// Network of outer IPv6 source addresses, whose last 32 bits are the flow's; 0 is none.
        tunnel6: Addr,
    }
}

shared! {
    /// An address that services listen on.
    Vip {
        /// Its number, at most 65 535.
        id: u32,
        /// `VIP_…`.
        flags: u32,
    }
}

shared! {
    /// What is listened on; port 0 is every port.
    Listen {
        /// The VIP's number.
        vip: u32,
        /// The port, in network order.
        port: [u8; 2],
        /// Its protocol (6, 17).
        proto: u8,
        /// 0.
        pad: u8,
    }
}

shared! {
    /// Ports from the first to the last.
    Range {
        /// The first.
        first: u16,
        /// The last, included.
        last: u16,
        /// Whose they are.
        service: u32,
    }
}

shared! {
    /// The port ranges of one VIP and protocol.
    Ranges {
        /// So many are used.
        count: u32,
        /// They do not overlap.
        range: [Range; RANGES],
    }
}

shared! {
    /// A service.
    Service {
        /// `SERVICE_…`.
        flags: u32,
        /// [`Sched`](super::Sched).
        sched: u32,
        /// [`Key`](super::Key).
        key: u32,
        /// `MIDSTREAM_…`.
        midstream: u32,
        /// Of the hash of clients.
        seed: u64,
        /// Jiffies, by [`State`](super::State).
        timeouts: [u32; STATES],
        /// What SYNs may announce at most; 0 is what they like; [`MSS_FIT`](super::MSS_FIT).
        mss: u32,
        /// 0.
        pad: u32,
        /// Of [`Sched::Turn`](super::Sched::Turn): counted on by the programs.
        turn: u64,
        /// 0.
        pad2: [u64; 7],
    }
}

shared! {
    /// A next hop, as the kernel's routing table had it.
    NextHop {
        /// Link-layer address of the next hop.
        dst: [u8; 6],
        /// Of the interface.
        src: [u8; 6],
        /// The interface.
        ifindex: u32,
        /// Of the way there.
        mtu: u16,
        /// `NEXTHOP_…`.
        flags: u8,
        /// What `bpf_fib_lookup` said.
        result: u8,
    }
}

shared! {
    /// One backend of one service, a slot, as the process wants it.
    Backend {
        /// `BACKEND_…`.
        flags: u32,
        /// Of the slot; flows of another one are stale.
        generation: u8,
        /// [`Method`](super::Method).
        method: u8,
        /// 4 or 6, of its address.
        family: u8,
        /// 0.
        pad: u8,
        /// The service's number.
        service: u32,
        /// The port in network order; 0 is the packet's own.
        port: [u8; 2],
        /// 0.
        pad1: u16,
        /// Its address.
        addr: Addr,
        /// With [`BACKEND_DEADLINE`](super::BACKEND_DEADLINE): when its flows end.
        until: u32,
        /// Its share.
        weight: u32,
        /// Upper threshold; 0 is none.
        upper: u32,
        /// Lower threshold; 0 is ¾ of the upper one.
        lower: u32,
        /// Tunnel: source of the outer header.
        outer: Addr,
    }
}

shared! {
    /// The same backend, as the programs find it.
    Live {
        /// When its next hop is looked up again.
        refresh: u32,
        /// Which of `hops` is in force.
        nexthop: u32,
        /// The next hop in force, and the one before or after it.
        hops: [NextHop; 2],
        /// Of a tunnel: what a router on the way said that fits; 0 where nobody did.
        path_mtu: u32,
        /// Until when that is believed.
        path_until: u32,
        /// 0.
        pad: [u32; 2],
        /// Established TCP and UDP flows, over all cores.
        active: u32,
        /// All other flows.
        inactive: u32,
        /// It has met `upper`, and not been below `lower` since.
        overloaded: u32,
        /// 0.
        pad1: [u32; 13],
    }
}

shared! {
    /// An IPv4 flow.
    Flow4 {
        /// The client; of a reply the backend.
        src: u32,
        /// The VIP; of a reply the client.
        dst: u32,
        /// Its port, in network order.
        sport: [u8; 2],
        /// Its port, in network order.
        dport: [u8; 2],
        /// Protocol, state, flags, generation.
        word: u32,
        /// The backend's slot, with its generation in the highest 8 bits.
        slot: u32,
        /// The upper half of the key's hash.
        check: u32,
        /// When it was last seen, in jiffies, give or take half a second.
        seen: u32,
        /// Of a reply: the VIP's number, and its port in network order.
        other: u32,
    }
}

shared! {
    /// An IPv6 flow; fields as [`Flow4`].
    Flow6 {
        /// As [`Flow4`].
        src: [u32; 4],
        /// As [`Flow4`].
        dst: [u32; 4],
        /// As [`Flow4`].
        sport: [u8; 2],
        /// As [`Flow4`].
        dport: [u8; 2],
        /// As [`Flow4`].
        word: u32,
        /// As [`Flow4`].
        slot: u32,
        /// As [`Flow4`].
        check: u32,
        /// As [`Flow4`].
        seen: u32,
        /// As [`Flow4`].
        other: u32,
        /// 0.
        pad: [u32; 2],
    }
}

shared! {
    /// IPv4 flows whose hashes meet.
    Bucket4 {
        /// Held by who changes it.
        lock: u32,
        /// By entry; 0 is free.
        tags: [u16; WAYS],
        /// 0.
        pad: u16,
        /// Flows of this bucket that are in their second one.
        spilled: u32,
        /// 0.
        pad1: [u32; 2],
        /// The entries.
        flows: [Flow4; WAYS],
    }
}

shared! {
    /// IPv6 flows whose hashes meet.
    Bucket6 {
        /// Held by who changes it.
        lock: u32,
        /// By entry; 0 is free.
        tags: [u16; WAYS],
        /// 0.
        pad: u16,
        /// Flows of this bucket that are in their second one.
        spilled: u32,
        /// 0.
        pad1: [u32; 10],
        /// The entries.
        flows: [Flow6; WAYS],
    }
}

shared! {
    /// Counts of one backend on one core.
    Traffic {
        /// Packets sent to it.
        packets_in: u64,
        /// Their bytes, from the network header on.
        bytes_in: u64,
        /// Packets of its that came back this way (NAT).
        packets_out: u64,
        /// Their bytes.
        bytes_out: u64,
        /// Flows given to it.
        flows: u64,
        /// Flows of its that were ended.
        resets: u64,
    }
}

shared! {
    /// Which text, and which piece of it.
    NoteKey {
        /// Whose: 0 a service's, 1 a backend's.
        kind: u32,
        /// Its number.
        id: u32,
        /// From 0 on.
        piece: u32,
    }
}

/// A piece of a text.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Note {
    /// Bytes of this piece; the last is shorter than [`NOTE`](super::NOTE).
    pub len: u32,
    /// The text.
    pub text: [u8; NOTE],
}
