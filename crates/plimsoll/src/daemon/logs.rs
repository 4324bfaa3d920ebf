//! Log lines.

use std::io::{self, IsTerminal};

use plimsoll_config::LogFormat;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

use crate::error::Error;

/// From now on log lines go to standard error.
pub(crate) fn start(format: LogFormat, level: &str) -> Result<(), Error> {
    let filter = targets(level).ok_or_else(|| {
        Error::Usage(format!(
            "--log {level}: expected off, error, warn, info, debug or trace, or by part such as \
             info,plimsoll_control=debug"
        ))
    })?;
    let lines = fmt::layer().with_writer(io::stderr).with_target(false);
    let started = match format {
        LogFormat::Text => {
            let lines = lines.with_ansi(io::stderr().is_terminal());
            tracing_subscriber::registry()
                .with(lines.with_filter(filter))
                .try_init()
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(false);
            tracing_subscriber::registry()
                .with(lines.with_filter(filter))
                .try_init()
        }
    };
    started.map_err(Error::failed)
}

/// A single word that is no level would be a part whose lines are all wanted: a slip.
fn targets(text: &str) -> Option<Targets> {
    let level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    let known = |word: &str| word.contains('=') || level(word);
    text.split(',').all(known).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_refused() {
        for good in ["info", "debug,plimsoll_control=trace", "off"] {
            assert!(targets(good).is_some(), "{good}");
        }
        for bad in ["loud", "infoo,plimsoll=debug", "plimsoll=loud", ""] {
            assert!(targets(bad).is_none(), "{bad}");
        }
    }
}
