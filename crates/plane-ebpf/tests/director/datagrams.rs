//! Datagrams that a sender hands over as one (UDP_SEGMENT), through a tunnel.

use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use plimsoll_model::{Forward, SchedulerKind, Tunnel};
use plimsoll_plane::Plane;
use plimsoll_plane_ebpf::node::{Namespace, Node, Target};
use plimsoll_testkit::{TempDir, wait_until};

use crate::lab::{CLIENT, FIRST_SERVER, Lab, VIP, service};

const AT: &str = "10.77.0.200:8080";
/// The greatest payload whose packet fits a link of 1500 bytes, and one that fits a tunnel as well.
const FITS_THE_LINK: usize = 1472;
const FITS: usize = 1452;

fn option(socket: &UdpSocket, level: i32, name: i32, value: i32) {
    let len = size_of_val(&value) as libc::socklen_t;
    #[allow(
        unsafe_code,
        reason = "the standard library does not know these options"
    )]
    // SAFETY: the value is there for the call, and as long as is said.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            len,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// What was sent to a backend, in packets and bytes.
fn sent(lab: &Lab) -> u64 {
    let counters = lab.with(|plane| plane.counters());
    counters
        .services
        .iter()
        .flat_map(|s| &s.backends)
        .map(|(_, b)| b.bytes_in)
        .sum()
}

/// Makes a host a node that unwraps, and clamps segments if a size is given.
pub(crate) fn make_node(lab: &Lab, host: usize, folder: &Path, mss: Option<u16>) {
    let folder = folder.to_owned();
    lab.inside(host, move || {
        let mut node = Node::hold(Namespace::own().unwrap(), &folder).unwrap();
        let vips = [VIP.parse().unwrap()].into();
        let mut target = Target::serve(&vips, &["eth0".to_owned()], true, true, node.state());
        target.mss = mss;
        node.reach(&target).unwrap();
    });
}

#[test]
fn datagrams_handed_over_as_one_go_through_a_tunnel() {
    let Some(lab) = Lab::new("datagrams", 1) else {
        return;
    };
    let folder = TempDir::new().unwrap();
    make_node(&lab, FIRST_SERVER, folder.path(), None);
    let ipip = Forward::Tunnel(Tunnel::Ipip);
    let listen = format!("{AT}/udp");
    lab.bring(vec![service(
        &[&listen],
        SchedulerKind::Rr,
        ipip,
        &[FIRST_SERVER],
    )]);
    let server = lab.inside(FIRST_SERVER, || UdpSocket::bind(AT).unwrap());
    let client = lab.inside(CLIENT, || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect(AT).unwrap();
        socket
    });
    // Neighbours are known after one of these; until then datagrams may be lost.
    let mut buffer = [0; 2000];
    let short = Some(Duration::from_millis(200));
    server.set_read_timeout(short).unwrap();
    let arrives = || {
        client.send(b"first").unwrap();
        server.recv(&mut buffer).is_ok()
    };
    assert!(wait_until(Duration::from_secs(20), arrives));
    while server.recv(&mut buffer).is_ok() {}
    let long = Some(Duration::from_secs(10));
    server.set_read_timeout(long).unwrap();
    let before = sent(&lab);
    let train: Vec<u8> = (0..10 * FITS + 100).map(|i| (i / 7) as u8).collect();
    option(&client, libc::SOL_UDP, libc::UDP_SEGMENT, FITS as i32);
    client.send(&train).unwrap();
    for expected in train.chunks(FITS) {
        let len = server.recv(&mut buffer).unwrap();
        assert_eq!(buffer[..len], *expected);
    }
    // One packet on the director, with one header.
    assert_eq!(sent(&lab) - before, train.len() as u64 + 28);
    // Too long each: the sender is told what fits.
    option(
        &client,
        libc::SOL_UDP,
        libc::UDP_SEGMENT,
        FITS_THE_LINK as i32,
    );
    let refused = || {
        let error = client.send(&train[..4 * FITS_THE_LINK]).err();
        matches!(
            error.and_then(|e| e.raw_os_error()),
            Some(libc::EMSGSIZE | libc::EINVAL)
        )
    };
    assert!(wait_until(Duration::from_secs(20), refused));
}
