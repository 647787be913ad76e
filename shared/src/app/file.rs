//! Files that came in with messages, as the team downloads them.

use std::time::Duration;

use axum::body::Bytes;

use super::{App, client};
use crate::access::Caller;
use crate::domain::{Agent, Conversation, GrantScope, Message};
use crate::kernel::{Error, Id, Result};
use crate::store;

/// How much is answered with at once: an answer of a function may have 6 MB, in which three bytes take four.
pub const MAX_ANSWERED: u64 = 4_500_000;

/// How long the address of a larger one holds: it is followed at once.
const HOLDS: Duration = Duration::from_secs(300);

/// A file to download.
#[derive(Debug, Clone)]
pub struct Opened {
    /// Its type, as the provider or its sender says.
    pub mime: String,
    /// `Content-Disposition`.
    pub disposition: String,
    /// What is in it.
    pub content: Content,
}

/// What is in a file.
#[derive(Debug, Clone)]
pub enum Content {
    /// This.
    Bytes(Bytes),
    /// Too much for an answer: whoever has this address may fetch it for some minutes.
    At(String),
}

/// Opens the file of a message.
///
/// # Errors
/// `not_found` unless the workspace has that message in a conversation with that agent, with a file that is kept;
/// `scope_missing` when a client may not read its messages.
pub async fn open(
    app: &App,
    caller: &Caller,
    agent: Id<Agent>,
    conversation: Id<Conversation>,
    id: Id<Message>,
) -> Result<Opened> {
    let (table, workspace) = (&app.table, caller.workspace_id);
    let ((), head, message) = tokio::try_join!(
        client::ensure_granted(app, caller, agent, GrantScope::MessagesRead),
        store::conversation::head(table, workspace, conversation),
        store::conversation::message(table, workspace, conversation, id)
    )?;
    let file = message.filter(|_| head.agent_id == agent).and_then(|message| message.file);
    let file = file.ok_or_else(Error::not_found)?;
    let key = file.object.as_deref().ok_or_else(Error::not_found)?;
    let disposition = file.disposition(id.int());
    let mime = file.mime.clone().unwrap_or_else(|| "application/octet-stream".into());
    if file.bytes.is_some_and(|bytes| bytes > MAX_ANSWERED)
        && let Some(address) = app.objects.address(key, &disposition, HOLDS).await?
    {
        return Ok(Opened { mime, disposition, content: Content::At(address) });
    }
    // Only tests have objects without addresses, and no limit to an answer.
    let bytes = app.objects.get(key).await?.ok_or_else(Error::not_found)?;
    Ok(Opened { mime, disposition, content: Content::Bytes(bytes) })
}
