//! `vip` of a service.

use plimsoll_model::{ServiceSpec, Vip};

use crate::fields::{Faults, Node, Place, Table};
use crate::schema;

/// VIPs of one service at most.
const MAX_VIPS: usize = 64;

const VIP: &str = "{ address = \"203.0.113.9\", interface = \"eth0\" }, or a list of such tables";

/// The VIPs of a service, and where each stands.
pub(crate) fn read(service: &Table<'_>, faults: &mut Faults) -> (Vec<Vip>, Vec<Place>) {
    let Some(node) = service.get("vip") else {
        return Default::default();
    };
    let items = node.one_or_many(MAX_VIPS, faults);
    items.iter().filter_map(|item| one(item, faults)).unzip()
}

fn one(node: &Node<'_>, faults: &mut Faults) -> Option<(Vip, Place)> {
    let table = node.table(VIP, faults)?;
    table.check_keys(schema::VIP, faults);
    let address = table.need("address", "address = \"203.0.113.9\" or another", faults);
    let interface = table.need("interface", "interface = \"eth0\" or another", faults);
    let address = address.and_then(|node| {
        let expected =
            "an address, with or without a network's length: \"203.0.113.9\", \"2001:db8::9/64\"";
        node.parsed(expected, faults)
    });
    let interface = interface.and_then(|node| {
        let expected = "the name of a device as `ip link` shows it, such as \"eth0\"";
        node.parsed(expected, faults)
    });
    let (address, interface) = (address?, interface?);
    Some((Vip { address, interface }, node.place.clone()))
}

/// Reports a VIP that does not fit the rest of its service.
pub(crate) fn check_own(spec: &ServiceSpec, places: &[Place], faults: &mut Faults) {
    if let Some((i, why)) = spec.fault_of_vips()
        && let Some(place) = places.get(i)
    {
        let expected = "an address of a `listen` of this service, each once";
        faults.push(place.fault(why).expected(expected));
    }
}
