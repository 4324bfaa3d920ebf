//! `limits` of a service.

use plimsoll_model::{Limits, Quota, Rate};

use crate::fields::{Faults, Node, Table};
use crate::schema;

const RATE: &str = "a rate such as \"100/s\", \"30/m\" or \"1000/h\", or a table { rate, burst }";

/// The keys that are limits, of all together or of each source.
const QUOTA: [&str; 4] = ["connections", "connection-rate", "requests", "request-rate"];

pub(crate) fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Limits> {
    let expected = "a table such as { requests = 100, per-source = { request-rate = \"10/s\" } }";
    let table = node.table(expected, faults)?;
    table.check_keys(schema::LIMITS, faults);
    let mut limits = Limits {
        total: quota(&table, faults),
        ..Limits::default()
    };
    if let Some(node) = table.get("per-source") {
        let expected = "a table such as { request-rate = \"10/s\" }";
        let table = node.table(expected, faults)?;
        table.check_keys(schema::PER_SOURCE, faults);
        limits.per_source = quota(&table, faults);
        need_limit(&table, &node, expected, faults);
        for (key, max, value) in [
            ("prefix-v4", 32, &mut limits.prefix_v4),
            ("prefix-v6", 128, &mut limits.prefix_v6),
        ] {
            if let Some(read) = table.get(key).and_then(|node| node.integer(1, max, faults)) {
                *value = read;
            }
        }
    } else {
        need_limit(&table, node, expected, faults);
    }
    Some(limits)
}

/// A table that limits nothing is a mistake, unless it says so with a 0.
fn need_limit(table: &Table<'_>, node: &Node<'_>, expected: &str, faults: &mut Faults) {
    if !QUOTA.iter().any(|key| table.get(key).is_some()) {
        faults.push(node.fault("it needs a limit").expected(expected));
    }
}

fn quota(table: &Table<'_>, faults: &mut Faults) -> Quota {
    let mut quota = Quota::default();
    for (key, value) in [
        ("connections", &mut quota.connections),
        ("requests", &mut quota.requests),
    ] {
        if let Some(node) = table.get(key) {
            let most = i128::from(u32::MAX);
            *value = node.integer(0, most, faults).unwrap_or_default();
        }
    }
    for (key, value) in [
        ("connection-rate", &mut quota.connection_rate),
        ("request-rate", &mut quota.request_rate),
    ] {
        *value = table.get(key).and_then(|node| rate(&node, faults));
    }
    quota
}

fn rate(node: &Node<'_>, faults: &mut Faults) -> Option<Rate> {
    if node.is_string() {
        return node.parsed(RATE, faults);
    }
    let table = node.table(RATE, faults)?;
    table.check_keys(schema::RATE, faults);
    let mut rate: Rate = table.need("rate", RATE, faults)?.parsed(RATE, faults)?;
    if let Some(node) = table.get("burst") {
        rate.burst = node.integer(1, Rate::MAX.into(), faults)?;
    }
    Some(rate)
}
