//! What time alone makes happen: silent conversations are closed, deliveries whose wait is over are queued, messages that
//! died with their turns are given back.

use super::conversation::silence_timer;
use super::{App, allowance, deliver};
use crate::domain::conversation::{ConversationStatus, SILENCE};
use crate::domain::{Conversation, Delivery, Workspace};
use crate::events::emit;
use crate::kernel::{Code, Error, Id, Result};
use crate::ports::queue::{Outgoing, QueueName};
use crate::store;
use crate::store::conversation::turn_is_free;
use crate::store::keys::SHARDS;
use crate::store::timer::{Task, Timer};
use crate::table::{Cond, Refusal, Unit, Versioned};

/// How many things are looked at in a shard at once.
const PER_SHARD: usize = 100;
/// How many times that in one tick; the rest waits for the next one.
const ROUNDS: usize = 10;
/// How long a queued attempt may take to be made before it is queued again.
const REQUEUE: std::time::Duration = std::time::Duration::from_secs(5 * 60);

/// What a tick did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ticked {
    /// Conversations that were closed.
    pub closed: usize,
    /// Deliveries that were queued.
    pub queued: usize,
    /// Messages that were given back, since the turns that had taken them died.
    pub given_back: usize,
}

/// Does what is due.
///
/// # Errors
/// When the table or the queue cannot be reached.
pub async fn tick(app: &App) -> Result<Ticked> {
    let mut ticked = Ticked::default();
    let mut failure = None;
    for shard in 0..SHARDS {
        for timer in store::timer::due(&app.table, shard, app.now(), PER_SHARD).await? {
            if let Err(error) = ring(app, &timer, &mut ticked).await {
                note(&mut failure, "a timer failed", error);
            }
        }
        for _ in 0..ROUNDS {
            let due = store::delivery::due(&app.table, shard, app.now(), PER_SHARD).await?;
            let is_last = due.len() < PER_SHARD;
            for found in due {
                match queue_attempt(app, found).await {
                    Ok(()) => ticked.queued += 1,
                    Err(error) => note(&mut failure, "a due delivery was not queued", error),
                }
            }
            if is_last || failure.is_some() {
                break;
            }
        }
    }
    // One that fails must not keep back the others; the tick as a whole is seen to have failed.
    failure.map_or(Ok(ticked), Err)
}

async fn ring(app: &App, timer: &Timer, ticked: &mut Ticked) -> Result<()> {
    match timer.task {
        Task::CloseSilent { workspace_id, conversation_id } => {
            let closed = close_if_silent(app, timer, workspace_id, conversation_id).await?;
            ticked.closed += usize::from(closed);
        }
        Task::SweepHolds { account_id } => {
            ticked.given_back += allowance::sweep(app, account_id).await?;
            let mut unit = Unit::new();
            store::timer::claim(&mut unit, timer);
            finish(app, unit, false).await?;
        }
    }
    Ok(())
}

fn note(failure: &mut Option<Error>, what: &str, error: Error) {
    tracing::error!(%error, what);
    failure.get_or_insert(error);
}

/// Queues the attempt that a delivery waits for, and moves it on among the due ones, so that the next tick does not
/// queue it again while the queue is long.
async fn queue_attempt(app: &App, found: Versioned<Delivery>) -> Result<()> {
    let Versioned { body: mut delivery, v } = found;
    let task = Outgoing::now(deliver::Task::attempt(&delivery).to_json()?);
    app.queue.send(QueueName::Deliver, vec![task]).await?;
    delivery.next_at = Some(app.now() + REQUEUE);
    let mut unit = Unit::new();
    store::delivery::replace(&mut unit, &delivery, v)?;
    match app.table.commit(unit).await {
        // The worker was faster.
        Ok(()) | Err(Refusal::Conditions(_)) => Ok(()),
        Err(Refusal::Error(error)) => Err(error),
    }
}

/// Closes a conversation that has been silent, or looks again when it would be. Says whether it was closed.
async fn close_if_silent(app: &App, timer: &Timer, workspace: Id<Workspace>, id: Id<Conversation>) -> Result<bool> {
    let now = app.now();
    let mut unit = Unit::new();
    store::timer::claim(&mut unit, timer);
    let head = match store::conversation::head(&app.table, workspace, id).await {
        Ok(head) if head.status == ConversationStatus::Open => head,
        Ok(_) => return finish(app, unit, false).await,
        Err(error) if error.code() == Code::NotFound => return finish(app, unit, false).await,
        Err(error) => return Err(error),
    };
    if now.since(head.last_message_at) < SILENCE || head.is_busy(now) {
        // Never at or before now, or the next tick would come back at once.
        let last = head.last_message_at.max(now - SILENCE + std::time::Duration::from_secs(60));
        store::timer::set(&mut unit, &silence_timer(&head, last))?;
        return finish(app, unit, false).await;
    }
    let update = crate::table::Update::new(store::keys::conversation(workspace, id))
        .set("status", ConversationStatus::Closed)
        .set("closed_at", now)
        // The lease of a turn that died.
        .remove("turn");
    let update = store::conversation::list_at(update, &head, ConversationStatus::Closed, head.last_message_at);
    // A message that came in between keeps it open.
    let silent = Cond::eq("message_count", head.message_count).and(Cond::eq("status", ConversationStatus::Open));
    store::conversation::update_head(&mut unit, update, turn_is_free(now).and(silent));
    emit(&mut unit, &app.events().conversation_closed(&head))?;
    finish(app, unit, true).await
}

/// Carries the unit out. Another clock, or a message in between, makes it somebody else's work: the timer is still
/// there then, or was taken.
async fn finish(app: &App, unit: Unit, closes: bool) -> Result<bool> {
    match app.commit(unit).await {
        Ok(()) => Ok(closes),
        Err(Refusal::Conditions(_)) => Ok(false),
        Err(Refusal::Error(error)) => Err(error),
    }
}
