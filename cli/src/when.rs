//! What people type to name a snapshot. What must not come in: looking for it.

use cylinder_core::time::Time;
use cylinder_core::view::When;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

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

    #[test]
    fn numbers_and_times_are_told_apart() {
        assert_eq!(parse("7"), Ok(When::Number(7)));
        assert_eq!(parse("2026-11-23T18:00:11Z"), Ok(When::Time(Time::from_secs(1_795_456_811))));
        let Ok(When::Time(minute)) = parse("2026-11-23 18:00") else { panic!("a time") };
        let Ok(When::Time(day)) = parse("2026-11-23") else { panic!("a day") };
        assert!(minute < day && minute.secs() % 60 == 0);
        assert!(parse("last tuesday").is_err());
        assert!(parse("2026-13-01").is_err());
    }
}
