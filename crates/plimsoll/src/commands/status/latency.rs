//! How long things take at a service, and how many wait.

use std::fmt::Write;

use plimsoll_control::status::{ServiceStatus, TimesStatus};

use crate::table::{brief, count};

/// How long things took, and who waits.
pub(super) fn show(text: &mut String, service: &ServiceStatus) {
    let latency = &service.latency;
    let of = |times: &TimesStatus| {
        let [Some(half), Some(most), Some(nearly)] = [times.p50, times.p90, times.p99] else {
            return None;
        };
        let [half, most, nearly] = [half, most, nearly].map(brief);
        Some(format!("{half} / {most} / {nearly}"))
    };
    let parts = [
        ("took", &latency.duration),
        ("first byte", &latency.first_byte),
        ("connect", &latency.connect),
        ("queue", &latency.queue),
    ];
    let parts = parts.map(|(name, times)| of(times).map(|figures| format!("{name} {figures}")));
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if !parts.is_empty() {
        let _ = writeln!(text, "  p50/p90/p99: {}", parts.join(", "));
    }
    let queued: u64 = service.backends.iter().map(|b| b.counters.queued).sum();
    if queued > 0 {
        let _ = writeln!(text, "  {} in the queue", count(queued, "waits", "wait"));
    }
}
