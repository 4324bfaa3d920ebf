//! What every test needs: namespaces, and the small programs.

use std::collections::BTreeMap;
use std::time::Duration;

use plimsoll_plane_ebpf::sys::{Globals, Map, Netlink, Object, Program};
use plimsoll_testkit::{Namespace, root_or_skip};

/// The small programs (`tests/bpf/small.c`).
pub(crate) const SMALL: &[u8] = include_bytes!("../bpf/small.o");
/// A program that no verifier lets pass.
pub(crate) const REFUSED: &[u8] = include_bytes!("../bpf/refused.o");

/// Everything that should happen soon happens within this.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Names in `counts` of the small programs.
pub(crate) const XDP_RUNS: usize = 0;
pub(crate) const TC_RUNS: usize = 1;
pub(crate) const SUM: usize = 2;
pub(crate) const INTERFACE: usize = 3;

/// Runs a test on the thread of a namespace of its own, if there is root.
pub(crate) fn inside(test: &str, body: impl FnOnce() + Send + 'static) {
    if root_or_skip(test) {
        let namespace = Namespace::new("sys").unwrap();
        run(&namespace, body);
    }
}

/// Runs something inside a namespace; a panic there is one here.
pub(crate) fn run<T: Send + 'static>(
    namespace: &Namespace,
    body: impl FnOnce() -> T + Send + 'static,
) -> T {
    let result = namespace
        .run(|| std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)))
        .unwrap();
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Two namespaces with a cable between them: `left` has 10.78.0.1, `right` 10.78.0.2, both on `eth0`.
pub(crate) struct Cable {
    pub(crate) left: Namespace,
    pub(crate) right: Namespace,
}

impl Cable {
    pub(crate) fn new(test: &str) -> Option<Self> {
        if !root_or_skip(test) {
            return None;
        }
        let left = Namespace::new("left").unwrap();
        let right = Namespace::new("right").unwrap();
        let peer = right.name();
        left.ip(&[
            "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", peer,
        ])
        .unwrap();
        for (side, address) in [(&left, "10.78.0.1/24"), (&right, "10.78.0.2/24")] {
            side.ip(&["address", "add", address, "dev", "eth0"])
                .unwrap();
            side.ip(&["link", "set", "eth0", "up"]).unwrap();
        }
        Some(Self { left, right })
    }

    /// One packet from right to left: a datagram to a port that nobody has.
    pub(crate) fn send(&self) {
        run(&self.right, || {
            let socket = std::net::UdpSocket::bind("10.78.0.2:0").unwrap();
            // What came back of the one before is told here.
            let _told = socket.send_to(b"hello", "10.78.0.1:9");
        });
    }
}

/// The index of `eth0` of the calling thread's namespace.
pub(crate) fn eth0(netlink: &mut Netlink) -> u32 {
    netlink.link_named("eth0").unwrap().index
}

/// The small programs with maps of their own.
pub(crate) struct Small {
    pub(crate) maps: BTreeMap<String, Map>,
    pub(crate) programs: BTreeMap<String, Program>,
}

impl Small {
    pub(crate) fn load() -> Self {
        Self::load_with(&Globals::new())
    }

    pub(crate) fn load_with(globals: &Globals<'_>) -> Self {
        let mut object = Object::parse(SMALL).unwrap();
        let maps = object.create_maps(&BTreeMap::new()).unwrap();
        let programs = object.load(&maps, globals).unwrap();
        Self { maps, programs }
    }

    pub(crate) fn program(&self, name: &str) -> &Program {
        &self.programs[name]
    }

    pub(crate) fn count(&self, place: usize) -> u64 {
        count(&self.maps["counts"], place)
    }
}

/// A number in `counts`.
pub(crate) fn count(counts: &Map, place: usize) -> u64 {
    let key = u32::try_from(place).unwrap().to_ne_bytes();
    let value = counts.lookup(&key).unwrap().unwrap();
    u64::from_ne_bytes(value.try_into().unwrap())
}

/// An Ethernet frame of so many bytes, with nothing known in it.
pub(crate) fn frame(len: usize) -> Vec<u8> {
    let mut frame = vec![0; len];
    frame[..6].copy_from_slice(&[0x10, 1, 1, 1, 1, 1]);
    frame[6..12].copy_from_slice(&[0x20, 2, 2, 2, 2, 2]);
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame
}
