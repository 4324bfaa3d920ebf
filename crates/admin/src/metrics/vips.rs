//! The addresses that services bring along.

use plimsoll_control::status::{Status, VipState, VipStatus};

use super::{Family, Text, number, truth};

/// Only where there are any.
pub(super) fn render(text: &mut Text, status: &Status) {
    let families: [Family<VipStatus>; 4] = [
        (
            "plimsoll_vip_present",
            "gauge",
            "Whether this host has the address.",
            |vip| truth(vip.state != VipState::Missing),
        ),
        (
            "plimsoll_vip_added",
            "gauge",
            "Whether plimsoll has added it, and takes it away at its end.",
            |vip| truth(vip.state == VipState::Added),
        ),
        (
            "plimsoll_vip_announcements_total",
            "counter",
            "How often the address was announced to its neighbours.",
            |vip| number(vip.announced),
        ),
        (
            "plimsoll_vip_restored_total",
            "counter",
            "How often the address was found gone, and added again.",
            |vip| number(vip.restored),
        ),
    ];
    for (name, kind, help, of) in families {
        text.family(name, kind, help);
        for vip in &status.vips {
            let labels = [
                ("address", vip.address.as_str()),
                ("interface", &vip.interface),
            ];
            text.sample(name, &labels, of(vip));
        }
    }
}
