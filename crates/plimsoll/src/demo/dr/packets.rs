//! Counts the packets of the VIP where they pass, as a tool that listens on a host does.

use std::io::{self, Read};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use plimsoll_plane_ebpf::node::Namespace;
use plimsoll_plane_ebpf::sys::Netlink;
use plimsoll_plane_ebpf::sys::net::Mac;
use socket2::{Domain, Protocol, Socket, Type};

use super::plan::INTERFACE;
use crate::error::Error;

/// Every frame, those that leave as well (if_ether.h).
const ETH_P_ALL: u16 = 3;
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
/// What is waited for longer is looked at whether it shall go on.
const TURN: Duration = Duration::from_millis(50);
/// Bytes that may wait to be counted.
const ROOM: usize = 4 << 20;

/// Which way a packet of the VIP went, by the link-layer addresses of its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// For the VIP, to the director.
    In,
    /// For the VIP, from the director.
    Onward,
    /// From the VIP, to the director.
    Back,
    /// From the VIP, from the director: what it forwards, or says itself (resets).
    Director,
    /// From the VIP, neither.
    Past,
}

/// Which way a frame goes, if it is one of the VIP that can be told.
pub(super) fn way(frame: &[u8], vip: IpAddr, director: Mac) -> Option<Way> {
    let (to, from) = (frame.get(..6)?, frame.get(6..12)?);
    let kind = u16::from_be_bytes(frame.get(12..14)?.try_into().ok()?);
    let packet = frame.get(14..)?;
    let (sender, receiver): (IpAddr, IpAddr) = match kind {
        ETH_P_IP => {
            let at = |n: usize| <[u8; 4]>::try_from(packet.get(n..n + 4)?).ok();
            (at(12)?.into(), at(16)?.into())
        }
        ETH_P_IPV6 => {
            let at = |n: usize| <[u8; 16]>::try_from(packet.get(n..n + 16)?).ok();
            (at(8)?.into(), at(24)?.into())
        }
        _ => return None,
    };
    if receiver == vip {
        return match () {
            () if to == director => Some(Way::In),
            () if from == director => Some(Way::Onward),
            () => None,
        };
    }
    (sender == vip).then(|| match () {
        () if to == director => Way::Back,
        () if from == director => Way::Director,
        () => Way::Past,
    })
}

/// Counts by ways.
#[derive(Debug, Default)]
struct Counts {
    onward: AtomicU64,
    into: AtomicU64,
    back: AtomicU64,
    director: AtomicU64,
    past: AtomicU64,
    end: AtomicBool,
}

impl Counts {
    fn of(&self, way: Way) -> &AtomicU64 {
        match way {
            Way::In => &self.into,
            Way::Onward => &self.onward,
            Way::Back => &self.back,
            Way::Director => &self.director,
            Way::Past => &self.past,
        }
    }
}

/// Listens in a namespace until it is dropped.
pub(super) struct Ear {
    counts: Arc<Counts>,
    thread: Option<JoinHandle<()>>,
}

impl Ear {
    /// Listens in this namespace to packets of the VIP, whose director has this link-layer address.
    pub(super) fn start(namespace: &Namespace, vip: IpAddr, director: Mac) -> Result<Self, Error> {
        let cannot = |why: io::Error| Error::Failed(format!("packets cannot be counted: {why}"));
        let mut socket = namespace.run(|| Ok(open()))?.map_err(cannot)?;
        let counts = Arc::new(Counts::default());
        let shared = counts.clone();
        let thread = std::thread::Builder::new().name("packets".into());
        let thread = thread.spawn(move || {
            // The headers are all that is looked at.
            let mut frame = [0; 14 + 40];
            while !shared.end.load(Ordering::Relaxed) {
                let length = socket.read(&mut frame).unwrap_or(0);
                let frame = frame.get(..length).unwrap_or_default();
                if let Some(way) = way(frame, vip, director) {
                    shared.of(way).fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let thread = Some(thread.map_err(cannot)?);
        Ok(Self { counts, thread })
    }

    /// How many packets went this way so far.
    pub(super) fn heard(&self, way: Way) -> u64 {
        self.counts.of(way).load(Ordering::Relaxed)
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.counts.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported already.
            let _ = thread.join();
        }
    }
}

fn open() -> io::Result<Socket> {
    let protocol = Protocol::from(i32::from(ETH_P_ALL.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
    socket.set_read_timeout(Some(TURN))?;
    // With less room some may go uncounted in a burst.
    let _ = socket.set_recv_buffer_size(ROOM);
    Ok(socket)
}

/// The link-layer address of a host.
pub(super) fn mac(namespace: &Namespace) -> Result<Mac, Error> {
    let links = namespace.run(|| Ok(Netlink::open()?.links()?))?;
    let link = links.into_iter().find(|link| link.name == INTERFACE);
    link.and_then(|link| link.mac)
        .ok_or_else(|| Error::Failed(format!("a host has no interface {INTERFACE}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECTOR: Mac = [2, 0, 0, 0, 0, 1];
    const CLIENT: Mac = [2, 0, 0, 0, 0, 2];
    const NODE: Mac = [2, 0, 0, 0, 0, 3];

    fn frame(from: Mac, to: Mac, sender: &str, receiver: &str) -> Vec<u8> {
        let mut frame = [to, from].concat();
        match (sender.parse().unwrap(), receiver.parse().unwrap()) {
            (IpAddr::V4(sender), IpAddr::V4(receiver)) => {
                frame.extend(ETH_P_IP.to_be_bytes());
                frame.extend([0x45; 12]);
                frame.extend([sender.octets(), receiver.octets()].concat());
            }
            (IpAddr::V6(sender), IpAddr::V6(receiver)) => {
                frame.extend(ETH_P_IPV6.to_be_bytes());
                frame.extend([0x60; 8]);
                frame.extend([sender.octets(), receiver.octets()].concat());
            }
            _ => panic!("two families"),
        }
        frame
    }

    #[test]
    fn ways_are_told_by_frames() {
        for (vip, client) in [("192.0.2.1", "10.83.0.2"), ("2001:db8::1", "fd70::2")] {
            let address = vip.parse().unwrap();
            for (from, to, forth, wanted) in [
                (CLIENT, DIRECTOR, true, Some(Way::In)),
                (DIRECTOR, NODE, true, Some(Way::Onward)),
                (CLIENT, NODE, true, None),
                (NODE, DIRECTOR, false, Some(Way::Back)),
                (DIRECTOR, CLIENT, false, Some(Way::Director)),
                (NODE, CLIENT, false, Some(Way::Past)),
            ] {
                let (sender, receiver) = if forth { (client, vip) } else { (vip, client) };
                let frame = frame(from, to, sender, receiver);
                assert_eq!(way(&frame, address, DIRECTOR), wanted, "{from:?} {to:?}");
                let other = "192.0.2.9".parse().unwrap();
                assert_eq!(way(&frame, other, DIRECTOR), None);
                for cut in 0..frame.len() {
                    assert_eq!(way(&frame[..cut], address, DIRECTOR), None);
                }
            }
        }
    }
}
