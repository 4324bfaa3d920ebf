//! The labels of maintenance and of what clients see in place of errors.

use std::time::Duration;

use plimsoll_model::{ErrorStatus, Intercept, Maintenance};

use super::group::Group;
use super::settings::{MAX_NETWORKS, network_of};
use super::value::Faults;

const BOOLEAN: [(&str, bool); 2] = [("true", true), ("false", false)];

/// `plimsoll.maintenance` and what it can have beside it.
pub(crate) fn read(group: &Group<'_>, faults: &mut Faults) -> Option<Maintenance> {
    const BESIDE: [&str; 2] = ["maintenance.retry-after", "maintenance.except"];
    let [after, except] = BESIDE.map(|key| group.get(key));
    let Some(value) = group.get("maintenance") else {
        if let Some(value) = after.or(except) {
            let why = format!("it needs label {}.maintenance", group.prefix);
            faults.push(value.fault(format!("{why}, which may be false")));
        }
        return None;
    };
    let mut maintenance = Maintenance::new(value.word(&BOOLEAN, faults)?);
    if !maintenance.on && after.is_none() && except.is_none() {
        return None;
    }
    if let Some(value) = after {
        maintenance.retry_after = value.duration(Duration::from_secs(1), faults)?;
    }
    if let Some(value) = except {
        let items = value.items(MAX_NETWORKS, faults);
        let networks = items
            .into_iter()
            .filter_map(|item| network_of(value, item, faults));
        maintenance.except = networks.collect();
    }
    if let Err(error) = maintenance.validate() {
        faults.push(after.unwrap_or(value).fault(error.0));
        return None;
    }
    Some(maintenance)
}

/// `plimsoll.intercept`: `true`, `false`, or statuses.
pub(crate) fn intercept(group: &Group<'_>, faults: &mut Faults) -> Intercept {
    let Some(value) = group.get("intercept") else {
        return Intercept::default();
    };
    match value.text {
        "false" => Intercept::default(),
        "true" => Intercept(ErrorStatus::ALL.into()),
        _ => {
            let items = value.items(ErrorStatus::MOST, faults);
            let statuses = items
                .into_iter()
                .filter_map(|item| value.part(item, faults));
            Intercept(statuses.collect())
        }
    }
}
