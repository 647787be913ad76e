//! The end of a turn: the reply is stored with its usage and its events, or nothing is.

use super::accept::{OwnTurn, release};
use super::audience::{Audience, Discarded};
use super::load::{Scene, WINDOW};
use super::think::{self, Ended, Thought};
use super::{Answer, allowance};
use crate::app::App;
use crate::domain::Conversation;
use crate::domain::message::{Author, Message, Reply};
use crate::domain::usage::UsageEvent;
use crate::domain::whatsapp::Delivery;
use crate::events::emit;
use crate::kernel::{Code, Error, Result};
use crate::store;
use crate::store::conversation::turn_is;
use crate::table::{Cond, Refusal, Unit, decode};

/// How often a reply is stored anew when one of its new ids was taken already.
const TRIES: u32 = 5;
/// How often a turn starts over because newer messages came in; then it answers what it has seen.
const MAX_ROUNDS: u32 = 3;

/// Thinks and commits. `None` when the reply was dropped: a person took over, or the lease was lost. What was charged is
/// then given back, and nothing is billed. However it ends, the lease does not outlive it.
pub(super) async fn think_and_commit(
    app: &App,
    scene: &Scene,
    mut turn: OwnTurn,
    audience: &Audience,
) -> Result<Option<Answer>> {
    let outcome = rounds(app, scene, &mut turn, audience).await;
    if !matches!(outcome, Ok(Some(_))) {
        let released = release(app, scene, turn.head.id, &turn.lease, turn.stopped).await;
        // After an error nobody knows whether the commit happened. If it did, the lease went with it and the charge
        // stands; the caller finds the reply by waiting for it.
        if released || outcome.is_ok() {
            allowance::give_back(app, scene, &turn.charge).await;
        } else {
            return Ok(None);
        }
    }
    outcome
}

async fn rounds(app: &App, scene: &Scene, turn: &mut OwnTurn, audience: &Audience) -> Result<Option<Answer>> {
    let mut thinking = think::Thinking::new(app, scene, turn, audience).await?;
    for round in 1.. {
        let before = app.now();
        let thought = match thinking.think(turn.pace.left(app)).await {
            Ended::Thought(thought) => thought,
            Ended::Stopped => {
                // Whoever waits for these messages is told that nothing comes.
                turn.stopped = turn.transcript.pending.iter().map(|message| message.id).max();
                return Ok(None);
            }
            Ended::TakenOver => return Ok(None),
        };
        // Starting over makes sense only while there is time for another thought like this one, and tokens for any.
        let took = app.now().since(before);
        let is_over = turn.pace.left(app) <= took || thinking.is_spent();
        let is_last = round == MAX_ROUNDS || is_over || thought.stopped;
        match commit(app, scene, turn, &thought, is_last).await? {
            Committed::Stored(answer) => {
                if thought.is_fallback() {
                    allowance::give_back(app, scene, &turn.charge).await;
                } else {
                    app.holds().note_settled(scene.account.id, &turn.charge.period, turn.lease.id);
                }
                return Ok(Some(answer));
            }
            Committed::Newer => {
                let thread =
                    store::conversation::thread(&app.table, turn.head.workspace_id, turn.head.id, WINDOW).await?;
                let thread = thread.ok_or_else(Error::not_found)?;
                turn.head.inbound_count = thread.head.inbound_count;
                turn.head.message_count = thread.head.message_count;
                audience.discard(Discarded::NewerMessage);
                thinking.hear(turn.transcript.refresh(thread.head.settled_until, thread.messages)).await;
            }
            Committed::Dropped => return Ok(None),
        }
    }
    Ok(None)
}

enum Committed {
    Stored(Answer),
    /// A newer message came in: think again.
    Newer,
    /// The lease is lost or a person has taken over.
    Dropped,
}

async fn commit(app: &App, scene: &Scene, turn: &OwnTurn, thought: &Thought, is_last: bool) -> Result<Committed> {
    for _ in 0..TRIES {
        match commit_once(app, scene, turn, thought, is_last).await {
            // A new id was taken already, by chance: the same again with others.
            Err(error) if error.code() == Code::ConcurrentChange => {}
            outcome => return outcome,
        }
    }
    Err(Error::new(Code::ConcurrentChange))
}

async fn commit_once(app: &App, scene: &Scene, turn: &OwnTurn, thought: &Thought, is_last: bool) -> Result<Committed> {
    // Whoever looks after the end of a lease takes its turn for dead: nothing may come of it any more.
    if app.now().millis() > turn.lease.until {
        return Ok(Committed::Dropped);
    }
    let message = reply(app, scene, turn, thought);
    let mut unit = Unit::new();
    store::conversation::add_message(&mut unit, turn.head.workspace_id, &message)?;
    let key_source = message.reply.as_ref().and_then(|reply| reply.key_source);
    let mut metered = None;
    if let Some(key_source) = key_source {
        let usage = UsageEvent {
            id: turn.lease.id,
            billing_account_id: scene.account.id,
            workspace_id: turn.head.workspace_id,
            agent_id: turn.head.agent_id,
            conversation_id: turn.head.id,
            message_id: message.id,
            key_source,
            unit_cost: key_source.unit_cost(),
            included: turn.charge.is_included(),
            at: message.created_at,
            reported_at: None,
            parked: None,
            parked_at: None,
            put_back_at: None,
        };
        store::usage::create(&mut unit, &usage)?;
        metered = Some(usage);
    }
    emit(&mut unit, &app.events().message_reply(&turn.head, scene.account.id, message.id, metered.as_ref()))?;
    let ours = turn_is(turn.lease.id).and(Cond::eq("ai_paused", false));
    let unchanged = Cond::eq("inbound_count", turn.head.inbound_count);
    let update = store::conversation::touch(&turn.head, &message.content, message.created_at).remove("turn");
    store::conversation::update_head(&mut unit, update, if is_last { ours } else { ours.and(unchanged) });
    match app.commit(unit).await {
        Ok(()) => Ok(Committed::Stored(answer(message))),
        Err(Refusal::Error(error)) => Err(error),
        Err(refusal) => {
            let key = store::keys::conversation(turn.head.workspace_id, turn.head.id);
            let Some(failed) = refusal.on(&key) else { return Err(refusal.into()) };
            let head = failed.found.clone().map(decode::<Conversation>).transpose()?;
            let still_ours =
                |head: Conversation| !head.ai_paused && head.turn.is_some_and(|held| held.id == turn.lease.id);
            Ok(if head.is_some_and(still_ours) { Committed::Newer } else { Committed::Dropped })
        }
    }
}

fn reply(app: &App, scene: &Scene, turn: &OwnTurn, thought: &Thought) -> Message {
    let now = app.now();
    let newest = turn.transcript.pending.iter().chain(&turn.transcript.settled).map(|message| message.id).max();
    Message {
        id: newest.map_or_else(|| app.ids().id(), |newest| app.ids().id_after(newest)),
        conversation_id: turn.head.id,
        author: Author::Agent,
        content: thought.content.clone(),
        client_message_id: None,
        reply: Some(Reply {
            answers: turn.transcript.answers(),
            key_source: (!thought.is_fallback()).then(|| scene.key_source()),
            model: thought.model.clone(),
            tokens_in: thought.usage.tokens_in,
            tokens_out: thought.usage.tokens_out,
            tokens_cached: thought.usage.cached_in,
            tokens_reasoning: thought.usage.reasoning_out,
            response_ms: u64::try_from(now.since(turn.pace.began).as_millis()).unwrap_or(u64::MAX),
            tool_calls: thought.tool_calls.clone(),
            // What a fallback took is given back.
            free_messages_remaining: turn.charge.free_remaining.map(|left| left + u64::from(thought.is_fallback())),
            stopped: thought.stopped,
            reason: thought.unanswered,
        }),
        author_user_id: None,
        delivery: turn.head.whatsapp.as_ref().map(|_| Delivery::of(&thought.content)),
        file: None,
        created_at: now,
    }
}

fn answer(message: Message) -> Answer {
    Answer {
        message_id: message.id,
        free_messages_remaining: message.reply.as_ref().and_then(|reply| reply.free_messages_remaining),
        stopped: message.reply.as_ref().is_some_and(|reply| reply.stopped),
        content: message.content,
    }
}
