//! The commands, one file each.

pub(crate) mod run;

use crate::cli::Command;
use crate::error::Error;

/// Runs a command.
pub(crate) fn run(command: Command) -> Result<(), Error> {
    match command {
        Command::Run(run) => run.run(),
    }
}
