//! What services and routes do with HTTP: random, and as text.

use std::sync::Arc;

use plimsoll_model::*;
use proptest::prelude::*;
use proptest::{
    collection::btree_map, collection::btree_set, collection::vec, option, sample::select,
};

use crate::write::{Parts, clients, list, text};

fn header() -> BoxedStrategy<FieldName> {
    let names = select(vec!["x-real-ip", "server", "cache-control", "a!"]);
    names.prop_map(|name| name.parse().unwrap()).boxed()
}

fn headers() -> BoxedStrategy<FieldRules> {
    let values = select(vec!["", "a, \"b\"", "{client}", "{{{host}{path}?{query}"]);
    let values = values.prop_map(|value| value.parse::<Template>().unwrap());
    let fields = move || btree_map(header(), values.clone(), 0..3);
    (btree_set(header(), 0..3), fields(), fields())
        .prop_map(|(remove, set, add)| FieldRules { remove, set, add })
        .boxed()
}

fn compress() -> BoxedStrategy<Option<Compress>> {
    let algorithms = select(vec![
        vec![Coding::Br],
        vec![Coding::Gzip, Coding::Zstd],
        Compress::default().algorithms,
    ]);
    let types = select(vec!["text/*", "application/json", "a/b+c"]);
    let types = btree_set(types.prop_map(|types| types.parse().unwrap()), 1..3);
    let made = (algorithms, types, 0..u64::pow(2, 40), 1u8..=9);
    let made = made.prop_map(|(algorithms, types, min_size, level)| Compress {
        algorithms,
        types: types.into_iter().collect(),
        min_size,
        level,
    });
    option::of(prop_oneof![Just(Compress::default()), made]).boxed()
}

fn maintenance() -> BoxedStrategy<Option<Maintenance>> {
    let nets = select(vec!["10.0.0.0/8", "fd00::/8"]).prop_map(|net| net.parse().unwrap());
    let made = (
        any::<bool>(),
        1u64..3_000,
        vec(nets, 0..3),
        option::of(page()),
    );
    let made = made.prop_map(|(on, seconds, except, page)| Maintenance {
        on,
        retry_after: std::time::Duration::from_secs(seconds),
        except,
        page,
    });
    option::of(prop_oneof![Just(Maintenance::new(true)), made]).boxed()
}

fn intercept() -> BoxedStrategy<Intercept> {
    let some = select(vec!["404", "503", "4xx", "5xx"]);
    let some = btree_set(some.prop_map(|status| status.parse().unwrap()), 0..3);
    some.prop_map(Intercept).boxed()
}

/// What is in a file of this name.
pub(crate) fn page_of(name: &str) -> String {
    format!("of {name}")
}

fn page() -> BoxedStrategy<Page> {
    let files = select(vec!["a.html", "/x/b \"c\".JSON", "d.txt"]);
    let page = |file: &str| Page::new(file, page_of(file).into()).unwrap();
    files.prop_map(page).boxed()
}

pub(crate) fn error_pages() -> BoxedStrategy<ErrorPages> {
    let statuses = select(vec!["404", "503", "4xx", "5xx"]);
    let statuses = statuses.prop_map(|status| status.parse().unwrap());
    btree_map(statuses, page(), 0..3)
        .prop_map(ErrorPages)
        .boxed()
}

pub(crate) fn write_pages(pages: &ErrorPages, parts: &mut Parts) {
    let mut table = Parts::default();
    for (status, page) in &pages.0 {
        table.add(true, &status.to_string(), text(page.file()));
    }
    parts.add(!pages.is_empty(), "error-pages", table.inline());
}

fn write_maintenance(maintenance: Option<&Maintenance>, parts: &mut Parts) {
    let Some(maintenance) = maintenance else {
        return;
    };
    let mut table = Parts::default();
    table.add(true, "on", maintenance.on.to_string());
    let after = plimsoll_config::format_duration(maintenance.retry_after);
    table.add(true, "retry-after", text(after));
    let except = list(maintenance.except.iter().map(text));
    table.add(true, "except", except);
    if let Some(page) = &maintenance.page {
        table.add(true, "page", text(page.file()));
    }
    let value = match *maintenance == Maintenance::new(true) {
        true => "true".into(),
        false => table.inline(),
    };
    parts.add(true, "maintenance", value);
}

fn write_compress(compress: Option<&Compress>, parts: &mut Parts) {
    let Some(compress) = compress else {
        return;
    };
    let mut table = Parts::default();
    table.add(
        true,
        "algorithms",
        list(compress.algorithms.iter().map(text)),
    );
    table.add(true, "types", list(compress.types.iter().map(text)));
    table.add(true, "min-size", compress.min_size.to_string());
    table.add(true, "level", compress.level.to_string());
    let value = match *compress == Compress::default() {
        true => "true".into(),
        false => table.inline(),
    };
    parts.add(true, "compress", value);
}

pub(crate) fn service() -> BoxedStrategy<Option<Arc<ServiceHttp>>> {
    let id = (header(), any::<bool>());
    let id = id.prop_map(|(header, respond)| RequestId::new(header, respond).unwrap());
    (
        headers(),
        headers(),
        option::of(id),
        compress(),
        maintenance(),
        intercept(),
        error_pages(),
    )
        .prop_map(
            |(
                request_headers,
                response_headers,
                request_id,
                compress,
                maintenance,
                intercept,
                error_pages,
            )| {
                let http = ServiceHttp {
                    request_headers,
                    response_headers,
                    request_id,
                    compress,
                    maintenance,
                    intercept,
                    error_pages,
                };
                (!http.is_empty()).then(|| http.into())
            },
        )
        .boxed()
}

/// Of the route with the path `/ID`.
pub(crate) fn route(id: usize) -> BoxedStrategy<Option<Arc<RouteHttp>>> {
    let to = select(vec!["https", "https://{host}:8443", "http://a.org/x", "/y"]);
    let status = select(Redirect::STATUSES.to_vec());
    let redirect = (to, status, any::<bool>(), any::<bool>());
    let redirect = redirect.prop_map(|(to, status, keep_path, keep_query)| Redirect {
        to: to.parse().unwrap(),
        status,
        keep_path,
        keep_query,
    });
    let user = "alice:$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/";
    let realm = select(vec![BasicAuth::DEFAULT_REALM, "a, b"]);
    let auth = realm.prop_map(move |realm| BasicAuth {
        realm: realm.into(),
        users: [BasicAuth::user(user).unwrap()].into(),
    });
    let strip = option::of(select(vec!["/".to_owned(), format!("/{id}")]));
    let add = option::of(select(vec!["/v1", "/v 2/x"]));
    let prefix = (strip, add).prop_map(|(strip, add)| PrefixChange {
        strip: strip.map(|strip| strip.parse().unwrap()),
        add: add.map(|add| add.replace(' ', "%20").parse().unwrap()),
    });
    let nets = select(vec!["10.0.0.0/8", "fd00::/8"]).prop_map(|net| net.parse().unwrap());
    let nets = || vec(nets.clone(), 0..2);
    let rules = (nets(), nets()).prop_map(|(allow, deny)| ClientRules { allow, deny });
    let first = (
        option::of(redirect),
        option::of(auth),
        rules,
        compress(),
        maintenance(),
    );
    let http = (first, prefix, headers(), headers());
    let http = http.prop_map(|(first, prefix, request_headers, response_headers)| {
        let (redirect, basic_auth, clients, compress, maintenance) = first;
        let http = RouteHttp {
            clients,
            redirect,
            basic_auth,
            prefix,
            request_headers,
            response_headers,
            compress,
            maintenance,
        };
        (!http.is_empty()).then(|| http.into())
    });
    prop_oneof![Just(None), http].boxed()
}

fn write_headers(key: &str, rules: &FieldRules, parts: &mut Parts) {
    let mut table = Parts::default();
    for (key, fields) in [("set", &rules.set), ("add", &rules.add)] {
        let mut values = Parts::default();
        for (name, value) in fields {
            // The case of names says nothing.
            let name = text(name.as_str().to_ascii_uppercase());
            values.add(true, &name, text(value));
        }
        table.add(!fields.is_empty(), key, values.inline());
    }
    let removed = rules.remove.iter().map(text);
    table.add(!rules.remove.is_empty(), "remove", list(removed));
    parts.add(!rules.is_empty(), key, table.inline());
}

pub(crate) fn write_service(http: Option<&ServiceHttp>, parts: &mut Parts) {
    let Some(http) = http else {
        return;
    };
    write_headers("request-headers", &http.request_headers, parts);
    write_headers("response-headers", &http.response_headers, parts);
    write_compress(http.compress.as_ref(), parts);
    write_maintenance(http.maintenance.as_ref(), parts);
    write_pages(&http.error_pages, parts);
    let statuses = http.intercept.0.iter().map(|status| match status {
        ErrorStatus::One(status) => status.to_string(),
        ErrorStatus::Class(_) => text(status),
    });
    let all = http.intercept.0.iter().copied().eq(ErrorStatus::ALL);
    let value = if all { "true".into() } else { list(statuses) };
    parts.add(!http.intercept.is_empty(), "intercept", value);
    if let Some(id) = &http.request_id {
        let mut table = Parts::default();
        table.add(true, "header", text(&id.header));
        table.add(true, "response", id.respond.to_string());
        let value = match id.respond {
            true => table.inline(),
            false => text(&id.header),
        };
        parts.add(true, "request-id", value);
    }
}

pub(crate) fn write_route(route: &Route, short: bool, parts: &mut Parts) {
    let Some(http) = &route.http else {
        return;
    };
    clients(&http.clients, short, parts);
    if let Some(redirect) = &http.redirect {
        let mut table = Parts::default();
        table.add(true, "to", text(&redirect.to));
        table.add(true, "status", redirect.status.to_string());
        table.add(true, "keep-path", redirect.keep_path.to_string());
        table.add(true, "keep-query", redirect.keep_query.to_string());
        let plain = *redirect == Redirect::new(redirect.to.clone());
        let value = match short && plain {
            true => text(&redirect.to),
            false => table.inline(),
        };
        parts.add(true, "redirect", value);
    }
    if let Some(auth) = &http.basic_auth {
        let users = auth.users.iter();
        let users = list(users.map(|(name, hash)| text(format!("{name}:{}", hash.reveal()))));
        let mut table = Parts::default();
        table.add(true, "users", users.clone());
        table.add(true, "realm", text(&auth.realm));
        let plain = &*auth.realm == BasicAuth::DEFAULT_REALM;
        let value = match short && plain {
            true => users,
            false => table.inline(),
        };
        parts.add(true, "basic-auth", value);
    }
    match &http.prefix {
        PrefixChange {
            strip: Some(strip),
            add: Some(add),
        } if *strip == route.path => parts.add(true, "replace-prefix", text(add)),
        PrefixChange { strip, add } => {
            for (key, prefix) in [("strip-prefix", strip), ("add-prefix", add)] {
                if let Some(prefix) = prefix {
                    parts.add(true, key, text(prefix));
                }
            }
        }
    }
    write_headers("request-headers", &http.request_headers, parts);
    write_compress(http.compress.as_ref(), parts);
    write_maintenance(http.maintenance.as_ref(), parts);
    write_headers("response-headers", &http.response_headers, parts);
}
