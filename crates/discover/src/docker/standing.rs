//! What a container does, from what the engine tells of it and from the signals it was sent.

use std::time::{Duration, Instant};

use plimsoll_model::{State, Status};

use super::error::clean;
use super::labels;
use super::time::nanos;
use super::view::Standing;
use super::wire::Inspect;

/// `docker stop` waits so long before it kills, where nothing else is said.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// What still runs so long after it should have been killed goes on.
const SLACK: Duration = Duration::from_secs(1);

/// A signal that ends a container, sent to it. An inspection does not show this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    /// As people know it, e.g. `SIGTERM`.
    signal: String,
    /// When the engine sent it, in nanoseconds since 1970 by the engine's clock.
    at: i64,
    /// When we heard of it.
    heard: Instant,
    /// Since when the process ran that we knew of when we heard of it, as the engine writes it;
    /// empty if we knew of none.
    life: String,
}

impl Kill {
    /// A signal of an event `kill`, if it ends this container: its stop signal, TERM or KILL.
    /// `at` is the event's time in nanoseconds since 1970. `inspect` is what was known when the
    /// event was heard if it is `live`, and came later otherwise.
    pub fn of(
        inspect: &Inspect,
        signal: &str,
        at: i64,
        heard: Instant,
        live: bool,
    ) -> Option<Self> {
        let sent = signal_number(signal)?;
        let stop = signal_number(&inspect.config.stop_signal);
        let ends = stop == Some(sent) || matches!(sent, SIGTERM | SIGKILL);
        let signal = signal_name(sent);
        let life = match &inspect.state {
            state if live && state.running => state.started_at.clone(),
            _ => String::new(),
        };
        ends.then_some(Self {
            signal,
            at,
            heard,
            life,
        })
    }

    /// Whether this is the same one, told again. Clocks may be set back, so one that seems to be
    /// older is not.
    pub fn is_again(&self, other: &Self) -> bool {
        self.at > 0 && (self.at, &self.signal) == (other.at, &other.signal)
    }

    /// Whether it was sent to the process that this inspection shows, not to one before: if we
    /// knew of that process already, whatever the clock said.
    fn is_of(&self, inspect: &Inspect) -> bool {
        let state = &inspect.state;
        let knew = !self.life.is_empty() && self.life == state.started_at;
        let after = || nanos(&state.started_at).is_none_or(|started| started <= self.at);
        state.running && (knew || after())
    }

    /// From when on the container goes on if it still runs then: the longer of its stop time-out
    /// and its drain labels, and a second, after the signal. None if the engine waits for ever.
    fn until(&self, inspect: &Inspect) -> Option<Instant> {
        let stop = match inspect.config.stop_timeout {
            None => STOP_TIMEOUT,
            // A negative one is for ever.
            Some(seconds) => Duration::from_secs(u64::try_from(seconds).ok()?),
        };
        let drain = labels::drain(inspect).unwrap_or_default();
        let wait = stop.max(drain).saturating_add(SLACK);
        self.heard.checked_add(wait)
    }

    /// When it stops to count for this container, if it counts now and ever stops to.
    pub fn deadline(&self, inspect: &Inspect, now: Instant) -> Option<Instant> {
        let until = self.until(inspect)?;
        (self.is_of(inspect) && now < until).then_some(until)
    }

    /// Whether the container is ending because of it.
    fn counts(&self, inspect: &Inspect, now: Instant) -> bool {
        self.is_of(inspect) && self.until(inspect).is_none_or(|until| now < until)
    }
}

/// What a container does, by its inspection and the last signal that was to end it.
pub fn standing(inspect: &Inspect, kill: Option<&Kill>, now: Instant) -> Standing {
    let state = &inspect.state;
    let (status, reason) = match state.status.as_str() {
        // Running and paused are also true while it restarts, and running while it is paused.
        "restarting" => (State::Down, "restarting".to_owned()),
        "paused" => (State::Draining, "paused".to_owned()),
        "created" | "exited" | "dead" | "removing" => return Standing::Stopped,
        _ if state.restarting => (State::Down, "restarting".to_owned()),
        _ if state.paused => (State::Draining, "paused".to_owned()),
        _ if state.dead || !state.running => return Standing::Stopped,
        _ => match kill.filter(|kill| kill.counts(inspect, now)) {
            Some(kill) => (State::Draining, format!("told to stop ({})", kill.signal)),
            None => health(inspect),
        },
    };
    Standing::Serves(Status::new(status, reason))
}

/// Whether a running container can serve, by its HEALTHCHECK.
fn health(inspect: &Inspect) -> (State, String) {
    let Some(health) = &inspect.state.health else {
        return (State::Ready, String::new());
    };
    match health.status.as_str() {
        "" | "none" | "healthy" => (State::Ready, String::new()),
        "unhealthy" => {
            let output = health.log.last().map(|run| clean(&run.output));
            let reason = match output.filter(|output| !output.is_empty()) {
                Some(output) => format!("unhealthy: {output}"),
                None => "unhealthy".to_owned(),
            };
            (State::Down, reason)
        }
        // A word that newer engines may bring is not `healthy` either.
        other => (State::Starting, format!("health: {}", clean(other))),
    }
}

const SIGKILL: u8 = 9;
const SIGTERM: u8 = 15;
const SIGRTMIN: u8 = 34;
const SIGRTMAX: u8 = 64;

/// Signals by name, as Linux numbers them on x86 and ARM (signal(7)).
const SIGNALS: [(&str, u8); 33] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", SIGKILL),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", SIGTERM),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// The number of a signal that is said as the engine takes it: `SIGTERM`, `term`, `15`,
/// `SIGRTMIN+3`; nothing is SIGTERM.
pub(crate) fn signal_number(text: &str) -> Option<u8> {
    let text = text.trim().to_ascii_uppercase();
    if text.is_empty() {
        return Some(SIGTERM);
    }
    if let Ok(number) = text.parse::<u8>() {
        return (1..=SIGRTMAX).contains(&number).then_some(number);
    }
    let name = text.strip_prefix("SIG").unwrap_or(&text);
    if let Some(rest) = name.strip_prefix("RTMIN") {
        let more = if rest.is_empty() {
            0
        } else {
            rest.strip_prefix('+')?.parse().ok()?
        };
        return SIGRTMIN
            .checked_add(more)
            .filter(|number| *number <= SIGRTMAX);
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        let less = if rest.is_empty() {
            0
        } else {
            rest.strip_prefix('-')?.parse().ok()?
        };
        return SIGRTMAX
            .checked_sub(less)
            .filter(|number| *number >= SIGRTMIN);
    }
    let known = SIGNALS.iter().find(|(known, _)| *known == name);
    known.map(|(_, number)| *number)
}

/// The name of a signal.
fn signal_name(number: u8) -> String {
    match SIGNALS.iter().find(|(_, known)| *known == number) {
        Some((name, _)) => format!("SIG{name}"),
        None if number >= SIGRTMIN => format!("SIGRTMIN+{}", number - SIGRTMIN),
        None => format!("signal {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::wire::{Health, HealthRun};

    const STARTED: &str = "2024-05-01T10:00:00Z";

    fn running() -> Inspect {
        let mut inspect = Inspect::default();
        inspect.state.status = "running".into();
        inspect.state.running = true;
        inspect.state.started_at = STARTED.into();
        inspect
    }

    fn serves(state: State, reason: &str) -> Standing {
        Standing::Serves(Status::new(state, reason))
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A signal a second after the start.
    fn kill(inspect: &Inspect, signal: &str, now: Instant) -> Option<Kill> {
        Kill::of(
            inspect,
            signal,
            nanos(STARTED).unwrap() + 1_000_000_000,
            now,
            true,
        )
    }

    #[test]
    fn each_state_of_the_engine_has_its_standing() {
        let now = Instant::now();
        for (status, running, paused, restarting, expected) in [
            ("running", true, false, false, serves(State::Ready, "")),
            (
                "paused",
                true,
                true,
                false,
                serves(State::Draining, "paused"),
            ),
            (
                "restarting",
                true,
                false,
                true,
                serves(State::Down, "restarting"),
            ),
            (
                "restarting",
                false,
                false,
                true,
                serves(State::Down, "restarting"),
            ),
            ("created", false, false, false, Standing::Stopped),
            ("exited", false, false, false, Standing::Stopped),
            ("dead", false, false, false, Standing::Stopped),
            ("removing", true, false, false, Standing::Stopped),
            ("", true, false, false, serves(State::Ready, "")),
            ("", false, false, false, Standing::Stopped),
            (
                "hibernating",
                true,
                true,
                false,
                serves(State::Draining, "paused"),
            ),
            ("hibernating", true, false, false, serves(State::Ready, "")),
            ("hibernating", false, false, false, Standing::Stopped),
        ] {
            let mut inspect = self::running();
            inspect.state.status = status.into();
            inspect.state.running = running;
            inspect.state.paused = paused;
            inspect.state.restarting = restarting;
            assert_eq!(standing(&inspect, None, now), expected, "{status}");
        }
    }

    #[test]
    fn health_decides_who_may_serve() {
        let now = Instant::now();
        let log = vec![
            HealthRun::default(),
            HealthRun {
                exit_code: 1,
                output: "curl: (7)\n refused\n".into(),
            },
        ];
        for (status, expected) in [
            ("", serves(State::Ready, "")),
            ("none", serves(State::Ready, "")),
            ("healthy", serves(State::Ready, "")),
            ("starting", serves(State::Starting, "health: starting")),
            (
                "unhealthy",
                serves(State::Down, "unhealthy: curl: (7) refused"),
            ),
            ("sleepy", serves(State::Starting, "health: sleepy")),
        ] {
            let mut inspect = running();
            inspect.state.health = Some(Health {
                status: status.into(),
                log: log.clone(),
            });
            assert_eq!(standing(&inspect, None, now), expected, "{status}");
        }
        let mut inspect = running();
        inspect.state.health = Some(Health {
            status: "unhealthy".into(),
            log: vec![],
        });
        assert_eq!(
            standing(&inspect, None, now),
            serves(State::Down, "unhealthy")
        );
    }

    #[test]
    fn only_signals_that_end_it_make_it_drain() {
        let now = Instant::now();
        let mut inspect = running();
        for signal in ["15", "SIGTERM", "term", "9", "KILL"] {
            assert!(kill(&inspect, signal, now).is_some(), "{signal}");
        }
        for signal in [
            "1",
            "HUP",
            "SIGUSR1",
            "3",
            "SIGQUIT",
            "0",
            "99",
            "nonsense",
            "SIGRTMIN+x",
        ] {
            assert_eq!(kill(&inspect, signal, now), None, "{signal}");
        }
        inspect.config.stop_signal = "SIGQUIT".into();
        assert!(kill(&inspect, "3", now).is_some());
        inspect.config.stop_signal = "37".into();
        let quit = kill(&inspect, "SIGRTMIN+3", now).unwrap();
        assert_eq!(
            standing(&inspect, Some(&quit), now),
            serves(State::Draining, "told to stop (SIGRTMIN+3)")
        );
        inspect.config.stop_signal = "SIGRTMAX-1".into();
        assert!(kill(&inspect, "63", now).is_some());
    }

    #[test]
    fn what_still_runs_after_its_time_is_ready_again() {
        let now = Instant::now();
        let draining = serves(State::Draining, "told to stop (SIGTERM)");
        for (stop, drain, wait) in [
            (None, None, Some(11)),
            (Some(3), None, Some(4)),
            (Some(3), Some("20s"), Some(21)),
            (Some(30), Some("20s"), Some(31)),
            (Some(0), None, Some(1)),
            (None, Some("nonsense"), Some(11)),
            (Some(-1), None, None),
            (Some(i64::MAX), None, None),
        ] {
            let mut inspect = running();
            inspect.config.stop_timeout = stop;
            if let Some(drain) = drain {
                inspect
                    .config
                    .labels
                    .insert("plimsoll.drain".into(), drain.into());
            }
            let kill = kill(&inspect, "15", now).unwrap();
            let until = wait.map(|wait| now + seconds(wait));
            assert_eq!(kill.deadline(&inspect, now), until);
            let before = until.map_or(now + seconds(100_000), |until| until - seconds(1));
            assert_eq!(standing(&inspect, Some(&kill), before), draining);
            if let Some(until) = until {
                assert_eq!(
                    standing(&inspect, Some(&kill), until),
                    serves(State::Ready, "")
                );
                assert_eq!(kill.deadline(&inspect, until), None);
            }
        }
    }

    #[test]
    fn a_new_start_ends_the_drain() {
        let now = Instant::now();
        let mut inspect = running();
        let term = kill(&inspect, "15", now).unwrap();
        inspect.state.started_at = "2024-05-01T10:00:05Z".into();
        assert_eq!(
            standing(&inspect, Some(&term), now),
            serves(State::Ready, "")
        );
        inspect.state.started_at = "never".into();
        assert!(
            matches!(standing(&inspect, Some(&term), now), Standing::Serves(s) if s.state == State::Draining)
        );
        inspect.state.running = false;
        inspect.state.status = "exited".into();
        assert_eq!(standing(&inspect, Some(&term), now), Standing::Stopped);
        assert_eq!(term.deadline(&inspect, now), None);
    }

    #[test]
    fn a_clock_that_was_set_back_hides_no_signal_that_is_heard_live() {
        let now = Instant::now();
        let mut inspect = running();
        let early = nanos(STARTED).unwrap() - 3_600_000_000_000;
        let draining = serves(State::Draining, "told to stop (SIGTERM)");
        for (at, live, expected) in [
            (early, true, &draining),
            (0, true, &draining),
            (-1, true, &draining),
            (early, false, &serves(State::Ready, "")),
        ] {
            let kill = Kill::of(&inspect, "15", at, now, live).unwrap();
            assert_eq!(standing(&inspect, Some(&kill), now), *expected, "{at}");
        }
        // It was heard while another process ran, or none.
        let kill = Kill::of(&inspect, "15", early, now, true).unwrap();
        inspect.state.started_at = "2024-05-01T10:00:05Z".into();
        assert_eq!(
            standing(&inspect, Some(&kill), now),
            serves(State::Ready, "")
        );
        inspect.state.running = false;
        let kill = Kill::of(&inspect, "15", early, now, true).unwrap();
        inspect.state.running = true;
        assert_eq!(
            standing(&inspect, Some(&kill), now),
            serves(State::Ready, "")
        );
    }
}
