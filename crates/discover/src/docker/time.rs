//! Times as the engine writes them.

const SECOND: i64 = 1_000_000_000;

/// Nanoseconds since 1970 of a time as RFC 3339 §5.6 writes it, with up to nine digits behind the
/// second. None if it is no such time, or not between 1678 and 2262.
pub(crate) fn nanos(text: &str) -> Option<i64> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let mut date = date.split('-');
    let mut field = || number(date.next()?);
    let (year, month, day) = (field()?, field()?, field()?);
    if date.next().is_some() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let zone = rest.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = rest.split_at_checked(zone)?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut clock = clock.split(':');
    let mut field = || number(clock.next()?);
    let (hour, minute, second) = (field()?, field()?, field()?);
    if clock.next().is_some() || hour > 23 || minute > 59 || second > 60 || fraction.len() > 9 {
        return None;
    }
    let places = u32::try_from(9 - fraction.len()).ok()?;
    let fraction = number(fraction)?.checked_mul(10_i64.checked_pow(places)?)?;
    let days = days_since_1970(year, month, day);
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset(zone)?;
    seconds.checked_mul(SECOND)?.checked_add(fraction)
}

/// A time in UTC with nine digits behind the second, so that texts compare as times do; as it is
/// if it cannot be read.
pub(crate) fn sortable(text: &str) -> String {
    match nanos(text) {
        Some(nanos) => rfc3339(nanos),
        None => text.to_owned(),
    }
}

/// Nanoseconds since 1970 as RFC 3339 writes them, e.g. `2024-05-01T10:00:00.500000000Z`.
fn rfc3339(nanos: i64) -> String {
    let (seconds, fraction) = (nanos.div_euclid(SECOND), nanos.rem_euclid(SECOND));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:09}Z")
}

/// Nanoseconds since 1970 of a time as HTTP writes it (RFC 9110 §5.6.7, IMF-fixdate), e.g.
/// `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(crate) fn http_nanos(text: &str) -> Option<i64> {
    let (_, text) = text.split_once(", ")?;
    let mut fields = text.strip_suffix(" GMT")?.split(' ');
    let (day, name) = (number(fields.next()?)?, fields.next()?);
    let (year, clock) = (fields.next()?, fields.next()?);
    let month = MONTHS.iter().position(|month| *month == name)? + 1;
    nanos(&format!("{year}-{month:02}-{day:02}T{clock}Z"))
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Seconds east of Greenwich.
fn offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let seconds = hours * 3600 + minutes * 60;
    Some(if zone.starts_with('-') {
        -seconds
    } else {
        seconds
    })
}

/// A number of up to nine digits.
fn number(text: &str) -> Option<i64> {
    let digits = (1..=9).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// Days of the Gregorian calendar, counted in years that begin in March, so that the leap day is
/// the last day of one.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // From 1 March of the year 0 to 1 January 1970 there are 719 468 days.
    year * 365 + leaps + (month * 153 + 2) / 5 + day - 1 - 719_468
}

/// Year, month and day so many days after 1 January 1970: the other way round, in cycles of 400
/// years, which have 146 097 days each.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (cycle, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    // Without the leap days before it, every year has 365 days.
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (year * 365 + year / 4 - year / 100);
    let month = (day * 5 + 2) / 153;
    let day = day - (month * 153 + 2) / 5 + 1;
    let year = cycle * 400 + year;
    if month < 10 {
        (year, month + 3, day)
    } else {
        (year + 1, month - 9, day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_sort_as_times_do() {
        for (text, expected) in [
            ("2024-05-01T10:00:00.5Z", "2024-05-01T10:00:00.500000000Z"),
            ("2024-05-01T10:00:00.51Z", "2024-05-01T10:00:00.510000000Z"),
            ("2024-05-01T10:00:00Z", "2024-05-01T10:00:00.000000000Z"),
            (
                "2024-03-01T00:30:00.123456789+02:00",
                "2024-02-29T22:30:00.123456789Z",
            ),
            (
                "2023-12-31T23:59:59-05:30",
                "2024-01-01T05:29:59.000000000Z",
            ),
            (
                "1969-12-31T23:59:59.000000001Z",
                "1969-12-31T23:59:59.000000001Z",
            ),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
            ("yesterday", "yesterday"),
            ("", ""),
        ] {
            assert_eq!(sortable(text), expected);
        }
        // Each day of eight centuries' worth of leap years that can be told.
        for day in -106_000..106_000 {
            let (year, month, of_month) = date(day);
            assert_eq!(days_since_1970(year, month, of_month), day);
            assert!((1..=12).contains(&month) && (1..=31).contains(&of_month));
            assert_eq!(
                nanos(&rfc3339(day * 86_400 * SECOND)),
                Some(day * 86_400 * SECOND)
            );
        }
    }

    #[test]
    fn times_of_http_are_read() {
        for (text, expected) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777 * SECOND)),
            (
                "Wed, 01 May 2024 10:00:00 GMT",
                Some(1_714_557_600 * SECOND),
            ),
            ("Wed, 01 Mai 2024 10:00:00 GMT", None),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
            ("", None),
        ] {
            assert_eq!(http_nanos(text), expected, "{text}");
        }
    }

    #[test]
    fn times_are_read() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1970-01-01T00:00:01.5Z", Some(1_500_000_000)),
            ("1969-12-31T23:59:59.000000001Z", Some(-999_999_999)),
            ("2000-02-29T12:00:00Z", Some(951_825_600 * SECOND)),
            (
                "2024-05-01T10:00:00.123456789Z",
                Some(1_714_557_600_123_456_789),
            ),
            (
                "2024-05-01T12:00:00.123456789+02:00",
                Some(1_714_557_600_123_456_789),
            ),
            ("2024-05-01T04:30:00-05:30", Some(1_714_557_600 * SECOND)),
            ("0001-01-01T00:00:00Z", None),
            ("9999-01-01T00:00:00Z", None),
            ("2024-13-01T00:00:00Z", None),
            ("2024-05-01T24:00:00Z", None),
            ("2024-05-01T10:00:00", None),
            ("2024-05-01T10:00:00.1234567890Z", None),
            ("2024-05-01T10:00:00+2:0é", None),
            ("", None),
            ("T", None),
            ("2024-05-01T10:00:00-", None),
        ] {
            assert_eq!(nanos(text), expected, "{text}");
        }
    }
}
