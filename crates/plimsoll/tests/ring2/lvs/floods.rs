//! Floods of packets that nobody means, with senders that do not exist.

use std::net::{Ipv4Addr, SocketAddr};

use plimsoll_testkit::list;
use socket2::{Domain, Protocol, Socket, Type};

use super::site::{CLIENT, Family, Hook, Leg, Rule, SERVERS, Site};
use super::talk::{Proto, Servers, Talk};

/// More than twice as many as flows are remembered.
const FLOOD: u32 = 25_000;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// The header of a TCP packet to the VIP, and before it that of IPv4.
fn packet(from: Ipv4Addr, to: SocketAddr, port: u16, flags: u8) -> [u8; 40] {
    let mut bytes = [0; 40];
    let SocketAddr::V4(to) = to else {
        panic!("{to}");
    };
    // RFC 791: the kernel fills in the length and the checksum of the header.
    bytes[0] = 0x45;
    bytes[8] = 64;
    bytes[9] = 6;
    bytes[12..16].copy_from_slice(&from.octets());
    bytes[16..20].copy_from_slice(&to.ip().octets());
    bytes[20..22].copy_from_slice(&port.to_be_bytes());
    bytes[22..24].copy_from_slice(&to.port().to_be_bytes());
    bytes[32] = 5 << 4;
    bytes[33] = flags;
    bytes[34] = 0xff;
    let pseudo = [&bytes[12..20], &[0, 6, 0, 20], &bytes[20..]].concat();
    let mut sum: u32 = (pseudo.chunks(2))
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = !u16::try_from(sum).unwrap();
    bytes[36..38].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// Sends them, each from an address of its own, and others by SYN than by ACK: whoever sends both of one
/// connection has made it, for all that can be seen without the server's answers.
fn flood(site: &Site, to: SocketAddr, flags: u8) {
    let sent = site.namespace(CLIENT).run(move || {
        let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)))?;
        raw.set_header_included_v4(true)?;
        let first = if flags == SYN {
            0x0b00_0000
        } else {
            0x0c00_0000
        };
        for number in 0..FLOOD {
            let from = Ipv4Addr::from_bits(first + number * 7);
            let bytes = packet(from, to, (number % 60_000) as u16 + 1024, flags);
            raw.send_to(&bytes, &to.into())?;
        }
        std::io::Result::Ok(())
    });
    sent.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_push_out_nothing_that_is_established() {
    let test = "floods_push_out_nothing_that_is_established";
    let Some(site) = Site::new(test, Hook::Tc) else {
        return;
    };
    // What servers answer to those senders goes nowhere.
    let rows = [("dr", "rr"), ("nat", "rr"), ("dr", "mh"), ("nat", "mh")];
    let vip = |row: usize| -> SocketAddr { (Family::V4.vip(), 8000 + row as u16).into() };
    let inside = |row: usize| 9000 + row as u16;
    let mut servers = Servers::default();
    for (number, label) in (0..).zip(SERVERS) {
        let own = site.at(label, Leg::Back, Family::V4);
        for row in 0..rows.len() {
            servers.start(&site, label, number, vip(row));
            servers.start(&site, label, number, (own, inside(row)).into());
        }
    }
    let rules: Vec<Rule> = (rows.iter().enumerate())
        .map(|(row, (forward, scheduler))| {
            let backends = SERVERS.map(|label| {
                let ip = site.at(label, Leg::Back, Family::V4);
                let inside = SocketAddr::new(ip, inside(row)).to_string();
                if *forward == "nat" {
                    inside
                } else {
                    ip.to_string()
                }
            });
            let name = format!("{forward}-{scheduler}");
            let mut rule = Rule::new(&name, vip(row), "tcp", forward, backends);
            let hash = if *scheduler == "mh" {
                ", hash = \"source-port\""
            } else {
                ""
            };
            rule.more = format!("scheduler = {{ kind = \"{scheduler}\"{hash} }}\n");
            rule
        })
        .collect();
    let lb = site.start(&rules).await;
    let mut talks = Vec::new();
    for row in 0..rows.len() {
        for _ in 0..25 {
            let mut talk = Talk::open(&site, Proto::Tcp, vip(row)).await.unwrap();
            let (number, _) = talk.exchange(1, 100).await.unwrap();
            talks.push((row, number, talk));
        }
    }
    for (row, kind) in rows.iter().enumerate() {
        for flags in [SYN, ACK] {
            flood(&site, vip(row), flags);
            for (of, number, talk) in &mut talks {
                let still = talk.exchange(2, 1000).await;
                let what = format!("{:?} while {kind:?} is flooded by {flags:#x}", rows[*of]);
                assert_eq!(
                    still.unwrap_or_else(|e| panic!("{what}: {e}")).0,
                    *number,
                    "{what}"
                );
            }
            // Whoever comes new is served.
            for (of, new) in rows.iter().enumerate() {
                for seed in 0..10 {
                    let served = async {
                        let mut talk = Talk::open(&site, Proto::Tcp, vip(of)).await?;
                        talk.exchange(seed, 1000).await
                    };
                    let what = format!("{new:?} after {kind:?} was flooded by {flags:#x}");
                    served.await.unwrap_or_else(|e| panic!("{what}: {e}"));
                }
            }
        }
    }
    let status = lb.status().await;
    assert_eq!(list(&status["services"]).len(), rows.len());
    site.close(lb);
}
