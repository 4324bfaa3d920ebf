//! Syntax, the top of the file, and `[daemon]`: each error where it is, and what was meant.

mod common;

use common::check;

#[test]
fn syntax() {
    check("x", &["1:2: syntax error: key with no value"]);
    check("a = \n", &["1:5: a: no value"]);
    check(
        "[[service]\nname = \"a\"\n",
        &["1:11: syntax error: unclosed array table"],
    );
    check(
        "[[service]]\nname = web\nlisten = 0.0.0.0:80/http\nbackends = [10.0.0.1:80]\n",
        &[
            "2:8: name: a value without quotes … did you mean `\"web\"`?",
            "3:10: listen: a value without quotes … did you mean `\"0.0.0.0:80/http\"`?",
            "4:13: backends: a value without quotes … did you mean `\"10.0.0.1:80\"`?",
        ],
    );
    check(
        "[[service]]\nname = \"a\nlisten = \"b\"\n",
        &["2:10: name: syntax error: invalid basic string"],
    );
    check(
        "[[service]]\nname = \"a\"\nbackends = [\n  \"x\"\n\n[[service]]\nname = \"b\"\n",
        &["6:1: syntax error: missing comma between array elements"],
    );
    check(
        "[[service]]\nname = \"a\"\nname = \"b\"\n",
        &["3:1: name: `name` is here for the second time"],
    );
    check(
        "[daemon]\n[daemon]\n",
        &["2:2: daemon: `daemon` is here for the second time"],
    );
    check("# é\nà = 1\n", &["2:1: syntax error: invalid unquoted key"]);
    check(
        "a = \"\\q\"\n",
        &["1:7: a: syntax error: missing escaped value"],
    );
    check(
        "a = 1\r\nb = \"x\r\n",
        &["2:7: b: syntax error: invalid basic string"],
    );
    check(
        "service = 1\nservice.a = 2\n",
        &["2:1: syntax error: cannot extend value of type integer with a dotted key"],
    );
    check(
        "a = [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]\n",
        &["1:37: brackets nested 33 deep"],
    );
    check("a.b.c.d.e.f.g.h.i.j.k = 1\n", &["1:18: a key with 9 dots"]);
    check("a = 2024-13-01\n", &["1:5: a: syntax error: invalid date"]);
    check(
        "a = \"xxxxxxxxxx\n",
        &["1:16: a: syntax error: invalid basic string"],
    );
    check("\u{feff}x\n", &["1:2: syntax error: key with no value"]);
    check(
        "a = 1 b = 2\n",
        &["1:5: a: syntax error: string values must be quoted"],
    );
    check(
        "a = {b = 1\n",
        &["1:11: a: syntax error: unclosed inline table"],
    );
    check(
        "a = [1,,2]\n",
        &["1:8: a: syntax error: extra comma in array"],
    );
    check("a = 0x\n", &["1:1: a: unknown key `a`"]);
    check(
        "a = \"\u{1}\"\n",
        &["1:6: a: syntax error: invalid basic string"],
    );
    check("a\u{0} = 1\n", &["1:2: syntax error: invalid unquoted key"]);
}

#[test]
fn top() {
    check(
        "[[servcie]]\nname = \"a\"\n",
        &["1:3: servcie: unknown key `servcie` … did you mean `service`?"],
    );
    check(
        "listen = \"x\"\n",
        &["1:1: listen: unknown key `listen` here; `listen` belongs in a service"],
    );
    check(
        "[service]\nname = \"a\"\n",
        &["1:1: service: wrong type, a table"],
    );
    check(
        "service = \"a\"\n",
        &["1:11: service: wrong type, a string"],
    );
    check(
        "service = [\"a\"]\n",
        &["1:12: service[0]: wrong type, a string"],
    );
    check(
        "[[daemon]]\nworkers = 1\n",
        &["1:1: daemon: wrong type, a list"],
    );
    check("\"a b\" = 1\n", &[r#"1:1: "a b": unknown key `a b`"#]);
    check("\"\\u0007\" = 1\n", &["1:1: \"�\": unknown key `�`"]);
}

#[test]
fn docker() {
    check("docker = true\n", &["1:10: docker: wrong type, a boolean"]);
    check(
        "[docker]\nhots = \"x\"\n",
        &["2:1: docker.hots: unknown key `hots` … did you mean `host`?"],
    );
    check("[docker]\nhost = \" \"\n", &["2:8: docker.host: nothing"]);
    check(
        "[docker]\nlisten = \"*:80/tcp\"\n",
        &["2:10: docker.listen: it is for HTTP services"],
    );
    check(
        "[docker]\nhost = \"unix:///a\"\ntls = \"/b\"\n",
        &[
            "3:7: docker.tls: certificates for a socket, which has no TLS; expected no tls, or a host such as \"tcp://10.0.0.5:2376\"",
        ],
    );
    check(
        "[docker]\nlisten = \"*:80-81/http\"\n",
        &["2:10: docker.listen: several ports"],
    );
    check(
        "[docker]\ntls = \"certs\"\n",
        &[
            "2:7: docker.tls: a path that is not absolute",
            "2:7: docker.tls: certificates of an engine that is not named",
        ],
    );
}

#[test]
fn daemon() {
    check(
        "[daemon]\nworkers = 0\n",
        &["2:11: daemon.workers: 0 is out of range"],
    );
    check(
        "[daemon]\nworkers = 257\n",
        &["2:11: daemon.workers: 257 is out of range"],
    );
    check(
        "[daemon]\ncompress-memory = -1\n",
        &["2:19: daemon.compress-memory: -1 is out of range"],
    );
    check(
        "[daemon]\ncompress-memory = \"256MiB\"\n",
        &["2:19: daemon.compress-memory: wrong type, a string"],
    );
    check(
        "[daemon]\nworkers = \"4\"\n",
        &["2:11: daemon.workers: wrong type, a string"],
    );
    check(
        "[daemon]\nadmin = \"run/x\"\n",
        &["2:9: daemon.admin: a path that is not absolute"],
    );
    check(
        "[daemon]\nadmin = \"/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"\n",
        &["2:9: daemon.admin: a path longer than 107 bytes"],
    );
    check(
        "[daemon]\nstats = \"stats.sock\"\n",
        &["2:9: daemon.stats: a path that is not absolute"],
    );
    check(
        "[daemon]\nmetrics = \"127.0.0.1:0\"\n",
        &["2:11: daemon.metrics: port 0 cannot be listened on"],
    );
    check(
        "[daemon]\nmetrics = \"localhost:9100\"\n",
        &["2:11: daemon.metrics: not an IP address and port"],
    );
    check(
        "[daemon]\ndrain = 30\n",
        &["2:9: daemon.drain: a time needs a unit … did you mean `\"30s\"`?"],
    );
    check(
        "[daemon]\nlog = \"jsno\"\n",
        &["2:7: daemon.log: unknown log format `jsno` … did you mean `json`?"],
    );
    check(
        "[daemon]\nwrokers = 2\n",
        &["2:1: daemon.wrokers: unknown key `wrokers` … did you mean `workers`?"],
    );
    check(
        "[daemon]\nmetrics = \"0.0.0.0:80\"\n[[service]]\nname = \"a\"\nbackends = []\nlisten = \"*:80/http\"\n",
        &[
            "6:10: service[0].listen: *:80/http is the same socket as 0.0.0.0:80/tcp of daemon.metrics, in line 2",
        ],
    );
}

#[test]
fn services_that_share_a_listen_agree_on_its_options() {
    let service = |name: &str, options: &str| {
        format!(
            "[[service]]\nname = \"{name}\"\nlisten = \"*:80/http\"\nbackends = []\n{options}\n\
             [[route]]\nlisten = \"*:80/http\"\nhost = \"{name}.example\"\nservice = \"{name}\"\n"
        )
    };
    let (here, other) = (
        "listen-options = { transparent = true }",
        "listen-options = { interface = \"eth0\" }",
    );
    for second in ["", here] {
        let text = [service("a", here), service("b", second)].concat();
        assert!(plimsoll_config::parse("file:x", &text).is_ok(), "{second}");
    }
    check(
        &[service("a", here), service("b", other)].concat(),
        &[
            "12:10: service[1].listen: service `a` shares it, in line 3, with other `listen-options`",
        ],
    );
}

#[test]
fn ebpf() {
    check(
        "[ebpf]\ninterfaces = \"eth0/1\"\n",
        &["2:14: ebpf.interfaces: \"eth0/1\" is no name of an interface"],
    );
    check(
        "[ebpf]\nxdp = [\"a-very-long-name-of-one\"]\n",
        &["2:8: ebpf.xdp[0]: \"a-very-long-name-of-one\" is no name of an interface"],
    );
    check(
        "[ebpf]\nflows = 999\n",
        &["2:9: ebpf.flows: 999 is out of range"],
    );
    check(
        "[ebpf]\nflow = 9999\n",
        &["2:1: ebpf.flow: unknown key `flow` … did you mean `flows`?"],
    );
    for (sources, error) in [
        (
            r#""172.16.0.1/16""#,
            "2:17: ebpf.tunnel-source: 172.16.0.1/16 has bits set beyond its prefix … did you mean `172.16.0.0/16`?",
        ),
        (
            r#""172.16.0.0/31""#,
            "2:17: ebpf.tunnel-source: 172.16.0.0/31 has a prefix of 31 bits: 8 to 30 leave room for flows",
        ),
        (
            r#""10.0.0.1""#,
            "2:17: ebpf.tunnel-source: 10.0.0.1/32 has a prefix of 32 bits: 8 to 30 leave room for flows",
        ),
        (
            r#"["172.16.0.0/16", "fd00::/97"]"#,
            "2:35: ebpf.tunnel-source[1]: fd00::/97 has a prefix of 97 bits: 8 to 96 leave room for flows",
        ),
        (
            r#"["172.16.0.0/16", "10.0.0.0/8"]"#,
            "2:35: ebpf.tunnel-source[1]: 10.0.0.0/8 is the second of its family",
        ),
        (
            r#""224.0.0.0/8""#,
            "2:17: ebpf.tunnel-source: 224.0.0.0/8 has no addresses that packets can come from",
        ),
        (
            r#""127.0.0.0/8""#,
            "2:17: ebpf.tunnel-source: 127.0.0.0/8 has no addresses that packets can come from",
        ),
        (
            r#""fe80::/64""#,
            "2:17: ebpf.tunnel-source: fe80::/64 has no addresses that packets can come from",
        ),
        (
            r#""240.0.0.0/8""#,
            "2:17: ebpf.tunnel-source: 240.0.0.0/8 has no addresses that packets can come from",
        ),
        (r#""yes""#, "2:17: ebpf.tunnel-source: `yes` is no network"),
    ] {
        check(&format!("[ebpf]\ntunnel-source = {sources}\n"), &[error]);
    }
}
