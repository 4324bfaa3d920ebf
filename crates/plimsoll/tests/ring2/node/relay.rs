//! A director made by hand: it takes packets for VIPs off the wire and sends them on in a tunnel.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use plimsoll_testkit::Namespace;
use socket2::{Domain, Protocol, Socket, Type};

/// Between two looks whether it is the end.
const TURN: Duration = Duration::from_millis(50);

const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// What sends packets for a VIP to a node, until it is dropped.
pub(super) struct Relay {
    end: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Starts it in a namespace. Packets reach it if clients have its link-layer address for the VIP.
    pub(super) fn start(director: &Namespace, vip: IpAddr, node: IpAddr) -> Self {
        let (packets, tunnel) = director
            .run(move || (every(vip), tunnel(vip, node)))
            .unwrap();
        let (end, sent) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (ends, counter) = (Arc::clone(&end), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            let mut bytes = vec![0; 65536];
            while !ends.load(Ordering::Relaxed) {
                let Ok(len) = (&packets).read(&mut bytes) else {
                    continue;
                };
                let packet = &mut bytes[..len];
                if destination(packet) == Some(vip) {
                    finish_checksum(packet);
                    tunnel
                        .send_to(packet, &SocketAddr::new(node, 0).into())
                        .unwrap();
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self {
            end,
            sent,
            thread: Some(thread),
        }
    }

    /// How many packets were sent on.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

/// Every packet of the VIP's family that the namespace sees, from its IP header on.
fn every(vip: IpAddr) -> Socket {
    frames(if vip.is_ipv4() { ETH_P_IP } else { ETH_P_IPV6 })
}

/// Every packet of this kind that the namespace of the calling thread sees.
pub(super) fn frames(kind: u16) -> Socket {
    let protocol = Protocol::from(i32::from(kind.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol)).unwrap();
    socket.set_read_timeout(Some(TURN)).unwrap();
    socket
}

/// What is sent here gets an outer header from the kernel: 4 is a v4 packet inside, 41 a v6 one.
fn tunnel(vip: IpAddr, node: IpAddr) -> Socket {
    let inside = if vip.is_ipv4() { 4 } else { 41 };
    Socket::new(
        Domain::for_address((node, 0).into()),
        Type::RAW,
        Some(Protocol::from(inside)),
    )
    .unwrap()
}

fn destination(packet: &[u8]) -> Option<IpAddr> {
    if packet.first()? >> 4 == 4 {
        let bytes: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
        return Some(bytes.into());
    }
    let bytes: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
    Some(bytes.into())
}

/// A packet that has not left its host yet may carry an unfinished checksum.
fn finish_checksum(packet: &mut [u8]) {
    let (header, ends, protocol) = match packet[0] >> 4 {
        4 => (usize::from(packet[0] & 15) * 4, 12..20, packet[9]),
        _ => (40, 8..40, packet[6]),
    };
    let place = header
        + match protocol {
            TCP => 16,
            UDP => 6,
            _ => return,
        };
    packet[place..place + 2].fill(0);
    let length = u32::try_from(packet.len() - header).unwrap();
    let pseudo = [&packet[ends], &length.to_be_bytes(), &[0, 0, 0, protocol]].concat();
    let mut sum = 0_u32;
    for bytes in [&pseudo, &packet[header..]] {
        for pair in bytes.chunks(2) {
            let pair = [pair[0], pair.get(1).copied().unwrap_or(0)];
            sum += u32::from(u16::from_be_bytes(pair));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = !u16::try_from(sum).unwrap();
    // RFC 768: nought would mean that there is none.
    let sum = if sum == 0 && protocol == UDP {
        0xffff
    } else {
        sum
    };
    packet[place..place + 2].copy_from_slice(&sum.to_be_bytes());
}
