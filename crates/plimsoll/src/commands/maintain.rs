//! `plimsoll maintain`: put a whole service into maintenance.

use clap::{Args, ValueEnum};

use crate::commands::ask;
use crate::error::Error;
use crate::out;

/// Put a service into maintenance: its clients get 503, and when to come back.
///
/// For HTTP services. Requests in flight end by themselves. Clients in the networks of `except` in the
/// configuration are served as before. It holds until `auto` gives it back to the configuration, or
/// until the service is gone. To take out one backend, use `plimsoll drain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  plimsoll maintain shop on
  plimsoll maintain shop off                     serve, whatever the configuration says
  plimsoll maintain shop auto                    what the configuration says")]
pub(crate) struct Maintain {
    /// The service
    #[arg(value_name = "SERVICE")]
    service: String,
    /// Whether it is in maintenance
    #[arg(value_name = "STATE")]
    state: State,
    #[command(flatten)]
    admin: crate::cli::Admin,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    /// Clients get 503
    On,
    /// Clients are served
    Off,
    /// As the configuration says
    Auto,
}

impl Maintain {
    pub(crate) fn run(self) -> Result<(), Error> {
        let on = match self.state {
            State::On => Some(true),
            State::Off => Some(false),
            State::Auto => None,
        };
        ask(self.admin.clone(), async |client| {
            let done = client.maintain(&self.service, on).await?;
            let state = match done.maintenance {
                true => "in maintenance",
                false => "not in maintenance",
            };
            out::print(&format!("service {} is {state}\n", done.service))
        })
    }
}
