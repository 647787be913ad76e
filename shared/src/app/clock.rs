//! What time alone makes happen: silent conversations are closed, deliveries whose wait is over are queued, messages that
//! died with their turns are given back, replays whose message was lost go on, uploads that expired are dropped.

use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};

use super::conversation::{self, silence_timer};
use super::{App, allowance, deliver, upload, whatsapp};
use crate::domain::conversation::{ConversationStatus, SILENCE};
use crate::domain::{Conversation, Delivery, Workspace};
use crate::kernel::{Code, Error, Id, Result, Time};
use crate::ports::queue::{Outgoing, QueueName};
use crate::store;
use crate::store::conversation::turn_is_free;
use crate::store::keys::SHARDS;
use crate::store::timer::{Task, Timer};
use crate::table::{Cond, Refusal, Unit, Versioned};

/// How many things are read of a shard at once.
const CHUNK: usize = 100;
/// How many times that in one tick; the rest waits for the next one.
const ROUNDS: usize = 10;
/// How many shards are worked off at a time.
const SHARDS_AT_ONCE: usize = 4;
/// How many things of a shard are done at a time.
const AT_ONCE: usize = 8;
/// How long a tick begins new work; less than its function may run.
const LONGEST: Duration = Duration::from_secs(40);
/// How long a queued attempt may take to be made before it is queued again.
const REQUEUE: Duration = Duration::from_secs(5 * 60);

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

/// Does what is due: timers first, since deliveries may be many, and each shard as far as time allows. No shard is always
/// the first one.
///
/// # Errors
/// When something failed; all the rest is done then. The table or the queue cannot be reached, as a rule.
pub async fn tick(app: &App) -> Result<Ticked> {
    let (end, first) = (app.now() + LONGEST, app.rng.below(u32::from(SHARDS)) as u8);
    let shards = || (0..SHARDS).map(move |shard| (shard + first) % SHARDS);
    let (mut ticked, mut failure) = (Ticked::default(), None);
    let timers = stream::iter(shards().map(|shard| ring_all(app, shard, end)));
    let deliveries = stream::iter(shards().map(|shard| queue_all(app, shard, end)));
    let mut done = timers.buffer_unordered(SHARDS_AT_ONCE).chain(deliveries.buffer_unordered(SHARDS_AT_ONCE));
    while let Some((part, failed)) = done.next().await {
        ticked += part;
        failure = failure.or(failed);
    }
    // One that fails must not keep back the others; the tick as a whole is seen to have failed.
    failure.map_or(Ok(ticked), Err)
}

impl std::ops::AddAssign for Ticked {
    fn add_assign(&mut self, more: Self) {
        self.closed += more.closed;
        self.queued += more.queued;
        self.given_back += more.given_back;
    }
}

/// What was done of a shard, and the first failure.
type Part = (Ticked, Option<Error>);

async fn ring_all(app: &App, shard: u8, end: Time) -> Part {
    let (mut part, mut after) = (Part::default(), None);
    for _ in 0..ROUNDS {
        let found = store::timer::due(&app.table, shard, app.now(), after.as_ref(), CHUNK).await;
        let Some((timers, next)) = noted(&mut part.1, "timers were not read", found) else { break };
        let rings = timers.into_iter().map(|timer| ring(app, timer));
        for rung in stream::iter(rings).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await {
            part.0 += noted(&mut part.1, "a timer failed", rung).unwrap_or_default();
        }
        after = next;
        if after.is_none() || app.now() >= end {
            break;
        }
    }
    part
}

async fn queue_all(app: &App, shard: u8, end: Time) -> Part {
    let (mut part, mut after) = (Part::default(), None);
    for _ in 0..ROUNDS {
        if app.now() >= end {
            break;
        }
        let found = store::delivery::due(&app.table, shard, app.now(), after.as_ref(), CHUNK).await;
        let Some((due, next)) = noted(&mut part.1, "due deliveries were not read", found) else { break };
        let queued = noted(&mut part.1, "due deliveries were not queued", queue_attempts(app, due).await);
        part.0.queued += queued.unwrap_or(0);
        after = next;
        if after.is_none() {
            break;
        }
    }
    part
}

fn noted<T>(failure: &mut Option<Error>, what: &str, outcome: Result<T>) -> Option<T> {
    outcome
        .map_err(|error| {
            tracing::error!(%error, what);
            failure.get_or_insert(error);
        })
        .ok()
}

async fn ring(app: &App, timer: Timer) -> Result<Ticked> {
    let mut ticked = Ticked::default();
    match timer.task {
        Task::CloseSilent { workspace_id, conversation_id } => {
            let closed = close_if_silent(app, &timer, workspace_id, conversation_id).await?;
            ticked.closed = usize::from(closed);
        }
        Task::SweepHolds { account_id } => {
            ticked.given_back = allowance::sweep(app, account_id).await?;
            let mut unit = Unit::new();
            store::timer::claim(&mut unit, &timer);
            finish(app, unit, false).await?;
        }
        Task::WatchReplay { workspace_id, webhook_id, replay_id } => {
            let mut unit = Unit::new();
            store::timer::claim(&mut unit, &timer);
            if let Some(next) = deliver::replay::watch(app, workspace_id, webhook_id, replay_id).await? {
                store::timer::set(&mut unit, &next)?;
            }
            finish(app, unit, false).await?;
        }
        Task::DropUpload { workspace_id, upload_id } => {
            // The worker of channels reaches the objects; to drop what is gone already does no harm.
            let files = vec![upload::object(workspace_id, upload_id)];
            whatsapp::queue(app, &whatsapp::Task::DropFiles { workspace_id, files }, Duration::ZERO).await?;
            let mut unit = Unit::new();
            store::timer::claim(&mut unit, &timer);
            finish(app, unit, false).await?;
        }
    }
    Ok(ticked)
}

/// Queues the attempts that deliveries wait for. Each is moved on among the due ones first, so that the next tick does not
/// queue it again while the queue is long; should the send fail, it is found there. Says how many were queued.
async fn queue_attempts(app: &App, due: Vec<Versioned<Delivery>>) -> Result<usize> {
    let moved: Vec<Result<Option<Outgoing>>> =
        stream::iter(due.into_iter().map(|found| move_on(app, found))).buffer_unordered(AT_ONCE).collect().await;
    // What was moved is queued, whatever became of the others.
    let (mut tasks, mut failure) = (Vec::new(), None);
    for outcome in moved {
        tasks.extend(noted(&mut failure, "a due delivery was not moved on", outcome).flatten());
    }
    let count = tasks.len();
    if count > 0 {
        app.queue.send(QueueName::Deliver, tasks).await?;
    }
    failure.map_or(Ok(count), Err)
}

async fn move_on(app: &App, found: Versioned<Delivery>) -> Result<Option<Outgoing>> {
    let Versioned { body: mut delivery, v } = found;
    // The index may tell of what was claimed or done meanwhile; that must not be touched.
    if !delivery.is_due(app.now()) {
        return Ok(None);
    }
    let task = Outgoing::now(deliver::Task::attempt(&delivery).to_json()?);
    delivery.next_at = Some(app.now() + REQUEUE);
    let mut unit = Unit::new();
    store::delivery::replace(&mut unit, &delivery, v)?;
    match app.commit(unit).await {
        Ok(()) => Ok(Some(task)),
        // A worker was faster.
        Err(Refusal::Conditions(_)) => Ok(None),
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
        let last = head.last_message_at.max(now - SILENCE + Duration::from_secs(60));
        store::timer::set(&mut unit, &silence_timer(&head, last))?;
        return finish(app, unit, false).await;
    }
    // A message that came in between keeps it open.
    let silent = Cond::eq("message_count", head.message_count).and(Cond::eq("status", ConversationStatus::Open));
    conversation::close(app, &mut unit, &head, "silence", turn_is_free(now).and(silent))?;
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
