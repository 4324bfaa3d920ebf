//! What each backend does.

use plimsoll_control::status::{BackendStatus, Status};

use super::{Text, number, truth};

const STATES: [&str; 4] = ["starting", "ready", "draining", "down"];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Of every backend of every service.
pub(super) fn render(text: &mut Text, status: &Status) {
    type Value = fn(&BackendStatus) -> f64;
    let families: [(&str, &str, &str, Value); 16] = [
        (
            "plimsoll_backend_weight",
            "gauge",
            "The weight in force.",
            |b| f64::from(b.weight),
        ),
        (
            "plimsoll_backend_active",
            "gauge",
            "Requests (HTTP) or connections (TCP) in flight.",
            |b| number(b.counters.active),
        ),
        (
            "plimsoll_backend_queued",
            "gauge",
            "Requests or connections waiting for a place below maxconn.",
            |b| number(b.counters.queued),
        ),
        (
            "plimsoll_backend_overloaded",
            "gauge",
            "1 if it reached its upper threshold and was not below its lower one since, else 0.",
            |b| number(b.counters.overloaded.into()),
        ),
        (
            "plimsoll_backend_requests_total",
            "counter",
            "Requests (HTTP) or connections (TCP) given to the backend.",
            |b| number(b.counters.requests),
        ),
        (
            "plimsoll_backend_connections_total",
            "counter",
            "Connections opened to the backend.",
            |b| number(b.counters.connections),
        ),
        (
            "plimsoll_backend_connect_failures_total",
            "counter",
            "Connections that the backend refused or did not take in time.",
            |b| number(b.counters.connect_failures),
        ),
        (
            "plimsoll_backend_failures_total",
            "counter",
            "Requests the backend failed to answer: reset, garbage, time-out.",
            |b| number(b.counters.failures),
        ),
        (
            "plimsoll_backend_retries_total",
            "counter",
            "Requests tried again elsewhere after the backend failed.",
            |b| number(b.counters.retries),
        ),
        (
            "plimsoll_backend_ejections_total",
            "counter",
            "How often failures put the backend out.",
            |b| number(b.ejections),
        ),
        (
            "plimsoll_backend_in_bytes_total",
            "counter",
            "Bytes sent to the backend: bodies and TCP payload.",
            |b| number(b.counters.bytes_in),
        ),
        (
            "plimsoll_backend_out_bytes_total",
            "counter",
            "Bytes received from the backend: bodies and TCP payload.",
            |b| number(b.counters.bytes_out),
        ),
        (
            "plimsoll_backend_in_datagrams_total",
            "counter",
            "Datagrams sent to the backend.",
            |b| number(b.counters.datagrams_in),
        ),
        (
            "plimsoll_backend_out_datagrams_total",
            "counter",
            "Datagrams received from the backend.",
            |b| number(b.counters.datagrams_out),
        ),
        (
            "plimsoll_backend_in_packets_total",
            "counter",
            "Packets sent to the backend by a plane that forwards packets.",
            |b| number(b.counters.packets_in),
        ),
        (
            "plimsoll_backend_out_packets_total",
            "counter",
            "Packets received from the backend by a plane that forwards packets.",
            |b| number(b.counters.packets_out),
        ),
    ];
    for (name, kind, help, value) in families {
        text.family(name, kind, help);
        for (service, backend) in each(status) {
            let labels = [("service", service), ("backend", backend.addr.as_str())];
            text.sample(name, &labels, value(backend));
        }
    }
    let name = "plimsoll_backend_state";
    text.family(
        name,
        "gauge",
        "1 for the state that the backend is in, 0 for the others.",
    );
    for (service, backend) in each(status) {
        for state in STATES {
            let labels = [
                ("service", service),
                ("backend", &backend.addr),
                ("state", state),
            ];
            text.sample(name, &labels, truth(backend.state == state));
        }
    }
    let name = "plimsoll_backend_responses_total";
    text.family(name, "counter", "HTTP responses of the backend by class.");
    for (service, backend) in each(status) {
        for (class, count) in CLASSES.into_iter().zip(backend.counters.responses) {
            let labels = [
                ("service", service),
                ("backend", &backend.addr),
                ("class", class),
            ];
            text.sample(name, &labels, number(count));
        }
    }
}

fn each(status: &Status) -> impl Iterator<Item = (&str, &BackendStatus)> {
    let services = status.services.iter();
    services.flat_map(|s| s.backends.iter().map(|b| (s.name.as_str(), b)))
}
