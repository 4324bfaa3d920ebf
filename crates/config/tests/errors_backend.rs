//! Backends: each error where it is, and what was meant.

mod common;

use common::{check, check_backend};

#[test]
fn backend() {
    check_backend(
        r#""web:80""#,
        &[r#"5:3: service[0].backends[0]: backend "web:80": not an IP address and port"#],
    );
    check_backend(
        r#""10.0.0.1:0""#,
        &[
            r#"5:3: service[0].backends[0]: backend "10.0.0.1:0": port 0 cannot be connected to: use 1 to 65535"#,
        ],
    );
    check_backend(
        r#""10.0.0.1:99999""#,
        &[
            r#"5:3: service[0].backends[0]: backend "10.0.0.1:99999": a port is a number from 1 to 65535"#,
        ],
    );
    check_backend(
        r#""unix:x""#,
        &[
            r#"5:3: service[0].backends[0]: backend "unix:x": the path of a Unix socket is absolute"#,
        ],
    );
    check_backend(
        "80",
        &["5:3: service[0].backends[0]: wrong type, an integer"],
    );
    check_backend(
        "{ weight = 1 }",
        &["5:3: service[0].backends[0]: the key `address` is missing"],
    );
    check_backend(
        r#"{ address = "10.0.0.1:80", wieght = 1 }"#,
        &["5:30: service[0].backends[0].wieght: unknown key `wieght` … did you mean `weight`?"],
    );
    check_backend(
        r#"{ address = "10.0.0.1:80", weight = 2147483648 }"#,
        &["5:39: service[0].backends[0].weight: 2147483648 is out of range"],
    );
    check_backend(
        r#"{ address = "10.0.0.1:80", maxconn = -1 }"#,
        &["5:40: service[0].backends[0].maxconn: -1 is out of range"],
    );
    check_backend(
        r#"{ address = "10.0.0.1:80", upper = 5, lower = 6 }"#,
        &["5:49: service[0].backends[0].lower: the lower threshold 6 is above the upper one, 5"],
    );
    check_backend(
        r#"{ address = "10.0.0.1:80", forward = "tunel" }"#,
        &[
            "5:40: service[0].backends[0].forward: unknown forward method `tunel` … did you mean `tunnel`?",
        ],
    );
    check_backend(
        r#"{ address = "10.0.0.1:80", forward = 1 }"#,
        &["5:40: service[0].backends[0].forward: wrong type, an integer"],
    );
    check_backend(
        r#"{ address = "10.0.0.1:80", forward = { tunnel = "vxlan" } }"#,
        &["5:51: service[0].backends[0].forward.tunnel: unknown tunnel `vxlan`"],
    );
    check_backend(
        r#"{ address = "10.0.0.1:80", forward = { tunnel = "gue" } }"#,
        &["5:40: service[0].backends[0].forward: a GUE tunnel without a port"],
    );
    check_backend(
        r#"{ address = "10.0.0.1:80", forward = { tunnel = "gue", port = 0 } }"#,
        &["5:65: service[0].backends[0].forward.port: 0 is out of range"],
    );
    check_backend(
        r#"{ address = "10.0.0.1:80", forward = { tunnel = "gre", port = 5 } }"#,
        &["5:65: service[0].backends[0].forward.port: a port, but only a GUE tunnel has one"],
    );
    check_backend(
        r#"{ address = "10.0.0.1:80", forward = { port = 5 } }"#,
        &["5:40: service[0].backends[0].forward: the key `tunnel` is missing"],
    );
    check_backend(
        r#"{ address = "unix:/x", forward = "dr" }"#,
        &["5:36: service[0].backends[0].forward: a Unix socket can be reached by the proxy only"],
    );
    check_backend(
        r#"{ address = "10.0.0.1:80", ports = { 80 = 8080 } }"#,
        &["5:38: service[0].backends[0].ports: a port map, but 10.0.0.1:80 has its own"],
    );
    check_backend(
        r#"{ address = "10.0.0.1", ports = { http = 8080 } }"#,
        &["5:37: service[0].backends[0].ports.http: not a port"],
    );
    check_backend(
        r#"{ address = "10.0.0.1", ports = { 80 = 0 } }"#,
        &["5:42: service[0].backends[0].ports.80: 0 is out of range"],
    );
    check_backend(
        r#"{ address = "10.0.0.1", ports = { 80 = 1, 080 = 2 } }"#,
        &["5:37: service[0].backends[0].ports.80: this port is here twice"],
    );
    check_backend(
        r#"{ address = "10.0.0.1", ports = 80 }"#,
        &["5:35: service[0].backends[0].ports: wrong type, an integer"],
    );
    check_backend(
        r#"{ address = "10.0.0.1:80", drain = "yes" }"#,
        &["5:38: service[0].backends[0].drain: wrong type, a string"],
    );
    check_backend(
        "{ address = \"10.0.0.1:80\", name = \"a\\nb\" }",
        &["5:37: service[0].backends[0].name: a control character"],
    );
    check_backend(
        r#"{ address = "10.0.0.1:80", zone = 1 }"#,
        &["5:37: service[0].backends[0].zone: wrong type, an integer"],
    );
    check_backend(
        r#""10.0.0.1:80", { address = "10.0.0.1:80" }"#,
        &["5:30: service[0].backends[1].address: backend 10.0.0.1:80 is in this service twice"],
    );
}

#[test]
fn backend_in_a_file() {
    check(
        "[[service]]\nname = \"a\"\nlisten = \"0.0.0.0:80/tcp\"\nbackends = \"10.0.0.1:80\"\n\n",
        &["4:12: service[0].backends: wrong type, a string"],
    );
    check(
        "[[service]]\nname = \"a\"\nlisten = \"0.0.0.0:80/http\"\nbackends = [{ address = \"10.0.0.1:80\", forward = \"nat\" }]\n",
        &[
            "4:50: service[0].backends[0].forward: listen 0.0.0.0:80/http is layer 7, which only the proxy forwards",
        ],
    );
}
