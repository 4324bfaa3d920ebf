//! Choosing a backend and getting a place at it.

mod patience;
mod stay;

use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_balance::{Client, Loads};
use plimsoll_model::BackendAddr;

use self::patience::Patience;
use crate::access::End;
use crate::admission::{Admission, Comer, Entered, Ticket};
use crate::backend::{LiveBackend, Place};
use crate::conn::Conn;
use crate::snapshot::{LiveService, Member};
use crate::worker::Worker;

/// So many backends that refuse a connection at once are passed over beside those that count as
/// tried. Where many end in the same moment nobody can know all of them yet.
const PASSED_OVER: u32 = 32;

/// Backends that this request or connection has already failed at.
#[derive(Debug, Default)]
pub(crate) struct Tried {
    /// By their number.
    ids: Vec<u64>,
    /// How many of them refused a connection at once.
    refused: u32,
    /// Those that nothing could be opened to for now; boxed, for that is rare.
    short: Option<Box<Short>>,
}

/// Backends that nothing can be opened to for now, by this host's doing.
#[derive(Debug)]
struct Short {
    ids: Vec<u64>,
    /// Until when to try them again, in ms of the plane's clock.
    until: u64,
}

impl Tried {
    /// Takes note of a backend that failed; `refused` is one that refused a connection at once.
    /// Whether another one may be tried, of which `retries` are allowed.
    pub(crate) fn failed(&mut self, backend: &LiveBackend, refused: bool, retries: u32) -> bool {
        let count = u32::try_from(self.ids.len()).unwrap_or(u32::MAX);
        // It got nothing, and took no time.
        let passed_over = refused && retries > 0 && self.refused < PASSED_OVER;
        if !passed_over && count.saturating_sub(self.refused) >= retries {
            return false;
        }
        self.refused += u32::from(passed_over);
        self.ids.push(backend.id);
        true
    }

    /// Takes note of a backend to which nothing could be opened for now, which is no try. `until` is how
    /// long to wait for that, in ms of the plane's clock; the first of them holds.
    pub(crate) fn pass_over(&mut self, backend: &LiveBackend, until: u64) {
        let ids = Vec::new();
        let short = (self.short).get_or_insert_with(|| Box::new(Short { ids, until }));
        short.ids.push(backend.id);
    }

    /// Whether backends were passed over in this round.
    pub(crate) fn has_passed_over(&self) -> bool {
        self.short
            .as_ref()
            .is_some_and(|short| !short.ids.is_empty())
    }

    /// Whether so many were passed over that others are not looked for in this round.
    pub(crate) fn round_is_over(&self) -> bool {
        let most = PASSED_OVER as usize;
        self.short
            .as_ref()
            .is_some_and(|short| short.ids.len() >= most)
    }

    /// Whether there is time to wait for those that were passed over.
    pub(crate) fn may_wait(&self, now: u64) -> bool {
        self.short.as_ref().is_some_and(|short| now < short.until)
    }

    /// Another round: those that were passed over may be tried again.
    pub(crate) fn look_again(&mut self) {
        if let Some(short) = &mut self.short {
            short.ids.clear();
        }
    }

    fn has(&self, backend: &LiveBackend) -> bool {
        let short = |short: &Short| short.ids.contains(&backend.id);
        self.ids.contains(&backend.id) || self.short.as_deref().is_some_and(short)
    }
}

/// Why nothing could be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// No backend may get anything, or all were tried.
    NoBackend,
    /// All are at their limit, and so are their queues.
    QueuesFull,
    /// Waited as long as the queue time-out allows.
    QueueTimeout,
}

impl NoPlace {
    /// How the access log has it.
    pub(crate) fn code(self) -> End {
        End::new(match self {
            NoPlace::NoBackend => *b"SC",
            NoPlace::QueuesFull => *b"PQ",
            NoPlace::QueueTimeout => *b"sQ",
        })
    }
}

struct View<'a> {
    members: &'a [Member],
    tried: &'a Tried,
    /// As of the last tick.
    now: u64,
    decay: Duration,
}

impl Loads for View<'_> {
    fn active(&self, i: usize) -> u32 {
        self.members
            .get(i)
            .map_or(u32::MAX, |m| m.live.admission.load())
    }

    fn usable(&self, i: usize) -> bool {
        self.members.get(i).is_some_and(|m| {
            !self.tried.has(&m.live) && m.live.takes_new() && m.live.admission.has_room()
        })
    }

    fn latency(&self, i: usize) -> Option<f32> {
        let member = self.members.get(i)?;
        member.live.latency.estimate(self.now, self.decay)
    }
}

/// Chooses a backend: the one that the client's cookie wants, else the one that the client stays on,
/// else by the service's scheduler among those with a free place; if none has one, waits in the queue
/// of one. All queues together take as long as the service's time-out for them allows. The place is
/// given back when it is dropped.
pub(crate) async fn choose(
    worker: &Worker,
    service: &LiveService,
    conn: &Conn,
    tried: &Tried,
    wanted: Option<&BackendAddr>,
) -> Result<Place, NoPlace> {
    let patience = Patience::of(service);
    if let Some(wanted) = wanted
        && let Some(place) =
            Box::pin(stay::come_back(worker, service, wanted, tried, &patience)).await?
    {
        return Ok(place);
    }
    if let Some(sticky) = &service.sticky {
        return Box::pin(stay::choose(
            worker, service, sticky, conn, tried, &patience,
        ))
        .await;
    }
    schedule(worker, service, conn, tried, &patience).await
}

/// Chooses a backend by the scheduler alone.
async fn schedule(
    worker: &Worker,
    service: &LiveService,
    conn: &Conn,
    tried: &Tried,
    patience: &Patience,
) -> Result<Place, NoPlace> {
    if let Some(place) = choose_now(worker, service, &conn.whom(), tried) {
        return Ok(place);
    }
    // Those that there are now may be others than when the request came.
    let now = newest(worker, service);
    let service = now.as_deref().unwrap_or(service);
    if let Some(place) = choose_now(worker, service, &conn.whom(), tried) {
        return Ok(place);
    }
    if nobody_takes(service, tried) {
        return choose_sorry(service, tried);
    }
    Box::pin(wait(worker, service, conn, tried, patience)).await
}

/// As [`choose`], but where it would wait there is none.
pub(crate) fn choose_at_once(
    worker: &Worker,
    service: &LiveService,
    client: &Client,
    tried: &Tried,
) -> Option<Place> {
    match &service.sticky {
        Some(sticky) => stay::choose_at_once(worker, service, sticky, client, tried),
        None => schedule_at_once(worker, service, client, tried),
    }
}

/// As [`schedule`], but where it would wait there is none.
fn schedule_at_once(
    worker: &Worker,
    service: &LiveService,
    client: &Client,
    tried: &Tried,
) -> Option<Place> {
    let place = choose_now(worker, service, client, tried);
    place.or_else(|| match nobody_takes(service, tried) {
        true => choose_sorry(service, tried).ok(),
        false => None,
    })
}

/// Whether no backend takes anything new, be it after a wait.
fn nobody_takes(service: &LiveService, tried: &Tried) -> bool {
    let takes = |live: &LiveBackend| {
        !tried.has(live) && live.takes_new() && !live.admission.is_overloaded()
    };
    !service.members.iter().any(|m| takes(&m.live))
}

fn choose_sorry(service: &LiveService, tried: &Tried) -> Result<Place, NoPlace> {
    match &service.sorry {
        Some(sorry) if !tried.has(&sorry.live) && sorry.live.admission.try_enter() => {
            Ok(Place::admitted(sorry.live.clone()))
        }
        _ => Err(NoPlace::NoBackend),
    }
}

/// The service as of now; none if it is gone.
fn newest(worker: &Worker, service: &LiveService) -> Option<Arc<LiveService>> {
    let snapshot = worker.shared.snapshot.load();
    snapshot.services.get(&service.spec.name).cloned()
}

/// Chooses without waiting.
fn choose_now(
    worker: &Worker,
    service: &LiveService,
    client: &Client,
    tried: &Tried,
) -> Option<Place> {
    let view = View {
        members: &service.members,
        tried,
        now: worker.now(),
        decay: service.spec.scheduler.decay,
    };
    // A place can be lost to another core between the pick and the entry; each round means that
    // somebody got in.
    for _ in 0..=service.members.len() {
        let at = service
            .balancer
            .pick(client, view.now, &view, &mut || worker.random())?;
        let live = &service.members.get(at)?.live;
        if live.admission.try_enter() {
            return Some(Place::admitted(live.clone()));
        }
    }
    None
}

async fn wait(
    worker: &Worker,
    service: &LiveService,
    conn: &Conn,
    tried: &Tried,
    patience: &Patience,
) -> Result<Place, NoPlace> {
    let longest = service.spec.queue;
    let waiting = async {
        let mut now: Option<Arc<LiveService>> = None;
        loop {
            let current = now.as_deref().unwrap_or(service);
            let Some(live) = queue_at(worker, current, conn, tried, longest) else {
                if nobody_takes(current, tried) {
                    return choose_sorry(current, tried);
                }
                return Err(NoPlace::QueuesFull);
            };
            match live.admission.enter_or_wait(longest, Comer::New) {
                Ok(Entered::Admitted) => return Ok(Place::admitted(live)),
                Ok(Entered::Waiting(ticket)) => {
                    if Queued::new(&live, ticket).turn(worker, service).await {
                        return Ok(Place::admitted(live));
                    }
                    // The queue was dissolved: this backend takes nothing new any more. Those that
                    // came since the wait began do.
                    now = newest(worker, service);
                    let current = now.as_deref().unwrap_or(service);
                    if let Some(place) = choose_now(worker, current, &conn.whom(), tried) {
                        return Ok(place);
                    }
                }
                // Another core was faster: look again.
                Err(_) => {}
            }
        }
    };
    patience.bear(waiting).await?
}

/// The backend in whose queue to wait: for a hash the one it leads to, else the one that is
/// expected to come free first; none if no queue has room.
fn queue_at(
    worker: &Worker,
    service: &LiveService,
    conn: &Conn,
    tried: &Tried,
    longest: u32,
) -> Option<Arc<LiveBackend>> {
    let has_room = |m: &&Member| {
        let admission: &Admission = &m.live.admission;
        !tried.has(&m.live)
            && m.live.takes_new()
            && !admission.is_overloaded()
            && (admission.has_room() || admission.waiting() < longest)
    };
    let hashed = service.balancer.hashed(&conn.whom(), worker.now());
    if let Some(member) = hashed
        .and_then(|at| service.members.get(at))
        .filter(has_room)
    {
        return Some(member.live.clone());
    }
    let pressure = |m: &&Member| {
        u64::from(m.live.admission.waiting()) * 1_000_000
            / u64::from(m.live.admission.limit().max(1))
    };
    service
        .members
        .iter()
        .filter(has_room)
        .min_by_key(pressure)
        .map(|m| m.live.clone())
}

/// A ticket that leaves the queue if it is dropped before its turn.
struct Queued<'a> {
    backend: &'a LiveBackend,
    ticket: Option<Ticket>,
}

impl<'a> Queued<'a> {
    fn new(backend: &'a LiveBackend, ticket: Ticket) -> Self {
        Self {
            backend,
            ticket: Some(ticket),
        }
    }

    /// Whether a place was handed over. How long that took is counted.
    async fn turn(mut self, worker: &Worker, service: &LiveService) -> bool {
        let begun = Instant::now();
        let Some(ticket) = &mut self.ticket else {
            return false;
        };
        let handed = (&mut ticket.turn).await.is_ok();
        self.ticket = None;
        if handed && let Some(latency) = service.shared.latency(worker.id) {
            latency.queue.record(begun.elapsed());
        }
        handed
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.backend.admission.leave_queue(ticket);
        }
    }
}
