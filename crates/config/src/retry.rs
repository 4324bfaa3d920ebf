//! `retries` of a service.

use plimsoll_model::{Retry, RetryOn, ServiceSpec};

use crate::fields::{Faults, Node};
use crate::schema;

/// How a budget is written.
const BUDGET: &str = "a percentage of the requests, from \"0%\" to \"1000%\"";

/// `3`, or a table with that as `attempts`.
pub(crate) fn read(node: &Node<'_>, spec: &mut ServiceSpec, faults: &mut Faults) {
    let number = |node: &Node<'_>, faults: &mut Faults| node.integer(0, u32::MAX.into(), faults);
    if !node.is_table() {
        spec.retries = number(node, faults).unwrap_or_default();
        return;
    }
    let Some(table) = node.table("a table", faults) else {
        return;
    };
    table.check_keys(schema::RETRIES, faults);
    if let Some(attempts) = table.get("attempts").and_then(|n| number(&n, faults)) {
        spec.retries = attempts;
    }
    if let Some(node) = table.get("on") {
        spec.retry.on = causes(&node, faults);
    }
    if let Some(budget) = table.get("budget").and_then(|n| percent(&n, faults)) {
        spec.retry.budget = budget;
    }
    if let Some(floor) = table.get("floor").and_then(|n| number(&n, faults)) {
        spec.retry.floor = floor;
    }
}

fn causes(node: &Node<'_>, faults: &mut Faults) -> RetryOn {
    let mut causes = RetryOn::none();
    for node in node.one_or_many(RetryOn::NAMES.len(), faults) {
        let Some(cause) = node.word("cause of a retry", &RetryOn::NAMES, faults) else {
            continue;
        };
        if causes.has(cause) {
            let fault = node.fault(format!("`{cause}` is there twice"));
            faults.push(fault.expected("every cause once"));
        }
        causes = causes.and(cause);
    }
    causes
}

/// `"20%"`.
fn percent(node: &Node<'_>, faults: &mut Faults) -> Option<u32> {
    let text = node.string(BUDGET, faults)?;
    let budget = Retry::parse_budget(text);
    if let Err(error) = &budget {
        let percent = format!("{text}%");
        let meant = Retry::parse_budget(&percent).is_ok().then_some(percent);
        faults.push(node.invalid(error, BUDGET).nearest(meant));
    }
    budget.ok()
}
