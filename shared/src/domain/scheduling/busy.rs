//! What is held of a day. Whoever books changes the items of the days that the appointment touches, each by condition, so
//! that of two who want the same time one finds it taken.

use serde::{Deserialize, Serialize};

use super::{Appointment, Stretch};
use crate::domain::Workspace;
use crate::kernel::{Day, Id, Time};

/// What is held of a day (UTC) of somebody's.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BusyDay {
    /// Whose workspace.
    pub workspace_id: Id<Workspace>,
    /// Which day.
    pub day: Day,
    /// What is held; one that reaches over midnight is listed on both days, in full.
    #[serde(default)]
    pub bookings: Vec<Booking>,
}

/// What one appointment holds, with its buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Booking {
    /// Which appointment.
    pub appointment_id: Id<Appointment>,
    /// The first moment.
    pub from: Time,
    /// The moment that it ends before.
    pub until: Time,
}

impl Booking {
    /// The stretch that it holds.
    #[must_use]
    pub const fn held(&self) -> Stretch {
        Stretch { from: self.from, until: self.until }
    }
}
