//! Delivering events to webhooks: an attempt is claimed by its number before it is sent, and recorded before the queue
//! message is acknowledged. A customer's broken receiver is a recorded failure, never an error of ours.
//!
//! An endpoint has few deliveries under way at a time ([`lane`]); what finds no place comes again a little later, and
//! after some rounds waits in the table, where the clock finds it. An endpoint that answers slowly is served from a queue
//! apart, so that all the workers of the first one are never its.

pub mod attempt;
pub mod lane;
mod notices;
pub mod replay;
pub mod send;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{App, account, notify, outbox, verification};
use crate::domain::{Delivery, Event, User, Webhook, Workspace};
use crate::kernel::{Code, Error, Id, Result, work};
use crate::ports::queue::{Outgoing, QueueName};
use crate::store;
use crate::table::Versioned;
use attempt::News;
use lane::Lane;

/// A message of the deliver queue.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case")]
pub enum Task {
    /// Tell an endpoint of an event for the first time.
    Deliver {
        /// Which endpoint.
        webhook_id: Id<Webhook>,
        /// What happened.
        event: Event,
        /// The replay that tells of it, if it is one.
        #[serde(default)]
        replay: Option<Uuid>,
        /// How often it found no place.
        #[serde(default)]
        deferred: u32,
    },
    /// Make the next attempt of a known delivery.
    Attempt {
        /// Whose.
        workspace_id: Id<Workspace>,
        /// Which endpoint.
        webhook_id: Id<Webhook>,
        /// Which event.
        event_id: Uuid,
        /// Which attempt this is; one that was made already is not made again.
        attempt: u32,
        /// How often it found no place.
        #[serde(default)]
        deferred: u32,
    },
    /// Go on with a replay.
    Replay(replay::Step),
    /// Relay and count events again that no reader of the stream may have seen.
    Relay(outbox::Stretch),
    /// Mail whoever is to be told.
    Mail {
        /// What happened.
        event: Event,
    },
    /// Mail a link to set a password anew, if somebody has that address.
    ResetPassword {
        /// Lower case.
        email: String,
        /// The request that asked for it.
        #[serde(default)]
        request_id: Option<String>,
    },
    /// Mail somebody a link to verify their address, if it is not verified by then.
    VerifyEmail {
        /// Whose.
        user_id: Id<User>,
        /// The request that asked for it.
        #[serde(default)]
        request_id: Option<String>,
    },
}

impl Task {
    /// The first telling of an event.
    fn first(webhook_id: Id<Webhook>, News { event, replay }: News<'_>) -> Self {
        Self::Deliver { webhook_id, event: event.clone(), replay, deferred: 0 }
    }

    /// The attempt that a delivery waits for.
    #[must_use]
    pub const fn attempt(delivery: &Delivery) -> Self {
        Self::Attempt {
            workspace_id: delivery.workspace_id,
            webhook_id: delivery.webhook_id,
            event_id: delivery.event_id,
            attempt: delivery.attempt + 1,
            // What found no place again and again asks once more, and waits in the table.
            deferred: if delivery.deferrals > 0 { ROUNDS - 1 } else { 0 },
        }
    }

    /// Whose it is; `None` for what is about all tenants.
    #[must_use]
    pub const fn workspace(&self) -> Option<Id<Workspace>> {
        match self {
            Self::Deliver { event, .. } | Self::Mail { event } => Some(event.workspace_id),
            Self::Attempt { workspace_id, .. } => Some(*workspace_id),
            Self::Replay(step) => Some(step.workspace_id),
            Self::Relay(_) | Self::ResetPassword { .. } | Self::VerifyEmail { .. } => None,
        }
    }

    /// What it is called in the journal.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Deliver { .. } => "deliver",
            Self::Attempt { .. } => "attempt",
            Self::Replay(_) => "replay",
            Self::Relay(_) => "relay",
            Self::Mail { .. } => "mail",
            Self::ResetPassword { .. } => "reset_password",
            Self::VerifyEmail { .. } => "verify_email",
        }
    }

    /// As the queue carries it.
    ///
    /// # Errors
    /// When it does not serialise.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(Error::internal)
    }

    /// The same once more, having found no place.
    fn deferred(&self) -> (Self, u32) {
        let mut task = self.clone();
        let deferred = match &mut task {
            Self::Deliver { deferred, .. } | Self::Attempt { deferred, .. } => {
                *deferred += 1;
                *deferred
            }
            Self::Replay(_)
            | Self::Relay(_)
            | Self::Mail { .. }
            | Self::ResetPassword { .. }
            | Self::VerifyEmail { .. } => 0,
        };
        (task, deferred)
    }
}

/// Does one task of a queue ([`QueueName::Deliver`] or [`QueueName::DeliverSlow`]).
///
/// # Errors
/// Only for faults of ours (table, mail server); the queue then gives the task again.
pub async fn run(app: &App, queue: QueueName, task: &Task) -> Result<()> {
    if let Task::Deliver { event, .. } | Task::Mail { event } = task {
        work::follow(event.request_id.as_deref());
        work::note("tenant", event.workspace_id);
        work::note("event", event.id);
    }
    match task {
        Task::Mail { event } => notify::mail(app, event).await,
        Task::ResetPassword { email, request_id } => {
            work::follow(request_id.as_deref());
            account::mail_reset(app, email).await
        }
        Task::VerifyEmail { user_id, request_id } => {
            work::follow(request_id.as_deref());
            verification::mail(app, *user_id).await
        }
        Task::Replay(step) => replay::step(app, step).await,
        Task::Relay(stretch) => outbox::step(app, stretch).await,
        Task::Deliver { webhook_id, event, replay, .. } => {
            let news = News { event, replay: *replay };
            let Some(webhook) = endpoint(app, event.workspace_id, *webhook_id).await? else {
                return attempt::abandon(app, *webhook_id, news).await;
            };
            match Lane::enter(app, queue, &webhook).await? {
                Lane::Open(place) => place.with(attempt::first(app, &webhook, news, &place)).await,
                Lane::Slow => forward(app, task).await,
                Lane::Closed { wait } => {
                    let keep = attempt::postpone(app, &webhook, news, wait);
                    defer(app, queue, task, wait, keep).await
                }
            }
        }
        Task::Attempt { workspace_id, webhook_id, event_id, attempt: number, .. } => {
            let found = store::delivery::get(&app.table, *workspace_id, *webhook_id, *event_id).await?;
            let Some(found) = found.filter(|found| attempt::is_wanted(&found.body, *number, app.now())) else {
                return Ok(());
            };
            work::follow(found.body.request_id.as_deref());
            work::note("tenant", *workspace_id);
            work::note("event", *event_id);
            let Some(webhook) = endpoint(app, *workspace_id, *webhook_id).await? else {
                return attempt::give_up(app, found, attempt::ENDPOINT_OFF).await;
            };
            match Lane::enter(app, queue, &webhook).await? {
                Lane::Open(place) => place.with(attempt::next(app, &webhook, found, &place)).await,
                Lane::Slow => forward(app, task).await,
                Lane::Closed { wait } => defer(app, queue, task, wait, attempt::put_off(app, found, wait)).await,
            }
        }
    }
}

/// The endpoint, unless it is gone or switched off meanwhile.
async fn endpoint(app: &App, workspace: Id<Workspace>, webhook: Id<Webhook>) -> Result<Option<Arc<Webhook>>> {
    let known = store::webhook::get_cached(&app.table, workspace, webhook).await?;
    if let Some(active) = known.filter(|webhook| webhook.is_active) {
        return Ok(Some(active));
    }
    // It may have been switched on since: what is remembered must not cost it an event.
    match store::webhook::get(&app.table, workspace, webhook).await {
        Ok(Versioned { body, .. }) => Ok(Some(body).filter(|webhook| webhook.is_active).map(Arc::new)),
        Err(error) if error.code() == Code::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// How often a message goes round before it is left to the clock.
const ROUNDS: u32 = 6;

/// Hands a task over to those who serve slow endpoints.
async fn forward(app: &App, task: &Task) -> Result<()> {
    app.queue.send(QueueName::DeliverSlow, vec![Outgoing::now(task.to_json()?)]).await
}

/// Lets a task that found no place come again: soon at first, then more rarely, at last when the clock finds its
/// delivery. `keep` sees to it that there is one, and when.
async fn defer(
    app: &App,
    queue: QueueName,
    task: &Task,
    wait: Duration,
    keep: impl Future<Output = Result<()>>,
) -> Result<()> {
    let (task, deferred) = task.deferred();
    if deferred > ROUNDS || wait > crate::ports::queue::MAX_DELAY {
        return keep.await;
    }
    // 1 to 2 s, then 2 to 4, up to a minute: spread, so that they do not all come back at once.
    let least = 1_000_u32 << deferred.saturating_sub(1).min(5);
    let pause = Duration::from_millis(u64::from(least + app.rng.below(least)));
    let message = Outgoing { body: task.to_json()?, delay: wait.max(pause).min(crate::ports::queue::MAX_DELAY) };
    app.queue.send(queue, vec![message]).await
}
