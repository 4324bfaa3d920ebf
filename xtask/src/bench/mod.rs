//! `cargo xtask bench docker`, `fairness`, `director` and `packets` are described in [`docker`],
//! [`fairness`], [`director`] and [`packets`].
//! `cargo xtask bench http|tcp|udp`: CPU time per request of the proxy process, throughput and
//! latencies, beside HAProxy and nginx.
//!
//! Each proxy has one core to itself; the load and the backends share another. Rounds are short and
//! interleaved (plimsoll, HAProxy, nginx, plimsoll, …), so that whatever else the machine does
//! meanwhile falls on all of them alike; what counts is the median of the ratios within a round.
//! The peers run with nothing but what forwarding needs (no header added, no log), plimsoll as it
//! always is.

mod backend;
mod configs;
mod director;
mod docker;
mod engine;
mod fairness;
mod lane;
mod load;
mod measure;
mod packets;
mod proxies;
mod report;
mod rows;
mod scale;
mod udp;

pub(crate) use measure::{median, raise_file_limit, rss_kib};
pub(crate) use proxies::target_folder;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use lane::Lane;
use load::Reuse;
use measure::Cores;
use proxies::{Kind, Paths};
use report::{Outcome, Report, RowReport};
use rows::{Measured, ROWS, Row};
use serde_json::Value;

/// The options of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to measure.
    #[arg(value_enum)]
    what: What,
    /// Print the figures as JSON, and nothing else, on standard output.
    #[arg(long)]
    json: bool,
    /// A rough look: 3 rounds of half a second, 500 idle connections; docker: 5 rounds.
    #[arg(long)]
    quick: bool,
    /// Measure only this row. May be given more than once.
    #[arg(long, value_name = "ROW")]
    only: Vec<String>,
    /// http, tcp, udp: seconds per round and proxy [default: 2].
    #[arg(long, value_name = "N", value_parser = seconds)]
    seconds: Option<f64>,
    /// Rounds per row [default: 7; docker: 20].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Measure this plimsoll [default: target/release/plimsoll].
    #[arg(long, value_name = "PATH")]
    ours: Option<PathBuf>,
    /// http, tcp: record one more round of plimsoll with `perf record -g`, and say where it lies.
    #[arg(long)]
    profile: bool,
}

/// Reads a duration of a round.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.1..=600.0).contains(&value) => Ok(value),
        _ => Err("a number from 0.1 to 600 is expected".to_owned()),
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// HTTP/1.1 requests, beside HAProxy and nginx.
    Http,
    /// TCP connections that exchange as many bytes as they send, beside HAProxy and nginx.
    Tcp,
    /// Datagrams, beside nginx.
    Udp,
    /// How evenly few connections are spread over two threads, beside HAProxy.
    Fairness,
    /// Nanoseconds per packet of the director's programs. Needs root.
    Director,
    /// Traffic through a director between namespaces, beside plain routing and nftables' DNAT. Needs root.
    Packets,
    /// How soon containers are followed, and what many of them cost. Needs root and dockerd.
    Docker,
}

/// The kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// HTTP/1.1 requests.
    Http,
    /// TCP connections that exchange as many bytes as they send.
    Tcp,
    /// Datagrams.
    Udp,
}

impl Mode {
    /// The name on the command line and in listens.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The machine or the command line does not allow it; exit code 2.
    #[error("{0}")]
    Setup(String),
    /// It went wrong on the way; exit code 1.
    #[error("{0}")]
    Run(String),
    /// The system refused something; exit code 1.
    #[error("{0}: {1}")]
    Io(&'static str, #[source] std::io::Error),
}

/// Runs the bench. Figures that miss their target do not make it fail: it measures, it does not
/// judge.
pub(crate) fn run(args: &Args) -> ExitCode {
    let done = match args.what {
        What::Http => try_run(args, Mode::Http),
        What::Tcp => try_run(args, Mode::Tcp),
        What::Udp => try_run(args, Mode::Udp),
        What::Fairness => fairness::run(args),
        What::Director => director::run(args),
        What::Packets => packets::run(args),
        What::Docker => docker::run(args),
    };
    match done {
        Ok(figures) => {
            if args.json {
                println!("{figures:#}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::from(if matches!(error, Error::Setup(_)) {
                2
            } else {
                1
            })
        }
    }
}

fn try_run(args: &Args, mode: Mode) -> Result<Value, Error> {
    let rows: Vec<&Row> = ROWS
        .iter()
        .filter(|row| row.mode == mode)
        .filter(|row| args.only.is_empty() || args.only.iter().any(|name| name == row.name))
        .collect();
    if let Some(unknown) = args
        .only
        .iter()
        .find(|name| !rows.iter().any(|row| row.name == name.as_str()))
    {
        let known: Vec<&str> = ROWS
            .iter()
            .filter(|row| row.mode == mode)
            .map(|row| row.name)
            .collect();
        return Err(Error::Setup(format!(
            "no row `{unknown}` in {}; there are {}",
            mode.name(),
            known.join(", ")
        )));
    }
    let bench = Bench::new(args, mode)?;
    let mut report = Report::new(mode, bench.rounds, bench.window, &bench.paths);
    for note in &bench.notes {
        report.note(args.json, note);
    }
    for row in rows {
        let done = match row.measured {
            Measured::Load(reuse) => bench.load_row(row, reuse)?,
            Measured::IdleMemory => bench.memory_row(row)?,
            Measured::Datagrams(exchange) => bench.udp_row(row, exchange)?,
        };
        if !args.json {
            print!("{done}");
        }
        report.rows.push(done);
    }
    Ok(report.json())
}

/// What is the same for all rows.
struct Bench<'a> {
    args: &'a Args,
    paths: Paths,
    kinds: Vec<Kind>,
    cores: Cores,
    rounds: u32,
    window: Duration,
    notes: Vec<String>,
}

impl<'a> Bench<'a> {
    fn new(args: &'a Args, mode: Mode) -> Result<Self, Error> {
        let paths = Paths::find(mode, args.ours.as_deref())?;
        let cores = Cores::pick()?;
        measure::raise_file_limit();
        let mut notes = Vec::new();
        let mut kinds = Vec::new();
        match paths.missing_ours() {
            Some(why) => notes.push(format!("plimsoll is left out: {why}")),
            None => kinds.push(Kind::Plimsoll),
        }
        // HAProxy forwards no datagrams but those of logs.
        if mode != Mode::Udp {
            kinds.push(Kind::Haproxy);
        }
        match paths.missing_nginx(mode) {
            Some(why) => notes.push(format!("nginx is left out: {why}")),
            None => kinds.push(Kind::Nginx),
        }
        if cores.shared() {
            notes.push(
                "only one core may be used: the load and the proxy share it, latencies mean little"
                    .to_owned(),
            );
        }
        let (rounds, window) = if args.quick { (3, 0.5) } else { (7, 2.0) };
        Ok(Self {
            args,
            paths,
            kinds,
            cores,
            rounds: args.rounds.unwrap_or(rounds),
            window: Duration::from_secs_f64(args.seconds.unwrap_or(window)),
            notes,
        })
    }

    fn load_row(&self, row: &Row, reuse: Reuse) -> Result<RowReport, Error> {
        let mut notes = Vec::new();
        let mut lanes = Vec::new();
        for &kind in &self.kinds {
            let lane = Lane::start(kind, row, reuse, &self.paths, self.cores);
            lanes.extend(unless_ours(kind, lane, &mut notes)?);
        }
        for round in 1..=self.rounds {
            progress(&format!("{}: round {round} of {}", row.name, self.rounds));
            let mut failed = None;
            for lane in &mut lanes {
                match unless_ours(lane.kind, lane.round(self.window), &mut notes)? {
                    Some(sample) => lane.rounds.push(sample),
                    None => failed = Some(lane.kind),
                }
            }
            lanes.retain(|lane| Some(lane.kind) != failed);
        }
        progress("");
        if self.args.profile {
            self.profile(row, &mut lanes)?;
        }
        let outcomes = Kind::ALL.map(|kind| {
            let lane = lanes.iter_mut().find(|lane| lane.kind == kind)?;
            Some(Outcome::Load(std::mem::take(&mut lane.rounds)))
        });
        Ok(RowReport::new(row, row.describe(), outcomes, notes))
    }

    fn udp_row(&self, row: &Row, exchange: udp::Exchange) -> Result<RowReport, Error> {
        let mut notes = Vec::new();
        let mut lanes = Vec::new();
        for &kind in &self.kinds {
            let lane = udp::Lane::start(kind, row, exchange, &self.paths, self.cores);
            lanes.extend(unless_ours(kind, lane, &mut notes)?);
        }
        for round in 1..=self.rounds {
            progress(&format!("{}: round {round} of {}", row.name, self.rounds));
            for lane in &mut lanes {
                let sample = lane.round(self.window)?;
                lane.rounds.push(sample);
            }
        }
        progress("");
        let outcomes = Kind::ALL.map(|kind| {
            let lane = lanes.iter_mut().find(|lane| lane.kind == kind)?;
            Some(Outcome::Load(std::mem::take(&mut lane.rounds)))
        });
        Ok(RowReport::new(row, row.describe(), outcomes, notes))
    }

    /// One more round of plimsoll, recorded.
    fn profile(&self, row: &Row, lanes: &mut [Lane]) -> Result<(), Error> {
        let Some(lane) = lanes.iter_mut().find(|lane| lane.kind == Kind::Plimsoll) else {
            eprintln!("bench: nothing to profile: plimsoll does not run");
            return Ok(());
        };
        let window = self.window.max(Duration::from_secs(2));
        let recording = lane.proxy.record(&self.paths, row.mode, row.name, window)?;
        lane.round(window)?;
        eprintln!("{}", recording.finish()?);
        Ok(())
    }

    fn memory_row(&self, row: &Row) -> Result<RowReport, Error> {
        let idle = if self.args.quick { 500 } else { 2000 };
        let mut notes = Vec::new();
        let mut outcomes = [None, None, None];
        for (kind, outcome) in Kind::ALL.into_iter().zip(&mut outcomes) {
            if self.kinds.contains(&kind) {
                progress(&format!("{}: {}", row.name, kind.name()));
                let memory = Lane::start(kind, row, Reuse::Once, &self.paths, self.cores)
                    .and_then(|mut lane| lane.memory(idle));
                *outcome = unless_ours(kind, memory, &mut notes)?.map(Outcome::Memory);
            }
        }
        progress("");
        let about = format!("{idle} idle connections that have each done one request");
        Ok(RowReport::new(row, about, outcomes, notes))
    }
}

/// Shows on one line of the terminal what is going on.
fn progress(text: &str) {
    let mut terminal = std::io::stderr();
    if terminal.is_terminal() {
        // A progress line that cannot be shown is no reason to stop.
        let _shown = write!(terminal, "\r\x1b[K{text}").and_then(|()| terminal.flush());
    }
}

/// A peer that fails ends the bench. Plimsoll may fail: then it is left out of the row, with a note
/// that says why.
fn unless_ours<T>(
    kind: Kind,
    result: Result<T, Error>,
    notes: &mut Vec<String>,
) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if kind == Kind::Plimsoll => {
            notes.push(format!("plimsoll is left out: {error}"));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
