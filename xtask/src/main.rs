//! Chores of the workspace, run as `cargo xtask NAME`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool for the terminal; nothing here runs in the daemon"
)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod soak;

/// Chores of the workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

/// One chore, one module.
#[derive(Subcommand)]
enum Chore {
    /// Measure plimsoll: beside HAProxy and nginx on the same core, or in front of containers.
    Bench(bench::Args),
    /// Keep one plimsoll busy and changing for an hour, and see whether anything grows.
    Soak(soak::Args),
}

fn main() -> ExitCode {
    match Cli::parse().chore {
        Chore::Bench(args) => bench::run(&args),
        Chore::Soak(args) => soak::run(&args),
    }
}
