//! The clock of the programs: jiffies, of which the process is told neither the count nor the rate.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::sys::{Error, Object, Program, Result, TestContext};

/// The rates that kernels are built with.
const RATES: [u32; 4] = [100, 250, 300, 1000];
/// Jiffies begin so many seconds before they would wrap around 32 bits (`INITIAL_JIFFIES`).
const BEFORE_WRAP: u64 = 300;

static OBJECT: &[u8] = include_bytes!("../../objects/clock.o");

/// The clock of the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    hz: u32,
    /// Jiffies less those of the monotonic clock.
    offset: u32,
}

impl Clock {
    /// Reads it.
    ///
    /// # Errors
    /// The kernel refuses the program that tells the time.
    pub fn read() -> Result<Self> {
        let programs = Object::parse(OBJECT)?.load(&Default::default(), &Default::default())?;
        let program = programs.values().next();
        let program = program.ok_or_else(|| Error::Object("clock.o has no program".to_owned()))?;
        let before = monotonic();
        let jiffies = jiffies(program)?;
        Ok(Self::of(jiffies, before))
    }

    /// The clock that shows so many jiffies at this time of the monotonic clock. Which rate it goes at
    /// follows from where jiffies began, at boot.
    fn of(jiffies: u32, monotonic: Duration) -> Self {
        let off = |hz: &u32| {
            let expected = began(*hz).wrapping_add(ticks(monotonic, *hz));
            // In parts of a second, so that rates compare.
            u64::from(jiffies.wrapping_sub(expected).cast_signed().unsigned_abs()) * 1000
                / u64::from(*hz)
        };
        let hz = RATES.into_iter().min_by_key(off).unwrap_or(250);
        Self {
            hz,
            offset: jiffies.wrapping_sub(ticks(monotonic, hz)),
        }
    }

    /// Jiffies in a second.
    pub fn hz(self) -> u32 {
        self.hz
    }

    /// Now.
    pub fn now(self) -> u32 {
        self.offset.wrapping_add(ticks(monotonic(), self.hz))
    }

    /// A time in jiffies, at most 31 days; at least one jiffy unless it is zero.
    pub fn jiffies(self, time: Duration) -> u32 {
        const MOST: Duration = Duration::from_secs(31 * 86_400);
        let jiffies = time.min(MOST).as_millis() * u128::from(self.hz) / 1000;
        let least = u128::from(!time.is_zero());
        u32::try_from(jiffies.max(least)).unwrap_or(u32::MAX)
    }

    /// How long ago something was that happened at this jiffy.
    pub fn since(self, jiffy: u32) -> Duration {
        let ago = self.now().wrapping_sub(jiffy);
        // What is ahead of us by a tick or two is now.
        if ago.cast_signed() < 0 {
            return Duration::ZERO;
        }
        Duration::from_millis(u64::from(ago) * 1000 / u64::from(self.hz))
    }
}

fn began(hz: u32) -> u32 {
    (u64::from(u32::MAX) + 1 - BEFORE_WRAP * u64::from(hz)) as u32
}

fn ticks(time: Duration, hz: u32) -> u32 {
    (time.as_nanos() * u128::from(hz) / 1_000_000_000) as u32
}

fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(now.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}

fn jiffies(program: &Program) -> Result<u32> {
    let packet = [0; 64];
    Ok(program
        .test_run(&packet, 1, &TestContext::default())?
        .retval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_follows_from_uptime() {
        for hz in RATES {
            for seconds in [1, 70, 299, 301, 86_400, 5_000_000] {
                let uptime = Duration::from_millis(seconds * 1000 + 123);
                let jiffies = began(hz).wrapping_add(ticks(uptime, hz)).wrapping_add(1);
                assert_eq!(Clock::of(jiffies, uptime).hz(), hz, "{hz} {seconds}");
            }
        }
    }

    #[test]
    fn times() {
        let clock = Clock { hz: 250, offset: 7 };
        assert_eq!(clock.jiffies(Duration::ZERO), 0);
        assert_eq!(clock.jiffies(Duration::from_nanos(1)), 1);
        assert_eq!(clock.jiffies(Duration::from_secs(2)), 500);
        assert_eq!(clock.jiffies(Duration::MAX), 31 * 86_400 * 250);
        assert!(clock.since(clock.now().wrapping_add(2)).is_zero());
        let ago = clock.since(clock.now().wrapping_sub(250));
        assert!(ago >= Duration::from_secs(1) && ago < Duration::from_secs(60));
    }
}
