//! `WhatsApp`, bring your own: lines at Kapso or Meta, what comes in on them, what goes out.
//!
//! A callback is verified and queued ([`hook`]), nothing else; a worker stores each message once ([`inbound`]), a turn
//! answers all that wait after a short pause, and what is to go out is claimed before it is sent ([`outbound`]). What
//! becomes of it is told by callbacks, in any order ([`status`]).

pub mod handoff;
pub mod hook;
pub mod inbound;
pub mod line;
pub mod outbound;
pub mod renamed;
pub mod status;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::App;
use crate::domain::agent::SecretField;
use crate::domain::whatsapp::{Inbound, Line, Provider, Renamed, Status};
use crate::domain::{Agent, Conversation, Message, Workspace};
use crate::kernel::{Error, Id, Result, Secret};
use crate::ports::objects::Objects;
use crate::ports::queue::{MAX_DELAY, Outgoing, QueueName};
use crate::ports::whatsapp::Api;
use crate::store;

/// A message of the turn queue.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case")]
pub enum Task {
    /// Store a message that came in.
    Inbound {
        /// On which line.
        line: Line,
        /// What it is.
        message: Inbound,
        /// How often its file was asked for in vain.
        #[serde(default)]
        tries: u32,
    },
    /// Note what became of a message of ours.
    Status {
        /// Of which line.
        line: Line,
        /// What.
        status: Status,
    },
    /// Know somebody by their new number and user id.
    Renamed {
        /// On which line they write.
        line: Line,
        /// Who they were and are.
        renamed: Renamed,
    },
    /// Answer what waits in a conversation.
    Answer {
        /// Whose.
        workspace_id: Id<Workspace>,
        /// With which agent.
        agent_id: Id<Agent>,
        /// Which.
        conversation_id: Id<Conversation>,
        /// The message that asked for it; a newer one asks for itself.
        message_id: Id<Message>,
    },
    /// Send what waits in a conversation.
    Send {
        /// Whose.
        workspace_id: Id<Workspace>,
        /// Which.
        conversation_id: Id<Conversation>,
        /// The message that asked for it.
        message_id: Id<Message>,
        /// The claim under which a provider has refused it for now: if it is still there, nothing was sent under it.
        #[serde(default)]
        unsent: Option<Uuid>,
    },
    /// Delete files of messages that were erased, and uploads that expired.
    DropFiles {
        /// Whose.
        workspace_id: Id<Workspace>,
        /// Their keys among the objects.
        files: Vec<String>,
    },
}

impl Task {
    /// What it is called in the journal.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Inbound { .. } => "inbound",
            Self::Status { .. } => "status",
            Self::Renamed { .. } => "renamed",
            Self::Answer { .. } => "answer",
            Self::Send { .. } => "send",
            Self::DropFiles { .. } => "drop_files",
        }
    }

    /// What must not be done at once within a batch: messages of one person keep their order.
    #[must_use]
    pub fn lane(&self) -> String {
        match self {
            Self::Inbound { line, message, .. } => {
                format!("{} {}", line.phone_number_id, message.peer.marks().next().unwrap_or_default())
            }
            Self::Status { status, .. } => status.id.clone(),
            // With what they write as who they are now.
            Self::Renamed { line, renamed } => {
                format!("{} {}", line.phone_number_id, renamed.is.marks().next().unwrap_or_default())
            }
            Self::Answer { conversation_id, .. } | Self::Send { conversation_id, .. } => conversation_id.text(),
            Self::DropFiles { files, .. } => files.first().cloned().unwrap_or_default(),
        }
    }

    /// As a queue takes it, visible after a wait.
    ///
    /// # Errors
    /// When it does not serialise.
    pub fn after(&self, wait: Duration) -> Result<Outgoing> {
        let body = serde_json::to_string(self).map_err(Error::internal)?;
        Ok(Outgoing { body, delay: wait.min(MAX_DELAY) })
    }
}

/// Queues a task.
///
/// # Errors
/// When the queue cannot be reached.
pub async fn queue(app: &App, task: &Task, wait: Duration) -> Result<()> {
    app.queue.send(QueueName::Turn, vec![task.after(wait)?]).await
}

/// Deletes files of a tenant; those that are gone already are fine.
///
/// # Errors
/// When the objects cannot be reached.
pub async fn drop_files(app: &App, workspace: Id<Workspace>, files: &[String]) -> Result<()> {
    let ours = format!("{}/", Objects::of(workspace));
    for file in files.iter().filter(|file| file.starts_with(&ours)) {
        app.objects.delete(file).await?;
    }
    Ok(())
}

/// A secret of a line, opened.
///
/// # Errors
/// When it cannot be read or opened.
async fn secret(app: &App, line: &Line, field: SecretField) -> Result<Option<Secret>> {
    let (workspace, agent) = (line.workspace_id, line.agent_id);
    let Some(stored) = store::agent::secret(&app.table, workspace, agent, field).await? else { return Ok(None) };
    let place = Agent::secret_place(workspace, agent, field);
    app.keys().await?.seal.open_text(&place, &stored.sealed).map(Some)
}

/// What a line's provider is asked with.
const fn sending_secret(provider: Provider) -> SecretField {
    match provider {
        Provider::Kapso => SecretField::KapsoKey,
        Provider::Meta => SecretField::MetaToken,
    }
}

/// What a line's provider signs with.
const fn signing_secret(provider: Provider) -> SecretField {
    match provider {
        Provider::Kapso => SecretField::KapsoSecret,
        Provider::Meta => SecretField::MetaSecret,
    }
}

/// The way to a line's provider; `None` when the line has no key.
async fn api<'a>(app: &'a App, line: &'a Line) -> Result<Option<Api<'a>>> {
    let token = secret(app, line, sending_secret(line.provider)).await?;
    Ok(token.map(|token| with_token(app, line, token)))
}

fn with_token<'a>(app: &'a App, line: &'a Line, token: Secret) -> Api<'a> {
    let base = match line.provider {
        Provider::Kapso => &app.config.kapso_base_url,
        Provider::Meta => &app.config.meta_base_url,
    };
    Api { egress: &app.egress, provider: line.provider, base, phone_number_id: &line.phone_number_id, token }
}
