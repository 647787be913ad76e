//! A thread between a visitor and an agent.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::identity::Identified;
use super::text::shorten;
use super::whatsapp::Talk;
use super::{Agent, Contact, Message, User, Workspace};
use crate::kernel::{Id, Time};

/// Silence after which a conversation is closed.
pub const SILENCE: Duration = Duration::from_secs(30 * 60);

/// The head of a thread. Changed field by field, never put whole, since turns, takeovers and closings write at once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Conversation {
    /// Identity.
    pub id: Id<Conversation>,
    /// Whose.
    pub workspace_id: Id<Workspace>,
    /// With which agent.
    pub agent_id: Id<Agent>,
    /// The agent's name when the thread began; stays when the agent goes.
    pub agent_name: String,
    /// Where the visitor writes.
    pub channel: Channel,
    /// What the visitor's browser calls itself; a label, never a capability.
    #[serde(default)]
    pub visitor_id: Option<String>,
    /// Who the visitor is, once known.
    #[serde(default)]
    pub contact_id: Option<Id<Contact>>,
    /// Whom the visitor's site signed them as.
    #[serde(default)]
    pub identity: Option<Identified>,
    /// The line that it goes over, for `WhatsApp`.
    #[serde(default)]
    pub whatsapp: Option<Talk>,
    /// Open or closed.
    pub status: ConversationStatus,
    /// Whether a person has taken over.
    #[serde(default)]
    pub ai_paused: bool,
    /// Who took over.
    #[serde(default)]
    pub paused_by: Option<Id<User>>,
    /// When a person was asked for.
    #[serde(default)]
    pub handoff_requested_at: Option<Time>,
    /// The turn that holds the conversation, if one does.
    #[serde(default)]
    pub turn: Option<Turn>,
    /// The turn that the visitor wants stopped, if any.
    #[serde(default)]
    pub stop: Option<Uuid>,
    /// The visitor's messages up to this one need no answer any more: the turn that would have given it was stopped.
    #[serde(default)]
    pub settled_until: Option<Id<Message>>,
    /// How many messages the visitor sent. A commit names the number that it saw.
    #[serde(default)]
    pub inbound_count: u64,
    /// How many messages there are.
    #[serde(default)]
    pub message_count: u64,
    /// The last message.
    pub last_message_at: Time,
    /// The position in lists; follows `last_message_at` at most once a minute, since moving it costs.
    pub listed_at: Time,
    /// The start of the last message.
    #[serde(default)]
    pub last_preview: String,
    /// When it began.
    pub created_at: Time,
    /// When it was closed.
    #[serde(default)]
    pub closed_at: Option<Time>,
}

/// The lease of a running turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Which turn: its own, so that it recognises itself. The usage event of its reply will have this id, which is how
    /// it is seen afterwards whether the turn came to its end.
    pub id: Uuid,
    /// Until when it holds the conversation, in milliseconds since 1970, so that the table can compare it.
    pub until: i64,
}

/// Where the visitor writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// The public chat and its page.
    Webchat,
    /// A line at Kapso or Meta.
    Whatsapp,
}

/// Open or closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the two words say it")]
pub enum ConversationStatus {
    Open,
    Closed,
}

impl ConversationStatus {
    /// One letter, for list positions: open ones and closed ones lie apart.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::Open => 'o',
            Self::Closed => 'c',
        }
    }
}

/// How much of the last message lists show, in characters.
pub const PREVIEW: usize = 140;

impl Conversation {
    /// A conversation that its visitor begins with a message. Nobody holds it, and nobody is known in it yet.
    #[must_use]
    pub fn begun(
        id: Id<Self>,
        (workspace_id, agent_id): (Id<Workspace>, Id<Agent>),
        agent_name: String,
        channel: Channel,
        message: &str,
        now: Time,
    ) -> Self {
        Self {
            id,
            workspace_id,
            agent_id,
            agent_name,
            channel,
            visitor_id: None,
            contact_id: None,
            identity: None,
            whatsapp: None,
            status: ConversationStatus::Open,
            ai_paused: false,
            paused_by: None,
            handoff_requested_at: None,
            turn: None,
            stop: None,
            settled_until: None,
            inbound_count: 1,
            message_count: 1,
            last_message_at: now,
            listed_at: now,
            last_preview: shorten(message, PREVIEW),
            created_at: now,
            closed_at: None,
        }
    }

    /// Whether a turn holds the conversation now.
    #[must_use]
    pub fn is_busy(&self, now: Time) -> bool {
        self.turn.as_ref().is_some_and(|turn| turn.until > now.millis())
    }

    /// Whether a message needs no answer any more.
    #[must_use]
    pub fn is_settled(&self, message: Id<Message>) -> bool {
        self.settled_until.is_some_and(|until| message <= until)
    }

    /// Whether the list position should follow the last message.
    #[must_use]
    pub fn list_is_due(&self, now: Time) -> bool {
        now.since(self.listed_at) >= Duration::from_secs(60)
    }
}
