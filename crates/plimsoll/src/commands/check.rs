//! `plimsoll check`: is a configuration valid?

use std::path::PathBuf;

use clap::Args;
use plimsoll_config::{Config, Diagnostic};
use serde::Serialize;

use crate::error::Error;
use crate::out;
use crate::table::count;
use crate::vetted::Vetted;

/// Say whether configuration files are valid, and if not, where and why.
///
/// What `check` accepts, `run` accepts, too. What is valid but cannot be carried by this build, and
/// would be put aside by `run`, is a warning; so is a service that is its own backend. Exit code 0: all are valid; 2: one is not.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  plimsoll check /etc/plimsoll/plimsoll.toml
  plimsoll check --json *.toml | jq '.[].errors'")]
pub(crate) struct Check {
    /// Configuration files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Exit with 2 for warnings, too
    #[arg(long)]
    strict: bool,
}

#[derive(Serialize)]
struct Found {
    file: String,
    valid: bool,
    errors: Vec<Fault>,
    /// What is valid, and would be put aside or cannot be meant.
    warnings: Vec<Fault>,
}

#[derive(Serialize)]
struct Fault {
    line: usize,
    column: usize,
    key: String,
    message: String,
    expected: String,
    nearest: Option<String>,
}

impl From<&Diagnostic> for Fault {
    fn from(diagnostic: &Diagnostic) -> Self {
        Self {
            line: diagnostic.line,
            column: diagnostic.column,
            key: diagnostic.key.clone(),
            message: diagnostic.message.clone(),
            expected: diagnostic.expected.clone(),
            nearest: diagnostic.nearest.clone(),
        }
    }
}

impl Fault {
    /// A file that cannot be read.
    fn unreadable(why: &Error) -> Self {
        Self {
            line: 1,
            column: 1,
            key: String::new(),
            message: why.to_string(),
            expected: "a file that can be read".into(),
            nearest: None,
        }
    }
}

impl Check {
    pub(crate) fn run(self) -> Result<(), Error> {
        let mut found = Vec::new();
        let mut told = String::new();
        let mut shown = Ok(());
        for path in &self.files {
            let vetted = match Vetted::read(path) {
                Ok(vetted) => vetted,
                Err(why) => {
                    told.push_str(&why.report());
                    found.push(Found {
                        file: path.display().to_string(),
                        valid: false,
                        errors: vec![Fault::unreadable(&why)],
                        warnings: Vec::new(),
                    });
                    continue;
                }
            };
            told.push_str(&vetted.warned());
            match vetted.config() {
                Ok(config) if !self.json && shown.is_ok() => {
                    shown = out::print(&valid(vetted.file(), config));
                }
                Ok(_) => {}
                Err(why) => told.push_str(&why.report()),
            }
            found.push(Found {
                file: vetted.file().to_owned(),
                valid: vetted.faults().is_empty(),
                errors: vetted.faults().iter().map(Fault::from).collect(),
                warnings: vetted.warnings().iter().map(Fault::from).collect(),
            });
        }
        let warned = found.iter().any(|found| !found.warnings.is_empty());
        let valid = found.iter().all(|found| found.valid) && !(self.strict && warned);
        if self.json {
            shown = out::json(&found);
            told.clear();
        }
        // That nobody reads it makes nothing valid.
        match valid {
            true => {
                out::warn(&told);
                shown
            }
            false => Err(Error::Invalid(told)),
        }
    }
}

fn valid(file: &str, config: &Config) -> String {
    let backends: usize = config.services.iter().map(|s| s.backends.len()).sum();
    format!(
        "{file}: valid: {}, {}, {}\n",
        count(config.services.len() as u64, "service", "services"),
        count(backends as u64, "backend", "backends"),
        count(config.routes.len() as u64, "route", "routes"),
    )
}
