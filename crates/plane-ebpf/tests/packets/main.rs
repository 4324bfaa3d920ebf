//! Both programs on single packets (`BPF_PROG_TEST_RUN`), built here and read by a parser that knows
//! nothing of them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests"
)]

mod answers;
mod audit;
mod bench;
mod build;
mod chaos;
mod errors;
mod flows;
mod forward;
mod layouts;
mod mss;
mod nat;
mod read;
mod schedulers;
mod services;
mod table;
mod takeover;
mod tunnels;
mod untouched;
