//! Time as a number that a test can make.
//!
//! There is no `now()` here and none may come in: a driver passes the time in with each input.

use core::fmt;

/// A point in time: nanoseconds since 1970-01-01 00:00:00 UTC. Reaches to the year 2262.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Time(pub i64);

/// A length of time in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Span(pub i64);

const NS_PER_S: i64 = 1_000_000_000;

impl Time {
    /// The epoch itself; also what a test starts from.
    pub const ZERO: Time = Time(0);

    /// The time that is `s` seconds after the epoch. Saturates outside of the years 1677 to 2262.
    pub fn from_secs(s: i64) -> Time {
        Time(s.saturating_mul(NS_PER_S))
    }

    /// Whole seconds since the epoch, rounded down.
    pub fn secs(self) -> i64 {
        self.0.div_euclid(NS_PER_S)
    }

    /// The nanoseconds within the second, 0 to 999,999,999.
    pub fn subsec_ns(self) -> u32 {
        self.0.rem_euclid(NS_PER_S) as u32
    }

    /// The time `span` later (earlier if negative). Saturates.
    pub fn plus(self, span: Span) -> Time {
        Time(self.0.saturating_add(span.0))
    }

    /// How long after `earlier` this is; negative if it is before.
    pub fn since(self, earlier: Time) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl Span {
    /// A span of `ms` milliseconds.
    pub const fn from_ms(ms: i64) -> Span {
        Span(ms * 1_000_000)
    }

    /// A span of `s` seconds.
    pub const fn from_secs(s: i64) -> Span {
        Span(s * NS_PER_S)
    }

    /// Whole milliseconds, rounded towards zero.
    pub fn ms(self) -> i64 {
        self.0 / 1_000_000
    }
}

/// Seconds and nanoseconds as `1795456542.000000123`, the form that the archive's tables use.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.secs(), self.subsec_ns())
    }
}

/// Keeps an average rate. Time in which nothing was wanted is not saved up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    per_second: u64,
    /// When all that was taken so far is paid for.
    paid: Time,
}

impl Pace {
    /// At most so many units a second from `now` on; at least one.
    pub fn new(per_second: u64, now: Time) -> Pace {
        Pace { per_second: per_second.max(1), paid: now }
    }

    /// Takes `amount`. If it comes too early, until when to wait first.
    pub fn take(&mut self, now: Time, amount: u64) -> Option<Time> {
        let begin = self.paid.max(now);
        let cost = u128::from(amount) * NS_PER_S as u128 / u128::from(self.per_second);
        self.paid = begin.plus(Span(i64::try_from(cost).unwrap_or(i64::MAX)));
        (begin > now).then_some(begin)
    }

    /// When all that was taken is paid for.
    pub fn paid(&self) -> Time {
        self.paid
    }
}

/// Civil date and time of day in UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Civil {
    /// Year, such as 2026.
    pub year: i64,
    /// Month, 1 to 12.
    pub month: u32,
    /// Day of the month, 1 to 31.
    pub day: u32,
    /// Hour, 0 to 23.
    pub hour: u32,
    /// Minute, 0 to 59.
    pub minute: u32,
    /// Second, 0 to 59.
    pub second: u32,
}

impl Civil {
    /// The UTC calendar date and time of day of `t` (proleptic Gregorian calendar).
    pub fn from_time(t: Time) -> Civil {
        let secs = t.secs();
        let (days, rest) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
        // Days from the era of 400 years that starts on 0000-03-01, so that leap days fall at the end of a year.
        let z = days + 719_468;
        let era = z.div_euclid(146_097);
        let doe = z.rem_euclid(146_097);
        let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        Civil {
            year: yoe + era * 400 + i64::from(month <= 2),
            month: month as u32,
            day: (doy - (153 * mp + 2) / 5 + 1) as u32,
            hour: (rest / 3600) as u32,
            minute: (rest / 60 % 60) as u32,
            second: (rest % 60) as u32,
        }
    }

    /// The time that this date and time of day name, in UTC.
    pub fn to_time(self) -> Time {
        let y = self.year - i64::from(self.month <= 2);
        let era = y.div_euclid(400);
        let yoe = y.rem_euclid(400);
        let mp = i64::from((self.month + 9) % 12);
        let doy = (153 * mp + 2) / 5 + i64::from(self.day) - 1;
        let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
        let days = era * 146_097 + doe - 719_468;
        let of_day = i64::from(self.hour) * 3600 + i64::from(self.minute) * 60 + i64::from(self.second);
        Time::from_secs(days * 86_400 + of_day)
    }
}

/// RFC 3339 form in UTC, such as `2026-11-24 09:00:00Z`.
impl fmt::Display for Civil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02} {:02}:{:02}:{:02}Z", self.year, self.month, self.day, self.hour, self.minute, self.second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_pace_is_kept_on_average_and_not_saved_up() {
        let mut pace = Pace::new(1000, Time::from_secs(10));
        assert_eq!(pace.take(Time::from_secs(10), 500), None);
        assert_eq!(pace.take(Time::from_secs(10), 500), Some(Time(10_500_000_000)));
        assert_eq!(pace.take(Time(10_500_000_000), 1), Some(Time::from_secs(11)));
        assert_eq!(pace.take(Time::from_secs(100), 5000), None);
        assert_eq!(pace.take(Time::from_secs(100), 1), Some(Time::from_secs(105)));
    }

    #[test]
    fn civil_dates_round_trip_over_four_centuries() {
        for day in (-80_000..80_000).step_by(13) {
            let t = Time::from_secs(day * 86_400 + 12_345);
            assert_eq!(Civil::from_time(t).to_time(), t);
        }
        assert_eq!(Civil::from_time(Time::from_secs(1_795_456_811)).to_string(), "2026-11-23 18:00:11Z");
        assert_eq!(Civil::from_time(Time::from_secs(951_782_400)).to_string(), "2000-02-29 00:00:00Z");
    }
}
