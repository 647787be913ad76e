//! An AI agent: its head, the sections of its definition, and the live snapshot that both are compiled into.

mod compile;
mod sections;
mod version;

use serde::{Deserialize, Serialize};

pub use compile::{Definition, Snapshot, SnapshotSecrets, SnapshotTool, compile};
pub use sections::{Guardrails, Identity, Objective, Personality, Playbook, Skill, ToolBinding, Widget};
pub use version::{AgentVersion, Difference, MAX_VERSIONS, VersionBody, VersionTool};

use super::tool::Builtin;
use super::whatsapp::{Line, MetaLine, Provider};
use super::{BillingAccount, Workspace};
use crate::kernel::secret::Sealed;
use crate::kernel::{Id, Time};

/// How many agents that are not published a workspace may keep.
pub const MAX_DRAFTS: usize = 100;
/// How many tools an agent may have.
pub const MAX_TOOLS: usize = 20;

/// The head of an agent: what lists show. Its definition lies in sections beside it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Agent {
    /// Identity.
    pub id: Id<Agent>,
    /// Whose agent.
    pub workspace_id: Id<Workspace>,
    /// Unique in the workspace, never changed; the id of the orgs contract.
    pub slug: String,
    /// What people call it.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: Option<String>,
    /// `openai`, `anthropic`, `offline` or the name of a compatible provider; `None` is the installation's default.
    #[serde(default)]
    pub provider: Option<String>,
    /// A model name of that provider; `None` is the installation's default.
    #[serde(default)]
    pub model: Option<String>,
    /// Where a compatible provider listens.
    #[serde(default)]
    pub ai_base_url: Option<String>,
    /// Whether the customer gave a model key of their own.
    #[serde(default)]
    pub has_ai_key: bool,
    /// The customer's `WhatsApp` line at Kapso.
    #[serde(default)]
    pub kapso_phone_number_id: Option<String>,
    /// Whether the customer gave a Kapso key.
    #[serde(default)]
    pub has_kapso_key: bool,
    /// Whether there is the secret that Kapso signs its callbacks with.
    #[serde(default)]
    pub has_kapso_secret: bool,
    /// The customer's `WhatsApp` line at Meta itself.
    #[serde(default)]
    pub meta: MetaLine,
    /// Whether there is a secret that sites sign their users with.
    #[serde(default)]
    pub has_identity_secret: bool,
    /// What it says first.
    #[serde(default)]
    pub greeting_message: Option<String>,
    /// What it says when it cannot answer.
    #[serde(default)]
    pub fallback_message: Option<String>,
    /// Switched off without being unpublished.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Where it stands.
    pub status: AgentStatus,
    /// Where its page is; minted at the first publication.
    #[serde(default)]
    pub public_slug: Option<String>,
    /// Minor part of the version: `1.<minor>`, one more with each version that is kept.
    #[serde(default)]
    pub minor: u32,
    /// One more with each compilation.
    #[serde(default)]
    pub revision: u32,
    /// Whether edits go live at once.
    #[serde(default)]
    pub auto_publish: bool,
    /// The last publication.
    #[serde(default)]
    pub published_at: Option<Time>,
    /// When it was made.
    pub created_at: Time,
    /// The last change.
    pub updated_at: Time,
}

const fn yes() -> bool {
    true
}

/// Where an agent stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentStatus {
    /// Being built.
    Draft,
    /// Live, if enabled.
    Published,
    /// Put away.
    Archived,
}

impl Agent {
    /// The version that people read: `1.0` at creation.
    #[must_use]
    pub fn version(&self) -> String {
        format!("1.{}", self.minor)
    }

    /// Whether it answers.
    #[must_use]
    pub fn is_published(&self) -> bool {
        self.status == AgentStatus::Published
    }

    /// Its `WhatsApp` line, if it has one.
    #[must_use]
    pub fn line(&self) -> Option<Line> {
        let kapso = self.kapso_phone_number_id.as_ref().map(|number| (Provider::Kapso, number));
        let (provider, number) =
            kapso.or_else(|| self.meta.phone_number_id.as_ref().map(|number| (Provider::Meta, number)))?;
        Some(Line { provider, phone_number_id: number.clone(), workspace_id: self.workspace_id, agent_id: self.id })
    }

    /// Where a sealed field of this agent belongs, so that it opens nowhere else.
    #[must_use]
    pub fn secret_place(workspace: Id<Workspace>, agent: Id<Agent>, field: SecretField) -> String {
        format!("{}/{}/{}", workspace.text(), agent.text(), field.key())
    }

    /// Where the sealed headers of one of its tools belong.
    #[must_use]
    pub fn tool_secret_place(workspace: Id<Workspace>, agent: Id<Agent>, tool: Builtin) -> String {
        format!("{}/{}/tool/{}", workspace.text(), agent.text(), tool.name())
    }
}

/// A secret of an agent; write-only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretField {
    /// The key of their model provider.
    AiKey,
    /// The key of their Kapso project.
    KapsoKey,
    /// What Kapso signs its callbacks with.
    KapsoSecret,
    /// What is sent with at Meta.
    MetaToken,
    /// What Meta signs its callbacks with.
    MetaSecret,
    /// The word that Meta shows when the callback is set up.
    MetaVerify,
    /// What the customer's site signs its users with.
    Identity,
}

impl SecretField {
    /// Every field.
    pub const ALL: [Self; 7] = [
        Self::AiKey,
        Self::KapsoKey,
        Self::KapsoSecret,
        Self::MetaToken,
        Self::MetaSecret,
        Self::MetaVerify,
        Self::Identity,
    ];

    /// How the table names it.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::AiKey => "ai.api_key",
            Self::KapsoKey => "kapso.api_key",
            Self::KapsoSecret => "kapso.webhook_secret",
            Self::MetaToken => "whatsapp.access_token",
            Self::MetaSecret => "whatsapp.app_secret",
            Self::MetaVerify => "whatsapp.verify_token",
            Self::Identity => "identity.secret",
        }
    }
}

/// A sealed secret as it is stored, apart from everything that is ever listed or exported.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredSecret {
    /// The ciphertext.
    pub sealed: Sealed,
}

/// Where a public slug leads. Nothing that can change is in it, so that it never goes stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicAlias {
    /// Whose agent.
    pub workspace_id: Id<Workspace>,
    /// Which agent.
    pub agent_id: Id<Agent>,
    /// Who pays, so that a turn reads the account beside the snapshot and not after it.
    pub billing_account_id: Id<BillingAccount>,
}
