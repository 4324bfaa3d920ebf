//! The demo while it runs: what its view shows, and what its keys do.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use plimsoll_admin::Client;
use plimsoll_control::Command;
use plimsoll_control::status::BackendStatus;
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, spawn_blocking};

use super::packets::{Ear, Way};
use super::plan::{NODES, Plan, SERVICE};
use super::{End, Ground, set_up};
use crate::demo::keys::{Known, Stage};
use crate::demo::live::Play;
use crate::demo::load::Load;
use crate::demo::site::Mode;

/// Between two looks at the director.
const LOOK: Duration = Duration::from_millis(100);

/// The hosts, and how to ask the director.
pub(super) struct Cast {
    ground: Arc<Ground>,
    plan: Plan,
    folder: PathBuf,
    admin: Client,
    modes: Mutex<[Mode; NODES.len()]>,
}

impl Cast {
    pub(super) fn new(ground: Arc<Ground>, plan: Plan, folder: PathBuf, admin: Client) -> Self {
        Self {
            ground,
            plan,
            folder,
            admin,
            modes: Mutex::new([Mode::Running; NODES.len()]),
        }
    }

    /// How people run something on a host.
    pub(super) fn shell(&self, host: &str) -> String {
        self.ground.shell(host)
    }

    async fn backends(&self) -> Option<Vec<BackendStatus>> {
        let services = self.admin.status().await.ok()?.status.services;
        Some(services.into_iter().flat_map(|s| s.backends).collect())
    }
}

impl Stage for Cast {
    fn name(&self, at: usize) -> &'static str {
        NODES.get(at).copied().unwrap_or("")
    }

    async fn set(&self, at: usize, mode: Mode) -> Result<&'static str, String> {
        let host = self.name(at);
        let before = {
            let mut modes = self.modes.lock().unwrap_or_else(PoisonError::into_inner);
            modes
                .get_mut(at)
                .map(|now| std::mem::replace(now, mode))
                .unwrap_or(mode)
        };
        // What has ended cannot end again, and what runs is not started.
        if before == mode || (before != Mode::Running && mode != Mode::Running) {
            return Ok("");
        }
        let (ground, plan, folder) = (self.ground.clone(), self.plan, self.folder.clone());
        let work = spawn_blocking(move || match mode {
            Mode::Killed => ground.end(host, End::Kill),
            Mode::Stopped => ground.end(host, End::Stop),
            Mode::Running => {
                ground.start(host)?;
                // A container that is started again has a new network.
                set_up(&ground, &plan, host, &folder)
            }
        });
        match work.await {
            Ok(Ok(())) => Ok(match mode {
                Mode::Killed => "checks take it out; what it left unanswered is sent again",
                Mode::Running | Mode::Stopped => "",
            }),
            Ok(Err(why)) => Err(why.to_string()),
            Err(why) => Err(why.to_string()),
        }
    }

    async fn known(&self, at: usize) -> Option<Known> {
        let mut backends = self.backends().await?.into_iter();
        let backend = backends.find(|backend| backend.name == self.name(at))?;
        Some(Known {
            state: backend.state,
            weight: backend.weight,
            active: backend.counters.active,
        })
    }

    async fn command(&self, at: usize, command: Command) -> Option<(String, u32)> {
        let name = self.name(at);
        let done = match command {
            Command::Drain => self.admin.command(SERVICE, name, "drain").await,
            Command::Weight(weight) => self.admin.weight(SERVICE, name, weight).await,
            _ => self.admin.command(SERVICE, name, "ready").await,
        };
        let done = done.ok()?;
        Some((done.state, done.weight))
    }
}

/// What the demo is made of.
pub(super) struct Scene {
    title: String,
    cast: Arc<Cast>,
    load: Arc<Load>,
    /// Where load runs.
    world: Handle,
    /// On the director, and on the client.
    ears: [Ear; 2],
    /// What the director said last of its backends.
    backends: Arc<Mutex<Vec<BackendStatus>>>,
    looking: AbortHandle,
}

impl Scene {
    pub(super) fn new(
        title: String,
        cast: Cast,
        load: Arc<Load>,
        world: Handle,
        ears: [Ear; 2],
    ) -> Self {
        let cast = Arc::new(cast);
        let backends: Arc<Mutex<Vec<BackendStatus>>> = Arc::default();
        let (asks, said) = (cast.clone(), backends.clone());
        let looking = tokio::spawn(async move {
            loop {
                if let Some(found) = asks.backends().await {
                    *said.lock().unwrap_or_else(PoisonError::into_inner) = found;
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        Self {
            title,
            cast,
            load,
            world,
            ears,
            backends,
            looking: looking.abort_handle(),
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

impl Play for Scene {
    type Stage = Cast;

    fn title(&self) -> [&str; 3] {
        ["plimsoll demo dr: try ", &self.title, ""]
    }

    fn opening(&self) -> String {
        String::new()
    }

    fn stage(&self) -> &Arc<Cast> {
        &self.cast
    }

    fn instances(&self) -> Vec<(&'static str, Mode, u64)> {
        let modes = *self
            .cast
            .modes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let counts = self.load.tally().by_instance.into_iter();
        let both = counts.zip(modes);
        both.map(|((name, answered), mode)| (name, mode, answered))
            .collect()
    }

    fn backends(&self) -> Vec<BackendStatus> {
        let said = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        said.clone()
    }

    fn figures(&self) -> Vec<(&'static str, u64)> {
        let [director, client] = &self.ears;
        vec![
            ("packets client → director", director.heard(Way::In)),
            ("packets director → nodes", director.heard(Way::Onward)),
            ("packets nodes → client directly", client.heard(Way::Past)),
            (
                "packets nodes → director (replies that pass it)",
                director.heard(Way::Back),
            ),
        ]
    }

    fn load(&self) -> (&Arc<Load>, &Handle) {
        (&self.load, &self.world)
    }

    async fn turn(&mut self) {
        std::future::pending().await
    }
}
