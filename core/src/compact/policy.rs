//! Which snapshots are retained (FORMAT.md section 9). Pure: a function of the times of the snapshots and of now.
//!
//! A policy is a set of moments, and a snapshot is retained if it is the state at one of them. What must not come in: archives,
//! and what a snapshot needs.

use crate::time::{Civil, Span, Time};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

const DAY: i64 = 86_400;
const DAY_NS: i64 = DAY * 1_000_000_000;
/// The most days, weeks or months that may be asked for.
const COUNT_MAX: u32 = 100_000;
/// The longest span that may be asked for: 1,000 years.
const DAYS_MAX: i64 = 365_250;

/// What is retained of one user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// The state at every moment from so long ago on.
    pub within: Span,
    /// The states at the ends of so many days before today.
    pub daily: u32,
    /// The states at the ends of so many weeks before this one.
    pub weekly: u32,
    /// The states at the ends of so many months before this one.
    pub monthly: u32,
    /// Every snapshot.
    pub everything: bool,
}

/// The design of 2009: the newest state, and what was deleted within the last 7 days.
impl Default for Policy {
    fn default() -> Policy {
        Policy { within: Span::from_secs(7 * DAY), daily: 0, weekly: 0, monthly: 0, everything: false }
    }
}

impl Policy {
    /// Retains every snapshot.
    pub const EVERYTHING: Policy = Policy { within: Span(0), daily: 0, weekly: 0, monthly: 0, everything: true };

    /// Reads words and values such as `keep-within 7d keep-daily 30`, or `off`. What is not named is not kept, but for
    /// `keep-within`, which is the default's.
    pub fn parse(text: &str) -> Result<Policy, String> {
        let mut policy = Policy::default();
        let mut words = text.split_ascii_whitespace();
        while let Some(word) = words.next() {
            if word == "off" {
                policy.everything = true;
                continue;
            }
            let value = words.next().ok_or_else(|| format!("`{word}` needs a value"))?;
            match word {
                "keep-within" => policy.within = span(value)?,
                "keep-daily" => policy.daily = count(value)?,
                "keep-weekly" => policy.weekly = count(value)?,
                "keep-monthly" => policy.monthly = count(value)?,
                _ => {
                    return Err(format!("`{word}` is none of keep-within, keep-daily, keep-weekly, keep-monthly, off"));
                }
            }
        }
        Ok(policy)
    }

    /// For each snapshot, in the order of the archive, whether it is retained. The newest always is, and so is one from the
    /// future: a clock was wrong, and nobody knows which.
    pub fn retained(&self, now: Time, snapshots: &[Time]) -> Vec<bool> {
        let mut kept = vec![self.everything; snapshots.len()];
        let from = now.plus(Span(self.within.0.saturating_neg()));
        for (kept, time) in kept.iter_mut().zip(snapshots) {
            *kept |= *time >= from;
        }
        let moments = core::iter::once(from).chain(self.moments(now));
        let states = moments.filter_map(|moment| snapshots.iter().rposition(|time| *time <= moment));
        // The newest is among them: it is no older than `from`, or the state then.
        for at in states {
            kept[at] = true;
        }
        kept
    }

    /// Until when the snapshot `n` of these, in the order of the archive, is retained. It is not any more at that moment, and
    /// may go with the next compaction. `None`: for ever, which for the newest means until there is another.
    pub fn until(&self, snapshots: &[Time], n: usize) -> Option<Time> {
        let (since, later) = (snapshots.get(n)?, snapshots.get(n + 1..)?);
        // It is the state at a moment that lies between it and whatever came after it.
        let end = later.iter().min().filter(|_| !self.everything)?;
        let within = (*since).max(*end).plus(self.within);
        let ended = |day: i64| *since <= end_before(day);
        let today = end.0.div_euclid(DAY_NS);
        let (monday, month) = (monday(today), month(*end));
        let days = (self.daily > 0 && ended(today)).then(|| day(today + i64::from(self.daily)));
        let weeks = (self.weekly > 0 && ended(monday)).then(|| day(monday + 7 * i64::from(self.weekly)));
        let months = (self.monthly > 0 && ended(first_of(month))).then(|| day(first_of(month + i64::from(self.monthly))));
        [Some(within), days, weeks, months].into_iter().flatten().max()
    }

    /// The last nanosecond of each day, week and month that counts.
    fn moments(&self, now: Time) -> impl Iterator<Item = Time> {
        let today = now.0.div_euclid(DAY_NS);
        let (monday, month) = (monday(today), month(now));
        let days = (0..i64::from(self.daily)).map(move |n| end_before(today - n));
        let weeks = (0..i64::from(self.weekly)).map(move |n| end_before(monday - 7 * n));
        let months = (0..i64::from(self.monthly)).map(move |n| end_before(first_of(month - n)));
        days.chain(weeks).chain(months)
    }
}

/// The Monday of the week in which a day lies. 1970-01-01, day 0, was a Thursday.
fn monday(day: i64) -> i64 {
    day - (day + 3).rem_euclid(7)
}

/// The month in which a time lies, counted from the beginning of the year 0.
fn month(time: Time) -> i64 {
    let Civil { year, month, .. } = Civil::from_time(time);
    year * 12 + i64::from(month) - 1
}

/// The first day of a month.
fn first_of(month: i64) -> i64 {
    let (year, month) = (month.div_euclid(12), month.rem_euclid(12) as u32 + 1);
    Civil { year, month, day: 1, hour: 0, minute: 0, second: 0 }.to_time().secs().div_euclid(DAY)
}

/// When a day begins.
fn day(day: i64) -> Time {
    Time(day.saturating_mul(DAY_NS))
}

/// The last nanosecond before this day begins.
fn end_before(of: i64) -> Time {
    day(of).plus(Span(-1))
}

/// Reads a span such as `12h`, `7d` or `4w`.
fn span(text: &str) -> Result<Span, String> {
    let bad = || format!("`{text}` is no span such as 12h, 7d or 4w");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(bad)?;
    let seconds = match unit {
        "h" => 3600,
        "d" => DAY,
        "w" => 7 * DAY,
        _ => return Err(bad()),
    };
    let number: i64 = number.parse::<u32>().map_err(|_| bad())?.into();
    let total = number * seconds;
    if total > DAYS_MAX * DAY {
        return Err(format!("`{text}` is longer than {DAYS_MAX} days; `off` keeps everything"));
    }
    // The span of 1,000 years would not fit into nanoseconds.
    Ok(Span(total.saturating_mul(1_000_000_000)))
}

fn count(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|n| *n <= COUNT_MAX);
    number.ok_or_else(|| format!("`{text}` is no number from 0 to {COUNT_MAX}"))
}

/// Policies by users, as the file `retention` of a store gives them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Retention(Vec<(Vec<u8>, Policy)>);

impl Retention {
    /// Reads the file. The error says in which line what is wrong.
    pub fn parse(text: &[u8]) -> Result<Retention, String> {
        let mut lines = Vec::new();
        for (n, line) in text.split(|&c| c == b'\n').enumerate() {
            let at = |what: &str| format!("retention: line {}: {what}", n + 1);
            let line = core::str::from_utf8(line).map_err(|_| at("is not UTF-8"))?;
            let line = line.split('#').next().unwrap_or_default().trim();
            let Some(pattern) = line.split_ascii_whitespace().next() else { continue };
            let policy = Policy::parse(&line[pattern.len()..]).map_err(|what| at(&what))?;
            lines.push((pattern.to_string().into_bytes(), policy));
        }
        Ok(Retention(lines))
    }

    /// The policy of the first line that fits; the default if none does.
    pub fn policy(&self, user: &[u8]) -> Policy {
        self.0.iter().find(|(pattern, _)| fits(pattern, user)).map_or_else(Policy::default, |(_, policy)| *policy)
    }
}

/// True if the pattern (`*` any bytes, `?` one) fits all of `text`.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where the last `*` stands, and how much it has taken so far.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == b'?' || c == text[t] => (p, t) = (p + 1, t + 1),
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                (p, t) = (at + 1, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-25 12:00 UTC, a Wednesday.
    fn now() -> Time {
        Civil { year: 2026, month: 11, day: 25, hour: 12, minute: 0, second: 0 }.to_time()
    }

    /// Which of the snapshots taken these many hours ago are retained, by their hours.
    fn kept(policy: &str, hours_ago: &[i64]) -> Vec<i64> {
        let policy = Policy::parse(policy).unwrap();
        let times: Vec<Time> = hours_ago.iter().map(|h| now().plus(Span::from_secs(-h * 3600))).collect();
        let kept = policy.retained(now(), &times);
        // Whatever is retained now is all that is retained when the rest is gone.
        let left: Vec<Time> = times.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(time, _)| *time).collect();
        assert!(policy.retained(now(), &left).iter().all(|kept| *kept), "twice is not once");
        hours_ago.iter().zip(kept).filter(|(_, kept)| *kept).map(|(h, _)| *h).collect()
    }

    #[test]
    fn the_default_keeps_what_was_there_7_days_ago_and_all_since() {
        assert_eq!(kept("", &[1000, 400, 200, 169, 168, 167, 3]), [168, 167, 3]);
        assert_eq!(kept("", &[1000, 400, 200, 167, 3]), [200, 167, 3], "the state 7 days ago is that of 200 hours ago");
        assert_eq!(kept("", &[1000, 400]), [400], "the newest is the state ever since");
        assert_eq!(kept("", &[]), [] as [i64; 0]);
        assert_eq!(kept("off", &[1000, 400, 3]), [1000, 400, 3]);
    }

    #[test]
    fn days_weeks_and_months_keep_the_state_at_their_ends() {
        // Midnight is 12 hours ago, Monday 60, the month 588.
        let runs = [2000, 1500, 700, 600, 300, 100, 80, 61, 59, 40, 37, 35, 20, 13, 11, 2];
        assert_eq!(kept("keep-within 0h", &runs), [2]);
        assert_eq!(kept("keep-within 0h keep-daily 1", &runs), [13, 2]);
        assert_eq!(kept("keep-within 0h keep-daily 3", &runs), [61, 37, 13, 2]);
        assert_eq!(kept("keep-within 0h keep-weekly 2", &runs), [300, 61, 2]);
        assert_eq!(kept("keep-within 0h keep-monthly 2", &runs), [1500, 600, 2]);
        assert_eq!(kept("keep-within 24h keep-monthly 1", &runs), [600, 35, 20, 13, 11, 2]);
    }

    #[test]
    fn months_go_back_over_new_year() {
        let now = Civil { year: 2026, month: 1, day: 2, hour: 0, minute: 0, second: 0 }.to_time();
        let policy = Policy { monthly: 3, within: Span(0), ..Policy::default() };
        let ends: Vec<String> = policy.moments(now).map(|t| Civil::from_time(t).to_string()).collect();
        assert_eq!(ends, ["2025-12-31 23:59:59Z", "2025-11-30 23:59:59Z", "2025-10-31 23:59:59Z"]);
    }

    /// What `until` says is what `retained` does: up to then, and not at it.
    #[test]
    fn a_snapshot_is_retained_until_the_time_that_is_told() {
        let runs = [9000, 2000, 1500, 700, 610, 600, 300, 100, 80, 61, 59, 40, 37, 35, 20, 13, 12, 11, 2];
        let runs = runs.map(|h: i64| now().plus(Span::from_secs(-h * 3600)));
        for words in [
            "",
            "keep-within 0h",
            "keep-within 0h keep-daily 1",
            "keep-daily 40",
            "keep-within 1h keep-weekly 3",
            "keep-within 0h keep-monthly 1",
            "keep-within 3d keep-daily 5 keep-weekly 4 keep-monthly 14",
        ] {
            let policy = Policy::parse(words).unwrap();
            for n in 0..runs.len() - 1 {
                let until = policy.until(&runs, n).unwrap();
                let before = until.plus(Span(-1)).max(runs[n + 1]);
                if until > before {
                    assert!(policy.retained(before, &runs)[n], "{words}, run {n}: is there until {}", Civil::from_time(until));
                }
                let after = until.plus(Span(1)).max(runs[runs.len() - 1]);
                assert!(!policy.retained(after, &runs)[n], "{words}, run {n}: is there after {}", Civil::from_time(until));
            }
            assert_eq!(policy.until(&runs, runs.len() - 1), None, "the newest stays");
        }
        assert_eq!(Policy::EVERYTHING.until(&runs, 0), None);
    }

    #[test]
    fn a_snapshot_from_the_future_stays() {
        let policy = Policy::default();
        let (past, future) = (now().plus(Span::from_secs(-90 * DAY)), now().plus(Span::from_secs(90 * DAY)));
        assert_eq!(policy.retained(now(), &[past, future, past]), [false, true, true]);
    }

    #[test]
    fn words_that_say_nothing_are_refused() {
        for bad in
            ["keep-within", "keep-within 7", "keep-within d", "keep-within 9999999w", "keep-daily -1", "keep 7", "keep-daily x"]
        {
            assert!(Policy::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Policy::parse("keep-within 2w").unwrap().within, Span::from_secs(14 * DAY));
        assert_eq!(Policy::parse("keep-within \u{e9}").unwrap_err(), "`\u{e9}` is no span such as 12h, 7d or 4w");
    }

    #[test]
    fn the_first_line_that_fits_counts() {
        let text = b"# by users\nanna*  keep-within 30d\n*@example.org keep-daily 7 # a week\n\nb?b off\n* keep-within 1d\n";
        let retention = Retention::parse(text).unwrap();
        let of = |user: &str| retention.policy(user.as_bytes());
        assert_eq!(of("anna@example.org").within, Span::from_secs(30 * DAY));
        assert_eq!((of("carl@example.org").daily, of("carl@example.org").within), (7, Policy::default().within));
        assert!(of("bob").everything && !of("boob").everything);
        assert_eq!(of("%shared").within, Span::from_secs(DAY));
        assert_eq!(Retention::default().policy(b"x"), Policy::default());
        assert_eq!(
            Retention::parse(b"* keep-daily 7\n* keep 3\n").unwrap_err(),
            "retention: line 2: `keep` is none of keep-within, keep-daily, keep-weekly, keep-monthly, off"
        );
    }

    #[test]
    fn patterns_fit_as_a_whole() {
        let fit = |p: &str, t: &str| fits(p.as_bytes(), t.as_bytes());
        assert!(fit("*", "") && fit("a*b*c", "aXbXbc") && fit("??", "ab") && fit("a**", "a"));
        assert!(!fit("", "a") && !fit("a*b", "abc") && !fit("?", "") && !fit("a", "ab"));
    }
}
