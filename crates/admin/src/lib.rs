//! The admin API: HTTP/1.1 and JSON over a Unix socket, the metrics, the client of both, and a
//! socket that speaks as HAProxy's does.
//!
//! `docs/admin-api.md`, `docs/metrics.md` and `docs/haproxy-stats.md` describe what can be asked. This room knows nothing
//! of how an answer is found: every question goes as an [`Ask`] to whoever owns control, and comes
//! back through the channel inside it.
#![forbid(unsafe_code)]

mod api;
mod asking;
mod client;
pub mod haproxy;
mod metrics;
mod parameters;
mod rendered;
mod server;
mod socket;

pub use api::{
    Ask, Done, ErrorBody, ExplainReport, FlowReport, FlowsReport, Maintained, MaintenanceBody,
    NotTaken, Readiness, Report, WeightBody,
};
pub use client::{Client, ClientError, encode};
pub use metrics::render as render_metrics;
pub use server::{serve_admin, serve_metrics};
pub use socket::{Access, Socket, SocketError};
