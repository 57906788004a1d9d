//! What people type to name a snapshot or a point in time. What must not come in: looking for it.

use cylinder_core::time::Time;
use cylinder_core::view::When;
use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ZonedDateTime};
use std::time::Duration;

/// Which end of a day is meant by its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Edge {
    /// Its first moment.
    Start,
    /// Its last.
    End,
}

/// Reads a snapshot number, or a point in time as [`point`] does; a day means its end.
pub fn parse(text: &str) -> Result<When, String> {
    if let Ok(number) = text.parse::<u64>() {
        return Ok(When::Number(number));
    }
    point(text, Edge::End).map(When::Time).map_err(|error| format!("{error}, nor the number of a snapshot"))
}

/// Reads a point in time in the zone of this host: a date with or without time of day, `today`, `yesterday`, `tuesday` or `last
/// tuesday` (the last one before today), `3 days ago` (also hours, weeks, months, ...). RFC 3339 with an offset is taken too.
pub fn point(text: &str, edge: Edge) -> Result<Time, String> {
    let now = Timestamp::now().to_zoned_datetime(TimeZone::system());
    let instant = read(text, edge, &now)?;
    let nanoseconds = i64::try_from(instant.as_nanosecond()).map_err(|_| format!("`{text}` is too far from now"))?;
    Ok(Time(nanoseconds))
}

/// Reads the beginning of a day, or a time as [`point`] does.
pub fn since(text: &str) -> Result<Time, String> {
    point(text, Edge::Start)
}

/// Reads a span such as `30s`, `10m` or `2h`.
pub fn span(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is no span such as 30s, 10m or 2h");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(bad)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(bad()),
    };
    let number: u64 = number.parse::<u32>().map_err(|_| bad())?.into();
    Ok(Duration::from_secs(number * seconds))
}

/// The name of the zone in which [`point`] reads.
pub fn zone() -> String {
    TimeZone::system().iana_name().unwrap_or("the zone of this host").to_owned()
}

/// A point in time as people here read it.
pub fn shown(time: Time) -> String {
    let stamp = Timestamp::from_nanosecond(time.0.into()).map(|stamp| stamp.to_zoned_datetime(TimeZone::system()));
    stamp.map_or_else(|_| time.to_string(), |zoned| zoned.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

fn read(text: &str, edge: Edge, now: &ZonedDateTime) -> Result<Timestamp, String> {
    let zone = now.time_zone();
    let fail = |error: jiff::Error| format!("{text}: {error}");
    if let Ok(stamp) = text.parse::<Timestamp>() {
        return Ok(stamp);
    }
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let [count, unit, "ago"] = words[..]
        && let Some(span) = ago(count, unit)
    {
        return now.checked_sub(span).map(|zoned| zoned.timestamp()).map_err(fail);
    }
    let civil = match named_day(&words, now.date()) {
        Some(day) => Some(of_day(day, edge)),
        None => civil(text, edge),
    };
    match civil {
        Some(civil) => zone.to_timestamp(civil).map_err(fail),
        None => Err(format!("`{text}` is no time such as `2026-11-17`, `2026-11-17 09:00`, `yesterday` or `3 days ago`")),
    }
}

/// `3` and `days`.
fn ago(count: &str, unit: &str) -> Option<Span> {
    let count: i64 = count.parse().ok().filter(|n| (0..=1_000_000).contains(n))?;
    let span = Span::new();
    let made = match unit.strip_suffix('s').unwrap_or(unit) {
        "second" => span.try_seconds(count),
        "minute" => span.try_minutes(count),
        "hour" => span.try_hours(count),
        "day" => span.try_days(count),
        "week" => span.try_weeks(count),
        "month" => span.try_months(count),
        "year" => span.try_years(count),
        _ => return None,
    };
    made.ok()
}

fn named_day(words: &[&str], today: Date) -> Option<Date> {
    match words {
        ["today"] => Some(today),
        ["yesterday"] => today.yesterday().ok(),
        [day] | ["last", day] => today.nth_weekday(-1, weekday(day)?).ok(),
        _ => None,
    }
}

fn weekday(word: &str) -> Option<Weekday> {
    Some(match word {
        "monday" => Weekday::Monday,
        "tuesday" => Weekday::Tuesday,
        "wednesday" => Weekday::Wednesday,
        "thursday" => Weekday::Thursday,
        "friday" => Weekday::Friday,
        "saturday" => Weekday::Saturday,
        "sunday" => Weekday::Sunday,
        _ => return None,
    })
}

fn civil(text: &str, edge: Edge) -> Option<DateTime> {
    if text.len() == 10 {
        return text.parse().ok().map(|day| of_day(day, edge));
    }
    text.parse().ok()
}

fn of_day(day: Date, edge: Edge) -> DateTime {
    match edge {
        Edge::Start => day.at(0, 0, 0, 0),
        Edge::End => day.at(23, 59, 59, 999_999_999),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cylinder_core::time::Span;

    #[test]
    fn numbers_and_times_are_told_apart() {
        assert_eq!(parse("7"), Ok(When::Number(7)));
        assert_eq!(parse("2026-11-23T18:00:11Z"), Ok(When::Time(Time::from_secs(1_795_456_811))));
        let Ok(When::Time(minute)) = parse("2026-11-23 18:00") else { panic!("a time") };
        let Ok(When::Time(day)) = parse("2026-11-23") else { panic!("a day") };
        assert!(minute < day && minute.secs() % 60 == 0);
        assert_eq!(since("2026-11-23").map(|time| day.since(time)), Ok(Span(86_400_000_000_000 - 1)));
        assert_eq!(since("2026-11-23 18:00"), Ok(minute));
        assert!(since("7").is_err());
        assert_eq!([span("90s"), span("2h")], [90, 7200].map(|s| Ok(Duration::from_secs(s))));
        assert!(["", "2", "h", "2d", "-1h"].iter().all(|text| span(text).is_err()));
        assert!(parse("2026-13-01").is_err());
    }

    #[test]
    fn what_people_type_is_read_in_the_zone_of_the_host() {
        // A Tuesday, behind a change of the clocks: UTC+1, and UTC+2 before 25 October.
        let now: ZonedDateTime = "2026-10-27T09:30:00+01:00[Europe/Berlin]".parse().unwrap();
        let read = |text: &str, edge| read(text, edge, &now).map(|stamp| stamp.to_string());
        for (text, end) in [
            ("yesterday", "2026-10-26T22:59:59.999999999Z"),
            ("Today", "2026-10-27T22:59:59.999999999Z"),
            ("tuesday", "2026-10-20T21:59:59.999999999Z"),
            ("last Monday", "2026-10-26T22:59:59.999999999Z"),
            ("3 days ago", "2026-10-24T07:30:00Z"),
            ("1 hour ago", "2026-10-27T07:30:00Z"),
            ("2 weeks ago", "2026-10-13T07:30:00Z"),
            ("2026-10-20", "2026-10-20T21:59:59.999999999Z"),
            ("2026-10-20 09:00", "2026-10-20T07:00:00Z"),
            ("2026-10-20T09:00:00+00:00", "2026-10-20T09:00:00Z"),
        ] {
            assert_eq!(read(text, Edge::End), Ok(String::from(end)), "{text}");
        }
        assert_eq!(read("yesterday", Edge::Start), Ok(String::from("2026-10-25T23:00:00Z")));
        for text in ["", "soon", "last", "3 days", "-3 days ago", "3 fortnights ago", "99999999 years ago", "last week"] {
            assert!(read(text, Edge::End).is_err(), "{text}");
        }
    }
}
