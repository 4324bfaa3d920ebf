//! What the keys of the live view do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_admin::{Ask, Done};
use plimsoll_control::Command;
use tokio::sync::{mpsc, oneshot};

use super::NAME;
use super::instance::{Instance, Mode};

/// An instance that is drained before it stops has so long.
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

/// Does it, and says what was done.
pub(super) async fn act(
    action: Action,
    instance: Arc<Instance>,
    asks: mpsc::Sender<Ask>,
    say: mpsc::Sender<String>,
) {
    let told = match action {
        Action::Stop => stop(&instance, &asks).await,
        Action::Kill => {
            instance.set(Mode::Killed).await;
            Some("killed: connections reset, nothing listens".to_owned())
        }
        Action::Restart => {
            instance.set(Mode::Running).await;
            let taken = command(&instance, &asks, Command::Ready).await;
            taken.map(|_| "started, and ready".to_owned())
        }
        Action::DrainOrReady => drain_or_ready(&instance, &asks).await,
        Action::Heavier | Action::Lighter => weigh(action, &instance, &asks).await,
    };
    if let Some(told) = told {
        // The view may have ended.
        let _ = say.send(format!("{}: {told}", instance.name)).await;
    }
}

/// What a deploy does: drain, wait until nothing is in flight, stop.
async fn stop(instance: &Instance, asks: &mpsc::Sender<Ask>) -> Option<String> {
    command(instance, asks, Command::Drain).await?;
    let started = Instant::now();
    while backend(instance, asks).await?.active > 0 && started.elapsed() < DRAIN {
        tokio::time::sleep(LOOK).await;
    }
    let took = started.elapsed().as_millis();
    instance.set(Mode::Stopped).await;
    Some(format!("drained in {took} ms, then stopped"))
}

async fn drain_or_ready(instance: &Instance, asks: &mpsc::Sender<Ask>) -> Option<String> {
    let state = backend(instance, asks).await?.state;
    let wanted = match state.as_str() {
        "ready" => Command::Drain,
        _ => Command::Ready,
    };
    let done = command(instance, asks, wanted).await?;
    Some(match done.state.as_str() {
        "draining" => "draining: gets nothing new".into(),
        state => format!("{state} again"),
    })
}

async fn weigh(action: Action, instance: &Instance, asks: &mpsc::Sender<Ask>) -> Option<String> {
    let now = backend(instance, asks).await?.weight;
    let weight = match action {
        Action::Heavier => now.saturating_add(1).min(MAX_WEIGHT),
        _ => now.saturating_sub(1),
    };
    let done = command(instance, asks, Command::Weight(Some(weight))).await?;
    Some(format!("weight {}", done.weight))
}

/// What the balancer knows of an instance.
struct Known {
    state: String,
    weight: u32,
    active: u64,
}

/// None when the daemon has ended.
async fn backend(instance: &Instance, asks: &mpsc::Sender<Ask>) -> Option<Known> {
    let (reply, answer) = oneshot::channel();
    asks.send(Ask::Status(reply)).await.ok()?;
    let services = answer.await.ok()?.status.services;
    let mut backends = services.into_iter().flat_map(|service| service.backends);
    let backend = backends.find(|backend| backend.name == instance.name)?;
    Some(Known {
        state: backend.state,
        weight: backend.weight,
        active: backend.counters.active,
    })
}

/// None when the daemon has ended.
async fn command(instance: &Instance, asks: &mpsc::Sender<Ask>, command: Command) -> Option<Done> {
    let (reply, answer) = oneshot::channel();
    let ask = Ask::Command {
        service: NAME.into(),
        backend: instance.addr.to_string(),
        command,
        reply,
    };
    asks.send(ask).await.ok()?;
    answer.await.ok()?.ok()
}
