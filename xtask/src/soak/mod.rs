//! `cargo xtask soak`: churn for a long time, and nothing may grow.
//!
//! One daemon on loopback; clients of all kinds, good and bad; backends that come, go and are killed;
//! files, commands and signals that change everything all the time. Meanwhile its memory, descriptors,
//! threads and tables are sampled. What the last third of the time shows must be what the first third
//! after the warm-up showed, no request may fail but those at backends that are killed, and in the end,
//! when everybody has left, nothing may be held any more.

mod churn;
mod nuisance;
mod sample;
mod traffic;
mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use plimsoll_testkit::Error;

use self::churn::Churn;
use self::nuisance::Nuisances;
use self::sample::{Sample, Trend};
use self::traffic::Traffic;
use self::world::World;

/// Samples of a whole run.
const SAMPLES: u32 = 240;

/// The part of the time that is warm-up, at most five minutes.
const WARM_UP: f64 = 0.15;

/// When all have left, everything has to be given back within this.
const REST: Duration = Duration::from_secs(60);

/// The options of `cargo xtask soak`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// For how long.
    #[arg(long, value_name = "N", default_value = "60", value_parser = minutes)]
    minutes: f64,
    /// Soak this plimsoll [default: target/release/plimsoll].
    #[arg(long, value_name = "PATH")]
    ours: Option<PathBuf>,
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.5..=10_000.0).contains(&value) => Ok(value),
        _ => Err("a number from 0.5 to 10000 is expected".to_owned()),
    }
}

/// Runs the soak: exit code 0 if nothing grew and nothing was lost, 1 if something did, 2 if it could
/// not be run.
pub(crate) fn run(args: &Args) -> ExitCode {
    crate::bench::raise_file_limit();
    let built = || crate::bench::target_folder().join("release/plimsoll");
    let ours = args.ours.clone().unwrap_or_else(built);
    if !ours.is_file() {
        eprintln!(
            "soak: there is no {} (cargo build --release)",
            ours.display()
        );
        return ExitCode::from(2);
    }
    let length = Duration::from_secs_f64(args.minutes * 60.0);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(soak(&ours, length)),
        Err(error) => Err(Error::Failed(error.to_string())),
    };
    match done {
        Ok(faults) if faults.is_empty() => {
            println!("nothing grew, and nothing was lost");
            ExitCode::SUCCESS
        }
        Ok(faults) => {
            for fault in faults {
                println!("FAILED: {fault}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::from(2)
        }
    }
}

/// What was found.
async fn soak(ours: &Path, length: Duration) -> Result<Vec<String>, Error> {
    let mut world = World::start(ours).await?;
    let empty = Sample::take(&world, Duration::ZERO, 0).await?;
    let traffic = Traffic::start(&world).await?;
    let nuisances = Nuisances::start(&world);
    let mut churn = Churn::default();
    let warm = length.mul_f64(WARM_UP).min(Duration::from_secs(300));
    let step = length / SAMPLES;
    let (start, mut next) = (Instant::now(), step);
    let mut samples = Vec::new();
    println!("{}", Sample::HEAD);
    println!("{empty}");
    while start.elapsed() < length {
        churn.step(&mut world).await?;
        if start.elapsed() < next {
            continue;
        }
        next = start.elapsed() + step;
        let sample = Sample::take(&world, start.elapsed(), traffic.answered()).await?;
        if samples.len() % 10 == 9 {
            println!("{sample}");
        }
        samples.push(sample);
    }
    println!("{churn}");
    let mut faults = traffic.stop().await;
    faults.extend(nuisances.stop().await);
    faults.extend(churn.faults());
    samples.retain(|sample| sample.at >= warm);
    println!(
        "\nafter a warm-up of {} s:\n{}",
        warm.as_secs(),
        Trend::HEAD
    );
    for trend in Trend::of_all(&samples) {
        println!("{trend}");
        faults.extend(trend.fault());
    }
    faults.extend(rest(&mut world, &empty).await?);
    faults.extend(world.faults().await?);
    Ok(faults)
}

/// Waits until everything is given back, and says what is not.
async fn rest(world: &mut World, empty: &Sample) -> Result<Vec<String>, Error> {
    world.reset().await?;
    let until = Instant::now() + REST;
    loop {
        let sample = Sample::take(world, Duration::ZERO, 0).await?;
        let held = sample.held_beyond(empty);
        if held.is_empty() || Instant::now() > until {
            println!("\nat the end, without clients:\n{}\n{sample}", Sample::HEAD);
            return Ok(held);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
