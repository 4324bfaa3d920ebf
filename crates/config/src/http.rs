//! What services and routes do with HTTP requests and responses.

use std::collections::BTreeMap;
use std::sync::Arc;

use plimsoll_model::{
    BasicAuth, FieldName, FieldRules, PathPrefix, PrefixChange, Redirect, RequestId, RouteHttp,
    ServiceHttp, Template,
};

use crate::compress;
use crate::fields::{Faults, Node, Place, Table};
use crate::maintenance;
use crate::networks;
use crate::pages;
use crate::schema;

const HEADER: &str = "the name of a header, such as \"X-Frame-Options\"";
const VALUE: &str = "ASCII on one line, with variables such as {client}";
const USER: &str = "users as \"NAME:HASH\", which `htpasswd -nB NAME` writes";
const PATH: &str = "a path that begins with /";
const TARGET: &str =
    "\"https\", \"https://HOST\", \"https://HOST/PATH\", \"https://{host}:PORT\" or \"/PATH\"";

/// What a service says; none if it says nothing.
pub(crate) fn service(table: &Table<'_>, faults: &mut Faults) -> Option<Arc<ServiceHttp>> {
    let http = ServiceHttp {
        request_headers: headers(table, FieldRules::REQUEST, faults),
        response_headers: headers(table, FieldRules::RESPONSE, faults),
        request_id: table
            .get("request-id")
            .and_then(|node| request_id(&node, faults)),
        compress: table
            .get("compress")
            .and_then(|node| compress::read(&node, faults)),
        maintenance: maintenance::read(table, faults),
        error_pages: pages::error_pages(table, faults),
        intercept: pages::intercept(table, faults),
    };
    (!http.is_empty()).then(|| http.into())
}

/// What a route with this path says; none if it says nothing.
pub(crate) fn route(
    table: &Table<'_>,
    path: Option<&PathPrefix>,
    faults: &mut Faults,
) -> Option<Arc<RouteHttp>> {
    let http = RouteHttp {
        clients: networks::clients(table, faults),
        redirect: table
            .get("redirect")
            .and_then(|node| redirect(&node, path, faults)),
        basic_auth: table
            .get("basic-auth")
            .and_then(|node| basic_auth(&node, faults)),
        prefix: prefix(table, path, faults),
        request_headers: headers(table, FieldRules::REQUEST, faults),
        response_headers: headers(table, FieldRules::RESPONSE, faults),
        compress: table
            .get("compress")
            .and_then(|node| compress::read(&node, faults)),
        maintenance: maintenance::read(table, faults),
    };
    (!http.is_empty()).then(|| http.into())
}

fn redirect(node: &Node<'_>, path: Option<&PathPrefix>, faults: &mut Faults) -> Option<Redirect> {
    let redirect = if node.is_string() {
        Redirect::new(node.parsed(TARGET, faults)?)
    } else {
        let expected = format!("{TARGET}, or a table with it as `to`");
        let table = node.table(&expected, faults)?;
        table.check_keys(schema::REDIRECT, faults);
        let to = table.need("to", TARGET, faults)?;
        let mut redirect = Redirect::new(to.parsed(TARGET, faults)?);
        if let Some(node) = table.get("status") {
            redirect.status = node.integer(0, u16::MAX.into(), faults)?;
            if !Redirect::STATUSES.contains(&redirect.status) {
                let statuses = Redirect::STATUSES.map(|status| status.to_string());
                let fault = node.fault(format!("{} is no status of a redirect", redirect.status));
                faults.push(fault.expected(format!("one of {}", statuses.join(", "))));
                return None;
            }
        }
        for (key, value) in [
            ("keep-path", &mut redirect.keep_path),
            ("keep-query", &mut redirect.keep_query),
        ] {
            if let Some(node) = table.get(key) {
                *value = node.boolean(faults)?;
            }
        }
        redirect
    };
    if let Err(error) = redirect.validate(path?) {
        faults.push(
            node.fault(error.0)
                .expected("another place than the route's own"),
        );
        return None;
    }
    Some(redirect)
}

/// No text of a user is repeated in a fault: it may be a password.
fn basic_auth(node: &Node<'_>, faults: &mut Faults) -> Option<BasicAuth> {
    let mut auth = BasicAuth {
        realm: BasicAuth::DEFAULT_REALM.into(),
        users: BTreeMap::new(),
    };
    let mut users = node.clone();
    if node.is_table() {
        let table = node.table(USER, faults)?;
        table.check_keys(schema::BASIC_AUTH, faults);
        if let Some(node) = table.get("realm") {
            auth.realm = node.label(faults)?.into();
        }
        users = table.need("users", USER, faults)?;
    }
    let before = faults.count();
    for user in users.one_or_many(BasicAuth::MAX_USERS, faults) {
        let Some(text) = user.string(USER, faults) else {
            continue;
        };
        match BasicAuth::user(text) {
            Ok((name, hash)) => {
                if auth.users.insert(name, hash).is_some() {
                    let fault = user.fault("this user is there twice");
                    faults.push(fault.expected("every user once"));
                }
            }
            Err(error) => faults.push(user.fault(error.0).expected(USER)),
        }
    }
    if faults.count() != before {
        return None;
    }
    if let Err(error) = auth.validate() {
        faults.push(
            node.fault(error.0)
                .expected("users and a realm in their ranges"),
        );
        return None;
    }
    Some(auth)
}

fn prefix(table: &Table<'_>, path: Option<&PathPrefix>, faults: &mut Faults) -> PrefixChange {
    let mut read = |key: &str| {
        let node = table.get(key)?;
        let prefix: PathPrefix = node.parsed(PATH, faults)?;
        Some((prefix, node.place))
    };
    let (strip, add, replace) = (
        read("strip-prefix"),
        read("add-prefix"),
        read("replace-prefix"),
    );
    if let Some((replace, place)) = replace {
        for (key, other) in [("strip-prefix", &strip), ("add-prefix", &add)] {
            if other.is_some() {
                let fault = place.fault(format!("`replace-prefix` beside `{key}`"));
                faults.push(fault.expected("either `replace-prefix`, or the two others"));
            }
        }
        return PrefixChange {
            strip: path.cloned(),
            add: Some(replace),
        };
    }
    let place = strip.as_ref().map(|(_, place)| place.clone());
    let change = PrefixChange {
        strip: strip.map(|(prefix, _)| prefix),
        add: add.map(|(prefix, _)| prefix),
    };
    if let (Some(place), Some(path)) = (place, path)
        && let Err(error) = change.validate(path)
    {
        let fault = place.fault(error.0);
        faults.push(fault.expected("the route's path, or a beginning of it by whole segments"));
    }
    change
}

fn request_id(node: &Node<'_>, faults: &mut Faults) -> Option<RequestId> {
    let (name, place, respond) = if node.is_string() {
        (node.parsed(HEADER, faults)?, node.place.clone(), false)
    } else {
        let expected = "the name of a header, or a table { header, response }";
        let table = node.table(expected, faults)?;
        table.check_keys(schema::REQUEST_ID, faults);
        let header = table.get("header");
        let (name, place) = match header {
            Some(node) => (node.parsed(HEADER, faults)?, node.place),
            None => (RequestId::DEFAULT_HEADER.parse().ok()?, node.place.clone()),
        };
        let respond = match table.get("response") {
            Some(node) => node.boolean(faults)?,
            None => false,
        };
        (name, place, respond)
    };
    match RequestId::new(name, respond) {
        Ok(id) => Some(id),
        Err(error) => {
            faults.push(place.fault(error.0).expected(HEADER));
            None
        }
    }
}

/// The table `what`: changes of header fields.
fn headers(table: &Table<'_>, what: &'static str, faults: &mut Faults) -> FieldRules {
    let mut rules = FieldRules::default();
    let expected =
        "a table such as { set = { X-Frame-Options = \"DENY\" }, remove = [\"Server\"] }";
    let Some(table) = table
        .get(what)
        .and_then(|node| node.table(expected, faults))
    else {
        return rules;
    };
    table.check_keys(schema::HEADERS, faults);
    rules.set = values(&table, what, "set", faults);
    rules.add = values(&table, what, "add", faults);
    if let Some(node) = table.get("remove") {
        for node in node.one_or_many(FieldRules::MAX, faults) {
            let Some(name) = node.parsed::<FieldName>(HEADER, faults) else {
                continue;
            };
            if !allowed(what, &name, false, &node.place, faults) {
                continue;
            }
            if !rules.remove.insert(name.clone()) {
                let fault = node.fault(format!("header {name} is removed twice"));
                faults.push(fault.expected("every header once"));
            }
        }
    }
    rules
}

fn values(
    table: &Table<'_>,
    what: &str,
    change: &str,
    faults: &mut Faults,
) -> BTreeMap<FieldName, Template> {
    let mut values = BTreeMap::new();
    let expected = "a table of headers and values, such as { X-Frame-Options = \"DENY\" }";
    let Some(table) = table
        .get(change)
        .and_then(|node| node.table(expected, faults))
    else {
        return values;
    };
    for (key, span, node) in table.entries() {
        let place = Place {
            span,
            path: node.place.path.clone(),
        };
        let name: FieldName = match key.parse() {
            Ok(name) => name,
            Err(plimsoll_model::Invalid(why)) => {
                faults.push(place.fault(why).expected(HEADER));
                continue;
            }
        };
        if !allowed(what, &name, change == "set", &place, faults) {
            continue;
        }
        let Some(value) = node.parsed(VALUE, faults) else {
            continue;
        };
        if values.insert(name.clone(), value).is_some() {
            let fault = place.fault(format!("header {name} is there twice"));
            faults.push(fault.expected("every header once, in upper or lower case"));
        }
    }
    if values.len() > FieldRules::MAX {
        let fault = table.place.fault(format!("{} headers", values.len()));
        faults.push(fault.expected(format!("at most {}", FieldRules::MAX)));
    }
    values
}

fn allowed(what: &str, name: &FieldName, set: bool, place: &Place, faults: &mut Faults) -> bool {
    let allowed = FieldRules::allows(what, name, set);
    if let Err(error) = &allowed {
        faults.push(place.fault(&*error.0).expected("another header"));
    }
    allowed.is_ok()
}
