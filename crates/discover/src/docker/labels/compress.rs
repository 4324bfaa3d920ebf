//! The labels that ask for compression.

use plimsoll_model::{Coding, Compress};

use super::group::Group;
use super::value::Faults;

/// `plimsoll.compress` and what it can have beside it.
pub(crate) fn read(group: &Group<'_>, faults: &mut Faults) -> Option<Compress> {
    const BOOLEAN: [(&str, bool); 2] = [("true", true), ("false", false)];
    const BESIDE: [&str; 4] = [
        "compress.algorithms",
        "compress.types",
        "compress.min-size",
        "compress.level",
    ];
    let [algorithms, types, min_size, level] = BESIDE.map(|key| group.get(key));
    let Some(asked) = group.get("compress") else {
        if let Some(value) = algorithms.or(types).or(min_size).or(level) {
            let why = format!("it needs label {}.compress=true", group.prefix);
            faults.push(value.fault(why));
        }
        return None;
    };
    let asked_for = asked.word(&BOOLEAN, faults)?;
    let mut compress = Compress::default();
    if let Some(value) = algorithms {
        let items = value.items(Coding::NAMES.len(), faults);
        let words = items
            .into_iter()
            .filter_map(|item| value.item(item).word(&Coding::NAMES, faults));
        compress.algorithms = words.collect();
        if compress.algorithms.is_empty() {
            return None;
        }
    }
    if let Some(value) = types {
        let items = value.items(Compress::MAX_TYPES, faults);
        let types = items
            .into_iter()
            .filter_map(|item| value.part(item, faults));
        compress.types = types.collect();
        if compress.types.is_empty() {
            return None;
        }
    }
    if let Some(value) = min_size {
        compress.min_size = value.number(0, i64::MAX.unsigned_abs(), faults)?;
    }
    if let Some(value) = level {
        compress.level = value.number(1, Compress::MAX_LEVEL, faults)?;
    }
    if let Err(error) = compress.validate() {
        faults.push(asked.fault(error.0));
        return None;
    }
    asked_for.then_some(compress)
}
