//! `maintenance` of a service or a route.

use plimsoll_model::Maintenance;

use crate::fields::{Faults, Table};
use crate::networks;
use crate::pages;
use crate::schema;

pub(crate) fn read(table: &Table<'_>, faults: &mut Faults) -> Option<Maintenance> {
    let expected = "true, false, or a table such as { on = true, except = [\"10.0.0.0/8\"] }";
    let node = table.get("maintenance")?;
    if node.is_boolean() {
        return node.boolean(faults)?.then(|| Maintenance::new(true));
    }
    if !node.is_table() {
        faults.push(node.wrong_type(expected));
        return None;
    }
    let table = node.table(expected, faults)?;
    table.check_keys(schema::MAINTENANCE, faults);
    let mut maintenance = Maintenance::new(true);
    if let Some(node) = table.get("on") {
        maintenance.on = node.boolean(faults)?;
    }
    if let Some(node) = table.get("retry-after") {
        maintenance.retry_after = node.duration(std::time::Duration::from_secs(1), faults)?;
    }
    maintenance.except = networks::list(&table, "except", faults);
    maintenance.page = table
        .get("page")
        .and_then(|node| pages::page(&node, faults));
    if let Err(error) = maintenance.validate() {
        faults.push(node.fault(error.0).expected(expected));
        return None;
    }
    Some(maintenance)
}
