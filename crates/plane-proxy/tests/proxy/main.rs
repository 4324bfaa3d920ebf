//! The proxy plane on loopback: real sockets, scripted backends, at least two workers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod abuse;
mod access_log;
mod auth;
mod bad_backend;
mod bodies;
mod change;
mod clients;
mod close;
mod close_hard;
mod common;
mod compress;
mod conformance;
mod cookie;
mod desync;
mod drain;
mod expelled;
mod fairness;
mod fallback;
mod headers;
mod insight;
mod isolation;
mod itself;
mod keepalive;
mod latency;
mod limits;
mod maintenance;
mod outlier;
mod pages;
mod patience;
mod persistence;
mod proxied;
mod proxied_tls;
mod quotas;
mod retries;
mod retry_rules;
mod routing;
mod rules;
mod schedulers;
mod shortage;
mod slow_start;
mod sockets;
mod stall;
mod strict;
mod tcp;
mod tcp_limits;
mod thresholds;
mod timeouts;
mod udp;
mod udp_limits;
mod unix;
mod upgrade;
mod weight;
