//! `check`: how the backends of a service are checked.

use std::ops::RangeInclusive;
use std::time::Duration;

use plimsoll_model::{Check, CheckKind, Service, StatusSet};

use crate::diagnostic::quote;
use crate::duration::format_duration;
use crate::fields::{Faults, Node, Table};
use crate::nearest::nearest;
use crate::schema;

const SHORT: &str =
    "\"tcp\", \"http:/PATH\", or a table such as { kind = \"http\", path = \"/health\" }";
const STATUS: &str =
    "a status code from 200 to 599, or codes and ranges such as \"200-399\" or \"200-299,401\"";

#[derive(Clone, Copy)]
enum Kind {
    Tcp,
    Http,
}

const KINDS: [(&str, Kind); 2] = [("tcp", Kind::Tcp), ("http", Kind::Http)];

pub(crate) fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Check> {
    if node.is_string() {
        return short(node, faults);
    }
    let table = node.table(SHORT, faults)?;
    table.check_keys(schema::CHECK, faults);
    let kind = table.need("kind", "kind = \"tcp\" or kind = \"http\"", faults)?;
    let mut check = Check::new(match kind.word("kind of check", &KINDS, faults)? {
        Kind::Http => http(&table, faults)?,
        Kind::Tcp => {
            for key in ["path", "host", "status"] {
                if let Some(node) = table.get(key) {
                    let fault = node.fault(format!("`{key}`, but a tcp check has none"));
                    faults.push(fault.expected("kind = \"http\", or no such key"));
                }
            }
            CheckKind::Tcp
        }
    });
    for (key, range, value) in [
        ("interval", Check::INTERVAL, &mut check.interval),
        ("timeout", Check::TIMEOUT, &mut check.timeout),
    ] {
        if let Some(node) = table.get(key) {
            *value = time(&node, &range, faults)?;
        }
    }
    let (least, most) = (*Check::COUNT.start(), *Check::COUNT.end());
    for (key, value) in [("rise", &mut check.rise), ("fall", &mut check.fall)] {
        if let Some(node) = table.get(key) {
            *value = node.integer(least.into(), most.into(), faults)?;
        }
    }
    if let Some(node) = table.get("port") {
        check.port = Some(node.integer(1, u16::MAX.into(), faults)?);
    }
    Some(check)
}

/// The short form.
fn short(node: &Node<'_>, faults: &mut Faults) -> Option<Check> {
    let text = node.string(SHORT, faults)?;
    let error = match text.parse::<Check>() {
        Ok(check) => return Some(check),
        Err(error) => error,
    };
    // `htp:/health`, `http:health`, `/health`
    let (kind, path) = match text.split_once(':') {
        Some((kind, path)) => (kind, Some(path)),
        None if text.starts_with('/') => ("http", Some(text)),
        None => (text, None),
    };
    let kind = nearest(kind, KINDS.map(|(name, _)| name)).unwrap_or(kind);
    let meant = match path {
        Some(path) => format!("{kind}:/{}", path.trim_start_matches('/')),
        None => kind.to_owned(),
    };
    let meant = Some(meant).filter(|meant| meant.parse::<Check>().is_ok());
    faults.push(node.invalid(&error, SHORT).nearest(meant));
    None
}

fn http(table: &Table<'_>, faults: &mut Faults) -> Option<CheckKind> {
    let path = match table.get("path") {
        Some(node) => node.parsed(
            "a path such as \"/health\", with or without a query",
            faults,
        )?,
        None => plimsoll_model::CheckPath::root(),
    };
    let host = match table.get("host") {
        Some(node) => Some(node.parsed("a name or an address, such as \"example.com\"", faults)?),
        None => None,
    };
    let status = match table.get("status") {
        Some(node) => status(&node, faults)?,
        None => StatusSet::default(),
    };
    Some(CheckKind::Http { path, host, status })
}

/// `204`, or a text of codes and ranges.
fn status(node: &Node<'_>, faults: &mut Faults) -> Option<StatusSet> {
    if node.is_string() {
        return node.parsed(STATUS, faults);
    }
    if !node.is_integer() {
        faults.push(node.wrong_type(STATUS));
        return None;
    }
    let (least, most) = (*StatusSet::CODES.start(), *StatusSet::CODES.end());
    let code: u16 = node.integer(least.into(), most.into(), faults)?;
    code.to_string().parse().ok()
}

fn time(
    node: &Node<'_>,
    range: &RangeInclusive<Duration>,
    faults: &mut Faults,
) -> Option<Duration> {
    let time = node.duration(*range.start(), faults)?;
    if time > *range.end() {
        let text = format_duration(time);
        let fault = node.fault(format!("`{}` is too long", quote(&text)));
        faults.push(fault.expected(format!("at most {}", format_duration(*range.end()))));
        return None;
    }
    Some(time)
}

/// Every backend has a port that can be checked.
pub(crate) fn check_ports(service: &Service, table: &Table<'_>, faults: &mut Faults) -> bool {
    let Some(node) = table.get("check") else {
        return true;
    };
    let mut backends = service.backends.values();
    let without = backends.find(|backend| service.check_addr(backend).is_none());
    if let Some(backend) = without {
        let message = format!(
            "backend {} has no port to check, and no listen has a single one",
            backend.addr
        );
        let expected = "a `port` in `check`, or in the address of every backend";
        faults.push(node.fault(message).expected(expected));
    }
    without.is_none()
}
