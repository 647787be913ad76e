//! Appointments: when an owner can be met, which slots that makes, what is booked.
//!
//! Instants are UTC; hours are of the owner's wall clock. What lies between the two is in [`slots`](self) alone: a
//! moment is open when the wall clock shows an open minute then, so an hour that a change of clocks leaves out is never
//! offered, and one that it repeats is two different hours.

mod appointment;
mod availability;
mod busy;
mod ics;
mod slots;
#[cfg(test)]
mod tests;
mod when;

pub use appointment::{Appointment, Change, MAX_HISTORY, Source, Status};
pub use availability::{
    Availability, AvailabilityWish, Closure, MAX_DAYS_AHEAD, On, Rule, RuleKind, RuleWish, time_text,
};
pub use busy::{Booking, BusyDay};
pub use ics::{Invite, Method};
pub use slots::{Stretch, Unbookable};
pub use when::{When, first_moment, iso, spoken};
