//! Keys of appointments: when an owner can be met, what is held of their days, what is booked.

use super::{moment, turn_pk, w};
use crate::domain::{Appointment, Conversation, User, Workspace};
use crate::kernel::{Day, Id, Time};
use crate::table::Key;

/// When somebody can be met.
#[must_use]
pub fn availability(workspace: Id<Workspace>, provider: Id<User>) -> Key {
    Key::new(w(workspace), format!("SCH#{}", provider.key()))
}

/// Where somebody's days lie.
#[must_use]
pub fn busy_days(workspace: Id<Workspace>, provider: Id<User>) -> String {
    format!("{}#CAL#{}", w(workspace), provider.key())
}

/// Sort key of a day (UTC).
#[must_use]
pub fn busy_day_sk(day: Day) -> String {
    format!("DAY#{day}")
}

/// What is held of a day of somebody's.
#[must_use]
pub fn busy_day(workspace: Id<Workspace>, provider: Id<User>, day: Day) -> Key {
    Key::new(busy_days(workspace, provider), busy_day_sk(day))
}

/// An appointment.
#[must_use]
pub fn appointment(workspace: Id<Workspace>, appointment: Id<Appointment>) -> Key {
    Key::new(format!("{}#AP", w(workspace)), format!("AP#{}", appointment.key()))
}

/// Where a workspace's appointments are listed by their start.
#[must_use]
pub fn appointments(workspace: Id<Workspace>) -> String {
    format!("{}#APD", w(workspace))
}

/// The position of an appointment among them.
#[must_use]
pub fn appointment_position(start: Time, appointment: Id<Appointment>) -> String {
    format!("{}#{}", moment(start), appointment.key())
}

/// How many appointments were booked in a conversation.
#[must_use]
pub fn appointment_count(workspace: Id<Workspace>, conversation: Id<Conversation>) -> Key {
    Key::new(turn_pk(workspace, conversation), "CNT#appointments")
}

/// That somebody was invited to an appointment.
#[must_use]
pub fn invited(workspace: Id<Workspace>, appointment: Id<Appointment>) -> Key {
    Key::new(format!("{}#ML", w(workspace)), format!("INV#{}", appointment.key()))
}
