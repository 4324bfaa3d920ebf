//! `plimsoll healthcheck`: 0 or 1, for the HEALTHCHECK of an image without a shell.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::Duration;

use clap::{Args, Parser};

use crate::cli::Cli;
use crate::daemon::place;
use crate::error::Error;
use crate::probe::Probe;

/// Ask whether a server is well: exit code 0 if it is, 1 if it is not.
///
/// Without URL it asks the plimsoll that is the first process of this container, whatever it does
/// there; elsewhere the daemon behind the admin socket, as `/healthz` does: well is one that
/// answers, also while an address cannot be listened on or no backend is ready.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  plimsoll healthcheck                           the daemon here
  plimsoll healthcheck http://localhost:8080/health
  HEALTHCHECK CMD [\"/plimsoll\", \"healthcheck\", \"http://localhost/health\"]")]
pub(crate) struct Healthcheck {
    /// Get this instead; well is an answer from 200 to 399
    #[arg(value_name = "URL", value_parser = url, conflicts_with_all = ["admin", "ready"])]
    url: Option<String>,
    #[command(flatten)]
    admin: crate::cli::Admin,
    /// Ask for /readyz: whether all that is wanted is in force, too
    #[arg(long)]
    ready: bool,
    /// How long to wait for the answer
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = patience)]
    timeout: Duration,
}

fn url(text: &str) -> Result<String, String> {
    Probe::url(text).map(|_| text.to_owned())
}

fn patience(text: &str) -> Result<Duration, String> {
    match crate::cli::duration(text)? {
        Duration::ZERO => Err("no answer comes in no time: expected a time from 1ms on".into()),
        patience => Ok(patience),
    }
}

impl Healthcheck {
    pub(crate) fn run(self) -> Result<(), Error> {
        let probe = self.probe()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|why| Error::Failed(format!("the runtime cannot be started: {why}")))?;
        let answer = runtime.block_on(probe.ask(self.timeout));
        // A look-up of a name that does not end holds nobody up.
        runtime.shutdown_background();
        match answer {
            Ok(status) if status.is_success() || status.is_redirection() => Ok(()),
            Ok(status) => Err(Error::Failed(format!("{}: {status}", probe.whom()))),
            Err(why) => Err(Error::Failed(format!("{}: {why}", probe.whom()))),
        }
    }

    fn probe(&self) -> Result<Probe, Error> {
        let target = if self.ready { "/readyz" } else { "/healthz" };
        match (&self.url, &self.admin.admin) {
            (Some(url), _) => Probe::url(url).map_err(Error::Usage),
            (None, Some(socket)) => Ok(Probe::unix(socket.clone(), target)),
            (None, None) => {
                let first = first_process().and_then(|cli| cli.command.probe(target));
                Ok(first.unwrap_or_else(|| Probe::unix(place::default(), target)))
            }
        }
    }
}

/// What the first process of this PID namespace was told, if it is a plimsoll, or an init with
/// one below it.
fn first_process() -> Option<Cli> {
    parse(&std::fs::read("/proc/1/cmdline").ok()?)
}

fn parse(cmdline: &[u8]) -> Option<Cli> {
    let words = cmdline.split(|byte| *byte == 0);
    let words: Vec<OsString> = words
        .map(|word| OsString::from_vec(word.to_vec()))
        .collect();
    let named = |word: &OsString| Path::new(word).file_name().is_some_and(|n| n == "plimsoll");
    let at = words.iter().position(named)?;
    // The last word ends with a NUL, too.
    let words = words.get(at..words.len().saturating_sub(1))?;
    Cli::try_parse_from(words).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_process_says_whom_to_ask() {
        let probe = |text: &str| parse(text.as_bytes())?.command.probe("/healthz");
        assert_eq!(
            probe("/plimsoll\0demo-server\0--listen\x000.0.0.0:81\0"),
            Probe::url("http://127.0.0.1:81/health").ok()
        );
        assert_eq!(
            probe("/sbin/docker-init\0--\0/plimsoll\0run\0--admin\0/a.sock\0"),
            Some(Probe::unix("/a.sock".into(), "/healthz"))
        );
        assert_eq!(probe("/sbin/init\0"), None);
        assert_eq!(probe("/plimsoll\0status\0"), None);
        assert_eq!(probe("/plimsoll\0nonsense\0"), None);
        assert_eq!(probe(""), None);
    }
}
