//! Files made from the command line itself: completions and the manual page.

use std::io;
use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::error::Error;
use crate::out;

/// Print completions for a shell.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  plimsoll completions bash > /etc/bash_completion.d/plimsoll
  plimsoll completions zsh > ~/.zfunc/_plimsoll")]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> Result<(), Error> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "plimsoll", &mut text);
        out::print(&String::from_utf8_lossy(&text))
    }
}

/// Write the manual pages into a folder.
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// The folder
    folder: PathBuf,
}

impl Man {
    pub(crate) fn run(self) -> Result<(), Error> {
        let mut whole = Cli::command().disable_help_subcommand(true);
        // Gives the commands below it their full names.
        whole.build();
        self.write(&whole)
    }

    /// Writes the page of a command and those of all below it.
    fn write(&self, command: &clap::Command) -> Result<(), Error> {
        let source = concat!("plimsoll ", env!("CARGO_PKG_VERSION"));
        let page = clap_mangen::Man::new(command.clone()).source(source);
        page.generate_to(&self.folder)
            .map_err(|why: io::Error| Error::Failed(format!("{}: {why}", self.folder.display())))?;
        let below = command.get_subcommands().filter(|c| !c.is_hide_set());
        below
            .into_iter()
            .try_for_each(|command| self.write(command))
    }
}
