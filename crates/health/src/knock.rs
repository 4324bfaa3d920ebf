//! The task that knocks at backends that could not be connected to, so that they are in use again
//! soon after they listen, and no request has to find that out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use plimsoll_model::{BackendAddr, Check, CheckKind, Name, ToBackends};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::probe;

/// A backend of a service.
pub type Door = (Name, BackendAddr);

/// Where to knock, and how to go there if the service says it.
pub type Doors = BTreeMap<Door, Option<Arc<ToBackends>>>;

/// Between two knocks at one backend, at least.
const PAUSE: Duration = Duration::from_millis(100);
/// Who has been out for so long is knocked at in every tenth round only.
const SOON: Duration = Duration::from_secs(10);
const LATER: u64 = 10;
/// Whoever does not open within this is not there.
const PATIENCE: Duration = Duration::from_secs(1);
/// Knocks under way at most; the others wait for their turn.
const AT_ONCE: usize = 32;

/// Connects to the backends in `doors` ten times a second, after ten seconds once a second, and
/// sends which of them accept, as long as both channels are open.
///
/// Needs a tokio runtime with I/O and time.
pub async fn run_knocks(mut doors: watch::Receiver<Arc<Doors>>, open: mpsc::Sender<Door>) {
    let mut rounds = interval(PAUSE);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waiting: VecDeque<Door> = VecDeque::new();
    let mut knocking = BTreeSet::new();
    let mut running = JoinSet::new();
    // Since when each is out.
    let mut since: BTreeMap<Door, Instant> = BTreeMap::new();
    let mut round = 0_u64;
    loop {
        while knocking.len() < AT_ONCE
            && let Some(door) = waiting.pop_front()
        {
            let wanted = doors.borrow().get(&door).cloned();
            if let Some(to) = wanted
                && knocking.insert(door.clone())
            {
                running.spawn(knock(door, to));
            }
        }
        let idle = doors.borrow().is_empty();
        tokio::select! {
            changed = doors.changed() => {
                if changed.is_err() {
                    return;
                }
                let doors = doors.borrow_and_update();
                since.retain(|door, _| doors.contains_key(door));
            }
            Some(Ok((door, opened))) = running.join_next() => {
                knocking.remove(&door);
                let wanted = doors.borrow().contains_key(&door);
                if opened && wanted && open.send(door).await.is_err() {
                    return;
                }
            }
            now = rounds.tick(), if !idle && waiting.is_empty() => {
                round = round.wrapping_add(1);
                let doors = doors.borrow();
                for door in doors.keys().filter(|door| !knocking.contains(door)) {
                    let since = *since.entry(door.clone()).or_insert(now);
                    if now.duration_since(since) < SOON || round.is_multiple_of(LATER) {
                        waiting.push_back(door.clone());
                    }
                }
            }
        }
    }
}

/// Whether somebody opens.
async fn knock(door: Door, to: Option<Arc<ToBackends>>) -> (Door, bool) {
    let check = Check {
        timeout: PATIENCE,
        ..Check::new(CheckKind::Tcp)
    };
    let opened = probe(&door.1, &check, &[], to.as_deref()).await.is_ok();
    (door, opened)
}
