//! `cargo xtask bench fairness`: few connections that are kept alive, over two threads, beside HAProxy
//! with two threads.
//!
//! Proxies, load and backends share two cores, so the rates are no measure of anything but each other.
//! What tells is the share of the busier thread: a half is even, 1 is one thread alone.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::backend::Backend;
use super::engine::Engine;
use super::load::{Load, Reuse, Spec};
use super::measure::{Cores, Sample, median};
use super::proxies::{Kind, Paths, Proxy};
use super::{Args, Error, Mode, progress};

/// Connections.
const COUNTS: [usize; 2] = [8, 16];

/// The proxies.
const KINDS: [Kind; 2] = [Kind::Plimsoll, Kind::Haproxy];

/// One round of one proxy.
struct Round {
    sample: Sample,
    /// The part of the CPU time of its two busiest threads that the busier one has used, 0.5 to 1.
    busier: f64,
}

/// Measures, and shows each row when it is done unless the figures are wanted as JSON.
///
/// # Errors
/// There are not two cores, or no plimsoll, or it went wrong on the way.
pub(crate) fn run(args: &Args) -> Result<Value, Error> {
    if args.profile || !args.only.is_empty() {
        let text = "bench fairness has no --profile and no --only";
        return Err(Error::Setup(text.to_owned()));
    }
    let paths = Paths::find(Mode::Http, args.ours.as_deref())?;
    if let Some(why) = paths.missing_ours() {
        return Err(Error::Setup(why));
    }
    let cores = Cores::pick()?.share()?;
    let (rounds, window) = if args.quick { (5, 0.3) } else { (15, 1.0) };
    let rounds = args.rounds.unwrap_or(rounds);
    let window = Duration::from_secs_f64(args.seconds.unwrap_or(window));
    let mut rows = Vec::new();
    for connections in COUNTS {
        let mut lanes = Vec::new();
        for kind in KINDS {
            lanes.push((
                kind,
                Lane::start(kind, connections, &paths, cores)?,
                Vec::new(),
            ));
        }
        for round in 1..=rounds {
            progress(&format!(
                "{connections} connections: round {round} of {rounds}"
            ));
            for (_, lane, done) in &mut lanes {
                done.push(lane.round(window)?);
            }
        }
        progress("");
        let row = Row::new(connections, &lanes);
        if !args.json {
            println!("{}", row.text());
        }
        rows.push(row.json());
    }
    Ok(
        json!({ "bench": "fairness", "rounds": rounds, "seconds": window.as_secs_f64(), "rows": rows }),
    )
}

/// A proxy of two threads under load, with backends of its own.
struct Lane {
    kind: Kind,
    proxy: Proxy,
    engine: Engine,
}

impl Lane {
    fn start(kind: Kind, connections: usize, paths: &Paths, cores: Cores) -> Result<Self, Error> {
        let (mode, bytes, reuse) = (Mode::Http, 1024, Reuse::Keep);
        let backend = Backend::start(mode, bytes, 2)?;
        let proxy = Proxy::start(kind, paths, mode, &backend.ports(), cores, reuse)?;
        let load = Load::new(Spec {
            mode,
            bytes,
            reuse,
            port: proxy.port(),
            connections,
        });
        let engine = Engine::new(backend, load)?;
        Ok(Self {
            kind,
            proxy,
            engine,
        })
    }

    /// Fresh connections, a moment to warm up, and a window.
    fn round(&mut self, window: Duration) -> Result<Round, Error> {
        let name = self.kind.name();
        self.engine.load.open_all();
        let warm = window.mul_f64(0.2).max(Duration::from_millis(100));
        self.engine.run(name, Instant::now() + warm, |_| false)?;
        self.engine.load.start_counting();
        let (cpu, threads) = (self.proxy.cpu()?, self.proxy.threads()?);
        let start = Instant::now();
        self.engine.run(name, start + window, |_| false)?;
        let wall = start.elapsed();
        let cpu = self.proxy.cpu()?.saturating_sub(cpu);
        let busier = busier(&threads, &self.proxy.threads()?);
        let counted = self.engine.load.stop_counting();
        self.engine.load.close_all();
        let sample = Sample::new(wall, cpu, counted).ok_or_else(|| {
            let log = self.proxy.log();
            Error::Run(format!("{name} answered nothing; its log: {log}"))
        })?;
        Ok(Round { sample, busier })
    }
}

/// The share of the busier of the two threads that used most between two looks.
fn busier(before: &[(String, u64)], after: &[(String, u64)]) -> f64 {
    let before: HashMap<&str, u64> = before.iter().map(|(id, n)| (id.as_str(), *n)).collect();
    let used = after.iter().map(|(id, nanos)| {
        let before = before.get(id.as_str()).copied().unwrap_or_default();
        nanos.saturating_sub(before) as f64
    });
    let mut used: Vec<f64> = used.collect();
    used.sort_by(|a, b| b.total_cmp(a));
    let (most, next) = (used.first(), used.get(1));
    let (most, next) = (most.copied().unwrap_or(1.0), next.copied().unwrap_or(0.0));
    most / (most + next).max(1.0)
}

/// What came of all rounds with so many connections.
struct Row {
    connections: usize,
    /// By proxy: its name, requests per second, p99 in µs, and the share of the busier thread in the
    /// middle and at worst.
    proxies: Vec<(&'static str, [f64; 4])>,
}

impl Row {
    fn new(connections: usize, lanes: &[(Kind, Lane, Vec<Round>)]) -> Self {
        let of = |rounds: &[Round], figure: fn(&Round) -> f64| {
            median(rounds.iter().map(figure)).unwrap_or_default()
        };
        let proxies = lanes.iter().map(|(kind, _, rounds)| {
            let worst = rounds.iter().map(|round| round.busier).fold(0.0, f64::max);
            let figures = [
                of(rounds, |round| round.sample.rate),
                of(rounds, |round| round.sample.p99_us),
                of(rounds, |round| round.busier),
                worst,
            ];
            (kind.name(), figures)
        });
        Self {
            connections,
            proxies: proxies.collect(),
        }
    }

    fn text(&self) -> String {
        let mut text = format!(
            "{} connections kept alive, two threads\n{:>10} {:>10} {:>9} {:>14} {:>9}\n",
            self.connections, "", "requests/s", "p99 µs", "busier thread", "at worst"
        );
        for (name, [rate, p99, busier, worst]) in &self.proxies {
            let (busier, worst) = (busier * 100.0, worst * 100.0);
            text += &format!("{name:>10} {rate:>10.0} {p99:>9.0} {busier:>13.0}% {worst:>8.0}%\n");
        }
        text
    }

    fn json(&self) -> Value {
        let proxies = self.proxies.iter().map(|(name, [rate, p99, busier, worst])| {
            let figures = json!({
                "rate": rate, "p99_us": p99, "busier_thread": busier, "busier_thread_worst": worst,
            });
            ((*name).to_owned(), figures)
        });
        let proxies: serde_json::Map<String, Value> = proxies.collect();
        json!({ "connections": self.connections, "proxies": proxies })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busier_thread_is_found_whatever_ran_before() {
        let threads = |all: &[(&str, u64)]| -> Vec<(String, u64)> {
            all.iter().map(|(id, n)| ((*id).to_owned(), *n)).collect()
        };
        let before = threads(&[("1", 900), ("2", 100)]);
        let after = threads(&[("1", 1000), ("2", 400), ("3", 10)]);
        assert!((busier(&before, &after) - 0.75).abs() < 1e-9);
        assert!((busier(&before, &before) - 0.0).abs() < 1e-9);
    }
}
