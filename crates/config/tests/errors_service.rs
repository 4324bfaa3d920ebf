//! `[[service]]` and its listens: each error where it is, and what was meant.
#![allow(clippy::indexing_slicing, reason = "tests")]

mod common;

use common::{check, check_listen, check_service};

#[test]
fn service() {
    check_service(
        "backend = []",
        &["5:1: service[0].backend: unknown key `backend` … did you mean `backends`?"],
    );
    check_service(
        "maxconn = 5",
        &["5:1: service[0].maxconn: unknown key `maxconn` here; `maxconn` belongs in a backend"],
    );
    check_service(
        "max_conn = 5",
        &["5:1: service[0].max_conn: unknown key `max_conn` here; `maxconn` belongs in a backend"],
    );
    check_service(
        r#"plane = "ipsv""#,
        &["5:9: service[0].plane: unknown plane `ipsv` … did you mean `ipvs`?"],
    );
    check_service(
        "plane = 1",
        &["5:9: service[0].plane: wrong type, an integer"],
    );
    check_service(
        r#"scheduler = "wr""#,
        &["5:13: service[0].scheduler: unknown scheduler `wr` … did you mean `wrr`?"],
    );
    check_service(
        "scheduler = 1",
        &["5:13: service[0].scheduler: wrong type, an integer"],
    );
    check_service(
        r#"scheduler = { hash = "source" }"#,
        &["5:13: service[0].scheduler: the key `kind` is missing"],
    );
    check_service(
        r#"scheduler = { kind = "mh", hash = "sources" }"#,
        &["5:35: service[0].scheduler.hash: unknown hash `sources` … did you mean `source`?"],
    );
    check_service(
        r#"scheduler = { kind = "mh", table = 100 }"#,
        &["5:36: service[0].scheduler.table: 100 is not a prime number … did you mean `101`?"],
    );
    check_service(
        r#"scheduler = { kind = "mh", table = 97 }"#,
        &[
            "5:36: service[0].scheduler.table: 97 slots are too few for 1 backends … did you mean `101`?",
        ],
    );
    check_service(
        r#"scheduler = { kind = "mh", table = 16777217 }"#,
        &["5:36: service[0].scheduler.table: 16777217 is out of range"],
    );
    check_service(
        r#"scheduler = { kind = "mh", seed = -1 }"#,
        &["5:35: service[0].scheduler.seed: -1 is out of range"],
    );
    check_service(
        r#"scheduler = { kind = "mh", sed = 1 }"#,
        &["5:28: service[0].scheduler.sed: unknown key `sed` … did you mean `seed`?"],
    );
    for bad in ["1", "100"] {
        check_service(
            &format!(r#"scheduler = {{ kind = "ring", bound = {bad} }}"#),
            &[&format!(
                "5:38: service[0].scheduler.bound: {bad} % of their share is less than \
                 backends need together"
            )],
        );
    }
    check_service(
        r#"scheduler = { kind = "ring", bound = 65536 }"#,
        &["5:38: service[0].scheduler.bound: 65536 is out of range"],
    );
    check_service(
        r#"scheduler = { kind = "ewma", decay = "0" }"#,
        &["5:38: service[0].scheduler.decay: `0` is too short"],
    );
    check_service(
        r#"slow-start = 10"#,
        &["5:14: service[0].slow-start: a time needs a unit … did you mean `\"10s\"`?"],
    );
    check_service(
        r#"slowstart = "10s""#,
        &["5:1: service[0].slowstart: unknown key `slowstart` … did you mean `slow-start`?"],
    );
    check_service(
        r#"mid-stream = "rest""#,
        &["5:14: service[0].mid-stream: unknown mid-stream `rest` … did you mean `reset`?"],
    );
    check_service("mss = 87", &["5:7: service[0].mss: 87 is out of range"]);
    check_service(
        r#"mss = "1400""#,
        &["5:7: service[0].mss: \"1400\" is no size of segments … did you mean `1400`?"],
    );
    check_service(
        r#"cookie = "a b""#,
        &[
            "5:10: service[0].cookie: \"a b\" is not the name of a cookie: letters, digits and !#$%&'*+-.^_`|~, at most 255",
        ],
    );
    check_service(
        r#"cookie = { mode = "insert" }"#,
        &["5:10: service[0].cookie: the key `name` is missing"],
    );
    check_service(
        r#"cookie = { name = "A", mode = "inser" }"#,
        &["5:31: service[0].cookie.mode: unknown mode `inser` … did you mean `insert`?"],
    );
    check_service(
        r#"cookie = { name = "A", mode = "prefix", secure = true }"#,
        &[
            "5:10: service[0].cookie: `secure` is for mode insert: in the others the backend makes the cookie",
        ],
    );
    check_service(
        r#"cookie = { name = "A", max-idle = "5m" }"#,
        &["5:24: service[0].cookie.max-idle: unknown key `max-idle` … did you mean `maxidle`?"],
    );
    check_service(
        r#"cookie = { name = "A", maxlife = "5ms" }"#,
        &["5:34: service[0].cookie.maxlife: `5ms` is too short"],
    );
    check_service(
        r#"cookie = { name = "A", key = "short" }"#,
        &["5:10: service[0].cookie: a key has 8 to 255 characters"],
    );
    check_service(
        "persistence = 300",
        &["5:15: service[0].persistence: a time needs a unit … did you mean `\"300s\"`?"],
    );
    check_service(
        r#"persistence = "0""#,
        &["5:15: service[0].persistence: `0` is too short"],
    );
    check_service(
        "persistence = { prefix-v4 = 24 }",
        &["5:15: service[0].persistence: the key `timeout` is missing"],
    );
    check_service(
        r#"persistence = { timeout = "5m", prefix-v4 = 33 }"#,
        &["5:45: service[0].persistence.prefix-v4: 33 is out of range"],
    );
    check_service(
        r#"persistence = { timeout = "5m", prefix-v6 = 0 }"#,
        &["5:45: service[0].persistence.prefix-v6: 0 is out of range"],
    );
    check_service(
        r#"persistence = { timeout = "5m", prefix_v6 = 64 }"#,
        &[
            "5:33: service[0].persistence.prefix_v6: unknown key `prefix_v6` … did you mean `prefix-v6`?",
        ],
    );
    check_service(
        r#"timeouts = { connect = "0" }"#,
        &["5:24: service[0].timeouts.connect: `0` is too short"],
    );
    check_service(
        r#"timeouts = { conect = "1s" }"#,
        &["5:14: service[0].timeouts.conect: unknown key `conect` … did you mean `connect`?"],
    );
    check_service(
        "timeouts = { idle = 0 }",
        &["5:21: service[0].timeouts.idle: a time needs a unit … did you mean `\"0\"`?"],
    );
    check_service(
        r#"timeouts = { idle = "5" }"#,
        &["5:21: service[0].timeouts.idle: `5`: a time without a unit … did you mean `5s`?"],
    );
    check_service(
        r#"timeouts = { idle = "5 s" }"#,
        &["5:21: service[0].timeouts.idle: `5 s`: not a time"],
    );
    check_service(
        r#"timeouts = { idle = "400d" }"#,
        &["5:21: service[0].timeouts.idle: `400d`: a time is at most 365d"],
    );
    check_service(
        "timeouts = { idle = 1.5 }",
        &["5:21: service[0].timeouts.idle: wrong type, a float"],
    );
    check_service(
        r#"timeouts = "5s""#,
        &["5:12: service[0].timeouts: wrong type, a string"],
    );
    check_service(
        "sessions = 0",
        &["5:12: service[0].sessions: 0 is out of range"],
    );
    check_service(
        r#"sessions = "many""#,
        &["5:12: service[0].sessions: wrong type, a string"],
    );
    check_service(
        "sessions = { limit = 0 }",
        &["5:22: service[0].sessions.limit: 0 is out of range"],
    );
    check_service(
        "sessions = { per_source = 1 }",
        &[
            "5:14: service[0].sessions.per_source: unknown key `per_source` … did you mean `per-source`?",
        ],
    );
    check_service(
        "sessions = { responses = 4294967296 }",
        &["5:26: service[0].sessions.responses: 4294967296 is out of range"],
    );
    check_service(
        "timeouts = { udp = 60 }",
        &["5:20: service[0].timeouts.udp: a time needs a unit … did you mean `\"60s\"`?"],
    );
    check_service("queue = -1", &["5:9: service[0].queue: -1 is out of range"]);
    check_service(
        "queue = 4294967296",
        &["5:9: service[0].queue: 4294967296 is out of range"],
    );
    check_service(
        r#"retries = "3""#,
        &["5:11: service[0].retries: wrong type, a string"],
    );
    check_service(
        r#"retries = { attempts = -1, on = ["502", "5xx", "502"], budget = "20" }"#,
        &[
            "5:24: service[0].retries.attempts: -1 is out of range",
            "5:41: service[0].retries.on[1]: unknown cause of a retry `5xx` … did you mean `500`?",
            "5:48: service[0].retries.on[2]: `502` is there twice",
            "5:65: service[0].retries.budget: \"20\" is no such percentage … did you mean `20%`?",
        ],
    );
    check_service(
        r#"outlier = "5x""#,
        &["5:11: service[0].outlier: unknown kind of errors `5x` … did you mean `5xx`?"],
    );
    check_service(
        r#"outlier = { consecutive = 0, time = "2h", max-percent = 101, errors = "5xx" }"#,
        &["5:27: service[0].outlier.consecutive: 0 is out of range"],
    );
    check_service(
        r#"outlier = { time = "2h", errors = "5xx" }"#,
        &["5:20: service[0].outlier.time: it is too long"],
    );
    check_service(
        "body-limit = -1",
        &["5:14: service[0].body-limit: -1 is out of range"],
    );
    check_service(
        r#"body-limit = "1 MiB""#,
        &["5:14: service[0].body-limit: wrong type, a string"],
    );
    check_service(
        r#"trusted = ["10.0.0.5/8"]"#,
        &[
            "5:12: service[0].trusted[0]: 10.0.0.5/8 has bits set beyond its prefix … did you mean `10.0.0.0/8`?",
        ],
    );
    check_service(
        r#"accept-proxy = ["10.0.0.5/8"]"#,
        &[
            "5:17: service[0].accept-proxy[0]: 10.0.0.5/8 has bits set beyond its prefix … did you mean `10.0.0.0/8`?",
        ],
    );
    check_service(
        r#"send-proxy = "2""#,
        &[
            "5:14: service[0].send-proxy: unknown version of the PROXY protocol `2` … did you mean `v2`?",
        ],
    );
    check_service(
        "listen-options = { tcp-fast-open = 65536, interfaces = \"eth0\" }",
        &[
            "5:36: service[0].listen-options.tcp-fast-open: 65536 is out of range",
            "5:43: service[0].listen-options.interfaces: unknown key `interfaces` here; `interfaces` belongs in the ebpf table … did you mean `interface`?",
        ],
    );
    check_service(
        r#"listen-options = { interface = "eth 0", transparent = 1 }"#,
        &[
            r#"5:32: service[0].listen-options.interface: interface "eth 0": no device can have that name"#,
            "5:55: service[0].listen-options.transparent: wrong type, an integer",
        ],
    );
    check_service(
        "transparent = true",
        &[
            "5:1: service[0].transparent: unknown key `transparent` here; `transparent` belongs in a listen-options table",
        ],
    );
    check_service(
        r#"to-backends = { mark = 0, source = "clint" }"#,
        &[
            "5:24: service[0].to-backends.mark: 0 is out of range",
            "5:36: service[0].to-backends.source: `clint` is no address … did you mean `client`?",
        ],
    );
    check_service(
        r#"to-backends = { source = ["10.0.0.1", "10.0.0.2"] }"#,
        &["5:39: service[0].to-backends.source[1]: two addresses of IPv4"],
    );
    check_service(
        r#"to-backends = { source = "0.0.0.0" }"#,
        &["5:26: service[0].to-backends.source: nothing can be sent from 0.0.0.0"],
    );
    check_service(
        "to-backends = { source = [] }",
        &["5:26: service[0].to-backends.source: an empty list"],
    );
    check_service(
        r#"trusted = "all""#,
        &["5:11: service[0].trusted: `all` is no network"],
    );
    check_service(
        "trusted = [1]",
        &["5:12: service[0].trusted[0]: wrong type, an integer"],
    );
    check_service(
        r#"sorry = "web:80""#,
        &[r#"5:9: service[0].sorry: backend "web:80": not an IP address and port"#],
    );
    check_service(
        r#"sorry = { addr = "10.0.0.9:80" }"#,
        &[
            "5:9: service[0].sorry: the key `address` is missing",
            "5:11: service[0].sorry.addr: unknown key `addr`",
        ],
    );
    check_service(
        "allow = []",
        &[
            "5:9: service[0].allow: the list is empty; expected one network at least; \
             everybody is served without `allow`",
        ],
    );
    check_service(
        "allow = [1]",
        &["5:10: service[0].allow[0]: wrong type, an integer"],
    );
    check_service(
        r#"trusted = ["10.0.0.0/33"]"#,
        &["5:12: service[0].trusted[0]: `10.0.0.0/33` is no network"],
    );
    check_service(
        r#"sorry = { address = "10.0.0.9:80", weight = "1" }"#,
        &["5:45: service[0].sorry.weight: wrong type, a string"],
    );
}

#[test]
fn networks_of_mapped_addresses_are_of_ipv4() {
    let text = r#"
        [[service]]
        name = "a"
        listen = "*:80/http"
        backends = ["10.0.0.1:80"]
        allow = ["::ffff:10.0.0.0/104", "fd00::/8"]
        deny = "::ffff:10.6.0.1"
        trusted = "::ffff:0:0/96"
        accept-proxy = ["::ffff:192.0.2.0/120"]
    "#;
    let config = plimsoll_config::parse("file:x", text).unwrap();
    let spec = &config.services[0].spec;
    let shown = |nets: &[_]| nets.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(shown(&spec.clients.allow), ["10.0.0.0/8", "fd00::/8"]);
    assert_eq!(shown(&spec.clients.deny), ["10.6.0.1/32"]);
    assert_eq!(shown(&spec.trusted), ["0.0.0.0/0"]);
    assert_eq!(shown(&spec.proxy_headers.accept), ["192.0.2.0/24"]);
    let client = "::ffff:10.1.2.3".parse().unwrap();
    assert_eq!(spec.clients.judge(client), plimsoll_model::Verdict::Served);
}

#[test]
fn limits_that_limit_nothing() {
    check_service(
        "limits = {}",
        &["5:10: service[0].limits: it needs a limit"],
    );
    check_service(
        "limits = { per-source = { prefix-v4 = 24 } }",
        &["5:25: service[0].limits.per-source: it needs a limit"],
    );
    // Also beside one of all together.
    check_service(
        "limits = { connections = 5, per-source = {} }",
        &["5:42: service[0].limits.per-source: it needs a limit"],
    );
    // A 0 says that none is meant.
    let text = "[[service]]\nname = \"a\"\nlisten = \"*:80/tcp\"\nbackends = []\n\
                limits = { connections = 0, per-source = { connections = 0 } }\n";
    assert!(plimsoll_config::parse("file:x", text).is_ok());
}

#[test]
fn service_in_a_file() {
    check(
        "[[service]]\nlisten = \"0.0.0.0:80/http\"\nbackends = []\n",
        &["1:1: service[0]: the key `name` is missing"],
    );
    check(
        "[[service]]\nname = \"\"\nlisten = \"0.0.0.0:80/http\"\nbackends = []\n",
        &["2:8: service[0].name: a name is empty: give it at least one character"],
    );
    check(
        "[[service]]\nname = \"a b\"\nlisten = \"0.0.0.0:80/http\"\nbackends = []\n",
        &[
            r#"2:8: service[0].name: name "a b" has ' ': use letters, digits and signs such as - _ . / @"#,
        ],
    );
    check(
        "[[service]]\nname = \"nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn\"\nlisten = \"0.0.0.0:80/http\"\nbackends = []\n",
        &["2:8: service[0].name: a name of 256 bytes is too long: at most 255"],
    );
    check(
        "[[service]]\nname = 5\nlisten = \"0.0.0.0:80/http\"\nbackends = []\n",
        &["2:8: service[0].name: wrong type, an integer"],
    );
    check(
        "[[service]]\nname = \"a\"\nlisten = \"0.0.0.0:80/http\"\n",
        &["1:1: service[0]: the key `backends` is missing"],
    );
    check(
        "[[service]]\nname = \"a\"\nbackends = []\n",
        &["1:1: service[0]: nothing leads to service `a`"],
    );
    check(
        "[[service]]\nname = \"a\"\nlisten = \"0.0.0.0:80/http\"\nbackends = [\"10.0.0.1:80\"]\nplane = \"ipvs\"\n",
        &[
            "5:9: service[0].plane: listen 0.0.0.0:80/http is layer 7, which only the proxy plane carries",
        ],
    );
    check(
        "[[service]]\nname = \"a\"\nlisten = \"0.0.0.0:80/tcp\"\nbackends = [\"10.0.0.1:80\"]\n\n[[service]]\nname = \"a\"\nlisten = \"0.0.0.0:81/tcp\"\nbackends = [\"10.0.0.1:80\"]\n\n",
        &["7:8: service[1].name: service `a` is there already, in line 2"],
    );
    check(
        "[[service]]\nname = \"web\"\nlisten = \"*:1/http\"\nbackends = []\n[[service]]\nname = \"api\"\nbackends = []\n[[route]]\nhost = \"*\"\nservice = \"wbe\"\n",
        &[
            "5:1: service[1]: nothing leads to service `api`",
            "10:11: route[0].service: there is no service `wbe` … did you mean `web`?",
        ],
    );
}

#[test]
fn listen() {
    check_listen(
        r#""80""#,
        &["4:10: service[0].listen: listen \"80\": no protocol … did you mean `*:80/http`?"],
    );
    check_listen(
        r#""0.0.0.0:80""#,
        &[
            "4:10: service[0].listen: listen \"0.0.0.0:80\": no protocol … did you mean `0.0.0.0:80/http`?",
        ],
    );
    check_listen(
        r#""0.0.0.0:0/tcp""#,
        &[
            r#"4:10: service[0].listen: listen "0.0.0.0:0/tcp": port 0 cannot be listened on: use 1 to 65535"#,
        ],
    );
    check_listen(
        r#""0.0.0.0:65536/tcp""#,
        &[
            r#"4:10: service[0].listen: listen "0.0.0.0:65536/tcp": a port is a number from 1 to 65535"#,
        ],
    );
    check_listen(
        r#""0.0.0.0:80/htp""#,
        &[
            "4:10: service[0].listen: listen \"0.0.0.0:80/htp\": unknown protocol \"htp\": expected tcp, udp, sctp or http … did you mean `0.0.0.0:80/http`?",
        ],
    );
    check_listen(
        r#""localhost:80/http""#,
        &[
            "4:10: service[0].listen: listen \"localhost:80/http\": the address is not an IP address … did you mean `127.0.0.1:80/http`?",
        ],
    );
    check_listen(
        r#""::1:80/tcp""#,
        &[
            "4:10: service[0].listen: listen \"::1:80/tcp\": an IPv6 address goes in brackets … did you mean `[::1]:80/tcp`?",
        ],
    );
    check_listen(
        r#""0.0.0.0:90-80/tcp""#,
        &[
            r#"4:10: service[0].listen: listen "0.0.0.0:90-80/tcp": the range ends before it begins"#,
        ],
    );
    check_listen(
        r#""0.0.0.0:53/tcp+upd""#,
        &[
            r#"4:10: service[0].listen: listen "0.0.0.0:53/upd": unknown protocol "upd": expected tcp, udp, sctp or http"#,
        ],
    );
    check_listen(
        r#""mark:0""#,
        &[
            r#"4:10: service[0].listen: listen "mark:0": a mark is a number from 1 to 4294967295, e.g. mark:5 or mark:5/ipv6"#,
        ],
    );
    check_listen("80", &["4:10: service[0].listen: wrong type, an integer"]);
    check_listen(
        r#"["0.0.0.0:80/tcp", 1]"#,
        &["4:29: service[0].listen[1]: wrong type, an integer"],
    );
    check_listen(
        r#"["0.0.0.0:80/tcp", "0.0.0.0:80/tcp"]"#,
        &["4:29: service[0].listen[1]: listen 0.0.0.0:80/tcp is in this service twice"],
    );
    check_listen(
        r#"["0.0.0.0:80/tcp", "*:80/http"]"#,
        &[
            "4:29: service[0].listen[1]: *:80/http is the same socket as 0.0.0.0:80/tcp of this service",
        ],
    );
    check_listen(
        r#""0.0.0.0:53/udp+udp""#,
        &["4:10: service[0].listen: listen 0.0.0.0:53/udp is in this service twice"],
    );
    check_listen(
        r#""0.0.0.0:80/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx""#,
        &[
            "4:10: service[0].listen: \"0.0.0.0:80/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…\" is not valid",
        ],
    );
    check_listen(
        "\"0.0.0.0:53/tcp\\u001b\"",
        &[
            "4:10: service[0].listen: listen \"0.0.0.0:53/tcp�\": unknown protocol \"tcp\\u{1b}\": expected tcp, udp, sctp or http … did you mean `0.0.0.0:53/tcp`?",
        ],
    );
}

#[test]
fn listen_in_a_file() {
    check(
        "[[service]]\nname = \"a\"\nlisten = \"0.0.0.0:80/tcp\"\nbackends = []\n[[service]]\nname = \"b\"\nlisten = \"0.0.0.0:80/tcp\"\nbackends = []\n",
        &["7:10: service[1].listen: 0.0.0.0:80/tcp is taken by service `a`, in line 3"],
    );
    check(
        "[[service]]\nname = \"a\"\nlisten = \"10.0.0.1:80-90/tcp\"\nbackends = []\n[[service]]\nname = \"b\"\nlisten = \"10.0.0.1:85/tcp\"\nbackends = []\n",
        &[
            "7:10: service[1].listen: 10.0.0.1:85/tcp is the same socket as 10.0.0.1:80-90/tcp of service `a`, in line 3",
        ],
    );
    check(
        "[[service]]\nname = \"a\"\nlisten = \"0.0.0.0:80/http\"\nbackends = []\n[[service]]\nname = \"b\"\nlisten = \"0.0.0.0:80/tcp\"\nbackends = []\n",
        &[
            "7:10: service[1].listen: 0.0.0.0:80/tcp is the same socket as 0.0.0.0:80/http of service `a`, in line 3",
        ],
    );
    check(
        "[[service]]\nname = \"a\"\nlisten = \"0.0.0.0:80/http\"\nbackends = []\n[[service]]\nname = \"b\"\nlisten = \"*:80/http\"\nbackends = []\n",
        &[
            "7:10: service[1].listen: *:80/http is the same socket as 0.0.0.0:80/http of service `a`, in line 3 … did you mean `0.0.0.0:80/http`?",
        ],
    );
    check(
        "[[service]]\nname = \"a\"\nlisten = \"mark:5\"\nbackends = []\n[[service]]\nname = \"b\"\nlisten = \"mark:5\"\nbackends = []\n",
        &["7:10: service[1].listen: mark:5 is taken by service `a`, in line 3"],
    );
    check(
        "[[service]]\nname = \"a\"\nlisten = \"0.0.0.0:80/http\"\nbackends = []\n[[service]]\nname = \"b\"\nlisten = \"0.0.0.0:80/http\"\nbackends = []\n",
        &[
            "7:10: service[1].listen: no route leads to service `b` nor to service `a`, which has 0.0.0.0:80/http too, in line 3",
        ],
    );
}

#[test]
fn vips() {
    for (vip, wanted) in [
        (r#""10.0.0.9""#, "5:7: service[0].vip: wrong type, a string"),
        (
            r#"{ address = "10.0.0.9" }"#,
            "5:7: service[0].vip: the key `interface` is missing",
        ),
        (
            r#"{ interface = "eth0" }"#,
            "5:7: service[0].vip: the key `address` is missing",
        ),
        (
            r#"{ adress = "10.0.0.9", address = "10.0.0.9", interface = "eth0" }"#,
            "5:9: service[0].vip.adress: unknown key `adress` … did you mean `address`?",
        ),
        (
            r#"{ address = "10.0.0.9/33", interface = "eth0" }"#,
            "5:19: service[0].vip.address: VIP \"10.0.0.9/33\": a network's length is 1 to 32 here",
        ),
        (
            r#"{ address = "127.0.0.1", interface = "eth0" }"#,
            "5:19: service[0].vip.address: VIP \"127.0.0.1\": every host has it, and clients cannot reach it",
        ),
        (
            r#"{ address = "10.0.0.9", interface = "eth0/1" }"#,
            "5:43: service[0].vip.interface: interface \"eth0/1\": no device can have that name",
        ),
        (
            r#"{ address = "2001:db8::9", interface = "eth0" }"#,
            "5:7: service[0].vip: no listen of this service has VIP 2001:db8::9: name it in one, or a \
             wildcard of its family",
        ),
        (
            r#"[{ address = "10.0.0.9", interface = "eth0" }, { address = "10.0.0.9/24", interface = "eth1" }]"#,
            "5:54: service[0].vip[1]: VIP 10.0.0.9 is in this service twice",
        ),
    ] {
        check_service(&format!("vip = {vip}"), &[wanted]);
    }
}

#[test]
fn a_vip_is_in_one_place() {
    let service = |name: &str, port: u16, vip: &str| {
        format!(
            "[[service]]\nname = \"{name}\"\nlisten = \"10.0.0.9:{port}/tcp\"\nbackends = [\"10.0.0.1:80\"]\n\
             vip = {{ address = \"10.0.0.9{vip} }}\n"
        )
    };
    for other in [r#"", interface = "eth1""#, r#"/24", interface = "eth0""#] {
        let at = match other.starts_with("/24") {
            true => "10.0.0.9/24 at eth0",
            false => "10.0.0.9/32 at eth1",
        };
        check(
            &(service("a", 80, r#"", interface = "eth0""#) + &service("b", 81, other)),
            &[&format!(
                "10:7: service[1].vip: service `a` has it as 10.0.0.9/32 at eth0, in line 5, and this is {at}"
            )],
        );
    }
}
