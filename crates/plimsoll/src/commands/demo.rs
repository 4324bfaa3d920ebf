//! `plimsoll demo`: see it work, on this machine alone.

use std::net::SocketAddr;

use clap::Args;

use crate::demo;
use crate::error::Error;

/// See it work: a few small web servers, the balancer in front of them, and load.
///
/// Needs no root, no Docker and no configuration, and touches nothing but loopback. On a terminal,
/// keys stop, kill, restart, drain and re-weight an instance while load runs; watch `failed`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  plimsoll demo                                  live, with keys; q or Ctrl-C ends it
  plimsoll demo --requests 1000                  send 1000 requests and print who answered

Exit code of --requests: 0 if every request was answered, 1 if not.")]
pub(crate) struct Demo {
    /// Send so many requests, print the table, and end
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// Where the balancer listens [default: a free port of 127.0.0.1]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// How many servers, 1 to 9
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u8).range(1..=9))]
    instances: u8,
}

impl Demo {
    pub(crate) fn run(self) -> Result<(), Error> {
        if self.listen.is_some_and(|addr| addr.port() == 0) {
            return Err(Error::Usage(
                "--listen: port 0 cannot be listened on: use 1 to 65535, or leave --listen out"
                    .into(),
            ));
        }
        demo::run(self.requests, self.listen, self.instances)
    }
}
