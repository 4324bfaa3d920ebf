//! What the daemon holds, over time.

use std::fmt;
use std::time::Duration;

use plimsoll_testkit::Error;
use serde_json::Value;

use super::world::World;
use crate::bench::{median, rss_kib};

/// What it holds at a moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    pub(super) at: Duration,
    rss_kib: u64,
    descriptors: u64,
    threads: u64,
    /// Time series of its metrics, per backend: what is kept for those that are gone shows here.
    series: u64,
    services: u64,
    backends: u64,
    /// Connections of clients.
    connections: u64,
    /// Requests and connections at backends, and those that wait for a place.
    active: u64,
    answered: u64,
}

impl Sample {
    pub(super) const HEAD: &str = "     time  RSS KiB    fds  threads  series  services  backends  \
                                   connections  active  answered";

    /// Looks at it.
    pub(super) async fn take(world: &World, at: Duration, answered: u64) -> Result<Self, Error> {
        let pid = world.lb.id();
        let proc = |what: &str| format!("/proc/{pid}/{what}");
        let entries = |what: &str| {
            let entries = std::fs::read_dir(proc(what));
            entries.map_or(0, |entries| entries.count() as u64)
        };
        let status = world.status().await?;
        let metrics = world.ask("GET", "/metrics", "").await?.text();
        let series = metrics.lines().filter(|line| !line.starts_with('#'));
        let services = items(&status, "services");
        let mut sample = Self {
            at,
            rss_kib: rss_kib(pid).map_err(|error| Error::Failed(error.to_string()))?,
            descriptors: entries("fd"),
            threads: entries("task"),
            series: series.count() as u64,
            services: services.len() as u64,
            answered,
            ..Self::default()
        };
        for service in services {
            for listen in items(service, "listens") {
                sample.connections += number(listen, "connections");
            }
            for backend in items(service, "backends") {
                sample.backends += 1;
                let counters = backend.get("counters").unwrap_or(&Value::Null);
                sample.active += number(counters, "active") + number(counters, "queued");
            }
        }
        Ok(sample)
    }

    /// What is still held of what those have left who are gone, compared with the beginning.
    pub(super) fn held_beyond(&self, empty: &Self) -> Vec<String> {
        // Pipes are kept for the next stream, 64 of two ends each and worker; idle connections to
        // backends for a minute; threads of the runtime for ten seconds.
        let all = [
            ("descriptors", self.descriptors, empty.descriptors + 300),
            ("threads", self.threads, empty.threads + 2),
            // Statuses and codes have a series from the first of them on.
            ("series", self.series, empty.series + 100),
            ("services", self.services, empty.services),
            ("backends", self.backends, empty.backends),
            ("connections of clients", self.connections, 0),
            ("requests at backends", self.active, 0),
        ];
        let beyond = all.into_iter().filter(|(_, now, most)| now > most);
        beyond
            .map(|(what, now, most)| format!("{now} {what} at the end, where {most} may be left"))
            .collect()
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.at.as_secs();
        let time = format!(
            "{}:{:02}:{:02}",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        );
        write!(
            f,
            "{time:>9} {:>8} {:>6} {:>8} {:>7} {:>9} {:>9} {:>12} {:>7} {:>9}",
            self.rss_kib,
            self.descriptors,
            self.threads,
            self.series,
            self.services,
            self.backends,
            self.connections,
            self.active,
            self.answered
        )
    }
}

fn items<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    let items = value.get(key).and_then(Value::as_array);
    items.map_or(&[], Vec::as_slice)
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or_default()
}

/// How one figure went over time.
#[derive(Clone, Debug)]
pub(super) struct Trend {
    what: &'static str,
    /// Medians of the first and the last third.
    first: f64,
    last: f64,
    /// Growth per hour, by the line of least squares.
    slope: f64,
    /// What the last third may be.
    most: f64,
}

impl Trend {
    pub(super) const HEAD: &str =
        "                   first third  last third  per hour  may be at most";

    /// All figures that must not grow.
    pub(super) fn of_all(samples: &[Sample]) -> Vec<Self> {
        // What churns is never twice the same; what leaks, leaks with every turn.
        let of = |what, part: f64, room: f64, figure: fn(&Sample) -> u64| {
            let points = samples.iter();
            let points = points.map(|s| (s.at.as_secs_f64() / 3600.0, figure(s) as f64));
            Self::of(what, &points.collect::<Vec<_>>(), part, room)
        };
        let all = [
            of("RSS KiB", 0.05, 1024.0, |s| s.rss_kib),
            of("descriptors", 0.1, 40.0, |s| s.descriptors),
            of("threads", 0.0, 2.0, |s| s.threads),
            of("series", 0.1, 100.0, |s| s.series),
            of("backends", 0.1, 4.0, |s| s.backends),
            of("connections", 0.1, 20.0, |s| s.connections),
        ];
        all.into_iter().flatten().collect()
    }

    /// None if there are too few points.
    fn of(what: &'static str, points: &[(f64, f64)], part: f64, room: f64) -> Option<Self> {
        let third = points.len() / 3;
        let values = |points: &[(f64, f64)]| median(points.iter().map(|(_, value)| *value));
        let first = values(points.get(..third)?)?;
        let last = values(points.get(points.len() - third..)?)?;
        Some(Self {
            what,
            first,
            last,
            slope: slope(points),
            most: first * (1.0 + part) + room,
        })
    }

    /// What is wrong with it.
    pub(super) fn fault(&self) -> Option<String> {
        (self.last > self.most).then(|| {
            format!(
                "{} grew from {:.0} to {:.0}, by {:.0} per hour",
                self.what, self.first, self.last, self.slope
            )
        })
    }
}

impl fmt::Display for Trend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>16} {:>13.0} {:>11.0} {:>+9.0} {:>15.0}",
            self.what, self.first, self.last, self.slope, self.most
        )
    }
}

/// The slope of the line of least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |pick: fn(&(f64, f64)) -> f64| points.iter().map(pick).sum::<f64>() / count;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let along: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    let square: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
    if square > 0.0 { along / square } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trend(value: impl Fn(u32) -> f64) -> Trend {
        let points: Vec<_> = (0..90).map(|i| (f64::from(i) / 90.0, value(i))).collect();
        Trend::of("it", &points, 0.05, 10.0).unwrap()
    }

    #[test]
    fn what_goes_up_and_down_does_not_grow() {
        let up_and_down = trend(|i| 1000.0 + f64::from(i % 7) * 50.0);
        assert_eq!(up_and_down.fault(), None, "{up_and_down}");
        assert!(up_and_down.slope.abs() < 30.0, "{up_and_down}");
        // One peak is none either.
        assert_eq!(
            trend(|i| if i == 80 { 9000.0 } else { 1000.0 }).fault(),
            None
        );
    }

    #[test]
    fn what_grows_is_found() {
        let leak = trend(|i| 1000.0 + 3.0 * f64::from(i));
        assert!((leak.slope - 270.0).abs() < 1.0, "{leak}");
        assert!(leak.fault().unwrap().contains("per hour"));
        assert!(
            trend(|i| if i < 45 { 1000.0 } else { 1100.0 })
                .fault()
                .is_some()
        );
    }

    #[test]
    fn what_is_left_at_the_end_is_named() {
        let empty = Sample {
            backends: 3,
            ..Sample::default()
        };
        assert!(empty.held_beyond(&empty).is_empty());
        let held = Sample {
            backends: 4,
            active: 1,
            ..Sample::default()
        };
        let held = held.held_beyond(&empty);
        assert!(
            held.len() == 2 && held[0].contains("4 backends"),
            "{held:?}"
        );
    }
}
