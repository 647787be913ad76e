//! Moments as people and models write them, and as people read them.

use jiff::Timestamp;
use jiff::civil::{DateTime, Time as Clock};
use jiff::tz::{AmbiguousOffset, TimeZone};

use crate::kernel::{Day, Time};

/// What may stand between a date and a time, in the languages that the offline model speaks.
const AT: [&str; 5] = ["at ", "a las ", "a la ", "às ", "as "];

/// What a text says of when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// This moment.
    At(Time),
    /// Some time on this day.
    On(Day),
    /// A time that the clock leaves out on that day.
    LeftOut(Day),
}

impl When {
    /// Reads `2040-03-05T10:00:00Z`, `2040-03-05T10:00+01:00`, `2040-03-05T10:00`, `2040-03-05 at 10:00` or
    /// `2040-03-05`. Without an offset it is the zone's time, or that of a zone named behind it in brackets; of an hour that
    /// the clock shows twice it is the first, since who means the second can write the offset.
    #[must_use]
    pub fn read(text: &str, zone: &TimeZone) -> Option<Self> {
        let text = text.trim();
        let (text, named) = match text.strip_suffix(']').and_then(|text| text.split_once('[')) {
            Some((text, name)) => (text.trim(), Some(TimeZone::get(name.trim()).ok()?)),
            None => (text, None),
        };
        if let Ok(moment) = text.parse::<Timestamp>() {
            return Some(Self::At(Time::from_millis(moment.as_millisecond())));
        }
        let day = Day::parse(text.get(..10)?)?;
        let rest = text.get(10..)?.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, 'T' | 't' | ','));
        let rest = AT.iter().find_map(|word| rest.strip_prefix(word)).unwrap_or(rest).trim();
        if rest.is_empty() {
            return Some(Self::On(day));
        }
        let is_plain = rest.len() >= 5 && rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
        let clock: Clock = rest.parse().ok().filter(|_| is_plain)?;
        Some(Self::civil(day, clock, named.as_ref().unwrap_or(zone)))
    }

    fn civil(day: Day, clock: Clock, zone: &TimeZone) -> Self {
        let civil = DateTime::from_parts(day.date(), clock);
        let offset = match zone.to_ambiguous_zoned(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset,
            AmbiguousOffset::Fold { before, .. } => before,
            AmbiguousOffset::Gap { .. } => return Self::LeftOut(day),
        };
        let moment = offset.to_timestamp(civil);
        moment.map_or(Self::LeftOut(day), |moment| Self::At(Time::from_millis(moment.as_millisecond())))
    }
}

fn zoned(at: Time, zone: &TimeZone) -> jiff::Zoned {
    Timestamp::from_millisecond(at.millis()).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(zone.clone())
}

/// The first moment of a date in a zone.
#[must_use]
pub fn first_moment(day: Day, zone: &TimeZone) -> Time {
    let midnight = day.date().to_zoned(zone.clone());
    midnight.map_or_else(|_| day.start(), |midnight| Time::from_millis(midnight.timestamp().as_millisecond()))
}

/// A moment of the zone's clock with its offset: `2040-03-05T10:00:00+01:00`.
#[must_use]
pub fn iso(at: Time, zone: &TimeZone) -> String {
    zoned(at, zone).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

/// A moment for people: `Monday, 5 March 2040, 10:00`.
#[must_use]
pub fn spoken(at: Time, zone: &TimeZone) -> String {
    zoned(at, zone).strftime("%A, %-d %B %Y, %H:%M").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<When> {
        When::read(text, &TimeZone::get("Europe/Madrid").unwrap())
    }

    fn at(text: &str) -> Option<When> {
        Some(When::At(Time::from_millis(text.parse::<Timestamp>().unwrap().as_millisecond())))
    }

    #[test]
    fn a_moment_is_read_in_the_zone_unless_it_says_its_own() {
        for text in [
            "2040-07-02T10:00",
            " 2040-07-02 10:00:00 ",
            "2040-07-02 at 10:00",
            "2040-07-02, 10:00",
            "2040-07-02 a las 10:00",
            "2040-07-02T10:00+02:00",
            "2040-07-02T08:00:00Z",
            "2040-07-02T09:00[Europe/London]",
        ] {
            assert_eq!(read(text), at("2040-07-02T08:00:00Z"), "{text}");
        }
        assert_eq!(read("2040-07-02"), Some(When::On(Day::parse("2040-07-02").unwrap())));
        for text in ["", "tomorrow at 10", "Tuesday", "2040-07-02 in the morning", "2040-13-02T10:00", "2040-07-02T10"]
        {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn an_hour_that_is_left_out_is_no_moment_and_one_that_comes_twice_is_the_first() {
        assert_eq!(read("2040-03-25T02:30"), Some(When::LeftOut(Day::parse("2040-03-25").unwrap())));
        assert_eq!(read("2040-10-28T02:30"), at("2040-10-28T00:30:00Z"));
        assert_eq!(read("2040-10-28T02:30+01:00"), at("2040-10-28T01:30:00Z"));
    }

    #[test]
    fn a_moment_is_told_in_the_zone() {
        let zone = TimeZone::get("America/Sao_Paulo").unwrap();
        let Some(When::At(at)) = read("2040-07-02T08:00:00Z") else { panic!() };
        assert_eq!(iso(at, &zone), "2040-07-02T05:00:00-03:00");
        assert_eq!(spoken(at, &zone), "Monday, 2 July 2040, 05:00");
    }
}
