//! `cargo xtask bench docker`: how soon plimsoll follows containers, and what many of them cost.
//!
//! The times are taken in an engine of the bench's own: from a container's readiness to the first
//! request that it serves through plimsoll, and from its stop signal to the last request that comes
//! to it. Memory and questions are counted with an engine whose containers only exist in memory.

mod fleet;
mod rig;
mod rounds;

use std::path::{Path, PathBuf};

use plimsoll_testkit::have_root;
use serde_json::{Value, json};

use super::measure::{median, percentile};
use super::{Args, Error};
use fleet::Fleet;
use rig::Rig;

/// A figure within this many milliseconds is good.
const SOON_MS: f64 = 200.0;
/// Memory of the whole process with all containers of the fleet, in MiB.
const MEMORY_MIB: f64 = 64.0;

/// What is measured, with what it means.
const ROWS: [(&str, &str); 5] = [
    (
        "start",
        "from its readiness to its first request, a container that listens at once",
    ),
    (
        "late",
        "the same, one that listens half a second after it runs, and is asked all the time",
    ),
    ("join", "the same, beside another one that serves meanwhile"),
    (
        "stop",
        "from its stop signal to its last request, under load",
    ),
    ("fleet", "1000 containers, each a service of its own"),
];

/// All that was measured.
pub(crate) struct Report {
    rounds: u32,
    plimsoll: String,
    engine: String,
    rows: Vec<Row>,
}

struct Row {
    name: &'static str,
    about: &'static str,
    figures: Figures,
}

enum Figures {
    /// In milliseconds, in the order of the rounds.
    Times(Vec<f64>),
    Fleet(Fleet),
}

/// Measures, and shows each row when it is done unless the figures are wanted as JSON.
///
/// # Errors
/// There is no root, engine or plimsoll, or it went wrong on the way.
pub(crate) fn run(args: &Args) -> Result<Value, Error> {
    if args.seconds.is_some() || args.profile {
        let text = "bench docker has rounds, no --seconds and no --profile";
        return Err(Error::Setup(text.to_owned()));
    }
    let known = || ROWS.iter().map(|(name, _)| *name);
    if let Some(unknown) = args.only.iter().find(|name| !known().any(|n| n == **name)) {
        let known: Vec<&str> = known().collect();
        return Err(Error::Setup(format!(
            "no row `{unknown}` in docker; there are {}",
            known.join(", ")
        )));
    }
    if !have_root() {
        let text = "an engine of its own needs root: sudo cargo xtask bench docker";
        return Err(Error::Setup(text.to_owned()));
    }
    let ours = find(args.ours.as_deref())?;
    let runtime = tokio::runtime::Runtime::new().map_err(|e| Error::Io("the runtime", e))?;
    runtime.block_on(measure(args, &ours))
}

/// The plimsoll that is measured.
fn find(ours: Option<&Path>) -> Result<PathBuf, Error> {
    let ours = match ours {
        Some(ours) => ours.to_owned(),
        None => {
            let root = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
            let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(root, PathBuf::from);
            target.join("release/plimsoll")
        }
    };
    std::fs::canonicalize(&ours).map_err(|_| {
        let ours = ours.display();
        Error::Setup(format!("there is no {ours} (cargo build --release)"))
    })
}

async fn measure(args: &Args, ours: &Path) -> Result<Value, Error> {
    let rounds = args.rounds.unwrap_or(if args.quick { 5 } else { 20 });
    let rig = Rig::new(ours).await?;
    let mut report = Report {
        rounds,
        plimsoll: rig.version()?,
        engine: rig.engine_version()?,
        rows: Vec::new(),
    };
    for (name, about) in ROWS {
        if !args.only.is_empty() && !args.only.iter().any(|only| only == name) {
            continue;
        }
        super::progress(&format!("docker: {name}"));
        let figures = match name {
            "start" => Figures::Times(rounds::start(&rig, rounds).await?),
            "late" => Figures::Times(rounds::late(&rig, rounds).await?),
            "join" => Figures::Times(rounds::join(&rig, rounds).await?),
            "stop" => Figures::Times(rounds::stop(&rig, rounds).await?),
            _ => Figures::Fleet(fleet::measure(ours).await?),
        };
        super::progress("");
        let row = Row {
            name,
            about,
            figures,
        };
        if !args.json {
            print!("{row}");
        }
        report.rows.push(row);
    }
    rig.close()?;
    Ok(report.json())
}

impl Report {
    fn json(&self) -> Value {
        json!({
            "bench": "docker",
            "rounds": self.rounds,
            "versions": { "plimsoll": self.plimsoll, "docker": self.engine },
            "rows": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
        })
    }
}

/// Median, the value that nine of ten keep to, and the greatest.
struct Spread {
    median: f64,
    p90: f64,
    most: f64,
}

impl Spread {
    fn of(times: &[f64]) -> Option<Self> {
        let mut sorted = times.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        Some(Self {
            median: median(times.iter().copied())?,
            p90: percentile(&sorted, 0.9)?,
            most: *sorted.last()?,
        })
    }
}

impl Row {
    fn is_met(&self) -> Option<bool> {
        match &self.figures {
            Figures::Times(times) => Some(Spread::of(times)?.p90 <= SOON_MS),
            Figures::Fleet(fleet) => {
                let small = fleet.rss_mib.iter().all(|rss| *rss <= MEMORY_MIB);
                Some(small && fleet.inspects_per_change <= 1.0)
            }
        }
    }

    fn json(&self) -> Value {
        let figures = match &self.figures {
            Figures::Times(times) => {
                let spread = Spread::of(times);
                json!({
                    "target": { "p90_ms": SOON_MS },
                    "median_ms": spread.as_ref().map(|s| s.median),
                    "p90_ms": spread.as_ref().map(|s| s.p90),
                    "max_ms": spread.as_ref().map(|s| s.most),
                    "rounds_ms": times,
                })
            }
            Figures::Fleet(
                fleet @ Fleet {
                    rss_mib: [first, rss],
                    ..
                },
            ) => json!({
                "target": { "rss_mib": MEMORY_MIB, "inspects_per_change": 1 },
                "containers": fleet.containers,
                "rss_mib_at_first": first,
                "rss_mib": rss,
                "inspects_at_start": fleet.inspects_at_start,
                "changes": fleet.changes,
                "inspects_per_change": fleet.inspects_per_change,
            }),
        };
        json!({
            "row": self.name,
            "about": self.about,
            "met": self.is_met(),
            "figures": figures,
        })
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(out, "\n{}: {}", self.name, self.about)?;
        let target = match &self.figures {
            Figures::Times(times) => {
                if let Some(spread) = Spread::of(times) {
                    writeln!(
                        out,
                        "  median {:.1} ms, 9 of 10 within {:.1} ms, all {} within {:.1} ms",
                        spread.median,
                        spread.p90,
                        times.len(),
                        spread.most
                    )?;
                }
                format!("9 of 10 within {SOON_MS:.0} ms")
            }
            Figures::Fleet(
                fleet @ Fleet {
                    rss_mib: [first, rss],
                    ..
                },
            ) => {
                writeln!(
                    out,
                    "  {first:.1} MiB resident at first, {rss:.1} MiB after changes and a status; {} inspections at start, {:.2} for each of {} changes",
                    fleet.inspects_at_start, fleet.inspects_per_change, fleet.changes
                )?;
                format!("{MEMORY_MIB:.0} MiB and 1 inspection")
            }
        };
        let met = match self.is_met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not measured",
        };
        writeln!(out, "  target {target}: {met}")
    }
}
