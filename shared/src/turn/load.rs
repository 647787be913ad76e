//! Everything that a turn needs, in one parallel trip (one more when the slug is not known to this process).

use std::sync::Arc;

use super::identify::Known;
use super::{Answer, Incoming, Outcome};
use crate::app::{App, allowance, billing};
use crate::domain::agent::Snapshot;
use crate::domain::billing::BillingAccount;
use crate::domain::handle::Handle;
use crate::domain::usage::KeySource;
use crate::domain::{Agent, Conversation, Workspace};
use crate::kernel::{Error, Id, Result};
use crate::store;
use crate::store::conversation::Thread;

/// How many of the last messages the model sees.
pub(super) const WINDOW: usize = 40;

/// What a turn works with.
pub(super) struct Scene {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) account: BillingAccount,
    /// The running conversation; `None` for a first message.
    pub(super) thread: Option<Thread>,
    /// The signed user who writes, when the conversation does not know them yet.
    pub(super) known: Option<Known>,
}

pub(super) async fn load(app: &App, incoming: &Incoming) -> Result<Scene> {
    let keys = app.keys().await?;
    let decode = |handle: &String| Handle::decode(&keys.handle, handle).ok_or_else(Error::not_found);
    let handle = incoming.handle.as_ref().map(decode).transpose()?;
    let alias = store::agent::public_alias(&app.table, &incoming.slug).await?.ok_or_else(Error::not_found)?;
    let ours =
        handle.is_none_or(|handle| (handle.workspace_id, handle.agent_id) == (alias.workspace_id, alias.agent_id));
    if !ours {
        return Err(Error::not_found());
    }
    let snapshot = async {
        let snapshot = store::agent::snapshot(&app.table, alias.workspace_id, alias.agent_id).await?;
        snapshot.filter(|snapshot| snapshot.enabled).ok_or_else(Error::not_found)
    };
    let thread = async {
        let Some(handle) = handle else { return Ok(None) };
        let thread =
            store::conversation::thread(&app.table, handle.workspace_id, handle.conversation_id, WINDOW).await?;
        thread.map(Some).ok_or_else(Error::not_found)
    };
    let account = store::billing::get(&app.table, alias.billing_account_id);
    let watched = allowance::watch(app, alias.billing_account_id);
    let (snapshot, thread, account, ()) = tokio::try_join!(snapshot, thread, account, watched)?;
    Ok(Scene { snapshot, account, thread, known: None })
}

/// The same for a conversation that the caller names by its ids; `None` when it is gone, or its agent does not answer.
pub(super) async fn load_conversation(
    app: &App,
    workspace: Id<Workspace>,
    agent: Id<Agent>,
    conversation: Id<Conversation>,
) -> Result<Option<Scene>> {
    let (snapshot, thread) = tokio::try_join!(
        store::agent::snapshot(&app.table, workspace, agent),
        store::conversation::thread(&app.table, workspace, conversation, WINDOW),
    )?;
    let (Some(snapshot), Some(thread)) = (snapshot.filter(|snapshot| snapshot.enabled), thread) else {
        return Ok(None);
    };
    let account = store::billing::get(&app.table, snapshot.billing_account_id);
    let (account, ()) = tokio::try_join!(account, allowance::watch(app, snapshot.billing_account_id))?;
    Ok(Some(Scene { snapshot, account, thread: Some(thread), known: None }))
}

impl Scene {
    /// Whose key answers.
    pub(super) fn key_source(&self) -> KeySource {
        self.snapshot.key_source()
    }

    pub(super) fn handle(&self, conversation: Id<Conversation>) -> Handle {
        Handle {
            workspace_id: self.snapshot.workspace_id,
            agent_id: self.snapshot.agent_id,
            conversation_id: conversation,
        }
    }

    pub(super) async fn outcome(
        &self,
        app: &App,
        conversation: Id<Conversation>,
        reply: Option<Answer>,
    ) -> Result<Outcome> {
        let handle = self.handle_text(app, conversation).await?;
        let stopped = reply.as_ref().is_some_and(|reply| reply.stopped);
        let free_messages_remaining = match &reply {
            Some(reply) => reply.free_messages_remaining,
            // Nothing was taken, and the page still shows how many there are.
            None => billing::trial_left(app, &self.account).await?,
        };
        Ok(Outcome { handle, reply, key_source: self.key_source(), free_messages_remaining, stopped })
    }

    /// The outcome of a turn that was stopped before anything was written.
    pub(super) async fn stopped(&self, app: &App, conversation: Id<Conversation>) -> Result<Outcome> {
        Ok(Outcome { stopped: true, ..self.outcome(app, conversation, None).await? })
    }

    pub(super) async fn handle_text(&self, app: &App, conversation: Id<Conversation>) -> Result<String> {
        Ok(self.handle(conversation).encode(&app.keys().await?.handle))
    }
}
