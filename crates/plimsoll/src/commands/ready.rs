//! `plimsoll ready`: take a drain back.

use clap::Args;

use crate::commands::{Which, ask};
use crate::error::Error;
use crate::out;

/// Give a drained backend traffic again, and one that is out after failures at once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  plimsoll ready web 10.0.0.7:80")]
pub(crate) struct Ready {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    admin: crate::cli::Admin,
}

impl Ready {
    pub(crate) fn run(self) -> Result<(), Error> {
        let Which { service, backend } = &self.which;
        ask(self.admin.clone(), async |client| {
            let done = client.command(service, backend, "ready").await?;
            out::print(&format!(
                "backend {} of service {} is {}\n",
                done.backend, done.service, done.state
            ))
        })
    }
}
