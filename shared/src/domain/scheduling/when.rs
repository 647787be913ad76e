//! Moments as people and models write them, and as people read them.

use jiff::Timestamp;
use jiff::civil::{DateTime, Time as Clock};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

use crate::domain::language::Lang;
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
    /// A time that the clock shows twice: these moments.
    Twice(Time, Time),
}

impl When {
    /// Reads `2040-03-05T10:00:00Z`, `2040-03-05T10:00+01:00`, `2040-03-05T10:00`, `2040-03-05 at 10:00` or
    /// `2040-03-05`. Without an offset it is the zone's time, or that of a zone named behind it in brackets. An offset may
    /// also stand as [`spoken`] writes it: `2040-10-28 02:30 (UTC+2)`.
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
        let (text, offset) = match text.strip_suffix(')').and_then(|text| text.split_once("(UTC")) {
            Some((text, offset)) => (text.trim(), Some(read_offset(offset)?)),
            None => (text, None),
        };
        let day = Day::parse(text.get(..10)?)?;
        let rest = text.get(10..)?.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, 'T' | 't' | ','));
        let rest = AT.iter().find_map(|word| rest.strip_prefix(word)).unwrap_or(rest).trim();
        if rest.is_empty() {
            return Some(Self::On(day));
        }
        let is_plain = rest.len() >= 5 && rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
        let clock: Clock = rest.parse().ok().filter(|_| is_plain)?;
        let fixed = offset.map(TimeZone::fixed);
        Some(Self::civil(day, clock, fixed.as_ref().or(named.as_ref()).unwrap_or(zone)))
    }

    fn civil(day: Day, clock: Clock, zone: &TimeZone) -> Self {
        let civil = DateTime::from_parts(day.date(), clock);
        let at = |offset: Offset| {
            let moment = offset.to_timestamp(civil).ok()?;
            Some(Time::from_millis(moment.as_millisecond()))
        };
        let read = match zone.to_ambiguous_zoned(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => at(offset).map(Self::At),
            AmbiguousOffset::Fold { before, after } => {
                at(before).zip(at(after)).map(|(one, two)| Self::Twice(one, two))
            }
            AmbiguousOffset::Gap { .. } => None,
        };
        read.unwrap_or(Self::LeftOut(day))
    }
}

/// `+2`, `-3:30` or nothing, as behind `UTC`.
fn read_offset(text: &str) -> Option<Offset> {
    let text = text.trim();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (hours, minutes) = digits.split_once(':').unwrap_or((digits, "0"));
    let number = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<i32>().ok() };
    Offset::from_seconds(sign * (number(hours)?.checked_mul(3_600)?.checked_add(number(minutes)?.checked_mul(60)?)?))
        .ok()
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

const WEEKDAYS: [[&str; 7]; 3] = [
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"],
    ["domingo", "lunes", "martes", "miércoles", "jueves", "viernes", "sábado"],
    ["domingo", "segunda-feira", "terça-feira", "quarta-feira", "quinta-feira", "sexta-feira", "sábado"],
];
#[rustfmt::skip]
const MONTHS: [[&str; 12]; 3] = [
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
     "December"],
    ["enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre", "octubre", "noviembre",
     "diciembre"],
    ["janeiro", "fevereiro", "março", "abril", "maio", "junho", "julho", "agosto", "setembro", "outubro", "novembro",
     "dezembro"],
];

/// A moment for people: `Monday, 5 March 2040, 10:00`. Of a time that the clock shows twice it says which one it is:
/// `02:30 (UTC+2)`.
#[must_use]
pub fn spoken(at: Time, zone: &TimeZone, lang: Lang) -> String {
    let zoned = zoned(at, zone);
    let weekday = usize::try_from(zoned.weekday().to_sunday_zero_offset()).unwrap_or_default();
    let month = usize::try_from(zoned.month() - 1).unwrap_or_default();
    let (weekday, month) = (lang.of(WEEKDAYS)[weekday], lang.of(MONTHS)[month]);
    let (day, year, clock) = (zoned.day(), zoned.year(), zoned.strftime("%H:%M"));
    let date = lang.of([
        format!("{day} {month} {year}"),
        format!("{day} de {month} de {year}"),
        format!("{day} de {month} de {year}"),
    ]);
    let is_twice = matches!(zone.to_ambiguous_zoned(zoned.datetime()).offset(), AmbiguousOffset::Fold { .. });
    let which = if is_twice { offset_text(zoned.offset()) } else { String::new() };
    format!("{weekday}, {date}, {clock}{which}")
}

/// ` (UTC+2)`, ` (UTC-3:30)`.
fn offset_text(offset: Offset) -> String {
    let minutes = offset.seconds() / 60;
    let sign = if minutes < 0 { '-' } else { '+' };
    let (hours, rest) = (minutes.abs() / 60, minutes.abs() % 60);
    match (hours, rest) {
        (0, 0) => " (UTC)".to_owned(),
        (hours, 0) => format!(" (UTC{sign}{hours})"),
        (hours, rest) => format!(" (UTC{sign}{hours}:{rest:02})"),
    }
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
    fn an_hour_that_is_left_out_is_no_moment_and_one_that_comes_twice_is_two() {
        assert_eq!(read("2040-03-25T02:30"), Some(When::LeftOut(Day::parse("2040-03-25").unwrap())));
        let (Some(When::At(first)), Some(When::At(second))) = (at("2040-10-28T00:30:00Z"), at("2040-10-28T01:30:00Z"))
        else {
            panic!()
        };
        assert_eq!(read("2040-10-28T02:30"), Some(When::Twice(first, second)));
        assert_eq!(read("2040-10-28T02:30+01:00"), Some(When::At(second)));
        let zone = TimeZone::get("Europe/Madrid").unwrap();
        for (moment, offset) in [(first, "UTC+2"), (second, "UTC+1")] {
            let told = spoken(moment, &zone, Lang::En);
            assert_eq!(told, format!("Sunday, 28 October 2040, 02:30 ({offset})"));
            assert_eq!(read(&format!("2040-10-28 02:30 ({offset})")), Some(When::At(moment)), "it reads back");
        }
        let Some(When::At(after)) = at("2040-10-28T02:00:00Z") else { panic!() };
        assert_eq!(spoken(after, &zone, Lang::En), "Sunday, 28 October 2040, 03:00", "once");
        assert_eq!(read("2040-10-28 02:30 (UTC-3:30)"), at("2040-10-28T06:00:00Z"));
        for text in ["2040-10-28 02:30 (UTC+99)", "2040-10-28 02:30 (UTCx)", "2040-10-28 (UTC+99999999999)"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_moment_is_told_in_the_zone() {
        let zone = TimeZone::get("America/Sao_Paulo").unwrap();
        let Some(When::At(at)) = read("2040-07-02T08:00:00Z") else { panic!() };
        assert_eq!(iso(at, &zone), "2040-07-02T05:00:00-03:00");
        assert_eq!(spoken(at, &zone, Lang::En), "Monday, 2 July 2040, 05:00");
        assert_eq!(spoken(at, &zone, Lang::Es), "lunes, 2 de julio de 2040, 05:00");
        assert_eq!(spoken(at, &zone, Lang::Pt), "segunda-feira, 2 de julho de 2040, 05:00");
    }
}
