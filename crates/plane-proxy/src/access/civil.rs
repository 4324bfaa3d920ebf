//! Dates as access logs write them, in UTC.

use std::io::{self, Write};
use std::time::Duration;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// A time since 1970 as a date and time of day in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Civil {
    year: u64,
    /// 1..=12.
    month: u64,
    /// 1..=31.
    day: u64,
    /// Second of the day.
    second: u64,
    millis: u32,
}

impl Civil {
    /// The date of a time since 1970 in UTC.
    pub(super) fn new(since: Duration) -> Self {
        let days = since.as_secs() / 86_400;
        // Years that begin in March end with the leap day: H. Hinnant, "chrono-Compatible Low-Level
        // Date Algorithms", civil_from_days.
        let shifted = days + 719_468;
        let era = shifted / 146_097;
        let of_era = shifted % 146_097;
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * of_year + 2) / 153;
        let month = if from_march < 10 {
            from_march + 3
        } else {
            from_march - 9
        };
        Self {
            year: year_of_era + era * 400 + u64::from(month <= 2),
            month,
            day: of_year - (153 * from_march + 2) / 5 + 1,
            second: since.as_secs() % 86_400,
            millis: since.subsec_millis(),
        }
    }

    fn clock(self) -> (u64, u64, u64) {
        (self.second / 3600, self.second / 60 % 60, self.second % 60)
    }

    fn month_name(self) -> &'static str {
        let at = usize::try_from(self.month).unwrap_or(1).saturating_sub(1);
        MONTHS.get(at).copied().unwrap_or("Jan")
    }

    /// `10/Oct/2000:13:55:36`, followed by what each format has behind it.
    fn day_and_clock(self, out: &mut Vec<u8>) -> io::Result<()> {
        let (h, m, s) = self.clock();
        let (day, month, year) = (self.day, self.month_name(), self.year);
        write!(out, "{day:02}/{month}/{year}:{h:02}:{m:02}:{s:02}")
    }

    /// `10/Oct/2000:13:55:36 +0000`, as Apache's `%t`.
    pub(super) fn combined(self, out: &mut Vec<u8>) -> io::Result<()> {
        self.day_and_clock(out)?;
        write!(out, " +0000")
    }

    /// `10/Oct/2000:13:55:36.123`, as HAProxy's `%t`.
    pub(super) fn haproxy(self, out: &mut Vec<u8>) -> io::Result<()> {
        self.day_and_clock(out)?;
        write!(out, ".{:03}", self.millis)
    }

    /// `Oct 10 13:55:36`, as RFC 3164 §4.1.2 has it.
    pub(super) fn syslog(self, out: &mut Vec<u8>) -> io::Result<()> {
        let (h, m, s) = self.clock();
        let (day, month) = (self.day, self.month_name());
        write!(out, "{month} {day:2} {h:02}:{m:02}:{s:02}")
    }

    /// `2000-10-10T13:55:36.123Z`, as RFC 3339.
    pub(super) fn rfc3339(self, out: &mut Vec<u8>) -> io::Result<()> {
        let (h, m, s) = self.clock();
        let Self {
            year,
            month,
            day,
            millis,
            ..
        } = self;
        write!(
            out,
            "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{millis:03}Z"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(millis: u64) -> [String; 4] {
        let civil = Civil::new(Duration::from_millis(millis));
        let ways = [
            Civil::combined,
            Civil::haproxy,
            Civil::syslog,
            Civil::rfc3339,
        ];
        ways.map(|way| {
            let mut out = Vec::new();
            way(civil, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        })
    }

    #[test]
    fn known_days() {
        assert_eq!(
            texts(971_186_136_007),
            [
                "10/Oct/2000:13:55:36 +0000",
                "10/Oct/2000:13:55:36.007",
                "Oct 10 13:55:36",
                "2000-10-10T13:55:36.007Z"
            ]
        );
        let day = |seconds: u64| texts(seconds * 1000)[3][..10].to_owned();
        assert_eq!(day(0), "1970-01-01");
        assert_eq!(day(951_782_400), "2000-02-29");
        assert_eq!(day(4_107_542_399), "2100-02-28");
        assert_eq!(day(4_107_542_400), "2100-03-01");
        assert_eq!(texts(1_706_745_600_000)[2], "Feb  1 00:00:00");
    }
}
