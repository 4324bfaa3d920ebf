//! `compress` of a service or a route.

use plimsoll_model::{Coding, Compress};

use crate::fields::{Faults, Node};
use crate::schema;

pub(crate) fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Compress> {
    let expected = "true, or a table such as { algorithms = [\"br\", \"gzip\"] }";
    let mut compress = Compress::default();
    if !node.is_table() {
        if node.is_boolean() {
            return node.boolean(faults)?.then_some(compress);
        }
        faults.push(node.wrong_type(expected));
        return None;
    }
    let table = node.table(expected, faults)?;
    table.check_keys(schema::COMPRESS, faults);
    let before = faults.count();
    if let Some(node) = table.get("algorithms") {
        let nodes = node.one_or_many(Coding::NAMES.len(), faults);
        let words = nodes
            .iter()
            .filter_map(|node| node.word("algorithm", &Coding::NAMES, faults));
        compress.algorithms = words.collect();
    }
    if let Some(node) = table.get("types") {
        let nodes = node.one_or_many(Compress::MAX_TYPES, faults);
        let types = nodes.iter().filter_map(|node| {
            node.parsed("a media type, such as \"text/html\" or \"text/*\"", faults)
        });
        compress.types = types.collect();
    }
    if let Some(node) = table.get("min-size") {
        compress.min_size = node.integer(0, i64::MAX.into(), faults)?;
    }
    if let Some(node) = table.get("level") {
        compress.level = node.integer(1, Compress::MAX_LEVEL.into(), faults)?;
    }
    if faults.count() == before
        && let Err(error) = compress.validate()
    {
        faults.push(node.fault(error.0).expected(expected));
    }
    (faults.count() == before).then_some(compress)
}
