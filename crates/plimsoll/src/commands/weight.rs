//! `plimsoll weight`: change a backend's share.

use clap::Args;
use plimsoll_model::MAX_WEIGHT;

use crate::commands::{Which, ask};
use crate::error::Error;
use crate::out;

/// Change a backend's share of what is new.
///
/// It holds until `auto` gives it back to the source, or until the source removes the backend.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  plimsoll weight web 10.0.0.7:80 5
  plimsoll weight web web-1 0                    nothing new, as drain does
  plimsoll weight web web-1 auto                 what the configuration says")]
pub(crate) struct Weight {
    #[command(flatten)]
    which: Which,
    /// 0 to 2147483647, or `auto` for what the source says
    #[arg(value_name = "N|auto", value_parser = parse, allow_negative_numbers = true)]
    weight: Wanted,
    #[command(flatten)]
    admin: crate::cli::Admin,
}

#[derive(Clone, Copy, Debug)]
enum Wanted {
    Auto,
    Weight(u32),
}

fn parse(text: &str) -> Result<Wanted, String> {
    match text.parse() {
        _ if text == "auto" => Ok(Wanted::Auto),
        Ok(weight) if weight <= MAX_WEIGHT => Ok(Wanted::Weight(weight)),
        _ => Err(format!("expected a number from 0 to {MAX_WEIGHT}, or auto")),
    }
}

impl Weight {
    pub(crate) fn run(self) -> Result<(), Error> {
        let Which { service, backend } = &self.which;
        let weight = match self.weight {
            Wanted::Auto => None,
            Wanted::Weight(weight) => Some(weight),
        };
        ask(self.admin.clone(), async |client| {
            let done = client.weight(service, backend, weight).await?;
            out::print(&format!(
                "backend {} of service {} has weight {}\n",
                done.backend, done.service, done.weight
            ))
        })
    }
}
