//! Waiting for the answer to a stored message: another turn gives it, or this caller becomes that turn.

use std::time::Duration;

use super::accept::{self, OwnTurn};
use super::load::{Scene, WINDOW};
use super::transcript::Transcript;
use super::{Answer, Outcome, allowance, busy, commit, left};
use crate::app::App;
use crate::domain::Conversation;
use crate::domain::message::Message;
use crate::kernel::{Code, Error, Id, Limit, Result, Time};
use crate::store;
use crate::store::conversation::{Thread, turn_is_free};
use crate::table::{Cond, Refusal, Update, decode};

/// A stored message that waits for its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    pub(super) conversation_id: Id<Conversation>,
    pub(super) message_id: Id<Message>,
}

const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// Waits until a reply names the message, a person takes over, or the budget is used up.
pub(super) async fn wait(app: &App, scene: &Scene, waiting: Waiting, began: Time) -> Result<Outcome> {
    let (workspace, id) = (scene.snapshot.workspace_id, waiting.conversation_id);
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(answer) = answer_to(app, scene, waiting).await? {
            return scene.outcome(app, id, Some(answer)).await;
        }
        let head = store::conversation::head(&app.table, workspace, id).await?;
        if head.ai_paused {
            return scene.outcome(app, id, None).await;
        }
        if !head.is_busy(app.now())
            && let Some(turn) = claim(app, scene, id, began).await?
        {
            let answers_it = turn.transcript.pending.iter().any(|message| message.id == waiting.message_id);
            let reply = commit::think_and_commit(app, scene, turn).await?;
            if let (true, Some(answer)) = (answers_it, reply) {
                return scene.outcome(app, id, Some(answer)).await;
            }
            continue;
        }
        if left(app, began).is_zero() {
            return Err(busy());
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The stored reply that answers the message: it lies among the messages right after it.
async fn answer_to(app: &App, scene: &Scene, waiting: Waiting) -> Result<Option<Answer>> {
    let (workspace, limit) = (scene.snapshot.workspace_id, Limit::new(Some(Limit::MAX))?);
    let after = Some(waiting.message_id);
    let page =
        store::conversation::messages_after(&app.table, workspace, waiting.conversation_id, after, limit).await?;
    let answers =
        |message: &Message| message.reply.as_ref().is_some_and(|reply| reply.answers.contains(&waiting.message_id));
    Ok(page.items.into_iter().find(answers).map(|message| Answer {
        message_id: message.id,
        free_messages_remaining: message.reply.as_ref().and_then(|reply| reply.free_messages_remaining),
        content: message.content,
    }))
}

/// Takes the free lease of a conversation with pending messages. `None` when somebody else was first, or nothing is
/// pending any more.
async fn claim(app: &App, scene: &Scene, id: Id<Conversation>, began: Time) -> Result<Option<OwnTurn>> {
    let workspace = scene.snapshot.workspace_id;
    let charge = allowance::take(app, scene).await?;
    let lease = accept::lease(app, &charge);
    let update = Update::new(store::keys::conversation(workspace, id)).set("turn", &lease);
    let free = turn_is_free(app.now()).and(Cond::eq("ai_paused", false));
    let head: Conversation = match app.table.update(update, Some(free), Error::new(Code::ConversationBusy)).await {
        Ok(item) => decode(item)?,
        Err(refusal) => {
            allowance::give_back(app, scene, &charge).await;
            return match refusal {
                Refusal::Conditions(_) => Ok(None),
                Refusal::Error(error) => Err(error),
            };
        }
    };
    let Thread { messages, .. } =
        store::conversation::thread(&app.table, workspace, id, WINDOW).await?.ok_or_else(Error::not_found)?;
    let transcript = Transcript::new(messages);
    if transcript.pending.is_empty() {
        accept::release(app, scene, id, &lease).await;
        allowance::give_back(app, scene, &charge).await;
        return Ok(None);
    }
    Ok(Some(OwnTurn { head, lease, charge, transcript, began }))
}
