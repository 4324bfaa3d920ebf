//! Where the node is: here, or in a container.

use std::future::pending;
use std::path::Path;

use plimsoll_discover::docker::client::{Engine, Process};
use plimsoll_discover::docker::host::EngineHost;
use plimsoll_plane_ebpf::node::Namespace;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::sync::oneshot;

use crate::error::Error;

/// Whose network namespace it is, and when it ends.
pub(in crate::commands) struct Place {
    /// How people call it, and the process, if there is one whose end is the end of it.
    process: Option<(String, oneshot::Receiver<()>)>,
}

impl Place {
    /// This host, or what `--container` names.
    pub(in crate::commands) async fn find(
        container: Option<&str>,
        docker: Option<&str>,
    ) -> Result<(Self, Namespace), Error> {
        let Some(container) = container else {
            return Ok((Self { process: None }, Namespace::own()?));
        };
        if container.contains('/') {
            let namespace = Namespace::at(Path::new(container))?;
            return Ok((Self { process: None }, namespace));
        }
        let (name, id) = match container.parse::<u32>() {
            Ok(id) => (format!("process {id}"), id),
            Err(_) => (
                format!("container {container}"),
                ask(container, docker).await?,
            ),
        };
        // Held first: then the number cannot become another's in between.
        let process = i32::try_from(id).ok().and_then(Pid::from_raw);
        let process = process.ok_or_else(|| {
            Error::Usage(format!(
                "--container: {id} is no process: expected 1 or more"
            ))
        })?;
        let process = pidfd_open(process, PidfdFlags::empty()).map_err(|error| {
            let why = match error {
                rustix::io::Errno::SRCH => {
                    "there is no such process here (is it in another PID namespace? a container that \
                     runs this needs --pid host)"
                        .to_owned()
                }
                error => error.to_string(),
            };
            Error::Failed(format!("{name}: {why}"))
        })?;
        let namespace = Namespace::of_process(id)?;
        let (sender, ended) = oneshot::channel();
        // It is readable once the process has ended. The thread does not outlive this one.
        std::thread::spawn(move || {
            let mut watched = [PollFd::new(&process, PollFlags::IN)];
            while poll(&mut watched, None) == Err(rustix::io::Errno::INTR) {}
            let _told = sender.send(());
        });
        let process = Some((name, ended));
        Ok((Self { process }, namespace))
    }

    /// Waits until it ends; how people call it. What has no process has no end.
    pub(super) async fn ended(self) -> String {
        let Some((name, process)) = self.process else {
            return pending().await;
        };
        // Without its thread it is not known to have ended.
        if process.await.is_err() {
            return pending().await;
        }
        name
    }
}

/// What to do where an engine does not tell processes.
pub(super) const UNKNOWN: &str = "the engine does not tell its process (a filter before it, as docker-proxy, keeps it back): \
     use the engine's own socket, or the process id";

/// The engine of this host.
pub(super) fn engine(docker: Option<&str>) -> Result<EngineHost, Error> {
    let host = match docker {
        Some(host) => EngineHost::parse(host),
        None => EngineHost::from_env(|name| std::env::var(name).ok()),
    };
    let place = match docker {
        Some(_) => "--docker",
        None => "DOCKER_HOST",
    };
    let host = host.map_err(|why| crate::watched::wrong(place, &why))?;
    if host.socket().is_none() {
        return Err(Error::Usage(format!(
            "{place}: {host} is not on this host, and neither are its containers: run this where the engine is"
        )));
    }
    Ok(host)
}

/// The process of a container, from the engine.
async fn ask(container: &str, docker: Option<&str>) -> Result<u32, Error> {
    let host = engine(docker)?;
    let engine = Engine::negotiate(&host).await.map_err(Error::failed)?;
    let process = engine.process(container).await.map_err(Error::failed)?;
    let why = match process {
        Process::Runs(process) => return Ok(process),
        Process::Gone => "there is no such container (docker ps -a lists them)",
        Process::None => "it does not run: start it first",
        Process::Unknown => UNKNOWN,
    };
    Err(Error::Failed(format!("container {container}: {why}")))
}
