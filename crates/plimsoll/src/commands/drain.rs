//! `plimsoll drain`: give a backend nothing new.

use std::time::{Duration, Instant};

use clap::Args;
use plimsoll_admin::Client;

use crate::commands::{Which, ask};
use crate::error::Error;
use crate::out;

/// Give a backend nothing new; what it has in flight may end.
///
/// It stays drained until `plimsoll ready`, or until its source removes it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  plimsoll drain web 10.0.0.7:80
  plimsoll drain web web-1 --wait --timeout 2m && ssh node7 reboot")]
pub(crate) struct Drain {
    #[command(flatten)]
    which: Which,
    /// Wait until it has nothing in flight
    #[arg(long)]
    wait: bool,
    /// Wait so long at most; then the exit code is 1, and the backend stays drained
    #[arg(long, value_name = "TIME", default_value = "5m", requires = "wait",
          value_parser = crate::cli::duration)]
    timeout: Duration,
    #[command(flatten)]
    admin: crate::cli::Admin,
}

/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

impl Drain {
    pub(crate) fn run(self) -> Result<(), Error> {
        let Which { service, backend } = &self.which;
        ask(self.admin.clone(), async |client| {
            let done = client.command(service, backend, "drain").await?;
            let backend = format!("backend {} of service {}", done.backend, done.service);
            if !self.wait {
                return out::print(&format!("{backend} is {}\n", done.state));
            }
            let until = Instant::now() + self.timeout;
            loop {
                match in_flight(&client, &done.service, &done.backend).await? {
                    None => return out::print(&format!("{backend} is gone\n")),
                    Some(0) => {
                        return out::print(&format!("{backend} is draining, nothing in flight\n"));
                    }
                    Some(n) if Instant::now() >= until => {
                        return Err(Error::Failed(format!(
                            "{backend} still has {n} in flight after {}: it stays drained; \
                             `plimsoll flows --service {}` lists them",
                            plimsoll_config::format_duration(self.timeout),
                            done.service,
                        )));
                    }
                    Some(_) => tokio::time::sleep(LOOK).await,
                }
            }
        })
    }
}

/// How much a backend has in flight; none if it is gone.
async fn in_flight(client: &Client, service: &str, addr: &str) -> Result<Option<u64>, Error> {
    let status = client.status().await?.status;
    let service = status.services.into_iter().find(|s| s.name == service);
    let mut backends = service.into_iter().flat_map(|s| s.backends);
    let backend = backends.find(|b| b.addr == addr);
    Ok(backend.map(|b| b.counters.active + b.counters.queued))
}
