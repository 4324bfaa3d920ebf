//! What a director sends reaches sockets on the VIP, and they answer the client.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use rustix::process::Signal;

use super::relay::Relay;
use super::site::{BOTH, Site, VIP_V4, VIP_V6, ip};
use crate::lab::SOON;

const PORT: u16 = 7070;

/// More than one segment.
const LENGTH: usize = 20_000;

/// Servers on the VIP, which answer with what comes.
fn echo(site: &Site, vip: IpAddr) {
    let at = SocketAddr::new(vip, PORT);
    let sockets = site
        .namespace("node")
        .run(move || (TcpListener::bind(at).unwrap(), UdpSocket::bind(at).unwrap()));
    let (tcp, udp) = sockets.unwrap();
    udp.set_read_timeout(Some(SOON)).unwrap();
    std::thread::spawn(move || {
        let (mut connection, _) = tcp.accept().unwrap();
        connection.set_read_timeout(Some(SOON)).unwrap();
        let mut bytes = vec![0; LENGTH];
        connection.read_exact(&mut bytes).unwrap();
        connection.write_all(&bytes).unwrap();
    });
    std::thread::spawn(move || {
        let mut bytes = [0; 2000];
        let (length, client) = udp.recv_from(&mut bytes).unwrap();
        udp.send_to(&bytes[..length], client).unwrap();
    });
}

/// Exchanges by UDP and TCP from the client; its sockets take answers of the VIP only.
fn exchange(site: &Site, vip: IpAddr) {
    let at = SocketAddr::new(vip, PORT);
    let own = site.own("client", vip.is_ipv4());
    let exchanged = site.namespace("client").run(move || {
        let udp = UdpSocket::bind((own, 0)).unwrap();
        udp.set_read_timeout(Some(SOON)).unwrap();
        udp.connect(at).unwrap();
        udp.send(b"question").unwrap();
        let mut answer = [0; 100];
        let length = udp.recv(&mut answer)?;
        assert_eq!(&answer[..length], b"question");
        let mut tcp = TcpStream::connect_timeout(&at, SOON)?;
        tcp.set_read_timeout(Some(SOON)).unwrap();
        let sent: Vec<u8> = (0..LENGTH).map(|n| (n % 251) as u8).collect();
        tcp.write_all(&sent)?;
        let mut answer = vec![0; LENGTH];
        tcp.read_exact(&mut answer)?;
        assert_eq!(answer, sent);
        std::io::Result::Ok(())
    });
    exchanged.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn direct_routing() {
    let Some(site) = Site::new("direct_routing") else {
        return;
    };
    // A strict filter does not drop what the director brings.
    site.set("node", "net/ipv4/conf/all/rp_filter", "1");
    let node = site.start(&["--vip", BOTH]);
    for vip in [VIP_V4, VIP_V6] {
        // A director changes the link-layer address and nothing else.
        site.send_to(vip, "node");
        echo(&site, ip(vip));
        exchange(&site, ip(vip));
    }
    assert_eq!(site.unwrapped(), 0);
    assert_eq!(node.signal(Signal::INT).0, Some(0));
    site.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_of_all_four_kinds() {
    let Some(site) = Site::new("tunnels_of_all_four_kinds") else {
        return;
    };
    let node = site.start(&["--vip", BOTH]);
    let mut sent = 0;
    for vip in [VIP_V4, VIP_V6] {
        site.send_to(vip, "lb");
        for outside_v4 in [true, false] {
            let outside = site.own("node", outside_v4);
            let relay = Relay::start(site.namespace("lb"), ip(vip), outside);
            echo(&site, ip(vip));
            exchange(&site, ip(vip));
            sent += relay.sent();
            drop(relay);
            assert!(sent > 10);
        }
    }
    // The last packets of a connection may still be on their way.
    let all = plimsoll_testkit::wait_until(SOON, || site.unwrapped() >= sent);
    assert!(all, "{} of {sent}", site.unwrapped());
    assert_eq!(node.signal(Signal::TERM).0, Some(0));
    site.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_for_others_are_left_alone() {
    let Some(site) = Site::new("tunnels_for_others_are_left_alone") else {
        return;
    };
    let node = site.start(&["--vip", VIP_V6]);
    // On the loopback like a VIP, and none of those that are served.
    site.ip("node", &["address", "add", "10.77.9.1/32", "dev", "lo"]);
    site.send_to(VIP_V4, "lb");
    let relay = Relay::start(site.namespace("lb"), ip(VIP_V4), site.own("node", true));
    let at = SocketAddr::new(ip(VIP_V4), PORT);
    let server = site
        .namespace("node")
        .run(move || UdpSocket::bind(at))
        .unwrap()
        .unwrap();
    server.set_nonblocking(true).unwrap();
    let client = site
        .namespace("client")
        .run(|| UdpSocket::bind("0.0.0.0:0"))
        .unwrap()
        .unwrap();
    client.send_to(b"hello", at).unwrap();
    assert!(plimsoll_testkit::wait_until(SOON, || relay.sent() > 0));
    // What follows on the same way, for the VIP that is served, has come: so had the other to.
    site.send_to(VIP_V6, "lb");
    let second = Relay::start(site.namespace("lb"), ip(VIP_V6), site.own("node", true));
    echo(&site, ip(VIP_V6));
    exchange(&site, ip(VIP_V6));
    drop(second);
    assert!(server.recv_from(&mut [0; 10]).is_err());
    assert_eq!(node.signal(Signal::TERM).0, Some(0));
    site.ip("node", &["address", "del", "10.77.9.1/32", "dev", "lo"]);
    drop(relay);
    site.close();
}
