//! `[[route]]`: each error where it is, and what was meant.

mod common;

use common::{check, check_route};

#[test]
fn route() {
    check_route(
        "service = \"a\"\n",
        &["5:1: route[0]: the key `host` is missing"],
    );
    check_route(
        "host = \"*\"\n",
        &["5:1: route[0]: the key `service` is missing"],
    );
    check_route(
        "host = []\nservice = \"a\"\n",
        &["6:8: route[0].host: a route without hosts matches nothing"],
    );
    check_route(
        "host = \"a..b\"\nservice = \"a\"\n",
        &[r#"6:8: route[0].host: host "a..b": not a host name"#],
    );
    check_route(
        "host = \"a.com:80\"\nservice = \"a\"\n",
        &[r#"6:8: route[0].host: host "a.com:80": a host has no port: the listen says it"#],
    );
    check_route(
        "host = [\"a.com\", \"A.com\"]\nservice = \"a\"\n",
        &["6:18: route[0].host[1]: host a.com is in this route twice"],
    );
    check_route(
        "host = 1\nservice = \"a\"\n",
        &["6:8: route[0].host: wrong type, an integer"],
    );
    check_route(
        "host = \"*\"\npath = \"api\"\nservice = \"a\"\n",
        &[r#"7:8: route[0].path: path "api": a path begins with /"#],
    );
    check_route(
        "host = \"*\"\npath = \"/a?b\"\nservice = \"a\"\n",
        &[
            r#"7:8: route[0].path: path "/a?b": a path is visible ASCII without ? and #; write others as %XX"#,
        ],
    );
    check_route(
        "host = \"*\"\npriority = 2147483648\nservice = \"a\"\n",
        &["7:12: route[0].priority: 2147483648 is out of range"],
    );
    check_route(
        "host = \"*\"\nservice = []\n",
        &["7:11: route[0].service: it leads to no service"],
    );
    check_route(
        "host = \"*\"\nservice = [\"a\", \"a\"]\n",
        &["7:17: route[0].service[1]: service `a` is in this route twice"],
    );
    check_route(
        "host = \"*\"\nservice = [{ service = \"a\", weight = -1 }]\n",
        &["7:38: route[0].service[0].weight: -1 is out of range"],
    );
    check_route(
        "host = \"*\"\nservice = [{ weight = 1 }]\n",
        &["7:12: route[0].service[0]: the key `service` is missing"],
    );
    check_route(
        "host = \"*\"\nservice = [{ service = \"a\", wieght = 1 }]\n",
        &["7:29: route[0].service[0].wieght: unknown key `wieght` … did you mean `weight`?"],
    );
    check_route(
        "host = \"*\"\nservice = 1\n",
        &["7:11: route[0].service: wrong type, an integer"],
    );
    check_route(
        "host = \"*\"\nservice = \"aa\"\n",
        &["7:11: route[0].service: there is no service `aa`"],
    );
    check_route(
        "host = \"*\"\nservice = \"a\"\nlisten = \"0.0.0.0:80/tcp\"\n",
        &["8:10: route[0].listen: 0.0.0.0:80/tcp is not an http listen"],
    );
    check_route(
        "host = \"*\"\nservice = \"a\"\nlisten = \"0.0.0.0:81/http\"\n",
        &[
            "8:10: route[0].listen: no service listens on 0.0.0.0:81/http … did you mean `0.0.0.0:80/http`?",
        ],
    );
    check_route(
        "host = \"*\"\nservice = \"a\"\nlisten = [\"0.0.0.0:80/http\", \"0.0.0.0:80/http\"]\n",
        &["8:30: route[0].listen[1]: listen 0.0.0.0:80/http is in this route twice"],
    );
    check_route(
        "host = \"*\"\nservice = \"a\"\nhots = \"x\"\n",
        &["8:1: route[0].hots: unknown key `hots` … did you mean `host`?"],
    );
    check_route(
        "name = \"r\"\nhost = \"a.com\"\nservice = \"a\"\n[[route]]\nname = \"r\"\nhost = \"b.com\"\nservice = \"a\"\n",
        &["10:8: route[1].name: route `r` is there already, in line 6"],
    );
    check_route(
        "name = \"\"\nhost = \"a.com\"\nservice = \"a\"\n",
        &["6:8: route[0].name: a name is empty: give it at least one character"],
    );
    check_route(
        "host = [\"b.com\", \"a.com\"]\nservice = \"a\"\n[[route]]\nhost = \"A.com\"\npath = \"/\"\nservice = \"a\"\n",
        &["8:1: route[1]: host a.com and path / are those of the route of line 5"],
    );
    check_route(
        "host = \"a.com\"\nservice = \"a\"\n[[route]]\nhost = \"a.com\"\nservice = \"a\"\n",
        &["8:1: route[1]: host a.com and path / are those of the route of line 5"],
    );
}

#[test]
fn route_in_a_file() {
    check(
        "[[service]]\nname = \"a\"\nlisten = \"0.0.0.0:80/tcp\"\nbackends = [\"10.0.0.1:80\"]\n\n[[route]]\nhost = \"*\"\nservice = \"a\"\n",
        &["6:1: route[0]: there is no http listen for this route"],
    );
    check(
        "[[service]]\nname = \"a\"\nlisten = \"0.0.0.0:80/http\"\nbackends = []\n[[service]]\nname = \"b\"\nlisten = \"0.0.0.0:81/http\"\nbackends = []\n[[route]]\nhost = \"x\"\nservice = \"a\"\n[[route]]\nhost = \"x\"\nservice = \"b\"\n",
        &["12:1: route[1]: this route and that of line 9 are both named `x/`"],
    );
}
