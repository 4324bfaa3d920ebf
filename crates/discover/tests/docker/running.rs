//! A source that runs against an engine that is none.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use plimsoll_discover::docker::host::EngineHost;
use plimsoll_discover::docker::source::{DockerSource, Timing};
use plimsoll_discover::docker::whereami::Traces;
use plimsoll_discover::{SourceUpdate, Update};
use plimsoll_testkit::{Ask, FakeEngine, wait_until_async};
use tokio::sync::Notify;
use tokio::sync::mpsc::channel;
use tokio::task::JoinHandle;

use crate::sim::{Said, apply, backends};

/// Nothing takes longer than this.
pub(crate) const BOUND: Duration = Duration::from_secs(20);
/// Longer than any test.
pub(crate) const NEVER: Duration = Duration::from_secs(3600);

/// No list but the first, no other stream of events, and nothing said before it is all known.
pub(crate) fn calm() -> Timing {
    Timing {
        relist: NEVER,
        idle: NEVER,
        first: NEVER,
        stall: NEVER,
        patience: NEVER,
        ..Timing::default()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) said: Said,
    /// Why the source is stale, if it is.
    pub(crate) stale: Option<String>,
    pub(crate) log: Vec<Update>,
}

impl Heard {
    pub(crate) fn resets(&self) -> usize {
        self.log
            .iter()
            .filter(|update| matches!(update, Update::Reset(_)))
            .count()
    }

    pub(crate) fn is_ready(&self, name: &str) -> bool {
        self.status(name)
            .is_some_and(|status| status.starts_with("ready"))
    }

    pub(crate) fn status(&self, name: &str) -> Option<String> {
        backends(&self.said).remove(name)
    }
}

/// A source that runs until this is dropped.
pub(crate) struct Running {
    heard: Arc<Mutex<Heard>>,
    pub(crate) reload: Arc<Notify>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

pub(crate) fn host(engine: &FakeEngine) -> EngineHost {
    EngineHost::unix(engine.socket())
}

impl Running {
    pub(crate) fn start(engine: &FakeEngine, timing: Timing) -> Self {
        Self::start_at(host(engine), timing, Traces::default())
    }

    pub(crate) fn start_at(host: EngineHost, timing: Timing, traces: Traces) -> Self {
        let source = DockerSource::new(host, "*:80/http".parse().unwrap());
        let source = source.timed(timing).traced(move || traces.clone());
        let id = source.id().clone();
        let (sender, mut updates) = channel::<SourceUpdate>(16);
        let reload = Arc::new(Notify::new());
        let run = tokio::spawn(source.run(sender, reload.clone()));
        let heard = Arc::new(Mutex::new(Heard::default()));
        let into = heard.clone();
        let hear = tokio::spawn(async move {
            while let Some(SourceUpdate { source, update }) = updates.recv().await {
                assert_eq!(source, id);
                let mut heard = into.lock().unwrap();
                heard.log.push(update.clone());
                match &update {
                    Update::Stale { reason } => heard.stale = Some(reason.to_string()),
                    Update::Reset(_) | Update::Fresh => heard.stale = None,
                    _ => {}
                }
                apply(&mut heard.said, update);
            }
        });
        Self {
            heard,
            reload,
            tasks: [run, hear],
        }
    }

    pub(crate) fn look<T>(&self, at: impl FnOnce(&Heard) -> T) -> T {
        at(&self.heard.lock().unwrap())
    }

    #[track_caller]
    pub(crate) fn until(
        &self,
        what: &str,
        mut holds: impl FnMut(&Heard) -> bool,
    ) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        let heard = self.heard.clone();
        async move {
            let held = wait_until_async(BOUND, || holds(&heard.lock().unwrap())).await;
            assert!(held, "{caller}: never {what}: {:#?}", heard.lock().unwrap());
        }
    }

    /// Until the source has said all at first.
    pub(crate) async fn up(&self) {
        self.until("a reset", |heard| heard.resets() > 0).await;
    }

    /// Until it is stale; why.
    pub(crate) async fn stale(&self) -> String {
        self.until("stale", |heard| heard.stale.is_some()).await;
        self.look(|heard| heard.stale.clone().unwrap())
    }
}

/// Until this was asked so often.
pub(crate) async fn asked(engine: &FakeEngine, ask: Ask, times: usize) {
    let held = wait_until_async(BOUND, || engine.count(ask) >= times).await;
    assert!(held, "{ask:?} {times} times: {:?}", engine.counts());
}
