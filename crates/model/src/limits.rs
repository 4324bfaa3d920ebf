//! How much of a service its clients may have: in all, and each of them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::{Invalid, Listen, Proto};

/// So many in a time, in the long run; `burst` at once. A token bucket, as in Traefik: `burst` tokens
/// to begin with, `count` more in every `period`, and never more than `burst`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// How many, 1 to [`Rate::MAX`].
    pub count: u32,
    /// In which time.
    pub period: Period,
    /// How many at once, 1 to [`Rate::MAX`].
    pub burst: u32,
}

/// The time that a rate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    /// 1 s.
    Second,
    /// 60 s.
    Minute,
    /// 3600 s.
    Hour,
}

impl Period {
    /// Every period by its letter.
    pub const NAMES: [(&'static str, Period); 3] = [
        ("s", Period::Second),
        ("m", Period::Minute),
        ("h", Period::Hour),
    ];

    /// How long it is.
    pub fn length(self) -> Duration {
        Duration::from_secs(match self {
            Period::Second => 1,
            Period::Minute => 60,
            Period::Hour => 3600,
        })
    }
}

impl Rate {
    /// The greatest count, and the greatest burst.
    pub const MAX: u32 = 1_000_000_000;

    fn validate(&self) -> Result<(), Invalid> {
        let fits = |n: u32| (1..=Self::MAX).contains(&n);
        match fits(self.count) && fits(self.burst) {
            true => Ok(()),
            false => Err(Invalid(format!(
                "rate {self}: it and its burst are 1 to {}",
                Self::MAX
            ))),
        }
    }
}

impl fmt::Display for Rate {
    /// Without the burst.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = Period::NAMES.iter();
        let name = names.find(|(_, period)| *period == self.period);
        write!(f, "{}/{}", self.count, name.map_or("", |(name, _)| name))
    }
}

impl FromStr for Rate {
    type Err = Invalid;

    /// `100/s`, `30/m` or `1000/h`, with as many at once.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let read = || {
            let (count, period) = text.split_once('/')?;
            let digits = count.bytes().all(|b| b.is_ascii_digit());
            let count = count.parse().ok().filter(|_| digits)?;
            let mut names = Period::NAMES.iter();
            let (_, period) = names.find(|(name, _)| *name == period)?;
            Some(Rate {
                count,
                period: *period,
                burst: count,
            })
        };
        let rate = read().ok_or_else(|| {
            Invalid(format!(
                "{text:?} is no rate; expected a number and a time, such as 100/s, 30/m or 1000/h"
            ))
        })?;
        rate.validate()?;
        Ok(rate)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{self}, burst {}", self.burst))
    }
}

/// How much somebody may have. Zero and none are no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Quota {
    /// Connections of clients at once.
    pub connections: u32,
    /// New connections.
    pub connection_rate: Option<Rate>,
    /// HTTP requests in flight at once, those that wait for a backend and tunnels among them.
    pub requests: u32,
    /// New HTTP requests.
    pub request_rate: Option<Rate>,
}

impl Quota {
    fn limits_connections(&self) -> bool {
        self.connections > 0 || self.connection_rate.is_some()
    }

    fn limits_requests(&self) -> bool {
        self.requests > 0 || self.request_rate.is_some()
    }
}

/// How much of a service its clients may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Limits {
    /// All of them together.
    pub total: Quota,
    /// Each source by itself.
    pub per_source: Quota,
    /// Clients that share this many leading bits of their IPv4 address are one source, 1..=32.
    pub prefix_v4: u8,
    /// The same for IPv6, 1..=128.
    pub prefix_v6: u8,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            total: Quota::default(),
            per_source: Quota::default(),
            prefix_v4: 32,
            // What one IPv6 host commonly has for itself.
            prefix_v6: 64,
        }
    }
}

impl Limits {
    /// Whether connections are limited.
    pub fn of_connections(&self) -> bool {
        self.total.limits_connections() || self.per_source.limits_connections()
    }

    /// Whether HTTP requests are limited.
    pub fn of_requests(&self) -> bool {
        self.total.limits_requests() || self.per_source.limits_requests()
    }

    /// Whether the values are in their ranges, and mean something for a service with these listens.
    ///
    /// # Errors
    /// The first that does not.
    pub fn validate(&self, listens: &[Listen]) -> Result<(), Invalid> {
        let bad = |why: &str| Err(Invalid(format!("limits: {why}")));
        if !(1..=32).contains(&self.prefix_v4) || !(1..=128).contains(&self.prefix_v6) {
            return bad("prefixes are 1 to 32 (IPv4) and 1 to 128 (IPv6)");
        }
        for quota in [&self.total, &self.per_source] {
            let rates = [quota.connection_rate, quota.request_rate];
            rates.iter().flatten().try_for_each(Rate::validate)?;
        }
        let of = |listen: &Listen, wanted: Proto| match listen {
            Listen::Socket { proto, .. } => proto.transport() == wanted,
            Listen::Mark { .. } => false,
        };
        if self.of_connections() && !listens.iter().any(|listen| of(listen, Proto::Tcp)) {
            return bad(
                "connections are counted where they are accepted, and the service has no tcp or \
                 http listen: limit requests, or for udp say `sessions`",
            );
        }
        if self.of_requests() && !listens.is_empty() && !listens.iter().any(Listen::is_http) {
            return bad("requests are of http, and the service has no http listen");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_as_text_and_back() {
        for (text, per_hour) in [("100/s", 360_000), ("30/m", 1800), ("7/h", 7)] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(rate.to_string(), text);
            assert_eq!(rate.burst, rate.count);
            let hour = 3600 / rate.period.length().as_secs();
            assert_eq!(u64::from(rate.count) * hour, per_hour);
        }
        for text in [
            "",
            "100",
            "100/",
            "/s",
            "0/s",
            "-1/s",
            "+1/s",
            "1/d",
            "1 /s",
            "9999999999/s",
        ] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
        let error = "5000000000/s".parse::<Rate>().unwrap_err().0;
        assert!(error.contains("no rate"), "{error}");
        assert!(
            "2000000000/s"
                .parse::<Rate>()
                .unwrap_err()
                .0
                .contains("1 to 1000000000")
        );
    }

    #[test]
    fn limits_have_to_mean_something_for_the_listens() {
        let check = |limits: &Limits, listens: &[&str]| {
            let listens: Vec<Listen> = listens.iter().map(|l| l.parse().unwrap()).collect();
            limits.validate(&listens).map_err(|error| error.0)
        };
        let mut limits = Limits::default();
        limits.per_source.request_rate = Some("5/s".parse().unwrap());
        assert_eq!(check(&limits, &[]), Ok(()));
        assert_eq!(check(&limits, &["*:80/http"]), Ok(()));
        assert!(
            check(&limits, &["*:80/tcp"])
                .unwrap_err()
                .contains("no http listen")
        );
        let mut limits = Limits::default();
        limits.total.connections = 5;
        assert_eq!(check(&limits, &["*:80/http"]), Ok(()));
        assert_eq!(check(&limits, &["*:53/udp", "*:53/tcp"]), Ok(()));
        assert!(
            check(&limits, &[])
                .unwrap_err()
                .contains("no tcp or http listen")
        );
        assert!(
            check(&limits, &["*:53/udp"])
                .unwrap_err()
                .contains("`sessions`")
        );
        limits.prefix_v6 = 0;
        assert!(
            check(&limits, &["*:80/tcp"])
                .unwrap_err()
                .contains("prefixes")
        );
    }
}
