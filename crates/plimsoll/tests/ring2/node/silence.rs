//! Nobody on the link hears of a VIP that a node has.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use plimsoll_testkit::wait_until;
use rustix::process::Signal;
use std::io::Read;

use super::relay::frames;
use super::site::{BOTH, Site, VIP_V4, VIP_V6, ip};
use crate::lab::SOON;

const ETH_P_ARP: u16 = 0x0806;

/// Has the client ask who has an address; whether anybody answers.
fn answered(site: &Site, asked: IpAddr) -> bool {
    let text = asked.to_string();
    let own = site.own("client", asked.is_ipv4());
    site.ip("client", &["neigh", "flush", "to", &text]);
    let socket = site
        .namespace("client")
        .run(move || UdpSocket::bind((own, 0)));
    let socket = socket.unwrap().unwrap();
    let mut answered = None;
    // The kernel asks three times and then knows that there is nobody.
    let known = wait_until(SOON, || {
        // An earlier one may have told that there is nobody.
        let _sent = socket.send_to(b"hello", (asked, 9));
        let shown = site.ip("client", &["neigh", "show", "to", &text]);
        if shown.contains("FAILED") {
            answered = Some(false);
        } else if shown.contains("REACHABLE") {
            answered = Some(true);
        }
        answered.is_some()
    });
    assert!(known, "{asked}");
    answered.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_answers_for_a_vip() {
    let Some(site) = Site::new("nobody_answers_for_a_vip") else {
        return;
    };
    // A plain address of the loopback is answered for in IPv4, which is the trouble, and not in IPv6.
    site.ip("node", &["address", "add", "10.77.9.1/32", "dev", "lo"]);
    assert!(answered(&site, ip(VIP_V4)));
    site.ip("node", &["address", "del", "10.77.9.1/32", "dev", "lo"]);
    let node = site.start(&["--vip", BOTH]);
    for vip in [VIP_V4, VIP_V6] {
        assert!(!answered(&site, ip(vip)), "{vip}");
        let own = site.own("node", ip(vip).is_ipv4());
        assert!(answered(&site, own), "{own}");
    }
    assert_eq!(node.signal(Signal::INT).0, Some(0));
    site.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_greater_value_of_an_interface_does_not_answer() {
    let Some(site) = Site::new("a_greater_value_of_an_interface_does_not_answer") else {
        return;
    };
    site.set("node", "net/ipv4/conf/eth0/arp_ignore", "3");
    let before = site.snapshot();
    let node = site.start(&["--vip", VIP_V4]);
    assert!(!answered(&site, ip(VIP_V4)));
    assert_eq!(node.signal(Signal::INT).0, Some(0));
    site.is_as(&before);
    site.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_asks_with_its_own_address() {
    let Some(site) = Site::new("a_node_asks_with_its_own_address") else {
        return;
    };
    let node = site.start(&["--vip", VIP_V4]);
    let asked = site.namespace("lb").run(|| frames(ETH_P_ARP)).unwrap();
    // A packet from the VIP to whom the node does not know yet.
    let from = site
        .namespace("node")
        .run(|| UdpSocket::bind((ip(VIP_V4), 7070)))
        .unwrap()
        .unwrap();
    from.send_to(b"hello", "10.77.0.77:9").unwrap();
    let mut sender = None;
    let seen = wait_until(SOON, || {
        let mut frame = [0; 64];
        if (&asked).read(&mut frame).is_ok_and(|len| len >= 28) {
            // RFC 826: the sender's address is behind 14 bytes, the one that is asked for behind 24.
            let address =
                |at: usize| Ipv4Addr::new(frame[at], frame[at + 1], frame[at + 2], frame[at + 3]);
            if address(24) == Ipv4Addr::new(10, 77, 0, 77) {
                sender = Some(IpAddr::from(address(14)));
            }
        }
        sender.is_some()
    });
    assert!(seen);
    assert_eq!(sender, Some(site.own("node", true)));
    assert_eq!(node.signal(Signal::INT).0, Some(0));
    site.close();
}
