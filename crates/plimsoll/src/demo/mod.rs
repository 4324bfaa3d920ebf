//! The demo: instances and load on a thread of their own, and the same daemon as `run` in front.

mod instance;
mod keys;
mod live;
mod load;
pub(crate) mod site;
mod terminal;
mod view;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use plimsoll_model::{
    Backend, BackendAddr, Entry, EntryKey, Item, Listen, Origin, Precedence, Proto, Service,
    ServiceSpec, SourceId, SourceUpdate, Update,
};
use plimsoll_plane_proxy::Options;

use crate::daemon::{Daemon, Handle};
use crate::error::Error;
use instance::Instance;
use load::Load;

/// The name of the service and of its source.
const NAME: &str = "demo";
/// More threads would take the cores from the load.
const MAX_WORKERS: usize = 2;
/// What is in flight at the end has so long.
const DRAIN: Duration = Duration::from_secs(2);

const NAMES: [&str; 9] = [
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
];

/// What the demo is made of.
struct Scene {
    handle: Handle,
    url: String,
    instances: Vec<Arc<Instance>>,
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
    let world = World::start().map_err(failed("a thread cannot be started"))?;
    let names = NAMES.iter().take(usize::from(instances));
    let instances = names
        .map(|name| Instance::start(name, &world.handle))
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
        let scene = Scene {
            handle,
            url: format!("http://{listen}/"),
            load: Arc::new(Load::new(listen, names.collect())),
            instances,
            world: world.handle.clone(),
        };
        let result = match requests {
            Some(requests) => counted(&mut daemon, &scene, requests).await,
            None => live::run(&mut daemon, &scene).await,
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

/// Sends requests and prints who answered.
async fn counted(daemon: &mut Daemon, scene: &Scene, requests: u64) -> Result<(), Error> {
    let mut work = load::send(&scene.load, requests, &scene.world);
    let mut stop = live::Stop::new()?;
    loop {
        tokio::select! {
            () = daemon.turn() => {}
            () = &mut work => break,
            () = stop.wait() => break,
        }
    }
    let tally = scene.load.tally();
    let shown = crate::out::print(&view::table(&tally));
    let failed = tally.failed + (requests - (tally.answered() + tally.failed).min(requests));
    match failed {
        // That nobody reads the table makes no request answered.
        0 => shown,
        n => {
            let why = tally.why.unwrap_or_else(|| "not sent: told to stop".into());
            Err(Error::Failed(format!(
                "{n} of {requests} requests were not answered: {why}"
            )))
        }
    }
}

/// A thread with a runtime, which ends when this is dropped.
struct World {
    handle: tokio::runtime::Handle,
    end: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl World {
    fn start() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = tokio::sync::oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("demo".into())
            .spawn(move || {
                // The end is the end, whether said or dropped.
                let _ = runtime.block_on(ended);
                runtime.shutdown_background();
            })?;
        Ok(Self {
            handle,
            end: Some(end),
            thread: Some(thread),
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported already.
            let _ = thread.join();
        }
    }
}
