//! Whom lists and limits of a service have turned away.

use std::fmt::Write;

use plimsoll_control::status::ServiceStatus;

/// Nothing where nobody was.
pub(super) fn show(text: &mut String, service: &ServiceStatus) {
    let Some(limits) = &service.limits else {
        return;
    };
    let mut parts = Vec::new();
    for (whose, quota) in [("", &limits.total), ("per-source ", &limits.per_source)] {
        for (what, n) in quota.named() {
            if n > 0 {
                parts.push(format!("{n} by {whose}{what}"));
            }
        }
    }
    if limits.unknown > 0 {
        parts.push(format!(
            "{} not counted, the table was full",
            limits.unknown
        ));
    }
    if !parts.is_empty() {
        let _ = writeln!(text, "  limits: refused {}", parts.join(", "));
    }
}
