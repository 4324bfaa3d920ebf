//! The metrics, in the text format of Prometheus, version 0.0.4.

mod backends;
mod latency;
mod limits;
mod packets;
mod vips;

use std::collections::BTreeMap;
use std::fmt::Write;

use plimsoll_control::status::{ListenStatus, PersistenceCounters, ServiceStatus, Status};
use plimsoll_plane::AccessLogCounters;

use crate::Report;

/// The content type of the format.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A label with its value.
type Label<'a> = (&'a str, &'a str);

/// A metric with its kind, its help and what it is of a `T`.
type Family<T> = (&'static str, &'static str, &'static str, fn(&T) -> f64);

/// What a text is made into.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail, here and below.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[Label<'_>], value: f64) {
        self.0.push_str(name);
        for (i, (label, text)) in labels.iter().enumerate() {
            self.0.push(if i == 0 { '{' } else { ',' });
            let _ = write!(self.0, "{label}=\"");
            for c in text.chars() {
                match c {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    c => self.0.push(c),
                }
            }
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }
}

fn number(n: u64) -> f64 {
    n as f64
}

fn truth(is: bool) -> f64 {
    f64::from(u8::from(is))
}

/// All metrics of a report.
pub fn render(report: &Report) -> String {
    let mut text = Text(String::new());
    process(&mut text, report);
    services(&mut text, &report.status);
    persistence(&mut text, &report.status);
    limits::render(&mut text, &report.status);
    latency::render(&mut text, &report.status);
    cookies(&mut text, &report.status);
    backends::render(&mut text, &report.status);
    listens(&mut text, &report.status);
    vips::render(&mut text, &report.status);
    control(&mut text, &report.status);
    packets::render(&mut text, &report.status);
    text.0
}

fn process(text: &mut Text, report: &Report) {
    let name = "plimsoll_build_info";
    text.family(name, "gauge", "Always 1; the version is in the label.");
    text.sample(name, &[("version", &report.version)], 1.0);
    let help = "Seconds since the process started.";
    text.single("plimsoll_uptime_seconds", "gauge", help, report.uptime);
    let workers = report.workers as f64;
    text.single(
        "plimsoll_workers",
        "gauge",
        "Worker threads of the proxy plane.",
        workers,
    );
    let help = "Whether /readyz says 200.";
    text.single(
        "plimsoll_ready",
        "gauge",
        help,
        truth(report.readiness.ready),
    );
    let help = "Whether the process drains before it ends.";
    text.single(
        "plimsoll_draining",
        "gauge",
        help,
        truth(report.readiness.draining),
    );
}

fn services(text: &mut Text, status: &Status) {
    let families: [Family<ServiceStatus>; 16] = [
        (
            "plimsoll_service_requests_total",
            "counter",
            "Requests (HTTP), connections (TCP) or sessions (UDP) for the service.",
            |s| number(s.total),
        ),
        (
            "plimsoll_service_unserved_total",
            "counter",
            "Requests or connections that no backend could serve.",
            |s| number(s.unserved),
        ),
        (
            "plimsoll_service_failed_total",
            "counter",
            "Requests (HTTP) that went to a backend and were answered with 502 or 504.",
            |s| number(s.failed),
        ),
        (
            "plimsoll_service_udp_sessions",
            "gauge",
            "UDP sessions now.",
            |s| number(s.udp.sessions),
        ),
        (
            "plimsoll_service_udp_evicted_total",
            "counter",
            "UDP sessions put out for others because a limit was reached.",
            |s| number(s.udp.evicted),
        ),
        (
            "plimsoll_service_udp_dropped_total",
            "counter",
            "Datagrams dropped because a limit was reached and nothing could be put out.",
            |s| number(s.udp.dropped),
        ),
        (
            "plimsoll_service_udp_moved_total",
            "counter",
            "UDP sessions that went on at another backend.",
            |s| number(s.udp.moved),
        ),
        (
            "plimsoll_service_denied_total",
            "counter",
            "Requests or connections that lists of clients turned away.",
            |s| number(s.denied),
        ),
        (
            "plimsoll_service_unretried_total",
            "counter",
            "Retries for which there was no budget.",
            |s| number(s.unretried),
        ),
        (
            "plimsoll_service_maintenance",
            "gauge",
            "Whether the service is in maintenance.",
            |s| truth(s.maintenance),
        ),
        (
            "plimsoll_service_maintained_total",
            "counter",
            "Requests that maintenance turned away.",
            |s| number(s.maintained),
        ),
        (
            "plimsoll_service_compressed_total",
            "counter",
            "Responses compressed.",
            |s| number(s.compression.responses),
        ),
        (
            "plimsoll_service_compressed_in_bytes_total",
            "counter",
            "Bytes of the bodies of responses before they were compressed.",
            |s| number(s.compression.bytes_in),
        ),
        (
            "plimsoll_service_compressed_out_bytes_total",
            "counter",
            "Bytes of the bodies of responses after they were compressed.",
            |s| number(s.compression.bytes_out),
        ),
        (
            "plimsoll_service_uncompressed_total",
            "counter",
            "Responses sent as they are because compress-memory was in use.",
            |s| number(s.compression.no_memory),
        ),
        (
            "plimsoll_service_in_force",
            "gauge",
            "Whether its plane holds the service as it should.",
            |s| truth(s.error.is_none()),
        ),
    ];
    each_service(text, status, |service| Some(service), families);
}

/// These metrics of every service that has a `part`.
fn each_service<T, const N: usize>(
    text: &mut Text,
    status: &Status,
    part: fn(&ServiceStatus) -> Option<&T>,
    families: [Family<T>; N],
) {
    for (name, kind, help, value) in families {
        text.family(name, kind, help);
        for service in &status.services {
            if let Some(part) = part(service) {
                text.sample(name, &[("service", &service.name)], value(part));
            }
        }
    }
}

/// Only of services that have persistence.
fn persistence(text: &mut Text, status: &Status) {
    let families: [Family<PersistenceCounters>; 4] = [
        (
            "plimsoll_service_persistence_clients",
            "gauge",
            "Clients whose backend is remembered.",
            |p| number(p.clients),
        ),
        (
            "plimsoll_service_persistence_kept_total",
            "counter",
            "Requests or connections that went to the backend that their client stays on.",
            |p| number(p.kept),
        ),
        (
            "plimsoll_service_persistence_moved_total",
            "counter",
            "Those that went to another one, because the client's could not serve them.",
            |p| number(p.moved),
        ),
        (
            "plimsoll_service_persistence_forgotten_total",
            "counter",
            "Clients forgotten before their time because the table was full.",
            |p| number(p.forgotten),
        ),
    ];
    each_service(text, status, |s| s.persistence.as_ref(), families);
}

/// Only of services that have a cookie.
fn cookies(text: &mut Text, status: &Status) {
    let name = "plimsoll_service_cookie_total";
    let help = "Answers of backends by what the cookie of the request said.";
    text.family(name, "counter", help);
    for service in &status.services {
        let Some(c) = &service.cookie else {
            continue;
        };
        for (said, count) in [
            ("none", c.none),
            ("unknown", c.unknown),
            ("expired", c.expired),
            ("kept", c.kept),
            ("moved", c.moved),
        ] {
            let labels = [("service", service.name.as_str()), ("said", said)];
            text.sample(name, &labels, number(count));
        }
    }
}

fn listens(text: &mut Text, status: &Status) {
    // Services that share a listen share its counts, too.
    let all = status.services.iter().flat_map(|s| &s.listens);
    let mut listens: BTreeMap<&str, &ListenStatus> = BTreeMap::new();
    for listen in all {
        let known = listens.entry(&listen.listen).or_insert(listen);
        if known.error.is_none() && listen.error.is_some() {
            *known = listen;
        }
    }
    type Value = fn(&ListenStatus) -> f64;
    let families: [(&str, &str, &str, Value); 6] = [
        (
            "plimsoll_listen_up",
            "gauge",
            "Whether the listen is open.",
            |l| truth(l.error.is_none()),
        ),
        (
            "plimsoll_listen_connections",
            "gauge",
            "Connections of clients open now.",
            |l| number(l.connections),
        ),
        (
            "plimsoll_listen_accepted_total",
            "counter",
            "Connections of clients accepted.",
            |l| number(l.accepted),
        ),
        (
            "plimsoll_listen_requests_total",
            "counter",
            "HTTP requests received, those that could not be read included.",
            |l| number(l.requests),
        ),
        (
            "plimsoll_listen_panicked_total",
            "counter",
            "Connections of clients that a defect of plimsoll's own has ended.",
            |l| number(l.panicked),
        ),
        (
            "plimsoll_listen_unsent_total",
            "counter",
            "Datagrams that could not be sent on, to clients or backends.",
            |l| number(l.unsent),
        ),
    ];
    for (name, kind, help, value) in families {
        text.family(name, kind, help);
        for (listen, status) in &listens {
            text.sample(name, &[("listen", listen)], value(status));
        }
    }
    let name = "plimsoll_listen_refused_total";
    text.family(
        name,
        "counter",
        "Requests refused for what they are, by HTTP status.",
    );
    for (listen, state) in &listens {
        for (status, count) in &state.refused {
            let labels = [("listen", *listen), ("status", &status.to_string())];
            text.sample(name, &labels, number(*count));
        }
    }
    let name = "plimsoll_listen_lost_total";
    text.family(
        name,
        "counter",
        "Datagrams of clients that were not even tried to be sent on, by the reason.",
    );
    for (listen, state) in &listens {
        for (reason, count) in &state.lost {
            let labels = [("listen", *listen), ("reason", reason)];
            text.sample(name, &labels, number(*count));
        }
    }
}

fn control(text: &mut Text, status: &Status) {
    let name = "plimsoll_source_fresh";
    text.family(
        name,
        "gauge",
        "Whether the source can be read; if not, its last state is kept.",
    );
    for source in &status.sources {
        text.sample(
            name,
            &[("source", &source.name)],
            truth(source.state == "fresh"),
        );
    }
    let name = "plimsoll_source_entries";
    text.family(name, "gauge", "Entries of the source.");
    for source in &status.sources {
        text.sample(name, &[("source", &source.name)], source.entries as f64);
    }
    let aside = status.quarantine.len() as f64;
    let help = "Entries that are put aside because something is wrong with them.";
    text.single("plimsoll_quarantine_entries", "gauge", help, aside);
    let name = "plimsoll_plane_audits_total";
    text.family(name, "counter", "How often the plane was read back.");
    for plane in &status.planes {
        text.sample(name, &[("plane", &plane.name)], number(plane.audits));
    }
    let name = "plimsoll_plane_repairs_total";
    text.family(
        name,
        "counter",
        "Things found changed in the plane, and repaired.",
    );
    for plane in &status.planes {
        text.sample(name, &[("plane", &plane.name)], number(plane.repairs));
    }
    access_log(text, status);
    let name = "plimsoll_compress_memory_bytes";
    let help = "What responses that are being compressed hold now, of compress-memory.";
    text.family(name, "gauge", help);
    for plane in &status.planes {
        let labels = [("plane", plane.name.as_str())];
        text.sample(name, &labels, number(plane.compress_memory));
    }
    let name = "plimsoll_worker_connections";
    let help = "Connections of clients that the worker has now.";
    text.family(name, "gauge", help);
    for plane in &status.planes {
        for (worker, open) in plane.workers.iter().enumerate() {
            let worker = worker.to_string();
            let labels = [("plane", plane.name.as_str()), ("worker", &worker)];
            text.sample(name, &labels, number(*open));
        }
    }
    let name = "plimsoll_plane_failing";
    text.family(
        name,
        "gauge",
        "Things the plane failed to do and is asked again.",
    );
    for plane in &status.planes {
        text.sample(name, &[("plane", &plane.name)], plane.failures.len() as f64);
    }
}

/// Lines that tell of requests and connections.
fn access_log(text: &mut Text, status: &Status) {
    type Value = fn(&AccessLogCounters) -> u64;
    let families: [(&str, &str, Value); 2] = [
        (
            "plimsoll_access_log_lines_total",
            "Lines of the access log that were written.",
            |log| log.lines,
        ),
        (
            "plimsoll_access_log_dropped_total",
            "Lines of the access log that came faster than they could be written, or could not be.",
            |log| log.dropped,
        ),
    ];
    for (name, help, value) in families {
        text.family(name, "counter", help);
        for plane in &status.planes {
            let labels = [("plane", plane.name.as_str())];
            text.sample(name, &labels, number(value(&plane.access_log)));
        }
    }
}
