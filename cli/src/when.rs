//! What people type to name a snapshot or a point in time. What must not come in: looking for it, printing.
//!
//! A time that is printed carries its offset from UTC, and is read back as the same moment. One without an offset is in the
//! zone of this host, which is then told. A day, a week and so on begin with their first moment and end with their last; a
//! time of the day is as exact as it is written, at the least to the second.

use cylinder_core::time::Time;
use cylinder_core::view::When;
use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ZonedDateTime};
use std::time::Duration;

/// Which end of what is named is meant: of a day, of a second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Edge {
    /// The first moment of either.
    Start,
    /// The last moment of either.
    End,
    /// What comes next after a day; of a second its first moment.
    Before,
}

/// A point in time that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moment {
    /// When that is.
    pub time: Time,
    /// How it was read, for people, if that depends on the zone of this host.
    pub note: Option<String>,
}

/// Reads a snapshot number, or a point in time as [`point`] does; a day or a second means its end. The second part is
/// [`Moment::note`].
pub fn parse(text: &str) -> Result<(When, Option<String>), String> {
    if let Ok(number) = text.parse::<u64>() {
        return Ok((When::Number(number), None));
    }
    let moment = point(text, Edge::End).map_err(|error| format!("{error}; or the number of a snapshot"))?;
    Ok((When::Time(moment.time), moment.note))
}

/// Reads a point in time. With an offset, as RFC 3339 has it or with spaces: that moment. Without, in the zone of this host: a
/// date with or without time of day; `today`, `yesterday`, `tuesday` or `last tuesday` (the last one before today), with or
/// without time of day; `last week`, `last month`, `last year`; `3 days ago`, `3d` (also hours, weeks, ...); `now`.
pub fn point(text: &str, edge: Edge) -> Result<Moment, String> {
    let now = Timestamp::now().to_zoned_datetime(TimeZone::system());
    let (stamp, is_local) = read(text, edge, &now)?;
    let nanoseconds = i64::try_from(stamp.as_nanosecond()).map_err(|_| format!("`{text}` is too far from now"))?;
    let time = Time(nanoseconds);
    let note = is_local.then(|| format!("`{text}` is read as {} ({})", shown(time), zone()));
    Ok(Moment { time, note })
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
fn zone() -> String {
    name(&TimeZone::system()).to_owned()
}

fn name(zone: &TimeZone) -> &str {
    if zone.is_unknown() {
        return "UTC, since the time zone of this host cannot be read: see TZ and /etc/localtime";
    }
    zone.iana_name().unwrap_or("the time zone of this host")
}

/// A point in time as people here read it, to the second and with its offset.
pub fn shown(time: Time) -> String {
    let stamp = Timestamp::from_nanosecond(time.0.into()).map(|stamp| stamp.to_zoned_datetime(TimeZone::system()));
    stamp.map_or_else(|_| time.to_string(), |zoned| zoned.strftime(FORM).to_string())
}

/// When that is, and whether the zone of this host was needed to tell.
fn read(text: &str, edge: Edge, now: &ZonedDateTime) -> Result<(Timestamp, bool), String> {
    let fail = |error: jiff::Error| format!("{text}: {error}");
    let joined = joined(text);
    if let Ok(stamp) = joined.parse::<Timestamp>() {
        return Ok((at_edge(stamp, unit(&joined), edge).map_err(fail)?, false));
    }
    let lower = joined.to_lowercase();
    let words: Vec<&str> = lower.split_whitespace().collect();
    if words == ["now"] {
        return Ok((at_edge(now.timestamp(), SECOND, edge).map_err(fail)?, false));
    }
    if let Some(span) = ago(&words)? {
        let then = now.checked_sub(span).map_err(fail)?;
        return Ok((at_edge(then.timestamp(), SECOND, edge).map_err(fail)?, true));
    }
    let stamp = if let Some((first, behind)) = days(&words, &lower, now.date()) {
        let begin = |day: Date| now.time_zone().to_ambiguous_timestamp(day.at(0, 0, 0, 0)).compatible();
        match edge {
            Edge::Start => begin(first),
            Edge::Before => begin(behind),
            Edge::End => begin(behind).and_then(|next| next.checked_sub(Span::new().nanoseconds(1))),
        }
        .map_err(fail)?
    } else {
        let civil = civil(&words, now.date()).ok_or_else(|| unreadable(text))?;
        at_edge(of_clock(text, civil, now.time_zone())?, unit(&lower), edge).map_err(fail)?
    };
    Ok((stamp, true))
}

fn unreadable(text: &str) -> String {
    format!(
        "`{text}` is no point in time: give one such as `2026-11-17`, `2026-11-17 09:00`, `2026-11-17 08:00:00Z`, \
         `yesterday 12:00`, `last tuesday`, `last week`, `7d` (7 days ago) or `now`"
    )
}

/// A time on the clock of a zone. Refused if the clock shows it twice, or never.
fn of_clock(text: &str, civil: DateTime, zone: &TimeZone) -> Result<Timestamp, String> {
    let fail = |error: jiff::Error| format!("{text}: {error}");
    let ambiguous = zone.to_ambiguous_timestamp(civil);
    if !ambiguous.is_ambiguous() {
        return ambiguous.compatible().map_err(fail);
    }
    let (one, other) = (ambiguous.earlier().map_err(fail)?, ambiguous.later().map_err(fail)?);
    let shown = |stamp: Timestamp| stamp.to_zoned_datetime(zone.clone()).strftime(FORM).to_string();
    let name = name(zone);
    // In a fold both readings show the time that was typed; in a gap neither does.
    let why = if one.to_zoned_datetime(zone.clone()).datetime() == civil {
        "comes twice, since the clocks are put back then"
    } else {
        "does not exist, since the clocks are put forward then"
    };
    Err(format!("`{text}` {why} in {name}: give `{}` or `{}`", shown(one), shown(other)))
}

/// The text in one form: blanks between words, none before an offset or a `Z` (`UTC`), two digits for an hour.
fn joined(text: &str) -> String {
    let mut out = String::new();
    for word in text.split_whitespace() {
        let is_zone = ["z", "utc", "gmt"].iter().any(|zone| word.eq_ignore_ascii_case(zone));
        let is_offset = word.starts_with(['+', '-']) && word[1..].starts_with(|c: char| c.is_ascii_digit());
        if out.ends_with(|c: char| c.is_ascii_digit()) && (is_zone || is_offset) {
            out.push_str(if is_zone { "Z" } else { word });
            continue;
        }
        if !out.is_empty() {
            out.push(' ');
        }
        if word.as_bytes().get(1) == Some(&b':') {
            out.push('0');
        }
        out.push_str(word);
    }
    out
}

/// How exact a time of day is written, in nanoseconds: a second, or less if it has a fraction.
fn unit(text: &str) -> i128 {
    let fraction = text.rsplit_once(':').and_then(|(_, seconds)| seconds.split_once(['.', ',']));
    let digits = fraction.map_or(0, |(_, rest)| rest.bytes().take_while(u8::is_ascii_digit).count());
    SECOND / 10i128.pow(digits.min(9) as u32)
}

/// The first or the last moment of the unit in which a moment lies.
fn at_edge(stamp: Timestamp, unit: i128, edge: Edge) -> Result<Timestamp, jiff::Error> {
    let start = stamp.as_nanosecond().div_euclid(unit) * unit;
    Timestamp::from_nanosecond(if edge == Edge::End { start + unit - 1 } else { start })
}

/// `3 days ago`, `3d ago` or `3d`. Refused if the unit may be either of two.
fn ago(words: &[&str]) -> Result<Option<Span>, String> {
    let words = words.strip_suffix(&["ago"]).unwrap_or(words);
    let text = words.concat();
    let (count, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let Some(count) = count.parse::<i64>().ok().filter(|n| *n <= 1_000_000) else { return Ok(None) };
    let span = Span::new();
    let made = match unit {
        "m" => return Err(format!("`{text}` may be minutes or months: give `{count}min` or `{count} months`")),
        "s" | "sec" | "second" | "seconds" => span.try_seconds(count),
        "min" | "minute" | "minutes" => span.try_minutes(count),
        "h" | "hour" | "hours" => span.try_hours(count),
        "d" | "day" | "days" => span.try_days(count),
        "w" | "week" | "weeks" => span.try_weeks(count),
        "month" | "months" => span.try_months(count),
        "y" | "year" | "years" => span.try_years(count),
        _ => return Ok(None),
    };
    Ok(made.ok())
}

/// The days that are named, without a time of day: the first of them, and the one behind the last.
fn days(words: &[&str], text: &str, today: Date) -> Option<(Date, Date)> {
    let (first, span) = match words {
        ["last", "week"] => (today.tomorrow().ok()?.nth_weekday(-2, Weekday::Monday).ok()?, Span::new().weeks(1)),
        ["last", "month"] => {
            let first = today.first_of_month().checked_sub(Span::new().months(1)).ok()?;
            (first, Span::new().months(1))
        }
        ["last", "year"] => {
            let first = Date::new(today.year() - 1, 1, 1).ok()?;
            (first, Span::new().years(1))
        }
        [_] if is_date(text) => (text.parse().ok()?, Span::new().days(1)),
        _ => (named_day(words, today)?, Span::new().days(1)),
    };
    Some((first, first.checked_add(span).ok()?))
}

/// `2026-11-17`.
fn is_date(text: &str) -> bool {
    text.len() == 10 && text.bytes().all(|c| c.is_ascii_digit() || c == b'-')
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

/// A day and a time of day.
fn civil(words: &[&str], today: Date) -> Option<DateTime> {
    if let [day @ .., clock] = words
        && let Some(day) = named_day(day.strip_suffix(&["at"]).unwrap_or(day), today)
    {
        return clock.contains(':').then(|| clock.parse().ok()).flatten().map(|clock| day.to_datetime(clock));
    }
    words.join(" ").parse().ok()
}

/// A date, a time of day and the offset from UTC.
const FORM: &str = "%Y-%m-%d %H:%M:%S%:z";
const SECOND: i128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_told_apart() {
        let when = |text: &str| parse(text).map(|(when, _)| when);
        assert_eq!(parse("7"), Ok((When::Number(7), None)));
        // A second is meant with all its nanoseconds, however it is written; a fraction as exactly as it is.
        let second = Ok((When::Time(Time(1_795_456_811_999_999_999)), None));
        for text in ["2026-11-23T18:00:11Z", "2026-11-23 18:00:11Z", "2026-11-23 18:00:11 UTC", "2026-11-23 19:00:11 +0100"] {
            assert_eq!(parse(text), second, "{text}");
        }
        assert_eq!(when("2026-11-23 18:00:11.25Z"), Ok(When::Time(Time(1_795_456_811_259_999_999))));
        assert_eq!(when("2026-11-23 18:00:11.000000001Z"), Ok(When::Time(Time(1_795_456_811_000_000_001))));
        let Ok(When::Time(day)) = when("2026-11-23") else { panic!("a day") };
        let time = |text, edge| point(text, edge).map(|moment| moment.time);
        let start = time("2026-11-23", Edge::Start).expect("a day");
        assert!(day.0 - start.0 == 86_400_000_000_000 - 1);
        assert_eq!(time("2026-11-23", Edge::Before), Ok(Time(day.0 + 1)));
        assert_eq!(time("2026-11-23 18:00:11Z", Edge::Before), Ok(Time::from_secs(1_795_456_811)));
        assert!(point("7", Edge::Start).is_err());
        assert_eq!([span("90s"), span("2h")], [90, 7200].map(|s| Ok(Duration::from_secs(s))));
        assert!(["", "2", "h", "2d", "-1h"].iter().all(|text| span(text).is_err()));
        let error = parse("2026-13-01").expect_err("no month");
        assert!(
            ["`2026-13-01` is no point in time", "`yesterday 12:00`", "number of a snapshot"].iter().all(|w| error.contains(w))
        );
    }

    #[test]
    fn how_a_time_was_read_is_told_where_it_depends_on_the_zone() {
        let note = |text| point(text, Edge::End).expect(text).note;
        assert_eq!((note("2026-11-23 18:00Z"), note("now")), (None, None));
        let told = note("2026-11-23").expect("a note");
        assert!(told.starts_with("`2026-11-23` is read as 2026-11-23 23:59:59") && told.ends_with(')'), "{told}");
        // What is told is the same moment when it is read.
        let again = told.split("read as ").nth(1).and_then(|rest| rest.split(" (").next()).expect("a time");
        assert_eq!(parse(again).map(|(when, _)| when), parse("2026-11-23").map(|(when, _)| when));
    }

    #[test]
    fn what_people_type_is_read_in_the_zone_of_the_host() {
        // A Tuesday, behind a change of the clocks: UTC+1, and UTC+2 before 25 October.
        let now: ZonedDateTime = "2026-10-27T09:30:00+01:00[Europe/Berlin]".parse().unwrap();
        let read = |text: &str, edge| read(text, edge, &now).map(|(stamp, _)| stamp.to_string());
        for (text, end) in [
            ("now", "2026-10-27T08:30:00.999999999Z"),
            ("yesterday", "2026-10-26T22:59:59.999999999Z"),
            ("yesterday 12:00", "2026-10-26T11:00:00.999999999Z"),
            ("yesterday at 9:05:07", "2026-10-26T08:05:07.999999999Z"),
            ("Today", "2026-10-27T22:59:59.999999999Z"),
            ("tuesday", "2026-10-20T21:59:59.999999999Z"),
            ("last Monday", "2026-10-26T22:59:59.999999999Z"),
            ("last monday 23:59", "2026-10-26T22:59:00.999999999Z"),
            ("last week", "2026-10-25T22:59:59.999999999Z"),
            ("last month", "2026-09-30T21:59:59.999999999Z"),
            ("last year", "2025-12-31T22:59:59.999999999Z"),
            ("3 days ago", "2026-10-24T07:30:00.999999999Z"),
            ("3d", "2026-10-24T07:30:00.999999999Z"),
            ("3d ago", "2026-10-24T07:30:00.999999999Z"),
            ("3 days", "2026-10-24T07:30:00.999999999Z"),
            ("1 hour ago", "2026-10-27T07:30:00.999999999Z"),
            ("30min", "2026-10-27T08:00:00.999999999Z"),
            ("2 weeks ago", "2026-10-13T07:30:00.999999999Z"),
            ("2026-10-20", "2026-10-20T21:59:59.999999999Z"),
            ("2026-10-20 09:00", "2026-10-20T07:00:00.999999999Z"),
            ("2026-10-20 9:00", "2026-10-20T07:00:00.999999999Z"),
            ("2026-10-20T09:00:00.5", "2026-10-20T07:00:00.599999999Z"),
            ("2026-10-20T09:00:00+00:00", "2026-10-20T09:00:00.999999999Z"),
            ("2026-10-25 02:30:00+02:00", "2026-10-25T00:30:00.999999999Z"),
            ("2026-10-25 02:30:00 +01:00", "2026-10-25T01:30:00.999999999Z"),
        ] {
            assert_eq!(read(text, Edge::End), Ok(String::from(end)), "{text}");
        }
        for (text, start) in [
            ("yesterday", "2026-10-25T23:00:00Z"),
            ("last week", "2026-10-18T22:00:00Z"),
            ("last month", "2026-08-31T22:00:00Z"),
            ("last year", "2024-12-31T23:00:00Z"),
        ] {
            assert_eq!(read(text, Edge::Start), Ok(String::from(start)), "{text}");
        }
        let bad = [
            "",
            "soon",
            "last",
            "-3 days ago",
            "3 fortnights ago",
            "99999999 years ago",
            "7",
            "24.10.2026",
            "10/24/2026",
            "12:00",
            "yesterday 25:00",
            "yesterday noon",
            "next week",
            "2026-10-32",
            "now now",
            "ago",
            "+",
            "-1",
        ];
        for text in bad {
            assert!(read(text, Edge::End).is_err_and(|error| error.contains("`last week`")), "{text}");
        }
    }

    #[test]
    fn a_time_that_is_not_one_moment_is_refused_with_both_readings() {
        let now: ZonedDateTime = "2026-10-27T09:30:00+01:00[Europe/Berlin]".parse().unwrap();
        let refused = |text: &str| read(text, Edge::End, &now).expect_err(text);
        assert_eq!(
            refused("2026-10-25 02:30"),
            "`2026-10-25 02:30` comes twice, since the clocks are put back then in Europe/Berlin: \
             give `2026-10-25 02:30:00+02:00` or `2026-10-25 02:30:00+01:00`"
        );
        assert!(refused("sunday 2:30").contains("comes twice"));
        assert_eq!(
            refused("2026-03-29 02:30"),
            "`2026-03-29 02:30` does not exist, since the clocks are put forward then in Europe/Berlin: \
             give `2026-03-29 01:30:00+01:00` or `2026-03-29 03:30:00+02:00`"
        );
        assert_eq!(refused("3m ago"), "`3m` may be minutes or months: give `3min` or `3 months`");
    }
}
