//! Waiting for the answer to a stored message: another turn gives it, or this caller becomes that turn.

use std::time::Duration;

use super::accept::{self, OwnTurn};
use super::allowance::{self, Charge};
use super::audience::{Audience, Discarded};
use super::load::{Scene, WINDOW};
use super::transcript::Transcript;
use super::{Answer, Outcome, Pace, busy, commit};
use crate::app::App;
use crate::domain::Conversation;
use crate::domain::conversation::Turn;
use crate::domain::message::Message;
use crate::kernel::{Code, Error, Id, Limit, Result};
use crate::store;
use crate::store::conversation::turn_is_free;
use crate::table::{Cond, Refusal, Update, decode};

/// A stored message that waits for its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    pub(super) conversation_id: Id<Conversation>,
    pub(super) message_id: Id<Message>,
}

const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);
/// With less time than this a waiting caller does not begin a turn: its fallback would be the answer of those who have
/// more.
const MIN_THINKING: Duration = Duration::from_secs(4);

/// Waits until a reply names the message, a person takes over, or the budget is used up.
pub(super) async fn wait(
    app: &App,
    scene: &Scene,
    waiting: Waiting,
    pace: Pace,
    audience: &Audience,
) -> Result<Outcome> {
    let (workspace, id) = (scene.snapshot.workspace_id, waiting.conversation_id);
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(answer) = answer_to(app, scene, waiting).await? {
            return scene.outcome(app, id, Some(answer)).await;
        }
        let head = store::conversation::head(&app.table, workspace, id).await?;
        if head.is_settled(waiting.message_id) {
            return scene.stopped(app, id).await;
        }
        if head.ai_paused {
            return scene.outcome(app, id, None).await;
        }
        let time = pace.left(app);
        if !head.is_busy(app.now()) && time >= MIN_THINKING {
            match claim(app, scene, waiting, pace).await? {
                Claimed::Turn(turn) => {
                    // What was told of a turn that ended without a reply is no part of this one's.
                    audience.discard(Discarded::OtherReply);
                    if let Some(answer) = commit::think_and_commit(app, scene, *turn, audience).await? {
                        return scene.outcome(app, id, Some(answer)).await;
                    }
                    continue;
                }
                // A person has answered it meanwhile.
                Claimed::Settled => return scene.outcome(app, id, None).await,
                Claimed::Not => {}
            }
        }
        if time.is_zero() {
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
        stopped: message.reply.as_ref().is_some_and(|reply| reply.stopped),
        content: message.content,
    }))
}

pub(super) enum Claimed {
    /// The turn is ours, and its transcript holds the message.
    Turn(Box<OwnTurn>),
    /// The message needs no answer of the agent any more.
    Settled,
    /// Somebody else was first.
    Not,
}

/// Takes the free lease of the conversation, then the allowance: whoever does not get the lease takes nothing from
/// others.
pub(super) async fn claim(app: &App, scene: &Scene, waiting: Waiting, pace: Pace) -> Result<Claimed> {
    let (workspace, id) = (scene.snapshot.workspace_id, waiting.conversation_id);
    let lease = accept::lease(app, workspace, pace);
    let update = Update::new(store::keys::conversation(workspace, id)).set("turn", &lease);
    let free = turn_is_free(app.now()).and(Cond::eq("ai_paused", false));
    let head: Conversation = match app.table.update(update, Some(free), Error::new(Code::ConversationBusy)).await {
        Ok(item) => decode(item)?,
        Err(Refusal::Conditions(failed)) => match failed.into_iter().find_map(|failed| failed.found) {
            // Sent again after a lost answer, it meets its own lease.
            Some(found) => match decode::<Conversation>(found)? {
                head if head.turn.as_ref() == Some(&lease) => head,
                _ => return Ok(Claimed::Not),
            },
            None => return Ok(Claimed::Not),
        },
        Err(Refusal::Error(error)) => return Err(error),
    };
    match prepare(app, scene, waiting, &lease).await {
        Ok(Some((transcript, charge))) => {
            Ok(Claimed::Turn(Box::new(OwnTurn { head, lease, charge, transcript, pace, stopped: None })))
        }
        Ok(None) => {
            accept::release(app, scene, id, &lease, None).await;
            // A reply may have come between the look and the lease; else a person has settled it.
            Ok(if answer_to(app, scene, waiting).await?.is_some() { Claimed::Not } else { Claimed::Settled })
        }
        Err(error) => {
            accept::release(app, scene, id, &lease, None).await;
            Err(error)
        }
    }
}

/// What a turn needs besides its lease; `None` when the message waits for no answer.
async fn prepare(app: &App, scene: &Scene, waiting: Waiting, lease: &Turn) -> Result<Option<(Transcript, Charge)>> {
    let thread = store::conversation::thread(&app.table, scene.snapshot.workspace_id, waiting.conversation_id, WINDOW);
    let thread = thread.await?.ok_or_else(Error::not_found)?;
    let transcript = Transcript::new(thread.head.settled_until, thread.messages);
    if !transcript.pending.iter().any(|message| message.id == waiting.message_id) {
        return Ok(None);
    }
    Ok(Some((transcript, allowance::take(app, scene, lease, waiting.conversation_id).await?)))
}
