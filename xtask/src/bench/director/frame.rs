//! The packets that programs are given.

use std::net::IpAddr;

use super::{Scenario, UDP};

/// A frame of 64 bytes and more from one of the clients to a VIP's port 80.
pub(super) fn frame(scenario: &Scenario, to: IpAddr, flow: u32, flags: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    let port = (1024 + flow % 60_000) as u16;
    let host = flow / 60_000;
    let transport = if scenario.proto == UDP { 8 } else { 20 };
    match to {
        _ if scenario.proto == 0 => frame.extend([0x88, 0xb5]),
        IpAddr::V4(to) => {
            frame.extend([8, 0]);
            let total = (20 + transport + 10) as u16;
            let mut header = vec![0x45, 0];
            header.extend(total.to_be_bytes());
            header.extend([0, 0, 0x40, 0, 64, scenario.proto, 0, 0]);
            header.extend((0x0a09_0000 + host).to_be_bytes());
            header.extend(to.octets());
            let mut words = header.chunks_exact(2);
            let sum: u32 = words
                .by_ref()
                .filter_map(|word| Some(u32::from(u16::from_be_bytes(*word.first_chunk()?))))
                .sum();
            let check = !((sum & 0xffff) + (sum >> 16)) as u16;
            header.splice(10..12, check.to_be_bytes());
            frame.extend(header);
        }
        IpAddr::V6(to) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(((transport + 10) as u16).to_be_bytes());
            frame.extend([scenario.proto, 64]);
            frame.extend([0xfd, 0x99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            frame.extend(host.to_be_bytes());
            frame.extend(to.octets());
        }
    }
    frame.extend(port.to_be_bytes());
    frame.extend(80_u16.to_be_bytes());
    match scenario.proto {
        UDP => frame.extend([0, 18, 0, 0]),
        _ => frame.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]),
    }
    frame.resize(frame.len() + 10, 0);
    frame
}
