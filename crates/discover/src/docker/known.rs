//! What is kept of a container.

use std::time::Instant;

use super::error::clean;
use super::labels::{self, mistyped, schema::PREFIX};
use super::print::Print;
use super::standing::{Kill, signal_number};
use super::virtual_host::VARIABLES;
use super::wire::Inspect;

/// A container.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) facts: Facts,
    /// Its name without the slash, or nothing.
    pub(crate) name: String,
    /// As it was inspected last.
    pub(crate) print: Option<Print>,
    /// The last list that was asked for before what is known of it was asked for, or told.
    pub(crate) learnt: u64,
    /// The last list that was asked for before its inspection was.
    pub(crate) asked_at: u64,
    pub(crate) due: bool,
    pub(crate) asked: bool,
    /// Why it is due, or asked for.
    pub(crate) cause: Cause,
    /// What was hinted at while it was being inspected.
    pub(crate) hints: Hints,
    pub(crate) failures: u32,
    pub(crate) kill: Option<Kill>,
    /// Signals from before the first inspection: the newest of each kind, in the order in which
    /// they were heard.
    pub(crate) signals: Vec<Early>,
}

/// A signal of a container of which no inspection is known.
#[derive(Debug)]
pub(crate) struct Early {
    number: u8,
    at: i64,
    heard: Instant,
}

/// What an inspection said.
#[derive(Debug, Default)]
pub(crate) enum Facts {
    /// There was none.
    #[default]
    None,
    /// Nothing that concerns us.
    Foreign,
    /// This, in short.
    Container(Box<Inspect>),
    /// It cannot be read, or could not be had: why.
    Unreadable(String),
}

impl Known {
    /// What the last inspection said, if that concerns us.
    pub(crate) fn inspect(&self) -> Option<&Inspect> {
        match &self.facts {
            Facts::Container(inspect) => Some(inspect),
            _ => None,
        }
    }

    /// Whether it was looked at and does not concern us.
    pub(crate) fn is_foreign(&self) -> bool {
        matches!(self.facts, Facts::Foreign)
    }

    /// Whether it is this container that somebody calls so.
    pub(crate) fn is_called(&self, id: &str, name: &str) -> bool {
        id == name || self.name == name || (name.len() >= 12 && id.starts_with(name))
    }

    /// Hears of a signal; `at` is the event's time. Whether it is one that ends the container, and
    /// news.
    pub(crate) fn hear(&mut self, signal: &str, at: i64, now: Instant) -> bool {
        match self.facts {
            Facts::None | Facts::Unreadable(_) => self.hear_early(signal, at, now),
            Facts::Container(_) | Facts::Foreign => return self.heed(signal, at, now, true),
        }
        false
    }

    /// What it means is not known before the container is.
    fn hear_early(&mut self, signal: &str, at: i64, heard: Instant) {
        let Some(number) = signal_number(signal) else {
            return;
        };
        let again = |early: &Early| at > 0 && (early.number, early.at) == (number, at);
        if !self.signals.iter().any(again) {
            self.signals.retain(|early| early.number != number);
            self.signals.push(Early { number, at, heard });
        }
    }

    /// Takes in the signals from before the inspection that there is now.
    pub(crate) fn heed_early(&mut self) {
        for Early { number, at, heard } in std::mem::take(&mut self.signals) {
            self.heed(&number.to_string(), at, heard, false);
        }
    }

    fn heed(&mut self, signal: &str, at: i64, heard: Instant, live: bool) -> bool {
        let Facts::Container(inspect) = &self.facts else {
            return false;
        };
        let Some(kill) = Kill::of(inspect, signal, at, heard, live) else {
            return false;
        };
        // After a reconnect the engine tells what it has told before.
        if self.kill.as_ref().is_some_and(|last| kill.is_again(last)) {
            return false;
        }
        self.kill = Some(kill);
        true
    }

    /// It has been started: whatever it was sent before was for another process.
    pub(crate) fn forget_signals(&mut self) {
        self.kill = None;
        self.signals.clear();
    }
}

/// Whether a container is to be inspected once more, should it turn out to be so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hints {
    pub(crate) if_running: bool,
    pub(crate) if_stopped: bool,
}

/// Why a container is to be inspected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Something told of it.
    #[default]
    Told,
    /// The first list of a session shows that it is new or has changed.
    FirstList,
    /// A later list does, and nothing has told of it.
    List,
}

/// Whether a container says anything to us, or means to, by labels or by its environment.
pub(crate) fn speaks(inspect: &Inspect) -> bool {
    let labels = || {
        inspect
            .config
            .labels
            .keys()
            .any(|key| key.starts_with(PREFIX))
    };
    let env = || VARIABLES.iter().any(|key| inspect.env(key).is_some());
    labels::is_wanted(inspect) && (labels() || env() || mistyped::is_there(inspect))
}

/// Keeps of an inspection only what is read later on. Thousands of them stay in memory, and
/// environments hold secrets.
pub(crate) fn slim(inspect: &mut Inspect) {
    let config = &mut inspect.config;
    config.labels.retain(|key, _| labels::is_kept(key));
    config.env.retain(|pair| {
        let key = pair.split_once('=').map_or(pair.as_str(), |(key, _)| key);
        VARIABLES.contains(&key)
    });
    config.env.shrink_to_fit();
    if let Some(health) = &mut inspect.state.health {
        let last = health.log.pop().map(|mut run| {
            run.output = clean(&run.output);
            run
        });
        health.log = last.into_iter().collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::wire::{Health, HealthRun};

    #[test]
    fn what_is_not_read_is_not_kept() {
        let mut inspect = Inspect::default();
        inspect.config.env = [
            "SECRET=x",
            "VIRTUAL_HOST=a",
            "VIRTUAL_PORT",
            "VIRTUAL_HOSTS=b",
        ]
        .map(Into::into)
        .into();
        for key in [
            "plimsoll.host",
            "Plimsoll",
            "plimsol.port",
            "com.docker.compose.project",
            "maintainer",
        ] {
            inspect.config.labels.insert(key.into(), "v".into());
        }
        let run = |output: &str| HealthRun {
            exit_code: 1,
            output: output.into(),
        };
        let log = vec![run("first"), run(&"long\n".repeat(1000))];
        inspect.state.health = Some(Health {
            status: "unhealthy".into(),
            log,
        });
        slim(&mut inspect);
        assert_eq!(inspect.config.env, ["VIRTUAL_HOST=a", "VIRTUAL_PORT"]);
        let labels: Vec<_> = inspect.config.labels.keys().map(String::as_str).collect();
        assert_eq!(
            labels,
            [
                "com.docker.compose.project",
                "plimsol.port",
                "plimsoll.host"
            ]
        );
        let log = inspect.state.health.unwrap().log;
        assert_eq!(log.len(), 1);
        assert!(log[0].output.starts_with("long long") && log[0].output.len() < 400);
    }

    #[test]
    fn only_who_speaks_is_wanted() {
        let mut inspect = Inspect::default();
        assert!(!speaks(&inspect));
        inspect.config.env = vec!["VIRTUAL_HOST=a".into()];
        assert!(speaks(&inspect));
        inspect.config.env.clear();
        inspect
            .config
            .labels
            .insert("plimsoll.host".into(), "a".into());
        assert!(speaks(&inspect));
        inspect
            .config
            .labels
            .insert("com.docker.compose.oneoff".into(), "True".into());
        assert!(!speaks(&inspect));
        for (label, wanted) in [("Plimsoll.host", true), ("org.example.host", false)] {
            inspect.config.labels = [(label.to_owned(), "a".to_owned())].into();
            assert_eq!(speaks(&inspect), wanted, "{label}");
        }
    }
}
