//! `listen-options` and `to-backends` of a service.

use std::net::IpAddr;
use std::sync::Arc;

use plimsoll_model::{Interface, ListenOptions, Source, ToBackends};

use crate::diagnostic::quote;
use crate::fields::{Faults, Node, Table};
use crate::nearest::nearest;
use crate::schema;

const INTERFACE: &str = "the name of a device as `ip link` shows it, such as \"eth0\"";
const SOURCE: &str =
    "\"client\", \"client:port\", an IP address of this host, or one of each family";

/// What listening sockets are told; none if that is nothing.
pub(crate) fn listen(node: &Node<'_>, faults: &mut Faults) -> Option<Arc<ListenOptions>> {
    let table = node.table(
        "a table such as { tcp-fast-open = 256, interface = \"eth0\" }",
        faults,
    )?;
    table.check_keys(schema::LISTEN_OPTIONS, faults);
    let mut options = ListenOptions::default();
    if let Some(node) = table.get("tcp-fast-open") {
        let most = i128::from(ListenOptions::MAX_FAST_OPEN);
        options.fast_open = node.integer(0, most, faults).unwrap_or_default();
    }
    options.interface = interface(&table, faults);
    if let Some(node) = table.get("transparent") {
        options.transparent = node.boolean(faults).unwrap_or_default();
    }
    (options != ListenOptions::default()).then(|| Arc::new(options))
}

/// How connections to backends leave; none if that is as the routes say.
pub(crate) fn to_backends(node: &Node<'_>, faults: &mut Faults) -> Option<Arc<ToBackends>> {
    let table = node.table(
        "a table such as { mark = 7, interface = \"eth1\", source = \"10.0.0.9\" }",
        faults,
    )?;
    table.check_keys(schema::TO_BACKENDS, faults);
    let mut to = ToBackends::default();
    if let Some(node) = table.get("tcp-fast-open") {
        to.fast_open = node.boolean(faults).unwrap_or_default();
    }
    if let Some(node) = table.get("mark") {
        let mark = node.integer::<u32>(1, i128::from(u32::MAX), faults);
        to.mark = mark.and_then(|mark| mark.try_into().ok());
    }
    to.interface = interface(&table, faults);
    if let Some(node) = table.get("source") {
        to.source = source(&node, faults).unwrap_or_default();
    }
    (to != ToBackends::default()).then(|| Arc::new(to))
}

fn interface(table: &Table<'_>, faults: &mut Faults) -> Option<Interface> {
    table.get("interface")?.parsed(INTERFACE, faults)
}

fn source(node: &Node<'_>, faults: &mut Faults) -> Option<Source> {
    if node.is_string() {
        match node.string(SOURCE, faults)? {
            "client" => return Some(Source::Client { port: false }),
            "client:port" => return Some(Source::Client { port: true }),
            _ => {}
        }
    }
    let (mut v4, mut v6) = (None, None);
    for item in node.one_or_many(2, faults) {
        let text = item.string(SOURCE, faults)?;
        let Ok(ip) = text.parse::<IpAddr>() else {
            let meant = nearest(text, ["client", "client:port"]);
            let fault = item.fault(format!("`{}` is no address", quote(text)));
            faults.push(fault.expected(SOURCE).nearest(meant));
            return None;
        };
        let why = match ip.to_canonical() {
            ip if ip.is_unspecified() || ip.is_multicast() => {
                Some(format!("nothing can be sent from {ip}"))
            }
            IpAddr::V4(ip) => v4.replace(ip).map(|_| "two addresses of IPv4".to_owned()),
            IpAddr::V6(ip) => v6.replace(ip).map(|_| "two addresses of IPv6".to_owned()),
        };
        if let Some(why) = why {
            faults.push(item.fault(why).expected(SOURCE));
            return None;
        }
    }
    let none = v4.is_none() && v6.is_none();
    if none && node.is_list() {
        faults.push(node.fault("an empty list").expected(SOURCE));
    }
    (!none).then_some(Source::Own { v4, v6 })
}
