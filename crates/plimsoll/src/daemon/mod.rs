//! The daemon: sources, control and planes wired together.
//!
//! Control lives here and nowhere else, in one task. Everything that wants something of it comes
//! through a channel: updates of sources, events of planes, findings of checks and knocks, asks of
//! admins.
//! [`Daemon::turn`] waits for the next of them, works it in, and says what changed.

mod announce;
mod answer;
mod checks;
mod knocks;
pub(crate) mod logs;
pub(crate) mod place;
mod rates;
mod standing;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_admin::Ask;
use plimsoll_control::{Control, Settings};
use plimsoll_model::{SourceId, SourceUpdate, Subject};
use plimsoll_plane::{Addresses, Event, Plane};
use plimsoll_plane_ebpf::{OnDemand, Options as Packets};
use plimsoll_plane_proxy::{Options, ProxyPlane};
use plimsoll_vip::Vips;
use tokio::sync::{Notify, mpsc};
use tokio::time::sleep_until;
use tracing::info;

use announce::Announcer;
use checks::Checks;
use knocks::Knocks;
use rates::RateBook;

/// Updates, asks and events that wait at most; whoever sends more waits, too.
const WAITING: usize = 1024;
/// So many of them are worked in before the planes are brought to it.
const BATCH: usize = 256;
/// Between two looks at whether all has ended while draining.
const LOOK: Duration = Duration::from_millis(20);

/// How others reach the daemon.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    /// For sources.
    pub(crate) updates: mpsc::Sender<SourceUpdate>,
    /// For admins.
    pub(crate) asks: mpsc::Sender<Ask>,
}

/// Control with all that it is connected to.
pub(crate) struct Daemon {
    control: Control,
    workers: usize,
    started: Instant,
    updates: mpsc::Receiver<SourceUpdate>,
    asks: mpsc::Receiver<Ask>,
    events: mpsc::Receiver<Event>,
    checks: Checks,
    knocks: Knocks,
    /// Each makes a source read again.
    reloads: Vec<Arc<Notify>>,
    deadline: Instant,
    /// No steps any more: the process is about to end.
    finishing: bool,
    announcer: Announcer,
    rates: RateBook,
    /// Told when something may have happened to a VIP.
    addresses: Arc<Notify>,
    /// As long as these are here, no channel ends.
    _open: (Handle, mpsc::Sender<Event>),
}

impl Daemon {
    /// A daemon with a proxy plane and, where it is wanted, the packet plane, beside which it gives this host
    /// the VIPs of services; call it on the runtime and
    /// the thread that it is to run on.
    ///
    /// # Errors
    /// The workers cannot be started.
    pub(crate) fn start(options: Options, packets: Option<Packets>) -> io::Result<(Self, Handle)> {
        let workers = options.workers;
        let mut planes: Vec<Box<dyn Plane>> = vec![Box::new(ProxyPlane::start(options)?)];
        let mut vips = None;
        if let Some(packets) = packets {
            planes.push(Box::new(OnDemand::new(packets)));
            vips = Some(Vips::new());
        }
        let now = Instant::now();
        let settings = Settings {
            seed: seed(),
            ..Settings::default()
        };
        let mut control = Control::new(planes, settings);
        let addresses = vips.as_ref().map(Vips::changed).unwrap_or_default();
        if let Some(vips) = vips {
            control = control.with_addresses(Box::new(vips));
        }
        let (event_sender, events) = mpsc::channel(WAITING);
        for mut stream in control.events() {
            let sender = event_sender.clone();
            tokio::spawn(async move {
                while let Some(event) = stream.recv().await {
                    if sender.send(event).await.is_err() {
                        return;
                    }
                }
            });
        }
        let (updates_in, updates) = mpsc::channel(WAITING);
        let (asks_in, asks) = mpsc::channel(WAITING);
        let handle = Handle {
            updates: updates_in,
            asks: asks_in,
        };
        let daemon = Self {
            control,
            workers,
            started: now,
            updates,
            asks,
            events,
            checks: Checks::start(WAITING, settings.seed),
            knocks: Knocks::start(WAITING),
            reloads: Vec::new(),
            deadline: now,
            finishing: false,
            announcer: Announcer::default(),
            rates: RateBook::new(now),
            addresses,
            _open: (handle.clone(), event_sender),
        };
        Ok((daemon, handle))
    }

    /// A source that will have something to say. What is given out tells it to read again.
    pub(crate) fn expect(&mut self, source: SourceId) -> Arc<Notify> {
        self.control.expect(Instant::now(), source);
        let reload = Arc::new(Notify::new());
        self.reloads.push(reload.clone());
        reload
    }

    /// Makes all sources read again.
    pub(crate) fn reload(&self) {
        self.reloads.iter().for_each(|reload| reload.notify_one());
    }

    /// Waits for something to happen and works it in. May be given up at any time.
    pub(crate) async fn turn(&mut self) {
        let mut updates = Vec::new();
        let mut events = Vec::new();
        let mut findings = Vec::new();
        let mut opened = Vec::new();
        let idle = self.finishing;
        // Without steps the deadline of the last one stays, and would be over for ever.
        let deadline = match idle {
            true => self.rates.deadline(),
            false => self.deadline.min(self.rates.deadline()),
        };
        let stepping = tokio::select! {
            n = self.updates.recv_many(&mut updates, BATCH), if !idle => n > 0,
            n = self.events.recv_many(&mut events, BATCH), if !idle => n > 0,
            n = self.checks.recv_many(&mut findings, BATCH), if !idle => n > 0,
            n = self.knocks.recv_many(&mut opened, BATCH), if !idle => n > 0,
            Some(ask) = self.asks.recv() => {
                self.answer(ask);
                false
            }
            () = self.addresses.notified(), if !idle => true,
            () = sleep_until(deadline.into()) => true,
        };
        let now = Instant::now();
        for update in updates {
            announce::source(&update, self.control.has_listed(&update.source));
            self.control.update(now, update);
        }
        let mut changed = events.is_empty() && findings.is_empty() && opened.is_empty();
        for event in events {
            announce::event(&event);
            changed |= self.control.event(now, event);
        }
        for found in findings {
            let (service, backend) = (&found.service, &found.backend);
            changed |= self.control.verdict(service, backend, found.verdict);
        }
        for (service, backend) in opened {
            changed |= self.control.reached(now, &service, &backend);
        }
        if now >= self.rates.deadline() {
            self.rates.sample(now, &mut self.control);
        }
        if stepping && changed {
            self.step();
        }
    }

    fn step(&mut self) {
        if self.finishing {
            return;
        }
        let now = Instant::now();
        let step = self.control.step(now);
        self.deadline = step.next_deadline;
        self.announcer.stepped(now, &self.control, &step);
        self.checks.tell(self.control.desired());
        let desired = self.control.desired();
        self.knocks.tell(desired, self.control.unreached());
    }

    /// Logs which plane carries how many services.
    pub(crate) fn say_planes(&self) {
        for (plane, services) in self.control.carried() {
            if services > 0 {
                info!(plane, services, "carries services");
            }
        }
    }

    /// Whether the first configuration has been tried on the planes.
    pub(crate) fn is_settled(&self) -> bool {
        self.control.is_ready() && self.announcer.has_stepped()
    }

    /// Whether anything is listened on that should be.
    ///
    /// # Errors
    /// There are listens, and none is open; why.
    pub(crate) fn any_listens(&self) -> Result<(), String> {
        let services = &self.control.desired().services;
        // One address keeps all services waiting that share it: it is said once.
        let mut failed = BTreeMap::new();
        for service in services.values().filter(|s| !s.spec.listens.is_empty()) {
            let subject = Subject::Service(service.name().clone());
            match self
                .announcer
                .failures()
                .find(|(known, _)| **known == subject)
            {
                Some((_, why)) => drop(failed.entry(why).or_insert(subject)),
                None => return Ok(()),
            }
        }
        match failed.is_empty() {
            true => Ok(()),
            false => {
                let failed = failed
                    .iter()
                    .map(|(why, subject)| format!("{subject}: {why}"));
                Err(failed.collect::<Vec<_>>().join("\nplimsoll: "))
            }
        }
    }

    /// Takes away the VIPs that were added. Dropping the daemon does it, too, and says nothing.
    pub(crate) fn leave(&mut self) {
        if let Some(addresses) = self.control.addresses() {
            announce::vips(&addresses.finish());
        }
    }

    /// Takes nothing new any more, and turns until all in flight has ended, at most for `limit`.
    /// Whether all has ended.
    pub(crate) async fn finish(&mut self, limit: Duration) -> bool {
        self.finishing = true;
        self.checks.stop();
        self.knocks.stop();
        let until = Instant::now() + limit;
        while !self.control.finish() {
            let now = Instant::now();
            if now >= until {
                return false;
            }
            let look = sleep_until((now + LOOK).min(until).into());
            tokio::pin!(look);
            loop {
                tokio::select! {
                    () = self.turn() => {}
                    () = &mut look => break,
                }
            }
        }
        true
    }
}

/// A seed of no meaning: the randomness that hash maps start from.
fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}
