//! A calendar day in UTC: what bills are cut into.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::Time;

/// A day in UTC, written `2026-01-31`: table, wire and keys, where text order is time order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(Date);

impl Day {
    /// The day of a moment.
    #[must_use]
    pub fn of(time: Time) -> Self {
        let moment = Timestamp::from_millisecond(time.millis()).unwrap_or(Timestamp::UNIX_EPOCH);
        Self(moment.to_zoned(TimeZone::UTC).date())
    }

    /// Reads `2026-01-31`, strictly.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        if is_plain { text.parse().ok().map(Self) } else { None }
    }

    /// The same day for a calendar, in whatever zone.
    #[must_use]
    pub const fn date(self) -> Date {
        self.0
    }

    /// Its first moment.
    #[must_use]
    pub fn start(self) -> Time {
        let midnight = self.0.to_zoned(TimeZone::UTC).map(|midnight| midnight.timestamp().as_millisecond());
        Time::from_millis(midnight.unwrap_or(0))
    }

    /// The first moment of the next day.
    #[must_use]
    pub fn end(self) -> Time {
        self.start() + Duration::from_secs(24 * 3600)
    }

    /// The day this many days later, or earlier when negative.
    #[must_use]
    pub fn plus(self, days: i32) -> Self {
        Self(self.0.saturating_add(Span::new().days(days)))
    }

    /// The day of the week, 0 for Sunday.
    #[must_use]
    pub fn weekday(self) -> u8 {
        u8::try_from(self.0.weekday().to_sunday_zero_offset()).unwrap_or(0)
    }

    /// The first day of its month.
    #[must_use]
    pub fn first_of_month(self) -> Self {
        Self(self.0.first_of_month())
    }

    /// The last day of its month.
    #[must_use]
    pub fn last_of_month(self) -> Self {
        Self(self.0.last_of_month())
    }

    /// The days from this one to another, both included, in order; none when the other is earlier.
    pub fn through(self, last: Self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self), |day| Some(day.plus(1))).take_while(move |day| *day <= last)
    }

    /// How many days there are from this one to another, both included; 0 when the other is earlier.
    #[must_use]
    pub fn count_through(self, last: Self) -> u32 {
        let days = (last.start().millis() - self.start().millis()) / 86_400_000 + 1;
        u32::try_from(days).unwrap_or(0)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("must be a day such as 2026-01-31"))
    }
}

impl JsonSchema for Day {
    fn schema_name() -> Cow<'static, str> {
        "Day".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> Day {
        Day::parse(text).unwrap()
    }

    #[test]
    fn a_day_holds_its_moments_and_no_other() {
        let leap = day("2040-02-29");
        assert_eq!(leap.start().to_string(), "2040-02-29T00:00:00.000Z");
        assert_eq!(leap.end().to_string(), "2040-03-01T00:00:00.000Z");
        assert_eq!(Day::of(leap.start()), leap);
        assert_eq!(Day::of(leap.end() - Duration::from_millis(1)), leap);
        assert_eq!(Day::of(leap.end()), day("2040-03-01"));
    }

    #[test]
    fn only_days_that_exist_are_read() {
        for bad in ["", "2041-02-29", "2040-13-01", "2040-1-1", "2040-01-01T00:00:00Z", "20400101", "+02040-01-0"] {
            assert!(Day::parse(bad).is_none(), "{bad}");
        }
        assert_eq!(serde_json::from_str::<Day>("\"2040-03-05\"").unwrap().to_string(), "2040-03-05");
    }

    #[test]
    fn days_are_counted_over_months_and_years() {
        let (first, last) = (day("2039-12-30"), day("2040-01-02"));
        let days: Vec<_> = first.through(last).map(|day| day.to_string()).collect();
        assert_eq!(days, ["2039-12-30", "2039-12-31", "2040-01-01", "2040-01-02"]);
        assert_eq!((first.count_through(last), last.count_through(first)), (4, 0));
        assert_eq!(day("2040-01-01").count_through(day("2040-12-31")), 366);
        assert_eq!((last.first_of_month(), last.last_of_month()), (day("2040-01-01"), day("2040-01-31")));
    }
}
