//! What becomes of packets.

use plimsoll_control::status::{PacketCounters, Status};

use super::{Text, number};

/// Only of planes that look at packets.
pub(super) fn render(text: &mut Text, status: &Status) {
    let counted: Vec<(&str, &PacketCounters)> = (status.planes.iter())
        .filter_map(|plane| Some((plane.name.as_str(), plane.packets.as_ref()?)))
        .collect();
    let name = "plimsoll_packets_noted_total";
    let help = "Packets to VIPs that were not simply forwarded, by the reason.";
    text.family(name, "counter", help);
    for (plane, packets) in &counted {
        for (reason, count) in &packets.noted {
            let labels = [("plane", *plane), ("reason", reason)];
            text.sample(name, &labels, number(*count));
        }
    }
    let name = "plimsoll_packet_flows";
    text.family(name, "gauge", "Flows at backends now.");
    for (plane, packets) in &counted {
        text.sample(name, &[("plane", plane)], number(packets.flows));
    }
    let name = "plimsoll_packet_flows_room";
    text.family(name, "gauge", "Flows that there is room for, by family.");
    for (plane, packets) in &counted {
        for (family, room) in [("ipv4", packets.room_v4), ("ipv6", packets.room_v6)] {
            text.sample(name, &[("plane", plane), ("family", family)], number(room));
        }
    }
}
