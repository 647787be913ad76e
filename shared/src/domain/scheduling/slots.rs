//! Which slots there are: open hours of the wall clock, laid over the instants at which the clock shows them.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::Availability;
use crate::kernel::{Day, Result, Time};

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;

/// A stretch of time; its end is no part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stretch {
    /// The first moment.
    pub from: Time,
    /// The moment that it ends before.
    pub until: Time,
}

/// Why no slot can be booked at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unbookable {
    /// It is over, or the notice is too short.
    TooSoon,
    /// It lies farther ahead than can be booked.
    TooFar,
    /// No slot begins then.
    OutsideHours,
    /// Somebody has it.
    Taken,
}

impl Stretch {
    /// A stretch that ends at `until`, in milliseconds since 1970.
    #[must_use]
    pub const fn new(from: Time, until: i64) -> Self {
        Self { from, until: Time::from_millis(until) }
    }

    const fn of(from: i64, until: i64) -> Self {
        Self { from: Time::from_millis(from), until: Time::from_millis(until) }
    }

    /// Whether the two have a moment in common.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.from < other.until && other.from < self.until
    }

    /// This much longer at both ends, in days.
    #[must_use]
    pub fn widened(self, days: i64) -> Self {
        Self::of(self.from.millis() - days * DAY, self.until.millis() + days * DAY)
    }

    /// The days (UTC) that it has a moment of.
    pub fn days(self) -> impl Iterator<Item = Day> {
        let last = Time::from_millis(self.until.millis().max(self.from.millis() + 1) - 1);
        Day::of(self.from).through(Day::of(last))
    }
}

impl Availability {
    /// The slots that begin within a stretch and can be booked now, in order. `busy` is what is held by others.
    ///
    /// # Errors
    /// When the zone is not known any more.
    pub fn slots(&self, within: Stretch, busy: &[Stretch], now: Time) -> Result<Vec<Stretch>> {
        let bounds = self.bookable(now);
        let within = Stretch { from: within.from.max(bounds.from), until: within.until.min(bounds.until) };
        if within.from >= within.until {
            return Ok(Vec::new());
        }
        let (open, busy) = (Open::of(self, within)?, merged(busy.to_vec()));
        let starts = open.starts.iter().filter(|start| within.from <= **start && **start < within.until);
        let slots = starts.map(|start| self.slot(*start));
        Ok(slots.filter(|slot| open.holds(*slot) && overlapped(&busy, self.held(*slot)).is_none()).collect())
    }

    /// Why no slot can be booked at this moment; `None` when one can.
    ///
    /// # Errors
    /// As [`Self::slots`].
    pub fn why_not(&self, start: Time, busy: &[Stretch], now: Time) -> Result<Option<Unbookable>> {
        let bounds = self.bookable(now);
        if start < bounds.from {
            return Ok(Some(Unbookable::TooSoon));
        }
        if start >= bounds.until {
            return Ok(Some(Unbookable::TooFar));
        }
        if self.slots(Stretch::new(start, start.millis() + 1), &[], now)?.is_empty() {
            return Ok(Some(Unbookable::OutsideHours));
        }
        let held = self.held(self.slot(start));
        Ok(busy.iter().any(|busy| busy.overlaps(held)).then_some(Unbookable::Taken))
    }

    /// The free slots nearest to a moment, in order of time; those within [`Self::near`] are looked at.
    ///
    /// # Errors
    /// As [`Self::slots`].
    pub fn nearest(&self, wish: Time, count: usize, busy: &[Stretch], now: Time) -> Result<Vec<Stretch>> {
        let mut slots = self.slots(self.near(wish, now), busy, now)?;
        slots.sort_by_key(|slot| (slot.from.millis() - wish.millis()).abs());
        slots.truncate(count);
        slots.sort_unstable();
        Ok(slots)
    }

    /// Where free slots are looked for when none can be booked at `wish`: a week before to a month after, moved to where
    /// slots can be booked at all.
    #[must_use]
    pub fn near(&self, wish: Time, now: Time) -> Stretch {
        let bounds = self.bookable(now);
        let wish = wish.max(bounds.from).min(bounds.until).millis();
        Stretch::of(wish - 7 * DAY, wish + 31 * DAY)
    }

    /// Where slots may begin: after the notice, and not too far ahead.
    fn bookable(&self, now: Time) -> Stretch {
        let from = now.millis() + i64::from(self.minimum_notice_minutes) * MINUTE;
        Stretch::of(from, now.millis() + i64::from(self.days_ahead) * DAY)
    }
}

/// A stretch in which the wall clock keeps its distance from UTC.
struct Steady {
    from: i64,
    until: i64,
    offset: i64,
}

/// The stretches between the changes of a clock.
fn steady(zone: &TimeZone, within: Stretch) -> Vec<Steady> {
    let (mut from, until) = (within.from.millis(), within.until.millis());
    let start = Timestamp::from_millisecond(from).unwrap_or(Timestamp::MIN);
    let mut offset = i64::from(zone.to_offset(start).seconds()) * 1_000;
    let mut stretches = Vec::new();
    for change in zone.following(start) {
        let at = change.timestamp().as_millisecond();
        if at >= until {
            break;
        }
        stretches.push(Steady { from, until: at, offset });
        (from, offset) = (at, i64::from(change.offset().seconds()) * 1_000);
    }
    stretches.push(Steady { from, until, offset });
    stretches
}

/// What is open, in instants.
struct Open {
    /// Where slots may begin, in order.
    starts: Vec<Time>,
    open: Vec<Stretch>,
    blocked: Vec<Stretch>,
}

impl Open {
    /// All that matters for slots that begin within a stretch: the dates that the clock may show then, and until such a
    /// slot's end.
    fn of(availability: &Availability, within: Stretch) -> Result<Self> {
        let steady = steady(&availability.zone()?, within.widened(6));
        let step = i64::from(availability.slot_step_minutes) * MINUTE;
        let (mut starts, mut open, mut blocked) = (Vec::new(), Vec::new(), Vec::new());
        let last = Day::of(within.until).plus(2);
        for day in Day::of(within.from).plus(-1).through(last) {
            let hours = availability.hours(day);
            let civil = |minute: u32| day.start().millis() + i64::from(minute) * MINUTE;
            for (start, end) in hours.open {
                for at in &steady {
                    let Some(shown) = at.shows(civil(start), civil(end)) else { continue };
                    open.push(shown);
                    starts.extend(at.steps(civil(start), step, shown));
                }
            }
            for (start, end) in hours.blocked {
                blocked.extend(steady.iter().filter_map(|at| at.shows(civil(start), civil(end))));
            }
        }
        starts.sort_unstable();
        starts.dedup();
        Ok(Self { starts, open: merged(open), blocked: merged(blocked) })
    }

    /// Whether all of a slot is open.
    fn holds(&self, slot: Stretch) -> bool {
        let around = overlapped(&self.open, slot);
        around.is_some_and(|open| open.from <= slot.from && slot.until <= open.until)
            && overlapped(&self.blocked, slot).is_none()
    }
}

impl Steady {
    /// When the clock shows what lies between two moments of the wall clock, if it does so here.
    fn shows(&self, civil_from: i64, civil_until: i64) -> Option<Stretch> {
        let from = self.from.max(civil_from - self.offset);
        let until = self.until.min(civil_until - self.offset);
        (from < until).then(|| Stretch::of(from, until))
    }

    /// The moments of a stretch at which the clock shows a whole number of steps after `civil_from`.
    fn steps(&self, civil_from: i64, step: i64, shown: Stretch) -> impl Iterator<Item = Time> + use<> {
        let past = shown.from.millis() + self.offset - civil_from;
        let first = civil_from + (past + step - 1).div_euclid(step) * step - self.offset;
        let until = shown.until;
        std::iter::successors(Some(first), move |at| Some(at + step))
            .map(Time::from_millis)
            .take_while(move |at| *at < until)
    }
}

/// Stretches in order, those that touch as one.
fn merged(mut stretches: Vec<Stretch>) -> Vec<Stretch> {
    stretches.sort_unstable();
    let mut merged: Vec<Stretch> = Vec::with_capacity(stretches.len());
    for next in stretches {
        match merged.last_mut() {
            Some(last) if next.from <= last.until => last.until = last.until.max(next.until),
            _ => merged.push(next),
        }
    }
    merged
}

/// The first of some merged stretches that has a moment in common with this one.
fn overlapped(merged: &[Stretch], with: Stretch) -> Option<Stretch> {
    let at = merged.partition_point(|stretch| stretch.until <= with.from);
    merged.get(at).copied().filter(|stretch| stretch.overlaps(with))
}
