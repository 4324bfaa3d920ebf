//! `check`: each error where it is, and what was meant.

mod common;

use common::{check, check_service};

#[test]
fn short_forms() {
    check_service(
        r#"check = "tpc""#,
        &[r#"5:9: service[0].check: unknown check "tpc" … did you mean `tcp`?"#],
    );
    check_service(
        r#"check = "htp:/health""#,
        &[r#"5:9: service[0].check: unknown check "htp:/health" … did you mean `http:/health`?"#],
    );
    check_service(
        r#"check = "/health""#,
        &[r#"5:9: service[0].check: unknown check "/health" … did you mean `http:/health`?"#],
    );
    check_service(
        r#"check = "http:health""#,
        &[
            r#"5:9: service[0].check: path "health" of a check: a path begins with / … did you mean `http:/health`?"#,
        ],
    );
    check_service(
        r#"check = "execute""#,
        &[r#"5:9: service[0].check: unknown check "execute""#],
    );
    check_service(
        "check = true",
        &["5:9: service[0].check: wrong type, a boolean"],
    );
    check_service(
        r#"chek = "tcp""#,
        &["5:1: service[0].chek: unknown key `chek` … did you mean `check`?"],
    );
}

#[test]
fn tables() {
    check_service(
        r#"check = { path = "/" }"#,
        &["5:9: service[0].check: the key `kind` is missing"],
    );
    check_service(
        r#"check = { kind = "htp" }"#,
        &["5:18: service[0].check.kind: unknown kind of check `htp` … did you mean `http`?"],
    );
    check_service(
        r#"check = { kind = "http", paht = "/" }"#,
        &["5:26: service[0].check.paht: unknown key `paht` … did you mean `path`?"],
    );
    check_service(
        r#"check = { kind = "tcp", path = "/" }"#,
        &["5:32: service[0].check.path: `path`, but a tcp check has none"],
    );
    check_service(
        r#"check = { kind = "http", path = "/a b" }"#,
        &[
            r#"5:33: service[0].check.path: path "/a b" of a check: a path is visible ASCII without #; write others as %XX"#,
        ],
    );
    check_service(
        r#"check = { kind = "http", host = "a/b" }"#,
        &[r#"5:33: service[0].check.host: host "a/b" of a check: not a host"#],
    );
    check_service(
        r#"check = { kind = "http", status = "2xx" }"#,
        &[r#"5:35: service[0].check.status: status "2xx": not a code or a range from 200 to 599"#],
    );
    check_service(
        r#"check = { kind = "http", status = 100 }"#,
        &["5:35: service[0].check.status: 100 is out of range"],
    );
    check_service(
        r#"check = { kind = "http", status = [200] }"#,
        &["5:35: service[0].check.status: wrong type, a list"],
    );
    check_service(
        r#"check = { kind = "tcp", interval = 5 }"#,
        &["5:36: service[0].check.interval: a time needs a unit … did you mean `\"5s\"`?"],
    );
    check_service(
        r#"check = { kind = "tcp", interval = "10ms" }"#,
        &["5:36: service[0].check.interval: `10ms` is too short"],
    );
    check_service(
        r#"check = { kind = "tcp", timeout = "61s" }"#,
        &["5:35: service[0].check.timeout: `1m1s` is too long; expected at most 1m"],
    );
    check_service(
        r#"check = { kind = "tcp", rise = 0 }"#,
        &["5:32: service[0].check.rise: 0 is out of range"],
    );
    check_service(
        r#"check = { kind = "tcp", fall = 1001 }"#,
        &["5:32: service[0].check.fall: 1001 is out of range"],
    );
    check_service(
        r#"check = { kind = "tcp", port = 65536 }"#,
        &["5:32: service[0].check.port: 65536 is out of range"],
    );
}

#[test]
fn a_backend_without_a_port() {
    let service = |check: &str| {
        format!(
            "[[service]]\nname = \"a\"\nlisten = \"*:80-89/tcp\"\nbackends = [\"10.0.0.1:80\", \
             \"10.0.0.2\"]\ncheck = {check}\n"
        )
    };
    check(
        &service("\"tcp\""),
        &[
            "5:9: service[0].check: backend 10.0.0.2 has no port to check, and no listen has a single one",
        ],
    );
    let good = service("{ kind = \"tcp\", port = 80 }");
    assert!(plimsoll_config::parse("file:x", &good).is_ok());
}
