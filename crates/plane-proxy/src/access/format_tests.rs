//! Each format, and that nothing that a client sends can forge a line.

use proptest::prelude::*;
use serde_json::Value;

use super::super::entry::{Asked, End, Load};
use super::*;

fn asked<'a>(target: &'a [u8], agent: &'a [u8]) -> Asked<'a> {
    Asked {
        bad: false,
        method: b"GET",
        target,
        version: "HTTP/1.1",
        host: b"example.com",
        referer: b"",
        agent,
        status: 200,
    }
}

fn with_entry<T>(asked: Option<Asked<'_>>, then: impl FnOnce(Entry<'_>) -> T) -> T {
    let listen = "*:80/http".parse().unwrap();
    let backend = "10.0.0.1:8080".parse().unwrap();
    let ms = Duration::from_millis;
    then(Entry {
        client: "192.0.2.7:4711".parse().unwrap(),
        listen: &listen,
        service: Some("web"),
        backend: Some(&backend),
        since: ms(971_186_136_007),
        asked,
        datagrams: None,
        bytes_in: 3,
        bytes_out: 1234,
        head: ms(1),
        queue: Some(ms(2)),
        connect: Some(ms(3)),
        response: Some(Duration::from_micros(4_500)),
        total: ms(12),
        retries: 1,
        elsewhere: true,
        end: End::CLEAN,
        load: Load {
            process: 9,
            listen: 8,
            service: 7,
            backend: 6,
            waiting: 5,
        },
    })
}

fn written(format: AccessLog, asked: Option<Asked<'_>>) -> String {
    let mut out = Vec::new();
    with_entry(asked, |entry| line(format, &entry, &mut out));
    String::from_utf8(out).unwrap()
}

#[test]
fn sessions_in_every_format() {
    let listen = "*:53/udp".parse().unwrap();
    let of = |format| {
        let mut out = Vec::new();
        with_entry(None, |entry| {
            let entry = Entry {
                listen: &listen,
                datagrams: Some((5, 6)),
                head: Duration::ZERO,
                ..entry
            };
            line(format, &entry, &mut out);
        });
        String::from_utf8(out).unwrap()
    };
    assert_eq!(
        of(AccessLog::Combined),
        "192.0.2.7 - - [10/Oct/2000:13:55:36 +0000] \"-\" - 1234 \"-\" \"-\"\n"
    );
    assert_eq!(
        of(AccessLog::Httplog),
        "192.0.2.7:4711 [10/Oct/2000:13:55:36.007] *:53/udp web/10.0.0.1:8080 2/3/12 1234 -- \
         9/8/7/6/+1 5/0\n"
    );
    assert_eq!(
        of(AccessLog::Json),
        "{\"time\":\"2000-10-10T13:55:36.007Z\",\"kind\":\"udp\",\"client\":\"192.0.2.7\",\
         \"client_port\":4711,\"listen\":\"*:53/udp\",\"service\":\"web\",\
         \"backend\":\"10.0.0.1:8080\",\"bytes_in\":3,\"bytes_out\":1234,\"datagrams_in\":5,\
         \"datagrams_out\":6,\"response_ms\":4.500,\"total_ms\":12.000,\"retries\":1,\
         \"end\":\"--\"}\n"
    );
}

#[test]
fn requests_in_every_format() {
    let asked = Some(asked(b"/a?b=c", b"curl/8"));
    assert_eq!(
        written(AccessLog::Combined, asked),
        "192.0.2.7 - - [10/Oct/2000:13:55:36 +0000] \"GET /a?b=c HTTP/1.1\" 200 1234 \"-\" \"curl/8\"\n"
    );
    assert_eq!(
        written(AccessLog::Httplog, asked),
        "192.0.2.7:4711 [10/Oct/2000:13:55:36.007] *:80/http web/10.0.0.1:8080 1/2/3/4/12 200 1234 \
         - - ---- 9/8/7/6/+1 5/0 \"GET /a?b=c HTTP/1.1\"\n"
    );
    let json: Value = serde_json::from_str(&written(AccessLog::Json, asked)).unwrap();
    let wanted = serde_json::json!({
        "time": "2000-10-10T13:55:36.007Z", "kind": "http",
        "client": "192.0.2.7", "client_port": 4711, "listen": "*:80/http",
        "service": "web", "backend": "10.0.0.1:8080",
        "method": "GET", "host": "example.com", "target": "/a?b=c", "version": "HTTP/1.1",
        "referer": null, "user_agent": "curl/8", "status": 200,
        "bytes_in": 3, "bytes_out": 1234, "head_ms": 1.0, "queue_ms": 2.0, "connect_ms": 3.0,
        "response_ms": 4.5, "total_ms": 12.0, "retries": 1, "end": "--",
    });
    assert_eq!(json, wanted);
    assert_eq!(written(AccessLog::Off, asked), "");
}

#[test]
fn connections_in_every_format() {
    assert_eq!(
        written(AccessLog::Combined, None),
        "192.0.2.7 - - [10/Oct/2000:13:55:36 +0000] \"-\" - 1234 \"-\" \"-\"\n"
    );
    assert_eq!(
        written(AccessLog::Httplog, None),
        "192.0.2.7:4711 [10/Oct/2000:13:55:36.007] *:80/http web/10.0.0.1:8080 2/3/12 1234 -- \
         9/8/7/6/+1 5/0\n"
    );
    let json: Value = serde_json::from_str(&written(AccessLog::Json, None)).unwrap();
    assert_eq!(json["kind"], "tcp");
    assert!(json.get("status").is_none() && json.get("response_ms").is_none());
}

#[test]
fn a_request_that_could_not_be_read() {
    let bad = Some(Asked {
        bad: true,
        status: 400,
        ..asked(b"/", b"")
    });
    assert!(written(AccessLog::Combined, bad).contains(" \"-\" 400 1234 "));
    let line = written(AccessLog::Httplog, bad);
    assert!(
        line.contains(" -1/2/3/4/12 400 ") && line.ends_with(" \"<BADREQ>\"\n"),
        "{line}"
    );
    let json: Value = serde_json::from_str(&written(AccessLog::Json, bad)).unwrap();
    assert_eq!(
        (&json["method"], &json["status"]),
        (&Value::Null, &Value::from(400))
    );
}

#[test]
fn nasty_bytes_are_shown_and_change_nothing() {
    let nasty = b"/\" 200 1\n\r\x1b[2J\\#{|}\xff\x7f\xc2\x85";
    let line = written(AccessLog::Combined, Some(asked(nasty, nasty)));
    assert!(
        line.contains("/\\x22 200 1\\x0A\\x0D\\x1B[2J\\x5C#{|}\\xFF\\x7F\\xC2\\x85"),
        "{line}"
    );
    let line = written(AccessLog::Httplog, Some(asked(nasty, nasty)));
    assert!(
        line.contains("/#22 200 1#0A#0D#1B[2J\\#23{|}#FF#7F#C2#85"),
        "{line}"
    );
    let line = written(AccessLog::Json, Some(asked(nasty, nasty)));
    assert!(
        line.contains(r#"/\" 200 1\u000a\u000d\u001b[2J\\#{|}"#),
        "{line}"
    );
    assert!(line.contains("\u{fffd}\\u007f\\u0085"), "{line}");
}

proptest! {
    #[test]
    fn a_line_stays_one_line_whatever_a_client_sends(
        target in proptest::collection::vec(any::<u8>(), 0..60),
        agent in proptest::collection::vec(any::<u8>(), 0..60),
        host in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let asked = Asked { host: &host, referer: &agent, ..asked(&target, &agent) };
        for format in [AccessLog::Combined, AccessLog::Json, AccessLog::Httplog] {
            let line = written(format, Some(asked));
            let inner = line.strip_suffix('\n').unwrap();
            prop_assert!(!inner.chars().any(char::is_control), "{inner:?}");
            prop_assert_eq!(inner.lines().count(), 1);
            match format {
                AccessLog::Json => {
                    let json: Value = serde_json::from_str(inner).unwrap();
                    prop_assert_eq!(json.as_object().unwrap().len(), 23);
                    let agent = String::from_utf8_lossy(&agent);
                    let read = json["user_agent"].as_str().unwrap_or_default();
                    prop_assert_eq!(read, agent);
                }
                // What is quoted cannot end its quotation.
                AccessLog::Combined => prop_assert_eq!(inner.matches('"').count(), 6),
                _ => prop_assert_eq!(inner.matches('"').count(), 2),
            }
        }
    }
}
