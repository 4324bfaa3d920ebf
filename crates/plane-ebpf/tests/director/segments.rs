//! Segments that servers announce, whose answers leave the node directly.

use std::os::fd::AsRawFd;

use plimsoll_model::{Forward, SchedulerKind, Tunnel};
use plimsoll_testkit::TempDir;

use crate::datagrams::make_node;
use crate::lab::{Connection, FIRST_SERVER, Lab, serve, service};

const TO: &str = "10.77.0.200:8080";

/// The greatest segment that this end sends.
fn greatest(connection: &Connection) -> i32 {
    let mut value = 0_i32;
    let mut len = size_of_val(&value) as libc::socklen_t;
    let fd = connection.stream.get_ref().as_raw_fd();
    #[allow(unsafe_code, reason = "the standard library does not know this option")]
    // SAFETY: there is room for the value, and as much as is said.
    let result = unsafe {
        let to = (&raw mut value).cast();
        libc::getsockopt(fd, libc::SOL_TCP, libc::TCP_MAXSEG, to, &raw mut len)
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    value
}

#[test]
fn answers_of_a_node_announce_what_fits() {
    let Some(lab) = Lab::new("segments", 1) else {
        return;
    };
    // Then the checksum is made after the program has changed the packet, and the client looks at it.
    let mut ethtool = lab.host(FIRST_SERVER).command("ethtool");
    let done = ethtool.args(["-K", "eth0", "tx", "off"]).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    serve(&lab, FIRST_SERVER, TO);
    let ipip = Forward::Tunnel(Tunnel::Ipip);
    let listen = format!("{TO}/tcp");
    lab.bring(vec![service(
        &[&listen],
        SchedulerKind::Rr,
        ipip,
        &[FIRST_SERVER],
    )]);
    let folder = TempDir::new().unwrap();
    let payload: Vec<u8> = (0..200_000u32).map(|i| (i / 3) as u8).collect();
    // Of 12 bytes are the time stamps. Nothing is said, a size, another one, and nothing again: then the
    // client may have been told what fits into the tunnel.
    for (mss, least, most) in [
        (None, 1448, 1460),
        (Some(1420), 1408, 1420),
        (Some(600), 588, 600),
        (None, 1428, 1460),
    ] {
        make_node(&lab, FIRST_SERVER, folder.path(), mss);
        let mut connection = Connection::open(&lab, TO).unwrap();
        let greatest = greatest(&connection);
        assert!((least..=most).contains(&greatest), "{mss:?}: {greatest}");
        connection.echo(&payload).unwrap();
    }
}
