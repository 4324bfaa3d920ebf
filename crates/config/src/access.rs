//! `access-log` of `[daemon]`: how requests and connections are logged, and where to.

use plimsoll_model::{AccessLog, LogTo};

use crate::fields::{Faults, Node};
use crate::schema;

/// Where a syslog daemon listens if nothing else is said.
const SYSLOG: &str = "/dev/log";

/// How the access log is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLogSettings {
    /// For services that do not say it themselves.
    pub format: AccessLog,
    /// Where lines go; paths are absolute.
    pub to: LogTo,
    /// Whether lines hold the query of a request's target.
    pub query: bool,
}

impl Default for AccessLogSettings {
    fn default() -> Self {
        Self {
            format: AccessLog::Off,
            to: LogTo::Stdout,
            query: true,
        }
    }
}

pub(crate) fn read(node: &Node<'_>, faults: &mut Faults) -> AccessLogSettings {
    let mut settings = AccessLogSettings::default();
    if node.is_string() {
        settings.format = format(node, faults).unwrap_or_default();
        return settings;
    }
    let expected =
        "the name of a format, or a table such as { format = \"json\", to = \"stdout\" }";
    let Some(table) = node.table(expected, faults) else {
        return settings;
    };
    table.check_keys(schema::ACCESS_LOG, faults);
    if let Some(node) = table.get("format") {
        settings.format = format(&node, faults).unwrap_or_default();
    }
    if let Some(node) = table.get("to") {
        settings.to = to(&node, faults).unwrap_or_default();
    }
    if let Some(node) = table.get("query") {
        settings.query = node.boolean(faults).unwrap_or_default();
    }
    settings
}

/// The name of a format.
pub(crate) fn format(node: &Node<'_>, faults: &mut Faults) -> Option<AccessLog> {
    node.word("access log format", &AccessLog::NAMES, faults)
}

fn to(node: &Node<'_>, faults: &mut Faults) -> Option<LogTo> {
    let expected = "\"stdout\", the absolute path of a file, \"syslog\", or \"syslog:/PATH\"";
    let text = node.label(faults)?;
    let socket = text.strip_prefix("syslog:");
    let fault = match (text, socket) {
        ("stdout", _) => return Some(LogTo::Stdout),
        ("syslog", _) => return Some(LogTo::Syslog(SYSLOG.into())),
        // 108 bytes with the closing NUL: unix(7).
        (_, Some(path)) if path.starts_with('/') && path.len() <= 107 => {
            return Some(LogTo::Syslog(path.into()));
        }
        (path, None) if path.starts_with('/') && !path.ends_with('/') => {
            return Some(LogTo::File(path.into()));
        }
        (_, Some(path)) if path.len() > 107 => "a path longer than 107 bytes",
        _ => "neither a destination nor an absolute path",
    };
    faults.push(node.fault(fault).expected(expected));
    None
}
