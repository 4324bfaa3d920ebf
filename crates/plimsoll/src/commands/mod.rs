//! The commands, one file each.

mod check;
mod demo;
mod demo_server;
mod docker_proxy;
mod doctor;
mod drain;
mod explain;
mod flows;
mod generate;
mod healthcheck;
mod maintain;
mod node;
mod ready;
mod run;
mod status;
mod weight;

use clap::{Args, Subcommand};
use plimsoll_admin::Client;

use crate::cli::Admin;
use crate::daemon::place;
use crate::error::Error;
use crate::probe::Probe;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(demo::Demo),
    Run(run::Run),
    Check(check::Check),
    Status(status::Show),
    Drain(drain::Drain),
    Ready(ready::Ready),
    Weight(weight::Weight),
    Maintain(maintain::Maintain),
    Explain(explain::Explain),
    Doctor(doctor::Doctor),
    Flows(flows::Flows),
    Healthcheck(healthcheck::Healthcheck),
    Node(node::Node),
    DockerProxy(docker_proxy::DockerProxy),
    DemoServer(demo_server::DemoServer),
    Completions(generate::Completions),
    #[command(hide = true)]
    Man(generate::Man),
}

impl Command {
    /// Does it.
    pub(crate) fn run(self) -> Result<(), Error> {
        match self {
            Command::Demo(demo) => demo.run(),
            Command::Run(run) => run.run(),
            Command::Check(check) => check.run(),
            Command::Status(show) => show.run(),
            Command::Drain(drain) => drain.run(),
            Command::Ready(ready) => ready.run(),
            Command::Weight(weight) => weight.run(),
            Command::Maintain(maintain) => maintain.run(),
            Command::Explain(explain) => explain.run(),
            Command::Doctor(doctor) => doctor.run(),
            Command::Flows(flows) => flows.run(),
            Command::Healthcheck(check) => check.run(),
            Command::Node(node) => node.run(),
            Command::DockerProxy(proxy) => proxy.run(),
            Command::DemoServer(server) => server.run(),
            Command::Completions(completions) => completions.run(),
            Command::Man(man) => man.run(),
        }
    }

    /// How to ask a process that does this whether it is well; `target` is for those with an admin
    /// API. None if it is not there to stay.
    fn probe(&self, target: &str) -> Option<Probe> {
        match self {
            Command::Run(run) => Some(run.probe(target)),
            Command::DockerProxy(proxy) => Some(proxy.probe()),
            Command::DemoServer(server) => server.probe(),
            _ => None,
        }
    }
}

/// A backend of a service.
#[derive(Debug, Args)]
struct Which {
    /// The service
    #[arg(value_name = "SERVICE")]
    service: String,
    /// The backend: its address, or its name where only one has it
    #[arg(value_name = "BACKEND")]
    backend: String,
}

/// Asks the daemon.
fn ask(admin: Admin, how: impl AsyncFnOnce(Client) -> Result<(), Error>) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| Error::Failed(format!("the runtime cannot be started: {why}")))?;
    let client = Client::new(admin.admin.unwrap_or_else(place::default));
    runtime.block_on(how(client))
}
