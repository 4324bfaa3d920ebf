//! Standard output. A reader that goes away early, as in `plimsoll status | head -1`, is no error.

use std::io::{self, IsTerminal, Write};

use crate::error::Error;

/// Writes a text to standard output.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Error::Gone,
        _ => Error::Failed(format!("standard output: {error}")),
    })
}

/// Writes a text to standard error, as well as it can be done.
pub(crate) fn warn(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Whether standard output is a terminal that knows escape codes.
pub(crate) fn is_terminal() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    io::stdout().is_terminal() && !dumb
}

/// Whether standard output may have colour: it can, and people do not mind (`NO_COLOR`).
pub(crate) fn has_colour() -> bool {
    let no = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    is_terminal() && !no
}

/// A value as pretty JSON with a newline.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).map_err(Error::failed)?;
    print(&(text + "\n"))
}
