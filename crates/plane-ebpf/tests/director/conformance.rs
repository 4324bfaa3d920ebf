//! What every plane must do.

use plimsoll_plane::conformance::{self, Kind};
use plimsoll_plane_ebpf::EbpfPlane;
use plimsoll_testkit::{Namespace, root_or_skip};

use crate::lab::{options, run};

#[test]
fn the_plane_conforms() {
    if !root_or_skip("the_plane_conforms") {
        return;
    }
    let namespace = Namespace::new("conformance").unwrap();
    let name = namespace.name().to_owned();
    run(&namespace, move || {
        let ip = |line: &str| {
            let words = ["-n", &name].into_iter().chain(line.split_whitespace());
            let status = std::process::Command::new("ip").args(words).status();
            assert!(status.unwrap().success(), "{line}");
        };
        let mut made = false;
        let mut make = || {
            // What a plane leaves in the kernel goes with its interface.
            if std::mem::replace(&mut made, true) {
                ip("link del eth0");
            }
            ip("link add eth0 type veth peer name eth1");
            ip("link set eth0 up");
            Box::new(EbpfPlane::start(options(Vec::new())).unwrap()) as _
        };
        let mut next = 1024;
        let mut port = || {
            next += 1;
            next
        };
        conformance::run(Kind::Packets, &mut make, &mut port);
    });
}
