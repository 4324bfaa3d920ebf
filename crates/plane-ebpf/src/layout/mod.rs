//! What the programs and the process share: the values of the maps, as `bpf/layout.h` has them.
//!
//! Addresses and ports are in network order; an IPv4 address is the first of four words. Times are
//! jiffies cut to 32 bits.

mod values;

pub use values::{
    Addr, Backend, Bucket4, Bucket6, Config, Flow4, Flow6, Listen, Live, NextHop, Note, NoteKey,
    Range, Ranges, Service, Traffic, Vip,
};

/// The version of all that is here. What an earlier process left with another one is copied, not
/// shared.
pub const VERSION: u32 = 1;

/// Entries of a bucket of flows.
pub const WAYS: usize = 7;
/// Port ranges of one VIP and protocol at most.
pub const RANGES: usize = 16;
/// Bytes of text in one piece of a note.
pub const NOTE: usize = 116;

/// There are NAT backends: look for replies.
pub const CONFIG_NAT: u32 = 1;
/// There are tunnels: routers may say what fits into them.
pub const CONFIG_TUNNEL: u32 = 2;

/// What fits the way to the backend.
pub const MSS_FIT: u32 = u32::MAX;

/// Some ports are in ranges.
pub const VIP_RANGES: u32 = 1;
/// Some service listens on all ports.
pub const VIP_ALL: u32 = 2;
/// Echo requests are answered.
pub const VIP_ECHO: u32 = 4;

/// The service is in use.
pub const SERVICE_USED: u32 = 1;

/// What becomes of a packet in mid-stream of an unknown flow: it is scheduled.
pub const MIDSTREAM_SCHEDULE: u32 = 0;
/// It is dropped.
pub const MIDSTREAM_DROP: u32 = 1;
/// Its sender gets a reset.
pub const MIDSTREAM_RESET: u32 = 2;
/// In a takeover: it is left to the programs that are there still.
pub const MIDSTREAM_PASS: u32 = 3;

/// The slot is in use.
pub const BACKEND_USED: u32 = 1;
/// It takes new flows.
pub const BACKEND_NEW: u32 = 2;
/// Its flows end at `until`.
pub const BACKEND_DEADLINE: u32 = 4;
/// Its UDP flows move at once.
pub const BACKEND_GONE: u32 = 8;
/// TCP flows that have to end are reset, not given to another.
pub const BACKEND_RESET: u32 = 16;

/// Its service has it no more: the slot waits for its flows to end.
pub const BACKEND_LEFT: u32 = 32;

/// The link-layer address of the next hop is not known: the kernel's neighbours do it.
pub const NEXTHOP_NEIGHBOUR: u8 = 1;
/// The next hop's interface can be sent to from XDP.
pub const NEXTHOP_XDP: u8 = 2;
/// The next hop is known.
pub const NEXTHOP_VALID: u8 = 4;
/// In [`NextHop::result`]: the interface that the packet came by does not forward
/// (`BPF_FIB_LKUP_RET_FWD_DISABLED` of `linux/bpf.h`).
pub const RESULT_FORWARDING_OFF: u8 = 5;

/// The interface can be sent to from XDP.
pub const LINK_XDP: u32 = 1;

/// A flow's entry is of the other direction.
pub const FLOW_REPLY: u32 = 0x1000;
/// In a flow's word: it is in its second bucket, and counted in `spilled` of its first.
pub const FLOW_SECOND: u32 = 0x4000;

/// How the backends of a service are looked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Sched {
    /// A table, entered by a hash of the client.
    Hash = 0,
    /// A cycle, entered by turns.
    Turn = 1,
    /// A table, entered by chance.
    Random = 2,
    /// A list: the least loaded by weight.
    Least = 3,
    /// The same, the connection to come counted.
    Sed = 4,
    /// The first that is idle, else as `Sed`.
    Nq = 5,
    /// A list in order of preference.
    First = 6,
    /// The same; the first with no more active than its weight.
    Ovf = 7,
    /// A table: the less loaded of two by chance.
    Twos = 8,
    /// A list: the least loaded, whatever the weights.
    Lc = 9,
}

/// What of a client is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Key {
    /// Its address.
    Source = 0,
    /// Its address and port.
    SourcePort = 1,
    /// The address it connected to.
    Destination = 2,
}

/// How packets are brought to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Method {
    /// Handed to the director's own stack.
    Local = 0,
    /// Direct routing.
    Dr = 1,
    /// IP in IP.
    Tunnel = 2,
    /// Destination rewritten.
    Nat = 3,
}

/// States of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum State {
    /// None.
    None = 0,
    /// A SYN was seen, nothing after it.
    Syn = 1,
    /// Seen in mid-stream only.
    Middle = 2,
    /// Established.
    Established = 3,
    /// One side has closed.
    Fin = 4,
    /// Both sides have closed.
    Closing = 5,
    /// Reset.
    Reset = 6,
    /// UDP.
    Udp = 7,
}

/// How many states there are.
pub const STATES: usize = 8;

impl State {
    /// The state of a flow's word.
    pub fn of_word(word: u32) -> Self {
        match (word >> 8) & 0xf {
            1 => State::Syn,
            2 => State::Middle,
            3 => State::Established,
            4 => State::Fin,
            5 => State::Closing,
            6 => State::Reset,
            7 => State::Udp,
            _ => State::None,
        }
    }

    /// Its name in lists of flows, as IPVS's where it has one.
    pub fn as_str(self) -> &'static str {
        match self {
            State::None => "none",
            State::Syn => "syn",
            State::Middle => "middle",
            State::Established => "established",
            State::Fin => "fin-wait",
            State::Closing => "closing",
            State::Reset => "reset",
            State::Udp => "udp",
        }
    }

    /// Whether it counts as active, as IPVS has it.
    pub fn is_active(self) -> bool {
        matches!(self, State::Established | State::Udp)
    }
}
