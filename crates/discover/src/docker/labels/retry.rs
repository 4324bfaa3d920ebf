//! The labels beside `retries`: after what, and how often over all.

use plimsoll_model::{Retry, RetryOn};

use super::group::Group;
use super::value::{Faults, told};

/// `plimsoll.retries.on`, `.budget` and `.floor`.
pub(crate) fn read(group: &Group<'_>, faults: &mut Faults) -> Retry {
    let mut retry = Retry::default();
    if let Some(value) = group.get("retries.on") {
        retry.on = RetryOn::none();
        for item in value.items(RetryOn::NAMES.len(), faults) {
            let Some(cause) = value.item(item).word(&RetryOn::NAMES, faults) else {
                continue;
            };
            if retry.on.has(cause) {
                faults.push(value.fault(format!("{cause} is there twice")));
            }
            retry.on = retry.on.and(cause);
        }
    }
    if let Some(value) = group.get("retries.budget") {
        match Retry::parse_budget(value.text) {
            Ok(budget) => retry.budget = budget,
            Err(error) => faults.push(value.fault(told(&error, value.text))),
        }
    }
    if let Some(value) = group.get("retries.floor")
        && let Some(floor) = value.number(0, u32::MAX, faults)
    {
        retry.floor = floor;
    }
    retry
}
