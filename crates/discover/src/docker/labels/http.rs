//! Labels that say what is done with HTTP requests and responses.

use std::collections::BTreeMap;
use std::sync::Arc;

use plimsoll_model::{
    BasicAuth, FieldName, FieldRules, Invalid, PathPrefix, PrefixChange, Redirect, RequestId,
    RouteHttp, ServiceHttp, Template,
};

use super::compress;
use super::group::Group;
use super::maintenance;
use super::value::{Faults, Value, told};

/// Keys that speak of a route, so that there has to be one. They have no meaning but for HTTP.
pub(crate) const OF_ROUTES: [&str; 9] = [
    "redirect",
    "redirect.status",
    "redirect.keep-path",
    "redirect.keep-query",
    "basic-auth",
    "basic-auth.realm",
    "strip-prefix",
    "add-prefix",
    "replace-prefix",
];

/// Keys that speak of all requests of a service. They have no meaning but for HTTP.
pub(crate) const OF_SERVICES: [&str; 17] = [
    "request-headers.set",
    "request-headers.add",
    "request-headers.remove",
    "response-headers.set",
    "response-headers.add",
    "response-headers.remove",
    "request-id",
    "request-id.response",
    "compress",
    "compress.algorithms",
    "compress.types",
    "compress.min-size",
    "compress.level",
    "maintenance",
    "maintenance.retry-after",
    "maintenance.except",
    "intercept",
];

/// Between two headers in a label: their values may have commas.
const BETWEEN: &str = "||";

const BOOLEAN: [(&str, bool); 2] = [("true", true), ("false", false)];

/// What is said of a service; none if that is nothing.
pub(crate) fn service(group: &Group<'_>, faults: &mut Faults) -> Option<Arc<ServiceHttp>> {
    let http = ServiceHttp {
        request_headers: headers(group, FieldRules::REQUEST, faults),
        response_headers: headers(group, FieldRules::RESPONSE, faults),
        request_id: request_id(group, faults),
        compress: compress::read(group, faults),
        maintenance: maintenance::read(group, faults),
        intercept: maintenance::intercept(group, faults),
        ..ServiceHttp::default()
    };
    (!http.is_empty()).then(|| http.into())
}

/// What is said of the routes with this path; none if that is nothing. `without` says that there
/// are no routes.
pub(crate) fn route(
    group: &Group<'_>,
    path: &PathPrefix,
    without: bool,
    faults: &mut Faults,
) -> Option<Arc<RouteHttp>> {
    if without {
        for value in OF_ROUTES.iter().filter_map(|key| group.get(key)) {
            let prefix = &group.prefix;
            faults.push(value.fault(format!(
                "it speaks of a route, and there is none without {prefix}.host; \
                 {prefix}.host=* is one for every host"
            )));
        }
        return None;
    }
    let http = RouteHttp {
        redirect: redirect(group, path, faults),
        basic_auth: basic_auth(group, faults),
        prefix: prefix(group, path, faults),
        ..RouteHttp::default()
    };
    (!http.is_empty()).then(|| http.into())
}

fn redirect(group: &Group<'_>, path: &PathPrefix, faults: &mut Faults) -> Option<Redirect> {
    let Some(value) = group.get("redirect") else {
        let mut keys = OF_ROUTES.iter().filter(|key| key.starts_with("redirect."));
        if let Some(value) = keys.find_map(|key| group.get(key)) {
            let why = format!("it needs label {}.redirect with a target", group.prefix);
            faults.push(value.fault(why));
        }
        return None;
    };
    let mut redirect = Redirect::new(value.parsed(faults)?);
    if let Some(value) = group.get("redirect.status") {
        let statuses = Redirect::STATUSES;
        match value.text.parse() {
            Ok(status) if statuses.contains(&status) => redirect.status = status,
            _ => {
                let statuses = statuses.map(|status| status.to_string()).join(", ");
                faults.push(value.fault(format!("expected one of {statuses}")));
            }
        }
    }
    for (key, keep) in [
        ("redirect.keep-path", &mut redirect.keep_path),
        ("redirect.keep-query", &mut redirect.keep_query),
    ] {
        if let Some(said) = group.get(key).and_then(|v| v.word(&BOOLEAN, faults)) {
            *keep = said;
        }
    }
    fits(redirect.validate(path), value, faults);
    Some(redirect)
}

/// `NAME:HASH` and more of them, with commas between.
fn basic_auth(group: &Group<'_>, faults: &mut Faults) -> Option<BasicAuth> {
    let realm = group.get("basic-auth.realm");
    let Some(value) = group.get("basic-auth") else {
        if let Some(value) = realm {
            let why = format!("it needs label {}.basic-auth with users", group.prefix);
            faults.push(value.fault(why));
        }
        return None;
    };
    let mut auth = BasicAuth {
        realm: realm
            .map_or(BasicAuth::DEFAULT_REALM, |value| value.text)
            .into(),
        users: BTreeMap::new(),
    };
    for user in value.items(BasicAuth::MAX_USERS, faults) {
        match BasicAuth::user(user) {
            Ok((name, hash)) => {
                if auth.users.insert(name, hash).is_some() {
                    faults.push(value.fault("a user is there twice"));
                }
            }
            Err(error) => {
                faults.push(value.fault(error.0));
                return None;
            }
        }
    }
    (!auth.users.is_empty() && fits(auth.validate(), value, faults)).then_some(auth)
}

fn prefix(group: &Group<'_>, path: &PathPrefix, faults: &mut Faults) -> PrefixChange {
    let mut read = |key: &str| -> Option<PathPrefix> { group.get(key)?.parsed(faults) };
    let change = PrefixChange {
        strip: read("strip-prefix"),
        add: read("add-prefix"),
    };
    let Some(value) = group.get("replace-prefix") else {
        if let Some(value) = group.get("strip-prefix") {
            fits(change.validate(path), value, faults);
        }
        return change;
    };
    if !change.is_empty() {
        let why = "it is both strip-prefix and add-prefix: say either it, or those";
        faults.push(value.fault(why));
    }
    PrefixChange {
        strip: Some(path.clone()),
        add: value.parsed(faults),
    }
}

fn fits(valid: Result<(), Invalid>, value: &Value<'_>, faults: &mut Faults) -> bool {
    if let Err(error) = &valid {
        faults.push(value.fault(&error.0));
    }
    valid.is_ok()
}

fn request_id(group: &Group<'_>, faults: &mut Faults) -> Option<RequestId> {
    let respond = group.get("request-id.response");
    let Some(value) = group.get("request-id") else {
        if let Some(value) = respond {
            let why = format!("it needs label {}.request-id with a header", group.prefix);
            faults.push(value.fault(why));
        }
        return None;
    };
    let respond = respond.and_then(|value| value.word(&BOOLEAN, faults));
    match RequestId::new(value.parsed(faults)?, respond.unwrap_or_default()) {
        Ok(id) => Some(id),
        Err(error) => {
            faults.push(value.fault(error.0));
            None
        }
    }
}

/// The labels `what.set`, `what.add` and `what.remove`.
fn headers(group: &Group<'_>, what: &'static str, faults: &mut Faults) -> FieldRules {
    let mut rules = FieldRules::default();
    for (change, to) in [("set", &mut rules.set), ("add", &mut rules.add)] {
        if let Some(value) = group.get(&format!("{what}.{change}")) {
            *to = values(value, what, change == "set", faults);
        }
    }
    if let Some(value) = group.get(&format!("{what}.remove")) {
        for item in value.items(FieldRules::MAX, faults) {
            let Some(name) = value.part::<FieldName>(item, faults) else {
                continue;
            };
            let allowed = FieldRules::allows(what, &name, false);
            if fits(allowed, value, faults) && !rules.remove.insert(name) {
                faults.push(value.fault(format!("{item} is there twice")));
            }
        }
    }
    rules
}

/// `NAME: VALUE || NAME: VALUE`.
fn values(
    value: &Value<'_>,
    what: &str,
    set: bool,
    faults: &mut Faults,
) -> BTreeMap<FieldName, Template> {
    let mut values = BTreeMap::new();
    for item in value.text.split(BETWEEN).map(str::trim) {
        let Some((name, text)) = item.split_once(':') else {
            faults.push(value.fault("expected NAME: VALUE, with || between two of them"));
            continue;
        };
        let name: Option<FieldName> = value.part(name.trim(), faults);
        let text = text.trim();
        let template = text.parse::<Template>();
        let template = template.map_err(|error| faults.push(value.fault(told(&error, text))));
        let (Some(name), Ok(template)) = (name, template) else {
            continue;
        };
        if !fits(FieldRules::allows(what, &name, set), value, faults) {
            continue;
        }
        if values.insert(name.clone(), template).is_some() {
            faults.push(value.fault(format!("{name} is there twice")));
        }
    }
    if values.len() > FieldRules::MAX {
        let (is, most) = (values.len(), FieldRules::MAX);
        faults.push(value.fault(format!("{is} headers: at most {most}")));
    }
    values
}
