//! Which service takes a packet.

use plimsoll_model::Forward;

use crate::bench::{Bench, both, service};
use crate::build::{Packet, SYN};

#[test]
fn services() {
    both(
        "services",
        &[(
            "one_port_goes_before_a_range_before_all",
            one_port_goes_before_a_range_before_all,
        )],
    );
}

/// The number of the backend that a new flow to this port gets.
fn taken(bench: &Bench, proto: u8, vip: &str, port: u16) -> Option<u8> {
    let (client, vip) = match vip.contains(':') {
        true => (format!("[2001:db8::7]:{port}"), format!("[{vip}]:{port}")),
        false => (format!("192.0.2.7:{port}"), format!("{vip}:{port}")),
    };
    let mut packet = Packet::tcp(&client, &vip, SYN);
    packet.proto = proto;
    let became = bench.send(&packet);
    (!became.is_passed()).then(|| became.sent().to[5])
}

fn one_port_goes_before_a_range_before_all(bench: &mut Bench) {
    for (vip, net) in [("10.0.200.1", "10.0.1."), ("fd00::200:1", "fd00::1:")] {
        let at = |ports: &str| match vip.contains(':') {
            true => format!("[{vip}]:{ports}"),
            false => format!("{vip}:{ports}"),
        };
        let of = |name: &str, listens: &[&str], backend: u8| {
            let listens: Vec<String> = listens.iter().map(|l| at(l)).collect();
            let listens: Vec<&str> = listens.iter().map(String::as_str).collect();
            service(name, &listens, Forward::Dr, &[&format!("{net}{backend}")])
        };
        let all = of("all", &["*/tcp"], 1);
        let ranges = of("ranges", &["100-200/tcp", "300-400/tcp", "1-65535/udp"], 2);
        let more = of("more", &["201-299/tcp", "65535-65535/tcp"], 3);
        let one = of("one", &["150/tcp", "150/udp"], 4);
        bench.bring([all.clone(), ranges.clone(), more.clone(), one.clone()]);
        for (proto, port, backend) in [
            (6, 1, 1),
            (6, 99, 1),
            (6, 100, 2),
            (6, 149, 2),
            (6, 150, 4),
            (6, 151, 2),
            (6, 200, 2),
            (6, 201, 3),
            (6, 299, 3),
            (6, 300, 2),
            (6, 400, 2),
            (6, 401, 1),
            (6, 65534, 1),
            (6, 65535, 3),
            (17, 1, 2),
            (17, 150, 4),
            (17, 65535, 2),
        ] {
            assert_eq!(
                taken(bench, proto, vip, port),
                Some(backend),
                "{proto} {port}"
            );
        }
        // One goes, and what lies below it shows.
        bench.bring([all.clone(), more.clone(), one.clone()]);
        for (proto, port, backend) in [(6, 102, Some(1)), (6, 250, Some(3)), (17, 9, None)] {
            assert_eq!(taken(bench, proto, vip, port), backend, "{proto} {port}");
        }
        bench.bring([more, one]);
        assert_eq!(taken(bench, 6, vip, 2000), None);
        bench.bring([ranges]);
        assert_eq!(taken(bench, 6, vip, 153), Some(2));
        assert_eq!(taken(bench, 6, vip, 203), None);
    }
    bench.bring([]);
    assert_eq!(taken(bench, 6, "10.0.200.1", 154), None);
}
