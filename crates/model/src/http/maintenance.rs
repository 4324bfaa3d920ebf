//! Maintenance of a service or a route: clients are told to come back later.

use std::fmt;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use super::Page;
use crate::Invalid;

/// Requests are answered with 503.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Maintenance {
    /// Whether it is on now.
    pub on: bool,
    /// When clients may come back (`Retry-After`): whole seconds, 1 s..=[`Maintenance::MOST`].
    pub retry_after: Duration,
    /// Clients from these networks are served as if nothing were.
    pub except: Vec<IpNet>,
    /// What others are shown; none: as for any 503.
    pub page: Option<Page>,
}

impl Maintenance {
    /// The longest time after which clients come back: 30 days.
    pub const MOST: Duration = Duration::from_secs(30 * 24 * 3600);

    /// For everybody; clients may come back after a minute.
    pub fn new(on: bool) -> Self {
        Self {
            on,
            retry_after: Duration::from_secs(60),
            except: Vec::new(),
            page: None,
        }
    }

    /// Whether every value is in its range.
    ///
    /// # Errors
    /// The first that is not.
    pub fn validate(&self) -> Result<(), Invalid> {
        let after = self.retry_after;
        let fits = (Duration::from_secs(1)..=Self::MOST).contains(&after);
        if !fits || after.subsec_nanos() != 0 {
            return Err(Invalid(
                "maintenance: `retry-after` is 1s to 30d, in whole seconds".into(),
            ));
        }
        Ok(())
    }
}

impl fmt::Display for Maintenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = if self.on { "on" } else { "off" };
        write!(f, "{on}, retry after {} s", self.retry_after.as_secs())?;
        let except: Vec<String> = self.except.iter().map(ToString::to_string).collect();
        if !except.is_empty() {
            write!(f, ", except {}", except.join(", "))?;
        }
        match &self.page {
            Some(page) => write!(f, ", page {page}"),
            None => Ok(()),
        }
    }
}
