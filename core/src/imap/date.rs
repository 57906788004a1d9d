//! INTERNALDATE as IMAP writes it: ` 1-Mar-2022 08:00:01 +0000`.
//!
//! What must not come in: the dates of message headers.

use crate::time::{Civil, Time};
use alloc::format;
use alloc::string::String;

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A time as APPEND takes it, in UTC, without quotes. Whole seconds.
pub fn emit(time: Time) -> String {
    let Civil { year, month, day, hour, minute, second } = Civil::from_time(time);
    let month = MONTHS[(month as usize + 11) % 12];
    format!("{day:2}-{month}-{year:04} {hour:02}:{minute:02}:{second:02} +0000")
}

/// Reads such a time in any zone; `None` for anything else.
pub fn parse(text: &[u8]) -> Option<Time> {
    let mut words = core::str::from_utf8(text).ok()?.split_ascii_whitespace();
    let (date, clock, zone) = (words.next()?, words.next()?, words.next()?);
    let mut date = date.split('-');
    let day = date.next()?.parse().ok()?;
    let name = date.next()?;
    let month = MONTHS.iter().position(|month| month.eq_ignore_ascii_case(name))? as u32 + 1;
    let year: i64 = date.next()?.parse().ok()?;
    let mut clock = clock.split(':').map(|word| word.parse::<u32>().ok().filter(|&n| n < 61));
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if !(1..=31).contains(&day) || !(0..=9999).contains(&year) || words.next().is_some() || clock.next().is_some() {
        return None;
    }
    let utc = Civil { year, month, day, hour, minute, second }.to_time();
    Some(Time::from_secs(utc.secs() - east(zone)?))
}

/// How many seconds a zone such as `+0530` is ahead of UTC.
fn east(zone: &str) -> Option<i64> {
    let (sign, digits) = zone.split_at_checked(1)?;
    if digits.len() != 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: i64 = digits.parse().ok()?;
    let seconds = number / 100 * 3600 + number % 100 * 60;
    match sign {
        "+" => Some(seconds),
        "-" => Some(-seconds),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_round_trip_and_zones_are_taken_off() {
        let time = Time::from_secs(1_646_121_601);
        assert_eq!(emit(time), " 1-Mar-2022 08:00:01 +0000");
        for text in [" 1-Mar-2022 08:00:01 +0000", "01-mar-2022 13:30:01 +0530", "28-Feb-2022 23:00:01 -0900"] {
            assert_eq!(parse(text.as_bytes()), Some(time), "{text}");
        }
        for secs in (-9_000_000_000..9_000_000_000).step_by(987_654_321) {
            assert_eq!(parse(emit(Time::from_secs(secs)).as_bytes()), Some(Time::from_secs(secs)));
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in ["", "1-Mar-2022", "1-Mar-2022 08:00:01", "1-Foo-2022 08:00:01 +0000", "1-Mar-2022 08:00:61 +0000"] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        for text in ["32-Mar-2022 08:00:01 +0000", "1-Mar-2022 08:00:01 0000", "1-Mar-99999999999 08:00:01 +0000", "\u{e9}"] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }
}
