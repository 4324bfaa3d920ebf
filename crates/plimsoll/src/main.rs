//! plimsoll: load balancing for containers, in one binary.

mod cli;
mod commands;
mod daemon;
mod demo;
mod error;
mod out;
mod privileges;
mod probe;
mod table;
mod users;
mod vetted;
mod watched;

use std::process::ExitCode;

use clap::Parser;

/// Some 3 % of the CPU time per request less than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match cli.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            out::warn(&error.report());
            error.code()
        }
    }
}

/// Shows help, the version or what is wrong with the arguments: 0 or 2.
fn usage(error: &clap::Error) -> ExitCode {
    // A reader that is gone does not need it.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}
