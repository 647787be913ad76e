//! An appointment and what may become of it.

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::Stretch;
use crate::domain::{Agent, Contact, Conversation, User, Workspace};
use crate::kernel::{Code, Error, Id, Result, Time};

/// How many changes are remembered.
pub const MAX_HISTORY: usize = 50;

/// A time at which somebody is met.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Appointment {
    /// Identity.
    pub id: Id<Appointment>,
    /// Whose workspace.
    pub workspace_id: Id<Workspace>,
    /// Who is met.
    pub provider_id: Id<User>,
    /// The agent that booked it, or that it was booked for.
    #[serde(default)]
    pub agent_id: Option<Id<Agent>>,
    /// Where it was booked, if in a conversation.
    #[serde(default)]
    pub conversation_id: Option<Id<Conversation>>,
    /// Who comes, if an address or a number is known.
    #[serde(default)]
    pub contact_id: Option<Id<Contact>>,
    /// What calendars show.
    pub title: String,
    /// Where.
    #[serde(default)]
    pub location: Option<String>,
    /// Who comes, as given.
    #[serde(default)]
    pub name: Option<String>,
    /// As given, lower case.
    #[serde(default)]
    pub email: Option<String>,
    /// As given, digits.
    #[serde(default)]
    pub phone: Option<String>,
    /// What it is about.
    #[serde(default)]
    pub notes: Option<String>,
    /// When it begins.
    pub start: Time,
    /// When it ends.
    pub end: Time,
    /// What it keeps from others: itself and the buffers of when it was booked.
    pub held: Stretch,
    /// The zone that its time was agreed in.
    pub timezone: String,
    /// Where it stands.
    pub status: Status,
    /// How it came about.
    pub source: Source,
    /// One more with each change that calendars must hear of.
    #[serde(default)]
    pub sequence: u32,
    /// Why it was cancelled.
    #[serde(default)]
    pub cancel_reason: Option<String>,
    /// What became of it, oldest first; the last [`MAX_HISTORY`].
    #[serde(default)]
    pub history: Vec<Change>,
    /// When it was booked.
    pub created_at: Time,
    /// The last change.
    pub updated_at: Time,
}

/// Where an appointment stands; all but the first are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words of the data model")]
pub enum Status {
    Confirmed,
    Cancelled,
    Completed,
    NoShow,
}

/// How an appointment came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// In a conversation, by the agent.
    Agent,
    /// By a person of the team, or their program.
    Team,
}

/// Something that became of an appointment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// When.
    pub at: Time,
    /// `booked`, `rescheduled`, `cancelled`, `completed`, `no_show`.
    pub action: String,
    /// Who: `user_…`, `key_…` or `agent_…`.
    pub actor: String,
    /// From which start, when it was moved.
    #[serde(default)]
    pub from: Option<Time>,
    /// To which start, when it was moved.
    #[serde(default)]
    pub to: Option<Time>,
    /// Why, if that was said.
    #[serde(default)]
    pub reason: Option<String>,
}

impl Status {
    /// As callers write it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Cancelled => "cancelled",
            Self::Completed => "completed",
            Self::NoShow => "no_show",
        }
    }

    /// Whether nothing more can become of it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Confirmed => false,
            Self::Cancelled | Self::Completed | Self::NoShow => true,
        }
    }
}

impl Appointment {
    /// The appointment itself, without its buffers.
    #[must_use]
    pub const fn slot(&self) -> Stretch {
        Stretch { from: self.start, until: self.end }
    }

    /// The zone that its time was agreed in.
    ///
    /// # Errors
    /// `internal_error` when the time-zone data that we carry does not know it any more.
    pub fn zone(&self) -> Result<TimeZone> {
        TimeZone::get(&self.timezone).map_err(|error| Error::internal(format!("a stored time zone: {error}")))
    }

    /// Cancels it.
    ///
    /// # Errors
    /// `appointment.state` when it is final.
    pub fn cancel(&mut self, reason: Option<String>, actor: &str, now: Time) -> Result<()> {
        self.ensure_open()?;
        self.status = Status::Cancelled;
        self.cancel_reason.clone_from(&reason);
        self.sequence += 1;
        self.note(Change { reason, ..Change::new(now, "cancelled", actor) });
        Ok(())
    }

    /// Moves it.
    ///
    /// # Errors
    /// `appointment.state` when it is final.
    pub fn move_to(&mut self, slot: Stretch, held: Stretch, actor: &str, now: Time) -> Result<()> {
        self.ensure_open()?;
        let (from, to) = (Some(self.start), Some(slot.from));
        (self.start, self.end, self.held) = (slot.from, slot.until, held);
        self.sequence += 1;
        self.note(Change { from, to, ..Change::new(now, "rescheduled", actor) });
        Ok(())
    }

    /// Says what became of it once it began: `completed` or `no_show`. It keeps its time.
    ///
    /// # Errors
    /// `appointment.state` when it is final, `validation_error` before it began.
    pub fn finish(&mut self, status: Status, actor: &str, now: Time) -> Result<()> {
        self.ensure_open()?;
        if now < self.start {
            let message = format!("It begins at {}. Say what became of it after that, or cancel it.", self.start);
            return Err(Error::field("start", "not_begun", message));
        }
        self.status = status;
        self.note(Change::new(now, status.text(), actor));
        Ok(())
    }

    /// Forgets who comes and what it is about. It keeps its time: whoever is met keeps their calendar.
    pub fn forget_who(&mut self, now: Time) {
        (self.contact_id, self.name, self.email, self.phone, self.notes) = (None, None, None, None, None);
        self.cancel_reason = None;
        self.history.iter_mut().for_each(|change| change.reason = None);
        self.updated_at = now;
    }

    /// Remembers a change.
    pub fn note(&mut self, change: Change) {
        self.updated_at = change.at;
        self.history.push(change);
        let over = self.history.len().saturating_sub(MAX_HISTORY);
        self.history.drain(..over);
    }

    fn ensure_open(&self) -> Result<()> {
        if !self.status.is_final() {
            return Ok(());
        }
        let message =
            format!("The appointment is {}: nothing more can become of it. Book a new one.", self.status.text());
        Err(Error::with_message(Code::AppointmentState, message))
    }
}

impl Change {
    /// A change without particulars.
    #[must_use]
    pub fn new(at: Time, action: &str, actor: &str) -> Self {
        Self { at, action: action.to_owned(), actor: actor.to_owned(), from: None, to: None, reason: None }
    }
}
