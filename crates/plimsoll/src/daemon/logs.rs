//! Log lines.

use plimsoll_config::LogFormat;
use tracing_subscriber::EnvFilter;

use crate::error::Error;

/// From now on log lines go to standard error.
pub(crate) fn start(format: LogFormat, level: &str) -> Result<(), Error> {
    let filter = EnvFilter::try_new(level).map_err(|why| {
        Error::Usage(format!(
            "--log {level}: {why}; expected error, warn, info, debug or trace, or by part such as \
             info,plimsoll_control=debug"
        ))
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let started = match format {
        LogFormat::Text => builder.with_ansi(colour).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(Error::failed)
}
