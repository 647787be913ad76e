//! Slots against a plain reading of the rules: minute by minute, over zones and dates.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;
use crate::kernel::{Day, Id, Time};

/// Zones whose clocks change in every way: by an hour, by half of one, at midnight, in the south, not at all, over the
/// date line.
const ZONES: [&str; 12] = [
    "Europe/Madrid",
    "America/New_York",
    "America/Sao_Paulo",
    "America/Santiago",
    "America/Vancouver",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Atlantic/Azores",
    "UTC",
];
const MINUTE: i64 = 60_000;

pub(super) fn at(text: &str) -> Time {
    Time::from_millis(text.parse::<Timestamp>().unwrap().as_millisecond())
}

fn day(text: &str) -> Day {
    Day::parse(text).unwrap()
}

fn open(on: On, start: u32, end: u32) -> Rule {
    Rule { kind: RuleKind::Open, on, start, end }
}

fn every_day(start: u32, end: u32) -> Vec<Rule> {
    (0..7).map(|weekday| open(On::Weekday(weekday), start, end)).collect()
}

fn availability(timezone: &str, rules: Vec<Rule>) -> Availability {
    let unset = Availability::unset(Id::from_int(1).unwrap(), Id::from_int(2).unwrap(), Time::from_millis(0));
    Availability { timezone: timezone.into(), rules, minimum_notice_minutes: 0, days_ahead: 365, ..unset }
}

/// The local starts of a date's slots, with their offsets.
fn starts(availability: &Availability, date: &str) -> Vec<String> {
    let (zone, date) = (availability.zone().unwrap(), day(date));
    let around = Stretch { from: date.plus(-1).start(), until: date.plus(2).start() };
    let slots = availability.slots(around, &[], around.from).unwrap();
    let local = slots.iter().map(|slot| iso(slot.from, &zone));
    local.filter(|local| local.starts_with(&date.to_string())).map(|local| local[11..].to_owned()).collect()
}

#[test]
fn an_hour_that_the_clock_leaves_out_is_not_offered() {
    let mut madrid = availability("Europe/Madrid", every_day(60, 300));
    (madrid.duration_minutes, madrid.slot_step_minutes) = (30, 30);
    let expected =
        ["01:00:00+01:00", "01:30:00+01:00", "03:00:00+02:00", "03:30:00+02:00", "04:00:00+02:00", "04:30:00+02:00"];
    assert_eq!(starts(&madrid, "2040-03-25"), expected);
    madrid.duration_minutes = 90;
    assert_eq!(starts(&madrid, "2040-03-25")[..2], ["01:00:00+01:00", "01:30:00+01:00"], "90 minutes are 90 minutes");
}

#[test]
fn an_hour_that_the_clock_repeats_is_offered_as_two() {
    let mut madrid = availability("Europe/Madrid", every_day(120, 180));
    (madrid.duration_minutes, madrid.slot_step_minutes) = (60, 60);
    assert_eq!(starts(&madrid, "2040-10-28"), ["02:00:00+02:00", "02:00:00+01:00"]);
    assert_eq!(starts(&madrid, "2040-10-29"), ["02:00:00+01:00"]);
    let first = at("2040-10-28T00:00:00Z");
    let busy = [madrid.held(madrid.slot(first))];
    let within = Stretch { from: first, until: at("2040-10-28T05:00:00Z") };
    let left = madrid.slots(within, &busy, first).unwrap();
    assert_eq!(left.iter().map(|slot| slot.from).collect::<Vec<_>>(), [at("2040-10-28T01:00:00Z")]);
}

#[test]
fn steps_are_of_the_wall_clock_also_where_it_changes_by_half_an_hour() {
    let mut island = availability("Australia/Lord_Howe", every_day(0, 360));
    (island.duration_minutes, island.slot_step_minutes) = (30, 60);
    let hours: Vec<String> = starts(&island, "2040-10-07").iter().map(|start| start[..5].to_owned()).collect();
    assert_eq!(hours, ["00:00", "01:00", "03:00", "04:00", "05:00"], "02:00 is left out");
}

#[test]
fn a_zone_that_stopped_changing_its_clocks_is_known() {
    let vancouver = availability("America/Vancouver", every_day(600, 630));
    let summer = starts(&vancouver, "2040-07-02");
    assert_eq!((summer.len(), &summer[0][..5]), (1, "10:00"));
    let zone = vancouver.zone().unwrap();
    let offset = |text| zone.to_offset(Timestamp::from_millisecond(at(text).millis()).unwrap()).seconds();
    // The data of 2026b and later has one offset all year round; an older one would tell visitors an hour too early.
    assert_eq!(offset("2040-07-02T12:00:00Z"), -7 * 3600);
}

#[test]
fn dates_beat_weekdays_blocked_beats_open_and_closures_beat_all() {
    let monday = "2040-03-05";
    let blocked = |on, start, end| Rule { kind: RuleKind::Blocked, on, start, end };
    let mut utc = availability("UTC", every_day(540, 720));
    (utc.duration_minutes, utc.slot_step_minutes) = (60, 60);
    assert_eq!(starts(&utc, monday).len(), 3);
    utc.rules.push(blocked(On::Date(day(monday)), 600, 660));
    let begin = |starts: Vec<String>| starts.iter().map(|start| start[..2].to_owned()).collect::<Vec<_>>();
    assert_eq!(begin(starts(&utc, monday)), ["09", "11"], "a date's block is cut out of its weekday's hours");
    utc.rules.push(open(On::Date(day(monday)), 600, 840));
    assert_eq!(begin(starts(&utc, monday)), ["11", "12", "13"], "a date's hours stand in place of its weekday's");
    utc.rules.push(blocked(On::Weekday(1), 720, 780));
    assert_eq!(begin(starts(&utc, monday)), ["11", "12", "13"], "and so do its blocks");
    utc.closures.push(Closure { date: day(monday), reason: None });
    assert!(starts(&utc, monday).is_empty());
    assert_eq!(starts(&utc, "2040-03-06").len(), 3);
}

#[test]
fn buffers_of_both_appointments_are_kept_and_may_lie_outside_of_the_hours() {
    let mut utc = availability("UTC", every_day(540, 720));
    (utc.duration_minutes, utc.slot_step_minutes) = (30, 15);
    (utc.buffer_before_minutes, utc.buffer_after_minutes) = (10, 5);
    let morning = Stretch { from: at("2040-03-05T00:00:00Z"), until: at("2040-03-06T00:00:00Z") };
    let free = utc.slots(morning, &[], morning.from).unwrap();
    assert_eq!((free[0].from, free.last().unwrap().until), (at("2040-03-05T09:00:00Z"), at("2040-03-05T12:00:00Z")));
    let booked = utc.held(utc.slot(at("2040-03-05T10:00:00Z")));
    let left = utc.slots(morning, &[booked], morning.from).unwrap();
    let near: Vec<Time> = left.iter().map(|slot| slot.from).collect();
    assert!(near.contains(&at("2040-03-05T09:15:00Z")), "15 minutes lie between");
    assert!(!near.contains(&at("2040-03-05T09:30:00Z")) && !near.contains(&at("2040-03-05T10:30:00Z")));
    assert!(near.contains(&at("2040-03-05T10:45:00Z")), "{near:?}");
}

#[test]
fn why_a_moment_cannot_be_booked_is_told() {
    let mut utc = availability("UTC", every_day(540, 720));
    (utc.minimum_notice_minutes, utc.days_ahead) = (120, 7);
    let now = at("2040-03-05T08:00:00Z");
    let why = |text, busy: &[Stretch]| utc.why_not(at(text), busy, now).unwrap();
    assert_eq!(why("2040-03-05T09:30:00Z", &[]), Some(Unbookable::TooSoon));
    assert_eq!(why("2040-03-05T10:00:00Z", &[]), None);
    assert_eq!(why("2040-03-05T10:10:00Z", &[]), Some(Unbookable::OutsideHours));
    assert_eq!(why("2040-03-05T11:45:00Z", &[]), Some(Unbookable::OutsideHours));
    assert_eq!(why("2040-03-12T08:00:00Z", &[]), Some(Unbookable::TooFar));
    let held = utc.held(utc.slot(at("2040-03-05T10:00:00Z")));
    assert_eq!(why("2040-03-05T10:00:00Z", &[held]), Some(Unbookable::Taken));
    let near = utc.nearest(at("2040-03-05T10:00:00Z"), 3, &[held], now).unwrap();
    let near: Vec<String> = near.iter().map(|slot| slot.from.to_string()).collect();
    assert_eq!(near, ["2040-03-05T10:30:00.000Z", "2040-03-05T11:00:00.000Z", "2040-03-05T11:30:00.000Z"]);
    utc.minimum_notice_minutes = 30 * 24 * 60;
    assert!(utc.nearest(now, 3, &[], now).unwrap().is_empty(), "a notice beyond what can be booked leaves nothing");
}

/// Whether the wall clock shows an open minute, read from the rules one by one.
fn is_open(availability: &Availability, zone: &TimeZone, moment: i64) -> bool {
    let local = Timestamp::from_millisecond(moment).unwrap().to_zoned(zone.clone());
    let date = day(&local.date().to_string());
    let minute = u32::try_from(local.hour()).unwrap() * 60 + u32::try_from(local.minute()).unwrap();
    let shows = |rule: &&Rule| (rule.start..rule.end).contains(&minute);
    let of = |on: On, kind: RuleKind| availability.rules.iter().filter(move |rule| rule.on == on && rule.kind == kind);
    let (dated, weekly) = (On::Date(date), On::Weekday(date.weekday()));
    let counts = if of(dated, RuleKind::Open).next().is_some() { dated } else { weekly };
    let blocked = of(dated, RuleKind::Blocked).any(|rule| shows(&rule))
        || (counts == weekly && of(weekly, RuleKind::Blocked).any(|rule| shows(&rule)));
    let closed = availability.closures.iter().any(|closure| closure.date == date);
    !closed && !blocked && of(counts, RuleKind::Open).any(|rule| shows(&rule))
}

/// Dates around which a clock changes, in one of the zones at least.
fn dates() -> impl Strategy<Value = Day> {
    let changes = [
        "2040-03-11",
        "2040-03-25",
        "2040-04-01",
        "2040-04-27",
        "2040-09-02",
        "2040-09-30",
        "2040-10-07",
        "2040-10-28",
        "2040-11-04",
        "2030-06-15",
    ];
    (proptest::sample::select(changes.to_vec()), -2..3_i32).prop_map(|(date, by)| day(date).plus(by))
}

fn rules(date: Day) -> impl Strategy<Value = Vec<Rule>> {
    let kind = prop_oneof![3 => Just(RuleKind::Open), 1 => Just(RuleKind::Blocked)];
    let on = prop_oneof![
        3 => (0..7_u8).prop_map(On::Weekday),
        1 => (-1..2_i32).prop_map(move |by| On::Date(date.plus(by))),
    ];
    // Quarters of an hour, so that rules meet.
    let hours = (0..96_u32, 1..48_u32).prop_map(|(start, length)| (start * 15, (start + length).min(96) * 15));
    let rule = (kind, on, hours).prop_map(|(kind, on, (start, end))| Rule { kind, on, start, end });
    proptest::collection::vec(rule, 1..16)
}

prop_compose! {
    fn scenes()(zone in proptest::sample::select(ZONES.to_vec()), date in dates())(
        zone in Just(zone), date in Just(date), rules in rules(date),
        duration in 1..18_u32, step in 1..12_u32, buffers in (0..4_u32, 0..4_u32), closed in any::<bool>(),
        busy in proptest::collection::vec((0..288_i64, 1..12_i64), 0..6),
    ) -> (Availability, Day, Vec<Stretch>) {
        let mut scene = availability(zone, rules);
        (scene.duration_minutes, scene.slot_step_minutes) = (duration * 15, step * 15);
        (scene.buffer_before_minutes, scene.buffer_after_minutes) = (buffers.0 * 10, buffers.1 * 10);
        if closed {
            scene.closures.push(Closure { date: date.plus(1), reason: None });
        }
        let from = date.start().millis() - 12 * 60 * MINUTE;
        let held = |(at, length): (i64, i64)| {
            Stretch::new(Time::from_millis(from + at * 10 * MINUTE), from + (at + length) * 10 * MINUTE)
        };
        (scene, date, busy.into_iter().map(held).collect())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn a_slot_is_offered_only_when_every_minute_of_it_is_open_and_free((scene, date, busy) in scenes()) {
        let zone = scene.zone().unwrap();
        let within = Stretch { from: date.plus(-1).start(), until: date.plus(2).start() };
        let slots = scene.slots(within, &busy, within.from).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for slot in &slots {
            prop_assert!(seen.insert(slot.from), "each once");
            prop_assert!(within.from <= slot.from && slot.from < within.until);
            let minutes = (slot.from.millis()..slot.until.millis()).step_by(usize::try_from(5 * MINUTE).unwrap());
            for minute in minutes {
                prop_assert!(is_open(&scene, &zone, minute), "{} in {}", iso(Time::from_millis(minute), &zone), scene.timezone);
            }
            let held = scene.held(*slot);
            prop_assert!(!busy.iter().any(|busy| busy.overlaps(held)));
            prop_assert_eq!(scene.why_not(slot.from, &busy, within.from).unwrap(), None, "what is offered can be booked");
            // What a visitor reads leads back to the slot.
            prop_assert_eq!(When::read(&iso(slot.from, &zone), &zone), Some(When::At(slot.from)));
        }
        // Booked one after the other, no two of them overlap, and nothing that was taken is offered again.
        let mut held = busy.clone();
        for slot in slots {
            if scene.why_not(slot.from, &held, within.from).unwrap().is_none() {
                prop_assert!(!held[busy.len()..].iter().any(|other| other.overlaps(scene.held(slot))));
                held.push(scene.held(slot));
            }
        }
        let left = scene.slots(within, &held, within.from).unwrap();
        prop_assert!(left.iter().all(|slot| held.iter().all(|other| !other.overlaps(scene.held(*slot)))));
    }

    #[test]
    fn every_whole_step_of_open_hours_is_offered((mut scene, date, _) in scenes()) {
        // With one rule for every day the steps are counted from its start on each date.
        let rule = scene.rules[0];
        scene.rules = every_day(rule.start, rule.end);
        scene.closures.clear();
        (scene.buffer_before_minutes, scene.buffer_after_minutes) = (0, 0);
        let zone = scene.zone().unwrap();
        let within = Stretch { from: date.plus(-1).start(), until: date.plus(2).start() };
        let offered: Vec<Time> =
            scene.slots(within, &[], within.from).unwrap().into_iter().map(|slot| slot.from).collect();
        let step = i64::from(scene.slot_step_minutes);
        let expected: Vec<Time> = (within.from.millis()..within.until.millis())
            .step_by(usize::try_from(5 * MINUTE).unwrap())
            .filter(|start| {
                let local = Timestamp::from_millisecond(*start).unwrap().to_zoned(zone.clone());
                let minute = i64::from(local.hour()) * 60 + i64::from(local.minute());
                let is_step = (minute - i64::from(rule.start)).rem_euclid(step) == 0 && minute >= i64::from(rule.start);
                let end = start + i64::from(scene.duration_minutes) * MINUTE;
                is_step && (*start..end).step_by(usize::try_from(5 * MINUTE).unwrap()).all(|at| is_open(&scene, &zone, at))
            })
            .map(Time::from_millis)
            .collect();
        prop_assert_eq!(offered, expected, "{} in {}", date, scene.timezone);
    }
}
