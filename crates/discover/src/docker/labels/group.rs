//! Which labels speak of which service.

use std::collections::BTreeMap;

use plimsoll_config::nearest;

use super::elsewhere;
use super::schema;
use super::value::{Faults, MAX_VALUE, Value, cut};

/// The longest name of a further service, in bytes.
const MAX_NAME: usize = 64;

/// The labels of one service.
#[derive(Debug, Default)]
pub(crate) struct Group<'a> {
    /// What its labels begin with: `plimsoll` or `plimsoll.NAME`.
    pub(crate) prefix: String,
    /// By their keys, which are all known.
    pub(crate) values: BTreeMap<&'a str, Value<'a>>,
    /// What is wrong with the others.
    pub(crate) faults: Vec<String>,
}

impl<'a> Group<'a> {
    /// Whether it says nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty() && self.faults.is_empty()
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Value<'a>> {
        self.values.get(key)
    }

    /// What the default service says of itself, and what it says of the whole container.
    pub(crate) fn divide(self) -> (Self, BTreeMap<&'a str, Value<'a>>) {
        let is_container = |key: &str| schema::CONTAINER.contains(&key);
        let (of_container, values) = self
            .values
            .into_iter()
            .partition(|(key, _)| is_container(key));
        (Self { values, ..self }, of_container)
    }

    /// Begins a list of faults with those of its keys.
    pub(crate) fn faults(&self) -> Faults {
        let mut faults = Faults::default();
        self.faults.iter().for_each(|fault| faults.push(fault));
        faults
    }
}

/// The further service that a key after the prefix speaks of, empty for the default one, and the
/// key of that service.
pub(crate) fn split(rest: &str) -> (&str, &str) {
    match rest.split_once('.') {
        Some((name, key)) if !name.is_empty() && !schema::heads().any(|head| head == name) => {
            (name, key)
        }
        _ => ("", rest),
    }
}

/// The labels by the further service that they speak of; those of the default one by the empty
/// text.
pub(crate) fn groups<'a>(labels: impl Iterator<Item = Value<'a>>) -> BTreeMap<&'a str, Group<'a>> {
    let mut groups: BTreeMap<&str, Group<'_>> = BTreeMap::new();
    for value in labels {
        let rest = value.label.strip_prefix(schema::PREFIX);
        let rest = rest.unwrap_or(value.label);
        let (mut name, key) = split(rest);
        let fault = fault(&value, name, key);
        if let Some(Fault {
            of_default: true, ..
        }) = fault
        {
            name = "";
        }
        let group = groups.entry(name).or_insert_with(|| Group {
            prefix: match name {
                "" => "plimsoll".into(),
                name => format!("{}{name}", schema::PREFIX),
            },
            ..Group::default()
        });
        match fault {
            Some(fault) => group.faults.push(fault.text),
            None => drop(group.values.insert(key, value)),
        }
    }
    groups
}

/// What is wrong with a label before its value is looked at.
struct Fault {
    text: String,
    /// Whether it was meant for the default service.
    of_default: bool,
}

fn fault(value: &Value<'_>, name: &str, key: &str) -> Option<Fault> {
    let in_group = |text: String| {
        let text = value.fault(text);
        let of_default = false;
        Some(Fault { text, of_default })
    };
    let known = |key: &str| match name {
        "" => schema::keys().any(|known| known == key),
        // As Traefik has it.
        "sticky" if key.starts_with("cookie") => false,
        _ => schema::SERVICE.contains(&key),
    };
    if !known(key) {
        return Some(unknown(value, name, key));
    }
    let sign = |c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if name.contains(sign) {
        return in_group(format!(
            "`{}` cannot name a service: use letters, digits, - and _",
            cut(name)
        ));
    }
    if name.len() > MAX_NAME {
        return in_group(format!("a service is named by at most {MAX_NAME} letters"));
    }
    if value.text.len() > MAX_VALUE {
        return in_group(format!("the value is longer than {MAX_VALUE} bytes"));
    }
    if value.text.is_empty() {
        return in_group("the value is empty: say one, or leave the label out".into());
    }
    None
}

/// What to say of a label with a dot too many.
fn empty_part(value: &Value<'_>) -> Option<String> {
    let rest = value.label.strip_prefix(schema::PREFIX)?;
    let parts = rest.split('.');
    if parts.clone().all(|part| !part.is_empty()) {
        return None;
    }
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    let meant = parts.join(".");
    let (name, key) = split(&meant);
    let is_known =
        schema::SERVICE.contains(&key) || name.is_empty() && schema::CONTAINER.contains(&key);
    let advice = match is_known {
        true => format!("did you mean `{}{}`?", schema::PREFIX, cut(&meant)),
        false => "see docs/labels.md for all keys".into(),
    };
    Some(value.fault(format!("it has a dot too many: {advice}")))
}

/// What to say of a key that is one elsewhere.
fn of_others(value: &Value<'_>, name: &str, key: &str) -> Option<String> {
    let head = key.split('.').next().unwrap_or(key);
    let said = cut(key);
    if let Some(why) = elsewhere::without(head).or_else(|| elsewhere::without(name)) {
        return Some(value.fault(format!("unknown key `{said}`: {why}")));
    }
    let ours = elsewhere::key(key)?;
    Some(value.fault(format!("unknown key `{said}`: did you mean `{ours}`?")))
}

/// What to say of a key that is not known.
fn unknown(value: &Value<'_>, name: &str, key: &str) -> Fault {
    if let Some(text) = empty_part(value) {
        let of_default = name.is_empty();
        return Fault { text, of_default };
    }
    if let Some(text) = of_others(value, name, key) {
        // `plimsoll.tls.certresolver` speaks of no service `tls`.
        let of_default = elsewhere::without(name).is_some();
        return Fault { text, of_default };
    }
    // `plimsoll.timeout.connect` looks like the key `connect` of a service `timeout`.
    let rest = value.label.strip_prefix(schema::PREFIX).unwrap_or(key);
    let known = schema::keys().chain(schema::FILE_ONLY.iter().copied());
    let known = known.filter(|known| known.contains('.'));
    let heads = known.clone().filter_map(|known| known.split('.').next());
    let whole = nearest(name, heads).and_then(|_| nearest(rest, known));
    if let Some(meant) = whole.filter(|_| !name.is_empty()) {
        let text = value.fault(format!(
            "unknown key `{}`: did you mean `{meant}`?",
            cut(rest)
        ));
        let of_default = true;
        return Fault { text, of_default };
    }
    let text = if schema::CONTAINER.contains(&key) {
        format!("`{key}` speaks of a whole container: say plimsoll.{key}")
    } else {
        let known = schema::SERVICE.iter().chain(schema::FILE_ONLY).copied();
        match nearest(key, known) {
            Some(meant) if schema::FILE_ONLY.contains(&meant) => format!(
                "{meant} holds for all clients of a listen, whichever service they want, so no \
                 container may say it: set it in a service of the configuration file"
            ),
            Some(meant) => format!("unknown key `{}`: did you mean `{meant}`?", cut(key)),
            None => format!("unknown key `{}`: see docs/labels.md for all", cut(key)),
        }
    };
    Fault {
        text: value.fault(text),
        of_default: false,
    }
}
