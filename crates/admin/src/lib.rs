//! The admin API: HTTP/1.1 and JSON over a Unix socket, the metrics, and the client of both.
//!
//! `docs/admin-api.md` and `docs/metrics.md` describe what can be asked. This room knows nothing
//! of how an answer is found: every question goes as an [`Ask`] to whoever owns control, and comes
//! back through the channel inside it.
#![forbid(unsafe_code)]

mod api;
mod client;
mod metrics;
mod parameters;
mod rendered;
mod server;
mod socket;

pub use api::{
    Ask, Done, ErrorBody, ExplainReport, FlowReport, FlowsReport, NotTaken, Readiness, Report,
    WeightBody,
};
pub use client::{Client, ClientError, encode};
pub use metrics::render as render_metrics;
pub use server::{serve_admin, serve_metrics};
pub use socket::{Access, Socket, SocketError};
