//! What the keys of the live view do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_control::Command;
use tokio::sync::mpsc;

use super::site::Mode;

/// An instance that is drained before it stops has so long, and one that is started to be ready.
const DRAIN: Duration = Duration::from_secs(10);
/// Between two looks at whether it is drained.
const LOOK: Duration = Duration::from_millis(20);
/// The greatest weight that `+` gives.
const MAX_WEIGHT: u32 = 100;

/// What to do with an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Stop,
    Kill,
    Restart,
    DrainOrReady,
    Heavier,
    Lighter,
}

impl Action {
    pub(super) fn of(key: u8) -> Option<Self> {
        Some(match key {
            b's' => Action::Stop,
            b'k' => Action::Kill,
            b'r' => Action::Restart,
            b'd' => Action::DrainOrReady,
            b'+' | b'=' => Action::Heavier,
            b'-' | b'_' => Action::Lighter,
            _ => return None,
        })
    }
}

/// What the balancer knows of an instance.
pub(super) struct Known {
    pub(super) state: String,
    pub(super) weight: u32,
    pub(super) active: u64,
}

/// Instances by their numbers, and the balancer in front of them.
pub(super) trait Stage: Send + Sync + 'static {
    /// What an instance is called.
    fn name(&self, at: usize) -> &'static str;

    /// Makes an instance do this, and waits until it does; what there is to say of it beside that.
    fn set(
        &self,
        at: usize,
        mode: Mode,
    ) -> impl Future<Output = Result<&'static str, String>> + Send;

    /// What the balancer knows of an instance; none when it has ended.
    fn known(&self, at: usize) -> impl Future<Output = Option<Known>> + Send;

    /// Tells the balancer to do this with an instance; its state and weight then; none when it has ended.
    fn command(
        &self,
        at: usize,
        command: Command,
    ) -> impl Future<Output = Option<(String, u32)>> + Send;
}

/// Does it, and says what was done.
pub(super) async fn act<S: Stage>(
    action: Action,
    stage: Arc<S>,
    at: usize,
    say: mpsc::Sender<String>,
) {
    let told = match action {
        Action::Stop => stop(&*stage, at).await,
        Action::Kill => told(stage.set(at, Mode::Killed).await, "killed"),
        Action::Restart => restart(&*stage, at).await,
        Action::DrainOrReady => drain_or_ready(&*stage, at).await,
        Action::Heavier | Action::Lighter => weigh(action, &*stage, at).await,
    };
    let told = told.unwrap_or_else(|| "the balancer does not answer".into());
    // The view may have ended.
    let _ = say.send(format!("{}: {told}", stage.name(at))).await;
}

/// What is said of what was done with an instance.
fn told(set: Result<&'static str, String>, what: &str) -> Option<String> {
    Some(match set {
        Ok("") => what.to_owned(),
        Ok(more) => format!("{what}: {more}"),
        Err(why) => format!("failed: {why}"),
    })
}

async fn restart(stage: &impl Stage, at: usize) -> Option<String> {
    let set = stage.set(at, Mode::Running).await;
    if set.is_ok() {
        stage.command(at, Command::Ready).await?;
        until_ready(stage, at).await?;
    }
    told(set, "started, and ready")
}

/// Waits for checks, where there are some, to find that it is there; its state then.
async fn until_ready(stage: &impl Stage, at: usize) -> Option<String> {
    let started = Instant::now();
    loop {
        let state = stage.known(at).await?.state;
        if state == "ready" || started.elapsed() >= DRAIN {
            return Some(state);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What a deploy does: drain, wait until nothing is in flight, stop.
async fn stop(stage: &impl Stage, at: usize) -> Option<String> {
    stage.command(at, Command::Drain).await?;
    let started = Instant::now();
    while stage.known(at).await?.active > 0 && started.elapsed() < DRAIN {
        tokio::time::sleep(LOOK).await;
    }
    let took = started.elapsed().as_millis();
    let set = stage.set(at, Mode::Stopped).await;
    told(set, &format!("drained in {took} ms, then stopped"))
}

async fn drain_or_ready(stage: &impl Stage, at: usize) -> Option<String> {
    let wanted = match stage.known(at).await?.state.as_str() {
        "ready" => Command::Drain,
        _ => Command::Ready,
    };
    let (state, _) = stage.command(at, wanted).await?;
    Some(match state.as_str() {
        "draining" => "draining: gets nothing new".into(),
        _ => format!("{} again", until_ready(stage, at).await?),
    })
}

async fn weigh(action: Action, stage: &impl Stage, at: usize) -> Option<String> {
    let now = stage.known(at).await?.weight;
    let weight = match action {
        Action::Heavier => now.saturating_add(1).min(MAX_WEIGHT),
        _ => now.saturating_sub(1),
    };
    let (_, weight) = stage.command(at, Command::Weight(Some(weight))).await?;
    Some(format!("weight {weight}"))
}
