//! The bill: one event for each stored reply, append-only, in integer micro-dollars.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::plan::{BYOK_MESSAGE, MANAGED_MESSAGE, MicroDollars};
use super::{Agent, BillingAccount, Conversation, Message, Workspace};
use crate::kernel::{Id, Time};

/// Whose model key answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeySource {
    /// Ours.
    Managed,
    /// The customer's own.
    Byok,
}

impl KeySource {
    /// As the contracts write it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Managed => "managed",
            Self::Byok => "byok",
        }
    }

    /// What one message costs beyond the included ones.
    #[must_use]
    pub const fn unit_cost(self) -> MicroDollars {
        match self {
            Self::Managed => MANAGED_MESSAGE,
            Self::Byok => BYOK_MESSAGE,
        }
    }
}

/// One billed or included message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageEvent {
    /// Identity; Polar dedupes on `<workspace>:<id>`.
    pub id: Uuid,
    /// Who pays.
    pub billing_account_id: Id<BillingAccount>,
    /// Where it happened.
    pub workspace_id: Id<Workspace>,
    /// Which agent answered.
    pub agent_id: Id<Agent>,
    /// In which conversation.
    pub conversation_id: Id<Conversation>,
    /// With which message.
    pub message_id: Id<Message>,
    /// Whose model key answered.
    pub key_source: KeySource,
    /// What one message costs.
    pub unit_cost: MicroDollars,
    /// Whether the plan's included messages (or the trial) cover it.
    pub included: bool,
    /// When.
    pub at: Time,
    /// When Polar took it.
    #[serde(default)]
    pub reported_at: Option<Time>,
    /// Why Polar will never take it, when that is so.
    #[serde(default)]
    pub parked: Option<String>,
}

impl UsageEvent {
    /// The id that Polar dedupes on, over all tenants.
    #[must_use]
    pub fn external_id(&self) -> String {
        format!("{}:{}", self.workspace_id.text(), self.id)
    }
}

/// A run of unreported usage events that was claimed for reporting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageBatch {
    /// Which shard of the unreported index.
    pub shard: u8,
    /// Which month of it, such as `202611`.
    pub bucket: String,
    /// The first event.
    pub first: Uuid,
    /// The last event.
    pub last: Uuid,
    /// When the claim ends: from then on the events may be claimed again.
    pub deadline: Time,
}
