//! `plimsoll demo`: see it work, on this machine alone.

use std::net::{IpAddr, SocketAddr};

use clap::{Args, Subcommand};

use crate::demo;
use crate::demo::dr::{Kind, Wanted};
use crate::error::Error;

/// See it work: a few small web servers, the balancer in front of them, and load.
///
/// Needs no root, no Docker and no configuration, and touches nothing but loopback. On a terminal,
/// keys stop, kill, restart, drain and re-weight an instance while load runs; watch `failed`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  plimsoll demo                                  live, with keys; q or Ctrl-C ends it
  plimsoll demo --requests 1000                  send 1000 requests and print who answered
  sudo plimsoll demo dr                          direct routing in the kernel, as LVS does it

Exit code of --requests: 0 if every request was answered, 1 if not."
)]
pub(crate) struct Demo {
    #[command(subcommand)]
    other: Option<Other>,
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
        if let Some(Other::Dr(dr)) = self.other {
            return dr.run();
        }
        if self.listen.is_some_and(|addr| addr.port() == 0) {
            return Err(Error::Usage(
                "--listen: port 0 cannot be listened on: use 1 to 65535, or leave --listen out"
                    .into(),
            ));
        }
        demo::run(self.requests, self.listen, self.instances)
    }
}

/// Other demos.
#[derive(Debug, Subcommand)]
enum Other {
    Dr(Dr),
}

/// See layer 4 in the kernel work: a client, a director that forwards by direct routing, three nodes.
///
/// Each has a network of its own: a container where a Docker engine answers, else a network namespace.
/// Requests are spread, every node sees the client's own address, and answers go to the client past
/// the director, which is shown by counting packets. On a terminal, keys kill, stop, restart, drain and
/// re-weight a node while load runs; watch `failed`. A request whose connection breaks, or that is not
/// answered for a second, is sent again on another connection, as clients do with GET, and counted. All
/// is taken away at the end; after kill -9, when it is started the next time. Needs root, and `ip`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sudo plimsoll demo dr                          live, with keys; q or Ctrl-C ends it
  sudo plimsoll demo dr 172.20.10.1              with this VIP
  sudo plimsoll demo dr --requests 1000          send 1000 requests and print who answered

Exit code of --requests: 0 if every request was answered, 1 if not.")]
struct Dr {
    /// Address that the client asks and all nodes serve, IPv4 or IPv6; it need not be one of this host
    #[arg(value_name = "VIP", default_value = "192.0.2.1", value_parser = super::node::vip)]
    vip: IpAddr,
    /// Send so many requests, print the table, and end
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// In network namespaces, also where Docker runs
    #[arg(long, conflicts_with = "containers")]
    namespaces: bool,
    /// In containers of the local engine ($DOCKER_HOST, else /var/run/docker.sock), or not at all
    #[arg(long)]
    containers: bool,
    /// What the names of everything that is made begin with; demos of different names run side by side
    #[arg(long, value_name = "NAME", default_value = "plimsoll-demo", value_parser = name)]
    name: String,
}

/// Reads a name that namespaces and containers can have.
fn name(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    match begins && text.len() <= 40 && text.chars().all(good) {
        true => Ok(text.to_owned()),
        false => Err("expected up to 40 of a-z, 0-9 and -, such as plimsoll-demo-2".into()),
    }
}

impl Dr {
    fn run(self) -> Result<(), Error> {
        let kind = match (self.namespaces, self.containers) {
            (true, _) => Some(Kind::Namespaces),
            (_, true) => Some(Kind::Containers),
            _ => None,
        };
        demo::dr::run(&Wanted {
            vip: self.vip,
            kind,
            requests: self.requests,
            name: self.name,
        })
    }
}
