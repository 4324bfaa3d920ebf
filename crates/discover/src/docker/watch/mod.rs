//! What is known of the engine's containers, and what has to be asked and said next. Pure: what
//! the engine said and what time it is are told.
//!
//! An event is only a hint to inspect a container, but for `kill`, which no inspection shows, and
//! `destroy`, after which there is nothing to inspect. Whatever is lost, doubled, late or out of
//! order, the next list puts right.

mod around;
mod hints;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_model::{Origin, Update};

use super::entries::entries;
use super::known::{Cause, Facts, Hints, Known, slim, speaks};
use super::print::Print;
use super::read::{Inspected, Listed};
use super::sent::Sent;
use super::standing::standing;
use super::view::{Settings, Standing, Whereabouts};
use super::wire::{Inspect, Network};
use crate::{Entry, EntryKey, Item};

/// An inspection that failed is tried again after so long, then after twice as long, and so on.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(32);
/// What a list shows and no event has told so long after it, no event will tell.
const DEAF: Duration = Duration::from_secs(2);

/// The containers of an engine.
#[derive(Debug)]
pub struct Watch {
    settings: Settings,
    /// Where we run if it is in none of its containers.
    outside: Whereabouts,
    /// Our own container.
    own: Option<String>,
    whereabouts: Whereabouts,
    networks: BTreeMap<String, Network>,
    /// Networks that were missing and have been asked for.
    missing: BTreeSet<String>,
    networks_due: bool,
    /// Whether they are being asked for.
    networks_asked: bool,
    known: BTreeMap<String, Known>,
    /// Containers to be inspected, those that are not due any more among them.
    queue: VecDeque<String>,
    /// Whose network a container uses, by `network_mode: container:ID`.
    joined: BTreeMap<String, String>,
    /// When a container stops to count as ending.
    ending: BTreeMap<String, Instant>,
    retries: BTreeMap<String, Instant>,
    /// What a list showed and no event has told yet; until when it may.
    untold: BTreeMap<String, Instant>,
    /// How many lists were begun, and whether one of this session has been read.
    lists: u64,
    listed: bool,
    last_event: Option<i64>,
    sent: Sent,
}

impl Watch {
    /// Nothing is known yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            outside: Whereabouts::Host,
            own: None,
            whereabouts: Whereabouts::Host,
            networks: BTreeMap::new(),
            missing: BTreeSet::new(),
            networks_due: true,
            networks_asked: false,
            known: BTreeMap::new(),
            queue: VecDeque::new(),
            joined: BTreeMap::new(),
            ending: BTreeMap::new(),
            retries: BTreeMap::new(),
            untold: BTreeMap::new(),
            lists: 0,
            listed: false,
            last_event: None,
            sent: Sent::default(),
        }
    }

    /// The time of the last event, in nanoseconds since 1970 by the engine's clock.
    pub fn last_event(&self) -> Option<i64> {
        self.last_event
    }

    /// Whether all is known that the engine had to say at first.
    pub fn is_settled(&self) -> bool {
        self.is_listed() && self.known.values().all(|known| !known.due && !known.asked)
    }

    /// Whether a list is in and the networks are known: what is still missing are single
    /// containers.
    pub fn is_listed(&self) -> bool {
        self.listed && !self.networks_due && !self.networks_asked
    }

    /// A list is asked for now.
    pub fn list_begins(&mut self) {
        self.lists += 1;
    }

    /// What the last list that was asked for says.
    pub fn list(&mut self, items: Vec<Listed>, now: Instant) {
        let cause = if self.listed {
            Cause::List
        } else {
            Cause::FirstList
        };
        // A network that was not there when it was asked for may be by now.
        self.look_again_for_networks();
        let mut there = BTreeSet::new();
        for item in items {
            let (id, name, print) = match item {
                Listed::Container(summary) => {
                    let print = Print::of_summary(&summary);
                    let name = summary.names.into_iter().next().unwrap_or_default();
                    (summary.id, name, Some(print))
                }
                Listed::Unreadable(id) => (id, String::new(), None),
            };
            if id.is_empty() {
                continue;
            }
            let known = self.known.entry(id.clone()).or_default();
            if known.inspect().is_none() && !name.is_empty() {
                known.name = name.trim_start_matches('/').to_owned();
            }
            let same = print.is_some() && known.print == print;
            // What was learnt after the list was asked for is newer than the list.
            let newer = known.learnt == self.lists;
            let newer = newer && (known.print.is_some() || known.due || known.asked);
            // An answer that is under way from before may be older than the list.
            let older = known.asked && known.asked_at < self.lists;
            if (!same && !newer || older) && !known.is_foreign() {
                self.want(&id, cause);
            }
            there.insert(id);
        }
        let lists = self.lists;
        let gone = self
            .known
            .iter()
            .filter(|(id, known)| !there.contains(*id) && known.learnt < lists);
        let gone: Vec<String> = gone.map(|(id, _)| id.clone()).collect();
        for id in gone {
            if self.gone(&id, now) && self.listed {
                self.untold.insert(id, now + DEAF);
            }
        }
        self.listed = true;
    }

    /// The containers to be inspected next, so many at most; they are, from now on.
    pub fn take_wanted(&mut self, most: usize) -> Vec<String> {
        let mut wanted = Vec::new();
        while wanted.len() < most
            && let Some(id) = self.queue.pop_front()
        {
            let Some(known) = self.known.get_mut(&id) else {
                continue;
            };
            if known.due && !known.asked {
                (known.due, known.asked) = (false, true);
                known.hints = Hints::default();
                known.asked_at = self.lists;
                wanted.push(id);
            }
        }
        wanted
    }

    /// Whether a container is to be inspected.
    pub fn is_wanting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// What came of the inspection of a container, or why nothing did.
    pub fn inspected(&mut self, id: &str, answer: Result<Inspected, String>, now: Instant) {
        let Some(known) = self.known.get_mut(id) else {
            return;
        };
        known.asked = false;
        known.learnt = known.learnt.max(known.asked_at);
        let hints = std::mem::take(&mut known.hints);
        match answer {
            Ok(Inspected::Container(inspect)) if inspect.id == id => {
                known.failures = 0;
                let hinted = match inspect.state.running {
                    true => hints.if_running,
                    false => hints.if_stopped,
                };
                let cause = known.cause;
                self.learn(*inspect, cause, now);
                // What it was about may have happened after this was said.
                if hinted {
                    self.want(id, Cause::Told);
                }
            }
            Ok(Inspected::Gone) => {
                self.gone(id, now);
            }
            Ok(Inspected::Container(_)) => {
                self.unreadable(id, "the engine answers with another container".into(), now);
            }
            Ok(Inspected::Unreadable(why)) => self.unreadable(id, why, now),
            Err(why) => {
                let wait = FIRST_RETRY.saturating_mul(1 << known.failures.min(5));
                known.failures = known.failures.saturating_add(1);
                self.retries
                    .insert(id.to_owned(), now + wait.min(LAST_RETRY));
                // What it said last stays; if it never said anything, that is said.
                if matches!(known.facts, Facts::None) {
                    known.facts = Facts::Unreadable(why);
                    self.say(id, now);
                }
            }
        }
        // An event may have come while it was being inspected.
        if self.known.get(id).is_some_and(|known| known.due) {
            self.queue.push_back(id.to_owned());
        }
    }

    /// A container that is there and says nothing.
    fn unreadable(&mut self, id: &str, why: String, now: Instant) {
        if let Some(known) = self.known.get_mut(id) {
            known.print = None;
            known.facts = Facts::Unreadable(why);
            self.joined.remove(id);
            self.say(id, now);
            self.say_joined(id, now);
        }
    }

    /// Takes in an inspection of a container that is known of.
    fn learn(&mut self, mut inspect: Inspect, cause: Cause, now: Instant) {
        let id = inspect.id.clone();
        let name = inspect.name.trim_start_matches('/').to_owned();
        let is_own = self.own.as_ref() == Some(&id);
        let needed = self.is_needed(&id, &name);
        let Some(known) = self.known.get_mut(&id) else {
            return;
        };
        known.print = Some(Print::of_inspect(&inspect));
        known.name = name;
        let speaks = !is_own && speaks(&inspect);
        // No event leads into these.
        let quiet = matches!(&*inspect.state.status, "created" | "removing" | "dead");
        let mode = inspect.host_config.network_mode.strip_prefix("container:");
        let joins = mode.filter(|_| speaks || is_own).map(str::to_owned);
        if speaks || is_own || needed {
            slim(&mut inspect);
            known.facts = Facts::Container(Box::new(inspect));
            known.heed_early();
        } else {
            known.facts = Facts::Foreign;
            known.forget_signals();
        }
        match joins {
            Some(owner) => self.join(&id, owner),
            None => {
                self.joined.remove(&id);
            }
        }
        self.look_for_networks(&id);
        let changed = self.say(&id, now);
        if changed && cause == Cause::List && !quiet {
            self.untold.insert(id.clone(), now + DEAF);
        }
        self.say_joined(&id, now);
        if is_own {
            self.look_around(now);
        }
    }

    /// A container is to be inspected, for this reason.
    fn want(&mut self, id: &str, cause: Cause) {
        let Some(known) = self.known.get_mut(id) else {
            return;
        };
        self.retries.remove(id);
        if !known.due {
            known.due = true;
            known.cause = cause;
            if !known.asked {
                self.queue.push_back(id.to_owned());
            }
        } else if cause == Cause::Told {
            known.cause = cause;
        }
    }

    /// A container is there no more. Whether that changed what is said.
    fn gone(&mut self, id: &str, now: Instant) -> bool {
        let Some(known) = self.known.remove(id) else {
            return false;
        };
        self.ending.remove(id);
        self.retries.remove(id);
        self.joined.remove(id);
        let rest = match known.facts {
            Facts::Container(inspect) if self.speaks(id, &inspect) => {
                entries(&inspect, &Standing::Stopped, &self.view(&inspect))
            }
            _ => Vec::new(),
        };
        let changed = self.sent.remove(id, rest, now);
        self.say_joined(id, now);
        changed
    }

    fn speaks(&self, id: &str, inspect: &Inspect) -> bool {
        self.own.as_deref() != Some(id) && speaks(inspect)
    }

    /// Says what a container says now. Whether that is another thing than before.
    fn say(&mut self, id: &str, now: Instant) -> bool {
        let Some(known) = self.known.get(id) else {
            return false;
        };
        let mut ending = None;
        let entries = match &known.facts {
            Facts::Container(inspect) if self.speaks(id, inspect) => {
                ending = known
                    .kill
                    .as_ref()
                    .and_then(|kill| kill.deadline(inspect, now));
                let standing = standing(inspect, known.kill.as_ref(), now);
                entries(inspect, &standing, &self.view(inspect))
            }
            Facts::Unreadable(why) => vec![self.put_aside(id, &known.name, why)],
            _ => Vec::new(),
        };
        match ending {
            Some(until) => self.ending.insert(id.to_owned(), until),
            None => self.ending.remove(id),
        };
        self.sent.put(id, entries)
    }

    /// The entry of a container that cannot be read.
    fn put_aside(&self, id: &str, name: &str, why: &str) -> Entry {
        let short = id.get(..12).unwrap_or(id);
        let name = if name.is_empty() { short } else { name };
        let subject: Arc<str> = format!("container {name}").into();
        Entry {
            key: EntryKey::new(format!("container {short}")),
            item: Item::Invalid {
                origin: Origin::new(Arc::clone(&self.settings.source), Arc::clone(&subject)),
                subject,
                reason: why.into(),
            },
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) {
        for id in passed(&self.ending, now) {
            self.ending.remove(&id);
            self.say(&id, now);
        }
        for id in passed(&self.retries, now) {
            self.want(&id, Cause::Told);
        }
        self.sent.tick(now);
    }

    /// When to [`tick`](Self::tick) next, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Instant> {
        let all = [&self.ending, &self.retries, &self.untold];
        let all = all.into_iter().flat_map(|map| map.values().copied());
        all.chain(self.sent.next_deadline()).min()
    }

    /// Whether a list showed what events should have told and have not: they do not reach us.
    pub fn is_deaf(&self, now: Instant) -> bool {
        self.untold.values().any(|until| *until <= now)
    }

    /// What is to be said now; it counts as said.
    pub fn take_updates(&mut self) -> Vec<Update> {
        self.sent.take()
    }

    /// All there is to be said; it counts as said.
    pub fn reset(&mut self) -> Update {
        self.sent.reset()
    }
}

fn passed(deadlines: &BTreeMap<String, Instant>, now: Instant) -> Vec<String> {
    let passed = deadlines.iter().filter(|(_, until)| **until <= now);
    passed.map(|(id, _)| id.clone()).collect()
}
