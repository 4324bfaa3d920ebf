//! What the labels `protocol` and `listen` say.

use std::collections::BTreeSet;

use plimsoll_config::nearest;
use plimsoll_model::{Listen, Proto};

use super::group::Group;
use super::value::{Faults, cut};

/// Listens of one service at most.
const MAX_LISTENS: usize = 64;

/// What a service speaks, and where.
#[derive(Debug)]
pub(crate) struct Listens {
    /// Its protocol; for a service of several at layer 4 the first of them.
    pub(crate) proto: Proto,
    /// Where it listens; empty if nothing says it.
    pub(crate) listens: Vec<Listen>,
}

/// An item of a list of listens.
struct Part<'a> {
    text: &'a str,
    address: String,
    /// Its protocols, if it says any.
    protos: Vec<Proto>,
}

/// Reads both.
pub(crate) fn read(group: &Group<'_>, faults: &mut Faults) -> Option<Listens> {
    let said = match group.get("protocol") {
        Some(value) => Some(value.word(&Proto::NAMES, faults)?),
        None => None,
    };
    let Some(value) = group.get("listen") else {
        let proto = said.unwrap_or(Proto::Http);
        let listens = Vec::new();
        return Some(Listens { proto, listens });
    };
    let items = value.items(MAX_LISTENS, faults);
    let mut parts = Vec::new();
    for item in &items {
        match part(item) {
            Ok(part) => parts.push(part),
            Err(why) => faults.push(value.fault(why)),
        }
    }
    if parts.is_empty() || parts.len() < items.len() {
        return None;
    }
    let named: BTreeSet<Proto> = parts.iter().flat_map(|p| &p.protos).copied().collect();
    let proto = said.or(named.first().copied()).unwrap_or(Proto::Http);
    if let Some(other) = named
        .iter()
        .find(|other| said.is_some_and(|said| said != **other))
    {
        let why = format!(
            "{other} is said here, but {proto} by label {}.protocol",
            group.prefix
        );
        faults.push(value.fault(why));
        return None;
    }
    if named.contains(&Proto::Http) && named.len() > 1 {
        faults.push(value.fault("a service is either http or not: make two of it"));
        return None;
    }
    let mut listens: Vec<Listen> = Vec::new();
    for part in &parts {
        let protos = match &*part.protos {
            [] if named.len() > 1 => {
                let why = format!("{} has no protocol, others have: say it", cut(part.text));
                faults.push(value.fault(why));
                continue;
            }
            [] => vec![proto],
            protos => protos.to_vec(),
        };
        for proto in protos {
            let text = format!("{}/{proto}", part.address);
            match value.part::<Listen>(&text, faults) {
                Some(listen) if listens.contains(&listen) => {
                    faults.push(value.fault(format!("{listen} is said twice")));
                }
                Some(listen) => listens.push(listen),
                None => return None,
            }
        }
    }
    Some(Listens { proto, listens })
}

/// `PORT`, `ADDR:PORT`, or one of them with `/PROTO` or `/PROTO+PROTO`.
fn part(text: &str) -> Result<Part<'_>, String> {
    if text.starts_with("mark:") {
        return Err("a firewall mark cannot be said by a label: use a file".into());
    }
    let (address, protos) = match text.split_once('/') {
        Some((address, protos)) => (address, protos.split('+').map(proto).collect()),
        None => (text, Ok(Vec::new())),
    };
    let is_port = |text: &str| {
        let first = text.bytes().next();
        text == "*" || first.is_some_and(|b| b.is_ascii_digit()) && !text.contains(['.', ':'])
    };
    let address = match is_port(address) {
        true => format!("*:{address}"),
        false => address.to_owned(),
    };
    Ok(Part {
        text,
        address,
        protos: protos?,
    })
}

fn proto(text: &str) -> Result<Proto, String> {
    text.parse().map_err(|_| {
        let names = Proto::NAMES.map(|(name, _)| name);
        let meant = nearest(text, names).map(|meant| format!(": did you mean `{meant}`?"));
        format!(
            "unknown protocol `{}`, expected one of {}{}",
            cut(text),
            names.join(", "),
            meant.unwrap_or_default()
        )
    })
}
