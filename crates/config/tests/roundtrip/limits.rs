//! Limits of services: random, and as text.

use plimsoll_model::*;
use proptest::prelude::*;
use proptest::{option, sample::select};

use crate::write::{Parts, text};

fn quota() -> BoxedStrategy<Quota> {
    let rate = || {
        let rate = (select(vec!["1/s", "30/m", "1000000000/h"]), 1..=Rate::MAX);
        option::of(rate.prop_map(|(rate, burst)| {
            let rate: Rate = rate.parse().unwrap();
            match burst % 2 {
                0 => Rate { burst, ..rate },
                _ => rate,
            }
        }))
    };
    let quota = (any::<u32>(), rate(), any::<u32>(), rate());
    quota
        .prop_map(
            |(connections, connection_rate, requests, request_rate)| Quota {
                connections,
                connection_rate,
                requests,
                request_rate,
            },
        )
        .boxed()
}

pub(crate) fn limits() -> BoxedStrategy<Option<Limits>> {
    let limits = (quota(), quota(), 1..=32_u8, 1..=128_u8);
    let limits = limits.prop_map(|(total, per_source, prefix_v4, prefix_v6)| Limits {
        total,
        per_source,
        prefix_v4,
        prefix_v6,
    });
    option::of(limits).boxed()
}

fn write_quota(quota: &Quota, short: bool, parts: &mut Parts) {
    let number = |n: u32| (!short || n > 0, n.to_string());
    let rate = |rate: Option<Rate>| {
        let Some(rate) = rate else {
            return (false, String::new());
        };
        let mut table = Parts::default();
        table.add(true, "rate", text(rate));
        table.add(true, "burst", rate.burst.to_string());
        let value = match short && rate.burst == rate.count {
            true => text(rate),
            false => table.inline(),
        };
        (true, value)
    };
    for (key, (said, value)) in [
        ("connections", number(quota.connections)),
        ("connection-rate", rate(quota.connection_rate)),
        ("requests", number(quota.requests)),
        ("request-rate", rate(quota.request_rate)),
    ] {
        parts.add(said, key, value);
    }
}

pub(crate) fn write(limits: &Limits, short: bool, parts: &mut Parts) {
    let mut table = Parts::default();
    write_quota(&limits.total, short, &mut table);
    let mut own = Parts::default();
    write_quota(&limits.per_source, short, &mut own);
    own.add(true, "prefix-v4", limits.prefix_v4.to_string());
    own.add(true, "prefix-v6", limits.prefix_v6.to_string());
    table.add(true, "per-source", own.inline());
    parts.add(true, "limits", table.inline());
}
