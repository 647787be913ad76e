//! The workers: what happens behind a stream, a queue or a schedule. One async function each, from the event as Lambda
//! gives it to the answer that Lambda expects; the bins of this crate and the local platform run them.
//!
//! | worker | fed by | answers |
//! | --- | --- | --- |
//! | [`relay`], [`projector`] | the table's stream | that nothing is to be given again; a failure is one of the whole batch |
//! | [`deliver`], [`deliver_slow`], [`usage_report`], [`turn`] | their queues | the messages to give again |
//! | [`usage_batch`], [`clock`] | schedules | what was done, for the log |
//!
//! All of them may be given the same event more than once. Their work is boxed: as one future it is too deep for the
//! compiler, and too large for the stack of a task.

mod queue;
mod stream;

use std::time::Duration;

use aws_lambda_events::dynamodb::Event as StreamEvent;
use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use aws_lambda_events::streams::DynamoDbEventResponse;
use serde_json::{Value, json};
use shared::app::deliver::Task;
use shared::app::usage::Report;
use shared::app::whatsapp::Task as ChannelTask;
use shared::app::{self, App};
use shared::domain::Event;
use shared::kernel::{Result, Work, work};
use shared::ports::journal::Kind;
use shared::ports::queue::QueueName;

use queue::Desk;

/// How many deliveries of a batch may be under way to one endpoint, so that a slow receiver holds back nobody else.
const PER_ENDPOINT: usize = 5;

/// How long the consumer of a queue works on one message. It ends before the function's own time-out does, which would
/// take the other messages of the batch along.
#[must_use]
pub const fn patience(queue: QueueName) -> Duration {
    match queue {
        QueueName::Deliver | QueueName::DeliverSlow | QueueName::Turn => Duration::from_secs(110),
        QueueName::UsageReport => Duration::from_secs(55),
    }
}

fn desk(app: &App, name: QueueName, width: usize) -> Desk<'_> {
    let (queue, clock, journal) = (app.queue.as_ref(), app.clock.as_ref(), app.journal.as_ref());
    Desk { name, queue, clock, journal, width, patience: patience(name) }
}

/// A run behind a stream or a schedule, told in the journal.
async fn told<T>(app: &App, name: &'static str, run: impl Future<Output = Result<T>>) -> Result<T> {
    let work = Work::new(app.ids().uuid().to_string());
    work.note("service", "worker");
    work.note("operation", name);
    let outcome = work.run(run).await;
    work.note("outcome", if outcome.is_ok() { "done" } else { "failed" });
    app.journal.write(Kind::Run, app.now(), &work);
    outcome
}

/// Fans the events of a stream batch out to queues.
///
/// # Errors
/// When the table or the queue cannot be reached; the whole batch is then given again.
pub async fn relay(app: App, batch: StreamEvent) -> Result<DynamoDbEventResponse> {
    relay_events(app, stream::read(batch)).await?;
    // Nothing of it is to come again: what failed, failed as a whole.
    Ok(DynamoDbEventResponse::default())
}

/// Counts the events of a stream batch.
///
/// # Errors
/// When the table cannot be written; the whole batch is then given again.
pub async fn projector(app: App, batch: StreamEvent) -> Result<DynamoDbEventResponse> {
    project_events(app, stream::read(batch)).await?;
    // Nothing of it is to come again: what failed, failed as a whole.
    Ok(DynamoDbEventResponse::default())
}

/// What [`relay`] does with events, for whoever reads the outbox without a stream.
///
/// # Errors
/// As [`relay`].
pub async fn relay_events(app: App, events: Vec<Event>) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let run = async {
        note_events(&events);
        app::relay::fan_out(&app, &events).await
    };
    Box::pin(told(&app, "relay", run)).await
}

/// What [`projector`] does with events, for whoever reads the outbox without a stream.
///
/// # Errors
/// As [`projector`].
pub async fn project_events(app: App, events: Vec<Event>) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let run = async {
        note_events(&events);
        app::projector::project(&app, &events).await
    };
    Box::pin(told(&app, "projector", run)).await
}

fn note_events(events: &[Event]) {
    work::note("events", events.len() as u64);
    events.first().into_iter().for_each(|event| work::note("first_event", event.id));
}

/// Delivers webhooks and mail, all messages of the batch at once, but few at a time to any one endpoint. That a
/// receiver fails is no failure here: it is recorded, and the retry is a message of its own.
///
/// # Errors
/// Never; messages that met a fault of ours are named in the answer, and buried after the last try.
pub async fn deliver(app: App, batch: SqsEvent) -> Result<SqsBatchResponse> {
    deliver_from(&app, QueueName::Deliver, batch).await
}

/// What [`deliver`] does, for the endpoints that answer slowly.
///
/// # Errors
/// As [`deliver`].
pub async fn deliver_slow(app: App, batch: SqsEvent) -> Result<SqsBatchResponse> {
    deliver_from(&app, QueueName::DeliverSlow, batch).await
}

async fn deliver_from(app: &App, queue: QueueName, batch: SqsEvent) -> Result<SqsBatchResponse> {
    let lane = |task: &Task| match task {
        Task::Deliver { webhook_id, .. } | Task::Attempt { webhook_id, .. } => Some(*webhook_id),
        Task::Replay(_)
        | Task::Relay(_)
        | Task::Mail { .. }
        | Task::ResetPassword { .. }
        | Task::VerifyEmail { .. } => None,
    };
    let work = async |task: Task| Box::pin(app::deliver::run(app, queue, &task)).await;
    Ok(desk(app, queue, PER_ENDPOINT).each(batch, lane, work).await)
}

/// Reports claimed runs of usage to Polar. A run that Polar does not take is no failure here: its claim ends in time,
/// and it is claimed anew. A message that comes twice is sent once.
///
/// # Errors
/// Never; messages that failed are named in the answer, and buried after the last try.
pub async fn usage_report(app: App, batch: SqsEvent) -> Result<SqsBatchResponse> {
    // One run at a time: Polar counts calls per organisation, and a function instance is given one message anyway.
    let work = async |report: Report| Box::pin(app::usage::report(&app, &report)).await;
    Ok(desk(&app, QueueName::UsageReport, 1).each(batch, |_| Some(()), work).await)
}

/// Stores, answers and sends messages of channels: those of one person one after the other.
///
/// # Errors
/// Never; messages that failed are named in the answer, and buried after the last try.
pub async fn turn(app: App, batch: SqsEvent) -> Result<SqsBatchResponse> {
    let work = async |task: ChannelTask| Box::pin(shared::turn::channel::run(&app, &task)).await;
    Ok(desk(&app, QueueName::Turn, 1).each(batch, |task: &ChannelTask| Some(task.lane()), work).await)
}

/// Claims and queues unreported usage.
///
/// # Errors
/// When the table or the queue cannot be reached; the next run of the schedule goes on.
pub async fn usage_batch(app: App, _: Value) -> Result<Value> {
    let claimed = Box::pin(told(&app, "usage-batch", app::usage::batch(&app, false))).await?;
    let summary = json!({"configured": claimed.configured, "batches": claimed.batches, "events": claimed.events,
        "paused_until": claimed.paused_until});
    if claimed.batches > 0 {
        tracing::info!(batches = claimed.batches, events = claimed.events, "usage claimed");
    }
    Ok(summary)
}

/// Does what is due: closes silent conversations, queues deliveries whose wait is over.
///
/// # Errors
/// When the table or the queue cannot be reached; the next run of the schedule goes on.
pub async fn clock(app: App, _: Value) -> Result<Value> {
    let ticked = Box::pin(told(&app, "clock", app::clock::tick(&app))).await?;
    if ticked.closed + ticked.queued > 0 {
        tracing::info!(closed = ticked.closed, queued = ticked.queued, "clock");
    }
    Ok(json!({"closed": ticked.closed, "queued": ticked.queued}))
}
