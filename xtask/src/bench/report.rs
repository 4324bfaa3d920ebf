//! The report: a table for people, JSON for programs.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::Mode;
use super::measure::{Sample, median};
use super::proxies::{Kind, Paths};
use super::rows::Row;

/// What one proxy showed in one row.
pub(crate) enum Outcome {
    /// Its rounds under load.
    Load(Vec<Sample>),
    /// Its memory.
    Memory(Memory),
}

/// Resident memory without and with idle connections.
pub(crate) struct Memory {
    /// Idle connections.
    pub(crate) connections: usize,
    /// KiB before they were opened.
    pub(crate) before_kib: u64,
    /// KiB while they were open.
    pub(crate) after_kib: u64,
}

impl Memory {
    fn per_connection_kib(&self) -> f64 {
        (self.after_kib as f64 - self.before_kib as f64) / self.connections as f64
    }
}

/// All that was measured.
pub(crate) struct Report {
    mode: Mode,
    rounds: u32,
    window: Duration,
    versions: [Option<String>; 3],
    notes: Vec<String>,
    /// The rows that are done.
    pub(crate) rows: Vec<RowReport>,
}

impl Report {
    /// A report without rows.
    pub(crate) fn new(mode: Mode, rounds: u32, window: Duration, paths: &Paths) -> Self {
        Self {
            mode,
            rounds,
            window,
            versions: Kind::ALL.map(|kind| paths.version(kind)),
            notes: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Adds what a reader of the figures has to know, and shows it at once.
    pub(crate) fn note(&mut self, json: bool, note: &str) {
        if json {
            eprintln!("note: {note}");
        } else {
            println!("note: {note}");
        }
        self.notes.push(note.to_owned());
    }

    /// All figures. Times are in µs, memory in KiB; a proxy that did not take part is null.
    pub(crate) fn json(&self) -> Value {
        json!({
            "bench": self.mode.name(),
            "rounds": self.rounds,
            "seconds_per_round": self.window.as_secs_f64(),
            "versions": by_name(|index| json!(self.versions.get(index))),
            "notes": self.notes,
            "rows": self.rows.iter().map(RowReport::json).collect::<Vec<_>>(),
        })
    }
}

/// An object with a value per proxy, by its place in [`Kind::ALL`].
fn by_name(value: impl Fn(usize) -> Value) -> Value {
    Kind::ALL
        .iter()
        .enumerate()
        .map(|(index, kind)| (kind.name().to_owned(), value(index)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// One row.
pub(crate) struct RowReport {
    name: &'static str,
    about: String,
    mode: Mode,
    target: f64,
    /// In the order of [`Kind::ALL`].
    outcomes: [Option<Outcome>; 3],
    notes: Vec<String>,
}

impl RowReport {
    /// A row with what each proxy showed, in the order of [`Kind::ALL`].
    pub(crate) fn new(
        row: &Row,
        about: String,
        outcomes: [Option<Outcome>; 3],
        notes: Vec<String>,
    ) -> Self {
        Self {
            name: row.name,
            about,
            mode: row.mode,
            target: row.target,
            outcomes,
            notes,
        }
    }

    fn outcome(&self, kind: Kind) -> Option<&Outcome> {
        Kind::ALL
            .iter()
            .position(|&other| other == kind)
            .and_then(|index| self.outcomes.get(index)?.as_ref())
    }

    /// CPU per request of one proxy over that of another, round by round.
    fn ratios(&self, kind: Kind, peer: Kind) -> Option<Vec<f64>> {
        let (Outcome::Load(own), Outcome::Load(other)) = (self.outcome(kind)?, self.outcome(peer)?)
        else {
            return None;
        };
        Some(
            own.iter()
                .zip(other)
                .map(|(a, b)| a.cpu_us / b.cpu_us)
                .collect(),
        )
    }

    /// The peer whose CPU time the target is about.
    fn peer(&self) -> Kind {
        match self.mode {
            Mode::Udp => Kind::Nginx,
            Mode::Http | Mode::Tcp => Kind::Haproxy,
        }
    }

    /// What is held against the target: the median ratio to the peer, or KiB per connection.
    fn judged(&self) -> Option<f64> {
        match self.outcome(Kind::Plimsoll)? {
            Outcome::Load(_) => median(self.ratios(Kind::Plimsoll, self.peer())?),
            Outcome::Memory(memory) => Some(memory.per_connection_kib()),
        }
    }

    fn is_memory(&self) -> bool {
        self.outcomes
            .iter()
            .flatten()
            .any(|outcome| matches!(outcome, Outcome::Memory(_)))
    }

    fn json(&self) -> Value {
        let ratios = |peer| {
            self.ratios(Kind::Plimsoll, peer).map(|rounds| {
                json!({ "median": median(rounds.iter().copied()).map(rounded), "rounds":
                    rounds.iter().copied().map(rounded).collect::<Vec<_>>() })
            })
        };
        let target = if self.is_memory() {
            json!({ "kib_per_connection": self.target })
        } else {
            let key = format!("cpu_ratio_to_{}", self.peer().name());
            json!({ key: self.target })
        };
        json!({
            "row": self.name,
            "about": self.about,
            "notes": self.notes,
            "target": target,
            "met": self.judged().map(|value| value <= self.target),
            "proxies": by_name(|index| {
                self.outcomes.get(index).and_then(Option::as_ref).map_or(Value::Null, outcome_json)
            }),
            "cpu_ratios": {
                "plimsoll/haproxy": ratios(Kind::Haproxy),
                "plimsoll/nginx": ratios(Kind::Nginx),
                "nginx/haproxy": self.ratios(Kind::Nginx, Kind::Haproxy)
                    .and_then(median)
                    .map(|median| json!({ "median": rounded(median) })),
            },
        })
    }
}

/// To four digits behind the point: more would feign precision.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// The medians over the rounds.
struct Medians {
    cpu_us: f64,
    rate: f64,
    p50_us: f64,
    p99_us: f64,
    busy: f64,
    failures: u64,
}

impl Medians {
    fn of(rounds: &[Sample]) -> Option<Self> {
        let of = |field: fn(&Sample) -> f64| median(rounds.iter().map(field));
        Some(Self {
            cpu_us: of(|round| round.cpu_us)?,
            rate: of(|round| round.rate)?,
            p50_us: of(|round| round.p50_us)?,
            p99_us: of(|round| round.p99_us)?,
            busy: of(|round| round.busy)?,
            failures: rounds.iter().map(|round| round.failures).sum(),
        })
    }
}

fn outcome_json(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Memory(memory) => json!({
            "kib_per_connection": rounded(memory.per_connection_kib()),
            "connections": memory.connections,
            "rss_kib_before": memory.before_kib,
            "rss_kib_after": memory.after_kib,
        }),
        Outcome::Load(rounds) => {
            let Some(medians) = Medians::of(rounds) else {
                return Value::Null;
            };
            json!({
                "cpu_us_per_request": rounded(medians.cpu_us),
                "requests_per_second": rounded(medians.rate),
                "p50_us": rounded(medians.p50_us),
                "p99_us": rounded(medians.p99_us),
                "core_busy": rounded(medians.busy),
                "failures": medians.failures,
                "rounds": rounds.iter().map(|round| json!({
                    "cpu_us_per_request": rounded(round.cpu_us),
                    "requests_per_second": rounded(round.rate),
                    "p50_us": rounded(round.p50_us),
                    "p99_us": rounded(round.p99_us),
                    "core_busy": rounded(round.busy),
                    "answered": round.answered,
                    "failures": round.failures,
                    "first_failure": round.first_failure,
                })).collect::<Vec<_>>(),
            })
        }
    }
}

impl fmt::Display for RowReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "\n{}: {}", self.name, self.about)?;
        for note in &self.notes {
            writeln!(out, "  note: {note}")?;
        }
        if !self.is_memory() {
            let (cpu, rate) = match self.mode {
                Mode::Udp => ("CPU µs/dg", "datagrams/s"),
                Mode::Http | Mode::Tcp => ("CPU µs/req", "req/s"),
            };
            writeln!(
                out,
                "  {:<10}{:>10}{:>12}{:>10}{:>10}{:>8}{:>10}",
                "", cpu, rate, "p50 µs", "p99 µs", "core", "failures"
            )?;
        }
        for kind in Kind::ALL {
            match self.outcome(kind) {
                None => writeln!(out, "  {:<10}{:>10}", kind.name(), "-")?,
                Some(Outcome::Memory(memory)) => writeln!(
                    out,
                    "  {:<10}{:>8.2} KiB per connection ({} KiB without, {} KiB with)",
                    kind.name(),
                    memory.per_connection_kib(),
                    memory.before_kib,
                    memory.after_kib
                )?,
                Some(Outcome::Load(rounds)) => write_load(out, kind, rounds)?,
            }
        }
        self.write_verdict(out)
    }
}

impl RowReport {
    fn write_verdict(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = self.peer().name();
        let unit = if self.is_memory() {
            " KiB".to_owned()
        } else {
            format!(" × {peer}")
        };
        let Some(value) = self.judged() else {
            return writeln!(out, "  target ≤ {:.2}{unit}: not measured", self.target);
        };
        if let Some(rounds) = self.ratios(Kind::Plimsoll, self.peer()) {
            let least = rounds.iter().copied().fold(f64::INFINITY, f64::min);
            let most = rounds.iter().copied().fold(0.0, f64::max);
            write!(
                out,
                "  plimsoll/{peer} {value:.3} (rounds {least:.2} to {most:.2}); "
            )?;
        } else {
            write!(out, "  ")?;
        }
        let met = if value <= self.target {
            "met"
        } else {
            "MISSED"
        };
        writeln!(out, "target ≤ {:.2}{unit}: {met}", self.target)
    }
}

fn write_load(out: &mut fmt::Formatter<'_>, kind: Kind, rounds: &[Sample]) -> fmt::Result {
    let Some(medians) = Medians::of(rounds) else {
        return writeln!(out, "  {:<10}{:>10}", kind.name(), "-");
    };
    writeln!(
        out,
        "  {:<10}{:>10.2}{:>12.0}{:>10.0}{:>10.0}{:>7.0}%{:>10}",
        kind.name(),
        medians.cpu_us,
        medians.rate,
        medians.p50_us,
        medians.p99_us,
        medians.busy * 100.0,
        medians.failures
    )?;
    match rounds
        .iter()
        .find_map(|round| round.first_failure.as_deref())
    {
        Some(why) => writeln!(out, "  {:<10}first failure: {why}", ""),
        None => Ok(()),
    }
}
