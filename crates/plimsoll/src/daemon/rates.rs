//! What happens per second, as an average of the last five to ten seconds.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use plimsoll_control::Control;
use plimsoll_control::status::{BackendStatus, Rates, ServiceStatus, Status};
use plimsoll_model::BackendAddr;
use plimsoll_plane::BackendCounters;

/// Between two samples.
const EVERY: Duration = Duration::from_secs(5);

/// Counts at one time.
#[derive(Default)]
struct Sample {
    services: HashMap<String, (u64, u64)>,
    backends: HashMap<String, HashMap<String, Totals>>,
}

/// What of the counts of a backend has a rate.
#[derive(Clone, Copy, Default)]
struct Totals {
    requests: u64,
    failures: u64,
    bytes_in: u64,
    bytes_out: u64,
}

impl From<&BackendCounters> for Totals {
    fn from(counters: &BackendCounters) -> Self {
        Self {
            requests: counters.requests,
            failures: counters.failures + counters.connect_failures,
            bytes_in: counters.bytes_in,
            bytes_out: counters.bytes_out,
        }
    }
}

/// The last two samples. A rate is counted from the older one: two samples cost little even for
/// very many backends.
pub(super) struct RateBook {
    older: (Instant, Sample),
    newer: (Instant, Sample),
}

impl RateBook {
    /// Everything was 0 at this time.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            older: (now, Sample::default()),
            newer: (now, Sample::default()),
        }
    }

    /// When the next sample is due.
    pub(super) fn deadline(&self) -> Instant {
        self.newer.0 + EVERY
    }

    /// Takes a sample.
    pub(super) fn sample(&mut self, now: Instant, control: &mut Control) {
        let mut sample = Sample::default();
        let planes: Vec<&'static str> = control.planes().collect();
        for plane in planes {
            let counters = control.plane_mut(plane).map(|plane| plane.counters());
            for service in counters.into_iter().flat_map(|c| c.services) {
                let totals = |(addr, counters): &(BackendAddr, BackendCounters)| {
                    (addr.to_string(), Totals::from(counters))
                };
                let backends = service.backends.iter().map(totals).collect();
                sample.backends.insert(service.name.clone(), backends);
                let totals = (service.total, service.unserved);
                sample.services.insert(service.name, totals);
            }
        }
        let newer = std::mem::replace(&mut self.newer, (now, sample));
        self.older = newer;
    }

    /// Fills the rates in.
    pub(super) fn fill(&self, now: Instant, status: &mut Status) {
        let (then, sample) = &self.older;
        let seconds = now.saturating_duration_since(*then).as_secs_f64();
        if seconds < 0.5 {
            return;
        }
        for service in &mut status.services {
            let per_backend = sample.backends.get(&service.name);
            for backend in &mut service.backends {
                let before = per_backend.and_then(|known| known.get(&backend.addr));
                backend.rates = Some(backend_rates(backend, before, seconds));
            }
            let before = sample.services.get(&service.name).copied();
            service.rates = Some(service_rates(service, before.unwrap_or_default(), seconds));
        }
    }
}

/// Counters begin anew when a backend leaves and comes back.
fn per_second(before: u64, now: u64, seconds: f64) -> f64 {
    let grown = now.checked_sub(before).unwrap_or(now);
    (grown as f64 / seconds * 10.0).round() / 10.0
}

fn backend_rates(backend: &BackendStatus, before: Option<&Totals>, seconds: f64) -> Rates {
    let now = Totals::from(&backend.counters);
    let before = before.copied().unwrap_or_default();
    Rates {
        requests: per_second(before.requests, now.requests, seconds),
        failures: per_second(before.failures, now.failures, seconds),
        bytes_in: per_second(before.bytes_in, now.bytes_in, seconds),
        bytes_out: per_second(before.bytes_out, now.bytes_out, seconds),
    }
}

fn service_rates(service: &ServiceStatus, before: (u64, u64), seconds: f64) -> Rates {
    let rates = |of: fn(&Rates) -> f64| {
        let known = service.backends.iter().filter_map(|b| b.rates.as_ref());
        known.map(of).sum()
    };
    Rates {
        requests: per_second(before.0, service.total, seconds),
        failures: per_second(before.1, service.unserved, seconds),
        bytes_in: rates(|r| r.bytes_in),
        bytes_out: rates(|r| r.bytes_out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_that_begin_anew_are_no_negative_rate() {
        assert_eq!(per_second(100, 150, 10.0), 5.0);
        assert_eq!(per_second(100, 20, 10.0), 2.0);
    }

    #[test]
    fn rates_are_those_of_the_window() {
        let start = Instant::now();
        let mut book = RateBook::new(start);
        let mut backend = BackendStatus {
            addr: "10.0.0.1:80".into(),
            ..BackendStatus::default()
        };
        backend.counters.requests = 300;
        backend.counters.connect_failures = 10;
        let service = ServiceStatus {
            name: "web".into(),
            total: 320,
            unserved: 20,
            backends: vec![backend],
            ..ServiceStatus::default()
        };
        let mut status = Status {
            services: vec![service],
            ..Status::default()
        };
        book.fill(start, &mut status);
        assert_eq!(status.services[0].rates, None, "too early to tell");
        book.fill(start + Duration::from_secs(10), &mut status);
        let rates = status.services[0].rates.unwrap();
        assert_eq!((rates.requests, rates.failures), (32.0, 2.0));
        let rates = status.services[0].backends[0].rates.unwrap();
        assert_eq!((rates.requests, rates.failures), (30.0, 1.0));

        // The next window begins at the sample before the last.
        let mut sample = Sample::default();
        sample.services.insert("web".into(), (220, 20));
        book.older = (start + Duration::from_secs(10), sample);
        book.fill(start + Duration::from_secs(15), &mut status);
        assert_eq!(status.services[0].rates.unwrap().requests, 20.0);
    }
}
