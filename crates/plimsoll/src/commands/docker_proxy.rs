//! `plimsoll docker-proxy`: the engine's socket for those who shall only look.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use plimsoll_admin::{Access, Socket};
use plimsoll_config::LogFormat;
use plimsoll_discover::docker::host::EngineHost;
use plimsoll_docker_proxy::{Connection, Dial, PATIENCE, serve};
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
/// has this one can see which containers, networks and services there are, with their addresses and
/// the labels of plimsoll, Compose and Swarm, and what happens to them: it passes on GET requests of
/// a fixed list, and answers without command lines, mounts, other labels, and environments but
/// VIRTUAL_HOST and its kind.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  plimsoll docker-proxy --listen /run/plimsoll-engine.sock --group plimsoll
  plimsoll run --docker unix:///run/plimsoll-engine.sock")]
pub(crate) struct DockerProxy {
    /// Socket to listen on, as PATH or unix://PATH
    #[arg(long, value_name = "SOCKET", value_parser = socket)]
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

/// Reads the path of a socket.
fn socket(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("unix://").unwrap_or(text);
    let behind_colon = path.rsplit(':').next().unwrap_or_default();
    let port = !path.is_empty() && behind_colon.bytes().all(|b| b.is_ascii_digit());
    if path.contains("://") || (port && !path.contains('/')) {
        return Err(
            "a socket only, on purpose: whoever reaches a port could read the engine; \
             expected a path, such as /run/plimsoll-engine.sock"
                .into(),
        );
    }
    match path {
        "" => Err("expected a path, such as /run/plimsoll-engine.sock".into()),
        path => Ok(path.into()),
    }
}

/// Whether two paths are of one file, which need not be there.
fn same(a: &Path, b: &Path) -> bool {
    let whole = |path: &Path| {
        let whole = path.canonicalize().or_else(|_| {
            let parent = path.parent().filter(|parent| *parent != Path::new(""));
            let parent = parent.unwrap_or(Path::new(".")).canonicalize()?;
            io::Result::Ok(parent.join(path.file_name().unwrap_or_default()))
        });
        whole.unwrap_or_else(|_| path.into())
    };
    whole(a) == whole(b)
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
        let place = match self.engine {
            Some(_) => "--engine",
            None => "DOCKER_HOST",
        };
        let engine = engine.map_err(|why| crate::watched::wrong(place, &why))?;
        let Some(socket) = engine.socket().map(Path::to_owned) else {
            return Err(Error::Usage(format!(
                "{place}: {engine} is no socket of this host: run docker-proxy where the engine \
                 is, and name its socket with --engine unix:///PATH"
            )));
        };
        if same(&self.listen, &socket) {
            return Err(Error::Usage(format!(
                "--listen: {} is the engine's own socket: choose another path",
                self.listen.display()
            )));
        }
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
        () = serve(listener, engine.to_string(), dial, PATIENCE) => {}
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Instant;

    use plimsoll_discover::Update;
    use plimsoll_discover::docker::labels;
    use plimsoll_discover::docker::read::{Inspected, read_inspect, read_list, read_networks};
    use plimsoll_discover::docker::view::{Settings, Whereabouts};
    use plimsoll_discover::docker::virtual_host::VARIABLES;
    use plimsoll_discover::docker::watch::Watch;
    use plimsoll_discover::docker::wire::{
        self, Actor, ContainerConfig, ContainerState, Event, Health, HealthRun, HostConfig,
        Inspect, Network, NetworkSettings, PortBinding, Summary, SummaryNetworks, Version,
    };
    use plimsoll_docker_proxy::{ENV, Endpoint, Events, LABELS, passes_label, redact};
    use serde::de::DeserializeOwned;
    use serde_json::Value;

    #[test]
    fn all_variables_that_are_read_are_passed_on() {
        assert_eq!(BTreeSet::from(ENV), BTreeSet::from(VARIABLES));
    }

    #[test]
    fn all_labels_that_are_read_are_passed_on() {
        assert_eq!(BTreeSet::from(LABELS), BTreeSet::from(labels::READ));
        // Slips too: every word that one letter more, less or else makes of ours.
        let word = "plimsoll";
        let letters = || ('a'..='z').chain(['P', 'L', '_', '-', '0']);
        let mut told = 0;
        for at in 0..word.len() {
            let (before, after) = word.split_at(at);
            let less = format!("{before}{}.host", &after[1..]);
            let more = letters().map(|new| format!("{before}{new}{after}.host"));
            let other = letters().map(|new| format!("{before}{new}{}.host", &after[1..]));
            for label in more.chain(other).chain([less]) {
                assert!(!labels::is_kept(&label) || passes_label(&label), "{label}");
                told += u32::from(labels::is_kept(&label));
            }
        }
        assert!(told > 400, "{told}");
        for label in [
            "Plimsoll.host",
            "PLIMSOLL.host",
            "plimso.host",
            "plimsollar.host",
        ] {
            assert!(labels::is_kept(label) && passes_label(label), "{label}");
        }
        assert!(!labels::is_kept("maintainer"));
    }

    fn says_something<T: Default + PartialEq>(value: &T) -> bool {
        *value != T::default()
    }

    /// That every field there is says something. One that is new has to be named here, be in the
    /// text that is read, and be passed on.
    macro_rules! filled {
        ($value:expr, $kind:path { $($field:ident),+ $(,)? }) => {{
            let $kind { $($field),+ } = $value;
            $(assert!(says_something($field), "{} of {}", stringify!($field), stringify!($kind));)+
        }};
    }

    fn passed(endpoint: Endpoint, text: &str) -> Vec<u8> {
        redact(endpoint, hyper::StatusCode::OK, text.as_bytes()).unwrap()
    }

    /// What is read of what is passed on of an answer, which is all that is read of the answer.
    fn read<T: DeserializeOwned + PartialEq + std::fmt::Debug>(
        endpoint: Endpoint,
        text: &str,
    ) -> T {
        let passed = serde_json::from_slice(&passed(endpoint, text)).unwrap();
        assert_eq!(serde_json::from_str::<T>(text).unwrap(), passed);
        passed
    }

    const INSPECT: &str = r#"{"Id":"a","Name":"/web","Created":"2024-01-01T00:00:00Z","State":{
        "Status":"running","Running":true,"Paused":true,"Restarting":true,"Dead":true,
        "StartedAt":"2024-01-01T00:00:01Z","Health":{"Status":"unhealthy","Log":[
        {"ExitCode":1,"Output":"refused"}]}},"Config":{"Hostname":"a","Labels":{
        "plimsoll.host":"x","com.docker.compose.project":"p","com.docker.compose.service":"s",
        "com.docker.compose.oneoff":"False","com.docker.swarm.service.name":"w"},
        "Env":["VIRTUAL_HOST=x","NETWORK_ACCESS=internal"],"ExposedPorts":{"80/tcp":{}},
        "StopSignal":"15","StopTimeout":5},"HostConfig":{"NetworkMode":"front"},
        "NetworkSettings":{"Networks":{"front":{"NetworkID":"n","EndpointID":"e",
        "IPAddress":"10.0.0.2","GlobalIPv6Address":"fd00::2"}},"Ports":{"80/tcp":[
        {"HostIp":"::","HostPort":"81"}],"81/tcp":null}}}"#;
    const LIST: &str = r#"[{"Id":"a","Names":["/web"],"State":"running","Status":"Up",
        "Labels":{"plimsoll.host":"x","com.docker.compose.project":"p"},"NetworkSettings":{
        "Networks":{"front":{"NetworkID":"n","EndpointID":"e","IPAddress":"10.0.0.2",
        "GlobalIPv6Address":"fd00::2"}}}}]"#;

    #[test]
    fn all_that_is_read_of_a_container_is_passed_on() {
        let inspect: Inspect = read(Endpoint::Container, INSPECT);
        filled!(
            &inspect,
            Inspect {
                id,
                name,
                created,
                state,
                config,
                host_config,
                network_settings
            }
        );
        let state = &inspect.state;
        filled!(
            state,
            ContainerState {
                status,
                running,
                paused,
                restarting,
                dead,
                started_at,
                health
            }
        );
        let health = state.health.as_ref().unwrap();
        filled!(health, Health { status, log });
        filled!(&health.log[0], HealthRun { exit_code, output });
        filled!(
            &inspect.config,
            ContainerConfig {
                hostname,
                labels,
                env,
                exposed_ports,
                stop_signal,
                stop_timeout
            }
        );
        filled!(&inspect.host_config, HostConfig { network_mode });
        let settings = &inspect.network_settings;
        filled!(settings, NetworkSettings { networks, ports });
        filled!(
            &settings.networks["front"],
            wire::Endpoint {
                network_id,
                endpoint_id,
                ip_address,
                global_ipv6_address
            }
        );
        filled!(
            &settings.ports["80/tcp"].as_ref().unwrap()[0],
            PortBinding { host_ip, host_port }
        );

        let list: Vec<Summary> = read(Endpoint::Containers, LIST);
        filled!(
            &list[0],
            Summary {
                id,
                names,
                state,
                status,
                labels,
                network_settings
            }
        );
        filled!(&list[0].network_settings, SummaryNetworks { networks });
        let end = &list[0].network_settings.networks["front"];
        filled!(
            end,
            wire::Endpoint {
                network_id,
                endpoint_id,
                ip_address,
                global_ipv6_address
            }
        );
    }

    #[test]
    fn all_else_that_is_read_is_passed_on() {
        let networks = r#"[{"Id":"n","Name":"front","Driver":"bridge","Scope":"local"}]"#;
        let networks: Vec<Network> = read(Endpoint::Networks, networks);
        filled!(
            &networks[0],
            Network {
                id,
                name,
                driver,
                scope
            }
        );
        let version =
            r#"{"Version":"20.10","ApiVersion":"1.41","MinAPIVersion":"1.12","Os":"linux"}"#;
        let version: Version = read(Endpoint::Version, version);
        filled!(
            &version,
            Version {
                version,
                api_version,
                min_api_version,
                os
            }
        );
        let event = concat!(
            r#"{"Type":"container","Action":"kill","timeNano":5,"#,
            r#""Actor":{"ID":"a","Attributes":{"signal":"15","container":"b"}}}"#
        );
        let passed = Events::default().feed(format!("{event}\n").as_bytes());
        let passed: Event = serde_json::from_slice(&passed).unwrap();
        assert_eq!(serde_json::from_str::<Event>(event).unwrap(), passed);
        filled!(
            &passed,
            Event {
                kind,
                action,
                actor,
                time_nano
            }
        );
        filled!(&passed.actor, Actor { id, attributes });
    }

    /// What Docker 20.10.24 answered, with labels of others.
    fn real(text: &str) -> Vec<Value> {
        let mut all: Vec<Value> = serde_json::from_str(text).unwrap();
        for one in &mut all {
            let mut found = ["/Labels", "/Config/Labels"].into_iter();
            let found = found.find(|at| one.pointer(at).is_some()).unwrap();
            let labels = one.pointer_mut(found).unwrap().as_object_mut().unwrap();
            labels.insert("com.example.owner".into(), "somebody".into());
            labels.insert("com.docker.compose.project".into(), "shop".into());
        }
        all
    }

    /// A source that was told this list, and of each container its inspection.
    fn told(list: &[u8], inspections: &[Vec<u8>], networks: &[u8], now: Instant) -> Watch {
        let settings = Settings {
            source: "docker:test".into(),
            http: "*:80/http".parse().unwrap(),
        };
        let read = inspections.iter().map(|one| match read_inspect(one) {
            Inspected::Container(inspect) => (inspect.id.clone(), inspect),
            other => panic!("{other:?}"),
        });
        let inspections: BTreeMap<_, _> = read.collect();
        let mut watch = Watch::new(settings);
        watch.begin(None, Whereabouts::Host, None, now);
        watch.networks(read_networks(networks).unwrap(), now);
        watch.list_begins();
        watch.list(read_list(list).unwrap(), now);
        let wanted = watch.take_wanted(100);
        assert_eq!(wanted.len(), inspections.len());
        for id in wanted {
            let answer = Inspected::Container(inspections[&id].clone());
            watch.inspected(&id, Ok(answer), now);
        }
        watch
    }

    #[test]
    fn a_source_behind_it_says_the_same_and_asks_no_more() {
        let list = real(include_str!(
            "../../../discover/tests/docker/golden/list.json"
        ));
        let list = Value::from(list).to_string();
        let inspections = real(include_str!(
            "../../../discover/tests/docker/golden/inspections.json"
        ));
        let inspections: Vec<String> = inspections.iter().map(Value::to_string).collect();
        let networks = include_str!("../../../discover/tests/docker/golden/networks.json");
        let now = Instant::now();

        let bytes: Vec<Vec<u8>> = inspections.iter().map(|one| one.clone().into()).collect();
        let mut open = told(list.as_bytes(), &bytes, networks.as_bytes(), now);
        let shown = passed(Endpoint::Containers, &list);
        let inspections = inspections.iter();
        let inspections: Vec<_> = inspections
            .map(|one| passed(Endpoint::Container, one))
            .collect();
        let networks = passed(Endpoint::Networks, networks);
        let mut behind = told(&shown, &inspections, &networks, now);
        let said = behind.reset();
        assert!(
            matches!(&said, Update::Reset(entries) if entries.len() > 5),
            "{said:?}"
        );
        assert_eq!(said, open.reset());

        // What a list shows of a container is what its inspection does.
        behind.list_begins();
        behind.list(read_list(&shown).unwrap(), now);
        assert!(!behind.is_wanting());
        // A restart between two lists shows by the other end in its network.
        let restarted = list.replace("\"EndpointID\":\"", "\"EndpointID\":\"f");
        assert_ne!(restarted, list);
        behind.list_begins();
        let shown = passed(Endpoint::Containers, &restarted);
        behind.list(read_list(&shown).unwrap(), now);
        assert!(behind.is_wanting());
    }
}
