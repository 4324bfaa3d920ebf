//! Every key of what is done with HTTP, with a good value and with bad ones.

use plimsoll_model::{Coding, Compress, Maintenance, Redirect, RouteHttp, ServiceHttp};

use crate::world::{Made, World, labelled};

/// Labels that have to be beside a key.
pub(crate) fn beside(key: &str) -> &'static [(&'static str, &'static str)] {
    match key {
        "redirect" | "basic-auth" | "strip-prefix" | "add-prefix" | "replace-prefix" => {
            &[("host", "a.example"), ("path", "/api")]
        }
        key if key.starts_with("redirect.") => &[("host", "a.example"), ("redirect", "https")],
        "basic-auth.realm" => &[("host", "a.example"), ("basic-auth", ALICE)],
        key if key.starts_with("compress.") => &[("compress", "true")],
        key if key.starts_with("maintenance.") => &[("maintenance", "false")],
        "request-id.response" => &[("request-id", "X-Request-ID")],
        _ => &[],
    }
}

const ALICE: &str = "alice:$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/";

fn made(prefix: &str, key: &str, value: &str) -> Made {
    let said = [&[(key, value)], beside(key)].concat();
    let labels = said.iter().map(|(k, v)| (format!("{prefix}{k}"), *v));
    let labels: Vec<(String, &str)> = labels.collect();
    let labels: Vec<(&str, &str)> = labels.iter().map(|(k, v)| (&**k, *v)).collect();
    World::new().made(&labelled(&labels))
}

/// What is seen of a good value.
#[derive(Clone, Copy)]
enum Seen {
    Service(fn(&ServiceHttp) -> bool),
    Route(fn(&RouteHttp) -> bool),
}
use Seen::{Route, Service};

struct Key(
    &'static str,
    &'static str,
    Seen,
    /// Values, and what is said of them after the label.
    &'static [(&'static str, &'static str)],
);

fn redirect(http: &RouteHttp) -> &Redirect {
    http.redirect.as_ref().unwrap()
}

fn maintenance(http: &ServiceHttp) -> Maintenance {
    http.maintenance.clone().unwrap()
}

fn compress(http: &ServiceHttp) -> Compress {
    http.compress.clone().unwrap()
}

const NO_HEADER: &str = "expected NAME: VALUE, with || between two of them";
const OF_CONNECTION: &str = "says how a message is framed or what becomes of the connection, so \
                             only plimsoll itself can: leave it out";

const KEYS: &[Key] = &[
    Key(
        "redirect",
        "https://b.example/x",
        Route(|http| redirect(http).to.to_string() == "https://b.example/x"),
        &[
            (
                "htps",
                "redirect `htps`: neither a scheme nor a path; expected https, https://HOST, \
                 https://HOST/PATH, https://{host}:PORT or /PATH",
            ),
            (
                "/api",
                "redirect to /api: that is the route's own path, so clients would go in circles",
            ),
        ],
    ),
    Key(
        "redirect.status",
        "308",
        Route(|http| redirect(http).status == 308),
        &[("200", "expected one of 301, 302, 303, 307, 308")],
    ),
    Key(
        "redirect.keep-path",
        "false",
        Route(|http| !redirect(http).keep_path),
        &[("fals", "expected one of true, false: did you mean `false`?")],
    ),
    Key(
        "redirect.keep-query",
        "false",
        Route(|http| !redirect(http).keep_query),
        &[("no", "expected one of true, false")],
    ),
    Key(
        "basic-auth",
        ALICE,
        Route(|http| http.basic_auth.as_ref().unwrap().to_string() == "alice"),
        &[],
    ),
    Key(
        "basic-auth.realm",
        "The shop",
        Route(|http| &*http.basic_auth.as_ref().unwrap().realm == "The shop"),
        &[],
    ),
    Key(
        "strip-prefix",
        "/api",
        Route(|http| http.prefix.apply("/api/x") == "/x"),
        &[(
            "/b",
            "strip-prefix /b is no beginning of the path /api: requests without it would come as \
             they are",
        )],
    ),
    Key(
        "add-prefix",
        "/v2",
        Route(|http| http.prefix.apply("/api/x") == "/v2/api/x"),
        &[("v2", "path `v2`: a path begins with /")],
    ),
    Key(
        "replace-prefix",
        "/v2",
        Route(|http| http.prefix.apply("/api/x") == "/v2/x"),
        &[("v2", "path `v2`: a path begins with /")],
    ),
    Key(
        "request-headers.set",
        "X-A: {client} || x-b: a, b",
        Service(|http| http.request_headers.to_string() == "x-a: {client} || x-b: a, b"),
        &[
            ("X-A", NO_HEADER),
            ("X-A: 1 ||", NO_HEADER),
            ("X-A: 1 || x-a: 2", "x-a is there twice"),
            (
                "X-A: {clinet}",
                "value `{clinet}`: unknown variable `{clinet}`; expected one of {client}, {host}, \
                 {method}, {path}, {query}, {request-id}, {scheme}, or {{ for a brace",
            ),
        ],
    ),
    Key(
        "request-headers.add",
        "X-A: 1",
        Service(|http| http.request_headers.to_string() == "+x-a: 1"),
        &[(
            "Host: b.example",
            "request-headers: every request has exactly one `host`, which can only be set",
        )],
    ),
    Key(
        "request-headers.remove",
        "X-A , x-b",
        Service(|http| http.request_headers.to_string() == "-x-a || -x-b"),
        &[("x-a,X-A", "X-A is there twice")],
    ),
    Key(
        "response-headers.set",
        "X-A:",
        Service(|http| http.response_headers.to_string() == "x-a: "),
        &[(
            "a b: 1",
            "header `a b`: a name has letters, digits and signs such as -",
        )],
    ),
    Key(
        "response-headers.add",
        "X-A: 1:2",
        Service(|http| http.response_headers.to_string() == "+x-a: 1:2"),
        &[("1", NO_HEADER)],
    ),
    Key(
        "response-headers.remove",
        "server",
        Service(|http| http.response_headers.to_string() == "-server"),
        &[("a,,b", "there is nothing between two commas")],
    ),
    Key(
        "compress",
        "true",
        Service(|http| compress(http) == Compress::default()),
        &[("yes", "expected one of true, false")],
    ),
    Key(
        "compress.algorithms",
        "br, gzip",
        Service(|http| compress(http).algorithms == [Coding::Br, Coding::Gzip]),
        &[("brr", "expected one of gzip, br, zstd: did you mean `br`?")],
    ),
    Key(
        "compress.types",
        "Text/*",
        Service(|http| compress(http).types[0].has("text/css")),
        &[(
            "text",
            "`text` is no media type; expected one such as text/html, or text/* for all of a kind",
        )],
    ),
    Key(
        "compress.min-size",
        "0",
        Service(|http| compress(http).min_size == 0),
        &[(
            "1k",
            "expected a whole number from 0 to 9223372036854775807",
        )],
    ),
    Key(
        "compress.level",
        "9",
        Service(|http| compress(http).level == 9),
        &[("10", "expected a whole number from 1 to 9")],
    ),
    Key(
        "maintenance",
        "true",
        Service(|http| maintenance(http) == Maintenance::new(true)),
        &[("on", "expected one of true, false")],
    ),
    Key(
        "maintenance.retry-after",
        "10m",
        Service(|http| {
            let maintenance = maintenance(http);
            !maintenance.on && maintenance.retry_after.as_secs() == 600
        }),
        &[(
            "31d",
            "maintenance: `retry-after` is 1s to 30d, in whole seconds",
        )],
    ),
    Key(
        "maintenance.except",
        "10.0.0.0/8, 192.0.2.7",
        Service(|http| maintenance(http).except.len() == 2),
        &[("10.0.0.0/8,", "there is nothing between two commas")],
    ),
    Key(
        "intercept",
        "502, 5xx",
        Service(|http| http.intercept.has(599) && !http.intercept.has(404)),
        &[(
            "200",
            "`200` is no status of an error; expected one from 400 to 599, or 4xx or 5xx for all of \
             a class",
        )],
    ),
    Key(
        "request-id",
        "X-Trace",
        Service(|http| http.request_id.as_ref().unwrap().to_string() == "x-trace"),
        &[("host", "request-id: `host` says whom a request is for")],
    ),
    Key(
        "request-id.response",
        "true",
        Service(|http| http.request_id.as_ref().unwrap().respond),
        &[("tru", "expected one of true, false: did you mean `true`?")],
    ),
];

/// The keys of this table.
pub(crate) fn keys() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|Key(key, ..)| *key)
}

#[test]
fn good_values_are_seen() {
    for Key(key, good, seen, _) in KEYS {
        for prefix in ["plimsoll.", "plimsoll.admin."] {
            let made = made(prefix, key, good);
            let spec = &made.service().spec;
            let is_seen = match seen {
                Service(seen) => seen(spec.http.as_ref().unwrap()),
                Route(seen) => seen(made.routes()[0].http.as_ref().unwrap()),
            };
            assert!(is_seen, "{prefix}{key}={good}: {:?}", made.0);
        }
    }
}

#[test]
fn bad_values_say_what_was_expected() {
    for Key(key, _, _, bad) in KEYS {
        for (value, why) in *bad {
            let made = made("plimsoll.", key, value);
            let said = format!("label plimsoll.{key}={value}: {why}");
            assert_eq!(made.reason(), said);
            assert!(made.services().is_empty() && made.routes().is_empty());
        }
    }
    let framing = made("plimsoll.", "request-headers.set", "Connection: close");
    let framing = framing.reason();
    assert!(framing.contains("header `connection` ") && framing.contains(OF_CONNECTION));
}

#[test]
fn what_speaks_of_routes_needs_one() {
    for (label, value) in [
        ("plimsoll.redirect", "https"),
        ("plimsoll.add-prefix", "/x"),
        ("plimsoll.redirect.status", "301"),
    ] {
        let made = World::new().made(&labelled(&[(label, value)]));
        let why = "it speaks of a route, and there is none without plimsoll.host; \
                   plimsoll.host=* is one for every host";
        assert_eq!(made.reason(), format!("label {label}={value}: {why}"));
    }
    let two = labelled(&[
        ("plimsoll.host", "*"),
        ("plimsoll.replace-prefix", "/x"),
        ("plimsoll.add-prefix", "/y"),
    ]);
    let both = "it is both strip-prefix and add-prefix: say either it, or those";
    let made = World::new().made(&two);
    let reason = made.reason();
    assert_eq!(reason, format!("label plimsoll.replace-prefix=/x: {both}"));
}

#[test]
fn what_is_for_http_is_not_for_tcp() {
    for Key(key, good, ..) in KEYS {
        let key = format!("plimsoll.{key}");
        let tcp = [("plimsoll.protocol", "tcp"), (&*key, *good)];
        let made = World::new().made(&labelled(&tcp));
        assert!(made.reason().contains("only for http services"), "{key}");
    }
}

#[test]
fn nobody_s_password_is_repeated() {
    let why = "the hash of a password is not one of bcrypt ($2y$), SHA-crypt ($5$, $6$) or apr1 \
               ($apr1$): make it with `htpasswd -nB USER`";
    let bad = made("plimsoll.", "basic-auth", "alice:hunter2");
    assert_eq!(bad.reason(), format!("label plimsoll.basic-auth=…: {why}"));
    for (key, value) in [
        ("basic-auht", "alice:hunter2"),
        ("hots", "a:$2y$05$hunter2"),
    ] {
        let label = format!("plimsoll.{key}");
        let made = World::new().made(&labelled(&[(&label, value)]));
        assert!(!made.reason().contains("hunter2"), "{}", made.reason());
    }
}
