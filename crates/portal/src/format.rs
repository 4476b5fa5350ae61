//! Numbers and times as people read them.

use std::fmt;

use jiff::{Timestamp, tz::TimeZone};

/// A whole number in groups of three digits: `1,204,331`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A large number in three digits: `1.84 M`.
pub(crate) fn short(number: u64) -> String {
    let thousandths = |unit: u64| format!("{}.{:02}", number / unit, number % unit * 100 / unit);
    match number {
        0..=9_999 => grouped(number),
        10_000..=999_999 => format!("{}.{} k", number / 1_000, number % 1_000 / 100),
        1_000_000..=999_999_999 => format!("{} M", thousandths(1_000_000)),
        _ => format!("{} G", thousandths(1_000_000_000)),
    }
}

/// A share in percent, with as many digits as say something.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "–".to_owned();
    }
    let hundredths = u128::from(part) * 10_000 / u128::from(whole);
    format!("{}.{:02} %", hundredths / 100, hundredths % 100)
}

/// A duration of so many microseconds.
pub(crate) fn duration(micros: u64) -> String {
    match micros {
        0..=9_999 => format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100),
        10_000..=9_999_999 => format!("{} ms", grouped(micros / 1_000)),
        _ => format!("{} s", grouped(micros / 1_000_000)),
    }
}

/// The duration within which this share of calls ended, in whole microseconds; 0 when there were none.
pub(crate) fn quantile(tally: &market::Tally, share: f64) -> u64 {
    whole(tally.latency.quantile_micros(share).unwrap_or(0.0))
}

/// Whole microseconds; 0 for what is no duration.
pub(crate) fn whole(micros: f64) -> u64 {
    std::time::Duration::try_from_secs_f64(micros / 1e6)
        .map_or(0, |took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX))
}

/// A moment, as how long ago it was or how far off it is, with the exact time beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moment {
    at: Timestamp,
    now: Timestamp,
}

impl Moment {
    pub(crate) const fn new(at: Timestamp, now: Timestamp) -> Self {
        Self { at, now }
    }

    /// As programs read it (RFC 3339).
    pub(crate) fn machine(&self) -> String {
        format!("{:.0}", self.at)
    }

    /// To the minute, in UTC.
    pub(crate) fn exact(&self) -> String {
        self.at.to_zoned(TimeZone::UTC).strftime("%-d %B %Y, %H:%M UTC").to_string()
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.now.duration_since(self.at).as_secs();
        let (number, unit) = match seconds.unsigned_abs() {
            0..=59 if seconds >= 0 => return out.write_str("just now"),
            0..=59 => return out.write_str("within a minute"),
            seconds @ 60..=3_599 => (seconds / 60, "minute"),
            seconds @ 3_600..=86_399 => (seconds / 3_600, "hour"),
            seconds @ 86_400..=5_184_000 => (seconds / 86_400, "day"),
            _ => {
                let date = self.at.to_zoned(TimeZone::UTC).strftime("%-d %B %Y").to_string();
                return out.write_str(&date);
            }
        };
        let plural = if number == 1 { "" } else { "s" };
        if seconds >= 0 {
            write!(out, "{number} {unit}{plural} ago")
        } else {
            write!(out, "in {number} {unit}{plural}")
        }
    }
}

/// A text as a part of a query.
pub(crate) fn query(text: &str) -> String {
    let pair = serde_urlencoded::to_string([("", text)]).unwrap_or_default();
    pair.trim_start_matches('=').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_204_331), "1,204,331");
        assert_eq!(short(9_999), "9,999");
        assert_eq!(short(12_345), "12.3 k");
        assert_eq!(short(1_840_000), "1.84 M");
        assert_eq!(percent(12, 10_000), "0.12 %");
        assert_eq!(percent(0, 0), "–");
        assert_eq!(duration(1_234), "1.2 ms");
        assert_eq!(duration(41_999), "41 ms");
        assert_eq!(query("/a?b=c d"), "%2Fa%3Fb%3Dc+d");
    }

    #[test]
    fn moments_are_told_by_their_distance() {
        let now = Timestamp::from_second(1_800_000_000).expect("a time");
        let told = |seconds: i64| {
            Moment::new(Timestamp::from_second(1_800_000_000 + seconds).expect("a time"), now)
                .to_string()
        };
        assert_eq!(told(0), "just now");
        assert_eq!(told(-60), "1 minute ago");
        assert_eq!(told(-7_200), "2 hours ago");
        assert_eq!(told(3 * 86_400), "in 3 days");
        assert_eq!(told(30), "within a minute");
    }
}
