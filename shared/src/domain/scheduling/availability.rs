//! When an owner can be met: weekly hours, dates that differ, closures, and the rules of booking.

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::Stretch;
use crate::domain::text::Checks;
use crate::domain::{User, Workspace};
use crate::kernel::{Day, Error, Id, Result, Time};

/// How many rules there may be.
const MAX_RULES: usize = 200;
/// How many closed dates there may be.
const MAX_CLOSURES: usize = 400;
/// How far ahead slots can be booked at most.
pub const MAX_DAYS_AHEAD: u32 = 365;
const MINUTES_OF_A_DAY: u32 = 24 * 60;

/// When an owner can be met. It is the owner's and not an agent's: several agents may book into it, and none of them can
/// be met in the owner's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Availability {
    /// Whose workspace.
    pub workspace_id: Id<Workspace>,
    /// Who is met.
    pub provider_id: Id<User>,
    /// The IANA name of the zone that hours and dates are of.
    pub timezone: String,
    /// Hours of weekdays and of dates.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// Dates on which nothing is open.
    #[serde(default)]
    pub closures: Vec<Closure>,
    /// How long an appointment is.
    pub duration_minutes: u32,
    /// What is kept free before each.
    #[serde(default)]
    pub buffer_before_minutes: u32,
    /// What is kept free after each.
    #[serde(default)]
    pub buffer_after_minutes: u32,
    /// How far apart slots begin, counted from the beginning of the open hours.
    pub slot_step_minutes: u32,
    /// How long before its start a slot can be booked at the latest.
    #[serde(default)]
    pub minimum_notice_minutes: u32,
    /// How far ahead slots can be booked.
    pub days_ahead: u32,
    /// What calendars show.
    pub title: String,
    /// Where.
    #[serde(default)]
    pub location: Option<String>,
    /// The address that visitors' calendars answer to, if the owner wants to show one.
    #[serde(default)]
    pub organizer_email: Option<String>,
    /// The last change.
    pub updated_at: Time,
}

/// Hours that are open or blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Open or blocked.
    pub kind: RuleKind,
    /// On which days.
    pub on: On,
    /// The first minute of the day.
    pub start: u32,
    /// The minute that it ends before.
    pub end: u32,
}

/// Open or blocked; blocked beats open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the two words say it")]
pub enum RuleKind {
    Open,
    Blocked,
}

/// The days of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// Every such day of the week, 0 for Sunday.
    Weekday(u8),
    /// One date. Its open hours stand in place of its weekday's.
    Date(Day),
}

/// A date on which nothing is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closure {
    /// Which date.
    pub date: Day,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}

/// A rule as its owner writes it.
#[derive(Debug, Clone)]
pub struct RuleWish {
    /// Open or blocked.
    pub kind: RuleKind,
    /// 0 for Sunday; this or a date.
    pub weekday: Option<u8>,
    /// This or a weekday.
    pub date: Option<Day>,
    /// `HH:MM`.
    pub start_time: String,
    /// `HH:MM`, up to `24:00`.
    pub end_time: String,
}

/// An availability as its owner writes it; what is left out has a default.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "the fields of an availability")]
pub struct AvailabilityWish {
    pub timezone: String,
    pub rules: Vec<RuleWish>,
    pub closures: Vec<Closure>,
    pub duration_minutes: Option<u32>,
    pub buffer_before_minutes: Option<u32>,
    pub buffer_after_minutes: Option<u32>,
    pub slot_step_minutes: Option<u32>,
    pub minimum_notice_minutes: Option<u32>,
    pub days_ahead: Option<u32>,
    pub title: Option<String>,
    pub location: Option<String>,
    pub organizer_email: Option<String>,
}

/// Which minutes of a date are open and which are blocked.
#[derive(Debug, Default)]
pub(super) struct Hours {
    pub(super) open: Vec<(u32, u32)>,
    pub(super) blocked: Vec<(u32, u32)>,
}

impl Availability {
    /// What counts until an owner says something: nothing is open.
    #[must_use]
    pub fn unset(workspace_id: Id<Workspace>, provider_id: Id<User>, now: Time) -> Self {
        Self {
            workspace_id,
            provider_id,
            timezone: "UTC".into(),
            rules: Vec::new(),
            closures: Vec::new(),
            duration_minutes: 30,
            buffer_before_minutes: 0,
            buffer_after_minutes: 0,
            slot_step_minutes: 30,
            minimum_notice_minutes: 60,
            days_ahead: 60,
            title: "Appointment".into(),
            location: None,
            organizer_email: None,
            updated_at: now,
        }
    }

    /// Reads what an owner wrote.
    ///
    /// # Errors
    /// `validation_error` naming each wrong field.
    pub fn check(workspace: Id<Workspace>, provider: Id<User>, wish: &AvailabilityWish, now: Time) -> Result<Self> {
        let mut checks = Checks::new();
        let unset = Self::unset(workspace, provider, now);
        let mut number = |name: &str, wish: Option<u32>, default: u32, (least, most): (u32, u32)| {
            let value = wish.unwrap_or(default);
            let message = format!("{name} must be {least} to {most}");
            checks.ensure((least..=most).contains(&value), name, "out_of_range", &message);
            value
        };
        let duration = number("duration_minutes", wish.duration_minutes, unset.duration_minutes, (5, MINUTES_OF_A_DAY));
        let before = number("buffer_before_minutes", wish.buffer_before_minutes, 0, (0, 240));
        let after = number("buffer_after_minutes", wish.buffer_after_minutes, 0, (0, 240));
        let following = duration.clamp(5, MINUTES_OF_A_DAY);
        let step = number("slot_step_minutes", wish.slot_step_minutes, following, (5, MINUTES_OF_A_DAY));
        let notice = (0, 30 * MINUTES_OF_A_DAY);
        let notice =
            number("minimum_notice_minutes", wish.minimum_notice_minutes, unset.minimum_notice_minutes, notice);
        let ahead = number("days_ahead", wish.days_ahead, unset.days_ahead, (1, MAX_DAYS_AHEAD));
        let timezone = zone_name(&mut checks, &wish.timezone);
        let few = wish.rules.len() <= MAX_RULES;
        checks.ensure(few, "rules", "too_many", &format!("rules may hold {MAX_RULES} rules"));
        let rules = wish.rules.iter().take(MAX_RULES).enumerate();
        let rules = rules.filter_map(|(at, rule)| rule.read(&mut checks, at)).collect();
        let title = wish.title.as_deref().map_or(unset.title, |title| checks.name("title", title, 120));
        let location = checks.optional("location", wish.location.as_deref(), 255);
        let organizer = wish.organizer_email.as_deref().map(str::trim).filter(|email| !email.is_empty());
        let organizer_email = organizer.map(|email| checks.email("organizer_email", email));
        let closures = closures(&mut checks, &wish.closures);
        checks.finish()?;
        Ok(Self {
            timezone,
            rules,
            closures,
            duration_minutes: duration,
            buffer_before_minutes: before,
            buffer_after_minutes: after,
            slot_step_minutes: step,
            minimum_notice_minutes: notice,
            days_ahead: ahead,
            title,
            location,
            organizer_email,
            ..unset
        })
    }

    /// Its zone.
    ///
    /// # Errors
    /// `internal_error` when the time-zone data that we carry does not know it any more.
    pub fn zone(&self) -> Result<TimeZone> {
        TimeZone::get(&self.timezone).map_err(|error| Error::internal(format!("a stored time zone: {error}")))
    }

    /// The slot that begins then, and nothing about whether it can be booked.
    #[must_use]
    pub fn slot(&self, start: Time) -> Stretch {
        Stretch::new(start, start.millis() + i64::from(self.duration_minutes) * 60_000)
    }

    /// What a slot keeps from others: itself and its buffers, which may lie outside of the open hours.
    #[must_use]
    pub fn held(&self, slot: Stretch) -> Stretch {
        let from = slot.from.millis() - i64::from(self.buffer_before_minutes) * 60_000;
        Stretch::new(Time::from_millis(from), slot.until.millis() + i64::from(self.buffer_after_minutes) * 60_000)
    }

    /// The hours of a date.
    pub(super) fn hours(&self, day: Day) -> Hours {
        let mut hours = Hours::default();
        if self.closures.iter().any(|closure| closure.date == day) {
            return hours;
        }
        let dated = |rule: &&Rule| rule.on == On::Date(day);
        let has_own = self.rules.iter().filter(dated).any(|rule| rule.kind == RuleKind::Open);
        let weekday = On::Weekday(day.weekday());
        for rule in self.rules.iter().filter(|rule| dated(rule) || (rule.on == weekday && !has_own)) {
            let list = match rule.kind {
                RuleKind::Open => &mut hours.open,
                RuleKind::Blocked => &mut hours.blocked,
            };
            list.push((rule.start, rule.end));
        }
        hours.open = merged(hours.open);
        hours
    }
}

/// Runs of minutes that touch become one: slots are then counted from where the run begins.
fn merged(mut runs: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    runs.sort_unstable();
    let mut merged: Vec<(u32, u32)> = Vec::with_capacity(runs.len());
    for (start, end) in runs {
        match merged.last_mut() {
            Some((_, last)) if start <= *last => *last = end.max(*last),
            _ => merged.push((start, end)),
        }
    }
    merged
}

/// The zone's name as the time-zone data spells it.
fn zone_name(checks: &mut Checks, wish: &str) -> String {
    let zone = TimeZone::get(wish.trim()).ok().filter(|zone| !zone.is_unknown());
    let name = zone.as_ref().and_then(TimeZone::iana_name);
    let message = "timezone must be the IANA name of a zone, such as Europe/Madrid";
    checks.ensure(name.is_some(), "timezone", "unknown_timezone", message);
    name.unwrap_or_default().to_owned()
}

/// Each date once, in order.
fn closures(checks: &mut Checks, wish: &[Closure]) -> Vec<Closure> {
    let few = wish.len() <= MAX_CLOSURES;
    checks.ensure(few, "closures", "too_many", &format!("closures may hold {MAX_CLOSURES} dates"));
    let mut closures: Vec<Closure> = Vec::new();
    for (at, closure) in wish.iter().take(MAX_CLOSURES).enumerate() {
        let reason = checks.optional(&format!("closures[{at}].reason"), closure.reason.as_deref(), 255);
        closures.push(Closure { date: closure.date, reason });
    }
    closures.sort_by_key(|closure| closure.date);
    closures.dedup_by_key(|closure| closure.date);
    closures
}

impl RuleWish {
    fn read(&self, checks: &mut Checks, at: usize) -> Option<Rule> {
        let name = |field: &str| format!("rules[{at}].{field}");
        let on = match (self.weekday, self.date) {
            (Some(weekday @ 0..=6), None) => Some(On::Weekday(weekday)),
            (None, Some(date)) => Some(On::Date(date)),
            _ => None,
        };
        let message = format!("{} must be 0 (Sunday) to 6, or left out for a date", name("weekday"));
        checks.ensure(on.is_some(), &name("weekday"), "invalid", &message);
        let mut time = |field: &str, text: &str| {
            let minute = read_time(text);
            let message = format!("{} must be a time of day such as 09:30", name(field));
            checks.ensure(minute.is_some(), &name(field), "invalid", &message);
            minute
        };
        let (start, end) = (time("start_time", &self.start_time), time("end_time", &self.end_time));
        let (start, end) = (start?, end?);
        let message = format!("{} must be later than start_time", name("end_time"));
        checks.ensure(start < end, &name("end_time"), "out_of_range", &message);
        Some(Rule { kind: self.kind, on: on?, start, end })
    }
}

/// `HH:MM` as a minute of the day; `24:00` is its end.
fn read_time(text: &str) -> Option<u32> {
    let (hours, minutes) = text.split_once(':')?;
    let two_digits = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !two_digits(hours) || !two_digits(minutes) {
        return None;
    }
    let (hours, minutes): (u32, u32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let minute = hours * 60 + minutes;
    (minutes < 60 && minute <= MINUTES_OF_A_DAY).then_some(minute)
}

/// A minute of the day as `HH:MM`.
#[must_use]
pub fn time_text(minute: u32) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(weekday: Option<u8>, date: Option<&str>, start: &str, end: &str) -> RuleWish {
        let date = date.map(|date| Day::parse(date).unwrap());
        RuleWish { kind: RuleKind::Open, weekday, date, start_time: start.into(), end_time: end.into() }
    }

    fn check(wish: &AvailabilityWish) -> Result<Availability> {
        let (workspace, provider) = (Id::from_int(1).unwrap(), Id::from_int(2).unwrap());
        Availability::check(workspace, provider, wish, Time::from_millis(0))
    }

    #[test]
    fn what_is_left_out_has_a_default_and_the_zone_is_spelt_as_its_data_does() {
        let wish = AvailabilityWish { timezone: "europe/madrid".into(), ..AvailabilityWish::default() };
        let read = check(&wish).unwrap();
        assert_eq!((read.timezone.as_str(), read.duration_minutes, read.slot_step_minutes), ("Europe/Madrid", 30, 30));
        let wish = AvailabilityWish { duration_minutes: Some(45), ..wish };
        assert_eq!(check(&wish).unwrap().slot_step_minutes, 45, "slots follow one another");
    }

    #[test]
    fn every_wrong_field_is_named() {
        let rules = vec![
            rule(Some(7), None, "09:00", "10:00"),
            rule(Some(1), Some("2040-01-01"), "09:00", "10:00"),
            rule(Some(1), None, "9:00", "25:00"),
            rule(None, Some("2040-01-01"), "10:00", "10:00"),
            rule(Some(0), None, "00:00", "24:00"),
        ];
        let wish = AvailabilityWish {
            timezone: "Mars/Olympus".into(),
            rules,
            duration_minutes: Some(4),
            days_ahead: Some(0),
            organizer_email: Some("nobody".into()),
            ..AvailabilityWish::default()
        };
        let error = check(&wish).unwrap_err();
        let mut fields: Vec<&str> = error.invalid_fields().iter().map(|field| field.name.as_str()).collect();
        fields.sort_unstable();
        let expected = [
            "days_ahead",
            "duration_minutes",
            "organizer_email",
            "rules[0].weekday",
            "rules[1].weekday",
            "rules[2].end_time",
            "rules[2].start_time",
            "rules[3].end_time",
            "timezone",
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn a_time_of_day_reads_back() {
        for minute in [0, 59, 60, 719, 1_439, 1_440] {
            assert_eq!(read_time(&time_text(minute)), Some(minute));
        }
        for bad in ["", "9:00", "24:01", "10:60", "10:00:00", "+1:00", "1000"] {
            assert_eq!(read_time(bad), None, "{bad}");
        }
    }
}
