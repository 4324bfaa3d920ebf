//! Where services differ in their limits.

use plimsoll_model::{Limits, Quota, Rate};

use super::{Difference, NONE, differ};

/// What the keys of one quota are called.
const TOTAL: [&str; 6] = [
    "limits.connections",
    "limits.connection-rate",
    "limits.connection-rate.burst",
    "limits.requests",
    "limits.request-rate",
    "limits.request-rate.burst",
];

/// The same for each source.
const PER_SOURCE: [&str; 6] = [
    "limits.per-source.connections",
    "limits.per-source.connection-rate",
    "limits.per-source.connection-rate.burst",
    "limits.per-source.requests",
    "limits.per-source.request-rate",
    "limits.per-source.request-rate.burst",
];

/// The first limit in which two services differ.
pub(super) fn of_limits(first: Option<&Limits>, second: Option<&Limits>) -> Option<Difference> {
    let first = first.copied().unwrap_or_default();
    let second = second.copied().unwrap_or_default();
    let Limits {
        total,
        per_source,
        prefix_v4,
        prefix_v6,
    } = first;
    let number = |n: &u8| n.to_string();
    None.or_else(|| of_quotas(TOTAL, &total, &second.total))
        .or_else(|| of_quotas(PER_SOURCE, &per_source, &second.per_source))
        .or_else(|| {
            let key = "limits.per-source.prefix-v4";
            differ(key, &prefix_v4, &second.prefix_v4, number)
        })
        .or_else(|| {
            let key = "limits.per-source.prefix-v6";
            differ(key, &prefix_v6, &second.prefix_v6, number)
        })
}

fn of_quotas(keys: [&'static str; 6], first: &Quota, second: &Quota) -> Option<Difference> {
    let [many, rate, burst, requests, request_rate, request_burst] = keys;
    let Quota {
        connections,
        connection_rate,
        requests: at_once,
        request_rate: of_requests,
    } = first;
    let number = |n: &u32| n.to_string();
    None.or_else(|| differ(many, connections, &second.connections, number))
        .or_else(|| of_rates([rate, burst], *connection_rate, second.connection_rate))
        .or_else(|| differ(requests, at_once, &second.requests, number))
        .or_else(|| {
            let keys = [request_rate, request_burst];
            of_rates(keys, *of_requests, second.request_rate)
        })
}

fn of_rates(
    [rate, burst]: [&'static str; 2],
    first: Option<Rate>,
    second: Option<Rate>,
) -> Option<Difference> {
    // By its text, which leaves the burst out.
    let text = |rate: Option<Rate>| rate.map_or(NONE.into(), |rate| rate.to_string());
    let bursts = |rate: Option<Rate>| rate.map_or(NONE.into(), |rate| rate.burst.to_string());
    differ(rate, &text(first), &text(second), String::clone)
        .or_else(|| differ(burst, &bursts(first), &bursts(second), String::clone))
}
