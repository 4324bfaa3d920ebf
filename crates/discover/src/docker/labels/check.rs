//! What the labels `check` and `check.…` say.

use std::ops::RangeInclusive;
use std::time::Duration;

use plimsoll_config::{format_duration, nearest};
use plimsoll_model::{Check, CheckKind, CheckPath};

use super::group::Group;
use super::value::{Faults, Value, told};

/// Keys that only a check of HTTP has.
const HTTP_ONLY: [&str; 3] = ["check.path", "check.host", "check.status"];

/// Reads them.
pub(crate) fn read(group: &Group<'_>, faults: &mut Faults) -> Option<Check> {
    let Some(value) = group.get("check") else {
        let mut parts = group.values.iter();
        if let Some((_, part)) = parts.find(|(key, _)| key.starts_with("check.")) {
            let label = format!("{}.check", group.prefix);
            let why = format!("it needs label {label}=tcp or {label}=http:/PATH beside it");
            faults.push(part.fault(why));
        }
        return None;
    };
    let mut check = kind(value, faults)?;
    match &mut check.kind {
        CheckKind::Tcp => {
            for value in HTTP_ONLY.iter().filter_map(|key| group.get(key)) {
                faults.push(value.fault("a tcp check has none: make it http:/PATH"));
            }
        }
        CheckKind::Http { path, host, status } => {
            if let Some(label) = group.get("check.path") {
                if value.text != "http" {
                    let label = label.label;
                    let why = format!("{label} says the path, too: leave one of them out");
                    faults.push(value.fault(why));
                }
                *path = label.parsed(faults)?;
            }
            if let Some(value) = group.get("check.host") {
                *host = Some(value.parsed(faults)?);
            }
            if let Some(value) = group.get("check.status") {
                *status = value.parsed(faults)?;
            }
        }
    }
    for (key, range, time) in [
        ("check.interval", Check::INTERVAL, &mut check.interval),
        ("check.timeout", Check::TIMEOUT, &mut check.timeout),
    ] {
        if let Some(value) = group.get(key) {
            *time = within(value, &range, faults)?;
        }
    }
    let (least, most) = (*Check::COUNT.start(), *Check::COUNT.end());
    for (key, count) in [
        ("check.rise", &mut check.rise),
        ("check.fall", &mut check.fall),
    ] {
        if let Some(value) = group.get(key) {
            *count = value.number(least, most, faults)?;
        }
    }
    if let Some(value) = group.get("check.port") {
        check.port = Some(value.number(1, u16::MAX, faults)?);
    }
    Some(check)
}

fn kind(value: &Value<'_>, faults: &mut Faults) -> Option<Check> {
    let text = value.text;
    if let Ok(check) = text.parse() {
        return Some(check);
    }
    if let Some((_, path)) = text
        .split_once(':')
        .filter(|(_, path)| path.starts_with("//"))
        && let Err(error) = path.parse::<CheckPath>()
    {
        faults.push(value.fault(told(&error, path)));
        return None;
    }
    // `htp:/health`, `http:health`, `/health`
    let (kind, path) = match text.split_once(':') {
        Some((kind, path)) => (kind, Some(path)),
        None if text.starts_with('/') => ("http", Some(text)),
        None => (text, None),
    };
    let kind = nearest(kind, ["tcp", "http"]).unwrap_or(kind);
    let meant = match path {
        Some(path) => format!("{kind}:/{}", path.trim_start_matches('/')),
        None => kind.to_owned(),
    };
    let meant = match meant.parse::<Check>() {
        Ok(_) => format!(": did you mean `{meant}`?"),
        Err(_) => String::new(),
    };
    faults.push(value.fault(format!("expected tcp, http or http:/PATH{meant}")));
    None
}

fn within(
    value: &Value<'_>,
    range: &RangeInclusive<Duration>,
    faults: &mut Faults,
) -> Option<Duration> {
    let time = value.duration(*range.start(), faults)?;
    if time > *range.end() {
        let most = format_duration(*range.end());
        faults.push(value.fault(format!("expected a time of at most {most}")));
        return None;
    }
    Some(time)
}
