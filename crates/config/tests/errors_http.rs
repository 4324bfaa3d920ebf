//! What is done with HTTP: each error where it is, and what was meant.

#![allow(clippy::indexing_slicing, reason = "tests")]

mod common;

use common::{check_route, check_service};
use plimsoll_config::render;

/// A route that has all it needs; the line is line 7.
#[track_caller]
fn check_line(line: &str, wanted: &[&str]) {
    check_route(
        &format!("host = \"*\"\nservice = \"a\"\npath = \"/old\"\n{line}\n"),
        wanted,
    );
}

#[test]
fn redirects() {
    check_line(
        "redirect = \"htps\"",
        &[r#"9:12: route[0].redirect: redirect "htps": neither a scheme nor a path"#],
    );
    check_line(
        "redirect = \"/old\"",
        &[
            "9:12: route[0].redirect: redirect to /old: that is the route's own path, so clients would go in circles",
        ],
    );
    check_line(
        "redirect = { to = \"https\", status = 200 }",
        &["9:37: route[0].redirect.status: 200 is no status of a redirect"],
    );
    check_line(
        "redirect = { status = 301 }",
        &["9:12: route[0].redirect: the key `to` is missing"],
    );
    check_line(
        "redirect = { to = \"https\", keep-paht = true }",
        &["9:28: route[0].redirect.keep-paht: unknown key `keep-paht` … did you mean `keep-path`?"],
    );
    check_line(
        "redirect = true",
        &["9:12: route[0].redirect: wrong type, a boolean"],
    );
}

#[test]
fn prefixes() {
    check_line(
        "strip-prefix = \"/new\"",
        &[
            "9:16: route[0].strip-prefix: strip-prefix /new is no beginning of the path /old: requests without it would come as they are",
        ],
    );
    check_line(
        "add-prefix = \"new\"",
        &[r#"9:14: route[0].add-prefix: path "new": a path begins with /"#],
    );
    check_line(
        "replace-prefix = \"/new\"\nstrip-prefix = \"/old\"",
        &["9:18: route[0].replace-prefix: `replace-prefix` beside `strip-prefix`"],
    );
}

#[test]
fn headers() {
    check_line(
        "request-headers = { set = { Connection = \"close\" } }",
        &[
            "9:29: route[0].request-headers.set.Connection: request-headers: header `connection` says how a message is framed or what becomes of the connection, so only plimsoll itself can: leave it out",
        ],
    );
    check_line(
        "request-headers = { remove = \"host\" }",
        &[
            "9:30: route[0].request-headers.remove: request-headers: every request has exactly one `host`, which can only be set",
        ],
    );
    check_line(
        "response-headers = { add = { \"a b\" = \"\" } }",
        &[
            r#"9:30: route[0].response-headers.add."a b": header "a b": a name has letters, digits and signs such as -"#,
        ],
    );
    check_line(
        "response-headers = { add = { X-A = \"1\", x-a = \"2\" } }",
        &["9:41: route[0].response-headers.add.x-a: header x-a is there twice"],
    );
    check_line(
        "response-headers = { remvoe = \"x\" }",
        &["9:22: route[0].response-headers.remvoe: unknown key `remvoe` … did you mean `remove`?"],
    );
    check_service(
        "request-headers = { set = { X-A = \"{clinet}\" } }",
        &[
            r#"5:35: service[0].request-headers.set.X-A: value "{clinet}": unknown variable `{clinet}`"#,
        ],
    );
    check_service(
        "request-headers = { set = { X-A = \"a\\r\\nb\" } }",
        &[
            "5:35: service[0].request-headers.set.X-A: value \"a\u{fffd}\u{fffd}b\": a value is ASCII without control characters",
        ],
    );
}

#[test]
fn request_ids() {
    check_service(
        "request-id = true",
        &["5:14: service[0].request-id: wrong type, a boolean"],
    );
    check_service(
        "request-id = { header = \"host\" }",
        &["5:25: service[0].request-id.header: request-id: `host` says whom a request is for"],
    );
    check_service(
        "request-id = \"TE\"",
        &[
            "5:14: service[0].request-id: request-id: header `te` says how a message is framed or what becomes of the connection, so only plimsoll itself can: leave it out",
        ],
    );
}

/// What is in it may be a password: neither it nor its line is shown.
#[test]
fn users() {
    let cases = [
        (
            "basic-auth = \"alice:hunter2\"",
            "9:14: route[0].basic-auth: the hash of a password is not one of bcrypt ($2y$), SHA-crypt ($5$, $6$) or apr1 ($apr1$): make it with `htpasswd -nB USER`",
        ),
        (
            "basic-auth = [\"hunter2\"]",
            "9:15: route[0].basic-auth[0]: a user is NAME:HASH, as `htpasswd -nB NAME` writes it",
        ),
        (
            "basic-auth = { user = [\"alice:$2y$05$hunter2\"] }",
            "9:14: route[0].basic-auth: the key `users` is missing",
        ),
    ];
    for (line, wanted) in cases {
        let text = format!(
            "[[service]]\nname = \"a\"\nlisten = \"0.0.0.0:80/http\"\nbackends = []\n[[route]]\nhost = \"*\"\nservice = \"a\"\npath = \"/old\"\n{line}\n"
        );
        let errors = common::errors(&text);
        let said = format!("{}\n{}", errors[0], render("f", &text, &errors));
        assert!(said.starts_with(wanted), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn compression() {
    check_line(
        "compress = 6",
        &["9:12: route[0].compress: wrong type, an integer"],
    );
    check_line(
        "compress = { algorithms = \"brotli\", types = \"text\" }",
        &[
            "9:27: route[0].compress.algorithms: unknown algorithm `brotli`",
            "9:45: route[0].compress.types: \"text\" is no media type",
        ],
    );
    check_line(
        "compress = { algorithms = [\"br\", \"br\"] }",
        &["9:12: route[0].compress: compress: br is there twice"],
    );
    check_line(
        "compress = { types = [] }",
        &["9:12: route[0].compress: compress: 1 to 64 `types`"],
    );
    check_line(
        "compress = { level = 11 }",
        &["9:22: route[0].compress.level: 11 is out of range"],
    );
}
