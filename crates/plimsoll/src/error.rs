//! The one report of what went wrong.

use std::process::ExitCode;

/// Why a command failed. The text names the file, option or address and says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It was asked for something that does not make sense, or of an invalid file: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Several lines that are shown as they are: exit code 2.
    #[error("{0}")]
    Invalid(String),
    /// It could not be done: exit code 1.
    #[error("{0}")]
    Failed(String),
    /// Whoever read standard output is gone: no error, exit code 0.
    #[error("nobody reads standard output")]
    Gone,
}

impl Error {
    pub(crate) fn failed(text: impl ToString) -> Self {
        Self::Failed(text.to_string())
    }

    /// The exit code.
    pub(crate) fn code(&self) -> ExitCode {
        match self {
            Error::Usage(_) | Error::Invalid(_) => ExitCode::from(2),
            Error::Failed(_) => ExitCode::from(1),
            Error::Gone => ExitCode::SUCCESS,
        }
    }

    /// What is written to standard error, with its last newline.
    pub(crate) fn report(&self) -> String {
        match self {
            Error::Usage(text) | Error::Failed(text) => format!("plimsoll: {}\n", text.trim_end()),
            Error::Invalid(text) if text.is_empty() => String::new(),
            Error::Invalid(text) => format!("{}\n", text.trim_end()),
            Error::Gone => String::new(),
        }
    }
}

impl From<plimsoll_admin::ClientError> for Error {
    fn from(error: plimsoll_admin::ClientError) -> Self {
        Self::failed(error)
    }
}
