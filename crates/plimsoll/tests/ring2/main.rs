//! Ring 2: the daemon as a real process between network namespaces, under real load. Needs root.
//!
//! Every test makes a net of its own (see [`lab`]) and makes sure at its end that nothing is left.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests"
)]

mod access_log;
mod attackers;
mod churn;
mod clients;
mod config;
mod curl;
mod demo;
mod descriptors;
mod doctor;
mod faults;
mod file;
mod flood;
mod gone;
mod guarded;
mod hatop;
mod killed;
mod lab;
mod listens;
mod lvs;
mod many;
mod modes;
mod node;
mod packed;
mod packets;
mod proxied;
#[path = "../cli/pty.rs"]
mod pty;
mod schedulers;
mod sockets;
mod stage;
mod stopping;
mod succession;
mod takeover;
mod thresholds;
mod tproxy;
mod udp;
mod user;
mod vip;
