//! The plain demo: instances on loopback, and the same daemon as `run` in front.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use plimsoll_admin::Ask;
use plimsoll_control::Command;
use plimsoll_control::status::BackendStatus;
use plimsoll_model::{
    Backend, BackendAddr, Entry, EntryKey, Item, Listen, Origin, Precedence, Proto, Service,
    ServiceSpec, SourceId, SourceUpdate, Update,
};
use plimsoll_plane_proxy::Options;
use tokio::sync::{mpsc, oneshot};

use super::instance::Instance;
use super::keys::{Known, Stage};
use super::live::{self, Play, Stop};
use super::load::{Load, Manner, Talk, Told};
use super::site::Mode;
use super::world::World;
use super::{NAMES, counted};
use crate::daemon::{Daemon, Handle};
use crate::error::Error;

/// The name of the service and of its source.
const NAME: &str = "demo";
/// More threads would take the cores from the load.
const MAX_WORKERS: usize = 2;
/// What is in flight at the end has so long.
const DRAIN: Duration = Duration::from_secs(2);

/// Instances, and how to ask the daemon.
struct Cast {
    instances: Vec<Arc<Instance>>,
    asks: mpsc::Sender<Ask>,
}

/// What the demo is made of.
struct Scene<'a> {
    daemon: &'a mut Daemon,
    url: String,
    cast: Arc<Cast>,
    load: Arc<Load>,
    /// Where instances and load run.
    world: tokio::runtime::Handle,
}

/// Runs the demo: sends `requests` and ends, or goes on until told to stop.
pub(crate) fn run(
    requests: Option<u64>,
    listen: Option<SocketAddr>,
    instances: u8,
) -> Result<(), Error> {
    let failed =
        |what: &'static str| move |why: std::io::Error| Error::Failed(format!("{what}: {why}"));
    let listen = match listen {
        Some(listen) => listen,
        None => free_port().map_err(failed("no free port on 127.0.0.1"))?,
    };
    let world = World::start(None).map_err(failed("a thread cannot be started"))?;
    let names = NAMES.iter().take(usize::from(instances));
    let instances = names
        .map(|name| Instance::start(name, world.handle()))
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(failed("an instance cannot listen on 127.0.0.1"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed("the runtime cannot be started"))?;
    let result = runtime.block_on(async {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let options = Options {
            workers: cores.min(MAX_WORKERS),
            ..Options::default()
        };
        let (mut daemon, handle) =
            Daemon::start(options, None).map_err(failed("the workers cannot be started"))?;
        balance(&mut daemon, &handle, listen, &instances).await?;
        let names = instances.iter().map(|instance| instance.name);
        let mut scene = Scene {
            daemon: &mut daemon,
            url: format!("http://{listen}/"),
            load: Arc::new(Load::new(listen, names.collect(), TALK)),
            cast: Arc::new(Cast {
                instances,
                asks: handle.asks.clone(),
            }),
            world: world.handle().clone(),
        };
        let mut stop = Stop::new()?;
        let result = match requests {
            Some(requests) => counted(&mut scene, requests, &mut stop).await,
            None => live::run(&mut scene, &mut stop).await,
        };
        daemon.finish(DRAIN).await;
        result
    });
    runtime.shutdown_background();
    result
}

/// A port that was free a moment ago.
fn free_port() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// Tells the daemon what to balance, and waits until it does.
async fn balance(
    daemon: &mut Daemon,
    handle: &Handle,
    listen: SocketAddr,
    instances: &[Arc<Instance>],
) -> Result<(), Error> {
    let invalid = |why: plimsoll_model::Invalid| Error::Failed(why.0);
    let listens = vec![Listen::socket(listen.ip(), listen.port(), Proto::Http)];
    let origin = Origin::new(NAME, "service demo");
    let spec = ServiceSpec::new(NAME.parse().map_err(invalid)?, origin, listens);
    let backends = instances.iter().map(|instance| Backend {
        name: instance.name.into(),
        ..Backend::new(
            BackendAddr::from(instance.addr),
            Origin::new(NAME, format!("instance {}", instance.name)),
        )
    });
    let source = SourceId::new(Precedence::Hand, NAME);
    let entry = Entry {
        key: EntryKey::new("service demo"),
        item: Item::Service(Service::new(spec, backends).into()),
    };
    let update = Update::Reset(vec![entry]);
    daemon.expect(source.clone());
    let sent = handle.updates.send(SourceUpdate { source, update }).await;
    sent.map_err(Error::failed)?;
    while !daemon.is_settled() {
        daemon.turn().await;
    }
    daemon.any_listens().map_err(Error::Failed)
}

/// Answers are the instance's name and the number of the request.
const TALK: Talk = Talk {
    manner: Manner::Once,
    target: |id| format!("/check/{id}"),
    read: |text, id| {
        let name = text.strip_suffix(&format!(" {id}\n"))?;
        Some(Told { name, client: None })
    },
};

impl Play for Scene<'_> {
    type Stage = Cast;

    fn title(&self) -> [&str; 3] {
        [
            "plimsoll demo: open ",
            &self.url,
            ", or curl it again and again",
        ]
    }

    fn opening(&self) -> String {
        format!("balances {}\n", self.url)
    }

    fn stage(&self) -> &Arc<Cast> {
        &self.cast
    }

    fn instances(&self) -> Vec<(&'static str, Mode, u64)> {
        let instances = self.cast.instances.iter();
        instances
            .map(|one| (one.name, one.mode(), one.answered()))
            .collect()
    }

    fn backends(&self) -> Vec<BackendStatus> {
        let services = self.daemon.report().status.services;
        services.into_iter().flat_map(|s| s.backends).collect()
    }

    fn figures(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    fn load(&self) -> (&Arc<Load>, &tokio::runtime::Handle) {
        (&self.load, &self.world)
    }

    async fn turn(&mut self) {
        self.daemon.turn().await;
    }
}

impl Stage for Cast {
    fn name(&self, at: usize) -> &'static str {
        self.instances.get(at).map_or("", |instance| instance.name)
    }

    async fn set(&self, at: usize, mode: Mode) -> Result<&'static str, String> {
        if let Some(instance) = self.instances.get(at) {
            instance.set(mode).await;
        }
        Ok(match mode {
            Mode::Killed => "connections reset, nothing listens",
            Mode::Running | Mode::Stopped => "",
        })
    }

    async fn known(&self, at: usize) -> Option<Known> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(Ask::Status(reply)).await.ok()?;
        let services = answer.await.ok()?.status.services;
        let mut backends = services.into_iter().flat_map(|service| service.backends);
        let backend = backends.find(|backend| backend.name == self.name(at))?;
        Some(Known {
            state: backend.state,
            weight: backend.weight,
            active: backend.counters.active,
        })
    }

    async fn command(&self, at: usize, command: Command) -> Option<(String, u32)> {
        let (reply, answer) = oneshot::channel();
        let ask = Ask::Command {
            service: NAME.into(),
            backend: self.instances.get(at)?.addr.to_string(),
            command,
            reply,
        };
        self.asks.send(ask).await.ok()?;
        let done = answer.await.ok()?.ok()?;
        Some((done.state, done.weight))
    }
}
