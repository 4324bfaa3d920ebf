//! An engine, plimsoll on its host, and containers whose addresses are known before they start.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use plimsoll_testkit::{
    BACKEND_HEADER, Client, ClientPlan, Daemon, DaemonPlan, Engine, EnginePlan, Place, Raw, finish,
};

use crate::bench::Error;

/// Everything that should happen soon happens within this.
pub(super) const SOON: Duration = Duration::from_secs(20);
/// Somebody who is there answers within this; else another one is asked.
const PATIENCE: Duration = Duration::from_millis(20);
/// Between two questions.
const STEP: Duration = Duration::from_millis(1);
/// Where plimsoll listens.
pub(super) const WEB: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 80);
/// The bridge of the containers.
const BRIDGE: &str = "br-bench";

/// All of it. Gone when it is dropped.
pub(super) struct Rig {
    // Before the engine, in whose namespace it runs: fields are dropped in their order.
    lb: Daemon,
    engine: Engine,
    ours: PathBuf,
}

/// An error of the harness.
pub(super) fn failed(error: plimsoll_testkit::Error) -> Error {
    Error::Run(error.to_string())
}

impl Rig {
    /// Starts the engine and plimsoll.
    pub(super) async fn new(ours: &Path) -> Result<Self, Error> {
        let engine = Engine::start(EnginePlan::default()).map_err(failed)?;
        engine.build_instance().map_err(failed)?;
        let bridge = format!("com.docker.network.bridge.name={BRIDGE}");
        let subnet = "10.88.0.0/16";
        let create = [
            "network", "create", "--subnet", subnet, "-o", &bridge, "bench",
        ];
        engine.try_docker(&create).map_err(failed)?;
        let plan = DaemonPlan {
            namespace: Some(engine.namespace().name().to_owned()),
            args: ["run", "--admin", "{admin}"].map(str::to_owned).into(),
            env: vec![("DOCKER_HOST".to_owned(), engine.host())],
            ..DaemonPlan::new(ours, "")
        };
        Ok(Self {
            lb: Daemon::start(plan).await.map_err(failed)?,
            engine,
            ours: ours.to_owned(),
        })
    }

    /// Ends everything.
    pub(super) fn close(self) -> Result<(), Error> {
        drop(self.lb);
        self.engine.close().map_err(failed)
    }

    pub(super) fn version(&self) -> Result<String, Error> {
        let mut command = Command::new(&self.ours);
        command.arg("--version");
        let output = finish(command, SOON).map_err(failed)?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    pub(super) fn engine_version(&self) -> Result<String, Error> {
        self.docker("version --format {{.Server.Version}}")
    }

    /// Runs `docker` with these words.
    pub(super) fn docker(&self, line: &str) -> Result<String, Error> {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.engine.try_docker(&words).map_err(failed)
    }

    pub(super) fn place(&self) -> Place {
        self.engine.place()
    }

    /// The address of the container of this number. Whoever sends there before the container is
    /// there need not wait for the next time that the kernel asks whose it is.
    pub(super) fn at(&self, number: u8) -> Result<SocketAddr, Error> {
        let (ip, mac) = (address(number), mac(number));
        let namespace = self.engine.namespace();
        let neighbour = ["neigh", "replace", &ip.to_string(), "lladdr", &mac];
        let there = ["dev", BRIDGE, "nud", "permanent"];
        namespace
            .ip(&[neighbour.as_slice(), &there].concat())
            .map_err(failed)?;
        Ok((ip, 8080).into())
    }

    /// Starts the container of this number; `args` are its own.
    pub(super) fn start(
        &self,
        number: u8,
        name: &str,
        service: &str,
        args: &str,
    ) -> Result<(), Error> {
        let (ip, mac) = (address(number), mac(number));
        self.docker(&format!(
            "run -d --name {name} --hostname {name} --network bench --ip {ip} --mac-address {mac} \
             --label plimsoll.service={service} --label plimsoll.host={service}.example \
             instance {args}"
        ))?;
        Ok(())
    }

    /// Asks every millisecond until this instance answers; when it did.
    pub(super) async fn answered(
        place: Place,
        to: SocketAddr,
        host: String,
        by: String,
    ) -> Result<Instant, Error> {
        let began = Instant::now();
        while began.elapsed() < SOON {
            let ask = async {
                let mut raw = Raw::connect_from(&place, to).await.ok()?;
                let answer = raw.get(&host, "/", PATIENCE).await.ok()?;
                let ours = answer.status == 200 && answer.head.get(BACKEND_HEADER) == Some(&by);
                ours.then(Instant::now)
            };
            if let Ok(Some(when)) = tokio::time::timeout(PATIENCE, ask).await {
                return Ok(when);
            }
            tokio::time::sleep(STEP).await;
        }
        Err(Error::Run(format!(
            "{by} does not answer at {to} within {SOON:?}"
        )))
    }

    /// Requests for a service, one after the other on each of two connections.
    pub(super) fn load(&self, service: &str) -> Client {
        Client::start(ClientPlan {
            place: self.place(),
            tasks: 2,
            ..ClientPlan::http(WEB, &format!("{service}.example"))
        })
    }
}

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 88, 1, number)
}

fn mac(number: u8) -> String {
    format!("02:42:0a:58:01:{number:02x}")
}
