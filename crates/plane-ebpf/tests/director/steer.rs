//! Packets get where they should, and connections stay where they are.

use std::collections::BTreeMap;

use plimsoll_model::{Forward, SchedulerKind};

use crate::lab::{Connection, FIRST_SERVER, Lab, ip, serve, service};

const LISTEN: &str = "10.77.0.200:8080/tcp";
const TO: &str = "10.77.0.200:8080";

/// So many connections one after the other; how many each host had.
fn spread(lab: &Lab, connections: usize) -> BTreeMap<usize, usize> {
    let mut hosts = BTreeMap::new();
    for _ in 0..connections {
        let connection = Connection::open(lab, TO).unwrap();
        assert_eq!(connection.seen, ip(0).to_string(), "servers see the client");
        *hosts.entry(connection.host).or_default() += 1;
    }
    hosts
}

#[test]
fn direct_routing_keeps_the_client_and_its_connection() {
    let Some(lab) = Lab::new("direct_routing", 3) else {
        return;
    };
    let hosts: Vec<usize> = (FIRST_SERVER..FIRST_SERVER + 3).collect();
    for host in &hosts {
        serve(&lab, *host, TO);
    }
    lab.bring(vec![service(
        &[LISTEN],
        SchedulerKind::Rr,
        Forward::Dr,
        &hosts,
    )]);
    let mut first = Connection::open(&lab, TO).unwrap();
    let counts = spread(&lab, 30);
    assert_eq!(counts, hosts.iter().map(|host| (*host, 10)).collect());
    let payload: Vec<u8> = (0..300_000u32).map(|i| i as u8).collect();
    first.echo(&payload).unwrap();
    // One backend goes: what it has goes on, and it gets nothing new.
    let stay: Vec<usize> = hosts
        .iter()
        .copied()
        .filter(|host| *host != first.host)
        .collect();
    lab.bring(vec![service(
        &[LISTEN],
        SchedulerKind::Rr,
        Forward::Dr,
        &stay,
    )]);
    first.echo(&payload).unwrap();
    assert!(!spread(&lab, 6).contains_key(&first.host));
    // The process goes and comes back: neither the flow nor new ones notice.
    lab.stop();
    first.echo(&payload).unwrap();
    assert_eq!(spread(&lab, 6).values().sum::<usize>(), 6);
    lab.start();
    first.echo(&payload).unwrap();
    lab.bring(vec![service(
        &[LISTEN],
        SchedulerKind::Rr,
        Forward::Dr,
        &hosts,
    )]);
    first.echo(&payload).unwrap();
    assert_eq!(
        spread(&lab, 9),
        hosts.iter().map(|host| (*host, 3)).collect()
    );
}

#[test]
fn nat_leads_to_another_port_and_back() {
    let Some(lab) = Lab::new("nat", 2) else {
        return;
    };
    let hosts: Vec<usize> = (FIRST_SERVER..FIRST_SERVER + 2).collect();
    for host in &hosts {
        serve(&lab, *host, &format!("{}:9000", ip(*host)));
        // Replies must come back by the director.
        let node = lab.host(*host);
        node.ip(&["route", "add", "10.77.0.1/32", "via", "10.77.0.2"])
            .unwrap();
    }
    let mut nat = service(&[LISTEN], SchedulerKind::Rr, Forward::Nat, &[]);
    for host in &hosts {
        let addr = format!("{}:9000", ip(*host)).parse().unwrap();
        let mut backend = plimsoll_model::Backend::new(addr, nat.spec.origin.clone());
        backend.forward = Forward::Nat;
        nat.backends.insert(backend.addr.clone(), backend.into());
    }
    lab.bring(vec![nat]);
    let mut first = Connection::open(&lab, TO).unwrap();
    let payload: Vec<u8> = (0..300_000u32).map(|i| (i * 7) as u8).collect();
    first.echo(&payload).unwrap();
    let counts = spread(&lab, 20);
    assert_eq!(counts, hosts.iter().map(|host| (*host, 10)).collect());
}
