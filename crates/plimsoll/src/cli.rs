//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser};
use plimsoll_model::{Listen, Ports};

use crate::commands::Command;

/// Balances load across containers and servers: finds them, knows which can serve, and takes every
/// change without losing a request.
#[derive(Debug, Parser)]
#[command(name = "plimsoll", version, propagate_version = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  plimsoll demo                                  see it work; needs nothing
  sudo plimsoll demo dr                          see layer 4 in the kernel work
  plimsoll check plimsoll.toml                   is this configuration valid?
  plimsoll run                                   balance the containers of the local Docker Engine
  plimsoll run --config plimsoll.toml            balance what a file says
  plimsoll status                                what goes where, and why
  plimsoll drain web 10.0.0.7:80 --wait          take a backend out without losing a request

Exit codes: 0 done, 1 failed, 2 wrong usage or invalid configuration.";

/// Where the daemon is.
#[derive(Clone, Debug, Args)]
pub(crate) struct Admin {
    /// Unix socket of the daemon's admin API [default: $XDG_RUNTIME_DIR/plimsoll.sock, for root
    /// /run/plimsoll.sock, without either /tmp/plimsoll-UID/plimsoll.sock]
    #[arg(long, value_name = "SOCKET")]
    pub(crate) admin: Option<PathBuf>,
}

/// Reads a time as it stands in the configuration.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let read = plimsoll_config::parse_duration(text);
    read.map_err(|why| format!("{why}; expected a time such as 30s, 500ms or 1h30m"))
}

/// Reads where HTTP is listened on: `PORT` or `ADDR:PORT`, with `*` for any address, and `/http`
/// behind it or not.
pub(crate) fn http_listen(text: &str) -> Result<Listen, String> {
    let expected = "expected PORT or ADDR:PORT, such as 80, *:80, 127.0.0.1:8080 or [::1]:8080";
    match plimsoll_config::parse_http_listen(text) {
        Ok(
            listen @ Listen::Socket {
                ports: Ports::One(_),
                ..
            },
        ) if listen.is_http() => Ok(listen),
        Ok(listen) if listen.is_http() => Err(format!("one port, not several; {expected}")),
        _ => Err(expected.into()),
    }
}
