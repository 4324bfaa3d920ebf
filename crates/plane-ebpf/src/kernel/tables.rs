//! The directors that are attached in this network namespace, and their maps.

use std::collections::BTreeMap;

use super::open::NAMES;
use crate::sys::hooks::{self, Attached};
use crate::sys::net::Link;
use crate::sys::{Map, Netlink, Program, Result};

/// Maps whose sizes are chosen when they are made, but for those of flows.
pub(super) const SIZED: [&str; 11] = [
    "vips4",
    "vips6",
    "vip_addrs",
    "listens",
    "ranges",
    "services",
    "sets",
    "backends",
    "lives",
    "traffic",
    "notes",
];

/// Maps that one or several attached programs share.
#[derive(Debug)]
pub(super) struct Tables {
    /// The version of their layout.
    pub(super) version: u32,
    pub(super) maps: BTreeMap<String, Map>,
    /// Where the programs are attached.
    pub(super) attached: Vec<(Link, Attached)>,
}

/// All of them, in the order in which packets meet them.
pub(super) fn find(netlink: &mut Netlink) -> Result<Vec<Tables>> {
    let mut found: Vec<(u32, Tables)> = Vec::new();
    for (link, attached) in hooks::ours(netlink)? {
        if !NAMES.contains(&attached.name.as_str()) {
            continue;
        }
        // It may be gone meanwhile.
        let Ok(program) = Program::from_id(attached.id) else {
            continue;
        };
        let maps = program.maps()?.into_iter();
        let maps: BTreeMap<String, Map> = maps.map(|map| (map.name().to_owned(), map)).collect();
        let Some(config) = maps.get("config") else {
            continue;
        };
        let id = config.id();
        if let Some((_, known)) = found.iter_mut().find(|(other, _)| *other == id) {
            known.attached.push((link, attached));
            continue;
        }
        let value = config.lookup(&0_u32.to_ne_bytes())?.unwrap_or_default();
        let tables = Tables {
            // The first word, in every layout.
            version: value
                .first_chunk()
                .map_or(0, |word| u32::from_ne_bytes(*word)),
            maps,
            attached: vec![(link, attached)],
        };
        found.push((id, tables));
    }
    Ok(found.into_iter().map(|(_, tables)| tables).collect())
}
