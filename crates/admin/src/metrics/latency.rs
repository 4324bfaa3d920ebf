//! How long things take, as histograms, and the queues.

use std::fmt::Write;

use plimsoll_control::status::{LatencyStatus, ServiceStatus, Status, TimesStatus};
use plimsoll_plane::BOUNDS;

use super::{Text, number};

pub(super) fn render(text: &mut Text, status: &Status) {
    type Times = fn(&LatencyStatus) -> &TimesStatus;
    let families: [(&str, &str, Times); 4] = [
        (
            "plimsoll_service_duration_seconds",
            "Requests (HTTP) from their whole head to the end of the answer; TCP connections.",
            |l| &l.duration,
        ),
        (
            "plimsoll_service_first_byte_seconds",
            "Requests (HTTP) from their whole head to the head of the answer.",
            |l| &l.first_byte,
        ),
        (
            "plimsoll_service_connect_seconds",
            "Connections to backends, until they stood.",
            |l| &l.connect,
        ),
        (
            "plimsoll_service_queue_seconds",
            "Waits for a place below maxconn, of those that had to wait.",
            |l| &l.queue,
        ),
    ];
    for (name, help, times) in families {
        text.family(name, "histogram", help);
        for service in &status.services {
            histogram(text, name, &service.name, times(&service.latency));
        }
    }
    let name = "plimsoll_service_queued";
    let help = "Requests or connections waiting for a place below maxconn.";
    text.family(name, "gauge", help);
    for service in &status.services {
        text.sample(name, &[("service", &service.name)], queued(service));
    }
}

fn queued(service: &ServiceStatus) -> f64 {
    number(service.backends.iter().map(|b| b.counters.queued).sum())
}

/// Buckets hold all that is below them, too; the last is named `+Inf`.
fn histogram(text: &mut Text, name: &str, service: &str, times: &TimesStatus) {
    let bucket = format!("{name}_bucket");
    let mut below = 0;
    let mut bound = String::new();
    let bounds = BOUNDS.iter().map(Some).chain([None]);
    for (count, upper) in times.histogram.buckets.iter().zip(bounds) {
        below += count;
        bound.clear();
        // Writing to a String cannot fail.
        let _ = match upper {
            Some(micros) => write!(bound, "{}", *micros as f64 / 1e6),
            None => write!(bound, "+Inf"),
        };
        let labels = [("service", service), ("le", bound.as_str())];
        text.sample(&bucket, &labels, number(below));
    }
    let labels = [("service", service)];
    text.sample(&format!("{name}_sum"), &labels, times.sum);
    text.sample(&format!("{name}_count"), &labels, number(below));
}
