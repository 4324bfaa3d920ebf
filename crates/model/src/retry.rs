//! When requests and connections are tried again, and how often over all of them.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::Invalid;

/// What can end an attempt so that another may follow. A set of causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RetryOn(u16);

impl RetryOn {
    /// No connection: refused, unreachable, or not taken in time.
    pub const CONNECT_FAILURE: RetryOn = RetryOn(1);
    /// The connection ended before the head of a response.
    pub const RESET_BEFORE_RESPONSE: RetryOn = RetryOn(1 << 1);
    /// No head of a response in time.
    pub const RESPONSE_TIMEOUT: RetryOn = RetryOn(1 << 2);

    /// Every single cause by its name. Those of digits are statuses of responses, as in HAProxy's
    /// `retry-on`.
    pub const NAMES: [(&'static str, RetryOn); 12] = [
        ("connect-failure", Self::CONNECT_FAILURE),
        ("reset-before-response", Self::RESET_BEFORE_RESPONSE),
        ("response-timeout", Self::RESPONSE_TIMEOUT),
        ("404", RetryOn(1 << 3)),
        ("408", RetryOn(1 << 4)),
        ("425", RetryOn(1 << 5)),
        ("429", RetryOn(1 << 6)),
        ("500", RetryOn(1 << 7)),
        ("501", RetryOn(1 << 8)),
        ("502", RetryOn(1 << 9)),
        ("503", RetryOn(1 << 10)),
        ("504", RetryOn(1 << 11)),
    ];

    /// No cause at all.
    pub const fn none() -> Self {
        Self(0)
    }

    /// The cause that a response of this status is; none if it cannot be one.
    pub const fn status(status: u16) -> Self {
        Self(match status {
            404 => 1 << 3,
            408 => 1 << 4,
            425 => 1 << 5,
            429 => 1 << 6,
            500 => 1 << 7,
            501 => 1 << 8,
            502 => 1 << 9,
            503 => 1 << 10,
            504 => 1 << 11,
            _ => 0,
        })
    }

    /// The causes of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether any cause is in both.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The names of the causes in it.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let all = Self::NAMES.into_iter();
        all.filter(move |(_, cause)| self.has(*cause))
            .map(|(name, _)| name)
    }
}

impl Default for RetryOn {
    /// `connect-failure` and `reset-before-response`.
    fn default() -> Self {
        Self::CONNECT_FAILURE.and(Self::RESET_BEFORE_RESPONSE)
    }
}

impl fmt::Display for RetryOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.names().collect();
        f.write_str(&names.join(", "))
    }
}

impl Serialize for RetryOn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names())
    }
}

/// When a request (HTTP) or connection (TCP) is tried again. How often one of them is:
/// [`crate::ServiceSpec::retries`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Retry {
    /// After what.
    pub on: RetryOn,
    /// Retries over all requests of the last ten seconds, in percent of these, 0..=[`Retry::MAX_BUDGET`].
    pub budget: u32,
    /// Retries that are allowed whatever the budget says, per second in the mean of ten.
    pub floor: u32,
}

impl Retry {
    /// The greatest budget, in percent.
    pub const MAX_BUDGET: u32 = 1000;

    /// A budget such as `20%`, in percent.
    ///
    /// # Errors
    /// It is not one, or above [`Retry::MAX_BUDGET`].
    pub fn parse_budget(text: &str) -> Result<u32, Invalid> {
        let digits = text.strip_suffix('%');
        let digits = digits.filter(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()));
        let budget = digits.and_then(|digits| digits.parse().ok());
        budget
            .filter(|budget| *budget <= Self::MAX_BUDGET)
            .ok_or_else(|| {
                let most = Self::MAX_BUDGET;
                Invalid(format!(
                    "{text:?} is no such percentage; expected 0% to {most}% of the requests"
                ))
            })
    }

    /// Whether the values are in their ranges.
    ///
    /// # Errors
    /// The one that is not.
    pub fn validate(&self) -> Result<(), Invalid> {
        if self.budget > Self::MAX_BUDGET {
            return Err(Invalid(format!(
                "a budget of {}% for retries is above the greatest, {}%",
                self.budget,
                Self::MAX_BUDGET
            )));
        }
        Ok(())
    }
}

impl Default for Retry {
    /// 20 % of the requests, and 10 a second in any case.
    fn default() -> Self {
        Self {
            on: RetryOn::default(),
            budget: 20,
            floor: 10,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_statuses_and_causes_are_the_same() {
        let mut all = RetryOn::none();
        for (name, cause) in RetryOn::NAMES {
            assert!(!all.has(cause), "{name} is another's");
            all = all.and(cause);
            assert_eq!(cause.to_string(), name);
            if let Ok(status) = name.parse() {
                assert_eq!(RetryOn::status(status), cause);
            }
        }
        assert_eq!(RetryOn::status(418), RetryOn::none());
        assert_eq!(all.names().count(), RetryOn::NAMES.len());
    }
}
