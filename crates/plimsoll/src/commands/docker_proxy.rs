//! `plimsoll docker-proxy`: the engine's socket for those who shall only look.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use plimsoll_admin::{Access, Socket};
use plimsoll_config::LogFormat;
use plimsoll_discover::docker::host::EngineHost;
use plimsoll_docker_proxy::{Connection, Dial, serve};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use crate::daemon::logs;
use crate::error::Error;
use crate::probe::Probe;
use crate::users;

/// Serve what a load balancer reads of a Docker Engine on a socket.
///
/// Nothing else is served there. Whoever has the engine's own socket is root on its host. Whoever
/// has this one can see which containers, networks and services there are, with their labels and
/// addresses, and what happens to them: it passes on GET requests of a fixed list, and answers
/// without command lines, mounts, and environments but VIRTUAL_HOST and its kind.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  plimsoll docker-proxy --listen /run/plimsoll-engine.sock --group plimsoll
  plimsoll run --docker unix:///run/plimsoll-engine.sock")]
pub(crate) struct DockerProxy {
    /// Socket to listen on
    #[arg(long, value_name = "SOCKET")]
    listen: PathBuf,
    /// Socket of the engine, as unix:///PATH [default: $DOCKER_HOST, else /var/run/docker.sock]
    #[arg(long, value_name = "HOST")]
    engine: Option<String>,
    /// Mode of the socket, in octal digits
    #[arg(long, value_name = "MODE", default_value = "0660", value_parser = mode)]
    mode: u32,
    /// Group of the socket, by number or as in /etc/group [default: that of this process]
    #[arg(long, value_name = "GROUP", value_parser = users::group)]
    group: Option<u32>,
    /// What is logged: error, warn, info, debug (each request that is refused) or trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: String,
}

/// Reads a mode that lets its owner in.
fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode & !0o777 == 0 && mode & 0o600 == 0o600 => Ok(mode),
        _ => Err("expected octal digits from 0600 to 0777, such as 0660".into()),
    }
}

impl DockerProxy {
    pub(crate) fn run(self) -> Result<(), Error> {
        let engine = match &self.engine {
            Some(host) => EngineHost::parse(host),
            None => EngineHost::from_env(|name| std::env::var(name).ok()),
        };
        let engine = engine.map_err(|why| Error::Usage(format!("--engine: {why}")))?;
        let Some(socket) = engine.socket().map(Path::to_owned) else {
            return Err(Error::Usage(format!(
                "--engine: {engine} is no socket of this host: run docker-proxy where the engine \
                 is, and name its socket as unix:///PATH"
            )));
        };
        let access = Access {
            mode: self.mode,
            group: self.group,
            option: "--listen",
        };
        let mut listen = Socket::bind(&self.listen, access).map_err(Error::failed)?;
        let _flush = logs::start(LogFormat::Text, &self.log)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|why| Error::Failed(format!("the runtime cannot be started: {why}")))?;
        let served = runtime.block_on(answer(&mut listen, &engine, socket));
        served.map_err(|why| Error::Failed(format!("{}: {why}", self.listen.display())))
    }

    /// How to ask whether it is well.
    pub(crate) fn probe(&self) -> Probe {
        Probe::unix(self.listen.clone(), "/_ping")
    }
}

/// Answers until told to stop.
async fn answer(listen: &mut Socket, engine: &EngineHost, socket: PathBuf) -> io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let Some(listener) = listen.take() else {
        return Ok(());
    };
    let listener = UnixListener::from_std(listener)?;
    info!(listen = %listen.path().display(), %engine, "docker-proxy starts");
    let dial: Dial = Box::new(move || {
        let socket = socket.clone();
        Box::pin(async move {
            let stream = UnixStream::connect(socket).await?;
            Ok(Box::new(stream) as Box<dyn Connection>)
        })
    });
    tokio::select! {
        () = serve(listener, engine.to_string(), dial) => {}
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use plimsoll_discover::docker::virtual_host::VARIABLES;
    use plimsoll_discover::docker::wire::{Event, Inspect, Network, Summary, Version};
    use plimsoll_docker_proxy::{ENV, Endpoint, Events, redact};
    use serde::de::DeserializeOwned;

    #[test]
    fn all_variables_that_are_read_are_passed_on() {
        assert_eq!(BTreeSet::from(ENV), BTreeSet::from(VARIABLES));
    }

    /// What is read of an answer, and of what is passed on of it.
    fn read<T: DeserializeOwned>(endpoint: Endpoint, text: &str) -> (T, T) {
        let passed = redact(endpoint, hyper::StatusCode::OK, text.as_bytes()).unwrap();
        let passed = serde_json::from_slice(&passed).unwrap();
        (serde_json::from_str(text).unwrap(), passed)
    }

    #[test]
    fn all_that_is_read_is_passed_on() {
        let inspect = r#"{"Id":"a","Name":"/web","Created":"2024-01-01T00:00:00Z","State":{
            "Status":"running","Running":true,"Paused":true,"Restarting":true,"Dead":true,
            "StartedAt":"2024-01-01T00:00:01Z","Health":{"Status":"unhealthy","Log":[
            {"ExitCode":1,"Output":"refused"}]}},"Config":{"Hostname":"a","Labels":{"a":"b"},
            "Env":["VIRTUAL_HOST=x","NETWORK_ACCESS=internal"],"ExposedPorts":{"80/tcp":{}},
            "StopSignal":"15","StopTimeout":5},"HostConfig":{"NetworkMode":"front"},
            "NetworkSettings":{"Networks":{"front":{"NetworkID":"n","IPAddress":"10.0.0.2",
            "GlobalIPv6Address":"fd00::2"}},"Ports":{"80/tcp":[{"HostIp":"::","HostPort":"81"}],
            "81/tcp":null}}}"#;
        let (whole, passed) = read::<Inspect>(Endpoint::Container, inspect);
        assert_eq!(whole, passed);
        let list = r#"[{"Id":"a","Names":["/web"],"State":"running","Status":"Up","Labels":{"a":"b"},
            "NetworkSettings":{"Networks":{"front":{"NetworkID":"n","IPAddress":"10.0.0.2",
            "GlobalIPv6Address":"fd00::2"}}}}]"#;
        let (whole, passed) = read::<Vec<Summary>>(Endpoint::Containers, list);
        assert_eq!(whole, passed);
        let networks = r#"[{"Id":"n","Name":"front","Driver":"bridge","Scope":"local"}]"#;
        let (whole, passed) = read::<Vec<Network>>(Endpoint::Networks, networks);
        assert_eq!(whole, passed);
        let version =
            r#"{"Version":"20.10","ApiVersion":"1.41","MinAPIVersion":"1.12","Os":"linux"}"#;
        let (whole, passed) = read::<Version>(Endpoint::Version, version);
        assert_eq!(whole, passed);
        let event = r#"{"Type":"container","Action":"kill","timeNano":5,
            "Actor":{"ID":"a","Attributes":{"signal":"15","a":"b"}}}"#
            .replace('\n', "");
        let passed = Events::default()
            .feed(format!("{event}\n").as_bytes())
            .unwrap();
        let passed: Event = serde_json::from_slice(&passed).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&event).unwrap(), passed);
    }
}
