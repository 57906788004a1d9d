//! What people type to name a snapshot. What must not come in: looking for it.

use cylinder_core::time::Time;
use cylinder_core::view::When;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use std::time::Duration;

/// Reads a snapshot number, or a date with or without time of day in the zone of this host; a date alone means the end of that
/// day. RFC 3339 with an offset is taken too.
pub fn parse(text: &str) -> Result<When, String> {
    if let Ok(number) = text.parse::<u64>() {
        return Ok(When::Number(number));
    }
    let zone = TimeZone::system();
    let instant = if let Ok(stamp) = text.parse::<jiff::Timestamp>() {
        stamp
    } else if let Some(civil) = civil(text) {
        zone.to_timestamp(civil).map_err(|e| format!("{text}: {e}"))?
    } else {
        return Err(format!(
            "`{text}` is neither the number of a snapshot nor a time such as `2026-11-17` or `2026-11-17 09:00`"
        ));
    };
    let nanoseconds = i64::try_from(instant.as_nanosecond()).map_err(|_| format!("`{text}` is too far from now"))?;
    Ok(When::Time(Time(nanoseconds)))
}

/// Reads the beginning of a day, or a time as [`parse`] does.
pub fn since(text: &str) -> Result<Time, String> {
    let day = text.parse::<Date>().ok().filter(|_| text.len() == 10);
    let word = day.map_or_else(|| text.to_owned(), |day| day.at(0, 0, 0, 0).to_string());
    match parse(&word) {
        Ok(When::Time(time)) => Ok(time),
        _ => Err(format!("`{text}` is no time such as `2026-11-17` or `2026-11-17 09:00`")),
    }
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

fn civil(text: &str) -> Option<DateTime> {
    if text.len() == 10 {
        let day: Date = text.parse().ok()?;
        return Some(day.at(23, 59, 59, 999_999_999));
    }
    text.parse().ok()
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
        assert!(parse("last tuesday").is_err());
        assert!(parse("2026-13-01").is_err());
    }
}
