//! The live view: load runs, keys act, a picture five times a second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_control::status::BackendStatus;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::keys::{Action, Stage, act};
use super::load::{Load, keep_sending};
use super::site::Mode;
use super::terminal::Terminal;
use super::view::{self, Moment, Row};
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

/// What the live view shows, and its keys act on.
pub(super) trait Play {
    type Stage: Stage;

    /// What stands above the picture: words, a place to go to, and words again.
    fn title(&self) -> [&str; 3];

    /// What is printed first where there is no terminal.
    fn opening(&self) -> String;

    /// What the keys act on.
    fn stage(&self) -> &Arc<Self::Stage>;

    /// What each instance is told to do, and how much it answered.
    fn instances(&self) -> Vec<(&'static str, Mode, u64)>;

    /// What the balancer says of its backends.
    fn backends(&self) -> Vec<BackendStatus>;

    /// What there is to say below the picture, for people: a name and a figure each.
    fn figures(&self) -> Vec<(&'static str, u64)>;

    /// What sends requests, and where.
    fn load(&self) -> (&Arc<Load>, &tokio::runtime::Handle);

    /// Goes on with what else has to be done. It may be dropped at any time.
    async fn turn(&mut self);
}

/// Runs until a key or a signal ends it, then prints who answered.
pub(super) async fn run(play: &mut impl Play, stop: &mut Stop) -> Result<(), Error> {
    let mut terminal = Terminal::take()?;
    let mut keys = terminal.as_ref().and_then(Terminal::keys);
    let (say, mut said) = mpsc::channel(WAITING);
    let (load, world) = play.load();
    let load = load.clone();
    let sending = keep_sending(&load, world);
    let mut ticks = interval(if terminal.is_some() { PICTURE } else { LINE });
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut view = Live::new(keys.is_some());
    if terminal.is_none() {
        out::print(&play.opening())?;
    }
    loop {
        tokio::select! {
            () = play.turn() => continue,
            () = stop.wait() => break,
            key = key(&mut keys) => match key {
                b'q' | b'Q' | 0x03 | 0x04 => break,
                key => view.key(key, play, &say),
            },
            Some(told) = said.recv() => view.note = told,
            _ = ticks.tick() => {}
        }
        let moment = view.moment(play);
        match &mut terminal {
            Some(terminal) => terminal.draw(&view::picture(&moment, Paint(out::has_colour())))?,
            None => out::print(&view::line(&moment))?,
        }
    }
    // The load ends first: no request fails because the balancer does.
    drop(sending);
    drop(terminal);
    out::print(&view::table(&load.tally(), &play.figures()))
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

struct Live {
    started: Instant,
    selected: usize,
    keys: bool,
    note: String,
    /// Answers by instance, at times within the window.
    history: Vec<(Instant, Vec<u64>)>,
}

impl Live {
    fn new(keys: bool) -> Self {
        Self {
            started: Instant::now(),
            selected: 0,
            keys,
            note: String::new(),
            history: Vec::new(),
        }
    }

    fn key(&mut self, key: u8, play: &impl Play, say: &mpsc::Sender<String>) {
        let instances = play.instances().len();
        if key.is_ascii_digit() {
            let at = usize::from(key - b'0');
            if (1..=instances).contains(&at) {
                self.selected = at - 1;
            }
        } else if let Some(action) = Action::of(key) {
            let stage = play.stage().clone();
            tokio::spawn(act(action, stage, self.selected, say.clone()));
        }
    }

    fn moment(&mut self, play: &impl Play) -> Moment {
        let now = Instant::now();
        let instances = play.instances();
        let answered: Vec<u64> = instances.iter().map(|(_, _, n)| *n).collect();
        self.history.push((now, answered));
        // One older than the window stays, to count from.
        while let Some((second, _)) = self.history.get(1)
            && now.duration_since(*second) >= WINDOW
        {
            self.history.remove(0);
        }
        let (then, before) = self.history.first().cloned().unwrap_or((now, Vec::new()));
        let seconds = now.duration_since(then).as_secs_f64();
        let known = play.backends();
        let rows = instances
            .into_iter()
            .enumerate()
            .map(|(at, (name, mode, total))| {
                let backend = known.iter().find(|backend| backend.name == name);
                let grown = total - before.get(at).copied().unwrap_or(total).min(total);
                Row {
                    name,
                    selected: self.keys && at == self.selected,
                    life: match mode {
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
            title: play.title().map(str::to_owned),
            elapsed: now.duration_since(self.started),
            rows: rows.collect(),
            tally: play.load().0.tally(),
            figures: play.figures(),
            keys: self.keys,
            note: self.note.clone(),
        }
    }
}
