//! The formats. What they look like is documented in `docs/access-log.md`.

use std::fmt::Display;
use std::io::{self, Write};
use std::time::Duration;

use plimsoll_model::AccessLog;

use super::civil::Civil;
use super::entry::{Entry, NoTime};
use super::escape;

/// Adds an entry as one line.
pub(crate) fn line(format: AccessLog, entry: &Entry<'_>, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = match (format, entry.asked.is_some()) {
        (AccessLog::Off, _) => return,
        (AccessLog::Combined, _) => combined(entry, out),
        (AccessLog::Json, _) => json(entry, out),
        (AccessLog::Httplog, true) => httplog(entry, out),
        (AccessLog::Httplog, false) => tcplog(entry, out),
    };
    out.push(b'\n');
}

/// As Apache's and nginx's `combined`: no user is known. Connections and sessions have no request.
fn combined(entry: &Entry<'_>, out: &mut Vec<u8>) -> io::Result<()> {
    write!(out, "{} - - [", entry.client.ip())?;
    Civil::new(entry.since).combined(out)?;
    out.extend_from_slice(b"] \"");
    let Some(asked) = &entry.asked else {
        return write!(out, "-\" - {} \"-\" \"-\"", entry.bytes_out);
    };
    if asked.bad {
        out.push(b'-');
    } else {
        escape::combined(asked.method, out);
        out.push(b' ');
        escape::combined(asked.target, out);
        write!(out, " {}", asked.version)?;
    }
    // As nginx: 499 is a client that left before the answer.
    let status = if asked.status == 0 { 499 } else { asked.status };
    write!(out, "\" {status} {}", entry.bytes_out)?;
    for text in [asked.referer, asked.agent] {
        out.extend_from_slice(b" \"");
        match text {
            [] => out.push(b'-'),
            text => escape::combined(text, out),
        }
        out.push(b'"');
    }
    Ok(())
}

fn ms(time: NoTime) -> i128 {
    time.map_or(-1, |time| i128::try_from(time.as_millis()).unwrap_or(-1))
}

/// As HAProxy's `option httplog`: `%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc
/// %ac/%fc/%bc/%sc/%rc %sq/%bq %{+Q}r`.
fn httplog(entry: &Entry<'_>, out: &mut Vec<u8>) -> io::Result<()> {
    let Some(asked) = &entry.asked else {
        return Ok(());
    };
    begin(entry, out)?;
    let head = if asked.bad { -1 } else { ms(Some(entry.head)) };
    let (queue, connect) = (ms(entry.queue), ms(entry.connect));
    let (response, total) = (ms(entry.response), ms(Some(entry.total)));
    write!(out, " {head}/{queue}/{connect}/{response}/{total}")?;
    match asked.status {
        0 => out.extend_from_slice(b" -1"),
        status => write!(out, " {status}")?,
    }
    write!(out, " {} - - ", entry.bytes_out)?;
    out.extend_from_slice(&[entry.end.cause, entry.end.state, b'-', b'-']);
    load(entry, out)?;
    out.extend_from_slice(b" \"");
    if asked.bad {
        out.extend_from_slice(b"<BADREQ>");
    } else {
        escape::haproxy(asked.method, out);
        out.push(b' ');
        escape::haproxy(asked.target, out);
        write!(out, " {}", asked.version)?;
    }
    out.push(b'"');
    Ok(())
}

/// As HAProxy's `option tcplog`: `%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts %ac/%fc/%bc/%sc/%rc
/// %sq/%bq`.
fn tcplog(entry: &Entry<'_>, out: &mut Vec<u8>) -> io::Result<()> {
    begin(entry, out)?;
    let (queue, connect, total) = (ms(entry.queue), ms(entry.connect), ms(Some(entry.total)));
    write!(out, " {queue}/{connect}/{total} {} ", entry.bytes_out)?;
    out.extend_from_slice(&[entry.end.cause, entry.end.state]);
    load(entry, out)
}

/// Client, time, listen, service and backend, as both of HAProxy's formats begin. A request that was
/// not routed has the listen in the place of the service, as HAProxy has the frontend.
fn begin(entry: &Entry<'_>, out: &mut Vec<u8>) -> io::Result<()> {
    let client = entry.client;
    write!(out, "{}:{} [", client.ip(), client.port())?;
    Civil::new(entry.since).haproxy(out)?;
    write!(out, "] {} ", entry.listen)?;
    match entry.service {
        Some(service) => escape::haproxy(service.as_bytes(), out),
        None => write!(out, "{}", entry.listen)?,
    }
    out.push(b'/');
    match entry.backend {
        // A path of a Unix socket may hold anything.
        Some(backend) => {
            for (number, part) in backend.to_string().split(' ').enumerate() {
                if number > 0 {
                    out.extend_from_slice(b"#20");
                }
                escape::haproxy(part.as_bytes(), out);
            }
            Ok(())
        }
        None => write!(out, "<NOSRV>"),
    }
}

fn load(entry: &Entry<'_>, out: &mut Vec<u8>) -> io::Result<()> {
    let load = &entry.load;
    let plus = if entry.elsewhere { "+" } else { "" };
    write!(
        out,
        " {}/{}/{}/{}/{plus}{} {}/0",
        load.process, load.listen, load.service, load.backend, entry.retries, load.waiting
    )
}

/// One JSON object. Keys are only ever added.
fn json(entry: &Entry<'_>, out: &mut Vec<u8>) -> io::Result<()> {
    out.extend_from_slice(b"{\"time\":\"");
    Civil::new(entry.since).rfc3339(out)?;
    let protocol = match (&entry.asked, &entry.datagrams) {
        (Some(_), _) => "http",
        (None, Some(_)) => "udp",
        (None, None) => "tcp",
    };
    write!(out, "\",\"kind\":\"{protocol}\"")?;
    let client = entry.client;
    write!(out, ",\"client\":\"{}\"", client.ip())?;
    write!(out, ",\"client_port\":{}", client.port())?;
    shown(out, "listen", Some(entry.listen));
    shown(out, "service", entry.service);
    shown(out, "backend", entry.backend);
    if let Some(asked) = &entry.asked {
        let texts = [
            ("method", asked.method),
            ("host", asked.host),
            ("target", asked.target),
            ("version", asked.version.as_bytes()),
            ("referer", asked.referer),
            ("user_agent", asked.agent),
        ];
        for (key, text) in texts {
            match text.is_empty() || (asked.bad && key != "host") {
                true => none(out, key),
                false => string(out, key, text),
            }
        }
        match asked.status {
            0 => none(out, "status"),
            status => write!(out, ",\"status\":{status}")?,
        }
    }
    write!(out, ",\"bytes_in\":{}", entry.bytes_in)?;
    write!(out, ",\"bytes_out\":{}", entry.bytes_out)?;
    if let Some((received, sent)) = entry.datagrams {
        write!(out, ",\"datagrams_in\":{received},\"datagrams_out\":{sent}")?;
    }
    let (http, udp) = (entry.asked.is_some(), entry.datagrams.is_some());
    let times = [
        ("head_ms", http, Some(entry.head)),
        ("queue_ms", !udp, entry.queue),
        ("connect_ms", !udp, entry.connect),
        ("response_ms", http || udp, entry.response),
        ("total_ms", true, Some(entry.total)),
    ];
    for (key, _, time) in times.into_iter().filter(|(_, wanted, _)| *wanted) {
        match time {
            Some(time) => write!(out, ",\"{key}\":{}", Millis(time))?,
            None => none(out, key),
        }
    }
    write!(out, ",\"retries\":{},\"end\":\"", entry.retries)?;
    out.extend_from_slice(&[entry.end.cause, entry.end.state, b'"', b'}']);
    Ok(())
}

/// Milliseconds to the microsecond.
struct Millis(Duration);

impl Display for Millis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let micros = self.0.as_micros();
        write!(f, "{}.{:03}", micros / 1000, micros % 1000)
    }
}

fn key(out: &mut Vec<u8>, key: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}

fn none(out: &mut Vec<u8>, name: &str) {
    key(out, name);
    out.extend_from_slice(b"null");
}

fn string(out: &mut Vec<u8>, name: &str, text: &[u8]) {
    key(out, name);
    out.push(b'"');
    escape::json(text, out);
    out.push(b'"');
}

fn shown(out: &mut Vec<u8>, name: &str, value: Option<impl Display>) {
    match value {
        Some(value) => string(out, name, value.to_string().as_bytes()),
        None => none(out, name),
    }
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
