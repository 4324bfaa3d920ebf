//! Putting backends out by what traffic shows.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::Invalid;

/// What counts as an error of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OutlierErrors {
    /// Connections that fail, and those that end or stay silent before an answer.
    Connect,
    /// These, and answers with 502, 503 or 504.
    Gateway,
    /// These, and answers with any status of 500 and above.
    #[serde(rename = "5xx")]
    Server,
}

impl OutlierErrors {
    /// Every kind by its name.
    pub const NAMES: [(&'static str, OutlierErrors); 3] = [
        ("connect", OutlierErrors::Connect),
        ("gateway", OutlierErrors::Gateway),
        ("5xx", OutlierErrors::Server),
    ];

    /// The name.
    pub fn as_str(self) -> &'static str {
        let mut names = Self::NAMES.iter();
        let found = names.find(|(_, errors)| *errors == self);
        found.map_or("", |(name, _)| name)
    }

    /// Whether an answer of this status is an error.
    pub fn has(self, status: u16) -> bool {
        match self {
            OutlierErrors::Connect => false,
            OutlierErrors::Gateway => (502..=504).contains(&status),
            OutlierErrors::Server => status >= 500,
        }
    }
}

impl fmt::Display for OutlierErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// When a backend is put out after errors in traffic. Without it one that cannot be connected to is
/// out at once, and one that resets after three times in a row, for a second at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Outlier {
    /// So many errors in a row, in 1..=[`Outlier::MAX_CONSECUTIVE`].
    pub consecutive: u32,
    /// What counts as one.
    pub errors: OutlierErrors,
    /// How long the first time, 100 ms to an hour; each further one in succession is twice as long, up to
    /// ten times this, or a minute if that is longer.
    pub time: Duration,
    /// At most so many of the backends are out at the same time, in percent, 1..=100. One may always
    /// be, and the last never.
    pub max_percent: u8,
}

impl Outlier {
    /// The most errors in a row.
    pub const MAX_CONSECUTIVE: u32 = 1_000_000;
    /// The shortest first time.
    pub const LEAST: Duration = Duration::from_millis(100);
    /// The longest first time.
    pub const MOST: Duration = Duration::from_secs(3600);

    /// Five of these in a row, for 30 s, up to half of the backends.
    pub fn new(errors: OutlierErrors) -> Self {
        Self {
            consecutive: 5,
            errors,
            time: Duration::from_secs(30),
            max_percent: 50,
        }
    }

    /// Whether every value is in its range.
    ///
    /// # Errors
    /// The first that is not.
    pub fn validate(&self) -> Result<(), Invalid> {
        let bad = |what: &str| Err(Invalid(format!("outlier: {what}")));
        if !(1..=Self::MAX_CONSECUTIVE).contains(&self.consecutive) {
            return bad("`consecutive` is 1 to 1000000");
        }
        if !(Self::LEAST..=Self::MOST).contains(&self.time) {
            return bad("`time` is 100ms to 1h");
        }
        if !(1..=100).contains(&self.max_percent) {
            return bad("`max-percent` is 1 to 100");
        }
        Ok(())
    }
}
