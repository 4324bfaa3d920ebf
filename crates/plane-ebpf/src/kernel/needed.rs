//! What another layout must tell of itself to be taken over.

use super::carry::FIELDS;
use super::tables::Tables;
use crate::sys::{Error, Result};

/// What must be known of each map; the rest may be lacking.
const NEEDED: [(&str, &[&str]); 8] = [
    ("vips4", &["id", "flags"]),
    ("vips6", &["id", "flags"]),
    ("vip_addrs", &["word"]),
    ("listens", &[""]),
    (
        "ranges",
        &[
            "count",
            "range[0].first",
            "range[0].last",
            "range[0].service",
        ],
    ),
    (
        "services",
        &["flags", "sched", "key", "midstream", "seed", "timeouts"],
    ),
    (
        "backends",
        &[
            "flags",
            "generation",
            "method",
            "family",
            "service",
            "port",
            "addr",
            "until",
            "weight",
        ],
    ),
    ("notes", &["len", "text"]),
];

/// Whether the other layout tells all that must be known.
pub(super) fn check(other: &Tables, ours: u32) -> Result<()> {
    let lacking = |what: String| Error::Layout {
        found: other.version,
        ours,
        what,
    };
    let mut flows = Vec::new();
    for name in ["flows4", "flows6"] {
        let fields = FIELDS.iter().map(|field| format!("flows[0].{field}"));
        flows.push((name, fields.collect::<Vec<_>>()));
    }
    let needed = NEEDED.iter().map(|(name, fields)| {
        let fields = fields.iter().map(|field| (*field).to_owned());
        (*name, fields.collect())
    });
    for (name, fields) in needed.chain(flows) {
        let map = other.maps.get(name);
        let map = map.ok_or_else(|| lacking(format!("map {name}")))?;
        let shapes = map.shapes()?;
        let (_, value) = shapes.ok_or_else(|| lacking(format!("the types of map {name}")))?;
        let field = fields
            .iter()
            .find(|field| !value.places.contains_key(*field));
        if let Some(field) = field {
            return Err(lacking(format!("field {field} of map {name}")));
        }
    }
    match other.maps.contains_key("sets") {
        true => Ok(()),
        false => Err(lacking("map sets".to_owned())),
    }
}
