//! `outlier` of a service.

use plimsoll_model::{Outlier, OutlierErrors};

use crate::fields::{Faults, Node};
use crate::schema;

pub(crate) fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Outlier> {
    let errors = |node: &Node<'_>, faults: &mut Faults| {
        node.word("kind of errors", &OutlierErrors::NAMES, faults)
    };
    if node.is_string() {
        return errors(node, faults).map(Outlier::new);
    }
    let expected = "\"connect\", \"gateway\", \"5xx\", or a table such as { errors = \"5xx\", consecutive = 5 }";
    let table = node.table(expected, faults)?;
    table.check_keys(schema::OUTLIER, faults);
    let node = table.need(
        "errors",
        "errors = \"5xx\", \"gateway\" or \"connect\"",
        faults,
    )?;
    let mut outlier = Outlier::new(errors(&node, faults)?);
    if let Some(node) = table.get("consecutive") {
        outlier.consecutive = node.integer(1, Outlier::MAX_CONSECUTIVE.into(), faults)?;
    }
    if let Some(node) = table.get("max-percent") {
        outlier.max_percent = node.integer(1, 100, faults)?;
    }
    if let Some(node) = table.get("time") {
        outlier.time = node.duration(Outlier::LEAST, faults)?;
        if outlier.time > Outlier::MOST {
            faults.push(node.fault("it is too long").expected("at most 1h"));
            return None;
        }
    }
    Some(outlier)
}
