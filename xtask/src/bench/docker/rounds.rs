//! The rows that are taken round by round.

use std::time::Instant;

use plimsoll_testkit::wait_until_async;

use super::rig::{Rig, SOON, WEB};
use crate::bench::Error;

/// Late ones listen so many milliseconds after they run.
const LATE: &str = "--wait 500";
/// Those that are told to stop go on for so many milliseconds.
const LINGER: &str = "--linger 1000";

/// The number of the container of a round: two that follow each other are not the same.
fn number(round: u32) -> u8 {
    u8::try_from(round % 100).unwrap_or_default() + 10
}

/// Milliseconds from one to the other; negative if they came the other way round.
fn apart(from: Instant, to: Instant) -> f64 {
    match to.checked_duration_since(from) {
        Some(after) => after.as_secs_f64() * 1e3,
        None => -(from.duration_since(to).as_secs_f64() * 1e3),
    }
}

/// Starts a container; milliseconds from its readiness to its first request through plimsoll.
async fn appear(rig: &Rig, round: u32, service: &str, args: &str) -> Result<f64, Error> {
    let name = format!("{service}-new");
    let at = rig.at(number(round))?;
    let ask = |to| {
        let host = format!("{service}.example");
        tokio::spawn(Rig::answered(rig.place(), to, host, name.clone()))
    };
    let (ready, served) = (ask(at), ask(WEB));
    rig.start(number(round), &name, service, args)?;
    let died = |_| Error::Run("a task of the bench ended".to_owned());
    let ready = ready.await.map_err(died)??;
    let served = served.await.map_err(died)??;
    rig.docker(&format!("rm -f {name}"))?;
    Ok(apart(ready, served))
}

/// A container that listens at once.
pub(super) async fn start(rig: &Rig, rounds: u32) -> Result<Vec<f64>, Error> {
    let mut times = Vec::new();
    for round in 0..rounds {
        times.push(appear(rig, round, &format!("start{round}"), "").await?);
    }
    Ok(times)
}

/// One that listens later.
pub(super) async fn late(rig: &Rig, rounds: u32) -> Result<Vec<f64>, Error> {
    let mut times = Vec::new();
    for round in 0..rounds {
        times.push(appear(rig, round, &format!("late{round}"), LATE).await?);
    }
    Ok(times)
}

/// One that listens later, beside another one of its service.
pub(super) async fn join(rig: &Rig, rounds: u32) -> Result<Vec<f64>, Error> {
    rig.start(1, "join-old", "join", "")?;
    let mut times = Vec::new();
    for round in 0..rounds {
        times.push(appear(rig, round, "join", LATE).await?);
    }
    rig.docker("rm -f join-old")?;
    Ok(times)
}

/// A container is told to stop; how long after its signal the last request came to it.
pub(super) async fn stop(rig: &Rig, rounds: u32) -> Result<Vec<f64>, Error> {
    rig.start(1, "stop-old", "stop", "")?;
    let load = rig.load("stop");
    let mut times = Vec::new();
    for round in 0..rounds {
        let name = format!("stop-{round}");
        rig.start(number(round), &name, "stop", LINGER)?;
        if !wait_until_async(SOON, || load.answered_by(&name) > 20).await {
            return Err(Error::Run(format!("{name} gets no requests")));
        }
        rig.docker(&format!("stop {name}"))?;
        let said = rig.docker(&format!("logs {name}"))?;
        times.push(last_request(&said)?);
        rig.docker(&format!("rm {name}"))?;
    }
    let report = load.stop().await;
    rig.docker("rm -f stop-old")?;
    // The first requests come before there is anybody.
    if report.answered == 0 {
        return Err(Error::Run(format!("no load: {report}")));
    }
    Ok(times)
}

/// Milliseconds in what an instance says at its end: `last request N µs after TERM`.
fn last_request(said: &str) -> Result<f64, Error> {
    let line = said.lines().find_map(|line| {
        let (number, side) = line.strip_prefix("last request ")?.split_once(" µs ")?;
        let micros: f64 = number.parse().ok()?;
        match side {
            "after TERM" => Some(micros / 1e3),
            "before TERM" => Some(0.0),
            _ => None,
        }
    });
    line.ok_or_else(|| Error::Run(format!("an instance says no last request: {said:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_instances_say_is_read() {
        let read = |said| last_request(said).ok();
        assert_eq!(read("x\nlast request 1500 µs after TERM\n"), Some(1.5));
        assert_eq!(read("last request 7 µs before TERM"), Some(0.0));
        for other in ["", "last request", "last request soon µs after TERM"] {
            assert_eq!(read(other), None);
        }
    }

    #[test]
    fn rounds_have_addresses_of_their_own() {
        assert_ne!(number(0), number(1));
        assert_eq!((number(99), number(100)), (109, 10));
    }
}
