//! The live view: load runs, keys act, a picture five times a second.

use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::Scene;
use super::instance::Mode;
use super::keys::{Action, act};
use super::load::keep_sending;
use super::terminal::Terminal;
use super::view::{self, Moment, Row};
use crate::daemon::Daemon;
use crate::error::Error;
use crate::out;
use crate::table::Paint;

/// Between two pictures on a terminal.
const PICTURE: Duration = Duration::from_millis(200);
/// Between two lines elsewhere.
const LINE: Duration = Duration::from_secs(1);
/// Rates are those of this window.
const WINDOW: Duration = Duration::from_secs(1);
/// What keys may be behind.
const WAITING: usize = 16;

/// The signals that end the demo.
pub(super) struct Stop {
    int: Signal,
    term: Signal,
    hup: Signal,
}

impl Stop {
    pub(super) fn new() -> Result<Self, Error> {
        let listen = |kind| signal(kind).map_err(|why| Error::Failed(format!("signals: {why}")));
        Ok(Self {
            int: listen(SignalKind::interrupt())?,
            term: listen(SignalKind::terminate())?,
            hup: listen(SignalKind::hangup())?,
        })
    }

    pub(super) async fn wait(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
            _ = self.hup.recv() => {}
        }
    }
}

/// Runs until a key or a signal ends it.
pub(super) async fn run(daemon: &mut Daemon, scene: &Scene) -> Result<(), Error> {
    let mut stop = Stop::new()?;
    let mut terminal = Terminal::take()?;
    let mut keys = terminal.as_ref().and_then(Terminal::keys);
    let (say, mut said) = mpsc::channel(WAITING);
    let sending = keep_sending(&scene.load, &scene.world);
    let mut ticks = interval(if terminal.is_some() { PICTURE } else { LINE });
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut view = Live::new(scene, keys.is_some());
    if terminal.is_none() {
        out::print(&format!("balances {}\n", scene.url))?;
    }
    loop {
        tokio::select! {
            () = daemon.turn() => continue,
            () = stop.wait() => break,
            key = key(&mut keys) => match key {
                b'q' | b'Q' | 0x03 | 0x04 => break,
                key => view.key(key, &say),
            },
            Some(told) = said.recv() => view.note = told,
            _ = ticks.tick() => {}
        }
        let moment = view.moment(daemon);
        match &mut terminal {
            Some(terminal) => terminal.draw(&view::picture(&moment, Paint(out::has_colour())))?,
            None => out::print(&view::line(&moment))?,
        }
    }
    // The load ends first: no request fails because the balancer does.
    drop(sending);
    drop(terminal);
    let tally = scene.load.tally();
    out::print(&view::table(&tally))
}

/// The next key; never if there are none.
async fn key(keys: &mut Option<mpsc::Receiver<u8>>) -> u8 {
    let next = match keys {
        Some(keys) => keys.recv().await,
        None => None,
    };
    match next {
        Some(key) => key,
        None => {
            *keys = None;
            std::future::pending().await
        }
    }
}

struct Live<'a> {
    scene: &'a Scene,
    started: Instant,
    selected: usize,
    keys: bool,
    note: String,
    /// Answers by instance, at times within the window.
    history: Vec<(Instant, Vec<u64>)>,
}

impl<'a> Live<'a> {
    fn new(scene: &'a Scene, keys: bool) -> Self {
        Self {
            scene,
            started: Instant::now(),
            selected: 0,
            keys,
            note: String::new(),
            history: Vec::new(),
        }
    }

    fn key(&mut self, key: u8, say: &mpsc::Sender<String>) {
        if key.is_ascii_digit() {
            let at = usize::from(key - b'0');
            if (1..=self.scene.instances.len()).contains(&at) {
                self.selected = at - 1;
            }
            return;
        }
        let instance = self.scene.instances.get(self.selected);
        if let (Some(action), Some(instance)) = (Action::of(key), instance) {
            let asks = self.scene.handle.asks.clone();
            tokio::spawn(act(action, instance.clone(), asks, say.clone()));
        }
    }

    fn moment(&mut self, daemon: &Daemon) -> Moment {
        let now = Instant::now();
        let answered: Vec<u64> = self.scene.instances.iter().map(|i| i.answered()).collect();
        self.history.push((now, answered.clone()));
        // One older than the window stays, to count from.
        while let Some((second, _)) = self.history.get(1)
            && now.duration_since(*second) >= WINDOW
        {
            self.history.remove(0);
        }
        let (then, before) = self.history.first().cloned().unwrap_or((now, Vec::new()));
        let seconds = now.duration_since(then).as_secs_f64();
        let services = daemon.report().status.services;
        let known: Vec<_> = services
            .into_iter()
            .flat_map(|service| service.backends)
            .collect();
        let rows = self
            .scene
            .instances
            .iter()
            .enumerate()
            .map(|(at, instance)| {
                let backend = known.iter().find(|backend| backend.name == instance.name);
                let total = answered.get(at).copied().unwrap_or(0);
                let grown = total - before.get(at).copied().unwrap_or(total).min(total);
                Row {
                    name: instance.name,
                    selected: self.keys && at == self.selected,
                    life: match instance.mode() {
                        Mode::Running => "running",
                        Mode::Stopped => "stopped",
                        Mode::Killed => "killed",
                    },
                    state: backend.map_or_else(String::new, |b| b.state.clone()),
                    reason: backend.map_or_else(String::new, |b| b.reason.clone()),
                    weight: backend.map_or(0, |b| b.weight),
                    active: backend.map_or(0, |b| b.counters.active),
                    answered: total,
                    rate: if seconds > 0.0 {
                        grown as f64 / seconds
                    } else {
                        0.0
                    },
                }
            });
        Moment {
            url: self.scene.url.clone(),
            elapsed: now.duration_since(self.started),
            rows: rows.collect(),
            tally: self.scene.load.tally(),
            keys: self.keys,
            note: self.note.clone(),
        }
    }
}
