//! The source: a loop that listens, lists, inspects, and says what changed.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use plimsoll_model::Listen;
use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::client::Engine;
use super::connect::Ends;
use super::error::EngineError;
use super::events::{Events, Line};
use super::host::EngineHost;
use super::read::{Inspected, Listed};
use super::view::{Settings, Whereabouts};
use super::watch::Watch;
use super::whereami::{Traces, is_own};
use super::wire::{Inspect, Network};
use crate::{Precedence, SourceId, SourceUpdate, Update};

/// So many containers are inspected at the same time; what takes longer than this is not counted,
/// so that some that hang hold up no other; and so many are at most.
const AT_ONCE: usize = 16;
const SLOW: Duration = Duration::from_secs(1);
const AT_MOST: usize = 128;
/// An engine that cannot be asked is asked again after so long, then after twice as long, …
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LAST_DELAY: Duration = Duration::from_secs(10);
/// A session in which all was said and that lasted so long was a good one: the next one begins at
/// once.
const GOOD: Duration = Duration::from_secs(5);
/// At first, what happened in so many nanoseconds before is told, too: the usual stop time-out.
const RECENT: i64 = 10_000_000_000;
/// What could not be read in the stream of events is looked up in a list after so long.
const LOOK_UP: Duration = Duration::from_secs(1);

/// How an engine is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// All containers are listed so often, for what no event tells.
    pub relist: Duration,
    /// A stream of events that brought nothing for so long is opened anew.
    pub idle: Duration,
    /// Events that come within so long of each other cost one inspection of each container.
    pub gather: Duration,
    /// The first update comes within so long, even if the engine has not answered by then.
    pub first: Duration,
    /// What the engine has is said for the first time when it has answered nothing for so long,
    /// even if not all of it is inspected; what comes later is said as it comes.
    pub stall: Duration,
    /// It is said at the latest so long after connecting, if there is a list by then.
    pub patience: Duration,
}

impl Default for Timing {
    /// 45 s, 10 minutes, 10 ms, 3 s, 500 ms and 10 s.
    fn default() -> Self {
        Self {
            relist: Duration::from_secs(45),
            idle: Duration::from_secs(600),
            gather: Duration::from_millis(10),
            first: Duration::from_secs(3),
            stall: Duration::from_millis(500),
            patience: Duration::from_secs(10),
        }
    }
}

/// The containers of one Docker Engine.
pub struct DockerSource {
    id: SourceId,
    host: EngineHost,
    settings: Settings,
    timing: Timing,
    traces: Box<dyn Fn() -> Traces + Send + Sync>,
}

/// Nobody wants to hear of it any more.
struct Closed;

/// How a session ended.
enum End {
    Closed,
    /// The stream of events is to be opened anew.
    Reopen,
    /// The engine is gone, or does not answer as it should.
    Lost(EngineError),
}

impl From<Closed> for End {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

impl From<EngineError> for End {
    fn from(error: EngineError) -> Self {
        Self::Lost(error)
    }
}

impl DockerSource {
    /// Watches this engine. HTTP services that do not say it themselves listen on `http`.
    pub fn new(host: EngineHost, http: Listen) -> Self {
        let id = SourceId::new(Precedence::Engine, format!("docker:{host}"));
        let source = Arc::clone(&id.name);
        Self {
            id,
            host,
            settings: Settings { source, http },
            timing: Timing::default(),
            traces: Box::new(Traces::read),
        }
    }

    /// Watches it in this rhythm.
    #[must_use]
    pub fn timed(self, timing: Timing) -> Self {
        Self { timing, ..self }
    }

    /// Takes from `traces`, at each connection, what may tell in which container this process
    /// runs; it is the system otherwise.
    #[must_use]
    pub fn traced(self, traces: impl Fn() -> Traces + Send + Sync + 'static) -> Self {
        let traces = Box::new(traces);
        Self { traces, ..self }
    }

    /// The source; its name is `docker:HOST`, e.g. `docker:unix:///var/run/docker.sock`.
    pub fn id(&self) -> &SourceId {
        &self.id
    }

    /// Watches the engine until the receiver of the updates is gone, and connects again for as
    /// long as it takes. The first update comes within a few seconds, whether the engine answers
    /// or not; `reload` looks at all containers, or tries to connect, at once.
    pub async fn run(self, updates: Sender<SourceUpdate>, reload: Arc<Notify>) {
        let mut teller = Teller {
            id: &self.id,
            updates: &updates,
            reason: None,
            said: false,
            resets: 0,
        };
        tokio::select! {
            () = updates.closed() => {}
            Closed = self.watch(&mut teller, &reload) => {}
        }
    }

    async fn watch(&self, teller: &mut Teller<'_>, reload: &Notify) -> Closed {
        let mut watch = Watch::new(self.settings.clone());
        let mut delay = FIRST_DELAY;
        loop {
            let (began, resets) = (Instant::now(), teller.resets);
            let error = match self.session(&mut watch, teller, reload).await {
                Err(End::Closed) => return Closed,
                Err(End::Reopen) => continue,
                Err(End::Lost(error)) => error,
                Ok(never) => match never {},
            };
            if began.elapsed() >= GOOD && teller.resets > resets {
                delay = FIRST_DELAY;
                continue;
            }
            if teller.stale(error.to_string()).await.is_err() {
                return Closed;
            }
            tokio::select! {
                () = sleep(jitter(delay)) => {}
                () = reload.notified() => {}
            }
            delay = (delay * 2).min(LAST_DELAY);
        }
    }

    /// From a connection to its end.
    async fn session(
        &self,
        watch: &mut Watch,
        teller: &mut Teller<'_>,
        reload: &Notify,
    ) -> Result<Never, End> {
        let first_by = Instant::now() + self.timing.first;
        let open = self.open(watch.last_event());
        tokio::pin!(open);
        let opened = tokio::select! {
            opened = &mut open => opened,
            () = sleep_until(first_by), if !teller.said => {
                teller.stale(self.waiting()).await?;
                open.await
            }
        };
        let Open {
            engine,
            events,
            since,
            outside,
            own,
        } = opened?;
        watch.begin(since, outside, own, now());
        let begun = Instant::now();
        let mut session = Session {
            timing: self.timing,
            engine: Arc::new(engine),
            events,
            answers: JoinSet::new(),
            inspecting: BTreeMap::new(),
            answered: begun,
            listing: false,
            relist_at: begun,
            reopen_at: begun + self.timing.idle,
            inspect_at: None,
            // What was known before goes on to count until it is inspected anew.
            reset_by: Some(if teller.resets > 0 {
                begun
            } else {
                begun + self.timing.patience
            }),
        };
        loop {
            session.ask(watch);
            session.say(watch, teller).await?;
            let until = session.next_deadline(watch);
            let hurry = (!teller.said).then_some(first_by);
            let until = until.min(hurry.unwrap_or(until));
            tokio::select! {
                line = session.events.next() => session.hear(watch, line?),
                Some(answer) = session.answers.join_next() => match answer {
                    Ok(answer) => session.take(watch, answer)?,
                    // The runtime is being shut down.
                    Err(_) => return Err(End::Closed),
                },
                () = reload.notified() => session.relist_at = Instant::now(),
                () = sleep_until(until) => {}
            }
            watch.tick(now());
            if !teller.said && first_by <= Instant::now() && session.reset_by.is_some() {
                teller.stale(self.waiting()).await?;
            }
            if watch.is_deaf(now()) || session.reopen_at <= Instant::now() {
                return Err(End::Reopen);
            }
        }
    }

    fn waiting(&self) -> String {
        format!("{}: waiting for the engine's first answers", self.host)
    }

    /// Connects, finds out where we are, and listens.
    async fn open(&self, last: Option<i64>) -> Result<Open, EngineError> {
        let engine = Engine::negotiate(&self.host).await?;
        let traces = (self.traces)();
        let own = own(&engine, &traces).await?;
        let outside = match engine.ends() {
            // A filter before its socket may run in a container that we reach from the host.
            Some(Ends { local, peer })
                if !peer.is_loopback()
                    && local != peer
                    && own.is_none()
                    && !traces.has_bridge_of(&engine.networks().await?) =>
            {
                Whereabouts::Remote { host: peer }
            }
            _ => Whereabouts::Host,
        };
        // Containers may have been told to stop before anybody listened.
        let recent = || Some(engine.clock()?.saturating_sub(RECENT));
        let since = last.map(|last| last.saturating_add(1)).or_else(recent);
        let events = engine.events(since).await?;
        Ok(Open {
            engine,
            events,
            since,
            outside,
            own,
        })
    }
}

/// Our own container, if we run in one of this engine.
async fn own(engine: &Engine, traces: &Traces) -> Result<Option<Inspect>, EngineError> {
    for candidate in traces.candidates() {
        match engine.inspect(&candidate).await {
            Ok(Inspected::Container(found)) if is_own(&candidate, &found) => {
                return Ok(Some(*found));
            }
            Ok(_) | Err(EngineError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

enum Never {}

/// What a session begins with.
struct Open {
    engine: Engine,
    events: Events,
    since: Option<i64>,
    outside: Whereabouts,
    own: Option<Inspect>,
}

/// What comes back from the engine.
enum Answer {
    List(Result<Vec<Listed>, EngineError>),
    Networks(Result<Vec<Network>, EngineError>),
    Inspection(String, Result<Inspected, EngineError>),
}

/// A connection and what is under way on it.
struct Session {
    timing: Timing,
    engine: Arc<Engine>,
    events: Events,
    answers: JoinSet<Answer>,
    /// Since when containers are being inspected.
    inspecting: BTreeMap<String, Instant>,
    /// When the engine answered last.
    answered: Instant,
    listing: bool,
    relist_at: Instant,
    reopen_at: Instant,
    /// When to inspect what changed; none if nothing did.
    inspect_at: Option<Instant>,
    /// When to say at the latest what there is; none once it was said.
    reset_by: Option<Instant>,
}

impl Session {
    /// Asks for what is to be asked for now.
    fn ask(&mut self, watch: &mut Watch) {
        let now = Instant::now();
        if watch.take_networks_due() {
            let engine = Arc::clone(&self.engine);
            self.answers
                .spawn(async move { Answer::Networks(engine.networks().await) });
        }
        if self.relist_at <= now && !self.listing {
            self.listing = true;
            self.relist_at = now + self.timing.relist;
            watch.list_begins();
            let engine = Arc::clone(&self.engine);
            self.answers
                .spawn(async move { Answer::List(engine.containers().await) });
        }
        if !watch.is_wanting() {
            self.inspect_at = None;
            return;
        }
        let at = *self.inspect_at.get_or_insert(now + self.timing.gather);
        if at > now && self.reset_by.is_none() {
            return;
        }
        for id in watch.take_wanted(self.places(now)) {
            self.inspecting.insert(id.clone(), now);
            let engine = Arc::clone(&self.engine);
            self.answers.spawn(async move {
                let answer = engine.inspect(&id).await;
                Answer::Inspection(id, answer)
            });
        }
        if !watch.is_wanting() {
            self.inspect_at = None;
        }
    }

    /// How many more containers may be inspected now.
    fn places(&self, now: Instant) -> usize {
        let fresh = self.inspecting.values().filter(|at| now < **at + SLOW);
        let free = AT_ONCE.saturating_sub(fresh.count());
        free.min(AT_MOST.saturating_sub(self.inspecting.len()))
    }

    /// When to say at the latest what there is, if it was not said yet and there is a list.
    fn reset_at(&self, watch: &Watch) -> Option<Instant> {
        let by = self.reset_by.filter(|_| watch.is_listed())?;
        Some(by.min(self.answered + self.timing.stall))
    }

    /// Says what is to be said now.
    async fn say(&mut self, watch: &mut Watch, teller: &mut Teller<'_>) -> Result<(), Closed> {
        if self.reset_by.is_some() {
            let at = self.reset_at(watch);
            if watch.is_settled() || at.is_some_and(|at| at <= Instant::now()) {
                self.reset_by = None;
                teller.say(watch.reset()).await?;
            }
            return Ok(());
        }
        for update in watch.take_updates() {
            teller.say(update).await?;
        }
        Ok(())
    }

    fn next_deadline(&self, watch: &Watch) -> Instant {
        let relist = (!self.listing).then_some(self.relist_at);
        // While all places are taken, an answer is waited for, or that one is not counted any more.
        let now = Instant::now();
        let place = match self.places(now) {
            0 => {
                let slow = self.inspecting.values().map(|at| *at + SLOW);
                slow.filter(|at| now < *at).min()
            }
            _ => Some(now),
        };
        let inspect = self.inspect_at.zip(place).map(|(at, place)| at.max(place));
        let reset = self.reset_at(watch);
        let other = watch.next_deadline().map(Instant::from_std);
        let all = [relist, inspect, reset, other];
        all.into_iter().flatten().fold(self.reopen_at, Instant::min)
    }

    fn hear(&mut self, watch: &mut Watch, line: Line) {
        let now = Instant::now();
        self.reopen_at = now + self.timing.idle;
        match line {
            Line::Event(event) => watch.event(&event, now.into_std()),
            Line::Unreadable => self.relist_at = self.relist_at.min(now + LOOK_UP),
        }
    }

    fn take(&mut self, watch: &mut Watch, answer: Answer) -> Result<(), EngineError> {
        self.answered = Instant::now();
        match answer {
            Answer::List(list) => {
                self.listing = false;
                watch.list(list?, now());
            }
            Answer::Networks(networks) => watch.networks(networks?, now()),
            Answer::Inspection(id, answer) => {
                self.inspecting.remove(&id);
                let answer = match answer {
                    Err(error @ EngineError::Connect { .. }) => return Err(error),
                    answer => answer.map_err(|error| error.to_string()),
                };
                watch.inspected(&id, answer, now());
            }
        }
        Ok(())
    }
}

/// Says updates to whoever listens.
struct Teller<'a> {
    id: &'a SourceId,
    updates: &'a Sender<SourceUpdate>,
    /// Why the source is stale, if it is.
    reason: Option<Arc<str>>,
    /// Whether anything was said.
    said: bool,
    /// How often all was said.
    resets: u64,
}

impl Teller<'_> {
    async fn say(&mut self, update: Update) -> Result<(), Closed> {
        if matches!(update, Update::Reset(_)) {
            self.reason = None;
            self.resets += 1;
        }
        self.said = true;
        let source = self.id.clone();
        let sent = self.updates.send(SourceUpdate { source, update }).await;
        sent.map_err(|_| Closed)
    }

    /// Says once why the engine cannot be asked.
    async fn stale(&mut self, reason: String) -> Result<(), Closed> {
        if self.reason.as_deref() == Some(&*reason) {
            return Ok(());
        }
        let reason: Arc<str> = reason.into();
        self.reason = Some(Arc::clone(&reason));
        self.say(Update::Stale { reason }).await
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// Between three and five quarters of a time, so that many do not come back at once.
fn jitter(time: Duration) -> Duration {
    let chance = RandomState::new().hash_one(()) % 512;
    time * (768 + u32::try_from(chance).unwrap_or_default()) / 1024
}
