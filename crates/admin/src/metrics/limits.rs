//! Whom limits have turned away.

use plimsoll_control::status::{LimitCounters, Status};

use super::{Family, Text, each_service, number};

/// Only of services that have limits.
pub(super) fn render(text: &mut Text, status: &Status) {
    let limited = || {
        let services = status.services.iter();
        services.filter_map(|service| Some((service.name.as_str(), service.limits.as_ref()?)))
    };
    let name = "plimsoll_service_limited_total";
    let help = "Connections and requests refused, by the limit that was met.";
    text.family(name, "counter", help);
    for (service, limits) in limited() {
        for (whose, quota) in [("service", &limits.total), ("source", &limits.per_source)] {
            for (limit, count) in quota.named() {
                let labels = [("service", service), ("of", whose), ("limit", limit)];
                text.sample(name, &labels, number(count));
            }
        }
    }
    let families: [Family<LimitCounters>; 2] = [
        (
            "plimsoll_service_limit_sources",
            "gauge",
            "Sources of which it is known what they have had.",
            |limits| number(limits.sources),
        ),
        (
            "plimsoll_service_limit_uncounted_total",
            "counter",
            "Let in without being counted for their source, because the table was full.",
            |limits| number(limits.unknown),
        ),
    ];
    each_service(text, status, |s| s.limits.as_ref(), families);
}
