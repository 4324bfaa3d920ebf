//! The demo: instances and load on a thread of their own, and a balancer in front.

pub(crate) mod dr;
mod instance;
mod keys;
mod live;
mod load;
mod plain;
pub(crate) mod site;
mod terminal;
mod view;
mod world;

pub(crate) use plain::run;

use live::{Play, Stop};

use crate::error::Error;

const NAMES: [&str; 9] = [
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
];

/// Sends requests and prints who answered.
async fn counted(play: &mut impl Play, requests: u64, stop: &mut Stop) -> Result<(), Error> {
    let (load, world) = play.load();
    let load = load.clone();
    let mut work = load::send(&load, requests, world);
    loop {
        tokio::select! {
            () = play.turn() => {}
            () = &mut work => break,
            () = stop.wait() => break,
        }
    }
    let tally = load.tally();
    let shown = crate::out::print(&view::table(&tally, &play.figures()));
    let failed = tally.failed + (requests - (tally.answered() + tally.failed).min(requests));
    match failed {
        // That nobody reads the table makes no request answered.
        0 => shown,
        n => {
            let why = tally.why.unwrap_or_else(|| "not sent: told to stop".into());
            Err(Error::Failed(format!(
                "{n} of {requests} requests were not answered: {why}"
            )))
        }
    }
}
