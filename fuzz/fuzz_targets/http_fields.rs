//! Any fields of a client and of a backend, with all that reads them switched on: nobody comes in
//! without the password, no backend sees what is the plane's own, what it is told of the client is
//! sound, and so is what the client gets and what is logged.
//!
//! The input is one byte of switches (the host, HEAD or GET, a status of 200 or 503), the lines of the
//! request's fields, an empty line, and the lines of the response's. Lines end with LF, which becomes
//! CRLF.
//! On stable: `./scripts/fuzz 60 http_fields`.
#![no_main]

#[path = "../stage/mod.rs"]
mod stage;

use std::cell::RefCell;
use std::net::IpAddr;
use std::os::unix::net::UnixDatagram;

use libfuzzer_sys::fuzz_target;
use plimsoll_config::{Files, named_files, parse_with};
use plimsoll_model::{AccessLog, Desired, LogTo};
use plimsoll_plane_proxy::AccessOptions;

const CONFIG: &str = include_str!("../stage/fields.toml");

/// `alice:secret`, which has one way only to be written.
const CREDENTIAL: &[u8] = b"YWxpY2U6c2VjcmV0";

/// In place of what is wrong, where the host is `insert`.
const PAGE: &str = "<p id=\"{{request-id}}\">{{status}} {{reason}}</p>";

const BODY: &str = "All that is long enough to be worth it is packed, if the client wants it so.";

struct Scene {
    stage: stage::Stage,
    log: UnixDatagram,
}

thread_local!(static SCENE: RefCell<Scene> = RefCell::new(Scene::open()));

impl Scene {
    fn open() -> Self {
        let path = std::env::temp_dir().join(format!("fuzz-fields-{}", std::process::id()));
        let log = UnixDatagram::bind(&path).expect("a socket");
        log.set_nonblocking(true).expect("not blocking");
        let options = AccessOptions {
            format: AccessLog::Json,
            to: LogTo::Syslog(path.clone()),
            query: true,
        };
        let stage = stage::Stage::open_with(options, |listen, backend| {
            let text = CONFIG.replace("LISTEN", &listen.to_string());
            let text = text.replace("BACKEND", &backend.to_string());
            let files = Files::read(named_files(&text), |_| Ok(PAGE.into()));
            let config = parse_with("fuzz", &text, &files);
            let config = config.unwrap_or_else(|errors| panic!("{errors:?}"));
            let services = config.services.into_iter();
            let routes = config.routes.into_iter();
            Desired {
                services: services.map(|s| (s.name().clone(), s.into())).collect(),
                routes: routes.map(|r| (r.name.clone(), r.into())).collect(),
            }
        });
        Self { stage, log }
    }

    /// What was logged so far.
    fn logged(&self) {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length) = self.log.recv(&mut buffer) {
            let line = &buffer[..length];
            let from = line.iter().position(|b| *b == b'{').expect("an object");
            let read = serde_json::from_slice::<serde_json::Value>(&line[from..]);
            assert!(read.is_ok(), "{}", line.escape_ascii());
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((switches, text)) = input.split_first() else {
        return;
    };
    let host = ["insert", "rewrite", "prefix", "closed"][usize::from(switches & 3)];
    let method = if switches & 4 == 0 { "GET" } else { "HEAD" };
    let status = if switches & 8 == 0 { 200 } else { 503 };
    let (asks, says) = cut(text);
    let says = cut(says).0;
    let lower = asks.to_ascii_lowercase();
    // How bodies are framed is for other targets.
    if has(&lower, b"content-length") || has(&lower, b"transfer-encoding") {
        return;
    }
    let mut asked = format!("{method} /a?b HTTP/1.1\r\nHost: {host}\r\n").into_bytes();
    asked.extend(lines(asks));
    asked.extend(b"\r\n");
    let length = BODY.len();
    let mut said = format!(
        "HTTP/1.1 {status} X\r\nX-Seen: {method} /a?b 0\r\nContent-Length: {length}\r\n\
         Content-Type: text/plain\r\n"
    )
    .into_bytes();
    said.extend(lines(says));
    said.extend(b"\r\n");
    if method == "GET" {
        said.extend(BODY.as_bytes());
    }
    let script = stage::Script {
        bytes: &said,
        close: false,
    };
    let first = |answers: &[u8]| stage::answer(answers, method).is_some();
    let played = SCENE.with_borrow_mut(|scene| {
        let nothing: &[u8] = b"";
        let played = scene
            .stage
            .play(&asked, 0, Some(script), Some((nothing, &first)));
        scene.logged();
        played
    });
    assert!(played.heard.len() <= 1, "{:?}", played.heard);
    assert!(
        host != "closed" || played.fields.is_empty() || has(asks, CREDENTIAL),
        "{:?}",
        played.fields
    );
    for fields in &played.fields {
        told(host, fields);
    }
    let end = played.answers.windows(4).position(|w| w == b"\r\n\r\n");
    if let Some(end) = end.filter(|_| !played.fields.is_empty()) {
        let head: String = played.answers[..end]
            .iter()
            .copied()
            .map(char::from)
            .collect();
        answered(host, &head, &lower, &says.to_ascii_lowercase());
        if status == 503 && host == "insert" && method == "GET" {
            page(&played.answers[end + 4..]);
        }
    }
});

/// Up to an empty line, and what is behind it.
fn cut(text: &[u8]) -> (&[u8], &[u8]) {
    match text.windows(2).position(|two| two == b"\n\n") {
        Some(at) => (&text[..at], &text[at + 2..]),
        None => (text, &[]),
    }
}

/// Lines as they are sent.
fn lines(text: &[u8]) -> Vec<u8> {
    let lines = text.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    lines.flat_map(|line| [line, b"\r\n"].concat()).collect()
}

fn has(text: &[u8], what: &[u8]) -> bool {
    text.windows(what.len()).any(|window| window == what)
}

type Fields = [(String, String)];

fn all<'a>(fields: &'a Fields, wanted: &str) -> Vec<&'a str> {
    let named = fields.iter().filter(|(name, _)| name == wanted);
    named.map(|(_, value)| value.as_str()).collect()
}

fn only<'a>(fields: &'a Fields, wanted: &str) -> &'a str {
    let all = all(fields, wanted);
    assert_eq!(all.len(), 1, "{wanted}: {fields:?}");
    all[0]
}

/// What a backend is told.
fn told(host: &str, fields: &Fields) {
    let client: IpAddr = only(fields, "x-client").parse().expect("an address");
    assert!(
        client != IpAddr::from([192, 0, 2, 1]),
        "a client that is denied"
    );
    for name in ["x-forwarded-for", "forwarded"] {
        assert!(!only(fields, name).is_empty(), "{fields:?}");
    }
    // Whoever is trusted is believed as he says it, also twice.
    assert!(!all(fields, "x-forwarded-host").is_empty(), "{fields:?}");
    assert_eq!(only(fields, "x-url"), format!("{host}/a?b"));
    assert!(!only(fields, "x-request-id").is_empty());
    assert!(all(fields, "x-debug").is_empty(), "{fields:?}");
    assert!(
        all(fields, "connection")
            .iter()
            .all(|v| !v.contains("x-client")),
        "a field of ours that is named as one of this hop: {fields:?}"
    );
    if host == "insert" {
        let cookies = all(fields, "cookie");
        let mut pairs = cookies.iter().flat_map(|field| field.split(';'));
        let ours = pairs.any(|pair| name_of(pair) == "SRV");
        assert!(!ours, "{fields:?}");
    }
}

fn name_of(pair: &str) -> &str {
    let (name, _) = pair.split_once('=').unwrap_or(("", pair));
    name.trim_ascii()
}

/// What is put into a page is nothing but text.
fn page(body: &[u8]) {
    let count = |wanted: &[u8]| body.iter().filter(|b| wanted.contains(b)).count();
    let text = body.escape_ascii();
    assert!(
        body.is_empty() || has(body, b"503 Service Unavailable</p>") || has(body, b"502 Bad"),
        "{text}"
    );
    assert!(
        body.is_empty() || (count(b"<>"), count(b"\"'&")) == (4, 2),
        "{text}"
    );
}

/// What a client gets whose request has reached the backend. `asks` and `says` are in lower case.
fn answered(host: &str, head: &str, asks: &[u8], says: &[u8]) {
    let lines = head
        .split("\r\n")
        .skip(1)
        .filter_map(|line| line.split_once(':'));
    let fields: Vec<(String, String)> = lines
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim_ascii().to_owned()))
        .collect();
    // Of ours, for a backend that was understood.
    if all(&fields, "x-seen").is_empty() {
        return;
    }
    assert_eq!(only(&fields, "x-frame-options"), "DENY");
    let codings = all(&fields, "content-encoding");
    if !has(says, b"content-encoding") {
        let wanted = |coding: &&str| has(asks, coding.as_bytes()) || has(asks, b"*");
        assert!(codings.iter().all(wanted), "{head:?}");
        assert!(codings.len() <= 1, "{head:?}");
    }
    let cookies = all(&fields, "set-cookie");
    let pairs = cookies
        .iter()
        .filter_map(|field| field.split(';').next()?.split_once('='));
    let ours: Vec<&str> = pairs
        .filter(|(name, _)| name.trim_ascii() == "SRV")
        .map(|(_, value)| value)
        .collect();
    let is_key =
        |text: &str| text.len() == 16 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    match host {
        "rewrite" => assert!(ours.iter().all(|value| is_key(value)), "{head:?}"),
        "prefix" => assert!(
            ours.iter()
                .all(|value| value.split_once('~').is_some_and(|(key, _)| is_key(key))),
            "{head:?}"
        ),
        _ => {
            assert!(ours.len() <= 1, "{head:?}");
            let dated = |value: &&str| {
                let parts: Vec<&str> = value.split('|').collect();
                parts.len() == 3 && is_key(parts[0])
            };
            assert!(ours.iter().all(dated), "{head:?}");
        }
    }
}
