//! Backends: a string with an address, or a table.

use std::collections::BTreeMap;
use std::sync::Arc;

use plimsoll_model::{Backend, BackendAddr, Forward, MAX_WEIGHT, Origin, State, Status, Tunnel};

use crate::fields::{Fault, Faults, Node, Table};
use crate::schema;

const ADDRESS: &str =
    "ADDR:PORT (10.0.0.1:80, [fd00::1]:80), ADDR, or unix:/PATH, or a table with `address`";

/// A backend that was read, and the places that other checks need.
pub(crate) struct ReadBackend<'a> {
    pub(crate) backend: Backend,
    /// Where the address stands.
    pub(crate) address: Node<'a>,
    /// `forward`, if it is said.
    pub(crate) forward: Option<Node<'a>>,
}

/// Reads a backend. `role` is what it is to its service: `backend` or `sorry`.
pub(crate) fn read<'a>(
    source: &Arc<str>,
    service: &str,
    role: &str,
    node: &Node<'a>,
    faults: &mut Faults,
) -> Option<ReadBackend<'a>> {
    let before = faults.count();
    let table = match node.is_string() {
        true => None,
        false => Some(node.table(ADDRESS, faults)?),
    };
    let address = match &table {
        None => node.clone(),
        Some(table) => {
            table.check_keys(schema::BACKEND, faults);
            table.need("address", "address = \"ADDR:PORT\"", faults)?
        }
    };
    let addr: BackendAddr = address.parsed(ADDRESS, faults)?;
    let entry = format!("service {service}, {role} {addr}");
    let mut backend = Backend::new(addr, Origin::new(source.clone(), entry));
    if let Some(table) = &table {
        fill(&mut backend, table, faults);
    }
    if faults.count() == before
        && let Err(error) = backend.validate()
    {
        faults.push(node.fault(error.0));
    }
    (faults.count() == before).then(|| ReadBackend {
        backend,
        address,
        forward: table.and_then(|table| table.get("forward")),
    })
}

fn fill(backend: &mut Backend, table: &Table<'_>, faults: &mut Faults) {
    let before = faults.count();
    let mut number = |key: &str, max: u32, value: &mut u32| {
        if let Some(read) = table
            .get(key)
            .and_then(|node| node.integer(0, i128::from(max), faults))
        {
            *value = read;
        }
    };
    number("weight", MAX_WEIGHT, &mut backend.weight);
    number("maxconn", u32::MAX, &mut backend.maxconn);
    number("upper", u32::MAX, &mut backend.upper);
    number("lower", u32::MAX, &mut backend.lower);
    let mut label = |key: &str, value: &mut Arc<str>| {
        if let Some(text) = table.get(key).and_then(|node| node.label(faults)) {
            *value = text.into();
        }
    };
    label("name", &mut backend.name);
    label("node", &mut backend.node);
    label("zone", &mut backend.zone);
    if let Some(node) = table.get("lower")
        && backend.lower > backend.upper
        && faults.count() == before
    {
        let message = format!(
            "the lower threshold {} is above the upper one, {}",
            backend.lower, backend.upper
        );
        faults.push(node.fault(message).expected("`lower` of at most `upper`"));
    }
    if let Some(node) = table.get("forward") {
        backend.forward = forward(&node, faults).unwrap_or_default();
        if matches!(backend.addr, BackendAddr::Unix(_)) && backend.forward != Forward::Proxy {
            let fault = node.fault("a Unix socket can be reached by the proxy only");
            faults.push(fault.expected("\"proxy\""));
        }
    }
    if let Some(node) = table.get("ports") {
        backend.ports = ports(&node, faults).unwrap_or_default();
        if !matches!(backend.addr, BackendAddr::Ip(_, None)) {
            let fault = node.fault(format!("a port map, but {} has its own", backend.addr));
            faults.push(fault.expected("an address without a port"));
        }
    }
    if let Some(true) = table.get("drain").and_then(|node| node.boolean(faults)) {
        backend.status = Status::new(State::Draining, "set in the file");
    }
}

fn forward(node: &Node<'_>, faults: &mut Faults) -> Option<Forward> {
    if node.is_string() {
        return node.word("forward method", &Forward::NAMES, faults);
    }
    let expected =
        "one of proxy, nat, dr, tunnel, or a table such as { tunnel = \"gue\", port = 6080 }";
    let table = node.table(expected, faults)?;
    table.check_keys(schema::FORWARD, faults);
    let port = table.get("port");
    // A tunnel of its own kind each; the port of gue follows.
    let kinds = [("ipip", Kind::Ipip), ("gue", Kind::Gue), ("gre", Kind::Gre)];
    let kind = table
        .need("tunnel", "tunnel = \"ipip\", \"gue\" or \"gre\"", faults)?
        .word("tunnel", &kinds, faults)?;
    let tunnel = match (kind, &port) {
        (Kind::Gue, Some(port)) => Tunnel::Gue {
            port: port.integer(1, i128::from(u16::MAX), faults)?,
        },
        (Kind::Gue, None) => {
            let fault = node.fault("a GUE tunnel without a port");
            faults.push(fault.expected("the UDP port it goes to, such as port = 6080"));
            return None;
        }
        (_, Some(port)) => {
            let fault = port.fault("a port, but only a GUE tunnel has one");
            faults.push(fault.expected("no `port`, or tunnel = \"gue\""));
            return None;
        }
        (Kind::Ipip, None) => Tunnel::Ipip,
        (Kind::Gre, None) => Tunnel::Gre,
    };
    Some(Forward::Tunnel(tunnel))
}

#[derive(Clone, Copy)]
enum Kind {
    Ipip,
    Gue,
    Gre,
}

fn ports(node: &Node<'_>, faults: &mut Faults) -> Option<BTreeMap<u16, u16>> {
    let expected = "a table from listen port to backend port, such as { 80 = 8080 }";
    let table = node.table(expected, faults)?;
    let mut map = BTreeMap::new();
    for (key, span, value) in table.entries() {
        let listen = key
            .parse::<u16>()
            .ok()
            .filter(|port| *port > 0 && key.bytes().all(|b| b.is_ascii_digit()));
        let to = value.integer::<u16>(1, i128::from(u16::MAX), faults);
        match (listen, to) {
            (Some(listen), Some(to)) => {
                if map.insert(listen, to).is_some() {
                    let fault = Fault::new(span, value.place.path, "this port is here twice");
                    faults.push(fault.expected("every port once"));
                }
            }
            (None, _) => {
                let fault = Fault::new(span, value.place.path, "not a port");
                faults.push(fault.expected("a listen port from 1 to 65535"));
            }
            (Some(_), None) => {}
        }
    }
    Some(map)
}
